"""Optimisers, learning-rate schedules and training lengths: the settings `training` and `optimiser`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from configs.names import nearest
from configs.settings import NotNegative, OneOf, Positive, Range, Settings, Whole

OPTIMISERS = ("adam", "adamw", "sgd", "rmsprop", "rmsprop_tf")
READOUTS = ("trained", "fixed")
SCHEDULES = ("constant", "cosine", "linear", "steps", "exponential")
UNITS = ("images", "steps", "passes")
Beta = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Length of a task's training.

    Attributes:
        length: "<number> images", "steps" or "passes" (over the training examples), or a name of the benchmark's
            `lengths`. Images are rounded up to whole steps, as released for iCIFAR: 20000 images are 157 steps of 128.
        batch: examples per step; in joint training of each task.
        test_batch: examples per step of a test.
        examples: train on this many of the examples, chosen by the seed; 0 takes all.
        test_examples: likewise for testing.
        workers: processes that read files.
        readout: "trained", or "fixed" at its random start, so that the method alone must fit it (the "last layer
            random" of model patches).
        bfloat16: compute outputs in bfloat16 (autocast) where the device does that fast; losses, weights and features
            that are kept stay float32. Transformers gain from it, depthwise convolutions on a CPU do not.
    """

    length: str = "1 passes"
    batch: Annotated[int, Range(1, 1_048_576)] = 128
    test_batch: Annotated[int, Range(1, 1_048_576)] = 256
    examples: Whole = 0
    test_examples: Whole = 0
    workers: Annotated[int, Range(0, 1024)] = 0
    readout: Annotated[str, OneOf(*READOUTS)] = "trained"
    bfloat16: bool = False

    def steps(self, examples: int, lengths: Mapping[str, str] | None = None) -> int:
        """Optimiser steps for a task with this many training examples.

        Raises:
            ValueError: `length` cannot be read.
        """
        text = (lengths or {}).get(self.length, self.length)
        names = "".join(f", {name}" for name in lengths or {})
        return count_steps("training.length", text, self.batch, examples, names + nearest(text, lengths or {}))


@dataclass(frozen=True)
class StageConfig(Settings):
    """The first of two stages, in which all tasks train one network; all else is as in the second.

    Attributes:
        length: as `TrainingConfig.length`, of the longest task.
        batch: examples of each task per step.
        lr: learning rate.
        schedule: as `OptimiserConfig.schedule`.
        nesterov: of SGD.
    """

    length: str = "60 passes"
    batch: Annotated[int, Range(1, 1_048_576)] = 12
    lr: Positive = 5e-3
    schedule: Annotated[str, OneOf(*SCHEDULES)] = "cosine"
    nesterov: bool = True


def count_steps(setting: str, text: str, batch: int, examples: int, also: str = "") -> int:
    """Optimiser steps of a length such as "20000 images", "157 steps" or "2.5 passes", rounded up.

    Args:
        setting: where it is written, for the error.
        text: the length.
        batch: examples per step.
        examples: of a pass.
        also: what else could have been written, for the error.

    Raises:
        ValueError: `text` cannot be read.
    """
    match = re.fullmatch(r"([\d_]*\.?\d+)\s*([a-z]+)", text.strip())
    if match is None or match[2] not in UNITS or float(match[1]) <= 0:
        raise ValueError(f"{setting}: write <number> {'|'.join(UNITS)}{also}, got {text!r}")
    number, unit = float(match[1]), match[2]
    if unit == "steps":
        return math.ceil(number)
    if unit == "images":
        return math.ceil(number / batch)
    return math.ceil(number * math.ceil(examples / batch))


