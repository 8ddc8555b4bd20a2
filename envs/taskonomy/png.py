"""Fast PNG encoder.

Label images are written by the million. Pillow tries five filters on every row; taking always the row above and
coding runs only is three times faster on them, and the files are no larger.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR = 0, 2
FILTER_UP = 2


def encode_png(image: NDArray[Any]) -> bytes:
    """The content of a PNG file.

    Args:
        image: (H, W) or (H, W, 3) uint8, or (H, W) uint16.

    Raises:
        ValueError: The image has another shape or dtype.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    deep = image.dtype == np.uint16
    if image.ndim not in (2, 3) or channels not in (1, 3) or (deep and channels > 1) or image.dtype.kind != "u":
        raise ValueError(f"PNG holds uint8 (H,W[,3]) or uint16 (H,W), got {image.dtype}{image.shape}")
    if not deep and image.dtype != np.uint8:
        raise ValueError(f"PNG holds uint8 or uint16, got {image.dtype}")
    height, width = image.shape[:2]
    # PNG is big-endian.
    stored = np.ascontiguousarray(image.astype(">u2") if deep else image).view(np.uint8).reshape(height, -1)
    rows = np.empty((height, stored.shape[1] + 1), np.uint8)
    rows[:, 0] = FILTER_UP
    rows[0, 1:] = stored[0]
    np.subtract(stored[1:], stored[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    pixels = packer.compress(rows.data) + packer.flush()
    colour = COLOUR if channels == 3 else GREY
    header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, colour, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
