"""Results of the speed benchmark: ``docs/bench.json`` and the table in ``docs/bench.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from adapt.training.files import to_json
from adapt.training.run import write_text


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    Attributes:
        section: Section of the benchmark.
        what: What was measured.
        value: The number.
        unit: Its unit.
        reference: What `ratio` compares with, measured in the same run.
        ratio: This over that, as `reference` says; None where there is none.
        target: What is wanted, in words; empty where nothing is.
    """

    section: str
    what: str
    value: float
    unit: str
    reference: str = ""
    ratio: float | None = None
    target: str = ""


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
    kept = [row for row in old.get("rows", []) if row["section"] not in about]
    document = {"about": {**old.get("about", {}), **about}, "rows": [*kept, *(asdict(row) for row in rows)]}
    write_text(path, to_json(document, indent=1))
    loader = PackageLoader("agents.bench")
    pages = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["number"] = number
    sections: dict[str, list[dict[str, Any]]] = {}
    for row in document["rows"]:
        sections.setdefault(row["section"], []).append(row)
    page = pages.get_template("bench.md.j2").render(sections=sections, about=document["about"])
    write_text(path.with_suffix(".md"), page)
