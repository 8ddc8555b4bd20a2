"""Multi-task training of encoders on views rendered during training; resumable at any step."""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from torch import Tensor, nn

from adapt.core.base import Normalisation
from adapt.pretraining.distillation import CLIP
from adapt.pretraining.family import Family
from adapt.pretraining.rendered import RenderedBlocks, Ring
from adapt.pretraining.scores import network_input, statistics_of
from adapt.pretraining.targets import TaskTraining, class_weights, targets_of, training_loss
from adapt.pretraining.tasks import Labels, TaskonomyTask, find_task
from adapt.training.finite import Data, check_finite, clip_finite
from adapt.training.state import Damaged, check_like, entry_of, load_optimizer, reading
from adapt.training.weight_files import read_torch
from configs.settings import Count, Positive, Range, Settings, Share, Whole
from configs.writing import write_atomically

STATISTICS_SEED = 199  # Of the stream that constant predictions and frequencies of classes are taken from.
STATISTICS_BLOCKS = 24
FIRST_BLOCKS = 8  # Blocks rendered before the first step.


@dataclass(frozen=True)
class StreamTraining(Settings):
    """Settings of joint training on rendered views, but for the network and the length.

    Attributes:
        views_per_scene: Views of each apartment, which are one block.
        mix: Shares of apartments: plain, of other looks, of other shape, of both.
        tied: Steps in which the encoders share their early layers.
        warm_up: Steps in which the learning rate rises.
        decay: Last steps, in which it falls to a hundredth, as a half cosine.
        reuse: How often a view is used on average.
        ring: Apartments kept to draw from.
        save_every: Steps between checkpoints.
        average_from: Step from which on the weights of all checkpoints are averaged for what is written; 0: the last.
        workers: Processes that render.
    """

    views_per_scene: Annotated[int, Range(8, 100_000)] = 64
    mix: tuple[Share, Share, Share, Share] = (0.4, 0.15, 0.05, 0.4)
    tied: Whole = 8000
    warm_up: Whole = 200
    decay: Whole = 2500
    reuse: Annotated[int, Range(1, 1_000_000)] = 4
    ring: Annotated[int, Range(FIRST_BLOCKS, 100_000)] = 48
    save_every: Count = 250
    average_from: Whole = 0
    workers: Annotated[int, Range(1, 1024)] = 1


@dataclass(frozen=True)
class JointConfig(StreamTraining):
    """Settings of joint training on rendered views.

    Attributes:
        encoder: A name of `adapt.encoders.build_encoder`.
        decoder: A name of `adapt.pretraining.decoders.build_decoder`.
        size: Pixels per side.
        steps: Updates in all.
        batch: Views per step.
        lr: Highest learning rate of Adam.
        seed: Of weights, apartments, order, flips and noise.
        device: ``cpu`` or ``cuda``; only on the CPU is a run repeated bit for bit.
        plans: How each task is trained; as `TaskTraining` says by default.
    """

    encoder: str = "fcn5"
    decoder: str = "light"
    size: int = 64
    steps: Count = 10000
    batch: Annotated[int, Range(2)] = 64
    lr: Positive = 2e-3
    seed: int = 0
    device: str = "cpu"
    plans: Mapping[str, TaskTraining] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.decay + self.warm_up > self.steps:
            raise ValueError(f"warm_up={self.warm_up} and decay={self.decay} are more than steps={self.steps}")

    def rate(self, step: int) -> float:
        """Learning rate of a step over the highest one: rises, stays, falls."""
        rising = min(1.0, (step + 1) / max(1, self.warm_up))
        falling = min(1.0, max(0.0, (step - (self.steps - self.decay)) / max(1, self.decay)))
        return rising * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * falling)))

    def blocks_at(self, step: int) -> int:
        """Blocks rendered by a step, those dropped again included."""
        return FIRST_BLOCKS + int(step * self.batch / (self.reuse * self.views_per_scene))

    def overrides(self, domains: list[str]) -> list[str]:
        """Settings of `envs.stream`."""
        mix = ",".join(map(str, self.mix))
        return [
            f"size={self.size}",
            f"views_per_scene={self.views_per_scene}",
            f"mix=[{mix}]",
            f"seed={self.seed}",
            f"domains=[{','.join(domains)}]",
        ]


