"""Base class of the benchmarks on Taskonomy-layout data: settings, splits of views, decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, LossOnly, TaskData, Viewed
from adapt.datasets.taskonomy import LabelledViews, choose_buildings, list_buildings, read_buildings
from adapt.encoders.taskonomy import TaskonomyDecoder, TransferConv3
from adapt.modules.merges import GROUPS, group_normalise
from adapt.pretraining.data import ALIASES, NoViews, TaskonomyViews
from adapt.pretraining.decoders import build_decoder
from adapt.pretraining.tasks import Labels, TaskonomyTask, find_task
from configs.label_pictures import INVALID
from configs.settings import OneOf, OpenShare, Range

SCALING = "side_tuning"
PARTS = ("train", "val", "test")
LAYOUT = """
<folder>/                 with train/ and val/ (or test/), each laid out like this; or like this itself: buildings are
                          then divided by benchmark.splits=<CSV with columns id,train,val>, or benchmark.test_share
  rgb/<building>/point_<i>_view_<j>_domain_rgb.png
  <domain>/<building>/point_<i>_view_<j>_domain_<domain>.png (class_object: .npy)
domains: mask_valid, principal_curvature (or curvature), segment_semantic, reshading, keypoints3d, keypoints2d,
edge_texture, edge_occlusion, depth_zbuffer, depth_euclidean, normal, class_object: those of the tasks
get it: https://github.com/StanfordVL/taskonomy/tree/master/data, or render it with python -m envs.render
"""


@dataclass(frozen=True)
class TaskonomyConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        size: pixels per side of the images.
        label_size: pixels per side of the decoded labels, `size` divided by a power of two; 0: `size`. Larger labels
            are averaged over blocks.
        decoder: "taskonomy", the papers' for codes of 8x16x16, or "light".
        decoder_width: channels of a light decoder.
        splits: CSV with the columns id, train and val; empty: see `test_share`.
        test_share: of the buildings test, where the data is neither divided nor `splits` given.
        seed: of that choice.
    """

    size: Annotated[int, Range(16)] = 256
    label_size: int = 0
    decoder: Annotated[str, OneOf("taskonomy", "light")] = "taskonomy"
    decoder_width: int = 32
    splits: str = ""
    test_share: OpenShare = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        block = self.size // max(1, self.decoded)
        fits = self.label_size >= 0 and block * self.decoded == self.size and block & (block - 1) == 0
        self.require(fits, "label_size", f"0 or {self.size} divided by a power of two")
        self.require(self.decoder == "light" or self.decoded == self.size, "label_size", "0 unless decoder=light")
        self.require(self.decoder_width >= 8 and self.decoder_width % 8 == 0, "decoder_width", "a multiple of 8")

    @property
    def decoded(self) -> int:
        """Pixels per side of the decoded labels."""
        return self.label_size or self.size


def view(job: TaskonomyTask, inputs: Tensor, outputs: Tensor, labels: Labels) -> Viewed:
    """Outputs and labels of a batch as Taskonomy stores them, at the size of the outputs.

    Args:
        job: the task.
        inputs: uint8 (B,C,S,S), three channels of colour first.
        outputs: of the task's readout.
        labels: the batch's stored labels by domain. Where one of an image is not valid it becomes 0, of 16 bits 65535.
    """
    images = inputs[:, :3].permute(0, 2, 3, 1).cpu().numpy()
    sixteen_bit = labels[job.domain].dtype == torch.int32
    predicted = job.as_stored(outputs, sixteen_bit)
    if sixteen_bit:  # What is as large as can be is no hole.
        predicted = predicted.clip(max=INVALID - 1)
    if job.kind == "classification":
        label = job.target(labels, SCALING).float().cpu().numpy()
    elif job.kind == "segmentation":
        label = job.class_target(labels, SCALING, outputs.shape[-1]).to(torch.uint8).cpu().numpy()
    else:
        target, mask = job.image_target(labels, SCALING, outputs.shape[-1])
        label = job.as_stored(target, sixteen_bit)
        label[mask[:, 0].cpu().numpy() == 0] = INVALID if sixteen_bit else 0
    return Viewed(job.domain, images, label, predicted)


