"""Commands that are killed at random moments go on to the same end, and leave nothing; see `tests.tools.kill`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.kill import Harness, Started
from tests.tools.kill_commands import Command

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")


@pytest.mark.kill
def test_killed_commands_go_on_to_the_same_end() -> None:
    """In a process of its own, which forks."""
    words = [f"kills={os.environ.get('KILLS', 200)}", f"seed={os.environ.get('KILL_SEED', 0)}"]
    done = subprocess.run([sys.executable, "-m", "tests.tools.kill", *words], cwd=ROOT, check=False)
    assert done.returncode == 0


# -- what the harness finds: a command that does one thing wrong ------------------------------------------------------

FAULTY = """
import subprocess, sys, time
from pathlib import Path
fault, folder = sys.argv[1], Path(sys.argv[2])
begun = (folder / "begun").exists()
(folder / "begun").write_text("")
if fault == "process" and not begun:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if fault == "temporary":
    import tempfile
    tempfile.mkdtemp()
if fault == "hidden" and not begun:
    (folder / ".half").write_text("")
if fault == "memory" and not begun:
    Path(f"/dev/shm/kill_test_{folder.parent.name}").write_text("")
time.sleep(0.4)
if fault == "error" and begun:
    raise SystemExit(3)
(folder / "result").write_text("other" if fault == "counts" and begun else "same")
"""


def faulty(fault: str) -> Command:
    return Command(
        fault,
        "faulty_command",
        lambda folder, inputs: [fault, str(folder)],
        lambda folder: (folder / "result").read_text(),
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none", ""),
        ("process", "process left after the kill"),
        ("temporary", "left temporary/"),
        ("hidden", "left trial/.half"),
        ("memory", "shared memory left"),
        ("error", "ended with 3"),
        ("counts", "other counts: 'other' instead of 'same'"),
    ],
)
def test_the_harness_notices(fault: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_command.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tests.tools.kill.GONE", 0.3)
    monkeypatch.setattr("tests.tools.kill.inputs_of", lambda folder: [])
    harness = Harness(tmp_path / "work", (faulty(fault),), lambda text: None)
    harness.undisturbed[fault] = 0.3, "same"
    try:
        trial = harness.trial(0, 0)
    finally:
        Path("/dev/shm/kill_test_work").unlink(missing_ok=True)
    assert trial.faults == () if not said else any(said in found for found in trial.faults), trial


def test_all_processes_of_a_command_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_command.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trial").mkdir()
    started = Started("faulty_command", ["process", str(tmp_path / "trial")], tmp_path)
    assert started.wait(30) and started.code == 0
    assert len(started.left()) == 1
    started.end_all()
    assert not started.left()
