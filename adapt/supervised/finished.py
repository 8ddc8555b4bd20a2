"""Finished runs of `adapt.train`, read from their folders, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from omegaconf import OmegaConf

from adapt.benchmarks.benchmark import Published, get_benchmark
from adapt.training.run import load_config
from adapt.training.run_files import VERSIONS, read_checked
from adapt.training.seeds import flat
from configs.files import is_there, visible
from configs.settings import Different, NotNegative

SHARES = ("accuracy", "mean_iou", "f1", "exact", "parameter_share", "layer_share", "masked_share")
# What a result must have, and what a few numbers of it are that it may have.
PARTS: Mapping[str, Any] = {
    "benchmark": str,
    "method": str,
    "protocol": str,
    "images": NotNegative,
    "seconds": NotNegative,
    "tasks": Annotated[tuple[str, ...], Different()],
    "score": Mapping[str, str],
    "per_task": Mapping[str, Mapping[str, float | None]],
    "matrix": Mapping[str, tuple[tuple[float | None, ...], ...]],
}
NUMBERS: Mapping[str, Any] = dict.fromkeys(("forgetting", "parameters", "base_width", *SHARES), float | None)


@dataclass(frozen=True)
class Finished:
    """A run folder with a result.

    Attributes:
        path: the folder.
        result: its `result.json`.
        versions: its `versions.json`.
        config: its configuration, flat: dotted keys to values.
    """

    path: Path
    result: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def encoder(self) -> str:
        """The architecture of the base without its library's name, such as "resnet50"."""
        name = self.result.get("encoder") or str(self.config.get("base.name", ""))
        return name.partition(":")[0].rpartition("/")[2]

    @property
    def row(self) -> Published | None:
        """The published row with this run's method, base, protocol and settings, if there is one.

        Those of the papers are all of bases as wide as published.
        """
        if self.result.get("base_width", 1.0) != 1.0:
            return None
        about = self.encoder, self.result.get("pretraining", ""), self.result["protocol"]
        rows = get_benchmark(self.result["benchmark"]).published
        return next((row for row in rows if row.fits(self.result["method"], *about, self.config)), None)

    @property
    def published(self) -> Mapping[str, float]:
        """The numbers of that row."""
        return {} if self.row is None else self.row.scores

    @property
    def score(self) -> str:
        """The score that most tasks have."""
        scores = list(self.result["score"].values())
        return max(dict.fromkeys(scores), key=scores.count)

    def matrix(self, score: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """R of a score, NaN where a task was not tested."""
        rows = [[math.nan if value is None else value for value in row] for row in self.result["matrix"][score]]
        return np.array(rows, dtype=np.float64)


def read_run(path: Path) -> Finished:
    """Read a finished run.

    Raises:
        FileNotFoundError: the folder holds no result.
        ValueError: a file of it is damaged.
    """
    file = path / "result.json"
    if not is_there(file):
        raise FileNotFoundError(f"{path} holds no result.json; give the folder of a finished run of adapt.train")
    config: Any = OmegaConf.to_container(load_config(path, "supervised"), resolve=True)
    result = read_checked(file, {**PARTS, **NUMBERS}, tuple(PARTS))
    tasks, matrix = result["tasks"], result["matrix"]
    rows = [len(row) for score in matrix.values() for row in score]
    if set(result["score"]) != set(tasks) or "loss" not in matrix or set(rows) != {len(tasks)}:
        raise ValueError(f"cannot read {file}: score and matrix are not of its tasks; train the run again")
    versions = read_checked(path / "versions.json", VERSIONS, ("command", "date", "git_commit", "seed"))
    return Finished(path, result, versions, flat(config))


def find_runs(paths: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders: run folders, or folders of run folders.

    Raises:
        FileNotFoundError: a folder holds none.
    """
    runs = []
    for path in paths:
        folders = [path] if (path / "result.json").is_file() else [f.parent for f in visible(path, "*/result.json")]
        runs += [read_run(folder) for folder in folders or [path]]
    return runs


def number(name: str, value: Any) -> str:
    """A number as a person reads it; shares as percentages."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if name in SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if name == "rank" else f"{value:.4g}"
