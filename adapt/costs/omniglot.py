"""A small benchmark of all methods: ten-character Omniglot classification, accuracy and training time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.core.base import Base
from adapt.core.decoding import read_npz, whole_numbers
from adapt.core.method import Incompatible, list_methods
from adapt.core.model import Adapted, wrap
from adapt.training.finite import clip_finite

CHARACTERS, SIZE, DRAWERS = 10, 32, 15
HEAD_RATE, RATE = 1e-3, 1e-3
# Masks are real numbers of the size 1e-2, which Piggyback trains with 1e-4.
RATES = {"piggyback": 1e-4}
# AdaShare's policy is searched first, then the network is trained with it; PackNet re-trains after pruning.
SETTINGS: dict[str, dict[str, Any]] = {"adashare": {"search_samples": 480}, "packnet": {"retrain_epochs": 2}}


class OmniglotTask(NamedTuple):
    """A classification: uint8 images (N,3,32,32) and labels (N,), for training and for testing."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


def read_omniglot(path: str | Path) -> OmniglotTask:
    """The first 10 characters of a packed Omniglot file; 15 drawers train, the other 5 test.

    Args:
        path: an npz with `bits` (N, bytes; images packed along the last axis), `shape` (N,105,105), `y` and `drawer`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}: give the npz of packed Omniglot characters")
    members = read_npz(Path(path))
    if missing := {"bits", "shape", "y", "drawer"} - set(members):
        raise ValueError(f"{path} is no packed Omniglot file: {', '.join(sorted(missing))} missing")
    bits = members["bits"]
    count, height, width = whole_numbers(members, "shape", Path(path), 3, 2**31)
    if bits.dtype != np.uint8 or bits.ndim != 2 or len(bits) != count or 8 * bits.shape[1] < height * width:
        raise ValueError(f"{path}: bits must be the packed bits of {count} images, they are {bits.dtype}{bits.shape}")
    labels, drawers = (whole_numbers(members, name, Path(path), count) for name in ("y", "drawer"))
    ink = np.unpackbits(bits, axis=1)[:, : height * width].reshape(count, height, width)
    chosen = labels < CHARACTERS
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(ink[chosen]).float()[:, None], SIZE)
    images = (255 * pooled).byte().expand(-1, 3, -1, -1).contiguous()
    targets = torch.from_numpy(labels[chosen].astype(np.int64))
    train = torch.from_numpy(drawers[chosen] <= DRAWERS)
    return OmniglotTask(images[train], targets[train], images[~train], targets[~train])


def vectors(features: Tensor) -> Tensor:
    """Features (B,C,h,w) or (B,C) as (B,C)."""
    return features.flatten(2).mean(2) if features.ndim > 2 else features


def batches(task: OmniglotTask, epochs: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled training batches."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(task.labels), generator=generator).split(size):
            yield task.images[chosen], task.labels[chosen]


def accuracy(adapted: Adapted, head: nn.Module, task: OmniglotTask) -> float:
    """Share of test images that are classified right."""
    adapted.eval()
    with torch.no_grad():
        scores = head(vectors(adapted(task.test_images)))
    return float((scores.argmax(1) == task.test_labels).float().mean())


def train(adapted: Adapted, task: OmniglotTask, epochs: int = 10, batch: int = 16, seed: int = 0) -> float:
    """Train the active task and a linear head on the mean of its features with Adam; gives the test accuracy."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.LayerNorm(adapted.output_shape[0]), nn.Linear(adapted.output_shape[0], task.classes))

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(head(vectors(features)), labels)

    own, parts = adapted.trainable(), list(head.parameters())
    groups: list[dict[str, Any]] = [{"params": parts, "lr": HEAD_RATE}]
    if own:
        groups.append({"params": own, "lr": RATES.get(adapted.method().name(), RATE)})
    optimiser = torch.optim.Adam(groups)
    adapted.train()
    adapted.begin_task()
    seen = 0
    for images, labels in batches(task, epochs, batch, seed):
        optimiser.zero_grad()
        value = loss(adapted(images), labels) + adapted.penalty()
        value.backward()
        clip_finite(f"after {seen} images", value, [*parts, *own])
        optimiser.step()
        seen += len(labels)
        adapted.advance(len(labels))
    adapted.end_task(list(batches(task, 1, batch, seed)), loss)
    return accuracy(adapted, head, task)


def results(base: Base, task: OmniglotTask, methods: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Train each method (by default all) with its default settings, or those of `SETTINGS`; one row each.

    Returns:
        method, trainable_parameters, stored_bytes, accuracy, chance, seconds; or `refused`, the reason.
    """
    for method in methods or list_methods():
        try:
            adapted = wrap(base, method, "omniglot", SIZE, **SETTINGS.get(method, {}))
        except Incompatible as refusal:
            yield {"method": method, "refused": str(refusal)}
            continue
        start = time.perf_counter()
        reached = train(adapted, task)
        seconds = time.perf_counter() - start
        budget = adapted.budget()
        yield {
            "method": method,
            "trainable_parameters": budget.trainable_parameters,
            "stored_bytes": budget.stored_bits // 8,
            "accuracy": reached,
            "chance": 1 / task.classes,
            "seconds": round(seconds, 1),
        }


def as_markdown(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines of a Markdown table, as the rows come."""
    yield "| method | trainable parameters | stored KiB | test accuracy | chance | seconds |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in rows:
        if "refused" in row:
            yield f"| {row['method']} | refused: {row['refused']} |||||"
            continue
        counts = f"{row['trainable_parameters']:,} | {row['stored_bytes'] / 1024:,.1f}"
        yield f"| {row['method']} | {counts} | {row['accuracy']:.1%} | {row['chance']:.1%} | {row['seconds']:.0f} |"
