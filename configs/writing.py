"""Files that survive kills and full disks: atomic writing, and locks that die with their holder.

Half-written content lies in a hidden file ``.<name>.<process id>.<count>.partial`` beside its place, locked by its
writer; threads of one process that write the same file have one each. One that a killed process left is removed when
the same file is written again, or by `sweep`.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from configs.errors import FULL

PARTIAL = ".partial"
LOCK = "lock"  # a file in a folder that is being filled
# `next` on it is atomic.
_written = itertools.count()


def write_atomically(path: Path, data: bytes, lasting: bool = True) -> None:
    """Write bytes so that `path` holds either all of them or what it held before; `lasting` as in `replacing`.

    Raises:
        OSError: the disk is full or not writable; nothing at `path` changed.
    """
    with replacing(path, lasting) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, lasting: bool = True) -> Iterator[IO[bytes]]:
    """Give a new file that takes the place of `path` when the block ends without an error.

    Args:
        path: The file.
        lasting: Wait until it is on the disk, and first `sweep` what killed processes left of it. For thousands of
            small files that takes too long: without, sweep their folder once.

    Raises:
        OSError: the disk is full or not writable; nothing at `path` changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_written)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if lasting:
            sweep(path.parent, path.name)
        with _locked(temporary) as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        advice = "free some space there" if error.errno in FULL else "choose another place"
        message = f"could not write {path} ({error.strerror}); {advice}, older files are undamaged"
        raise OSError(error.errno, message) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _locked(path: Path) -> IO[bytes]:
    """A new file that this process has locked; again, where another's `sweep` came between its making and its lock."""
    while True:
        file = path.open("w+b")
        if try_lock(file) and path.exists():
            return file
        file.close()


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left half-written of the file `name`, or of all files, directly in a folder."""
    pattern = name if name == "*" else glob.escape(name)
    for left in folder.glob(f".{pattern}.*{PARTIAL}"):
        with contextlib.suppress(OSError), left.open("r+b") as file:
            if try_lock(file):
                left.unlink()


def scratch_folder(folder: Path, busy: str) -> tuple[Path, IO[bytes]]:
    """Make a hidden folder beside `folder` to write into, locked; those that killed processes left are removed.

    Args:
        folder: Whose place it, or what is in it but for its file `LOCK`, will take.
        busy: What to say where another process has such a folder.

    Returns:
        The new folder, and the open file that locks it.

    Raises:
        ValueError: Another process has one.
    """
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        number = old.suffix[1:]
        if old.is_dir() and number.isdigit() and old.name == f".{folder.name}.{number}":
            with (old / LOCK).open("ab") as file:
                if not try_lock(file):
                    raise ValueError(busy)
                shutil.rmtree(old, ignore_errors=True)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    lock = (scratch / LOCK).open("ab")
    try_lock(lock)
    return scratch, lock


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process until it is closed or the process ends; whether nobody else holds it.

    On a file system without locks everybody gets it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