def shuffled(count: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices (B,) of `steps` batches of `count` examples: pass after pass, each in a new order, its last batch short.

    A last batch of one example is left out where there are others, because batch norms cannot train on it.
    """
    batches = 0
    while batches < steps:
        parts = torch.randperm(count, generator=generator).split(batch)
        for indices in parts[: steps - batches]:
            if len(indices) > 1 or batch == 1 or len(parts) == 1:
                batches += 1
                yield indices


def subset(count: int, wanted: int, seed: int) -> Tensor:
    """`wanted` of `count` indices (all if 0 or more than there are), chosen by the seed, ascending."""
    if not 0 < wanted < count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:wanted].sort().values


@dataclass(frozen=True)
class OptimiserConfig(Settings):
    """The optimiser and its learning rates.

    Attributes:
        name: out of `OPTIMISERS`. `rmsprop_tf` is TensorFlow's: `eps` inside the root, mean squares that start at 1,
            the rate inside the momentum; TF-slim trains with eps=1, alpha=.9, momentum=.9.
        lr: learning rate.
        head_lr: of readouts; `lr` if 0.
        rates: learning rates of parameters whose name contains the key, such as {"logits": 0.01}.
        decays: weight decays of parameters whose name contains the key, likewise.
        weight_decay: of everything else but what `undecayed` names.
        undecayed: parts of names of parameters without weight decay.
        momentum: of SGD and RMSProp.
        nesterov: of SGD.
        betas: of Adam.
        alpha: decay of RMSProp's mean squares; the library's if 0.
        eps: of Adam and RMSProp; the library's if 0.
        clip: largest norm of the gradient of all parameters together; 0: no clipping.
        schedule: "constant"; "cosine" or "linear" to 0; "steps": times `gamma` at each of `milestones`; "exponential":
            times `gamma` after every `every`.
        milestones: shares of the length, in 0..1.
        every: a length as `TrainingConfig.length`.
        gamma: factor at each milestone.
        warmup: share of the length in which the learning rate rises linearly from 0.
    """

    name: Annotated[str, OneOf(*OPTIMISERS)] = "adam"
    lr: Positive = 1e-3
    head_lr: NotNegative = 0.0
    rates: Mapping[str, NotNegative] = field(default_factory=dict)
    decays: Mapping[str, NotNegative] = field(default_factory=dict)
    weight_decay: NotNegative = 0.0
    undecayed: tuple[str, ...] = ()
    momentum: NotNegative = 0.9
    nesterov: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    alpha: NotNegative = 0.0
    eps: NotNegative = 0.0
    clip: NotNegative = 0.0
    schedule: Annotated[str, OneOf(*SCHEDULES)] = "constant"
    milestones: tuple[Annotated[float, Range(0, 1, above=True, below=True)], ...] = ()
    every: str = "1 passes"
    gamma: NotNegative = 0.1
    warmup: Annotated[float, Range(0, 1, below=True)] = 0.0

    def factor(self, step: int, steps: int, every: int = 1) -> float:
        """The learning-rate factor at step `step` of 0..steps-1; `every` is the setting in steps."""
        warm = self.warmup * steps
        if step < warm:
            return (step + 1) / (math.ceil(warm) + 1)
        if self.schedule == "steps":
            return self.gamma ** sum(step >= round(m * steps) for m in self.milestones)
        if self.schedule == "exponential":
            return self.gamma ** (step // every)
        share = (step - warm) / max(1.0, steps - warm)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * share))
        return 1 - share if self.schedule == "linear" else 1.0

    def rate(self, name: str, head: bool) -> float:
        """The learning rate of a parameter."""
        special = [rate for key, rate in self.rates.items() if key in name]
        return special[-1] if special else (self.head_lr or self.lr) if head else self.lr

    def decay(self, name: str, weight_decay: float) -> float:
        """The weight decay of a parameter, given that of its task."""
        if special := [decay for key, decay in self.decays.items() if key in name]:
            return special[-1]
        return 0.0 if any(key in name for key in self.undecayed) else weight_decay

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups, each with its `lr` and `weight_decay`."""
        eps: dict[str, Any] = {"eps": self.eps} if self.eps else {}
        if self.name == "sgd":
            return torch.optim.SGD(groups, self.lr, momentum=self.momentum, nesterov=self.nesterov)
        if self.name.startswith("rmsprop"):
            alpha: dict[str, Any] = {"alpha": self.alpha} if self.alpha else {}
            form = torch.optim.RMSprop if self.name == "rmsprop" else _rmsprop_of_tensorflow()
            return form(groups, self.lr, momentum=self.momentum, **alpha, **eps)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(groups, self.lr, betas=self.betas, **eps)


def _rmsprop_of_tensorflow() -> Callable[..., torch.optim.Optimizer]:
    """Timm's RMSProp as TensorFlow has it; timm is imported when it is used, as it takes a second and more."""
    from timm.optim.rmsprop_tf import RMSpropTF

    return RMSpropTF


def parameter_groups(
    config: OptimiserConfig, parts: Iterable[tuple[str, nn.Parameter, bool, float]]
) -> list[dict[str, Any]]:
    """Groups of parameters with one learning rate (also kept as `initial_lr`) and weight decay each; a parameter named
    twice counts once.

    Args:
        config: the rates.
        parts: name, parameter, whether it is a readout's, and the task's weight decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for name, parameter, head, decay in parts:
        if id(parameter) not in seen:
            seen.add(id(parameter))
            groups.setdefault((config.rate(name, head), config.decay(name, decay)), []).append(parameter)
    return [
        {"params": members, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), members in groups.items()
    ]
