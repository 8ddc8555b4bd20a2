"""Report documents (headings, paragraphs, tables, figures), written as Markdown and as one offline HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from configs.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def template(name: str, package: str) -> Template:
    """A Jinja template of a package; text is escaped, and an unknown variable is an error."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("adapt.supervised")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def png(figure: Figure, dpi: int, **options: Any) -> bytes:
    """A Matplotlib figure as the bytes of a PNG file; `options` are those of `Figure.savefig`."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi, **options)
    return data.getvalue()


@dataclass(frozen=True)
class _Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int

    def __str__(self) -> str:
        rule = ["---"] * self.labels + ["---:"] * (len(self.head) - self.labels)
        lines = [self.head, rule, *self.rows]
        return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


@dataclass(frozen=True)
class _Picture:
    name: str
    caption: str
    png: bytes
    dark: bytes | None

    def __str__(self) -> str:
        return f"![{self.caption}]({self.name}.png)\n\n{self.caption}"


@dataclass
class _Section:
    heading: str
    blocks: list[tuple[str, Any]] = field(default_factory=list)


@dataclass
class Document:
    """A document's content in order; add to it by the methods, then `write`.

    Attributes:
        title: the first heading.
        kicker: what kind of document it is, above the title of the HTML page.
        sections: headings with what stands below them.
    """

    title: str
    kicker: str = "Sidestep"
    sections: list[_Section] = field(default_factory=lambda: [_Section("")])

    def _add(self, kind: str, block: Any) -> None:
        self.sections[-1].blocks.append((kind, block))

    def heading(self, text: str) -> None:
        """A heading below the title."""
        self.sections.append(_Section(text))

    def paragraph(self, text: str) -> None:
        """Plain text."""
        self._add("paragraph", text)

    def code(self, text: str) -> None:
        """Commands, one a line."""
        self._add("code", text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> None:
        """A table; the first `labels` columns are text, the others numbers."""
        self._add("table", _Table(head, rows, labels))

    def figure(self, name: str, picture: bytes, caption: str, dark: bytes | None = None) -> None:
        """A PNG picture, if need be another one for a dark page; the Markdown refers to a file `<name>.png`."""
        self._add("figure", _Picture(name, caption, picture, dark))

    def markdown(self) -> str:
        """The document as Markdown."""
        parts = [f"# {self.title}"]
        for section in self.sections:
            parts += [f"## {section.heading}"] if section.heading else []
            parts += [f"```\n{block}\n```" if kind == "code" else str(block) for kind, block in section.blocks]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path, name: str) -> Path:
        """Write `<name>.md`, its pictures and `<name>.html`; gives the path of the last."""
        for section in self.sections:
            for kind, block in section.blocks:
                if kind == "figure":
                    write_atomically(folder / f"{block.name}.png", block.png)
        write_atomically(folder / f"{name}.md", self.markdown().encode())
        page = template("document.html.j2", "adapt.supervised").render(document=self, data=_data)
        write_atomically(folder / f"{name}.html", page.encode())
        return folder / f"{name}.html"


def _data(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()
