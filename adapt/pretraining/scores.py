"""Evaluation metrics of the Taskonomy tasks, relative to the best constant prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from adapt.core.base import Base, Normalisation
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import Decoders
from adapt.pretraining.tasks import SEMANTIC_WEIGHTS, Labels, TaskonomyTask, add_noise, find_task

BATCH = 64  # Views evaluated at once.
CONSTANT_SAMPLE = 512  # Views of which constant predictions are made.


def wanted_domains(tasks: Sequence[str]) -> list[str]:
    """Folders of a dataset that training on these tasks reads."""
    return list(dict.fromkeys(["rgb", *(d for name in tasks for d in find_task(name).domains())]))


def network_input(
    rgb: Tensor, normalisation: Normalisation, noisy: bool, generator: torch.Generator | None = None
) -> Tensor:
    """Normalised float images of uint8 ones (B,3,H,W), with the denoising task's noise if asked for."""
    if not noisy:
        return normalisation(rgb)
    images = add_noise(rgb.float() / 255.0, generator)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (normalisation.mean, normalisation.std))
    return (images - mean) / std


def label_statistics(
    task: TaskonomyTask, views: TaskonomyViews, scaling: str, size: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The best prediction that ignores the image, and how far labels spread about it.

    Args:
        task: The task.
        views: Training views; 512 of them are read.
        scaling: Out of `adapt.pretraining.tasks.SCALINGS`.
        size: Pixels per side of the labels.
        seed: Chooses those views.

    Returns:
        For images (1,C,1,1) each: per channel the median (L1) or mean (L2) over valid pixels, and the standard
        deviation. For segmentation (1,C,1,1) and classification (1,C): the logarithm of the mean probabilities,
        weighted as the loss is, and ones.
    """
    rng = np.random.default_rng(seed)
    return statistics_of(task, views.batch(rng.permutation(len(views))[:CONSTANT_SAMPLE]), scaling, size)


def statistics_of(task: TaskonomyTask, labels: Labels, scaling: str, size: int) -> tuple[Tensor, Tensor]:
    """`label_statistics` of a batch of stored labels."""
    if task.kind == "classification":
        best = task.target(labels, scaling).mean(0, keepdim=True).clamp(min=1e-9).log()
        return best, torch.ones_like(best)
    if task.kind == "segmentation":
        target = task.class_target(labels, scaling, size)
        counts = torch.bincount(target[target >= 0], minlength=task.classes(scaling)).float()
        if scaling == "taskonomy":
            counts *= torch.tensor(SEMANTIC_WEIGHTS)
        best = (counts / counts.sum()).clamp(min=1e-9).log().view(1, -1, 1, 1)
        return best, torch.ones_like(best)
    target, mask = task.image_target(labels, scaling, size)
    pixels = target.movedim(1, -1)[mask[:, 0] > 0]
    best = pixels.median(0).values if task.kind == "l1" else pixels.mean(0)
    return best.view(1, -1, 1, 1), pixels.std(0).clamp(min=1e-3).view(1, -1, 1, 1)


def batches(views: TaskonomyViews, size: int) -> Iterator[dict[str, Tensor]]:
    """All views in order, about `size` at a time."""
    for indices in np.array_split(np.arange(len(views)), max(1, len(views) // size)):
        yield views.batch(indices)


class Tally:
    """Sums up how a task's outputs compare with the constant prediction.

    Args:
        task: The task.
        constant: Its constant prediction, as `label_statistics` gives it.
        scaling: Out of `adapt.pretraining.tasks.SCALINGS`.
    """

    def __init__(self, task: TaskonomyTask, constant: Tensor, scaling: str) -> None:
        self.task, self.constant, self.scaling = task, constant.cpu(), scaling
        self._views = 0
        self._losses = np.zeros(2)
        # Of every valid pixel of image labels: target and output, as differences from the constant.
        self._pixels: list[tuple[Tensor, Tensor]] = []
        # Per class: occurrences, correct predictions, and correct constant predictions.
        self._counts = np.zeros((3, task.classes(scaling)))

    def add(self, output: Tensor, labels: Labels) -> None:
        """Count a batch: outputs (B,C,S,S) or (B,C) and the stored labels."""
        fixed = self.constant.expand_as(output)
        views = len(output)
        self._views += views
        self._losses += [views * float(self.task.loss(guess, labels, self.scaling)) for guess in (output, fixed)]
        if self.task.kind not in ("segmentation", "classification"):
            target, mask = self.task.image_target(labels, self.scaling, output.shape[-1])
            valid = mask[:, 0] > 0.0
            pair = ((image - fixed).movedim(1, -1)[valid] for image in (target, output))
            self._pixels.append((next(pair), next(pair)))
            return
        if self.task.kind == "segmentation":
            target = self.task.class_target(labels, self.scaling, output.shape[-1])
        else:
            target = self.task.target(labels, self.scaling)
            # A uniform vector says that there is nothing to tell.
            target = torch.where(target.amax(1) > target.amin(1), target.argmax(1), -1)
        counted = [target, *(torch.where(guess.argmax(1) == target, target, -1) for guess in (output, fixed))]
        for counts, classes in zip(self._counts, counted, strict=True):
            counts += np.bincount(classes[classes >= 0].numpy().ravel(), minlength=len(counts))

    def scores(self) -> dict[str, float]:
        """``loss``, ``constant`` (the constant prediction's loss) and ``ratio`` = constant / loss.

        For images also ``correlation`` of labels and outputs over pixels and channels, and ``precision``, how well
        edges are found: the average precision with which an output's distance from the constant prediction tells the
        pixels whose label lies further from it than the root mean square of all do; ``edges`` is the share of these
        pixels, which is the precision of chance.

        For classes also ``accuracy``, ``constant_accuracy``, ``recall`` (the mean over the classes that occur of the
        recall) and ``chance``, what any constant prediction has as recall.
        """
        loss, constant = self._losses / self._views
        scores = {"loss": loss, "constant": constant, "ratio": constant / loss}
        if self._pixels:
            target, output = (torch.cat(part) for part in zip(*self._pixels, strict=True))
            scores |= {
                "correlation": correlation(target, output),
                **edge_precision(target.norm(dim=1), output.norm(dim=1)),
            }
        occur, right, constant_right = self._counts
        if occur.any():
            present = occur > 0
            scores |= {
                "accuracy": right.sum() / occur.sum(),
                "constant_accuracy": constant_right.sum() / occur.sum(),
                "recall": (right[present] / occur[present]).mean(),
                "chance": 1.0 / present.sum(),
            }
        return {name: float(value) for name, value in scores.items()}


def score_lines(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Scores by name as lines of text."""
    return [f"{name}: {', '.join(f'{key} {value:.4f}' for key, value in one.items())}" for name, one in scores.items()]


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of all values of two tensors of one shape; 0 where one is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt().clamp(min=1e-12))


def edge_precision(label: Tensor, output: Tensor) -> dict[str, float]:
    """Average precision of the detection of large values (edges, keypoints).

    Args:
        label: (N,) magnitudes, at least 0; those above their root mean square are to be found.
        output: (N,) magnitudes by which they are looked for.

    Returns:
        ``precision``, the mean over the values to be found of the share of such ones among all outputs that are at
        least as large; ``edges``, the share of values to be found.
    """
    hits = (label > (label.double() ** 2).mean().sqrt())[output.argsort(descending=True, stable=True)].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return {"precision": float((precision * hits).sum() / hits.sum().clamp(min=1.0)), "edges": float(hits.mean())}


@torch.no_grad()
def evaluate_base(base: Base, decoders: Decoders, views: TaskonomyViews) -> dict[str, dict[str, float]]:
    """Evaluate decoded features.

    Args:
        base: An encoder.
        decoders: Its decoders, or those of the base that it was distilled from.
        views: Views with the labels of all tasks of the decoders.

    Returns:
        Per task what `Tally.scores` gives.
    """
    generator = torch.Generator().manual_seed(0)
    tasks = {name: find_task(name) for name in decoders.networks}
    noisy = any(task.noisy for task in tasks.values())
    tallies = {name: Tally(task, decoders[name].constant.cpu(), decoders.scaling) for name, task in tasks.items()}
    device = next(base.parameters()).device
    for labels in batches(views, BATCH):
        code = base.encoder(network_input(labels["rgb"], base.spec.normalisation, noisy, generator).to(device))
        for name, tally in tallies.items():
            tally.add(decoders[name](code).cpu(), labels)
    return {name: tally.scores() for name, tally in tallies.items()}
