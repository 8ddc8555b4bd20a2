"""Training of one encoder on stored views with Taskonomy labels, for one task or several at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from torch import Tensor, nn

from adapt.core.base import Base, BaseSpec, Normalisation, load_base, save_base
from adapt.encoders import build_encoder
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import (
    Decoders,
    DecoderTraining,
    TaskDecoder,
    TaskDecoders,
    decoders_path,
    save_decoders,
    task_decoder,
)
from adapt.pretraining.distillation import CLIP, one_cycle
from adapt.pretraining.scores import Tally, batches, label_statistics, network_input, wanted_domains
from adapt.pretraining.tasks import Labels, TaskonomyTask, find_task
from adapt.training import distributed
from adapt.training.device import choose_device, has_bfloat16
from adapt.training.finite import check_finite, clip_finite
from configs.settings import Count, Device, Pixels


@dataclass(frozen=True)
class PretrainSettings(DecoderTraining):
    """Settings of the pretraining of an encoder.

    Attributes:
        encoder: A name of `adapt.encoders.build_encoder`.
        label_size: Pixels per side of the decoded labels; larger label images are averaged over blocks (classes:
            their middle pixel). The image's size if None.
        device: ``auto``, ``cpu`` or ``cuda``.
        start: Name or file of a base whose weights the encoder starts from; random ones if None.
    """

    encoder: str = "fcn5"
    label_size: Pixels | None = None
    steps: Count = 3000
    device: Device = "auto"
    start: str | None = None


class Pretraining(nn.Module):
    """An encoder with one decoder per task.

    Outputs are decoded relative to the constant prediction, in units of the labels' spread.

    Args:
        tasks: Names of tasks.
        views: Training views, for the size of images and the statistics of labels.
        settings: How to train.
    """

    def __init__(self, tasks: Sequence[str], views: TaskonomyViews, settings: PretrainSettings) -> None:
        super().__init__()
        self.tasks: dict[str, TaskonomyTask] = {name: find_task(name) for name in tasks}
        self.size = settings.label_size or views.size
        if views.size % self.size:
            raise ValueError(f"label_size must divide the images' {views.size} pixels, got {self.size}")
        if len({task.noisy for task in self.tasks.values()}) > 1:
            raise ValueError("denoising sees noisy images; train it apart from the other tasks")
        self.settings = settings
        self.normalisation = Normalisation()
        # The light decoders learn the scale of the code; TaskonomyEncoder must not normalise it away first.
        self.kwargs = {"normalize_outputs": False} if settings.encoder == "taskonomy" else {}
        self.encoder = build_encoder(settings.encoder, **self.kwargs)
        if settings.start is not None:
            self._start_from(settings.start)
        code = Base(self.encoder).feature_shape(views.size)
        self.encoder.requires_grad_(True)
        self.code_shape = code
        self.decoders = TaskDecoders({name: self._build_decoder(name, views) for name in tasks})

    def _start_from(self, name: str) -> None:
        try:
            self.encoder.load_state_dict(load_base(name).encoder.state_dict())
        except RuntimeError as error:
            raise ValueError(f"start={name} does not hold the weights of encoder={self.settings.encoder}") from error

    def _build_decoder(self, name: str, views: TaskonomyViews) -> TaskDecoder:
        task, settings = self.tasks[name], self.settings
        decoder, scaling, width = settings.decoder, settings.scaling, settings.decoder_width
        statistics = label_statistics(task, views, scaling, self.size)
        return task_decoder(task, self.code_shape, statistics, decoder, scaling, self.size, width)

    def forward(self, rgb: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Decoded float32 outputs of each task, for uint8 images (B,3,H,W)."""
        noisy = next(iter(self.tasks.values())).noisy
        images = network_input(rgb, self.normalisation, noisy, generator)
        device = next(self.parameters()).device
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.training and has_bfloat16(device)):
            code = self.encoder(images)
            return {name: decoder(code) for name, decoder in self.decoders.items()}


