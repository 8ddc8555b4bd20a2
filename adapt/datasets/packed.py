"""Images in one npz file: plain, losslessly predicted (`.medl.npz`) or as JPEG files end to end (`_jpeg.npz`).

Plain files hold `x` uint8 (N,H,W,3). A `.medl.npz` holds `payload`, one LZMA stream of residuals, and `shape`
(N,3,H,W): of the planes R-G, G and B-G (mod 256), each predicted by the median of left, upper and left + upper -
upper-left neighbour (JPEG-LS). A `_jpeg.npz` holds `blob`, all files end to end, and `offset` (N+1). All other members
are arrays over the images, such as `y`.
"""

from __future__ import annotations

import io
import lzma
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]


def read_packed(path: Path, size: int | None = None) -> dict[str, Array]:
    """Read a packed file.

    Args:
        path: the file.
        size: pixels per side to which JPEG images are resized (bilinear); as stored if None.

    Returns:
        `x` uint8 (N,H,W,3), and the other members.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file, or JPEG images differ in size and `size` is None.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with np.load(path) as file:
            members = {name: file[name] for name in file.files}
    except (ValueError, BadZipFile) as error:
        raise ValueError(f"{path} is not a readable npz file ({error})") from error
    if {"payload", "shape"} <= members.keys():
        members["x"] = predicted_images(members.pop("payload"), members.pop("shape"))
    elif {"blob", "offset"} <= members.keys():
        members["x"] = jpeg_images(members.pop("blob"), members.pop("offset"), size)
    if "x" not in members:
        raise ValueError(f"{path} holds no images (x, payload and shape, or blob and offset)")
    return members


def predicted_images(payload: Array, shape: Array) -> Array:
    """Images uint8 (N,H,W,3) of a `.medl.npz`."""
    count, channels, height, width = (int(v) for v in shape)
    residuals = np.frombuffer(lzma.decompress(payload.tobytes()), np.uint8).reshape(count, channels, height, width)
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


def jpeg_images(blob: Array, offset: Array, size: int | None) -> Array:
    """Images uint8 (N,H,W,3) of a `_jpeg.npz`."""
    data, images = blob.tobytes(), []
    for start, end in pairwise(offset):
        image = Image.open(io.BytesIO(data[start:end])).convert("RGB")
        images.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR) if size else image))
    if len({image.shape for image in images}) > 1:
        raise ValueError("the packed images differ in size; give a size to which they are resized")
    return np.stack(images)
