"""One dataset at five input sizes, one task each (Mudrakarta et al., ICLR 2019).

All weights and the last layer are shared, only scales, biases and statistics are each size's own. `adapt.cascade` then
runs the sizes one after the other until one is sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, TaskData, benchmarks
from adapt.datasets.images import Labelled, LabelledImages, Splits, Transform, split
from adapt.datasets.own import find_set
from adapt.datasets.transforms import centre_cropped, random_resized_crop
from configs.settings import OpenShare, Range


@dataclass(frozen=True)
class ResolutionsConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        sizes: pixels per side of each task, ascending.
        share_readout: whether all sizes have one last layer, as in the paper.
        smallest_crop: smallest part of the area that a random crop for training takes.
        held_out: share of each class's training images that is kept from training, for the cascade's thresholds.
        test_share: of each class's images that test, where the dataset has no test images of its own.
        seed: of these splits.
    """

    sizes: tuple[int, ...] = (96, 128, 160, 192, 224)
    share_readout: bool = True
    smallest_crop: Annotated[float, Range(0, 1, above=True)] = 0.08
    held_out: OpenShare = 0.1
    test_share: OpenShare = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        ascending = list(self.sizes) == sorted(set(self.sizes))
        self.require(bool(self.sizes) and ascending and self.sizes[0] >= 8, "sizes", "8 or more each, ascending")


SIZES = (96, 128, 160, 192, 224)


def _row(method: str, percent: str, protocol: str, settings: Mapping[str, Any]) -> Published:
    """A published row: accuracies in percent at the five sizes."""
    conditions = {"benchmark.sizes": list(SIZES), **settings}
    scores = Published.fractions(percent, [f"size{size}" for size in SIZES])
    return Published("Model patches, Table 4", method, scores, "mobilenet_v2", "imagenet", protocol, conditions)


@benchmarks.register("resolutions")
class Resolutions(Benchmark):
    """One classification task per input size, for `protocol=joint adapt=patch adapt.joint=true`."""

    Config = ResolutionsConfig
    config: ResolutionsConfig
    layout = """
<folder>/{train,val}/<class>/*.jpg     (or test for val)
or <folder>/<class>/*.jpg, split 70:30 by seed
or one npz of images (x, or payload and shape, or blob and offset) with y, and is_test if it is split
get it: https://image-net.org (ILSVRC 2012), one folder per class
"""
    published: ClassVar[Sequence[Published]] = (
        # MobileNetV2 on ImageNet: private scales and biases; all shared; five independent networks.
        _row("patch", "60.3 66.3 69.5 71.0 71.8", "joint", {"adapt.joint": True, "adapt.norm": "trained"}),
        _row("patch", "52.6 62.4 67.2 69.4 70.6", "joint", {"adapt.joint": True, "adapt.norm": "frozen"}),
        _row("fine_tune", "52.6 62.4 67.2 69.4 70.6", "joint", {"adapt.shared": True}),
        _row("fine_tune", "60.3 65.3 68.8 70.7 71.8", "single", {"adapt.shared": False}),
    )

    def __init__(self, config: ResolutionsConfig) -> None:
        super().__init__(config)
        self.image_size = config.sizes[-1]
        self.shared_readout = config.share_readout

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """One task per size, `size<pixels>`, the smallest first."""
        splits, _ = self._splits(data)
        return [self._task(size, splits) for size in self.config.sizes]

    def held_out(self, data: Path) -> list[LabelledImages]:
        """The held-out examples at each size."""
        _, held = self._splits(data)
        return [LabelledImages(held, self._test_transform(size)) for size in self.config.sizes]

    def _splits(self, data: Path) -> tuple[Splits, Labelled]:
        """What trains and tests, and what is held out."""
        if not data.exists():
            raise self.absent(data)
        try:
            whole = find_set(data, self.config.test_share, self.config.seed)
        except ValueError as error:
            raise self.absent(data, f"does not fit ({error})") from error
        if not len(whole.train) or not len(whole.test):
            raise self.absent(data, "has no images to train on or to test on")
        parts = split(whole.train, whole.classes, self.config.held_out, self.config.seed)
        if not len(np.unique(parts.test.labels)):
            raise self.absent(data, "has too few images to hold some out; raise benchmark.held_out")
        return Splits(parts.train, whole.test, whole.classes), parts.test

    def _test_transform(self, size: int) -> Transform:
        return centre_cropped(round(size * 256 / 224), size)

    def _task(self, size: int, splits: Splits) -> TaskData:
        train, test = random_resized_crop(size, self.config.smallest_crop), self._test_transform(size)
        return self.image_task(f"size{size}", splits, train, test)
