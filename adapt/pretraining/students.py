"""Knowledge distillation of an encoder into a smaller network, with the decoders of the encoder."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.core.base import Base, BaseSpec, load_base, save_base
from adapt.encoders import build_encoder
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import Decoders, decoders_path, load_decoders, save_decoders
from adapt.pretraining.distillation import TARGETS, Compare, OneCycleSettings, match, to_shape
from adapt.pretraining.scores import BATCH, batches, evaluate_base, network_input, wanted_domains
from adapt.pretraining.tasks import find_task
from adapt.training.device import choose_device, has_bfloat16
from adapt.training.finite import check_finite
from configs.settings import Device, OneOf, Range, kinds

STUDENTS = ("fcn3", "fcn4", "fcn5", "fcn8")
LOSSES = ("decoded", "features")


@dataclass(frozen=True)
class DistillSettings(OneCycleSettings):
    """Settings of a distillation.

    Attributes:
        encoder: One of `STUDENTS`.
        width: Multiplies the student's hidden channels.
        target: ``base``: do what the teacher does. ``zero``: have no effect when added to it.
        loss: ``decoded``: behind the teacher's frozen decoders, with the tasks' own losses (for classes the
            cross-entropy with the teacher's probabilities). ``features``: squared error of the codes.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    encoder: Annotated[str, OneOf(*STUDENTS)] = "fcn5"
    width: Annotated[float, Range(0, 64, above=True)] = 0.5
    target: Annotated[str, OneOf(*TARGETS)] = "base"
    loss: Annotated[str, OneOf(*LOSSES)] = "decoded"
    device: Device = "auto"


class Distillation:
    """A teacher and its student.

    Args:
        teacher: The frozen encoder.
        decoders: The teacher's; may be absent where the loss is of features.
        settings: What to distil and how.
        size: Pixels per side of the images.

    Attributes:
        student: The network that is trained, of images normalised as the teacher's.

    Raises:
        ValueError: The settings do not fit the teacher.
    """

    def __init__(self, teacher: Base, decoders: Decoders | None, settings: DistillSettings, size: int) -> None:
        self.teacher, self.decoders, self.settings = teacher, decoders, settings
        self.shape = teacher.feature_shape(size)
        self.kwargs: dict[str, Any] = {"width": settings.width, "out_channels": self.shape[0]}
        if settings.encoder == "fcn4":
            self.kwargs["pool"] = len(self.shape) == 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.student = build_encoder(settings.encoder, **self.kwargs)
        self.tasks = {name: find_task(name) for name in (decoders.networks if decoders else {})}
        self.device = torch.device(choose_device(settings.device))

    def fit(self, views: TaskonomyViews) -> Iterator[float]:
        """Train on the pictures of these views; yields the loss of each step."""
        device = self.device
        self.student.to(device).to(memory_format=torch.channels_last).train()
        self.teacher.to(device)
        for decoder in self.decoders.networks.values() if self.decoders else ():
            decoder.to(device)

        def features(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def compute(images: Tensor) -> Tensor:
                with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                    return to_shape(network(images), self.shape).float()

            return compute

        yield from match(
            features(self.student),
            features(self.teacher.encoder),
            self.student.parameters(),
            self._images(views),
            self.settings.steps,
            self.settings.lr,
            self.settings.target,
            self._compare(),
        )

    def _images(self, views: TaskonomyViews) -> Iterator[Tensor]:
        """Endless batches of normalised images, half of them mirrored."""
        rng = np.random.default_rng(self.settings.seed)
        generator = torch.Generator().manual_seed(self.settings.seed)
        noisy = any(task.noisy for task in self.tasks.values())
        while True:
            rgb = views.batch(rng.integers(0, len(views), self.settings.batch))["rgb"]
            rgb = rgb.flip(-1) if rng.random() < 0.5 else rgb
            images = network_input(rgb, self.teacher.spec.normalisation, noisy, generator)
            yield images.to(self.device, memory_format=torch.channels_last)

    def _compare(self) -> Compare:
        if self.settings.loss == "features":
            return F.mse_loss
        if self.decoders is None:
            raise ValueError("loss=decoded needs the teacher's decoders; choose loss=features")
        decoders = self.decoders

        def compare(given: Tensor, wanted: Tensor) -> Tensor:
            """Mean over the tasks of the loss between the decoded codes, in units of the labels' spread."""
            terms = []
            for name, task in self.tasks.items():
                decoder = decoders[name]
                output, target = decoder(given), decoder(wanted)
                if task.kind in ("segmentation", "classification"):
                    # Less the entropy of the target, so that the least loss is 0; per pixel, as the other tasks' are.
                    terms.append(F.kl_div(output.log_softmax(1), target.softmax(1), reduction="none").sum(1).mean())
                    continue
                error = (output - target) / decoder.spread
                terms.append(error.abs().mean() if task.kind == "l1" else error.square().mean())
            return torch.stack(terms).mean()

        return compare

    @torch.no_grad()
    def energy(self, views: TaskonomyViews) -> dict[str, float]:
        """Loss after adding the student's output to the teacher's.

        Returns:
            Per task ``change <task>``: root mean square change of the decoded output over the standard deviation of
            the decoded output; ``change features``, the same of the codes; ``active``: share of the student's
            output values that are not 0, behind which no gradient would pass.
        """
        self.student.eval()
        outputs = {name: d for name, d in (self.decoders.networks if self.decoders else {}).items()}
        names = ("features", *outputs)
        change, first, second = ({name: 0.0 for name in names} for _ in range(3))
        counts = dict.fromkeys(names, 0)
        active: list[float] = []
        for images in _inputs(views, self.teacher, any(task.noisy for task in self.tasks.values())):
            code = self.teacher.encoder(images)
            given = to_shape(self.student(images), self.shape)
            active.append(float((given != 0).float().mean()))
            for name in names:
                decode = outputs.get(name, torch.nn.Identity())
                before, after = decode(code).double(), decode(code + given).double()
                change[name] += float((after - before).square().sum())
                first[name] += float(before.sum())
                second[name] += float(before.square().sum())
                counts[name] += before.numel()
        spread = {n: (second[n] / counts[n] - (first[n] / counts[n]) ** 2) for n in names}
        scores = {f"change {n}": (change[n] / counts[n] / max(spread[n], 1e-12)) ** 0.5 for n in names}
        return {**scores, "active": float(np.mean(active))}


def _inputs(views: TaskonomyViews, base: Base, noisy: bool) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for labels in batches(views, BATCH):
        yield network_input(labels["rgb"], base.spec.normalisation, noisy, generator)


def distill(
    teacher: str, data: Sequence[str], val: Sequence[str], out: Path, settings: DistillSettings, size: int | None = None
) -> dict[str, Any]:
    """Train a student and write it as a base, with its decoders where the teacher has them.

    Args:
        teacher: Name or file of a base.
        data: Datasets whose pictures it learns from.
        val: Datasets to validate on.
        out: File to write.
        settings: What to distil and how.
        size: Pixels per side; as stored when None.

    Returns:
        What the file's header says: the settings, ``loss`` of the last steps, and for the target ``base`` per task
        the losses of teacher, student and constant prediction and ``kept``, the share of the teacher's gain over the
        constant that the student has; for ``zero`` what `Distillation.energy` gives.

    Raises:
        ValueError: A name or setting is wrong.
        FileNotFoundError: The teacher, its decoders or data are absent.
        OSError: `out` cannot be written.
    """
    base = load_base(teacher)
    has_decoders = decoders_path(teacher).is_file() and "/" not in base.spec.encoder
    decoders = load_decoders(teacher) if has_decoders or settings.loss == "decoded" else None
    views = TaskonomyViews(data, ["rgb"], size)
    held_out = TaskonomyViews(val, wanted_domains(list(decoders.networks) if decoders else []), views.size)
    distillation = Distillation(base, decoders, settings, views.size)
    start = time.perf_counter()
    losses = list(distillation.fit(views))
    seconds = time.perf_counter() - start
    # Evaluate what will be stored: half-precision weights.
    student = distillation.student.cpu().half().float()
    check_finite(student.state_dict(), f"{out} is not written: in half precision the weight")
    base.cpu()
    training: dict[str, Any] = {
        "teacher": teacher,
        "teacher_sha256": base.sha256,
        **{name: getattr(settings, name) for name in kinds(DistillSettings) if name != "device"},
        "loss at the end": float(np.mean(losses[-50:])),
        "views": len(views),
        "seconds": round(seconds, 1),
        "command": " ".join(["python -m adapt.distill", *sys.argv[1:]]),
    }
    spec = BaseSpec(settings.encoder, distillation.kwargs, base.spec.normalisation, base.spec.task, {})
    distilled = Base(student, spec)
    if settings.target == "zero":
        training["energy"] = distillation.energy(held_out)
    elif decoders is not None:
        training["tasks"] = _compare_scores(distilled, base, decoders, held_out)
        save_decoders(replace(decoders, base=distilled.sha256), decoders_path(out))
    save_base(Base(student, replace(spec, training=training)), out)
    return training


def _compare_scores(student: Base, teacher: Base, decoders: Decoders, views: TaskonomyViews) -> dict[str, Any]:
    ours, theirs = evaluate_base(student, decoders, views), evaluate_base(teacher, decoders, views)
    scores = {}
    for name, score in ours.items():
        gain = theirs[name]["constant"] - theirs[name]["loss"]
        share = (score["constant"] - score["loss"]) / gain if gain else math.nan
        scores[name] = {**score, "teacher_loss": theirs[name]["loss"], "kept": share}
    return scores
