"""``python -m agents.compare run=runs/table [to=runs/table/scratch]``: evaluated runs side by side, a row per setting.

Runs that differ in their seeds alone become one row: the mean with its interval over seeds (Student's t) and over
scenes (bootstrap), and the difference from a chosen run's row, paired by seeds and by episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig

from adapt.supervised.page import Document
from agents.evaluation.statistics import MEASURES
from agents.reports.page import KICKER, NAMES
from agents.reports.repeats import Repeats, group_seeds, mean_cells, mean_heads, versus_cells
from agents.reports.results import EvaluationReport, read_results
from configs.compose import cli
from configs.files import visible
from configs.settings import Names, OneOf, Settings, as_list

NOTE = (
    "Means with 95% confidence intervals: over seeds by Student's t, over scenes by a bootstrap of scenes, then of "
    "episodes, whose outcomes are averaged over the seeds."
)


@dataclass(frozen=True)
class CompareSettings(Settings):
    """Settings of ``python -m agents.compare``.

    Attributes:
        run: Evaluated runs, or folders of them: runs/study or [runs/a,runs/b].
        to: One of the runs, that the others are compared with; null: none.
        split: The split they were evaluated on.
        measure: What the differences are of.
        out: Folder of the page; null: that of the first run, or the folder of runs.
    """

    run: Names
    to: str | None = None
    split: str = "val"
    measure: Annotated[str, OneOf(*MEASURES)] = "success"
    out: str | None = None


def find_reports(folders: Sequence[Path], split: str) -> list[EvaluationReport]:
    """The evaluated runs among folders and below them.

    Raises:
        FileNotFoundError: A folder holds none.
    """
    runs: list[Path] = []
    for folder in folders:
        below = [file.parents[2] for file in visible(folder, f"**/eval/{split}/agent.jsonl")]
        if not below:
            raise FileNotFoundError(f"{folder} holds no run evaluated on {split}; see python -m agents.evaluate")
        runs += below
    return [read_results(run, split) for run in dict.fromkeys(runs)]


def add_table(document: Document, groups: Sequence[Repeats], measure: str, to: Repeats | None) -> None:
    """Add a row for each setting."""
    measures = ("success", "spl", "nav_reward", "distance_to_goal")
    head = ["run", *mean_heads(measures, measures[:2])]
    if to is not None:
        head += [f"{NAMES[measure]}, difference (seeds)", "p (t)", "difference (scenes)", "p (signed rank, scenes)"]
    rows = []
    for group in groups:
        row = [group.name, *mean_cells(group, measures, measures[:2])]
        if to is not None:
            row += versus_cells(group, to, measure) if group is not to else [""] * 4
        rows.append(row)
    if to is not None:
        document.paragraph(f"Differences are from {to.name}.")
    document.table(head, rows)


@cli("compare_agents", CompareSettings)
def main(cfg: DictConfig) -> None:
    """Write the comparison and print its table."""
    folders = [Path(run) for run in as_list(cfg.run)]
    groups = group_seeds(find_reports(folders, cfg.split))
    to = None
    if cfg.to is not None:
        chosen = Path(cfg.to).resolve()
        to = next((g for g in groups if any(r.path.resolve() == chosen for r in g.reports)), None)
        if to is None:
            raise ValueError(f"to={cfg.to} is none of the {len(groups)} settings' runs; give the folder of one of them")
    document = Document(f"{len(groups)} settings", KICKER)
    document.paragraph(f"Split {cfg.split}. {NOTE}")
    add_table(document, groups, cfg.measure, to)
    print(document.markdown())  # noqa: T201 (the command's output)
    document.heading("Commands")
    commands = dict.fromkeys(str(r.trained.get("command", r.path)) for g in groups for r in g.reports)
    document.code("\n".join(commands))
    print(f"page: {document.write(Path(cfg.out or folders[0]), 'seeds')}")  # noqa: T201


if __name__ == "__main__":
    main()
