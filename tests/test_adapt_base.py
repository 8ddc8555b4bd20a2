from __future__ import annotations

import copy
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import nn

from adapt import Base, BlackBoxBase, Incompatible, load, load_base, save_base, wrap
from adapt.core.base import BaseSpec, Normalisation, random_base

ROOT = Path(__file__).resolve().parents[1]


def test_normalisation_is_the_closed_form_and_refuses_other_inputs() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert Normalisation()(image).flatten().tolist() == pytest.approx([-1.0, -0.6, 1.0])
    shifted = Normalisation((0.1, 0.2, 0.3), (0.5, 0.25, 0.1))
    assert shifted(image).flatten().tolist() == pytest.approx([-0.2, 0.0, 7.0])
    with pytest.raises(ValueError, match="uint8"):
        Normalisation()(image.float())
    with pytest.raises(ValueError, match=r"uint8 tensor .* got uint8 ndarray"):
        Normalisation()(image.numpy())
    with pytest.raises(ValueError, match=r"\(B,3,H,W\)"):
        Normalisation()(image[0])


def test_base_never_trains_whatever_its_owner_asks() -> None:
    owner = nn.Module()
    owner.base = make_base("conv")
    owner.train()
    owner.requires_grad_(True)
    owner.train(True)
    assert not any(m.training for m in owner.base.modules())
    assert not any(p.requires_grad for p in owner.base.parameters())
    assert not owner.base(make_images()).requires_grad


def test_sha256_follows_every_bit_of_weights_buffers_and_normalisation() -> None:
    base = make_base("conv")
    assert base.sha256 == make_base("conv").sha256
    for name in ("conv1.weight", "bn1.running_var"):
        network = copy.deepcopy(base.encoder)
        tensor = network.state_dict()[name].flatten()
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(torch.inf))
        assert Base(network).sha256 != base.sha256
    other = BaseSpec(normalisation=Normalisation((0.4, 0.5, 0.5)))
    assert Base(base.encoder, other).sha256 != base.sha256


def test_saved_base_is_half_on_disk_float_in_memory_and_keeps_its_identity(tmp_path: Path) -> None:
    base = random_base("fcn5", seed=3, width=0.25)
    file = tmp_path / "mine.safetensors"
    promised = save_base(base, file)
    loaded = load_base(file)
    assert loaded.sha256 == promised != base.sha256
    assert loaded.spec == base.spec
    assert all(t.dtype == torch.float32 for t in loaded.encoder.parameters())
    assert file.stat().st_size < 2.1 * sum(p.numel() for p in base.parameters()) + 4000
    assert save_base(loaded, file) == loaded.sha256
    images = make_images()
    assert torch.allclose(loaded(images), base(images), atol=1e-2)


def test_load_base_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'random'"):
        load_base("randon")
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load_base(tmp_path / "absent.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a base")
    with pytest.raises(ValueError, match=r"broken\.safetensors is not a readable"):
        load_base(broken)
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        load_base("timm/resnt50")


def test_random_is_the_papers_network_under_seed_42() -> None:
    torch.manual_seed(42)
    first = torch.nn.Conv2d(3, 64, 8, bias=False).weight
    assert torch.equal(load_base("random").encoder.get_submodule("conv1.0").weight, first)


def test_frames_are_counted_and_inner_layers_come_from_the_same_pass() -> None:
    base = make_base("conv")
    assert base.feature_shape(SIZE) == (8, 8, 8)
    assert base.frames_evaluated == 0
    features, layers = base.layers(make_images(5), ["conv1", "bn1"])
    assert (base.calls, base.frames_evaluated) == (1, 5)
    assert torch.equal(features, base(make_images(5)))
    assert layers["conv1"].shape == layers["bn1"].shape == (5, 8, 16, 16)
    assert base.layer_shapes(SIZE, ["conv1"]) == {"conv1": (8, 16, 16)}
    assert base.frames_evaluated == 10
    with pytest.raises(ValueError, match="did you mean 'conv2'"):
        base.layers(make_images(), ["conv9"])
    with pytest.raises(ValueError, match="shows no inner layers"):
        Base(nn.Flatten()).layers(make_images())


def test_black_box_takes_fusion_methods_and_refuses_weight_deltas() -> None:
    base = BlackBoxBase(lambda images: images[:, :, ::8, ::8].float().mean(1, True).repeat(1, 8, 1, 1), "mean 1")
    assert base.sha256 == BlackBoxBase(lambda images: images, "mean 1").sha256
    assert base.sha256 != BlackBoxBase(lambda images: images, "mean 2").sha256
    adapted = wrap(base, "side_tuning", image_size=SIZE)
    assert adapted(image=make_images()).shape == (6, 8, 4, 4)
    adapted(image=make_images()).sum().backward()
    for method in ("lora", "fine_tune"):
        with pytest.raises(Incompatible, match="black box"):
            wrap(base, method, image_size=SIZE)
    with pytest.raises(Incompatible, match="black box"):
        wrap(base, "side_tuning", image_size=SIZE, side="base")


def test_wrong_bases_and_image_sizes_say_what_to_give(tmp_path: Path) -> None:
    for wrong in (nn.Conv2d(3, 8, 3), "curvature"):
        with pytest.raises(ValueError, match=f"got {type(wrong).__name__}; use load_base"):
            wrap(wrong, "features")
        with pytest.raises(ValueError, match="use load_base"):
            load(wrong, tmp_path)
    for size in (0, "64", (64, 64)):
        with pytest.raises(ValueError, match="image_size must be a positive whole number"):
            wrap(make_base("conv"), "features", image_size=size)


def test_importing_listing_and_loading_a_base_need_no_method_no_network_library_and_no_compiler() -> None:
    script = "import sys, adapt; from adapt.core.method import methods; before = set(sys.modules)\n"
    script += "assert 'lora' in methods.names()\n"
    script += "assert not [name for name in set(sys.modules) - before if name.startswith('adapt.methods.')]\n"
    script += "adapt.load_base('normal')\n"
    script += "print(sorted({'timm', 'torchvision', 'stable_baselines3', 'torch._dynamo'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def full_disk(script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in which no file may grow beyond 2,000 bytes, as on a full disk."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    path = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}; sys.dont_write_bytecode = True\n"
    return subprocess.run(
        [sys.executable, "-c", path + script], capture_output=True, text=True, preexec_fn=limit, cwd=tmp_path
    )


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_full_disk_damages_nothing(tmp_path: Path) -> None:
    base = make_base("conv")
    adapted = wrap(base, "fine_tune", image_size=SIZE)
    adapted.save(tmp_path / "tasks")
    save_base(random_base("fcn4"), tmp_path / "base.safetensors")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    script = """
from tiny_networks import make_base
from adapt import save_base, wrap
from adapt.core.base import random_base
for save in (
    lambda: wrap(make_base("conv"), "scratch", image_size=32).save("tasks"),
    lambda: save_base(random_base("fcn4", seed=5), "base.safetensors"),
):
    try:
        save()
    except OSError as error:
        print(error)
"""
    done = full_disk(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("could not write") == 2 and done.stdout.count("free some space") == 2
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before