class JointRun:
    """A training run of several encoders, with everything that a checkpoint holds."""

    def __init__(self, names: list[str], settings: JointConfig, domains: list[str]) -> None:
        """Build networks; constant predictions come from plain apartments of their own."""
        self.settings, self.domains = settings, domains
        self.tasks: dict[str, TaskonomyTask] = {name: find_task(name) for name in names}
        self.plans = {name: settings.plans.get(name, TaskTraining()) for name in names}
        self.normalisation = Normalisation()
        labels = plain_labels(settings, domains)
        statistics = {
            name: statistics_of(task, labels, self.plans[name].scaling, self.plans[name].label_size)
            for name, task in self.tasks.items()
        }
        self.weights = {
            name: class_weights(task, labels, self.plans[name])
            for name, task in self.tasks.items()
            if task.kind in ("segmentation", "classification") and self.plans[name].balance > 0.0
        }
        self.units = {name: self._constant_loss(name, labels, statistics[name][0]) for name in names}
        torch.manual_seed(settings.seed)
        self.family = Family(
            self.tasks, self.plans, statistics, settings.encoder, settings.decoder, settings.size, settings.tied > 0
        ).to(settings.device)
        self.optimizer = self._optimizer()
        self.step = 0
        self.seconds = 0.0
        self.averaged = 0
        self.mean: dict[str, Tensor] = {}

    def _constant_loss(self, name: str, labels: Labels, constant: Tensor) -> float:
        """The constant prediction's training loss, in which each task's loss is counted."""
        task, plan = self.tasks[name], self.plans[name]
        target, weight = targets_of(task, labels, plan, self.weights.get(name))
        if task.kind == "classification":
            guess = constant.expand(len(target), -1)
        else:
            guess = constant.expand(len(target), -1, plan.label_size, plan.label_size)
        return max(1e-6, float(training_loss(task, guess, target, weight)))

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.family.parameters(), self.settings.lr, fused=True)

    def _untie(self) -> None:
        """Part the encoders; each goes on with a copy of what Adam knows of the shared layers."""
        old = self.optimizer
        origin = self.family.untie()
        self.optimizer = self._optimizer()
        for parameter in self.family.parameters():
            source = origin.get(parameter, parameter)
            if source in old.state:
                self.optimizer.state[parameter] = {key: value.clone() for key, value in old.state[source].items()}

    def result(self) -> Family:
        """A copy of the networks on the CPU with the weights to be written: the mean of checkpoints, or the last."""
        family = copy.deepcopy(self.family).cpu()
        if self.averaged:
            family.load_state_dict(self.mean)
        return family

    def _average(self) -> None:
        """Take the weights of a checkpoint into the mean."""
        if not 0 < self.settings.average_from <= self.step:
            return
        self.averaged += 1
        for name, value in self.family.state_dict().items():
            value = value.detach().cpu().float()
            before = self.mean.get(name, value)
            self.mean[name] = before + (value - before) / self.averaged

    # -- steps --------------------------------------------------------------------------------------------------

    def train(self, folder: Path, save: Callable[[JointRun], None]) -> None:
        """Train to the end, with checkpoints in `folder`; `save` is called after each."""
        settings = self.settings
        first = max(0, settings.blocks_at(self.step) - settings.ring)
        ring = Ring(self.tasks, self.plans, self.weights, settings.ring)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
        with (
            RenderedBlocks(first, settings.overrides(self.domains), settings.workers) as source,
            Progress(*columns) as progress,
        ):
            taken = first
            bar = progress.add_task("pretraining", total=settings.steps, completed=self.step, loss="")
            means: dict[str, float] = {}
            while self.step < settings.steps:
                start = time.perf_counter()
                while taken < settings.blocks_at(self.step):
                    ring.add(source.next())
                    taken += 1
                if self.family.tied and self.step >= settings.tied:
                    self._untie()
                losses = self._update(ring)
                self.step += 1
                self.seconds += time.perf_counter() - start
                means |= {name: 0.98 * means.get(name, loss) + 0.02 * loss for name, loss in losses.items()}
                progress.update(bar, completed=self.step, loss=" ".join(f"{v:.2f}" for v in means.values()))
                if self.step % settings.save_every == 0 or self.step == settings.steps:
                    self._average()
                    self.save(folder, means)
                    save(self)

    def _update(self, ring: Ring) -> dict[str, float]:
        """One step; returns each trained task's loss over its constant prediction's."""
        settings, family = self.settings, self.family
        rng = np.random.default_rng([settings.seed, self.step, 1])
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * settings.rate(self.step)
        names = [name for name, plan in self.plans.items() if (self.step % plan.every) == 0]
        rgb, targets = ring.draw(rng, settings.batch, names)
        family.train()
        losses: dict[str, Tensor] = {}
        device = torch.device(settings.device)
        for noisy in (False, True):
            part = [name for name in names if self.tasks[name].noisy == noisy]
            if not part:
                continue
            images = network_input(rgb, self.normalisation, noisy, generator)
            images = images.to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16):
                outputs = family(images, part)
            for name in part:
                target, weight = (one.to(device) for one in targets[name])
                losses[name] = training_loss(self.tasks[name], outputs[name], target, weight) / self.units[name]
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._clip(
            names, total, {"the pictures": rgb, **{f"targets of {name}": one[0] for name, one in targets.items()}}
        )
        self.optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _clip(self, names: list[str], loss: Tensor, data: Data) -> None:
        """Check loss and gradient, and bound that of every encoder and its decoder; tied ones share one bound."""
        parts: list[list[nn.Parameter]] = [
            [*self.family.encoders[name].parameters(), *self.family.decoders[name].parameters()] for name in names
        ]
        if self.family.tied:
            parts = [list(dict.fromkeys(parameter for part in parts for parameter in part))]
        at = f"update {self.step + 1} of {self.settings.steps}"
        for members in parts:
            clip_finite(at, loss, members, CLIP, partial(dict, data))

    # -- checkpoints --------------------------------------------------------------------------------------------

    def save(self, folder: Path, means: Mapping[str, float]) -> None:
        """Write ``checkpoint.pt``, atomically.

        Raises:
            NotFinite: A weight is NaN or infinite; the checkpoint before stays.
        """
        check_finite(self.family.state_dict(), f"after step {self.step} the weight")
        stream = io.BytesIO()
        torch.save(
            {
                "settings": _plain(self.settings),
                "tasks": list(self.tasks),
                "step": self.step,
                "seconds": self.seconds,
                "tied": self.family.tied,
                "family": self.family.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged,
                "mean": self.mean,
                "losses": dict(means),
            },
            stream,
        )
        write_atomically(folder / "checkpoint.pt", stream.getvalue())

    def resume(self, folder: Path) -> bool:
        """Resume from the checkpoint in `folder`; returns whether there is one.

        Raises:
            ValueError: It is of other settings; only `steps`, `tied`, `decay`, `average_from` and `save_every` may
                change, to end a run sooner or later than was planned, and `workers` and `device`.
        """
        path = folder / "checkpoint.pt"
        if not path.is_file():
            return False
        try:
            state = read_torch(path)
        except ValueError as error:
            raise ValueError(f"{error}; delete it to start anew") from error
        with reading(path):
            self._take_over(path, state)
        return True

    def _take_over(self, path: Path, state: Any) -> None:
        check_resume(
            entry_of(state, "settings"), _plain(self.settings), list(self.tasks), entry_of(state, "tasks", list)
        )
        tied = entry_of(state, "tied", bool)
        if self.family.tied and not tied:
            self._untie()
        if self.family.tied != tied:
            raise ValueError(f"{path} was made with other settings of tied; choose another out=")
        step, seconds = entry_of(state, "step", int), entry_of(state, "seconds", (int, float))
        check_like(entry_of(state, "family"), self.family.state_dict(), "family")
        averaged, mean = entry_of(state, "averaged", int), entry_of(state, "mean")
        for name, tensor in self.family.state_dict().items() if averaged else ():
            if entry_of(mean, name, Tensor, "mean.").shape != tensor.shape:
                raise Damaged(f"mean.{name} has the shape {tuple(mean[name].shape)}")
        check_finite(state, f"{path}, which may be deleted to start anew: its content")
        load_optimizer(self.optimizer, entry_of(state, "optimizer"))
        self.family.load_state_dict(state["family"])
        self.step, self.seconds = step, seconds
        self.averaged, self.mean = averaged, mean


def check_resume(before: Mapping[str, Any], now: Mapping[str, Any], tasks: list[str], found_tasks: list[str]) -> None:
    """Refuse to resume a checkpoint with incompatible settings.

    Raises:
        ValueError: Which setting, and what to do.
    """
    free = ("steps", "tied", "decay", "average_from", "save_every", "workers", "device")
    wrong = [key for key, value in before.items() if key not in free and now.get(key) != value]
    if tasks != found_tasks:
        wrong.append("task")
    if wrong:
        raise ValueError(f"the checkpoint in out= was made with other {', '.join(wrong)}; choose another out=")


def plain_labels(settings: JointConfig, domains: list[str]) -> dict[str, Tensor]:
    """Labels of some hundred views of plain apartments that are not trained on."""
    plain = replace(settings, mix=(1.0, 0.0, 0.0, 0.0), seed=STATISTICS_SEED)
    with RenderedBlocks(0, plain.overrides(domains), settings.workers) as source:
        blocks = [source.next() for _ in range(STATISTICS_BLOCKS)]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _plain(settings: JointConfig) -> dict[str, Any]:
    """Settings as plain lists and numbers, as a checkpoint holds them."""
    values = asdict(settings)
    values["mix"] = list(values["mix"])
    return values
