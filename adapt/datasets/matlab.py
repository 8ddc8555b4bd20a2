"""MATLAB files of version 5, as SBD's labels are: one field of one struct, read without trusting a byte.

Layout after The MathWorks, "MAT-File Format", level 5: a header of 128 bytes, then elements of a tag (type, bytes) and
content, padded to 8 bytes, that may be compressed. `scipy.io.loadmat` reads past the end of damaged ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = 128
# Types of elements that hold others, and of those that hold numbers.
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
INT8, INT32, UINT32 = 1, 5, 6
# Classes of arrays.
STRUCT = 2
NUMERIC = range(6, 16)
COMPLEX = 0x800
# Bytes that compressed elements of one file may hold.
MOST = 2**28


@dataclass(frozen=True)
class _Reader:
    """Elements in the byte order of a file, "<" or ">"."""

    order: str

    def elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and content of the elements that lie end to end in `data`."""
        place = 0
        while place < len(data):
            kind, content, place = self._element(data, place)
            yield kind, content

    def _element(self, data: bytes, place: int) -> tuple[int, bytes, int]:
        """Type and content of the element at `place`, and where the next begins."""
        if len(data) - place < 8:
            raise ValueError("it ends in the middle of an element")
        first, size = (int(v) for v in np.frombuffer(data, f"{self.order}u4", 2, place))
        if first >> 16:  # small: type, size and up to 4 bytes of content in 8
            kind, size, start, following = first & 0xFFFF, first >> 16, place + 4, place + 8
            if size > 4:
                raise ValueError(f"an element of at most 4 bytes says that it has {size}")
        else:
            kind, start = first, place + 8
            following = start + size + (0 if kind == COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"it ends in the middle of an element of {size} bytes")
        return kind, data[start : start + size], following

    def numbers(self, element: tuple[int, bytes], wanted: int | None = None) -> NDArray[np.generic]:
        """The numbers (N,) of an element, of the type `wanted` if one is."""
        kind, content = element
        if kind not in NUMBERS or wanted not in (None, kind):
            raise ValueError(f"an element of type {kind} stands where numbers belong")
        dtype = np.dtype(f"{self.order}{NUMBERS[kind]}")
        if len(content) % dtype.itemsize:
            raise ValueError(f"{len(content)} bytes are no {dtype.name} numbers")
        return np.frombuffer(content, dtype)

    def array(self, content: bytes) -> _Array:
        """The array of a matrix element's content."""
        elements = self.elements(content)
        try:
            flags = self.numbers(next(elements), UINT32)
            shape = tuple(map(int, self.numbers(next(elements), INT32)))
            name = next(elements)[1]
        except StopIteration as error:
            raise ValueError("an array lacks its type, size or name") from error
        if not len(flags) or len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"an array has the size {shape}")
        return _Array(name.decode("latin-1"), int(flags[0]), shape, elements)

    def values(self, array: _Array) -> NDArray[np.generic]:
        """The numbers of an array in its own shape."""
        if array.kind not in NUMERIC or array.flags & COMPLEX:
            raise ValueError(f"it is an array of class {array.kind}, not of real numbers")
        element = next(array.elements, None)
        numbers = self.numbers(element) if element is not None else np.empty(0)
        # In whole numbers without a limit: a product of sizes may be any.
        if np.prod(array.shape, dtype=object) != len(numbers):
            raise ValueError(f"an array of size {array.shape} holds {len(numbers)} numbers")
        return numbers.reshape(array.shape, order="F")

    def field(self, array: _Array, name: str) -> _Array:
        """A field of the first element of a struct array."""
        if array.kind != STRUCT:
            raise ValueError(f"{array.name} is no struct but an array of class {array.kind}")
        width, names = next(array.elements, (0, b"")), next(array.elements, (0, b""))
        length = self.numbers(width, INT32)
        if len(length) != 1 or length[0] < 1 or names[0] != INT8 or len(names[1]) % int(length[0]):
            raise ValueError("its names of fields are damaged")
        size = int(length[0])
        fields = [names[1][i : i + size].split(b"\0")[0].decode("latin-1") for i in range(0, len(names[1]), size)]
        if name not in fields or 0 in array.shape:
            raise ValueError(f"{array.name} has no field {name}, only {', '.join(fields)[:200] or 'none'}")
        for place, (kind, content) in enumerate(array.elements):
            if place == fields.index(name):
                if kind != MATRIX:
                    raise ValueError(f"{name} is no array")
                return self.array(content)
        raise ValueError(f"it ends before {name}")


@dataclass(frozen=True)
class _Array:
    """Name, flags, shape and the elements that follow of an array."""

    name: str
    flags: int
    shape: tuple[int, ...]
    elements: Iterator[tuple[int, bytes]]

    @property
    def kind(self) -> int:
        return self.flags & 0xFF


def struct_field(path: Path, variable: str, field: str) -> NDArray[np.generic]:
    """The numbers of a field of a struct in a MATLAB file of version 5, as after ``save -v6`` or ``-v7``.

    Args:
        path: The file.
        variable: The struct; of a struct array the first element counts.
        field: Its field, an array of real numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, is damaged, or lacks what is asked for.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if data.startswith(b"MATLAB 7.3") or order is None:
        raise ValueError("it is no MATLAB file of version 5")
    reader, names = _Reader(order), []
    for kind, content in reader.elements(data[HEADER:]):
        whole = _unpacked(reader, content) if kind == COMPRESSED else content if kind == MATRIX else None
        if whole is None:
            continue
        array = reader.array(whole)
        if array.name == variable:
            return reader.values(reader.field(array, field))
        names.append(array.name)
    raise ValueError(f"it holds no {variable}, only {', '.join(names)[:200] or 'nothing'}")


def _unpacked(reader: _Reader, content: bytes) -> bytes | None:
    """Content of the matrix in a compressed element; None if that holds something else."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, MOST)
    except zlib.error as error:
        raise ValueError(f"its compressed data are damaged ({error})") from error
    if not unpacker.eof:
        raise ValueError("its compressed data are cut off or too large")
    kind, inner = next(reader.elements(data), (0, b""))
    return inner if kind == MATRIX else None
