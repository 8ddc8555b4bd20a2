"""One page over many runs, of agents and of supervised benchmarks: a table, learning curves overlaid, links, films.

The page lies in the folder that holds the runs; reports and films are links into it, all else is inside the page.
A run that is not finished is a row, too; one whose files are damaged is a line that says which.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapt.supervised.finished import number, read_run
from adapt.supervised.page import template
from agents.evaluation.statistics import summarise
from agents.reports.figures import smooth
from agents.reports.page import Cell, cell
from agents.reports.results import EvaluationReport, evaluated_splits, read_results, read_training
from configs.files import visible
from configs.writing import write_atomically

NAME = "index.html"
MEASURES = ("success", "spl", "distance_to_goal")
MOST_POINTS = 200  # of a curve
TITLES = {
    "algo": "Learner",
    "adapt": "Method",
    "base": "Base",
    "env": "Scenes",
    "split": "Split",
    "success": "Success",
    "spl": "SPL",
    "distance_to_goal": "Distance (m)",
    "benchmark": "Benchmark",
    "protocol": "Protocol",
    "score": "Score",
    "forgetting": "Forgetting (loss)",
    "parameters": "Parameters",
    "minutes": "Minutes",
    "seed": "Seed",
    "date": "Date",
}
NUMERIC = (*MEASURES, "score", "forgetting", "parameters", "minutes", "seed")
# Numbers of metrics.jsonl that are no learning curve.
NOT_DRAWN = ("step", "seconds")


@dataclass(frozen=True)
class Sortable:
    """A cell of the table.

    Attributes:
        text: What it shows.
        by: The number by which it is sorted; None: by its text.
        measured: A mean with its interval, which is then shown in place of the text.
    """

    text: str
    by: float | None = None
    measured: Cell | None = None


@dataclass
class RunSummary:
    """One run.

    Attributes:
        path: Its folder, from the page's.
        cells: By column.
        searched: Text that the filter looks at.
        curves: By key of metrics.jsonl: steps, minutes and values, all of one length.
        report: Its report, from the page's folder; empty where there is none.
        film: What the agent saw, likewise.
        note: What is missing.
    """

    path: str
    cells: dict[str, Sortable]
    searched: str = ""
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    report: str = ""
    film: str = ""
    note: str = ""


def find_runs(root: Path) -> list[Path]:
    """Folders below `root` that hold a run (config.yaml and metrics.jsonl or result.json), runs inside of runs too."""
    outputs = ("metrics.jsonl", "result.json", "versions.json")
    folders = [file.parent for file in visible(root, "**/config.yaml")]
    return [folder for folder in folders if any((folder / name).is_file() for name in outputs)]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run itself rather than a folder of runs."""
    return (folder / "config.yaml").is_file() or (folder / "eval").is_dir()


