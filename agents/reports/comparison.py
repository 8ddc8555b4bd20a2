"""Several runs in one table, as Markdown for a document and as HTML to look at.

A row is drawn only if its run says how it was made: command, seed and git commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.evaluation.statistics import summarise
from agents.reports.page import NAMES, Cell, cell, template
from agents.reports.results import EvaluationReport, read_results
from configs.writing import write_atomically

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal")


@dataclass(frozen=True)
class RunRow:
    """One run of a comparison."""

    run: str
    choices: dict[str, str]
    cells: list[Cell]
    episodes: int
    scenes: int
    minutes: str
    seed: int
    commit: str
    date: str
    commands: tuple[str, ...]
    versions: str


def compare(runs: Sequence[Path], split: str = "val") -> tuple[list[RunRow], bool]:
    """Rows of a comparison, and whether all runs were evaluated on the same episodes.

    Raises:
        FileNotFoundError: A run does not exist or was not evaluated on `split`.
        ValueError: A run does not say its command, seed or git commit; or there is no run.
    """
    if not runs:
        raise ValueError("there is no run to compare; give run=[runs/a,runs/b]")
    reports = [read_results(run, split) for run in runs]
    evaluated = {frozenset((r["scene_id"], r["episode_id"]) for r in report.rows["agent"]) for report in reports}
    return [_row(report) for report in reports], len(evaluated) == 1


def _row(report: EvaluationReport) -> RunRow:
    made = report.trained
    absent = [key for key in ("command", "seed", "git_commit") if made.get(key) in (None, "", "unknown")]
    if absent:
        raise ValueError(
            f"{report.path}: versions.json does not tell {', '.join(absent)}; a result that cannot be made again "
            "is not put into a table; train it again in a git checkout"
        )
    records = report.rows["agent"]
    found = summarise(records, MEASURES)
    seconds = report.numbers.get("train_seconds")
    return RunRow(
        run=str(report.path),
        choices=report.choices,
        cells=[cell(m, found[m]) for m in MEASURES],
        episodes=len(records),
        scenes=found["success"].scenes,
        minutes="" if seconds is None else f"{seconds / 60:.1f}",
        seed=int(made["seed"]),
        commit=str(made["git_commit"])[:10] + ("+" if made.get("git_dirty") else ""),
        date=str(made.get("date", ""))[:10],
        commands=tuple(str(v["command"]) for v in (made, report.evaluated) if v.get("command")),
        versions=", ".join(f"{k} {v}" for k, v in made.get("packages", {}).items()),
    )


def _groups(rows: Sequence[RunRow]) -> list[str]:
    """Config groups that some run names, in the order of the first."""
    return list(dict.fromkeys(group for row in rows for group in row.choices))


def _lines(rows: Sequence[RunRow]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table as text."""
    groups = _groups(rows)
    head = [
        "run",
        *groups,
        *(NAMES[m] for m in MEASURES),
        "episodes",
        "scenes",
        "training (min)",
        "seed",
        "commit",
        "date",
    ]
    body = [
        [
            row.run,
            *(row.choices.get(group, "") for group in groups),
            *(f"{c.mean} [{c.low}, {c.high}]" for c in row.cells),
            *map(str, (row.episodes, row.scenes, row.minutes, row.seed, row.commit, row.date)),
        ]
        for row in rows
    ]
    return head, body


def _note(rows: Sequence[RunRow], same: bool, split: str) -> str:
    """What a reader must know to read the table."""
    note = f"Split {split}. Means with 95% confidence intervals; scenes are resampled, then episodes."
    note += (
        " All runs were evaluated on the same episodes." if same else " The runs were evaluated on different episodes."
    )
    return note + (" A + marks code changed since the commit." if any(r.commit.endswith("+") for r in rows) else "")


def markdown(rows: Sequence[RunRow], same: bool, split: str) -> str:
    """The comparison as Markdown: table, remarks, and the command of each row."""
    head, body = _lines(rows)
    table = [head, ["---"] * len(head), *body]
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in table]
    commands = [f"    {command}" for row in rows for command in row.commands]
    return "\n".join([*lines, "", _note(rows, same, split), "", "Commands:", "", *commands, ""])


def write_comparison(runs: Sequence[Path], split: str = "val", out: Path | None = None) -> tuple[Path, Path]:
    """Write ``comparison.md`` and ``comparison.html`` of several runs.

    Args:
        runs: Run folders, one row each.
        split: The split they were evaluated on.
        out: Folder to write to; beside the first run by default.

    Returns:
        The two files.

    Raises:
        FileNotFoundError: A run does not exist or was not evaluated on `split`.
        ValueError: A run does not say its command, seed or git commit.
    """
    rows, same = compare(runs, split)
    folder = runs[0].parent if out is None else out
    page = template("comparison.html.j2").render(
        rows=rows, groups=_groups(rows), measures=[NAMES[m] for m in MEASURES], note=_note(rows, same, split)
    )
    files = folder / "comparison.md", folder / "comparison.html"
    write_atomically(files[0], markdown(rows, same, split).encode())
    write_atomically(files[1], page.encode())
    return files
