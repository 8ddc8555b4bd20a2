"""Images of one's own: every labelled set that lies at `data`, in class folders, archives or arrays, is a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from torch import nn
from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, TaskData, benchmarks
from adapt.core.checkpoint import as_task_name
from adapt.datasets.images import Labelled, Splits, image_size
from adapt.datasets.own import LAYOUT, find_sets
from adapt.datasets.transforms import centre_cropped, random_resized_crop, squashed
from configs.settings import OneOf, OpenShare, Range, Seed, Whole

SMALLEST, LARGEST, STEP = 64, 224, 32
LOOKED_AT = 100


@dataclass(frozen=True)
class ImagesConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        size: pixels per side of what the network sees; 0: the middle shorter side of the images (of a hundred of them),
            rounded to a multiple of 32, at least 64 and at most 224.
        fit: "crop": the shorter side becomes `size` and the middle is taken; "squash": both sides become `size`.
        crop: of training images: "centre", as for testing, so that the features of a frozen base are computed once; or
            "random": a part of at least `smallest_crop` of the area.
        smallest_crop: share of the area.
        flip: whether training images are mirrored half of the time.
        classes: take only so many classes, the first by name; 0: all.
        test_share: of each class's images that test, where a set has no test images of its own.
        seed: of that split.
    """

    size: Annotated[int, Range(0, 4096)] = 0
    fit: Annotated[str, OneOf("crop", "squash")] = "crop"
    crop: Annotated[str, OneOf("centre", "random")] = "centre"
    smallest_crop: Annotated[float, Range(0, 1, above=True)] = 0.3
    flip: bool = False
    classes: Whole = 0
    test_share: OpenShare = 0.2
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(self.size == 0 or self.size >= 8, "size", "0 (chosen by the images) or 8 or more")
        self.require(self.classes != 1, "classes", "0 (all) or 2 or more")


@benchmarks.register("images")
class Images(Benchmark):
    """One classification task per set; all are seen at one size."""

    Config = ImagesConfig
    config: ImagesConfig
    layout = LAYOUT
    image_size = LARGEST

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The sets in the order of their names."""
        try:
            sets = find_sets(data, self.config.test_share, self.config.seed)
        except FileNotFoundError as error:
            raise self.absent(data, str(error).removeprefix(f"{data} ")) from error
        sets = {name: first_classes(splits, self.config.classes) for name, splits in sorted(sets.items())}
        for name, splits in sets.items():
            self._check(data, name, splits)
        names = {name: as_task_name(name) for name in sets}
        if len(set(names.values())) < len(names):
            alike = next(name for name in names if [*names.values()].count(names[name]) > 1)
            raise ValueError(f"two sets of {data} would be the task {names[alike]}; rename {alike}")
        self.image_size = self.config.size or chosen_size([splits.train for splits in sets.values()])
        return [self._task(names[name], splits) for name, splits in sets.items()]

    def _check(self, data: Path, name: str, splits: Splits) -> None:
        """Refuse a set that nothing can be learned from or tested on."""
        if not len(splits.train) or not len(splits.test):
            shares = f"benchmark.test_share={self.config.test_share:g} of each class's images test"
            raise self.absent(data, f"has no images to train on, or none to test on, in {name} ({shares})")
        if len(splits.classes) < 2:
            raise ValueError(f"{name} has the class {splits.classes[0]!r} alone; there is nothing to tell apart")

    def _task(self, name: str, splits: Splits) -> TaskData:
        plain = self._plain()
        steps = [random_resized_crop(self.image_size, self.config.smallest_crop, mirror=False), plain]
        train: list[nn.Module] = [steps[self.config.crop == "centre"]]
        if self.config.flip:
            train.append(v2.RandomHorizontalFlip())
        augmented = self.config.flip or self.config.crop == "random"
        transform = v2.Compose(train) if augmented else plain
        return self.image_task(name, splits, transform, plain, upright=True, augmented=augmented)

    def _plain(self) -> nn.Module:
        size = self.image_size
        return v2.Compose([squashed(size)]) if self.config.fit == "squash" else centre_cropped(size, size)


def first_classes(splits: Splits, count: int) -> Splits:
    """Only the images of the first `count` classes; all if 0."""
    if not count:
        return splits
    parts = [part.take(np.flatnonzero(part.labels < count)) for part in (splits.train, splits.test)]
    return replace(splits, train=parts[0], test=parts[1], classes=splits.classes[:count])


def chosen_size(sources: Sequence[Labelled]) -> int:
    """A size for images of these: their middle shorter side, within limits.

    Raises:
        ValueError: an image cannot be decoded.
    """
    sides = []
    for source in sources:
        for index in np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(int):
            sides.append(min(image_size(source.images[index])))
    middle = STEP * round(float(np.median(sides)) / STEP)
    return int(min(LARGEST, max(SMALLEST, middle)))
