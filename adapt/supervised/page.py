"""Report documents (headings, paragraphs, tables, figures), written as Markdown and as one offline HTML file."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from configs.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
:root { color-scheme: light dark; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td { font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8885; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; background: white; }
pre { white-space: pre-wrap; background: #8882; padding: .6rem; }
"""


@dataclass
class Document:
    """A document's content in order; add to it by the methods, then `write`.

    Attributes:
        title: the first heading.
    """

    title: str
    _markdown: list[str] = field(default_factory=list)
    _html: list[str] = field(default_factory=list)
    _pictures: dict[str, bytes] = field(default_factory=dict)

    def heading(self, text: str) -> None:
        """A heading below the title."""
        self._markdown.append(f"## {text}")
        self._html.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Plain text."""
        self._markdown.append(text)
        self._html.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """A command."""
        self._markdown.append(f"```\n{text}\n```")
        self._html.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """A table; the first column is text, the others are numbers."""
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        self._markdown.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._html.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def figure(self, name: str, figure: Figure, text: str) -> None:
        """A picture and what it shows; the Markdown refers to a file `<name>.png` beside it."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        self._pictures[f"{name}.png"] = buffer.getvalue()
        encoded = base64.b64encode(buffer.getvalue()).decode()
        self._markdown.append(f"![{text}]({name}.png)")
        self._html.append(f'<p><img src="data:image/png;base64,{encoded}" alt="{html.escape(text)}"></p>')
        self.paragraph(text)

    def write(self, folder: Path, name: str) -> Path:
        """Write `<name>.md`, its pictures and `<name>.html`; gives the path of the last."""
        for file, data in self._pictures.items():
            write_atomically(folder / file, data)
        text = "\n\n".join([f"# {self.title}", *self._markdown]) + "\n"
        write_atomically(folder / f"{name}.md", text.encode())
        title = html.escape(self.title)
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
            f"</head><body><h1>{title}</h1>{''.join(self._html)}</body></html>"
        )
        write_atomically(folder / f"{name}.html", page.encode())
        return folder / f"{name}.html"
