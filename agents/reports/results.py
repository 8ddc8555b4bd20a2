"""Reader of run folders: the files of `agents.train` and `agents.evaluate`, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from adapt.training.run import CONFIG, read_config
from adapt.training.run_files import VERSIONS, read_checked
from agents.evaluation.statistics import Record
from agents.reports.files import NUMBERS, find_film, read_metrics, read_records
from configs.files import is_there, visible

ROWS = ("agent", "blind", "random", "expert")
GROUPS = ("algo", "adapt", "base", "env")


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
        settings: The same as plain values.
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
    settings: dict[str, Any]
    top_downs: list[Path]
    video: Path | None

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
    if not is_there(folder / "agent.jsonl"):
        others = evaluated_splits(run)
        hint = f"; evaluated: {', '.join(others)}" if others else ""
        raise FileNotFoundError(
            f"{run} has no evaluation on {split!r}{hint}; "
            f"make it with python -m agents.evaluate run={run} env.split={split}"
        )
    names = sorted((p.stem for p in visible(folder, "*.jsonl")), key=lambda n: (*_rank(n), n))
    return replace(
        read_training(run),
        split=split,
        rows={name: read_records(folder / f"{name}.jsonl") for name in names},
        evaluated=read_checked(folder / "versions.json", VERSIONS),
        top_downs=sorted(visible(folder, "topdown_*.npz"), key=lambda p: (len(p.name), p.name)),
        video=find_film(folder),
    )


def read_training(run: Path) -> EvaluationReport:
    """Read what a training left in a run folder; there is no split, and what an evaluation leaves is empty.

    Raises:
        ValueError: A file in it is damaged; the message names file and line.
    """
    config = run / CONFIG
    configured = is_there(config)
    settings: Any = OmegaConf.to_container(read_config(config)) if configured else {}
    return EvaluationReport(
        path=run,
        split="",
        rows={},
        metrics=read_metrics(run / "metrics.jsonl"),
        trained=read_checked(run / "versions.json", VERSIONS),
        evaluated={},
        numbers=read_checked(run / "result.json", NUMBERS),
        config=config.read_text(encoding="utf-8-sig") if configured else "",
        settings={str(key): value for key, value in settings.items()},
        top_downs=[],
        video=None,
    )


def evaluated_splits(run: Path) -> list[str]:
    """The splits that a run's agent was evaluated on."""
    return sorted(file.parent.name for file in visible(run, "eval/*/agent.jsonl") if file.is_file())


def _rank(name: str) -> tuple[int]:
    return (ROWS.index(name) if name in ROWS else len(ROWS),)


def _name(choice: Any) -> str:
    """Name of a config group's choice: the text itself, or its ``name`` or ``method``."""
    if isinstance(choice, Mapping):
        choice = choice.get("name") or choice.get("method")
    return str(choice) if choice else ""
