"""The Visual Decathlon: ten classification sets at 72 pixels (Rebuffi et al., NIPS 2017 and CVPR 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, TaskData, benchmarks
from adapt.datasets.decathlon import BASELINES, SETS, decathlon_score, read_annotations
from adapt.datasets.images import Splits, Transform
from adapt.datasets.layout import missing
from adapt.datasets.transforms import centre_cropped, mirrored, random_crop, shorter_side
from configs.settings import Different, OneOf, Share

RESIZE, CROP = 72, 64
PEDESTRIANS = "daimlerpedcls"


@dataclass(frozen=True)
class DecathlonConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        sets: which of the ten sets, in this order.
        train: "train", or "trainval", as SpotTune and TAPS do.
        test: "val", or "test" for the published test labels (labels_test.zip).
        pedestrians: "crop" as Residual Adapters, which discards more than half of each pedestrian; "whole" as SpotTune.
        normalisation: "set", each with its own statistics, as in the released code; "base", the base's.
        weight_decay: "residual_adapters" or "spottune", each set its own; "optimiser", the same for all.
        imagenet_accuracy: that of the base on ImageNet, in 0..1, for the score where `imagenet12` is not among `sets`.
        baseline: what the score is relative to; "nips17" in all publications.
    """

    sets: Annotated[tuple[Annotated[str, OneOf(*SETS)], ...], Different()] = tuple(SETS)
    train: Annotated[str, OneOf("train", "trainval")] = "train"
    test: Annotated[str, OneOf("val", "test")] = "val"
    pedestrians: Annotated[str, OneOf("crop", "whole")] = "crop"
    normalisation: Annotated[str, OneOf("set", "base")] = "set"
    weight_decay: Annotated[str, OneOf("residual_adapters", "spottune", "optimiser")] = "residual_adapters"
    imagenet_accuracy: Share | None = None
    baseline: Annotated[str, OneOf(*BASELINES)] = "nips17"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(self.train == "train" or self.test == "test", "test", "test where train=trainval")


TEST = {"benchmark.test": "test"}
BOTH = {"benchmark.test": "test", "benchmark.train": "trainval"}


def _row(
    source: str, method: str, score: int, percent: str, settings: Mapping[str, Any], encoder: str = "resnet26"
) -> Published:
    """A published row: accuracies in the order of `SETS`, in percent, and the decathlon score."""
    scores = {**Published.fractions(percent, SETS), "s_score": score}
    return Published(source, method, scores, encoder, settings=settings)


def _adapters(
    score: int, percent: str, kind: str = "parallel", at: str = "all", rank: float = 0.0, shared: bool = False
) -> Published:
    placed = {"adapt.kind": kind, "adapt.placement": at, "adapt.rank": rank, "adapt.shared": shared}
    placed |= {"adapt.init": "he", "adapt.dropout": 0.0, "adapt.norm": "trained"}
    return _row("Rebuffi 2018", "residual_adapter", score, percent, {**TEST, **placed})


def _sparse(strength: float) -> dict[str, Any]:
    return {**BOTH, "adapt.sparsity": strength}


