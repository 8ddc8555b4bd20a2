from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What a room of the project may import of the others.
ALLOWED = {
    "configs": set(),
    "envs": {"configs"},
    "adapt": {"configs"},
    "agents": {"configs", "envs", "adapt"},
}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        wrong = (imports(file) & ALLOWED.keys()) - ALLOWED[room] - {room}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_import_leaves_the_process_as_it_was(room: str) -> None:
    code = (
        "import os, sys, threading\n"
        "before = os.getcwd(), dict(os.environ), threading.active_count(), list(sys.path)\n"
        f"import {room}\n"
        "assert before == (os.getcwd(), dict(os.environ), threading.active_count(), list(sys.path))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
