"""Disk space that is reserved before it is written, and JSON without undefined numbers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from configs.errors import FULL


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
