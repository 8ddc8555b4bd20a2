"""The wheel: it holds every file that the packages need, and works in an environment without the checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adapt", "agents", "configs", "envs")
COMMAND = re.compile(r"python -m ((?:adapt|agents|envs)\.[a-z_]+)")
# Runs each command's --help in one process, which imports torch once.
HELP_OF_ALL = """
import contextlib, io, runpy, sys
from hydra.core.global_hydra import GlobalHydra
for name in sys.argv[1:]:
    GlobalHydra.instance().clear()
    sys.argv = [name, "--help"]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, (name, end.code)
    assert len(shown.getvalue()) > 100, name
    print(name, len(shown.getvalue()))
"""


def documented_commands() -> list[str]:
    """Every `python -m ...` of README, docs and Makefile."""
    files = [ROOT / "README.md", ROOT / "Makefile", *(ROOT / "docs").rglob("*.md")]
    return sorted({name for file in files for name in COMMAND.findall(file.read_text())})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the files that git tracks."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout, to know which files belong to the project")
    for name in filter(None, listed.stdout.split("\0")):
        if name.partition("/")[0] in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={out}", str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what pip installs from the wheel."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={target}"]
    subprocess.run([*command, str(wheel)], check=True)
    return target


def run(installed: Path, *words: str) -> str:
    """Run Python beside the installed wheel, far from the checkout; its output."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=installed,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_holds_every_tracked_file_of_the_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name for name in filter(None, listed.stdout.split("\0")) if (ROOT / name).is_file()}
    assert tracked <= held, sorted(tracked - held)
    assert not {name for name in held if name.partition("/")[0] not in PACKAGES and ".dist-info/" not in name}


def test_the_installed_wheel_finds_its_files(installed: Path) -> None:
    code = "import adapt, sys; print(adapt.__file__); print(adapt.load_base('curvature').sha256)"
    where, sha256 = run(installed, "-c", code).split()
    assert Path(where).is_relative_to(installed)
    assert re.fullmatch("[0-9a-f]{64}", sha256)


def test_the_installed_wheel_has_the_command_sidestep(installed: Path) -> None:
    assert "evaluate" in run(installed, str(installed / "bin" / "sidestep"), "--help")
    assert "memory.apartments" in run(installed, str(installed / "bin" / "sidestep"), "bench", "--help")


@pytest.mark.slow
def test_every_documented_command_of_the_installed_wheel_prints_its_help(installed: Path) -> None:
    names = documented_commands()
    assert len(names) > 15
    assert len(run(installed, "-c", HELP_OF_ALL, *names).splitlines()) == len(names)
