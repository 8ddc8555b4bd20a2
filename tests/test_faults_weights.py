"""Files of weights as users have them: cut off, pointers, web pages, other contents, hostile headers, no network."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import types
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adapt import load, wrap
from adapt.bases.published import read_released
from adapt.core.base import Base, BaseSpec, load_base, random_base, save_base
from adapt.encoders import build_encoder, fetching
from adapt.encoders.described import build_described, known_settings
from adapt.encoders.library import build
from adapt.pretraining.decoders import Decoders, TaskDecoder, build_decoder, load_decoders, save_decoders
from adapt.training.weight_files import read_header, read_safetensors, read_state, read_torch

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 132735\n"
PAGE = b"<!DOCTYPE html><html><body>Not found</body></html>"
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
RAN = "SIDESTEP_TEST_A_PICKLE_RAN"


class Hostile:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return os.putenv, (RAN, "1")


class Loud:
    """Ends the process when it is unpickled."""

    def __reduce__(self):
        return os._exit, (77,)


def torch_file(content, legacy=False):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def without_data(data):
    """A zip of torch.save whose storages are gone."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"" if "/data/" in name else old.read(name))
    return out.getvalue()


STATE = {f"layer{i}.weight": torch.full((64, 64), float(i)) for i in range(4)}
WHOLE, LEGACY = torch_file(STATE), torch_file(STATE, legacy=True)
BROKEN = {
    "truncated": (WHOLE[: len(WHOLE) // 2], "it is incomplete"),
    "one byte short": (WHOLE[:-1], "it is incomplete"),
    "legacy truncated": (LEGACY[: len(LEGACY) // 2], "it is incomplete"),
    "legacy cut in a name": (LEGACY[:300], "cannot read"),
    "empty": (b"", "it is empty"),
    "lfs": (LFS, "it is a Git LFS pointer"),
    "page": (PAGE, "it is a web page"),
    "denied": (DENIED, "it is a web page"),
    "broken storages": (without_data(WHOLE), "cannot read"),
    "text": (b"weights " * 100, "it is no file of PyTorch weights"),
    "objects": (torch_file({"a": Hostile()}), "pickled objects, which could run code"),
    "a module": (torch_file(nn.Linear(2, 2)), "pickled objects, which could run code"),
    "plain pickle": (pickle.dumps({"a": Loud()}), "cannot read"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("ending", ["pth", "pt"])
def test_a_broken_file_of_weights_is_called_what_it_is(tmp_path, kind, ending, monkeypatch):
    """Formerly "[Errno 22]", tracebacks, and "pickled objects" for web pages."""
    content, said = BROKEN[kind]
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    monkeypatch.delenv(RAN, raising=False)
    for read in (read_torch, read_released, lambda p: load_base(f"fcn4:{p}")):
        with pytest.raises(ValueError, match=rf"w\.{ending}.*{said}|{said}.*w\.{ending}") as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert RAN not in os.environ


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "it holds a list of 2"),
        ({}, "it holds a dict of 0"),
        ({"state_dict": None}, "'state_dict' is None"),
        ({"state_dict": [torch.zeros(2)]}, "'state_dict' is a list of 1"),
        ({"a": [1.0, 2.0]}, "'a' is a list of 2"),
        ({"a": None}, "'a' is None"),
        ({0: torch.zeros(2)}, "0 is a Tensor"),
        (torch.zeros(2), "it holds a Tensor"),
    ],
)
def test_the_right_container_with_other_contents_is_one_line(tmp_path, content, said):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"w\.pth holds no state dict: {said}"):
        read_state(path)


@pytest.mark.parametrize("change", ["other shape", "missing", "unexpected", "complex", "whole", "quantised", "nan"])
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_weights_of_another_network_are_one_line(tmp_path, change):
    """Whole numbers and real parts were taken for weights; NaN went on to be trained on."""
    state = build_encoder("fcn4").state_dict()
    name = next(iter(state))
    state |= {
        "other shape": {name: torch.zeros(3)},
        "unexpected": {"more": torch.zeros(3)},
        "complex": {name: state[name].to(torch.complex64)},
        "whole": {name: state[name].to(torch.int8)},
        "quantised": {name: torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8)},
        "nan": {name: state[name] * torch.nan},
    }.get(change, {})
    if change == "missing":
        del state[name]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth does not hold the weights of a FCN4") as caught:
        load_base(f"fcn4:{tmp_path / 'w.pth'}")
    assert "\n" not in str(caught.value)


SMALL = "torchvision/mobilenet_v3_small"


@pytest.fixture(scope="module")
def small():
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.mobilenet_v3_small(num_classes=3).state_dict()


def before(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "stored",
    [
        lambda s: {"model": s, "model_ema": s, "optimizer": {"state": {}}, "epoch": 3},
        lambda s: {"model_state_dict": before(s, "module."), "epoch": 3},
        lambda s: {"state_dict": before(s, "module."), "epoch": 3, "best_acc1": torch.tensor(76.1)},
        lambda s: {"model": "small", "weights": s},
        lambda s: {**s, **before(s, "ema_model.")},
        lambda s: {"weights_after_training": s, "note": "mine"},
        lambda s: before(s, "_orig_mod."),
        lambda s: before(s, "module._orig_mod."),
        lambda s: {"state_dict": {**before(s, "model.backbone."), "model.head.weight": torch.zeros(2, 2)}},
        lambda s: {name: tensor.half() for name, tensor in s.items()},
    ],
)
def test_weights_are_found_where_training_scripts_store_them(tmp_path, small, stored):
    torch.save(stored(small), tmp_path / "w.pth")
    base = load_base(f"file:{tmp_path / 'w.pth'}")
    assert base.spec.encoder == SMALL
    name = "features.0.0.weight"
    torch.testing.assert_close(base.encoder.state_dict()[name], small[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (lambda s: {"student": s, "teacher": s}, r"several state dicts \(student, teacher\)"),
        (lambda s: {**before(s, "encoder_q."), **before(s, "encoder_k.")}, "holds 2 networks of this kind"),
    ],
)
def test_of_two_networks_in_one_file_none_is_chosen_silently(tmp_path, small, stored, said):
    torch.save(stored(small), tmp_path / "w.pth")
    for name in (f"file:{tmp_path / 'w.pth'}", f"file/{SMALL}:{tmp_path / 'w.pth'}"):
        with pytest.raises(ValueError, match=said):
            load_base(name)


def test_a_plain_safetensors_file_is_a_state_dict_too(tmp_path, small):
    save_file(before(small, "module."), tmp_path / "w.safetensors")
    assert load_base(f"file:{tmp_path / 'w.safetensors'}").spec.encoder == SMALL


def test_networks_that_cannot_be_outlined_are_detected(tmp_path):
    """RegNets compute their widths by tensors, which ended in a NotImplementedError."""
    import torchvision

    torch.save(torchvision.models.regnet_y_400mf(num_classes=2).state_dict(), tmp_path / "w.pth")
    assert load_base(f"file:{tmp_path / 'w.pth'}").spec.encoder == "torchvision/regnet_y_400mf"


# -- safetensors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "b.safetensors"
    save_base(random_base("fcn3", width=0.25), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda d: d[:-5], "it is incomplete"),
        (lambda d: d[:4], "it is incomplete"),
        (lambda d: b"", "it is empty"),
        (lambda d: LFS, "it is a Git LFS pointer"),
        (lambda d: PAGE, "it is a web page"),
        (lambda d: (2**60).to_bytes(8, "little") + d[8:], "header too large"),
        (lambda d: d[:8] + b"{{{" + d[11:], "invalid JSON"),
        (lambda d: d.replace(b"F16", b"F99", 1), "not a readable safetensors file"),
        (lambda d: d.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1), "not a readable safetensors file"),
    ],
)
def test_a_broken_safetensors_file_is_called_what_it_is(tmp_path, base_file, broken, said):
    path = tmp_path / "b.safetensors"
    path.write_bytes(broken(base_file))
    with pytest.raises(ValueError, match=said) as caught:
        load_base(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} is not a readable safetensors file: ")


