"""The Visual Decathlon: ten classification sets at 72 pixels (Rebuffi et al., NIPS 2017 and CVPR 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torchvision.transforms import v2

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, TaskData, benchmarks, classification
from adapt.datasets.decathlon import BASELINES, SETS, decathlon_score, read_annotations
from adapt.datasets.images import LabelledImages, Transform, centre_cropped, mirrored, random_crop, shorter_side
from adapt.datasets.layout import missing
from adapt.training.files import nearest

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

    sets: tuple[str, ...] = tuple(SETS)
    train: str = "train"
    test: str = "val"
    pedestrians: str = "crop"
    normalisation: str = "set"
    weight_decay: str = "residual_adapters"
    imagenet_accuracy: float | None = None
    baseline: str = "nips17"

    def __post_init__(self) -> None:
        """Check the values."""
        for name in self.sets:
            if name not in SETS:
                raise ValueError(f"unknown set {name!r}{nearest(name, SETS)}; choose from {', '.join(SETS)}")
        self.require(bool(self.sets) and len(set(self.sets)) == len(self.sets), "sets", "one or more different sets")
        self.one_of("train", ("train", "trainval"))
        self.one_of("test", ("val", "test"))
        self.require(self.train == "train" or self.test == "test", "test", "test where train=trainval")
        self.one_of("pedestrians", ("crop", "whole"))
        self.one_of("normalisation", ("set", "base"))
        self.one_of("weight_decay", ("residual_adapters", "spottune", "optimiser"))
        self.one_of("baseline", BASELINES)
        accuracy = self.imagenet_accuracy
        self.require(accuracy is None or 0 <= accuracy <= 1, "imagenet_accuracy", "a fraction in 0..1")


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
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "scratch": {"accuracy": 0.7032, "s_score": 1625},
        "features": {"accuracy": 0.5428, "s_score": 544},
        "fine_tune": {"accuracy": 0.7688, "s_score": 3096},
        "residual_adapter": {"accuracy": 0.7807, "s_score": 3412},
        "piggyback": {"accuracy": 0.7660, "s_score": 2838},
        "dan": {"accuracy": 0.7701, "s_score": 2851},
        "wtpb": {"accuracy": 0.772, "s_score": 3497},
        "ba2": {"accuracy": 0.757, "s_score": 3199},
        "spottune": {"accuracy": 0.781, "s_score": 3612},
        "taps": {"accuracy": 0.7870, "s_score": 3533},
    }

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
        for_training, for_testing = transforms(name, self.config.pedestrians)
        learned = LabelledImages(train, for_training)
        tested = LabelledImages(parts[self.config.test][0], for_testing)
        each = SETS[name]
        decays = {"residual_adapters": each.decay, "spottune": each.spottune_decay, "optimiser": None}
        return classification(
            name,
            learned,
            tested,
            len(classes),
            augmented=not each.whole,
            identity=f"{learned.identity} {tested.identity}",
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
    """How the released code of Residual Adapters trains and tests on a set.

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
