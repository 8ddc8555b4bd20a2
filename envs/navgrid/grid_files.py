"""Walkable grids kept beside their scenes, so that a large scan's floor is found only once.

A file ``.sidestep/KEY.grid.npz`` in the scene's folder; the key is a hash of the triangles, the agent, and the version
of how grids are made, so that whatever changes makes another file. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from configs.array_cache import DAMAGE, read_arrays, write_arrays
from envs.navgrid.grid import NavGrid
from envs.scene import Scene

FOLDER = ".sidestep"
# Raise it whenever the same triangles come to another grid.
VERSION = 2
# Grids of smaller scenes take less time to make than their files to look for.
LEAST_TRIANGLES = 20_000
NODES = {"height": np.float32, "clear": np.float32, "island": np.int32}

_log = logging.getLogger(__name__)


def load_or_build(scene: Scene, folder: Path, radius: float, height: float, climb: float, max_slope: float) -> NavGrid:
    """The grid of a scene (`NavGrid.build`): read from the scene's folder if it is there, else made and written there.

    A file that cannot be read is made anew; where the folder cannot be written to, nothing is kept.

    Args:
        scene: The scene.
        folder: Where its files lie.
        radius: Agent radius in metres.
        height: Agent height in metres.
        climb: Highest step in metres.
        max_slope: Steepest floor in degrees.

    Raises:
        ValueError: If the scene has no place to stand, or is too large for a grid.
    """
    if int(scene.solid.sum()) < LEAST_TRIANGLES:
        return NavGrid.build(scene, radius, height, climb, max_slope=max_slope)
    body = (float(radius), float(height), float(climb), float(max_slope))
    file = folder / FOLDER / f"{_key(scene, body)}.grid.npz"
    if file.is_file():
        try:
            return _read(file)
        except DAMAGE as error:
            _log.warning("%s cannot be read (%s) and is made anew", file, error)
    grid = NavGrid.build(scene, radius, height, climb, max_slope=max_slope)
    try:
        write_arrays(file, grid.to_arrays())
    except OSError as error:
        _log.debug("%s is not kept: %s", file, error)
    return grid


def _key(scene: Scene, body: tuple[float, ...]) -> str:
    hashed = hashlib.blake2b(np.array([VERSION, *body], np.float64).tobytes(), digest_size=16)
    hashed.update(np.ascontiguousarray(scene.vertices[scene.faces[scene.solid]]).tobytes())
    return hashed.hexdigest()


def _read(file: Path) -> NavGrid:
    arrays = read_arrays(file)
    start, place = arrays["start"], arrays["place"]
    columns, nodes = int(place[3]) * int(place[4]), int(start[-1])
    if start.dtype != np.int32 or start.shape != (columns + 1,) or (np.diff(start, prepend=0) < 0).any():
        raise ValueError(f"start is {start.dtype}{start.shape}")
    for name, dtype in NODES.items():
        if arrays[name].dtype != dtype or arrays[name].shape != (nodes,):
            raise ValueError(f"{name} is {arrays[name].dtype}{arrays[name].shape}")
    return NavGrid.from_arrays(arrays)