def with_spec(path, spec, tensors=None, kind="sidestep_base"):
    text = spec if isinstance(spec, str) else json.dumps(spec)
    save_file(tensors or {"a": torch.zeros(2)}, path, {kind: "1", "spec": text})
    return path


NORMAL = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{", "describes no network"),
        ("[" * 100_000, "describes no network"),
        ("[1]", "it is a list of 1"),
        ({}, "describes no base"),
        ({"normalisation": 3}, "describes no base"),
        ({"normalisation": {"mean": ["a"], "std": [1]}}, "could not convert"),
        ({"normalisation": {"mean": [], "std": []}}, "normalisation needs"),
        ({"normalisation": {"mean": [1e999] * 3, "std": [1] * 3}}, "normalisation needs"),
        ({"normalisation": NORMAL, "more": 1}, "describes no base"),
        ({"normalisation": NORMAL, "encoder": 3}, "names no encoder"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": [1]}, "names no encoder"),
        ({"normalisation": NORMAL, "encoder": "fcn33"}, "did you mean 'fcn3'"),
        ({"normalisation": NORMAL, "encoder": "timm/nothing_like_it"}, "timm has no model"),
        ({"normalisation": NORMAL, "encoder": "timm/hf-hub:x/y"}, "timm has no model"),
        ({"normalisation": NORMAL, "encoder": "timm/local-dir:/tmp"}, "timm has no model"),
        ({"normalisation": NORMAL, "encoder": "../x"}, "encoder"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": {"width": "wide"}}, "cannot be built|does not take"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": {"width": None}}, "cannot be built|does not take"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": {"width": 1e999}}, "no plain value"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": {"width": {"a": 1}}}, "no plain value"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "kwargs": {"out_channels": 10**400}}, "no plain value"),
        ({"normalisation": NORMAL, "encoder": "bert", "kwargs": {"pretrained": "/etc"}}, "is no setting"),
        (
            {"normalisation": NORMAL, "encoder": "torchvision/resnet18", "kwargs": {"weights": "DEFAULT"}},
            "is no setting",
        ),
        ({"normalisation": NORMAL, "encoder": "timm/resnet18", "kwargs": {"pretrained": True}}, "is no setting"),
        ({"normalisation": NORMAL, "encoder": "fcn3", "training": 3}, "training an object"),
    ],
)
def test_a_header_that_describes_no_base_is_one_line(tmp_path, spec, said):
    with pytest.raises(ValueError, match=said) as caught:
        load_base(with_spec(tmp_path / "b.safetensors", spec))
    assert "\n" not in str(caught.value) and "b.safetensors" in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "key", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only"]
)
def test_a_header_cannot_have_timm_load_a_pickle(tmp_path, key, monkeypatch):
    """Formerly the pickle ran with timm 1.0.20."""
    (tmp_path / "evil.pth").write_bytes(torch_file({"a": Loud()}))
    value = str(tmp_path / "evil.pth") if "path" in key else {"file": str(tmp_path / "evil.pth")}
    spec = {"normalisation": NORMAL, "encoder": "timm/resnet18", "kwargs": {key: value}}
    with pytest.raises(ValueError, match=rf"'{key}' is no setting of timm/resnet18 that is taken from a file"):
        load_base(with_spec(tmp_path / "b.safetensors", spec))