def write_runs(root: Path, split: str = "val") -> Path:
    """Write ``index.html`` into a folder of runs.

    Args:
        root: The folder; runs may lie in folders of its folders.
        split: Which evaluation of agents to show; others where a run has only those.

    Raises:
        FileNotFoundError: There is no such folder, or no run in it.
        OSError: The page could not be written; an older one is undamaged.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: there is no such folder; give a run, or a folder that holds runs")
    runs = find_runs(root)
    if not runs:
        raise FileNotFoundError(f"{root} holds no run (a folder with config.yaml); train one with run={root}/NAME")
    agents: list[RunSummary] = []
    supervised: list[RunSummary] = []
    damaged: list[str] = []
    for run in runs:
        try:
            training = read_training(run)
            if "algo" in training.settings:
                agents.append(_agent(root, training, split))
            elif "benchmark" in training.settings:
                supervised.append(_supervised(root, training))
            else:
                raise ValueError(f"{run / 'config.yaml'} is of no training: it has neither algo nor benchmark")
        except (ValueError, OSError, KeyError) as error:
            damaged.append(f"{os.path.relpath(run, root)}: {' '.join(str(error).split())}")
    groups = [
        (name, about, list(rows[0].cells), rows)
        for name, about, rows in (
            ("Agents", "Mean over held-out episodes with its 95% confidence interval.", agents),
            ("Supervised benchmarks", "Mean over tasks at the end of the sequence.", supervised),
        )
        if rows
    ]
    page = template("runs.html.j2", "agents.reports").render(
        title=root.resolve().name,
        groups=groups,
        names=TITLES,
        numeric=NUMERIC,
        damaged=damaged,
        curves={row.path: row.curves for row in (*agents, *supervised) if row.curves},
        films=[row for row in agents if row.film],
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    file = root / NAME
    write_atomically(file, page.encode())
    if damaged:
        sys.stderr.write(f"warning: {len(damaged)} of {len(runs)} runs could not be read; {file} says why\n")
    return file


def _agent(root: Path, training: EvaluationReport, split: str) -> RunSummary:
    """The row of an agent, with its evaluation if it has one."""
    splits = evaluated_splits(training.path)
    choices = training.choices
    cells = {measure: Sortable("") for measure in MEASURES}
    film = evaluated = ""
    if splits:
        results = read_results(training.path, split if split in splits else splits[0])
        summary = summarise(results.rows["agent"], MEASURES)
        cells = {measure: Sortable("", summary[measure].mean, cell(measure, summary[measure])) for measure in MEASURES}
        film = "" if results.video is None else _link(root, results.video)
        evaluated = results.split
    cells |= {group: Sortable(choices.get(group, "")) for group in ("adapt", "base", "algo", "env")}
    cells["split"] = Sortable(evaluated)
    note = "" if splits else "not evaluated"
    return _row(root, training, cells, note, film)


def _supervised(root: Path, training: EvaluationReport) -> RunSummary:
    """The row of a run of `adapt.train`, with its result if it is finished."""
    settings = training.settings
    names = {group: _named(settings.get(group)) for group in ("benchmark", "adapt", "base")}
    about = {group: Sortable(name) for group, name in names.items()}
    about["protocol"] = Sortable(str(settings.get("protocol", "")))
    if not (training.path / "result.json").is_file():
        empty = {name: Sortable("") for name in ("score", "forgetting", "parameters")}
        return _row(root, training, {**empty, **about}, "not finished")
    finished = read_run(training.path)
    score = finished.score
    value, forgetting, size = (finished.result.get(name) for name in (score, "forgetting", "parameters"))
    cells = {
        "score": Sortable(f"{number(score, value)} {score.replace('_', ' ')}", value),
        "forgetting": Sortable(number("forgetting", forgetting), forgetting),
        "parameters": Sortable(number("parameters", size), size),
    }
    return _row(root, training, {**cells, **about})


def _named(choice: Any) -> str:
    return str(choice.get("name", "")) if isinstance(choice, Mapping) else str(choice or "")


def _row(
    root: Path, training: EvaluationReport, cells: dict[str, Sortable], note: str = "", film: str = ""
) -> RunSummary:
    """What all kinds of runs share."""
    minutes = training.metrics[-1].get("seconds", 0.0) / 60 if training.metrics else None
    seed = training.trained.get("seed")
    date = str(training.trained.get("date", ""))[:16].replace("T", " ")
    cells["minutes"] = Sortable("" if minutes is None else f"{minutes:.1f}", minutes)
    cells["seed"] = Sortable("" if seed is None else str(seed), seed)
    cells["date"] = Sortable(date)
    path = os.path.relpath(training.path, root)
    report = training.path / "report.html"
    return RunSummary(
        path=path,
        cells=cells,
        searched=" ".join([path, *(one.text for one in cells.values() if one.by is None), note]).lower(),
        curves=dict(_curves(training.metrics)),
        report=_link(root, report) if report.is_file() else "",
        film=film,
        note=note,
    )


def _link(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _curves(metrics: list[dict[str, float]]) -> Iterator[tuple[str, list[list[float]]]]:
    """Every number that was logged twice or more, smoothed as in reports and thinned to `MOST_POINTS`."""
    keys = dict.fromkeys(key for line in metrics for key in line if key not in NOT_DRAWN)
    for key in keys:
        lines = [line for line in metrics if key in line]
        if len(lines) < 2:
            continue
        values = smooth(np.array([line[key] for line in lines], np.float64))
        picked = np.unique(np.linspace(0, len(lines) - 1, min(MOST_POINTS, len(lines))).round().astype(int))
        yield (
            key,
            [
                [lines[i]["step"] for i in picked],
                [round(lines[i].get("seconds", 0.0) / 60, 3) for i in picked],
                [float(f"{values[i]:.5g}") for i in picked],
            ],
        )
