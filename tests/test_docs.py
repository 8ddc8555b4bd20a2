"""The manual: links lead somewhere, the README shows numbers of the results, answers are tested, tutorials run."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import torch
import yaml

from adapt import load_base, wrap
from adapt.core.method import methods
from tests.tools.tutorials import run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *DOCS.rglob("*.md"),
    *TUTORIALS,
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def cells(notebook: Path, kind: str) -> list[str]:
    return ["".join(c["source"]) for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == kind]


def text(page: Path) -> str:
    """Markdown without code."""
    written = "\n\n".join(cells(page, "markdown")) if page.suffix == ".ipynb" else page.read_text()
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", written, flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    written = "\n\n".join(cells(page, "markdown")) if page.suffix == ".ipynb" else page.read_text()
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in HEADING.findall(written)]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def links(page: Path) -> Iterator[str]:
    yield from LINK.findall(text(page))
    yield from re.findall(r'(?:href|src)="([^"]+)"', text(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        address = urlparse(link)
        if address.scheme:
            if address.scheme not in ("https", "mailto") or not (address.netloc or address.path):
                wrong.append(link)
            continue
        file = (page.parent / address.path).resolve() if address.path else page
        readable = file.suffix in (".md", ".ipynb") and file.is_file()
        if not file.exists() or (address.fragment and not (readable and address.fragment in anchors(file))):
            wrong.append(link)
    assert not wrong


def test_the_site_shows_every_page() -> None:
    listed = re.findall(r": ([\w/]+\.(?:md|ipynb))", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(
        str(page.relative_to(DOCS)) for page in [*DOCS.rglob("*.md"), *TUTORIALS] if page.is_relative_to(DOCS)
    )


def test_numbers_of_the_readme_are_those_of_the_results() -> None:
    rows = re.findall(
        r"^\| (success|SPL|time|success of a blind)[^|]*\| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.M
    )
    assert len(rows) == 4
    (demo,) = re.findall(r"^## The demo\n(.*?)^## ", (DOCS / "results.md").read_text(), re.M | re.DOTALL)
    assert [value for _, value in rows if value not in demo] == []


def test_pictures_are_small() -> None:
    shown = [path for path in DOCS.rglob("*") if path.suffix in (".gif", ".png", ".jpg", ".ipynb", ".svg")]
    assert not [path.name for path in shown if path.stat().st_size > 2_000_000]


def test_every_answer_names_a_test_that_exists() -> None:
    answers = re.split(r"^## ", (DOCS / "faq.md").read_text(), flags=re.MULTILINE)[1:]
    assert len(answers) >= 10
    for answer in answers:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", answer)
        assert named, answer.splitlines()[0]
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (file, name)


def test_the_method_of_the_how_to_page_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "howto/method.md").read_text(), re.DOTALL)
    monkeypatch.setattr(methods, "_parts", dict(methods._parts))
    exec(compile(code, "bias.py", "exec"), {"__name__": "bias"})
    adapted = wrap(load_base("curvature"), "bias", task="t", image_size=64)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = adapted(image=images).detach()
    optimiser = torch.optim.SGD(adapted.trainable(), lr=0.1)
    adapted(image=images).sum().backward()
    optimiser.step()
    assert not torch.equal(adapted(image=images), before)
    assert torch.allclose(adapted.merge("t")(images), adapted(image=images), atol=1e-5)


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_hold_what_they_printed(notebook: Path) -> None:
    made = json.loads(notebook.read_text())
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    assert any(cell["outputs"] for cell in code)
    # Nothing of the machine that ran it.
    assert not re.search(r"/(?:tmp|root|home|work)/|\.py:\d+: \w*Warning", notebook.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(name, reason='notebooks need pip install -e ".[docs]"')
    for name in ("PATH", "PYTHONPATH"):  # which the tool sets
        monkeypatch.setenv(name, os.environ.get(name, ""))
    made = run(notebook, tmp_path)
    printed = "".join(out.get("text", "") for cell in made.cells for out in cell.get("outputs", []))
    assert "error:" not in printed


def test_notebooks_name_the_kernel_that_every_installation_has() -> None:
    assert {json.loads(notebook.read_text())["metadata"]["kernelspec"]["name"] for notebook in TUTORIALS} <= {"python3"}
    assert yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["docs"]