def test_whatever_a_library_asks_for_nothing_is_unpickled(tmp_path, monkeypatch):
    """timm as it was, asking PyTorch for the whole pickle."""
    (tmp_path / "evil.pth").write_bytes(torch_file({"a": Loud()}))
    made = types.ModuleType("timm")
    made.is_model = lambda name: True
    made.create_model = lambda name, **more: torch.load(tmp_path / "evil.pth", weights_only=False)
    monkeypatch.setitem(sys.modules, "timm", made)
    with pytest.raises(pickle.UnpicklingError):
        build("timm", "any")
    assert fetching.SAFE not in os.environ


@pytest.mark.parametrize(
    ("encoder", "kwargs"),
    [
        ("fcn3", {"width": 1e6}),
        ("fcn5", {"out_channels": 10**7}),
        ("resnet26", {"width": 3000.0}),
        ("timm/vit_tiny_patch16_224", {"embed_dim": 120_000, "num_heads": 3}),
        ("timm/vit_tiny_patch16_224", {"depth": 10**6}),
        ("torchvision/mobilenet_v2", {"width_mult": 2000.0}),
    ],
)
def test_a_network_that_is_larger_than_its_file_is_refused_with_the_size(tmp_path, encoder, kwargs):
    """Formerly 49 GB were asked for."""
    spec = {"normalisation": NORMAL, "encoder": encoder, "kwargs": kwargs}
    with pytest.raises(ValueError, match=r"describes a network of at least [0-9.e+-]+ GiB, or of") as caught:
        load_base(with_spec(tmp_path / "b.safetensors", spec))
    assert "b.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "kwargs"),
    [
        ("fcn3", {"width": 0.5, "out_channels": 32}),
        ("fcn8", {}),
        ("resnet26", {"width": 0.25}),
        ("resnet44", {"final_act": False}),
        ("timm/resnet10t", {}),
        ("timm/vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
        ("torchvision/mobilenet_v2", {"width_mult": 0.25}),
    ],
)
def test_every_kind_of_encoder_is_still_built_from_its_file(tmp_path, encoder, kwargs):
    network = build_encoder(encoder, **kwargs)
    base = Base(network, BaseSpec(encoder, kwargs))
    save_base(base, tmp_path / "b.safetensors", dtype=torch.float32)
    assert load_base(tmp_path / "b.safetensors").sha256 == base.sha256


