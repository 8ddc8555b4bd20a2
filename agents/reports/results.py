"""Reader of run folders: the files of `agents.train` and `agents.evaluate`, checked and typed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from adapt.training.run import read_json_if_there
from agents.evaluation.statistics import MEASURES, Record
from configs.files import visible

ROWS = ("agent", "blind", "random", "expert")
GROUPS = ("algo", "adapt", "base", "env")
_NUMBERS = (*MEASURES, "geodesic_distance", "euclidean_distance")
_NAMES = ("scene_id", "episode_id")


@dataclass(frozen=True)
class EvaluationReport:
    """One evaluation of one run; what is absent in the folder is empty here.

    Attributes:
        path: The run folder.
        split: The split it was evaluated on.
        rows: Records per episode of the agent and of those it is compared with, in the order of `ROWS`.
        metrics: Lines of the learning curve, by rising ``step``.
        trained: What made the agent: command, seed, git commit, date, versions (``versions.json``).
        evaluated: The same for the evaluation.
        numbers: ``result.json``.
        config: ``config.yaml``, as text.
        top_downs: Files with paths to draw.
        video: What the agent saw.
    """

    path: Path
    split: str
    rows: dict[str, list[Record]]
    metrics: list[dict[str, float]]
    trained: dict[str, Any]
    evaluated: dict[str, Any]
    numbers: dict[str, Any]
    config: str
    top_downs: list[Path]
    video: Path | None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's configuration as plain values.

        Raises:
            ValueError: It is no YAML of groups and keys.
        """
        return _settings(self.config, self.path / "config.yaml")

    @property
    def task(self) -> dict[str, Any]:
        """The task's settings in the run's configuration."""
        env = self.settings.get("env")
        task = env.get("task") if isinstance(env, dict) else None
        return {str(key): value for key, value in task.items()} if isinstance(task, dict) else {}

    @property
    def geodesic(self) -> str:
        """The measure of distances to the goal: exact, or detour (`envs.navgrid.grid.NavGrid`)."""
        env = self.settings.get("env")
        if not isinstance(env, dict):
            return "exact"
        return "detour" if env.get("simulator") == "habitat_sim" else str(env.get("geodesic", "exact"))

    @property
    def choices(self) -> dict[str, str]:
        """Names chosen for the config groups, as far as known: ``{"adapt": "side_tuning", ...}``."""
        named = {group: _name(self.settings.get(group)) for group in GROUPS}
        if self.settings.get("blind"):
            named |= {"adapt": "blind", "base": ""}
        return {group: name for group, name in named.items() if name}


def read_results(run: Path, split: str = "val") -> EvaluationReport:
    """Read a run folder.

    Raises:
        FileNotFoundError: There is no such folder, or the agent was not evaluated on `split`.
        ValueError: A file in it is damaged; the message names file and line.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: there is no such run folder; give run=<folder of a training>")
    folder = run / "eval" / split
    if not (folder / "agent.jsonl").is_file():
        others = evaluated_splits(run)
        hint = f"; evaluated: {', '.join(others)}" if others else ""
        raise FileNotFoundError(
            f"{run} has no evaluation on {split!r}{hint}; "
            f"make it with python -m agents.evaluate run={run} env.split={split}"
        )
    names = sorted((p.stem for p in visible(folder, "*.jsonl")), key=lambda n: (*_rank(n), n))
    videos = [folder / f"video{suffix}" for suffix in (".gif", ".mp4")]
    return replace(
        read_training(run),
        split=split,
        rows={name: _read_records(folder / f"{name}.jsonl") for name in names},
        evaluated=read_json_if_there(folder / "versions.json"),
        top_downs=sorted(visible(folder, "topdown_*.npz"), key=lambda p: (len(p.name), p.name)),
        video=next((file for file in videos if file.is_file()), None),
    )


def read_training(run: Path) -> EvaluationReport:
    """Read what a training left in a run folder; there is no split, and what an evaluation leaves is empty.

    Raises:
        ValueError: A file in it is damaged; the message names file and line.
    """
    config = run / "config.yaml"
    return EvaluationReport(
        path=run,
        split="",
        rows={},
        metrics=_read_metrics(run / "metrics.jsonl"),
        trained=read_json_if_there(run / "versions.json"),
        evaluated={},
        numbers=read_json_if_there(run / "result.json"),
        config=config.read_text(errors="replace") if config.is_file() else "",
        top_downs=[],
        video=None,
    )


def evaluated_splits(run: Path) -> list[str]:
    """The splits that a run's agent was evaluated on."""
    return sorted(file.parent.name for file in visible(run, "eval/*/agent.jsonl"))


def _settings(text: str, file: Path) -> dict[str, Any]:
    try:
        settings = OmegaConf.to_container(OmegaConf.create(text))
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is no configuration: {reason[:200]}") from error
    return {str(key): value for key, value in settings.items()} if isinstance(settings, dict) else {}


def _rank(name: str) -> tuple[int]:
    return (ROWS.index(name) if name in ROWS else len(ROWS),)


def _name(choice: Any) -> str:
    """Name of a config group's choice: the text itself, or its ``name`` or ``method``."""
    if isinstance(choice, Mapping):
        choice = choice.get("name") or choice.get("method")
    return str(choice) if choice else ""


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}); delete the file and evaluate again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a JSON object; delete the file and evaluate again")
    return value


def _read_records(file: Path) -> list[Record]:
    """Records of an evaluation.

    Raises:
        ValueError: There are none, or one lacks a key or holds something else than a finite number.
    """
    records: list[Record] = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        where = f"{file} line {number}"
        record = _parse(line, where)
        for key in (*_NAMES, *_NUMBERS):
            if key not in record:
                raise ValueError(f"{where} lacks {key!r}; delete the file and evaluate again")
        for key in _NUMBERS:
            if not isinstance(record[key], int | float) or not math.isfinite(record[key]):
                raise ValueError(f"{where}: {key} is {record[key]!r}, not a finite number; evaluate again")
        records.append(record)
    if not records:
        raise ValueError(f"{file} holds no episodes; evaluate again")
    return records


def _read_metrics(file: Path) -> list[dict[str, float]]:
    """Lines of a learning curve by rising step.

    A line cut off by a kill ends the file. A run that was killed and resumed repeats steps: the later lines
    count.
    """
    lines: dict[float, dict[str, float]] = {}
    last = -math.inf
    raw = file.read_text(errors="replace").splitlines() if file.is_file() else []
    for number, text in enumerate(raw, 1):
        try:
            line = _parse(text, f"{file} line {number}")
        except ValueError:
            if number < len(raw):
                raise
            break
        numbers = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and math.isfinite(v)}
        step = numbers.get("step")
        if step is None:
            raise ValueError(f"{file} line {number} has no finite 'step'; delete the line")
        if step <= last:
            lines = {s: earlier for s, earlier in lines.items() if s < step}
        lines[step], last = numbers, step
    return list(lines.values())
