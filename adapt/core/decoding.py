"""Decoding of image files and NumPy arrays; a file that cannot be read is a one-line error."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.files import mistaken

Array = NDArray[Any]
# More classes than any set of images has; a network would get as many outputs.
MOST_CLASSES = 2**16


@contextmanager
def opened(source: Path | bytes, where: str = "") -> Iterator[Image.Image]:
    """An image file, open; decoding it fails in one line, too.

    Args:
        source: The file, or its content.
        where: Its name in messages, for content.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It cannot be decoded, or has more pixels than Pillow takes for an image.
    """
    name = str(source) if isinstance(source, Path) else where
    try:
        with warnings.catch_warnings():
            # Of images between half of that limit and it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                yield image
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no image {name}, which the dataset lists; unpack its archive again") from error
    except (OSError, SyntaxError, ValueError, MemoryError, EOFError, Image.DecompressionBombError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        reason = mistaken(source) or ("it is no image that Pillow reads" if "identify" in message else message)
        raise ValueError(f"cannot decode {name}: {reason}; unpack its archive again") from error


def read_npy(path: Path) -> Array:
    """The array in a `.npy` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else, or is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file, _one_line(path):
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays")
    return array


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays in a `.npz` file by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else, is damaged, or would not fit into memory.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    members: dict[str, Array] = {}
    with path.open("rb") as file:
        with _one_line(path):
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array")
            _check_size(file)
        for name in archive.files:
            with _one_line(path, f"its array {name}: "):
                members[name] = archive[name]
                if not isinstance(members[name], np.ndarray):
                    raise ValueError("it is none")
    return members


@contextmanager
def _one_line(path: Path, part: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # The reader fails in any way a broken file makes it; for the user it is one thing.
        fault = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in fault:
            fault = "it holds pickled objects, which could run code" if part else "it is no file of NumPy's"
        raise ValueError(
            f"{path} is not a readable {path.suffix[1:]} file: {mistaken(path) or part + fault}"
        ) from error


def _check_size(file: IO[bytes]) -> None:
    """Refuse what would not fit into memory unpacked."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > memory:
        raise ValueError(f"it unpacks to {size / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB")


def whole_numbers(members: Mapping[str, Array], name: str, path: Path, count: int, below: int = MOST_CLASSES) -> Array:
    """The member `name` as int64 (count,): labels, classes or numbers of domains.

    Raises:
        ValueError: It is absent, of another type or length, or holds a number that is not in 0..below-1.
    """
    values = member(members, name, path)
    if values.dtype.kind == "f" and values.size and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = np.where(np.abs(values) < 2**53, values, -1).astype(np.int64)
    if values.dtype.kind not in "biu" or values.shape != (count,):
        raise ValueError(f"{path}: {name} must be {count} whole numbers, it is {values.dtype}{values.shape}")
    if count and not (0 <= int(values.min()) and int(values.max()) < below):
        raise ValueError(f"{path}: {name} must be in 0..{below - 1}, it goes from {values.min()} to {values.max()}")
    return values.astype(np.int64)


def texts(members: Mapping[str, Array], name: str, path: Path) -> tuple[str, ...]:
    """The member `name` as names.

    Raises:
        ValueError: It is absent, or no list of names or numbers.
    """
    values = member(members, name, path)
    if values.ndim != 1 or values.dtype.kind not in "biuUS":
        raise ValueError(f"{path}: {name} must be a list of names, it is {values.dtype}{values.shape}")
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist())


def member(members: Mapping[str, Array], name: str, path: Path) -> Array:
    """One of the arrays.

    Raises:
        ValueError: It is absent.
    """
    if name not in members:
        raise ValueError(f"{path} has no array {name}; it has {', '.join(members) or 'none'}")
    return members[name]
