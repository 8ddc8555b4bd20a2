"""What every method promises on every kind of network; a new file in adapt/methods is tested at once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_networks import NETWORKS, SIZE, make_base, make_images
from torch import Tensor, nn

from adapt import Adapted, Base, Incompatible, NotMergeable, list_methods, wrap

REFUSED = {
    ("adashare", "conv"): "skips residual blocks",
    ("adashare", "depthwise"): "skips residual blocks",
    ("residual_adapter", "transformer"): "adapts 3x3 convolutions",
    ("spottune", "conv"): "routes around residual blocks",
    ("spottune", "depthwise"): "routes around residual blocks",
}
PAIRS = [(method, kind) for method in list_methods() for kind in NETWORKS if (method, kind) not in REFUSED]
ROOT = Path(__file__).resolve().parents[1]


def digest(base: Base) -> str:
    """Over all bytes of a base, parameters and buffers."""
    tensors = sorted(base.encoder.state_dict().items())
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for _, t in tensors)).hexdigest()


def adapt(method: str, kind: str) -> Adapted:
    return wrap(make_base(kind), method, "first", SIZE)


def train(adapted: Adapted, steps: int = 3, seed: int = 0) -> set[nn.Parameter]:
    """Real training steps of everything that lets itself be trained; gives the parameters with a gradient."""
    adapted.train()
    torch.manual_seed(seed)
    images, labels = make_images(8, seed), torch.arange(8) % 3
    head = nn.Linear(adapted.output_shape[0], 3)

    def task_loss(features: Tensor, labels: Tensor) -> Tensor:
        pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
        return nn.functional.cross_entropy(head(pooled), labels)

    every = list(adapted.parameters())
    optimiser = torch.optim.SGD([*every, *head.parameters()], lr=0.05)
    adapted.begin_task()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = task_loss(adapted(image=images), labels) + adapted.penalty()
        loss.backward()
        touched = {p for p in every if p.grad is not None}
        optimiser.step()
        adapted.advance(len(images))
    adapted.end_task([(images, labels)], task_loss)
    adapted.eval()
    return touched


def perturb(adapted: Adapted, seed: int = 7) -> None:
    """Move every trainable number, so that equality afterwards means something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trainable():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("pair", "reason"), REFUSED.items())
def test_what_does_not_fit_is_refused_with_a_reason(pair: tuple[str, str], reason: str) -> None:
    with pytest.raises(Incompatible, match=f"{reason}.*, and this base has none"):
        adapt(*pair)


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_training_leaves_the_base_bitwise_unchanged_and_only_trains_what_is_declared(method: str, kind: str) -> None:
    adapted = adapt(method, kind)
    before = digest(adapted.base)
    touched = train(adapted)
    assert digest(adapted.base) == before
    assert not adapted.base.training and not any(p.requires_grad for p in adapted.base.parameters())
    assert touched == set(adapted.trainable())
    assert adapted.budget().trainable_parameters == sum(p.numel() for p in touched)


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_disabled_is_the_base_and_base_runs_only_if_read(method: str, kind: str) -> None:
    adapted = adapt(method, kind)
    train(adapted)
    perturb(adapted)
    images = make_images()
    features = adapted.base(images)
    frames = adapted.base.frames_evaluated
    output = adapted(image=images)
    needed = len(images) if {"features", "layers"} & adapted.reads else 0
    assert adapted.base.frames_evaluated == frames + needed
    assert tuple(output.shape[1:]) == adapted.output_shape
    with adapted.disabled():
        assert torch.equal(adapted(image=images), features)
    assert torch.equal(adapted(image=images), output)
    if adapted.trainable():
        assert output.shape != features.shape or not torch.equal(output, features)


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_switching_tasks_is_bitwise_reversible(method: str, kind: str) -> None:
    adapted = adapt(method, kind)
    images = make_images()
    adapted.add("second", method)
    train(adapted, seed=1)
    perturb(adapted, seed=8)
    adapted.activate("first")
    perturb(adapted)
    adapted.eval()
    with torch.no_grad():
        first = adapted(image=images)
        adapted.activate("second")
        second = adapted(image=images)
        if adapted.trainable() and not adapted.method().one_network:
            assert not torch.equal(first, second)
        adapted.activate("first")
        assert torch.equal(adapted(image=images), first)
        assert torch.equal(adapted.forward_all(images)["second"], second)


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_merged_equals_unmerged_or_says_why_not(method: str, kind: str) -> None:
    adapted = adapt(method, kind)
    train(adapted)
    perturb(adapted)
    images = make_images()
    output = adapted(image=images)
    before = digest(adapted.base)
    try:
        merged = adapted.merge()
    except NotMergeable as refusal:
        assert method in str(refusal)
        return
    assert torch.allclose(merged(images), output, atol=1e-5, rtol=1e-5)
    assert digest(adapted.base) == before
    assert torch.equal(adapted(image=images), output)


