"""Animated GIFs of egocentric rollouts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from agents.reports.figures import AGENT, EXPERT, GOAL
from configs.writing import write_atomically

COLOURS = 128
LINES = (AGENT, EXPERT, GOAL)  # among the colours of every film
GREYS = 16
HOLD_SECONDS = 1.5
GAP = 4
PALETTE_SAMPLES = 48
MAX_PAGES = 100
SMALLEST_TEXT = 9

Clip = tuple[NDArray[np.uint8], str]


def write_video(path: Path, clips: Sequence[Clip], scale: int = 4, fps: int = 10, most_frames: int = MAX_PAGES) -> None:
    """Write clips side by side, each under its caption, as a GIF that loops.

    All clips start together; one that is over shows its last frame until the longest ends, and then all stand
    still for a moment. Longer films than `most_frames` show every k-th frame, so that a report stays small.
    Pictures are enlarged without interpolation: a pixel stays what the agent saw.

    Args:
        path: File to write, ending in ``.gif``; replaced in one step.
        clips: Pairs of frames (T, H, W, 3) uint8, T >= 1, and a caption. H and W are the same for all.
        scale: Enlargement of the frames, a whole number >= 1.
        fps: Frames per second, at most 50 (GIF counts in 10 ms, and browsers slow down anything below 20 ms).
        most_frames: Of the film.

    Raises:
        ValueError: No clips, frames of another shape or type, a bad scale or fps, or another file type.
        OSError: The file could not be written; what was there before is undamaged.
    """
    _check(path, clips, scale, fps)
    indices, palette = _quantise(_thin([frames for frames, _ in clips], most_frames))
    tiles = [_with_caption(frames, text, scale) for frames, (_, text) in zip(indices, clips, strict=True)]
    pages = []
    for t in range(max(len(frames) for frames in indices)):
        page = Image.fromarray(_mosaic([tile(t) for tile in tiles]))
        page.putpalette(palette)
        pages.append(page)
    durations = [round(100 / fps) * 10] * len(pages)
    durations[-1] += round(HOLD_SECONDS * 1000)
    data = io.BytesIO()
    pages[0].save(
        data,
        "GIF",
        save_all=True,
        append_images=pages[1:],
        duration=durations,
        loop=0,
        optimize=False,
        disposal=1,
    )
    write_atomically(path, data.getvalue())


def _check(path: Path, clips: Sequence[Clip], scale: int, fps: int) -> None:
    if path.suffix != ".gif":
        raise ValueError(f"{path}: videos are written as .gif; change the ending")
    if not clips:
        raise ValueError(f"{path}: there is no clip to write; give at least one")
    if scale < 1 or not 1 <= fps <= 50:
        raise ValueError(f"{path}: scale must be >= 1 and fps in [1, 50], got scale={scale}, fps={fps}")
    size = clips[0][0].shape[1:]
    for frames, caption in clips:
        good = frames.ndim == 4 and len(frames) > 0 and frames.shape[-1] == 3 and frames.dtype == np.uint8
        if not good or frames.shape[1:] != size:
            raise ValueError(
                f"{path}: clip {caption!r} must hold uint8 frames of shape (T, H, W, 3), all clips of one "
                f"size; got {frames.dtype} {frames.shape}"
            )


def _thin(clips: list[NDArray[np.uint8]], most: int) -> list[NDArray[np.uint8]]:
    """Every k-th frame of all clips, counted back from their last; at most `most` of each."""
    k = math.ceil(max(len(frames) for frames in clips) / most)
    return [frames[::-k][::-1] for frames in clips]


def _quantise(clips: list[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], bytes]:
    """Map all frames to one palette: colours 0..COLOURS-1, then GREYS from black to white for captions.

    Returns:
        Per clip (T, H, W) uint8 palette indices, and the palette as RGB bytes.
    """
    every = np.concatenate(clips)
    picked = every[np.unique(np.linspace(0, len(every) - 1, PALETTE_SAMPLES).round().astype(int))]
    # Undithered: dither is noise that differs from frame to frame, which GIF stores badly.
    reference = Image.fromarray(picked.reshape(-1, *picked.shape[2:])).quantize(COLOURS - len(LINES))
    # Thin lines of a map are too few pixels to get colours by themselves.
    colours = bytes(reference.getpalette() or [])[: 3 * (COLOURS - len(LINES))].ljust(3 * (COLOURS - len(LINES)), b"\0")
    colours += b"".join(bytes(ImageColor.getrgb(line)) for line in LINES)
    reference.putpalette(colours)
    out = []
    for frames in clips:
        tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
        mapped = tall.quantize(palette=reference, dither=Image.Dither.NONE)
        out.append(np.asarray(mapped, np.uint8).reshape(frames.shape[:3]))
    greys = np.linspace(0, 255, GREYS).round().astype(np.uint8).repeat(3).tobytes()
    return out, colours + greys


def _with_caption(frames: NDArray[np.uint8], caption: str, scale: int) -> Any:
    """A function from time to the clip's enlarged frame under its caption strip, (H', W') palette indices."""
    strip = _caption_strip(caption, frames.shape[2] * scale)

    def at(t: int) -> NDArray[np.uint8]:
        frame = frames[min(t, len(frames) - 1)]
        return np.concatenate([strip, frame.repeat(scale, axis=0).repeat(scale, axis=1)])

    return at


def _caption_strip(caption: str, width: int) -> NDArray[np.uint8]:
    """Caption in white on black, (height, width) palette indices; too long a text ends in an ellipsis."""
    height = max(18, min(32, width // 9))
    for size in range(height // 2, SMALLEST_TEXT - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(caption) <= width - height // 2:
            break
    text = caption
    while font.getlength(text) > width - height // 2 and len(text) > 1:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    strip = Image.new("L", (width, height))
    ImageDraw.Draw(strip).text((height / 4, height / 2), text, fill=255, font=font, anchor="lm")
    grey = np.asarray(strip, np.float64) / 255 * (GREYS - 1)
    return (COLOURS + grey.round()).astype(np.uint8)


def _mosaic(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tiles in a near-square grid on black, row by row."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape
    out = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), COLOURS, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        out[top : top + height, left : left + width] = tile
    return out
