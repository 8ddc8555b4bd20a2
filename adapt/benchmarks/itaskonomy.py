"""Side-Tuning's iTaskonomy (ECCV 2020, section 4.1; configs/seq_taskonomy_cfg.py): twelve tasks, one after the other.

Every task has a decoder of its own, learned from scratch; its score is the loss on the test views. The paper's
base is the Taskonomy encoder of the first task of the order, or labels of curvature in place of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.benchmarks.benchmark import Published, TaskData, benchmarks
from adapt.benchmarks.taskonomy_tasks import TaskonomyBenchmark, TaskonomyConfig
from adapt.core.base import Base, BlackBoxBase
from adapt.datasets.taskonomy import CURVATURE_CHANNELS
from adapt.pretraining.scores import wanted_domains
from adapt.pretraining.tasks import signed
from configs.settings import OneOf

_INDEXED = (
    "normal",
    "autoencoding",
    "reshading",
    "keypoints3d",
    "keypoints2d",
    "edge_texture",
    "edge_occlusion",
    "depth_zbuffer",
    "depth_euclidean",
    "curvature",
    "segment_semantic",
    "class_object",
)
PAPER = tuple(_INDEXED[i] for i in (9, 10, 2, 3, 4, 5, 6, 7, 8, 0, 11, 1))
ORDERS: dict[str, tuple[str, ...]] = {
    "paper": PAPER,
    "cls_first": tuple(_INDEXED[i] for i in (11, 7, 0, 2, 8, 9, 5, 10, 4, 1, 3, 6)),
    "texture_first": tuple(_INDEXED[i] for i in (5, 8, 9, 10, 1, 3, 6, 2, 11, 4, 0, 7)),
    "rgb_first": tuple(_INDEXED[i] for i in (1, 0, 5, 7, 2, 6, 4, 3, 9, 10, 8, 11)),
}
BASES = ("network", "curvature_labels")


@dataclass(frozen=True)
class ITaskonomyConfig(TaskonomyConfig):
    """Settings beside those of `TaskonomyConfig`.

    Attributes:
        order: of the tasks, out of `ORDERS`. The paper's base is the network of the first.
        without: tasks left out, for data without their labels.
        base: "network", the configured base, or "curvature_labels", which takes its place (`LabelBase`).
    """

    order: Annotated[str, OneOf(*ORDERS)] = "paper"
    without: tuple[Annotated[str, OneOf(*PAPER)], ...] = ()
    base: Annotated[str, OneOf(*BASES)] = "network"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(len(set(self.without)) < len(PAPER), "without", "fewer than all tasks")


def curvature_code(labels: Tensor) -> Tensor:
    """Codes (B,8,H/16,W/16) of stored curvature labels, uint8 (B,2,H,W).

    Scaled to [-1,1], every eighth pixel taken, and of each block of 2x2 pixels the values put into channels.
    """
    small = F.interpolate(signed(labels, 255.0), (labels.shape[2] // 8, labels.shape[3] // 8), mode="nearest")
    return F.pixel_unshuffle(small, 2)


class LabelBase(BlackBoxBase):
    """Labels of curvature in place of a network (Side-Tuning, taskonomy_gtcurv_data).

    Its images are uint8 (B,5,H,W): three channels of colour, which side networks read, and two of curvature, of which
    its features are made.
    """

    def __init__(self) -> None:
        super().__init__(curvature_code, "ground truth curvature 1")
        # Without any weight it would have no device.
        self.register_parameter("place", nn.Parameter(torch.empty(0), requires_grad=False))

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise the colours of uint8 images (B,5,H,W) for side networks: float32 (B,3,H,W)."""
        return super().normalise(images[:, :3])

    def _evaluate(self, images: Tensor) -> Tensor:
        return super()._evaluate(images[:, 3:])

    def example(self, height: int, width: int) -> Tensor:
        """A black image with curvature, uint8 (1,5,height,width)."""
        device = self.get_parameter("place").device
        return torch.zeros(1, 3 + CURVATURE_CHANNELS, height, width, dtype=torch.uint8, device=device)


@benchmarks.register("itaskonomy")
class ITaskonomy(TaskonomyBenchmark):
    """Up to twelve tasks, evaluated by their losses: lower is better."""

    Config = ITaskonomyConfig
    config: ITaskonomyConfig
    # At 32 views per step: three passes over the split "tiny"; and three over the demo's 100 images.
    lengths: ClassVar[Mapping[str, str]] = {"paper": "24633 steps", "demo": "19 steps"}
    published: ClassVar[Sequence[Published]] = tuple(
        Published("Side-Tuning, Table 2", method, {"rank": rank}, "taskonomy", protocol="sequential")
        for method, rank in (
            ("side_tuning", 1.33),
            ("ewc", 5.25),
            ("psp", 5.25),
            ("residual_adapter", 3.58),
            ("piggyback", 3.17),
            ("progressive", 2.42),
        )
    )

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The tasks in their order; all have the same views."""
        names = [name for name in ORDERS[self.config.order] if name not in self.config.without]
        labels = self.config.base == "curvature_labels"
        domains = wanted_domains([*names, "curvature"] if labels else names)
        train, test = self.views(data, domains)
        return self.tasks_on(names, train, test, labels)

    def prepare(self, base: Base) -> Base:
        """The configured base, or labels of curvature in its place."""
        return LabelBase() if self.config.base == "curvature_labels" else base