def test_building_from_a_file_draws_the_same_numbers_as_building():
    torch.manual_seed(0)
    build_encoder("fcn3")
    after = torch.rand(3)
    torch.manual_seed(0)
    described = build_described("fcn3", {}, build_encoder("fcn5").state_dict())
    torch.manual_seed(0)
    build_described("fcn3", {}, described.state_dict())
    torch.testing.assert_close(torch.rand(3), after)


def test_settings_of_own_encoders_are_those_of_their_signature():
    assert known_settings("fcn3") == {"width", "out_channels", "final_act", "normalize_outputs"}
    assert "hidden_size" in known_settings("bert") and "pretrained" not in known_settings("bert")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 8 * 10**6}, "at least"),
        ({"size": 2**40}, "and [0-9]+ others are missing"),
        ({"size": 2**40 + 1}, "cannot be doubled"),
        ({"code_shape": [10**9, 4, 4]}, "at least"),
        ({"code_shape": [8, 0, 4]}, "no decoders"),
        ({"code_shape": 3}, "no decoders"),
        ({"decoder": "heavy"}, "unknown decoder"),
        ({"tasks": {"a": {"channels": 10**9, "classifier": True}}}, "at least"),
        ({"tasks": {"a": 3}}, "no decoders"),
        ({"tasks": {"b": {"channels": 3, "classifier": False}}}, "no decoders"),
        ({"more": 3}, "no decoders"),
    ],
)
def test_a_header_that_describes_no_decoders_is_one_line(tmp_path, change, said):
    blank = torch.zeros(1, 3, 1, 1)
    network = TaskDecoder(build_decoder("light", (8, 4, 4), 3, 16, False, 8), blank, blank + 1)
    made = Decoders("0" * 64, "light", 8, (8, 4, 4), 16, "taskonomy", {"a": network})
    file = tmp_path / "decoders" / "b.safetensors"
    save_decoders(made, file)
    assert list(load_decoders(tmp_path / "b.safetensors").networks) == ["a"]
    metadata, tensors = read_safetensors(file)
    with_spec(file, {**read_header(metadata, file), **change}, tensors, "sidestep_decoders")
    with pytest.raises(ValueError, match=said) as caught:
        load_decoders(tmp_path / "b.safetensors")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


# -- no network -------------------------------------------------------------------------------------------------------


def test_without_a_network_the_hub_is_asked_once(monkeypatch):
    """Formerly its library tried for minutes."""
    hub = pytest.importorskip("huggingface_hub.constants")
    http = pytest.importorskip("huggingface_hub.utils")
    asked = []

    class Down:
        def head(self, address: str, timeout: float) -> None:
            asked.append((address, timeout))
            raise ConnectionError("no network here")

    monkeypatch.setattr(http, "get_session", Down)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    with pytest.raises(
        FileNotFoundError, match=r"the weights of timm/resnet10t are not in the cache .*no network here"
    ) as caught:
        load_base("timm/resnet10t")
    assert len(asked) == 1 and "\n" not in str(caught.value) and hub.HF_HUB_OFFLINE is False


def test_a_path_that_is_no_file_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_torch(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="is a folder, where a file belongs"):
        read_torch(tmp_path)


# -- saved tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: [h], "holds no JSON object"),
        (lambda h: {**h, "image_size": "32"}, "image_size is no int"),
        (lambda h: {**h, "image_size": -32}, "image_size must be a positive"),
        (lambda h: {**h, "active": None}, "active is no str"),
        (lambda h: {**h, "active": "other"}, "other"),
        (lambda h: {**h, "tasks": {"a": 1}}, "tasks is no list"),
        (lambda h: {**h, "tasks": [3]}, "of a task is no str"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "settings": [1]}]}, "settings of a task is no dict"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "settings": {"rank": 10**9}}]}, "at least|task"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "settings": {"rank": "4"}}]}, "rank"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "method": "lorra"}]}, "did you mean 'lora'"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "file": "../../x.safetensors"}]}, "a task is called"),
        (lambda h: {**h, "tasks": [{**h["tasks"][0], "samples_seen": 10**30}]}, "samples_seen"),
        (lambda h: {**h, "base": 3}, "base is no str"),
    ],
)
def test_a_folder_of_tasks_with_another_header_is_one_line(tmp_path, change, said):
    base = random_base("fcn3", width=0.25)
    wrap(base, "lora", "a", 32).save(tmp_path)
    header = tmp_path / "adapter.json"
    header.write_text(json.dumps(change(json.loads(header.read_text()))))
    with pytest.raises(ValueError, match=said) as caught:
        load(base, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value) and len(str(caught.value)) < 700