@dataclass
class Saved:
    output: Tensor
    folder: Path
    stored_bits: int


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Saved]:
    """Every pair trained, perturbed and saved, and loaded by one new process that wrote what it computes."""
    folder = tmp_path_factory.mktemp("saved")
    made: dict[tuple[str, str], Saved] = {}
    for method, kind in PAIRS:
        adapted = adapt(method, kind)
        train(adapted)
        perturb(adapted)
        with torch.no_grad():
            output = adapted(image=make_images())
        target = folder / method / kind
        adapted.save(target)
        made[method, kind] = Saved(output, target, adapted.budget().stored_bits)
    script = """
import sys, torch
from pathlib import Path
from tiny_networks import make_base, make_images
from adapt import load
torch.set_num_threads(1)
for path in Path(sys.argv[1]).glob("*/*"):
    adapted = load(make_base(path.name), path).eval()
    with torch.no_grad():
        torch.save(adapted(image=make_images()), path / "output.pt")
"""
    paths = [str(ROOT), str(ROOT / "tests")]
    code = f"import sys; sys.path[:0] = {paths!r}\n{script}"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_saved_tasks_give_the_same_in_a_new_process_and_take_the_reported_space(
    saved: dict[tuple[str, str], Saved], method: str, kind: str
) -> None:
    item = saved[method, kind]
    loaded = torch.load(item.folder / "output.pt", weights_only=True)
    assert torch.allclose(loaded, item.output, atol=1e-6, rtol=1e-6)
    header = json.loads((item.folder / "adapter.json").read_text())
    tensors = load_file(item.folder / header["tasks"][0]["file"])
    assert sum(8 * t.numel() * t.element_size() for t in tensors.values()) == item.stored_bits


def test_settings_of_another_type_are_refused_and_whole_numbers_are_numbers() -> None:
    base = make_base("conv")
    for method, settings, message in (
        ("lora", {"rank": "8"}, "rank must be a whole number, got '8'"),
        ("lora", {"rank": 2.5}, "rank must be a whole number, got 2.5"),
        ("lora", {"rank": True}, "rank must be a whole number, got True"),
        ("lora", {"norm": None}, "norm must be text, got None"),
        ("side_tuning", {"dense": "no"}, "dense must be true or false, got 'no'"),
        ("side_tuning", {"alpha": "0.5"}, "alpha must be a number, got '0.5'"),
        ("wtpb", {"k": [1, 0, 0, "a"]}, r"k\[3\] must be a number, got 'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            wrap(base, method, image_size=SIZE, **settings)
    adapted = wrap(base, "wtpb", image_size=SIZE, k=[1, 0, 0, 0]).eval()
    assert torch.equal(adapted(make_images()), base(make_images()))
    assert wrap(base, "lora", image_size=SIZE, rank=np.int64(2)).method().config.to_settings()["rank"] == 2


def test_registry_is_the_folder_and_suggests() -> None:
    files = {file.stem for file in (ROOT / "adapt" / "methods").glob("[!_]*.py")}
    assert set(list_methods()) >= files
    with pytest.raises(ValueError, match="did you mean 'side_tuning'"):
        wrap(make_base("conv"), "side_tunin")
    with pytest.raises(ValueError, match="did you mean 'alpha'"):
        wrap(make_base("conv"), "side_tuning", image_size=SIZE, alhpa=0.3)
