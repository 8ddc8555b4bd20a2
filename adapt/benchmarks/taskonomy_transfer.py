"""Side-Tuning's transfer on Taskonomy (ECCV 2020, Table 3a; configs/vision_transfer.py): few images and many.

The base is one task's encoder (the paper's: curvature); every target is learned alone, with a decoder from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from torch import Tensor
from torch.nn import functional as F

from adapt.benchmarks.benchmark import Published, TaskData, benchmarks
from adapt.benchmarks.taskonomy_tasks import TaskonomyBenchmark, TaskonomyConfig
from adapt.pretraining.scores import wanted_domains
from adapt.pretraining.tasks import Labels, find_task
from configs.settings import Count, Different, OneOf

AMOUNTS = ("few", "many")


@dataclass(frozen=True)
class TaskonomyTransferConfig(TaskonomyConfig):
    """Settings beside those of `TaskonomyConfig`.

    Attributes:
        targets: tasks of `adapt.pretraining.tasks`, each learned alone.
        amount: "few": train on `few` images; "many": on all.
        few: that number.
    """

    targets: Annotated[tuple[str, ...], Different()] = ("normal", "class_object")
    amount: Annotated[str, OneOf(*AMOUNTS)] = "few"
    few: Count = 100

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for name in self.targets:
            noisy = find_task(name).noisy
            self.require(not noisy, "targets", "tasks that see images as they are")


def top_class(labels: Labels, domain: str) -> Tensor:
    """The most probable class (B,) of stored vectors (B,classes)."""
    return labels[domain].argmax(1)


class TopClass:
    """Share of images whose highest score (B,classes) is the most probable class of their vector."""

    def __init__(self, domain: str) -> None:
        self.domain, self.right, self.count = domain, 0, 0

    def update(self, outputs: Tensor, targets: Labels | Tensor) -> None:
        """Count a batch."""
        assert not isinstance(targets, Tensor)
        self.right += int((outputs.argmax(1) == top_class(targets, self.domain)).sum())
        self.count += len(outputs)

    def compute(self) -> dict[str, float]:
        """`accuracy`, in 0..1."""
        return {"accuracy": self.right / max(1, self.count)}


@benchmarks.register("taskonomy_transfer")
class TaskonomyTransfer(TaskonomyBenchmark):
    """Transfer to Taskonomy tasks: images by masked loss (lower is better), classes by top-1 accuracy."""

    Config = TaskonomyTransferConfig
    config: TaskonomyTransferConfig
    lengths: ClassVar[Mapping[str, str]] = {"few": "10000 passes", "many": "10 passes"}
    # The head of the table says that normals are evaluated by their MSE, the code computes L1.
    published: ClassVar[Sequence[Published]] = tuple(
        Published(
            "Side-Tuning, Table 3a",
            method,
            {"normal": normal, "class_object": accuracy},
            "taskonomy",
            settings={"benchmark.amount": amount},
        )
        for method, amount, normal, accuracy in (
            ("fine_tune", "few", 0.200, 0.246),
            ("features", "few", 0.204, 0.244),
            ("scratch", "few", 0.323, 0.191),
            ("side_tuning", "few", 0.199, 0.248),
            ("fine_tune", "many", 0.094, 0.628),
            ("features", "many", 0.117, 0.454),
            ("scratch", "many", 0.095, 0.623),
            ("side_tuning", "many", 0.095, 0.633),
        )
    )

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The targets, on the same images."""
        train, test = self.views(data, wanted_domains(self.config.targets))
        if self.config.amount == "few":
            train = train.sample(self.config.few, self.config.seed)
        return [self._classes(task) for task in self.tasks_on(self.config.targets, train, test)]

    def _classes(self, task: TaskData) -> TaskData:
        """A classification learns the most probable class; other tasks stay as they are."""
        if task.kind != "classes":
            return task
        domain = find_task(task.name).domain

        def loss(outputs: Tensor, labels: Labels) -> Tensor:
            return F.cross_entropy(outputs, top_class(labels, domain))

        return replace(task, loss=loss, metric=lambda: TopClass(domain), score="accuracy", higher_is_better=True)
