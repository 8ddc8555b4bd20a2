"""Texture decoding: Pillow's formats, KTX2 and Basis Universal."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.files import mistaken

KTX2_MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"
BASIS_MAGIC = b"sB"
# Keys of KTX2's own metadata.
ORIENTATION = b"KTXorientation\x00"


def decode_image(data: bytes, largest: int) -> NDArray[np.uint8]:
    """Decode a texture.

    Args:
        data: An image file that Pillow reads (PNG, JPEG, WebP, ...), KTX2 or .basis.
        largest: Larger images are scaled down to this many pixels on their longer side.

    Returns:
        (h, w, 4) uint8 RGBA, top row first.

    Raises:
        ValueError: The data are broken or of an unknown kind; the message says which.
    """
    try:
        if data.startswith((KTX2_MAGIC, BASIS_MAGIC)):
            picture = Image.fromarray(_transcode(data))
        else:
            picture = _eight_bit(Image.open(io.BytesIO(data))).convert("RGBA")
        return shrink(picture, largest)
    except Exception as error:
        # Decoders fail in any way a broken file makes them; for the user it is one thing.
        reason = mistaken(data) or " ".join(str(error).split()) or type(error).__name__
        raise ValueError("it is no image that Pillow reads" if "identify" in reason else reason) from error


def shrink(picture: Image.Image, largest: int) -> NDArray[np.uint8]:
    """The picture's pixels, at most `largest` on the longer side."""
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return np.array(picture)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's own conversion clips it to white.

    Raises:
        ValueError: It is of 32 bits.
    """
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PNG"):
        raise ValueError("it has 32 bits per pixel; save it with 8 or 16")
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _transcode(data: bytes) -> NDArray[np.uint8]:
    """Level 0 of a Basis Universal texture as RGBA."""
    try:
        import opengl_basisu as basisu
    except ImportError as error:
        raise ValueError(
            "it is compressed with Basis Universal; install opengl-basisu, or use the dataset's plain .glb files"
        ) from error
    try:
        texture = basisu.open(data)
        pixels = np.ascontiguousarray(texture.transcode(basisu.Target.RGBA8).data)
    except basisu.BasisuError as error:
        raise ValueError(f"its Basis Universal data cannot be read ({error}); 'ktx extract' turns it to PNG") from error
    upside_down = texture.y_flipped if data.startswith(BASIS_MAGIC) else _starts_at_bottom(data)
    return pixels[::-1].copy() if upside_down else pixels


def _starts_at_bottom(data: bytes) -> bool:
    """Whether a KTX2 file says that its first row is the lowest."""
    at = data.find(ORIENTATION, 0, 4096)
    return at >= 0 and data[at + len(ORIENTATION) + 1 : at + len(ORIENTATION) + 2] == b"u"
