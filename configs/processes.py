"""Processes that end with the one that started them, however that ends; and what torchrun leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

SPAWN = multiprocessing.get_context("spawn")
PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent ends; at once if it has ended already.

    Call it first in a new process. Where there is no prctl (not Linux) only the second half is done.

    Args:
        parent: The parent's process id, as the parent itself said it: asked for here it may be another's already.
        number: Which signal.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def run_in_processes(work: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """Do jobs in several new processes, which end when this one does; yields results as they come.

    Unlike `concurrent.futures` this needs no named semaphores, which a killed process leaves in shared memory.

    Args:
        work: A function of a module.
        jobs: Its arguments.
        workers: How many processes.

    Raises:
        ChildProcessError: A process ended by itself (killed, or out of memory).
        Exception: What `work` raised; the other processes are then ended.
    """
    left = iter(jobs)
    started: dict[Connection, Any] = {}
    try:
        for _, job in zip(range(workers), left, strict=False):
            here, there = SPAWN.Pipe()
            process = SPAWN.Process(target=_serve, args=(there, os.getpid(), work))
            process.start()
            there.close()
            here.send(job)
            started[here] = process
        busy = set(started)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                yield _received(ready)
                following: tuple[Any, ...] | None = next(left, None)
                if following is None:
                    busy.discard(ready)
                else:
                    ready.send(following)
    finally:
        for here, process in started.items():
            here.close()
            process.terminate()
            process.join()


def _received(ready: Connection) -> Any:
    """What a process answers, or what it raised."""
    try:
        done, result = ready.recv()
    except EOFError as error:
        raise ChildProcessError("a working process ended without a word (killed, or out of memory?)") from error
    if not done:
        raise result
    return result


def _serve(jobs: Connection, parent: int, work: Callable[..., Any]) -> None:
    """Body of a process: answers jobs until the other end is closed."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the parent gets too, and then ends this process
    while True:
        try:
            job = jobs.recv()
        except (EOFError, OSError):
            return
        answer: tuple[bool, Any]
        try:
            answer = True, work(*job)
        except Exception as error:
            answer = False, ExceptionWithTraceback(error, error.__traceback__)
        jobs.send(answer)


def drop_torchrun_logs() -> None:
    """Remove the folder for logs that torchrun makes for a job and never removes, if it is temporary and empty."""
    named = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if named is None or os.environ.get("LOCAL_RANK") != "0":
        return
    base = Path(tempfile.gettempdir())
    root = next((p for p in Path(named).parents if p.parent == base and p.name.startswith("torchelastic_")), None)
    if root is None or any(not p.is_dir() for p in root.rglob("*")):
        return
    for folder in sorted(root.rglob("*"), reverse=True):  # the deepest first
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        root.rmdir()


def end_with_torchrun() -> None:
    """Stop a rank (SIGTERM) when torchrun itself is killed."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        end_with_parent(os.getppid(), signal.SIGTERM)
