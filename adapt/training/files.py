"""Files that survive kills and full disks: atomic writing, reserved space, locks that die with their holder; JSON.

Half-written content lies in a hidden file ``.<name>.<process id>.partial`` beside its place, locked by its writer. One
that a killed process left is removed when the same file is written again, or by `sweep`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from configs.names import nearest

__all__ = ["nearest", "replacing", "reserve", "reserved_array", "sweep", "to_json", "try_lock", "write_atomically"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PARTIAL = ".partial"


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes so that `path` holds either all of them or what it held before.

    Raises:
        OSError: the disk is full or not writable; nothing at `path` changed.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a new file that takes the place of `path` when the block ends without an error.

    Raises:
        OSError: the disk is full or not writable; nothing at `path` changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        with temporary.open("w+b") as file:
            try_lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        advice = "free some space there" if error.errno in FULL else "choose another place"
        message = f"could not write {path} ({error.strerror}); {advice}, older files are undamaged"
        raise OSError(error.errno, message) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left half-written of the file `name`, or of all files, directly in a folder."""
    pattern = name if name == "*" else glob.escape(name)
    for left in folder.glob(f".{pattern}.*{PARTIAL}"):
        with contextlib.suppress(OSError), left.open("r+b") as file:
            if try_lock(file):
                left.unlink()


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


def reserved_array(path: Path, kind: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """A new ``.npy`` file, mapped into memory for writing, whose space on the disk is reserved.

    Without that the file is sparse, and a write into the map of a full disk ends the process (SIGBUS).

    Raises:
        OSError: the disk is too small or not writable; the file is gone again.
    """
    try:
        array: NDArray[Any] = open_memmap(path, "w+", np.dtype(kind), shape)
        reserve(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return array


def reserve(path: Path) -> None:
    """Reserve the disk space of a whole file; nothing where the file system cannot."""
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in FULL:
                raise


def to_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON text of plain values; a number that is undefined (NaN, infinite), for which JSON has none, becomes null."""
    return json.dumps(_defined(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _defined(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
