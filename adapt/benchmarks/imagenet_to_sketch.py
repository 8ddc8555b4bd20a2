"""ImageNet-to-Sketch: five fine-grained sets at 224 pixels (Mallya et al., ECCV 2018), and Places365."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, TaskData, benchmarks
from adapt.datasets.images import Splits, Transform, class_folders, image_folder
from adapt.datasets.layout import missing
from adapt.datasets.transforms import centre_cropped, mirrored, random_resized_crop, shorter_side, squashed
from configs.settings import Different, OneOf, Range

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


PAPER = ("cubs_cropped", "stanford_cars_cropped", "flowers", "wikiart", "sketches")
"""The papers' five sets, in the order that PackNet calls "down"."""
VIT = "vit_small_patch16_224"
_TAPS_ORDER = ("flowers", "wikiart", "sketches", "stanford_cars_cropped", "cubs_cropped")
_ALL: Mapping[str, Any] = {"benchmark.size": 224}
_DOWN: Mapping[str, Any] = {**_ALL, "benchmark.sets": list(PAPER)}
_UP: Mapping[str, Any] = {**_ALL, "benchmark.sets": list(reversed(PAPER))}
_ADAM: Mapping[str, Any] = {**_ALL, "optimiser.name": "adam"}
_STEPS: Mapping[str, Any] = {**_ALL, "optimiser.schedule": "steps"}
_COSINE: Mapping[str, Any] = {**_ALL, "optimiser.schedule": "cosine"}
_MASKS: Mapping[str, Any] = {**_ALL, "adapt.norm": "frozen", "adapt.mask": "binary"}


def _taps(
    method: str,
    percent: str,
    encoder: str = "resnet50",
    settings: Mapping[str, Any] = _ALL,
    parameters: str = "",
    layers: str = "",
) -> Published:
    """A row of TAPS's tables: accuracies in percent of flowers, wikiart, sketches, cars, cubs; shares likewise."""
    scores = Published.fractions(percent, _TAPS_ORDER)
    for share, numbers in (("parameter_share", parameters), ("layer_share", layers)):
        shares = Published.fractions(numbers, _TAPS_ORDER) if numbers else {}
        scores |= {f"{name}/{share}": value for name, value in shares.items()}
    scores = {name.replace("accuracy/", ""): value for name, value in scores.items()}
    return Published("TAPS", method, scores, encoder, "imagenet", settings=settings)


def _piggyback(
    method: str, errors: str, encoder: str, settings: Mapping[str, Any] = _ALL, pretraining: str = "imagenet"
) -> Published:
    """A row of Piggyback's tables: errors in percent of cubs, cars, flowers, wikiart, sketches."""
    scores = Published.fractions(" ".join(str(100 - float(error)) for error in errors.split()), PAPER)
    return Published("Piggyback", method, scores, encoder, pretraining, settings=settings)


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

    sets: Annotated[tuple[Annotated[str, OneOf(*SETS)], ...], Different()] = PAPER
    size: Annotated[int, Range(8)] = 224
    test_resize: Annotated[int, Range(224)] = 256
    train_resize: bool = True


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
    published: ClassVar[Sequence[Published]] = (
        _piggyback("features", "36.49 54.66 20.01 49.53 58.53", "vgg16", _ADAM),
        _piggyback("features", "33.88 51.62 19.38 48.05 59.96", "vgg16_bn", _ADAM),
        _piggyback("features", "29.97 47.20 14.01 44.40 49.14", "resnet50", _ADAM),
        _piggyback("features", "26.55 43.19 16.56 45.08 46.88", "densenet121", _ADAM),
        _piggyback("packnet", "22.30 15.81 10.33 32.80 28.62", "vgg16", _DOWN),
        _piggyback("packnet", "29.69 21.66 10.25 31.48 24.88", "vgg16", _UP),
        _piggyback("packnet", "20.21 14.05 7.82 30.21 25.47", "vgg16_bn", _DOWN),
        _piggyback("packnet", "23.82 17.60 7.85 29.59 23.53", "vgg16_bn", _UP),
        _piggyback("packnet", "19.59 13.89 6.96 30.60 23.83", "resnet50", _DOWN),
        _piggyback("packnet", "28.62 19.99 9.45 29.69 21.30", "resnet50", _UP),
        _piggyback("packnet", "19.26 15.35 8.94 33.66 25.35", "densenet121", _DOWN),
        _piggyback("packnet", "30.36 22.09 8.46 30.81 21.08", "densenet121", _UP),
        _piggyback("piggyback", "20.99 11.87 7.19 29.91 22.70", "vgg16", _MASKS),
        _piggyback("piggyback", "18.37 9.87 4.84 27.50 21.41", "vgg16_bn", _MASKS),
        _piggyback("piggyback", "18.41 10.38 5.23 28.67 20.09", "resnet50", _MASKS),
        _piggyback("piggyback", "19.50 10.87 5.31 29.56 20.30", "densenet121", _MASKS),
        _piggyback("piggyback", "28.50 13.70 10.92 31.24 23.17", "resnet50", _MASKS, "places365"),
        _piggyback("piggyback", "66.24 77.79 71.17 64.74 43.75", "resnet50", _MASKS, "random"),
        _piggyback("fine_tune", "21.30 12.49 7.35 29.84 23.54", "vgg16", _STEPS),
        _piggyback("fine_tune", "19.57 9.41 4.55 26.68 21.92", "vgg16_bn", _STEPS),
        _piggyback("fine_tune", "17.17 8.17 3.44 24.40 19.22", "resnet50", _STEPS),
        _piggyback("fine_tune", "18.08 8.64 3.49 23.59 19.48", "densenet121", _STEPS),
        _taps("fine_tune", "95.73 78.02 81.83 91.89 83.61", settings=_COSINE),
        _taps("features", "89.14 61.74 65.90 55.52 63.46", settings=_COSINE),
        _taps("bn", "91.07 70.06 78.47 79.41 76.25"),
        _taps("spottune", "96.34 75.77 80.2 92.4 84.03"),
        _taps("wtpb", "96.50 74.8 80.2 91.5 82.6"),
        _taps("ba2", "95.74 72.32 79.28 92.14 81.19"),
        _taps(
            "taps",
            "96.68 76.94 80.74 89.76 82.65",
            parameters="65.50 52.82 75.87 41.85 70.61",
            layers="22.64 20.75 43.40 14.47 28.30",
        ),
        _taps("fine_tune", "95.6 77.0 81.1 89.5 82.6", "densenet121", _COSINE),
        _taps(
            "taps",
            "95.8 73.6 80.2 88.0 80.9",
            "densenet121",
            parameters="80.2 41.2 58.5 50.4 43.8",
            layers="69.4 22.5 41.1 28.3 23.9",
        ),
        _taps("fine_tune", "99.3 82.6 81.9 89.2 88.9", VIT, _COSINE),
        _taps(
            "taps",
            "99.1 82.3 82.2 88.7 88.4",
            VIT,
            parameters="41.3 30.4 24.1 26.1 41.3",
            layers="54.2 20.8 22.9 37.5 54.2",
        ),
    )

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
        return self.image_task(folder.name, Splits(train, tested, tuple(classes)), *self._transforms(folder.name))

    def _transforms(self, name: str) -> tuple[Transform, Transform]:
        size = self.config.size
        if name in CROPPED:
            return mirrored(squashed(size)), squashed(size)
        crop: Transform = random_resized_crop(size)
        if self.config.train_resize:
            crop = v2.Compose([shorter_side(round(size * 256 / 224)), crop])
        return crop, centre_cropped(round(size * self.config.test_resize / 224), size)
