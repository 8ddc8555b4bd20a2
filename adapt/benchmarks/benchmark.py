"""The interface of supervised benchmarks (tasks, losses, metrics, readouts) and their registry.

A benchmark says which tasks there are, in which order, on which data, and how an output is scored; the trainer
(`adapt.train`) and the protocols (`adapt.supervised.protocols`) are the same for all. It is a frozen dataclass of
settings (a subclass of `BenchmarkConfig`) and a subclass of `Benchmark` under `@benchmarks.register("<name>")`, in
`adapt/benchmarks/<name>.py` or in another distribution's module (docs/extending.md), and one file
`configs/benchmark/<name>.yaml` (`# @package _global_`):

    # @package _global_
    defaults:
      - /settings/benchmark/icifar@benchmark   # those of the dataclass
      - _self_
      - override /base: resnet44
    training: {batch: 128, length: 20000 images}
    optimiser: {name: adam, lr: 1.0e-3}

`configs/tuned/<name>/<method>.yaml` may hold what one method needs on this benchmark (`# @package _global_`), for
example `adapt: {side: fcn4}`; words of the command line come after it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from adapt.core.base import Base, Normalisation
from adapt.datasets.images import LabelledImages, Splits, Transform
from adapt.datasets.layout import LayoutError
from configs.registry import Registry, modules_of
from configs.settings import Settings

Targets = Tensor | Mapping[str, Tensor]
"""Targets of a batch: one tensor, or several by name, each with the batch first."""
Example = tuple[Tensor, Any]
"""An input, uint8 image (C,H,W) or whatever the base reads, and its target as `default_collate` takes it."""


class Metric(Protocol):
    """Collects outputs of one pass over the test examples; made anew for each."""

    def update(self, outputs: Tensor, targets: Targets) -> None:
        """Take in the readout's outputs and the targets of a batch."""

    def compute(self) -> Mapping[str, float]:
        """The scores of all batches by name."""


@dataclass(frozen=True)
class Viewed:
    """Predictions and labels of some test examples, both in the form in which label images are stored.

    Attributes:
        domain: which label they are, for `configs.label_pictures`.
        images: uint8 (N,H,W,3).
        label: uint8 or uint16 (N,h,w[,3]), or probabilities of classes, float32 (N,classes).
        predicted: of the same shape and type.
    """

    domain: str
    images: NDArray[np.uint8]
    label: NDArray[Any]
    predicted: NDArray[Any]


@dataclass(frozen=True)
class TaskData:
    """One task of a benchmark: datasets, loss and metric.

    Attributes:
        name: letters of any alphabet, digits, `_` and `-`.
        train: map-style dataset of `Example`s, transformed as for training.
        test: the same, transformed as for testing; `__getitem__` gives the same each time.
        outputs: classes or channels that the readout gives.
        loss: of the readout's outputs and a batch's targets, a scalar: the mean over the batch.
        metric: makes an empty `Metric`.
        score: which of the metric's scores, or `loss`, ranks methods.
        higher_is_better: whether more of it is better.
        kind: what an output is: `classes` (B,outputs), `segmentation` or `dense` (B,outputs,h,w), `span` (B,n,2).
        augmented: whether `train` gives an example differently each time, so that its features cannot be kept.
        identity: names the data's content and transforms, for the cache of features; empty: nothing is cached.
        normalisation: of the images, where the task has its own; by default the base's.
        weight_decay: where the task has its own; by default the optimiser's.
        collate: makes a batch of a list of examples; by default `torch.utils.data.default_collate`.
        view: of a batch's inputs, outputs and targets, for people to look at; None: there is nothing to see.
    """

    name: str
    train: Dataset[Example]
    test: Dataset[Example]
    outputs: int
    loss: Callable[[Tensor, Any], Tensor]
    metric: Callable[[], Metric]
    score: str
    higher_is_better: bool = True
    kind: str = "classes"
    augmented: bool = False
    identity: str = ""
    normalisation: Normalisation | None = None
    weight_decay: float | None = None
    collate: Callable[[list[Any]], Any] | None = None
    view: Callable[[Tensor, Tensor, Any], Viewed] | None = None


