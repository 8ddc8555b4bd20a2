"""Several runs in one table, as Markdown for a document and as HTML to look at.

A row is drawn only if its run says how it was made: command, seed and git commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapt.supervised.page import Document
from agents.evaluation.statistics import summarise
from agents.reports.page import KICKER, NAMES, cell
from agents.reports.results import EvaluationReport, read_results

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal")


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
        ValueError: A run does not say its command, seed or git commit; or there is no run.
    """
    if not runs:
        raise ValueError("there is no run to compare; give run=[runs/a,runs/b]")
    reports = [read_results(run, split) for run in runs]
    groups = list(dict.fromkeys(group for report in reports for group in report.choices))
    head = ["run", *groups, *(NAMES[m] for m in MEASURES)]
    head += ["episodes", "scenes", "training (min)", "seed", "commit", "date"]
    rows = [_row(report, groups) for report in reports]
    document = Document(f"Comparison of {len(runs)} runs", KICKER)
    document.table(head, rows, 1 + len(groups))
    document.paragraph(_note(reports, split))
    document.heading("Commands")
    document.code("\n".join(line for report in reports for line in _commands(report)))
    page = document.write(runs[0].parent if out is None else out, "comparison")
    return page.with_suffix(".md"), page


def _row(report: EvaluationReport, groups: Sequence[str]) -> list[str]:
    trained, records = report.trained, report.rows["agent"]
    absent = [key for key in ("command", "seed", "git_commit") if trained.get(key) in (None, "", "unknown")]
    if absent:
        raise ValueError(
            f"{report.path}: versions.json has no {', '.join(absent)}; a result that cannot be made again "
            "is not put into a table; train it again in a git checkout"
        )
    summaries = summarise(records, MEASURES)
    cells = [cell(m, summaries[m]) for m in MEASURES]
    seconds = report.numbers.get("train_seconds")
    return [
        str(report.path),
        *(report.choices.get(group, "") for group in groups),
        *(f"{c.mean} [{c.low}, {c.high}]" for c in cells),
        str(len(records)),
        str(summaries["success"].scenes),
        "" if seconds is None else f"{seconds / 60:.1f}",
        str(int(trained["seed"])),
        str(trained["git_commit"])[:10] + ("+" if trained.get("git_dirty") else ""),
        str(trained.get("date", ""))[:10],
    ]


def _note(reports: Sequence[EvaluationReport], split: str) -> str:
    """What a reader must know to read the table."""
    episodes = {frozenset((r["scene_id"], r["episode_id"]) for r in report.rows["agent"]) for report in reports}
    which = "the same" if len(episodes) == 1 else "different"
    note = f"Split {split}. Means with 95% confidence intervals; scenes are resampled, then episodes. "
    note += f"{'All' if which == 'the same' else 'The'} runs were evaluated on {which} episodes."
    dirty = any(report.trained.get("git_dirty") for report in reports)
    return note + (" A + marks code changed since the commit." if dirty else "")


def _commands(report: EvaluationReport) -> list[str]:
    """Commands of a run, below the versions it was made with."""
    packages = ", ".join(f"{name} {version}" for name, version in report.trained.get("packages", {}).items())
    commands = [str(v["command"]) for v in (report.trained, report.evaluated) if v.get("command")]
    return [f"# {report.path}{': ' * bool(packages)}{packages}", *commands]
