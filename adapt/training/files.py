"""Small helpers that several modules share: atomic writing, and the nearest of known names."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from configs.names import nearest

__all__ = ["nearest", "write_atomically"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes so that `path` holds either all of them or what it held before.

    Raises:
        OSError: the disk is full or not writable; nothing at `path` changed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        advice = "free some space there" if error.errno in FULL else "choose another place"
        message = f"could not write {path} ({error.strerror}); {advice}, older files are undamaged"
        raise OSError(error.errno, message) from error
