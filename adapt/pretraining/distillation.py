"""Distillation: train a network to reproduce a teacher's output (or to output zero)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.training.finite import clip_finite
from configs.settings import Positive, Range, Seed, Settings

TARGETS = ("base", "zero")
WARM_UP = 0.1  # Share of the steps in which the learning rate rises.
CLIP = 1.0


@dataclass(frozen=True)
class OneCycleSettings(Settings):
    """Settings of a training by Adam whose learning rate rises and falls once.

    Attributes:
        steps: Updates.
        batch: Views per update.
        lr: Highest learning rate.
        seed: Of weights, order, flips and noise.
    """

    steps: Annotated[int, Range(2)] = 3000
    batch: Annotated[int, Range(2, 1_048_576)] = 64
    lr: Positive = 2e-3
    seed: Seed = 0


def one_cycle(
    parameters: Iterable[nn.Parameter], rate: float, steps: int
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.OneCycleLR]:
    """Adam, and the schedule of its learning rate, which rises to `rate` in `WARM_UP` of the steps and then falls."""
    optimiser = torch.optim.Adam(parameters, rate)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=WARM_UP)


# Loss between two codes (B,C,h,w) or (B,C), the student's first.
Compare = Callable[[Tensor, Tensor], Tensor]


def match(
    student: Callable[[Tensor], Tensor],
    teacher: Callable[[Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
    batches: Iterator[Tensor],
    steps: int,
    learning_rate: float,
    target: str = "base",
    compare: Compare = F.mse_loss,
) -> Iterator[float]:
    """Train a student's parameters, step by step.

    For the target "zero" the sum of both networks is compared with the teacher: what is learned is an output that
    has no effect beside the teacher's, Side-Tuning's low-energy initialisation (released code, `algo=zero`).

    Args:
        student: from a batch to features.
        teacher: from a batch to features of the same shape; no gradient passes through it.
        parameters: what is trained (Adam; the learning rate rises and falls once).
        batches: endless.
        steps: updates.
        learning_rate: the highest.
        target: "base" for the teacher's features, "zero" for a student without effect.
        compare: loss between both features.

    Yields:
        The loss of each step.

    Raises:
        ValueError: the target is unknown.
        NotFinite: the images, the teacher's features, the loss or the gradient are; before the student takes it up.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be {' or '.join(TARGETS)}, got {target!r}")
    parameters = list(parameters)
    optimiser, schedule = one_cycle(parameters, learning_rate, steps)
    for step in range(steps):
        batch = next(batches)
        with torch.no_grad():
            wanted = teacher(batch)
        given = student(batch)
        loss = compare(given + wanted if target == "zero" else given, wanted)
        optimiser.zero_grad()
        loss.backward()
        data = {"the images": batch, "the teacher's features": wanted}
        value = clip_finite(f"update {step + 1} of {steps}", loss, parameters, CLIP, partial(dict, data))
        optimiser.step()
        schedule.step()
        yield value


def to_shape(features: Tensor, shape: Sequence[int]) -> Tensor:
    """Average features (B,C,h,w) down to those of a base: (C,h',w') or (C,).

    Raises:
        ValueError: a base gives something else, such as the tokens of a transformer.
    """
    if features.ndim == 4 and len(shape) not in (1, 3):
        raise ValueError(f"side networks of images give maps, and the base {tuple(shape)}; use another base or side")
    if features.ndim == 4 and len(shape) == 1:
        return features.mean((2, 3))
    if features.ndim == 4 and tuple(features.shape[2:]) != tuple(shape[1:]):
        return F.adaptive_avg_pool2d(features, (shape[1], shape[2]))
    return features
