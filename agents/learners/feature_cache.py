"""Disk cache of the frozen base's features of recorded frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from adapt import Base
from adapt.training import distributed
from adapt.training.files import reserved_array
from adapt.training.run import progress_bar
from agents.policies.observations import frozen_features
from configs.writing import replacing

CHUNK = 256
# Frames that are computed again to see that a kept file holds this base's features of these frames.
SAMPLED = 4
# Largest accepted difference, as a share of the largest feature: bfloat16 rounds otherwise in batches of other sizes.
TOLERANCE = 0.1


def cached_features(folder: Path, base: Base, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Features of all frames, mapped into memory, from a file named by the base's sha256.

    A file that is absent, damaged, or not of these frames is made anew. Of several ranks one per machine makes it.

    Args:
        folder: Where the frames are.
        base: The frozen base.
        rgb: (lanes, length, 3, H, W) frames.

    Returns:
        (lanes, length, C, h, w) float16.

    Raises:
        OSError: The disk is too small, said before anything is written.
    """
    file = folder / f"features_{base.sha256[:16]}.npy"
    distributed.first_does(lambda: _make(file, base, rgb), lambda: _holds(file, base, rgb))
    return open_memmap(file, "r")


def _shape(base: Base, rgb: NDArray[np.uint8]) -> tuple[int, ...]:
    return (*rgb.shape[:2], *base.feature_shape(rgb.shape[-1]))


def _holds(file: Path, base: Base, rgb: NDArray[np.uint8]) -> bool:
    """Whether the file has the right shape and, at some random frames, this base's features."""
    if not file.exists():
        return False
    try:
        stored: NDArray[Any] = open_memmap(file, "r")
    except ValueError:  # cut off
        return False
    if stored.shape != _shape(base, rgb) or stored.dtype != np.float16:
        return False
    rng = np.random.default_rng()
    at = rng.integers(rgb.shape[0], size=SAMPLED), rng.integers(rgb.shape[1], size=SAMPLED)
    expected = frozen_features(base, np.array(rgb[at])).astype(np.float32)
    return bool(np.abs(stored[at] - expected).max() <= TOLERANCE * np.abs(expected).max())


def _make(file: Path, base: Base, rgb: NDArray[np.uint8]) -> None:
    shape = _shape(base, rgb)
    need, disk = 2 * int(np.prod(shape)), os.statvfs(file.parent)
    if need > disk.f_bavail * disk.f_frsize:
        free = disk.f_bavail * disk.f_frsize / 2**30
        raise OSError(f"{file}: {need / 2**30:.1f} GiB of features do not fit on this disk ({free:.1f} GiB free)")
    with replacing(file) as held, progress_bar() as bar:
        out = reserved_array(Path(held.name), np.float16, shape)
        task = bar.add_task("frozen features", total=shape[0] * shape[1], note="")
        for lane in range(shape[0]):
            for start in range(0, shape[1], CHUNK):
                out[lane, start : start + CHUNK] = frozen_features(base, np.array(rgb[lane, start : start + CHUNK]))
            bar.update(task, advance=shape[1])
        cast("np.memmap[Any, Any]", out).flush()
