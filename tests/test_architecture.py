from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "architecture.md"
ROOMS = ("adapt", "agents", "configs", "envs")
# Modules at the top of a package that are no commands.
NO_COMMANDS = {"adapt.deltas", "agents.setup", "agents.settings", "envs.habitat_stand_ins", "envs.scene"}


def table() -> dict[str, set[str]]:
    """By package, what docs/architecture.md lets it import."""
    rows = DOCS.read_text().split("<!-- packages -->")[1].split("<!-- end -->")[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    return {name.strip("`"): set(filter(None, imports.split(", "))) for name, _, _, imports in cells}


ALLOWED = table()


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """The package of the table that a module belongs to; a module at the top of its room is one by itself."""
    return ".".join(module.split(".")[:2])


def is_command(module: str) -> bool:
    """Whether a module is run by `python -m`."""
    top = module.count(".") == 1 and not (ROOT / module.replace(".", "/")).is_dir()
    return module.endswith(".__main__") or (top and module not in NO_COMMANDS and not module.startswith("configs."))


@functools.cache
def imports(file: Path) -> list[tuple[str, bool]]:
    """Modules of this project that a file imports, and whether it does so inside a function."""
    return list(_imports(file))


def _imports(file: Path) -> Iterator[tuple[str, bool]]:
    tree = ast.parse(file.read_text())
    outside = {id(node) for top in tree.body for node in ([top] if not isinstance(top, ast.If) else ast.walk(top))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from adapt.core import checkpoint` imports a module, `from adapt import Base` a name.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if exists(name) else node.module for name in inner]
        else:
            continue
        yield from ((name, id(node) not in outside) for name in found if name.split(".")[0] in ROOMS)


@functools.cache
def exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


@functools.cache
def files() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def test_every_folder_is_in_the_picture_and_the_table() -> None:
    text = DOCS.read_text()
    picture = re.findall(r"\w+", text.split("<svg")[1].split("</svg>")[0])
    for room in ROOMS:
        for folder in (ROOT / room).iterdir():
            if folder.is_dir() and any(folder.glob("*.py")):
                assert folder.name in picture, f"{room}/{folder.name} is not in the picture of {DOCS}"
                if room != "configs":
                    assert f"{room}.{folder.name}" in ALLOWED, f"{room}.{folder.name} is not in the table of {DOCS}"
    for package in ALLOWED:
        assert exists(package), f"{DOCS} names {package}, which is not there"


@pytest.mark.parametrize("package", [*ALLOWED, "configs"])
def test_packages_import_what_the_table_names(package: str) -> None:
    allowed = ALLOWED.get(package, set())
    used = set()
    for file in files():
        module = module_of(file)
        if package not in (package_of(module), module.split(".")[0]) or is_command(module):
            continue
        for name, lazy in imports(file):
            target = package_of(name)
            if target == package or target.split(".")[0] == "configs" or package == "agents.bench":
                continue
            edge = f"{target} (lazily)" if lazy and f"{target} (lazily)" in allowed else target
            assert edge in allowed, f"{file.relative_to(ROOT)} imports {name}, which {DOCS.name} does not allow"
            used.add(edge)
    assert used >= allowed - {"everything"}, f"{package} no longer imports {allowed - used}; shorten {DOCS.name}"


def test_packages_form_no_cycle() -> None:
    after = {package: {n for n in names if n in ALLOWED} for package, names in ALLOWED.items()}
    while after:
        free = [package for package, names in after.items() if not names & after.keys()]
        assert free, f"these import each other: {sorted(after)}"
        for package in free:
            del after[package]


def test_nothing_imports_a_command() -> None:
    for file in files():
        for name, _ in imports(file):
            assert not is_command(name), f"{file.relative_to(ROOT)} imports the command {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_import_leaves_the_process_as_it_was(room: str) -> None:
    code = (
        "import os, sys, threading\n"
        "before = os.getcwd(), dict(os.environ), threading.active_count(), list(sys.path)\n"
        f"import {room}\n"
        "assert before == (os.getcwd(), dict(os.environ), threading.active_count(), list(sys.path))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


def test_a_first_frame_needs_neither_torch_nor_hydra() -> None:
    code = "import sys, envs.apartments.generator, envs.rendering.renderer\n"
    code += "assert not {'torch', 'hydra', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Words of this project's own for what the field calls otherwise; docs/glossary.md has those that stay.
PRIVATE = re.compile(r"\b(told|sittings?|led on|hangs? together|parted|speaks? for)\b", re.IGNORECASE)
NO_NAME = re.compile(r"(What|How|Where|Which|Why|So has)\b")


def public_docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Line and first line of the docstrings of a module and of its public classes, functions and methods."""

    def inside(node: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                yield child.lineno, (ast.get_docstring(child) or "").partition("\n")[0]
                if isinstance(child, ast.ClassDef):
                    yield from inside(child)

    tree = ast.parse(file.read_text())
    yield 1, (ast.get_docstring(tree) or "").partition("\n")[0]
    yield from inside(tree)


def test_first_lines_name_the_thing_in_the_words_of_the_field() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file in files()
        for line, text in public_docstrings(file)
        if NO_NAME.match(text) or PRIVATE.search(text)
    ]
    assert not found, "say what the field calls it, first:\n" + "\n".join(found)
