"""iCIFAR: ten tasks of ten CIFAR-100 classes, one after the other (Side-Tuning, section 4.1; configs/icifar_cfg.py).

The classes are in the alphabetical order of their names; the released code does not shuffle them, although its text
says so. No augmentation. Every method's 64 features are standardised in 8 groups before the readout, as released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from adapt.benchmarks.benchmark import (
    Benchmark,
    BenchmarkConfig,
    LinearReadout,
    Published,
    TaskData,
    Tensors,
    benchmarks,
    classification,
)
from adapt.datasets.cifar import LAYOUT, Split, read_cifar100
from adapt.modules.merges import group_normalise
from adapt.training.digests import tensors_sha256

CLASSES = 10


@dataclass(frozen=True)
class ICifarConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        boosting: all ten tasks have the classes 0-9, so that each adds a side network to the same task
            (use it with `adapt.dense=true`).
    """

    boosting: bool = False


@benchmarks.register("icifar")
class ICifar(Benchmark):
    """Ten tasks of ten classes, 5,000 training and 1,000 test images each."""

    Config = ICifarConfig
    config: ICifarConfig
    layout = LAYOUT
    image_size = 32
    lengths: ClassVar[Mapping[str, str]] = {"code": "20000 images", "paper": "20000 steps"}
    published: ClassVar[Sequence[Published]] = (
        Published(
            "the authors' demo",
            "side_tuning",
            {
                "accuracy": 0.7603,
                **{
                    f"classes_{10 * i}_{10 * i + 9}": accuracy
                    for i, accuracy in enumerate((0.741, 0.748, 0.757, 0.759, 0.768, 0.755, 0.763, 0.728, 0.757, 0.827))
                },
            },
            "resnet44",
            protocol="sequential",
            settings={"adapt.merge": "mlp2", "benchmark.boosting": False, "training.length": "code"},
        ),
        *(
            Published("Side-Tuning, Table 2", method, {"rank": rank}, "resnet44", protocol="sequential", settings=merge)
            for method, rank, merge in (
                ("side_tuning", 2.20, {"adapt.merge": "alpha"}),
                ("ewc", 2.70, {}),
                ("psp", 5.60, {}),
                ("residual_adapter", 4.40, {}),
                ("piggyback", 5.00, {}),
                ("progressive", 1.10, {}),
            )
        ),
    )

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The ten tasks; see `layout` for the files."""
        if not data.is_dir():
            raise self.absent(data)
        splits = read_cifar100(data)
        if splits is None:
            raise self.absent(data, "holds no CIFAR-100")
        groups = [0] * 10 if self.config.boosting else range(10)
        return [self._task(i, group, *splits) for i, group in enumerate(groups)]

    def _task(self, index: int, group: int, train: Split, test: Split) -> TaskData:
        first = CLASSES * group
        parts = [_classes(split, first) for split in (train, test)]
        name = f"classes_{first}_{first + CLASSES - 1}" + (f"_{index}" if self.config.boosting else "")
        identity = tensors_sha256(("", part.inputs) for part in parts)
        return classification(name, parts[0], parts[1], CLASSES, identity=identity)

    def readout(self, shape: tuple[int, ...], task: TaskData) -> nn.Module:
        """Standardisation in 8 groups where the features divide into them, and a linear layer."""
        linear = LinearReadout(shape[0], task.outputs)
        return linear if shape[0] % 8 else nn.Sequential(group_normalise(shape[0]), linear)


def _classes(split: Split, first: int) -> Tensors:
    """The examples of ten classes, labelled 0..9 in ascending order."""
    chosen: Tensor = (split.labels >= first) & (split.labels < first + CLASSES)
    if not bool(chosen.any()):
        raise ValueError(f"there are no images of the classes {first} to {first + CLASSES - 1}; give all of CIFAR-100")
    return Tensors(split.images[chosen], split.labels[chosen] - first)
