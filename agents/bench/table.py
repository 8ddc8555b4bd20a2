"""Results of the speed benchmark: ``docs/bench.json`` and the table in ``docs/bench.md``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from adapt.training.files import to_json
from adapt.training.run import write_text


@dataclass(frozen=True)
class Measurement:
    """One measured number, or the median of several runs (`median_of`).

    Attributes:
        section: Section of the benchmark.
        what: What was measured.
        value: The number.
        unit: Its unit.
        reference: What `ratio` compares with, measured in the same run.
        ratio: This over that, as `reference` says; None where there is none.
        target: What is wanted, in words; empty where nothing is.
        spread: Largest minus smallest of the runs over their median, of `ratio` where there is one, else of `value`;
            None of a single run.
    """

    section: str
    what: str
    value: float
    unit: str
    reference: str = ""
    ratio: float | None = None
    target: str = ""
    spread: float | None = None


def median_of(runs: Sequence[Sequence[Measurement]]) -> list[Measurement]:
    """The medians of several runs of a section, and their spread.

    Raises:
        ValueError: The runs measured different things.
    """
    if len({tuple(row.what for row in run) for run in runs}) > 1:
        raise ValueError("runs of a section measured different things")
    medians = []
    for rows in zip(*runs, strict=True):
        values = [row.value for row in rows]
        ratios = [row.ratio for row in rows if row.ratio is not None]
        compared = ratios or values
        middle = statistics.median(compared)
        spread = (max(compared) - min(compared)) / abs(middle) if len(rows) > 1 and middle else None
        ratio = statistics.median(ratios) if ratios else None
        medians.append(replace(rows[0], value=statistics.median(values), ratio=ratio, spread=spread))
    return medians


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "" if value is None else f"{100 * value:.0f}%"


def number(value: float | None) -> str:
    """A number with three digits or so that mean something."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_results(path: Path, rows: Sequence[Measurement], about: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the sections that were measured into the document at `path` and keep its others; write the page beside it.

    Args:
        path: ``bench.json``.
        rows: The rows of the sections that were measured.
        about: For each of these sections when, where and by which command it was measured.
    """
    old = json.loads(path.read_text()) if path.exists() else {}
    others = [row for row in old.get("rows", []) if row["section"] not in about]
    document = {"about": {**old.get("about", {}), **about}, "rows": [*others, *(asdict(row) for row in rows)]}
    write_text(path, to_json(document, indent=1))
    loader = PackageLoader("agents.bench")
    pages = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(number=number, percent=percent)
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        rows_of.setdefault(row["section"], []).append({"spread": None, **row})
    page = pages.get_template("bench.md.j2").render(sections=rows_of, about=document["about"])
    write_text(path.with_suffix(".md"), page)
