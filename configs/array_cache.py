"""Disk cache of arrays that take long to compute, keyed by what they depend on and by the version of the code.

Files lie in `configs.files.cache_folder` and may be deleted at any time. A file's name holds a digest of its key,
source code included, so that another version of Sidestep makes its own. Files appear complete or not at all; one that
is damaged is made anew. Beyond a number of bytes those that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.files import cache_folder, visible
from configs.writing import sweep, write_atomically

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")

LARGEST = 2 * 2**30
DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)


def code_version(code: Sequence[Path]) -> str:
    """A digest of source files, of all in a folder for a folder, and of the versions of NumPy and SciPy."""
    digest = hashlib.sha256(f"numpy {version('numpy')} scipy {version('scipy')}".encode())
    for part in code:
        for file in sorted(part.rglob("*.py")) if part.is_dir() else [part]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


class ArrayCache:
    """Arrays in a folder of the user's cache.

    Attributes:
        folder: Where the files are.
    """

    def __init__(self, name: str, code: str) -> None:
        """Use the folder `name` of the cache for what this version of the `code` (`code_version`) makes."""
        self.folder, self._code = cache_folder() / name, code
        self._written = False

    def file(self, name: str, key: Mapping[str, Any]) -> Path:
        """The file in which `get` keeps its arrays."""
        digest = hashlib.sha256(json.dumps([self._code, key], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}-{digest[:16]}.npz"

    def get(
        self,
        name: str,
        key: Mapping[str, Any],
        make: Callable[[], T],
        pack: Callable[[T], Arrays],
        unpack: Callable[[Arrays], T],
    ) -> T:
        """The result of `make`, from the cache where it is there.

        Args:
            name: Beginning of the file's name.
            key: All that it depends on, besides the code; JSON.
            make: Computes it.
            pack: Makes arrays of it.
            unpack: Makes it of these arrays.
        """
        file = self.file(name, key)
        with contextlib.suppress(*DAMAGE):
            return unpack(read_arrays(file))
        result = make()
        self._write(file, pack(result))
        return result

    def _write(self, file: Path, arrays: Arrays) -> None:
        """Put arrays into the cache; where that is impossible they are made every time, with a warning."""
        try:
            write_arrays(file, arrays)
            self._written = True
        except OSError as error:
            message = f"nothing is kept for the next start: {error.strerror}; SIDESTEP_CACHE names the folder"
            warnings.warn(message, stacklevel=3)

    def trim(self, largest: int = LARGEST) -> None:
        """Drop the least recently used files beyond `largest` bytes, and half-written ones, if anything was written."""
        if not self._written:
            return
        self._written = False
        with contextlib.suppress(OSError):
            sweep(self.folder)
            total = 0
            for file in sorted(visible(self.folder), key=lambda file: -file.stat().st_mtime):
                total += file.stat().st_size
                if total > largest:
                    file.unlink(missing_ok=True)


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Write arrays into a file, which appears complete or not at all; raises OSError where that is impossible."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomically(file, content.getvalue(), lasting=False)


def read_arrays(file: Path) -> Arrays:
    """The arrays of a file, whose checksums are verified; it counts as used now. Raises one of `DAMAGE`."""
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    with contextlib.suppress(OSError):
        os.utime(file)
    return arrays
