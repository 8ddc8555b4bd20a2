"""Processes end with the one that started them, and leave nothing behind."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from pathlib import Path

import pytest

from agents.learners.dagger import _collect_in_child
from configs.processes import SPAWN, drop_torchrun_logs, run_in_processes

ROOT = Path(__file__).resolve().parents[1]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def descendants(pid: int) -> list[int]:
    """All processes below one, whatever they are."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def test_jobs_are_spread_and_errors_keep_their_traceback() -> None:
    assert sorted(run_in_processes(math.sqrt, [(float(n * n),) for n in range(7)], 2)) == list(range(7))
    assert list(run_in_processes(math.sqrt, [], 2)) == []
    with pytest.raises(ValueError, match=r"math domain|expected a nonnegative") as error:
        list(run_in_processes(math.sqrt, [(1.0,), (-1.0,), (4.0,)], 1))
    assert isinstance(error.value.__cause__, RemoteTraceback)
    with pytest.raises(ChildProcessError, match="ended without a word"):
        list(run_in_processes(os._exit, [(3,)], 1))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")
@pytest.mark.parametrize("everyone", [False, True])
def test_a_killed_process_takes_its_workers_along_and_leaves_no_shared_memory(everyone: bool, tmp_path: Path) -> None:
    code = "import time, configs.processes as p\nlist(p.run_in_processes(time.sleep, [(90,), (90,)], 2))"
    before = set(os.listdir("/dev/shm"))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, start_new_session=True)
    while sum("spawn_main" in Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(process.pid)) < 2:
        time.sleep(0.05)
    time.sleep(0.5)
    workers = descendants(process.pid)
    if everyone:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    assert gone(workers)
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "mp-" in name or "pym" in name}
    assert not list(tmp_path.iterdir())


def test_a_collector_whose_parent_died_before_it_began_ends_at_once() -> None:
    # Of the arguments only the parent's process id is looked at: 1 is not it.
    process = SPAWN.Process(target=_collect_in_child, args=(None, "", None, 0, (0, 1), 1))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("logs", [False, True])
def test_torchruns_empty_folders_are_removed_and_logs_are_not(
    logs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = tmp_path / "torchelastic_ab"
    for rank in range(2):
        (root / f"none_cd/attempt_0/{rank}").mkdir(parents=True)
    if logs:
        (root / "none_cd/attempt_0/1/stdout.log").touch()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(root / "none_cd/attempt_0/0/error.json"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    drop_torchrun_logs()
    assert root.exists()  # that is for the first rank to do
    monkeypatch.setenv("LOCAL_RANK", "0")
    drop_torchrun_logs()
    assert root.exists() == logs
    other = tmp_path / "logs_of_mine"
    other.mkdir()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(other / "error.json"))
    drop_torchrun_logs()
    assert other.exists()
    shutil.rmtree(tmp_path)