@benchmarks.register("decathlon")
class Decathlon(Benchmark):
    """Ten tasks, of 2 to 1623 classes."""

    Config = DecathlonConfig
    config: DecathlonConfig
    image_size = CROP
    layout = """
decathlon-1.0/                         (give this folder, or the one that holds it)
  annotations/<set>_train.json         COCO format: images, annotations, categories
  annotations/<set>_val.json
  annotations/<set>_test.json          only for benchmark.test=test: labels_test.zip
  data/<set>/train/<class>/*.jpg
  data/<set>/val/<class>/*.jpg
  data/<set>/test/*.jpg                only for benchmark.test=test
sets: imagenet12 aircraft cifar100 daimlerpedcls dtd gtsrb vgg-flowers omniglot svhn ucf101
get it: https://www.robots.ox.ac.uk/~vgg/decathlon (annotations and data; imagenet12 needs a registration, leave it out
with benchmark.sets); labels_test.zip is in github.com/srebuffi/residual_adapters; unpack everything in one folder
"""
    published: ClassVar[Sequence[Published]] = (
        _row("Rebuffi 2017", "scratch", 1625, "59.87 57.10 75.73 91.20 37.77 96.55 56.30 88.74 96.63 43.27", TEST),
        _row("Rebuffi 2017", "features", 544, "59.67 23.31 63.11 80.33 45.37 68.16 73.69 58.79 43.54 26.80", TEST),
        _row("Rebuffi 2018", "fine_tune", 3096, "60.32 60.34 82.12 92.82 55.53 99.42 81.41 89.12 96.55 51.20", TEST),
        _adapters(3159, "60.32 61.87 81.22 93.88 57.13 99.27 81.67 89.62 96.57 50.12", kind="series"),
        _adapters(3412, "60.32 64.21 81.91 94.73 58.83 99.38 84.68 89.21 96.54 50.94"),
        _adapters(2610, "60.32 50.47 78.58 93.26 58.46 99.00 82.27 87.68 95.39 47.77", at="early"),
        _adapters(2852, "60.32 57.88 79.25 94.24 56.65 98.85 83.43 88.47 95.96 48.98", at="mid"),
        _adapters(3159, "60.32 61.06 80.58 94.02 57.87 99.19 84.68 89.06 96.30 50.94", at="late"),
        _adapters(3061, "60.32 61.15 81.24 94.36 58.40 98.85 84.76 88.69 96.19 49.99", at="half"),
        _adapters(3398, "60.32 66.04 81.86 94.23 57.82 99.24 85.74 89.25 96.62 52.50", rank=0.5, shared=True),
        _row(
            "Rosenfeld 2018",
            "dan",
            2851,
            "57.74 64.12 80.07 91.30 56.54 98.46 86.05 89.67 96.77 49.38",
            TEST,
            "wrn28_4",
        ),
        _row(
            "Piggyback",
            "piggyback",
            2838,
            "57.69 65.29 79.87 96.99 57.45 97.27 79.09 87.63 97.24 47.48",
            TEST,
            "wrn28_4",
        ),
        _row("TAPS", "wtpb", 3497, "60.8 52.8 82.0 96.2 58.7 99.2 88.2 89.2 96.8 48.6", TEST),
        _row("TAPS", "ba2", 3199, "56.9 49.9 78.1 95.5 55.1 99.4 86.1 88.7 96.9 50.2", TEST),
        _row("TAPS", "spottune", 3612, "60.32 63.9 80.5 96.5 57.1 99.5 85.2 88.8 96.7 52.3", BOTH),
        _row("TAPS", "taps", 3533, "60.32 66.58 81.76 97.07 58.83 99.07 86.99 88.79 95.72 51.92", _sparse(0.25)),
        _row("TAPS", "taps", 3180, "60.32 62.05 81.74 97.13 57.02 98.40 85.80 88.96 95.62 49.06", _sparse(0.5)),
        _row("TAPS", "taps", 3096, "60.32 62.62 81.07 95.77 57.34 98.61 85.67 89.00 95.65 49.56", _sparse(0.75)),
        _row("TAPS", "taps", 3088, "60.32 63.43 81.04 96.99 58.19 98.38 84.08 89.16 94.99 51.10", _sparse(1.0)),
    )

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The sets, in the order of the settings."""
        root = data / "decathlon-1.0" if (data / "decathlon-1.0").is_dir() else data
        splits = [self.config.test, *self._training_splits()]
        wanted = [f"annotations/{name}_{split}.json" for name in self.config.sets for split in splits]
        if problem := missing(root, [*wanted, *(f"data/{name}" for name in self.config.sets)]):
            raise self.absent(root, problem)
        return [self._task(root, name) for name in self.config.sets]

    def _training_splits(self) -> tuple[str, ...]:
        return ("train", "val") if self.config.train == "trainval" else ("train",)

    def _task(self, root: Path, name: str) -> TaskData:
        parts = {s: read_annotations(root, name, s) for s in (*self._training_splits(), self.config.test)}
        train, classes = parts["train"]
        for split, (_, others) in parts.items():
            if others != classes:
                raise ValueError(f"{root}/annotations: {name}_train and {name}_{split} have different categories")
        if self.config.train == "trainval":
            train = train + parts["val"][0]
        first, last = train.images[0], parts[self.config.test][0].images[0]
        for path in (first, last):
            if not Path(path).is_file():
                raise self.absent(Path(path))
        each = SETS[name]
        decays = {"residual_adapters": each.decay, "spottune": each.spottune_decay, "optimiser": None}
        return self.image_task(
            name,
            Splits(train, parts[self.config.test][0], classes),
            *transforms(name, self.config.pedestrians),
            augmented=not each.whole,
            normalisation=each.normalisation if self.config.normalisation == "set" else None,
            weight_decay=decays[self.config.weight_decay],
        )

    def summarise(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The decathlon score: `s_score` if all ten sets count, else the sum over n sets as `s_score_of_<n>`."""
        accuracies = {name: score["accuracy"] for name, score in scores.items()}
        if self.config.imagenet_accuracy is not None:
            accuracies.setdefault("imagenet12", self.config.imagenet_accuracy)
        total = decathlon_score(accuracies, self.config.baseline)
        return {"s_score" if len(accuracies) == len(SETS) else f"s_score_of_{len(accuracies)}": total}


def transforms(name: str, pedestrians: str = "crop") -> tuple[Transform, Transform]:
    """Training and test transforms of a set, as in the released code of Residual Adapters.

    Random 64 pixels out of 72, mirrored or not, and the middle 64; signs, characters and digits are always all 72
    pixels and never mirrored.

    Args:
        name: of the set.
        pedestrians: "crop", or "whole" for all of a pedestrian's 72x144 pixels.
    """
    if SETS[name].whole:
        return centre_cropped(RESIZE, RESIZE), centre_cropped(RESIZE, RESIZE)
    if name == PEDESTRIANS and pedestrians == "whole":
        return mirrored(_whole_pedestrian()), _whole_pedestrian()
    return random_crop(RESIZE, CROP), centre_cropped(RESIZE, CROP)


def _whole_pedestrian() -> v2.Transform:
    """72 pixels wide, 144 high."""
    return v2.Compose([shorter_side(RESIZE), v2.CenterCrop((2 * RESIZE, RESIZE))])
