"""A page of tables and figures: Markdown for a document, and one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents.reports.page import template
from configs.writing import write_atomically


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first `labels` columns are names, the others numbers."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1


@dataclass(frozen=True)
class Drawing:
    """A figure as PNG bytes, drawn for light and for dark ground."""

    name: str
    caption: str
    light: bytes
    dark: bytes


@dataclass
class TablePage:
    """A page's content, in order.

    Attributes:
        title: The first heading.
        note: What a reader must know.
        tables: One section each.
        drawings: Before the tables.
        commands: How to make it again.
    """

    title: str
    note: str
    tables: list[TextTable] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> Path:
        """Write ``name.html``, ``name.md`` and the figures' PNG files; returns the page."""
        folder.mkdir(parents=True, exist_ok=True)
        for drawing in self.drawings:
            write_atomically(folder / f"{name}_{drawing.name}.png", drawing.light)
        write_atomically(folder / f"{name}.md", self.markdown(name).encode())
        page = template("tables.html.j2").render(page=self, data=_data)
        write_atomically(folder / f"{name}.html", page.encode())
        return folder / f"{name}.html"

    def markdown(self, name: str) -> str:
        """The page as Markdown; figures are named by their files."""
        parts = [f"# {self.title}", self.note]
        parts += [f"![{d.caption}]({name}_{d.name}.png)" for d in self.drawings]
        for table in self.tables:
            parts += [f"## {table.title}", *([table.note] if table.note else []), _markdown(table)]
        if self.commands:
            parts += ["## Commands", "```\n" + "\n".join(self.commands) + "\n```"]
        return "\n\n".join(parts) + "\n"


def _markdown(table: TextTable) -> str:
    rule = ["---"] * table.labels + ["---:"] * (len(table.head) - table.labels)
    lines = [list(table.head), rule, *table.rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
