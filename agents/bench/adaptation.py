"""Speeds of adapted networks, each as a ratio to a reference that is timed in turn with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from adapt.core.base import Base, random_base
from adapt.core.deltas import DeltaMethod
from adapt.core.method import Incompatible, get_method, list_methods
from adapt.core.model import wrap
from adapt.methods.side_tuning import SideTuning
from agents.bench.simulator import medians


def inference(
    base: Base | None = None, image_size: int = 32, batch: int = 32, rounds: int = 5, methods: Sequence[str] = ()
) -> dict[tuple[str, str], float]:
    """Time of a forward pass of weight-delta methods over the plain base's.

    Args:
        base: by default ResNet-26 with random weights.
        image_size: pixels.
        batch: images per pass.
        rounds: passes of which the median counts.
        methods: by default all weight-delta methods.

    Returns:
        Ratios by method and "unmerged" or "merged".
    """
    base = base or random_base("resnet26")
    images = torch.randint(0, 256, (batch, 3, image_size, image_size), dtype=torch.uint8)
    ratios: dict[tuple[str, str], float] = {}
    for name in methods or [m for m in list_methods() if issubclass(get_method(m), DeltaMethod)]:
        try:
            adapted = wrap(base, name, image_size=image_size).eval()
        except Incompatible:
            continue
        networks = {"base": base, "merged": adapted.merge(), "unmerged": adapted}
        works = {kind: partial(network, images) for kind, network in networks.items()}
        with torch.no_grad():
            times = medians(works, rounds)
        ratios |= {(name, kind): times[kind] / times["base"] for kind in ("unmerged", "merged")}
    return ratios


def fusion_passes(tasks: int = 8, image_size: int = 64) -> dict[str, int]:
    """Passes through the base and through side networks when all fusion tasks are computed at once, counted."""
    base = random_base()
    adapted = wrap(base, "side_tuning", "task0", image_size)
    for i in range(1, tasks):
        adapted.add(f"task{i}", "side_tuning")
    sides = 0

    def count(*_: object) -> None:
        nonlocal sides
        sides += 1

    for name in adapted.tasks:
        adapted.method(name).get_submodule("side").register_forward_hook(count)
    before = base.calls
    with torch.no_grad():
        adapted.eval().forward_all(torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8))
    return {"tasks": tasks, "base_passes": base.calls - before, "side_passes": sides}


def side_tuning_step() -> float:
    """Time of a training step of side-tuning with cached base features, over a step of the side network alone."""
    base = random_base()
    images = torch.randint(0, 256, (32, 3, 64, 64), dtype=torch.uint8)
    features = base(images)
    adapted = wrap(base, "side_tuning", image_size=64)
    method = adapted.method()
    assert isinstance(method, SideTuning)

    def step(compute: Callable[[], Tensor], parameters: list[nn.Parameter]) -> Callable[[], None]:
        optimiser = torch.optim.Adam(parameters, lr=1e-4)

        def run() -> None:
            optimiser.zero_grad()
            compute().square().mean().backward()
            optimiser.step()

        return run

    works = {
        "side_tuning": step(lambda: adapted(images, features), adapted.trainable()),
        "side": step(lambda: method.side_features(images), list(method.side.parameters())),
    }
    times = medians(works, 20)
    return times["side_tuning"] / times["side"]
