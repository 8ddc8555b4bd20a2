"""Decoders trained on the codes of a frozen encoder.

Codes are computed once, so that training costs the decoders alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from adapt.core.base import Base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import (
    Decoders,
    DecoderTraining,
    TaskDecoder,
    task_decoder,
)
from adapt.pretraining.distillation import CLIP, one_cycle
from adapt.pretraining.scores import Tally, label_statistics, network_input, wanted_domains
from adapt.pretraining.tasks import Labels, find_task
from adapt.training.device import has_bfloat16
from adapt.training.finite import check_finite, clip_finite
from configs.settings import Pixels, Positive, Range

BATCH = 64


@dataclass(frozen=True)
class ReadoutSettings(DecoderTraining):
    """Settings of the training of decoders.

    Attributes:
        label_size: Pixels per side of the decoded labels.
    """

    label_size: Pixels = 16
    steps: Annotated[int, Range(2)] = 1000
    lr: Positive = 5e-3


@torch.no_grad()
def compute_codes(base: Base, rgb: Tensor, noisy: bool = False, seed: int = 0) -> Tensor:
    """Codes (N,C,h,w) float32 of uint8 images (N,3,H,W), with the denoising task's noise on them if asked for."""
    generator = torch.Generator().manual_seed(seed)
    device = torch.device("cpu")
    codes = []
    for part in rgb.split(BATCH):
        images = network_input(part, base.spec.normalisation, noisy, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            codes.append(base.encoder(images.to(memory_format=torch.channels_last)).float())
    return torch.cat(codes)


def fit_readout(
    task: str, codes: Tensor, labels: Labels, decoder: TaskDecoder, settings: ReadoutSettings
) -> TaskDecoder:
    """Train a decoder of a task.

    Args:
        task: Its name.
        codes: (N,C,h,w).
        labels: The stored labels of the same N views.
        decoder: What is trained, with the task's constant prediction.
        settings: How.

    Returns:
        The decoder in eval mode, its weights rounded to half precision, without gradients.

    Raises:
        NotFinite: Codes, labels, loss, gradient or the trained weights are.
    """
    job = find_task(task)
    domains = job.domains()
    optimiser, schedule = one_cycle(decoder.parameters(), settings.lr, settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    decoder.train()
    for step in range(settings.steps):
        chosen = torch.randint(len(codes), (settings.batch,), generator=generator)
        output = decoder(codes[chosen])
        part = {domain: labels[domain][chosen] for domain in domains}
        fixed = decoder.constant.expand_as(output)
        scale = job.loss(fixed, part, settings.scaling).clamp(min=1e-6)
        optimiser.zero_grad()
        loss = job.loss(output, part, settings.scaling) / scale
        loss.backward()
        at, data = f"{task}: update {step + 1} of {settings.steps}", {"the codes": codes[chosen], **part}
        clip_finite(at, loss, decoder.parameters(), CLIP, partial(dict, data))
        optimiser.step()
        schedule.step()
    decoder.network.half().float()
    check_finite(decoder.state_dict(), f"{task}: in half precision the decoder's weight")
    return decoder.eval().requires_grad_(False)


def make_decoder(task: str, code_shape: Sequence[int], views: TaskonomyViews, settings: ReadoutSettings) -> TaskDecoder:
    """An untrained decoder of a task that answers near the constant prediction of these views' labels."""
    job, size = find_task(task), settings.label_size
    statistics = label_statistics(job, views, settings.scaling, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder, scaling, width = settings.decoder, settings.scaling, settings.decoder_width
        return task_decoder(job, code_shape, statistics, decoder, scaling, size, width)


@torch.no_grad()
def decode_and_score(task: str, decoder: TaskDecoder, codes: Tensor, labels: Labels, scaling: str) -> dict[str, float]:
    """Scores (`adapt.pretraining.scores.Tally.scores`) of the decoded codes of views with these labels."""
    job = find_task(task)
    tally = Tally(job, decoder.constant, scaling)
    for chosen in torch.arange(len(codes)).split(BATCH):
        tally.add(decoder(codes[chosen]), {domain: labels[domain][chosen] for domain in job.domains()})
    return tally.scores()


def make_readouts(
    base: Base,
    tasks: Sequence[str],
    data: Sequence[str],
    val: Sequence[str],
    settings: ReadoutSettings,
    size: int | None,
) -> tuple[Decoders, dict[str, dict[str, float]]]:
    """Train decoders of several tasks on a frozen base.

    Args:
        base: The base.
        tasks: Names of tasks.
        data: Datasets to train on.
        val: Datasets to validate on.
        settings: How to train.
        size: Pixels per side of the images; as stored when None.

    Returns:
        The decoders and per task their scores.
    """
    networks, scores = {}, {}
    sha256 = base.sha256
    base = base.to(memory_format=torch.channels_last)
    for name in tasks:
        domains = wanted_domains([name])
        views = TaskonomyViews(data, domains, size)
        held_out = TaskonomyViews(val, domains, views.size)
        decoder = make_decoder(name, base.feature_shape(views.size), views, settings)
        noisy = find_task(name).noisy
        labels, held_labels = (v.batch(np.arange(len(v))) for v in (views, held_out))
        codes, held_codes = (compute_codes(base, part["rgb"], noisy) for part in (labels, held_labels))
        networks[name] = fit_readout(name, codes, labels, decoder, settings)
        scores[name] = decode_and_score(name, networks[name], held_codes, held_labels, settings.scaling)
    decoders = Decoders(
        base=sha256,
        decoder=settings.decoder,
        width=settings.decoder_width,
        code_shape=base.feature_shape(views.size),
        size=settings.label_size,
        scaling=settings.scaling,
        networks=networks,
    )
    return decoders, scores
