"""ImageNet-to-Sketch: five fine-grained sets at 224 pixels (Mallya et al., ECCV 2018), and Places365."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, TaskData, benchmarks, classification
from adapt.datasets.images import (
    LabelledImages,
    centre_cropped,
    class_folders,
    image_folder,
    mirrored,
    random_resized_crop,
    shorter_side,
    squashed,
)
from adapt.datasets.layout import missing
from adapt.training.files import nearest

CROPPED = ("cubs_cropped", "stanford_cars_cropped")
SETS = {
    "cubs_cropped": "test",
    "stanford_cars_cropped": "test",
    "flowers": "test",
    "wikiart": "test",
    "sketches": "test",
    "places": "val",
    "imagenet": "val",
}
"""The sets and the folder that each is tested on."""


def _row(flowers: float, wikiart: float, sketches: float, cars: float, cubs: float) -> dict[str, float]:
    """Published percentages as fractions, with their mean as `accuracy`."""
    sets = {
        "cubs_cropped": cubs,
        "stanford_cars_cropped": cars,
        "flowers": flowers,
        "wikiart": wikiart,
        "sketches": sketches,
    }
    return {"accuracy": sum(sets.values()) / 500, **{name: percent / 100 for name, percent in sets.items()}}


@dataclass(frozen=True)
class ImageNetToSketchConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        sets: in this order; the papers' five, "down" as PackNet calls this order, and also `places` and `imagenet`.
        size: pixels per side.
        test_resize: shorter side before the middle is cut out, in 224ths of `size`: 256 in the papers, 224 in TAPS's
            code.
        train_resize: whether the shorter side is 256/224 of `size` before the random crop, as in the papers; TAPS's
            code crops from the image as it is.
    """

    sets: tuple[str, ...] = ("cubs_cropped", "stanford_cars_cropped", "flowers", "wikiart", "sketches")
    size: int = 224
    test_resize: int = 256
    train_resize: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        for name in self.sets:
            if name not in SETS:
                raise ValueError(f"unknown set {name!r}{nearest(name, SETS)}; choose from {', '.join(SETS)}")
        self.require(bool(self.sets) and len(set(self.sets)) == len(self.sets), "sets", "one or more different sets")
        self.require(self.size >= 8, "size", "8 or more")
        self.require(self.test_resize >= 224, "test_resize", "224 or more")


@benchmarks.register("imagenet_to_sketch")
class ImageNetToSketch(Benchmark):
    """Classification sets of ever less natural images; no validation split exists, results are on the test split."""

    Config = ImageNetToSketchConfig
    config: ImageNetToSketchConfig
    layout = """
<folder>/
  cubs_cropped/{train,test}/<class>/*.jpg             5,994 / 5,794 images of 200 birds, cut to their boxes
  stanford_cars_cropped/{train,test}/<class>/*.jpg    8,144 / 8,041 of 196 cars, cut to their boxes
  flowers/{train,test}/<class>/*.jpg                  2,040 (train and val) / 6,149 of 102
  wikiart/{train,test}/<class>/*.jpg                  42,129 / 10,628 of 195 artists
  sketches/{train,test}/<class>/*.png                 16,000 / 4,000 of 250 (TU-Berlin)
  places/{train,val}/<class>/*.jpg                    only if named in benchmark.sets
  imagenet/{train,val}/<class>/*.JPEG                 only if named in benchmark.sets
get it: the README of github.com/arunmallya/piggyback links the five sets as archives with these folders
"""
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        # Top-1 accuracy of ResNet-50; Piggyback and PackNet ("down") from Piggyback's table, all others from TAPS's.
        "fine_tune": _row(95.73, 78.02, 81.83, 91.89, 83.61),
        "features": _row(89.14, 61.74, 65.90, 55.52, 63.46),
        "bn": _row(91.07, 70.06, 78.47, 79.41, 76.25),
        "piggyback": _row(94.77, 71.33, 79.91, 89.62, 81.59),
        "packnet": _row(93.04, 69.40, 76.17, 86.11, 80.41),
        "spottune": _row(96.34, 75.77, 80.2, 92.4, 84.03),
        "wtpb": _row(96.50, 74.8, 80.2, 91.5, 82.6),
        "ba2": _row(95.74, 72.32, 79.28, 92.14, 81.19),
        "taps": _row(96.68, 76.94, 80.74, 89.76, 82.65),
    }

    def __init__(self, config: ImageNetToSketchConfig) -> None:
        super().__init__(config)
        self.image_size = config.size

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The sets, in the order of the settings."""
        wanted = [f"{name}/{part}" for name in self.config.sets for part in ("train", SETS[name])]
        if problem := missing(data, wanted):
            raise self.absent(data, problem)
        return [self._task(data / name, SETS[name]) for name in self.config.sets]

    def _task(self, folder: Path, test: str) -> TaskData:
        classes = class_folders(folder / "train")
        if odd := sorted(set(classes) ^ set(class_folders(folder / test))):
            raise self.absent(folder, f"has the class {odd[0]!r} in only one of train and {test}")
        train, tested = image_folder(folder / "train", classes), image_folder(folder / test, classes)
        if not len(train) or not len(tested):
            raise self.absent(folder, f"has no images in the classes of train or {test}")
        size, before = self.config.size, round(self.config.size * self.config.test_resize / 224)
        if folder.name in CROPPED:
            learned = LabelledImages(train, mirrored(squashed(size)))
            judged = LabelledImages(tested, squashed(size))
        else:
            crop = random_resized_crop(size)
            smaller = shorter_side(round(size * 256 / 224))
            learned = LabelledImages(train, v2.Compose([smaller, crop]) if self.config.train_resize else crop)
            judged = LabelledImages(tested, centre_cropped(before, size))
        return classification(
            folder.name,
            learned,
            judged,
            len(classes),
            augmented=True,
            identity=f"{learned.identity} {judged.identity}",
        )
