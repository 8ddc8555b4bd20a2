"""``python -m agents.report runs/a [split=val]``: one HTML file with the evaluation of an agent.

``python -m agents.report runs``, of a folder that holds runs, makes one page over all of them (`agents.reports.runs`);
``run=[runs/a,runs/b]`` compares several in a table for a document (`agents.reports.comparison`).
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from agents.reports.comparison import write_comparison
from agents.reports.evaluation import terminal_table, write_report
from agents.reports.results import read_results
from agents.reports.runs import is_run, write_runs
from agents.settings import ReportSettings
from configs.compose import cli


@cli("report", ReportSettings, bare="run")
def main(cfg: DictConfig) -> None:
    """Write the report of one run or the page over a folder of runs, or compare several."""
    if isinstance(cfg.run, ListConfig):
        out = None if cfg.out is None else Path(cfg.out)
        markdown, page = write_comparison([Path(str(run)) for run in cfg.run], cfg.split, out)
        print(f"{markdown.read_text()}\ncomparison: {markdown}, {page}")  # noqa: T201 (the command's output)
        return
    if cfg.out is not None:
        raise ValueError("out=... is for several runs; the report of one run lies in its folder")
    path = Path(cfg.run)
    if path.is_dir() and not is_run(path):
        print(f"runs: {write_runs(path, cfg.split)}")  # noqa: T201
        return
    report = write_report(path, cfg.split)
    print(terminal_table(read_results(path, cfg.split).rows))  # noqa: T201
    print(f"report: {report}")  # noqa: T201


if __name__ == "__main__":
    main()
