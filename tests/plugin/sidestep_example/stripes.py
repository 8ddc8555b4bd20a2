"""Two tasks on drawn stripes: their direction, then their width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, TaskData, Tensors, classification
from configs.settings import Range

SIZE = 32


@dataclass(frozen=True)
class StripesConfig(BenchmarkConfig):
    """Stripes.

    Attributes:
        images: Training images of each task; half as many to test on.
    """

    images: Annotated[int, Range(2, 100_000)] = 200


class Stripes(Benchmark):
    """Horizontal or vertical, thin or wide."""

    Config = StripesConfig
    config: StripesConfig
    layout = "data/    nothing: the images are drawn"
    image_size = SIZE

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """See `Benchmark.tasks`; `data` is not read."""
        train, test = (_draw(count, seed) for count, seed in ((self.config.images, 0), (self.config.images // 2, 1)))
        made = []
        for index, name in enumerate(("direction", "width")):
            parts = [Tensors(images, labels[:, index]) for images, labels in (train, test)]
            made.append(classification(name, *parts, classes=2, identity=f"stripes {self.config.images}"))
        return made


def _draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (count, 3, SIZE, SIZE), and int64 (count, 2): whether vertical, whether wide."""
    labels = torch.randint(2, (count, 2), generator=torch.Generator().manual_seed(seed))
    at = torch.arange(SIZE).expand(count, SIZE, SIZE)
    along = torch.where(labels[:, 0, None, None] == 1, at, at.transpose(1, 2))
    dark = along // (2 + 4 * labels[:, 1, None, None]) % 2
    return (255 * dark).to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous(), labels