class Tensors(Dataset[Example]):
    """Examples held in memory, which are batched without a loop.

    Args:
        inputs: (N,...), uint8 for images (N,C,H,W).
        targets: (N,...), or several by name.
    """

    def __init__(self, inputs: Tensor, targets: Targets) -> None:
        tensors = targets.values() if isinstance(targets, Mapping) else [targets]
        if any(len(tensor) != len(inputs) for tensor in tensors):
            raise ValueError(f"{len(inputs)} inputs and {[len(t) for t in tensors]} targets; give as many of each")
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Example:
        return self.inputs[index], _take(self.targets, index)

    def batch(self, indices: Tensor) -> tuple[Tensor, Targets]:
        """The examples with these indices (B,)."""
        return self.inputs[indices], _take(self.targets, indices)


def _take(targets: Targets, index: Any) -> Any:
    return {k: t[index] for k, t in targets.items()} if isinstance(targets, Mapping) else targets[index]


class Accuracy:
    """Share of inputs (or pixels) whose highest output is the target class; targets below 0 or at 255 do not count.

    Outputs are (B,classes) or (B,classes,h,w), targets int64 (B,) or (B,h,w).
    """

    def __init__(self) -> None:
        self.right, self.count = 0, 0

    def update(self, outputs: Tensor, targets: Targets) -> None:
        """Count a batch."""
        assert isinstance(targets, Tensor)
        counted = targets >= 0 if outputs.ndim == 2 else (targets >= 0) & (targets != 255)
        self.right += int((outputs.argmax(1)[counted] == targets[counted]).sum())
        self.count += int(counted.sum())

    def compute(self) -> dict[str, float]:
        """`accuracy`, in 0..1."""
        return {"accuracy": self.right / max(1, self.count)}


class LossOnly:
    """No score beside the mean test loss, which every task has."""

    def update(self, outputs: Tensor, targets: Targets) -> None:
        """Nothing to count."""

    def compute(self) -> dict[str, float]:
        """Nothing."""
        return {}


class LinearReadout(nn.Linear):
    """Classes (B,outputs) from the mean over positions of features (B,C,h,w), or from vectors (B,C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Score the classes."""
        return super().forward(features.flatten(2).mean(2) if features.ndim > 2 else features)


def classification(
    name: str, train: Dataset[Example], test: Dataset[Example], classes: int, **settings: Any
) -> TaskData:
    """A task with cross-entropy and top-1 accuracy; `settings` are further attributes of `TaskData`."""
    return TaskData(name, train, test, classes, F.cross_entropy, Accuracy, "accuracy", **settings)


@dataclass(frozen=True)
class Published:
    """A row of a paper's table, and which runs it may stand beside.

    Attributes:
        source: paper and table.
        method: name of the adaptation method.
        scores: numbers by name, fractions where ours are: of the metric over all tasks, and of single tasks.
        encoder: the architecture of the base, without the library's name, such as "resnet50"; empty: any.
        pretraining: what the base was trained for (`BaseSpec.task`); empty: anything but nothing.
        protocol: of the run; empty: any.
        settings: values that a run's configuration must have, by dotted key, such as {"adapt.sparsity": 0.25}; a tuple
            means any of its values.
    """

    source: str
    method: str
    scores: Mapping[str, float]
    encoder: str = ""
    pretraining: str = ""
    protocol: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def fractions(percent: str, names: Iterable[str]) -> dict[str, float]:
        """Percentages of a table, such as "71.2 65.0", as fractions by name, with their mean as `accuracy`."""
        values = {name: float(value) / 100 for name, value in zip(names, percent.split(), strict=True)}
        return {"accuracy": sum(values.values()) / len(values), **values}

    def fits(self, method: str, encoder: str, pretraining: str, protocol: str, config: Mapping[str, Any]) -> bool:
        """Whether a run with this method, base, protocol and flat configuration is one that the row describes."""
        if method != self.method or self.protocol not in ("", protocol) or self.encoder not in ("", encoder):
            return False
        if pretraining != self.pretraining if self.pretraining else pretraining == "random":
            return False
        return all(key in config and _matches(config[key], value) for key, value in self.settings.items())


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else bool(value == wanted)