class TaskonomyBenchmark(Benchmark):
    """Tasks of `adapt.pretraining.tasks` in Side-Tuning's scaling; every task has the same views, those with all
    labels.
    """

    Config = TaskonomyConfig
    config: TaskonomyConfig
    layout = LAYOUT

    def __init__(self, config: TaskonomyConfig) -> None:
        super().__init__(config)
        self.image_size = config.size

    def views(self, data: Path, domains: Sequence[str]) -> tuple[TaskonomyViews, TaskonomyViews]:
        """The views to train on and to test on.

        Raises:
            FileNotFoundError: they do not lie as in `layout`.
            ValueError: a file cannot be read, or the lists of buildings do not fit.
        """
        if not data.is_dir():
            raise self.absent(data, "is no folder" if data.exists() else "is absent")
        parts = [data / part for part in PARTS if (data / part).is_dir()]
        if not parts:
            self._check(data, domains)
            train, test = self._buildings(data)
            return self._read(data, domains, train), self._read(data, domains, test)
        if len(parts) < 2 or parts[0].name != "train":
            raise self.absent(data, f"has {parts[0].name}/ but not both train/ and val/ or test/")
        for part in parts[:2]:
            self._check(part, domains)
        return self._read(parts[0], domains), self._read(parts[1], domains)

    def _check(self, root: Path, domains: Sequence[str]) -> None:
        lacking = [d for d in domains if not any((root / name).is_dir() for name in ALIASES.get(d, (d,)))]
        if lacking:
            raise self.absent(root, f"has no folder {', '.join(lacking)}")

    def _buildings(self, data: Path) -> tuple[list[str], list[str]]:
        """Buildings to train and to test on."""
        if self.config.splits:
            return read_buildings(Path(self.config.splits))
        try:
            return choose_buildings(list_buildings(data), self.config.test_share, self.config.seed)
        except ValueError as error:
            raise self.absent(data / "rgb", str(error)) from error

    def _read(self, root: Path, domains: Sequence[str], buildings: Sequence[str] | None = None) -> TaskonomyViews:
        chosen = list_buildings(root) if buildings is None else buildings
        try:
            return TaskonomyViews([root], domains, self.config.size, set(chosen))
        except NoViews as error:
            named = "" if buildings is None else f" in the chosen buildings ({', '.join(list(buildings)[:3])}, ...)"
            raise self.absent(root, f"has no view with all of {', '.join(domains)}{named}") from error

    def tasks_on(
        self, names: Sequence[str], train: TaskonomyViews, test: TaskonomyViews, curvature: bool = False
    ) -> list[TaskData]:
        """Tasks with their masked losses, which are also their scores; `curvature` as `LabelledViews` takes it."""
        # Looking at every file takes its time, and the inputs of all tasks are the same.
        identity = " ".join(LabelledViews(views, (), curvature).identity for views in (train, test))
        tasks = []
        for name in names:
            job = find_task(name)
            learned, tested = (LabelledViews(views, job.domains(), curvature) for views in (train, test))
            kind = {"segmentation": "segmentation", "classification": "classes"}.get(job.kind, "dense")
            loss = partial(job.loss, scaling=SCALING)
            tasks.append(
                TaskData(
                    name,
                    learned,
                    tested,
                    job.channels,
                    loss,
                    LossOnly,
                    "loss",
                    False,
                    kind=kind,
                    identity=identity,
                    view=partial(view, job),
                )
            )
        return tasks

    def readout(self, shape: tuple[int, ...], task: TaskData) -> nn.Module:
        """Standardisation in 8 groups where channels divide into them, the transfer network and a decoder, all of it
        learned from scratch (Side-Tuning, configs/seq_taskonomy_cfg.py).

        Departs: no tanh follows the classes of a segmentation, whose scores it would limit to -1..1.
        """
        if len(shape) != 3:
            raise ValueError(f"{self.name()} decodes maps (C,h,w), this base gives features of the shape {shape}")
        config, channels = self.config, shape[0]
        classifier = task.kind == "classes"
        decoder = build_decoder(config.decoder, shape, task.outputs, config.decoded, classifier, config.decoder_width)
        if isinstance(decoder, TaskonomyDecoder) and task.kind == "segmentation":
            decoder.decoder_output[1] = nn.Identity()
        norm = group_normalise(channels) if channels % GROUPS == 0 else nn.Identity()
        return nn.Sequential(norm, TransferConv3(channels), decoder)
