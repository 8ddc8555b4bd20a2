"""Small helpers that several modules share: atomic writing, and the nearest of known names."""

from __future__ import annotations

import os
from pathlib import Path

from configs.names import nearest

__all__ = ["nearest", "write_atomically"]


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
        temporary.unlink(missing_ok=True)
        message = f"could not write {path} ({error.strerror}); free some space there, older files are undamaged"
        raise OSError(error.errno, message) from error
