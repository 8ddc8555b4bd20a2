"""Taskonomy-layout data as benchmarks take it: which buildings train, which test, and single examples of a task."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from adapt.pretraining.data import TaskonomyViews
from configs.files import visible_folders
from configs.names import nearest

FORBIDDEN = ("mosquito", "tansboro")  # Buildings that the authors' lists leave out.
CURVATURE_CHANNELS = 2

Labelled = tuple[Tensor, dict[str, Tensor]]


class LabelledViews(Dataset[Labelled]):
    """Examples: an image, uint8 (3,S,S), and a task's stored labels by domain, as `TaskonomyViews.batch` gives them.

    Args:
        views: the views, with at least these domains.
        labels: domains of the labels.
        curvature: whether two more channels of the image (5,S,S) hold the curvature's label.
    """

    def __init__(self, views: TaskonomyViews, labels: Sequence[str], curvature: bool = False) -> None:
        self.views, self.labels = views, tuple(labels)
        self.inputs = ("rgb", "principal_curvature") if curvature else ("rgb",)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Labelled:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Labelled]:
        """Several examples; a `DataLoader` asks for a batch at once."""
        batch = self.views.batch(indices, tuple(dict.fromkeys((*self.inputs, *self.labels))))
        images = batch["rgb"]
        if len(self.inputs) > 1:
            images = torch.cat([images, batch["principal_curvature"][:, :CURVATURE_CHANNELS]], 1)
        return [(image, {d: batch[d][i] for d in self.labels}) for i, image in enumerate(images)]

    @property
    def identity(self) -> str:
        """Names the inputs' content: sha256 of their files' names, sizes and times, and of how they are read."""
        total = hashlib.sha256(f"{self.inputs} {self.views.size}".encode())
        for domain in self.inputs:
            for file in self.views.files(domain):
                stat = file.stat()
                total.update(f"{file.parent.name}/{file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
        return total.hexdigest()


def list_buildings(root: Path) -> list[str]:
    """Names of the buildings with images, those left out that no list of the authors has."""
    return [p.name for p in visible_folders(root / "rgb") if p.name not in FORBIDDEN]


def choose_buildings(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Buildings to train on and to test on: a share of them, at least one, chosen by the seed.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(names) < 2:
        raise ValueError("needs two or more buildings, one to test on")
    mixed = random.Random(seed).sample(list(names), len(names))
    count = min(len(names) - 1, max(1, round(share * len(names))))
    return sorted(mixed[count:]), sorted(mixed[:count])


def read_buildings(path: Path) -> tuple[list[str], list[str]]:
    """Buildings to train on and to validate on, of a list as Taskonomy publishes them.

    Args:
        path: CSV with the columns `id`, `train` and `val`, which hold 0 or 1; any line ends.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is absent, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of buildings at {path}: give a CSV with the columns id, train, val")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    known = list(rows[0]) if rows else []
    for column in ("id", "train", "val"):
        if column not in known:
            raise ValueError(f"{path} has no column {column}{nearest(column, known)}; it needs id, train and val")
    wrong = [row["id"] for row in rows if {row["train"], row["val"]} - {"0", "1"}]
    if wrong:
        raise ValueError(f"{path}: the columns train and val of {wrong[0]} must hold 0 or 1")
    allowed = [row for row in rows if row["id"] not in FORBIDDEN]
    train, val = ([row["id"] for row in allowed if row[part] == "1"] for part in ("train", "val"))
    return train, val
