"""The report of one run, with the published numbers where a paper has some of such a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapt.supervised.comparison import add_pictures, curves, curves_caption
from adapt.supervised.finished import Finished, number, read_run
from adapt.supervised.page import Document, png


def write_report(path: Path) -> Path:
    """Write `report.html` and `report.md` into a run folder; gives the path of the first."""
    run = read_run(path)
    result, published = run.result, run.published
    document = Document(f"{result['method']} on {result['benchmark']}, {result['protocol']}")
    document.paragraph(
        f"{len(result['tasks'])} tasks, {result['images']:,} training examples in all, {result['seconds']:.0f} s. "
        f"Seed {run.versions['seed']}, commit {run.versions['git_commit'][:12]}, {run.versions['date']}."
    )
    document.code(run.versions["command"])
    document.table(
        ["all tasks", "here", "published"],
        [[name, number(name, value), number(name, published.get(name))] for name, value in headline(run).items()],
    )
    document.heading("Tasks")
    scores = list(dict.fromkeys(name for scores in result["per_task"].values() for name in scores))
    rows = []
    for task in result["tasks"]:
        numbers = result["per_task"].get(task, {})
        rows.append([task, *(_beside(run, task, name, numbers.get(name)) for name in scores)])
    document.table(["task", *scores], rows)
    if run.row is not None:
        document.paragraph(f"Published numbers, in brackets or a column of their own, are of: {run.row.source}.")
    if len(result["matrix"]["loss"]) > 1:
        text = "Growth of a task's test loss after its own training"
        text = curves_caption(text, "log of its loss over its loss when first", [run])
        document.figure("report", png(curves({run.name: [run]}), 110), text)
    add_pictures(document, {run.name: run})
    return document.write(path, "report")


def _beside(run: Finished, task: str, name: str, value: Any) -> str:
    """A number of a task, with the published one in brackets if there is one."""
    key = task if name == run.result["score"][task] else f"{task}/{name}"
    published = number(name, run.published.get(key))
    return f"{number(name, value)} ({published})" if published else number(name, value)


def headline(run: Finished) -> dict[str, Any]:
    """The numbers over all tasks, by name."""
    skipped = ("images", "seconds", "head_parameters", "base_width")
    return {
        name: value
        for name, value in run.result.items()
        if (isinstance(value, int | float) or name == "rigidity") and name not in skipped
    }