@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """Settings of a benchmark; subclasses add fields, and rules between them in `__post_init__`."""


class Benchmark(ABC):
    """A sequence of tasks with their shared settings.

    Attributes:
        Config: the dataclass of settings.
        layout: the expected files, as a tree; printed where they are not found.
        image_size: height and width of the images, pixels.
        published: rows of the papers' tables; of those that describe a run the first is shown beside it.
        lengths: names for training lengths, such as {"code": "20000 images", "paper": "20000 steps"}.
        shared_readout: whether tasks on the same base have one readout, that of the first.
        config: the settings.
    """

    Config: ClassVar[type[BenchmarkConfig]] = BenchmarkConfig
    layout: ClassVar[str]
    image_size: int
    published: ClassVar[Sequence[Published]] = ()
    lengths: ClassVar[Mapping[str, str]] = {}
    shared_readout: bool = False

    def __init__(self, config: BenchmarkConfig) -> None:
        self.config = config

    @abstractmethod
    def tasks(self, data: Path) -> Sequence[TaskData]:
        """All tasks in their order.

        Args:
            data: what the user wrote after `data=`, a folder or file.

        Raises:
            FileNotFoundError: something is absent; the message says what, and shows `layout` (see `absent`).
            ValueError: a file holds something else.
        """

    @staticmethod
    def image_task(
        name: str, parts: Splits, train: Transform, test: Transform, upright: bool = False, **settings: Any
    ) -> TaskData:
        """A classification of images that are transformed so for training and for testing; see `LabelledImages`.

        `settings` are further attributes of `TaskData`; training images are augmented by default.
        """
        learned, tested = LabelledImages(parts.train, train, upright), LabelledImages(parts.test, test, upright)
        settings = {"augmented": True, "identity": f"{learned.identity} {tested.identity}", **settings}
        return classification(name, learned, tested, len(parts.classes), **settings)

    def readout(self, shape: tuple[int, ...], task: TaskData) -> nn.Module:
        """A new readout from adapted features (B,*shape) to the task's outputs; initialised under the global seed."""
        if task.kind != "classes":
            raise ValueError(f"benchmark {self.name()} must say how {task.kind} outputs are read out")
        return LinearReadout(shape[0], task.outputs)

    def prepare(self, base: Base) -> Base:
        """The base as this benchmark uses it, by default unchanged; its weights stay frozen."""
        return base

    def summarise(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Numbers of this benchmark alone, such as a decathlon score, from the final scores of each task."""
        return {}

    def absent(self, path: Path, reason: str = "is absent") -> FileNotFoundError:
        """The error for data that is not there: what, and the expected layout."""
        return LayoutError(f"{path} {reason}", self.name(), self.layout)

    @classmethod
    def name(cls) -> str:
        """The name that users write."""
        return benchmarks.name_of(cls)


benchmarks: Registry[type[Benchmark]] = Registry(
    "benchmark",
    "sidestep.benchmarks",
    partial(modules_of, "adapt.benchmarks", but=("benchmark", "taskonomy_tasks")),
)
"""All benchmarks by name: the files of `adapt/benchmarks`, and those of other distributions."""


def get_benchmark(name: str) -> type[Benchmark]:
    """Import the benchmark of that name.

    Raises:
        ValueError: there is no such benchmark; the nearest is suggested.
    """
    return benchmarks.get(name)


def build_benchmark(name: str, **settings: Any) -> Benchmark:
    """The benchmark of that name with these settings.

    Raises:
        ValueError: an unknown name or setting (the nearest is suggested), or a value out of range.
    """
    kind = get_benchmark(name)
    return kind(kind.Config.from_settings(settings))