@torch.no_grad()
def evaluate(model: Pretraining, views: TaskonomyViews) -> dict[str, dict[str, float]]:
    """Compare the model with the constant predictions.

    Args:
        model: The model; it is left in eval mode.
        views: Validation views.

    Returns:
        Per task what `Tally.scores` gives.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    scaling = model.settings.scaling
    tallies = {name: Tally(task, model.decoders[name].constant, scaling) for name, task in model.tasks.items()}
    for labels in batches(views, model.settings.batch):
        outputs = model(labels["rgb"], generator)
        for name, tally in tallies.items():
            tally.add(outputs[name].cpu(), labels)
    return {name: tally.scores() for name, tally in tallies.items()}


def flip(labels: Labels) -> dict[str, Tensor]:
    """Mirror a batch left to right; of the normals the x component changes sign."""
    flipped = {domain: label.flip(-1) if label.ndim == 4 else label for domain, label in labels.items()}
    if "normal" in flipped:
        normal = flipped["normal"].clone()
        normal[:, 0] = 255 - normal[:, 0]
        flipped["normal"] = normal
    return flipped


def fit(model: Pretraining, views: TaskonomyViews) -> None:
    """Train encoder and decoders; each task's loss counts relative to its constant prediction's.

    Of several ranks each takes its part of every batch.
    """
    settings = model.settings
    device = torch.device(choose_device(settings.device))
    model.to(device).to(memory_format=torch.channels_last).train()
    distributed.copy_from_first([*model.parameters(), *model.buffers()])
    distributed.share(settings.batch, "batch")
    own = slice(distributed.rank(), None, distributed.ranks())
    parameters = list(model.parameters())
    optimizer, schedule = one_cycle(parameters, settings.lr, settings.steps)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed + distributed.rank())
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, disable=not distributed.is_first()) as progress:
        bar = progress.add_task("pretraining", total=settings.steps, loss="")
        for step in range(settings.steps):
            labels: Labels = views.batch(rng.integers(0, len(views), settings.batch)[own])
            if rng.random() < 0.5:
                labels = flip(labels)
            loss = _relative_loss(model, labels, generator)
            optimizer.zero_grad()
            loss.backward()
            distributed.average_gradients(parameters)
            distributed.average_statistics(model)
            clip_finite(f"update {step + 1} of {settings.steps}", loss, parameters, CLIP, partial(dict, labels))
            optimizer.step()
            schedule.step()
            progress.advance(bar)
            if step % 50 == 0:
                progress.update(bar, loss=f"loss / constant {float(loss.detach()):.3f}")


def _relative_loss(model: Pretraining, labels: Labels, generator: torch.Generator) -> Tensor:
    """Mean over tasks of the loss divided by the constant prediction's on the same batch."""
    outputs = model(labels["rgb"], generator)
    device = next(model.parameters()).device
    moved = {domain: label.to(device) for domain, label in labels.items()}
    terms = []
    for name, task in model.tasks.items():
        fixed = model.decoders[name].constant.expand_as(outputs[name])
        scale = task.loss(fixed, moved, model.settings.scaling).clamp(min=1e-6)
        terms.append(task.loss(outputs[name], moved, model.settings.scaling) / scale)
    return torch.stack(terms).mean()


def pretrain(
    tasks: Sequence[str],
    data: Sequence[str],
    val: Sequence[str],
    out: Path,
    settings: PretrainSettings,
    size: int | None = None,
) -> dict[str, Any]:
    """Train an encoder and write it as a base.

    Args:
        tasks: Names of tasks.
        data: Datasets to train on.
        val: Datasets to validate on.
        out: File to write; the decoders go to `adapt.pretraining.decoders.decoders_path` of it.
        settings: How to train.
        size: Pixels per side; as stored when None.

    Returns:
        What the file's header says of the training: per task the losses, views, steps, seconds.

    Raises:
        ValueError: A name or setting is wrong.
        NotFinite: The labels, the loss, the gradient or the trained weights are; nothing is written.
        OSError: Data is absent, or `out` cannot be written.
    """
    domains = wanted_domains(tasks)
    views = TaskonomyViews(data, domains, size)
    held_out = TaskonomyViews(val, domains, views.size)
    torch.manual_seed(settings.seed)
    model = Pretraining(tasks, views, settings)
    start = time.perf_counter()
    fit(model, views)
    seconds = time.perf_counter() - start
    # Evaluate what will be stored: half-precision weights.
    model.to("cpu")
    model.encoder.half().float()
    for name in model.tasks:
        model.decoders[name].network.half().float()
    check_finite(model.state_dict(), f"{out} is not written: in half precision the weight")
    training = {
        "tasks": evaluate(model, held_out),
        "data": list(data),
        "val": list(val),
        "views": len(views),
        "val_views": len(held_out),
        "size": views.size,
        "label_size": model.size,
        "scaling": settings.scaling,
        "steps": settings.steps,
        "batch": settings.batch,
        "lr": settings.lr,
        "seed": settings.seed,
        "start": settings.start,
        "seconds": round(seconds, 1),
        "command": " ".join(["python -m adapt.pretrain", *sys.argv[1:]]),
    }
    spec = BaseSpec(settings.encoder, model.kwargs, model.normalisation, "+".join(tasks), training)
    base = Base(model.encoder, spec)
    if not distributed.is_first():
        return training
    save_base(base, out)
    save_decoders(
        Decoders(
            base=base.sha256,
            decoder=settings.decoder,
            width=settings.decoder_width,
            code_shape=model.code_shape,
            size=model.size,
            scaling=settings.scaling,
            networks={name: model.decoders[name] for name in model.tasks},
        ),
        decoders_path(out),
    )
    return training
