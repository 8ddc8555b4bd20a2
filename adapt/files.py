"""Small helpers that several modules share: atomic writing, and the nearest of known names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error about an unknown name, empty if nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


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
