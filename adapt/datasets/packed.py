"""Images in one npz file: plain, losslessly predicted (`.medl.npz`) or as JPEG files end to end (`_jpeg.npz`).

Plain files hold `x` uint8 (N,H,W,3). A `.medl.npz` holds `payload`, one LZMA stream of residuals, and `shape`
(N,3,H,W): of the planes R-G, G and B-G (mod 256), each predicted by the median of left, upper and left + upper -
upper-left neighbour (JPEG-LS). A `_jpeg.npz` holds `blob`, all files end to end, and `offset` (N+1). All other members
are arrays over the images, such as `y`.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from adapt.core.decoding import Array, member, opened, read_npz, whole_numbers

# Pixels of a predicted file, all images together; a few bytes could ask for any number.
MOST_PIXELS = 2**33


def read_members(path: Path) -> dict[str, Array]:
    """All arrays of an npz file; packed images are unpacked.

    Returns:
        The members, among them images `x` if they were packed: uint8 (N,H,W,3), or, if JPEG images differ in size, an
        object array (N,) of their bytes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file, or an array of it has another type or size (the message names it).
    """
    members = read_npz(path)
    if {"payload", "shape"} <= members.keys():
        members["x"] = predicted_images(members.pop("payload"), members.pop("shape"), path)
    elif {"blob", "offset"} <= members.keys():
        members["x"] = encoded_images(members.pop("blob"), members.pop("offset"), path)
    return members


def read_packed(path: Path) -> dict[str, Array]:
    """Members of a file (`read_members`) that must hold images `x`, plain or packed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file, or holds no images.
    """
    members = read_members(path)
    if "x" not in members:
        raise ValueError(f"{path} holds no images (x, payload and shape, or blob and offset)")
    images = members["x"]
    if images.dtype == object:
        return members
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise ValueError(f"{path}: x must be uint8 images (N,H,W,3), it is {images.dtype}{images.shape}")
    return members


def predicted_images(payload: Array, shape: Array, path: Path) -> Array:
    """Images uint8 (N,H,W,3) of a `.medl.npz`; raises ValueError where its arrays are of another kind."""
    size = [int(v) for v in whole_numbers({"shape": shape}, "shape", path, 4, MOST_PIXELS)]
    if size[1] != 3 or min(size) < 1 or np.prod(size, dtype=object) > MOST_PIXELS:
        raise ValueError(f"{path}: shape must be the size (N,3,H,W) of images, it is {tuple(size)}")
    count, channels, height, width = size
    residuals = np.frombuffer(_unpacked(payload, count * channels * height * width, path), np.uint8).reshape(size)
    residuals = np.ascontiguousarray(residuals.transpose(2, 3, 0, 1)).astype(np.int16)
    planes = np.zeros((height + 1, width + 1, count, channels), np.int16)
    for i in range(height):
        for j in range(width):
            left, upper, corner = planes[i + 1, j], planes[i, j + 1], planes[i, j]
            low, high = np.minimum(left, upper), np.maximum(left, upper)
            predicted = np.maximum(low, np.minimum(high, left + upper - corner))
            planes[i + 1, j + 1] = (residuals[i, j] + predicted) & 255
    green = planes[1:, 1:, :, 1]
    images = np.stack([planes[1:, 1:, :, 0] + green, green, planes[1:, 1:, :, 2] + green], -1) & 255
    return np.ascontiguousarray(images.astype(np.uint8).transpose(2, 0, 1, 3))


def _unpacked(payload: Array, size: int, path: Path) -> bytes:
    """What an LZMA stream holds, which must be `size` bytes; no more are unpacked."""
    try:
        data = lzma.LZMADecompressor().decompress(payload.tobytes(), size + 1)
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise ValueError(f"{path}: payload is no LZMA stream, or damaged ({error})") from error
    if len(data) != size:
        raise ValueError(f"{path}: payload holds {'more' if len(data) > size else 'fewer'} bytes than shape says")
    return data


def encoded_images(blob: Array, offset: Array, path: Path) -> Array:
    """Images of a `_jpeg.npz`: uint8 (N,H,W,3), or an object array (N,) of their bytes if they differ in size.

    Raises:
        ValueError: its arrays are of another kind, or an image cannot be decoded.
    """
    files, images = encoded_files(blob, offset, path), []
    for number, content in enumerate(files):
        with opened(content, f"image {number} of {path}") as file:
            images.append(np.asarray(file.convert("RGB")))
    return np.stack(images) if len({image.shape for image in images}) == 1 else object_array(files)


def encoded_files(blob: Array, offset: Array, path: Path, prefix: str = "") -> list[bytes]:
    """The N files that lie end to end in `blob`, uint8, with borders `offset` (N+1).

    Raises:
        ValueError: the arrays are of another kind; the message names them with the prefix.
    """
    if blob.dtype != np.uint8 or blob.ndim != 1:
        raise ValueError(f"{path}: {prefix}blob must be bytes, it is {blob.dtype}{blob.shape}")
    name = f"{prefix}offset"
    places = whole_numbers({name: offset}, name, path, max(1, offset.size), len(blob) + 1)
    if len(places) < 2 or (np.diff(places) < 0).any():
        raise ValueError(f"{path}: {name} must be the rising borders of images in {prefix}blob")
    data = blob.tobytes()
    return [data[start:end] for start, end in pairwise(places)]


def object_array(items: Sequence[Any]) -> Array:
    """The items as an array (N,), which NumPy's indexing takes apart."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def parts_of(members: Mapping[str, Array], path: Path, count: int) -> Array:
    """The test mask: the member `is_test` as bool (count,).

    Raises:
        ValueError: it is absent, or no list of truth values.
    """
    return whole_numbers({"is_test": member(members, "is_test", path)}, "is_test", path, count, 2).astype(bool)
