"""Walkable grids kept beside their scenes, so that a large scan's floor is found only once.

A file ``.sidestep/KEY.grid.npz`` in the scene's folder; the key is a hash of the triangles, the agent, and the version
of how grids are made, so that whatever changes makes another file. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.grid import NavGrid
from envs.navgrid.ground import Ground
from envs.scene import Scene

FOLDER = ".sidestep"
# Raise it whenever the same triangles come to another grid.
VERSION = 1
# Grids of smaller scenes take less time to make than their files to look for.
LEAST_TRIANGLES = 20_000
ARRAYS = {"start": np.int32, "column": np.int32, "height": np.float32, "clear": np.float32, "island": np.int32,
          "near": np.int32}  # fmt: skip
NUMBERS = tuple(name for name in Ground._fields if name not in ARRAYS)

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
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("%s cannot be read (%s) and is made anew", file, error)
    grid = NavGrid.build(scene, radius, height, climb, max_slope=max_slope)
    try:
        _write(file, grid)
    except OSError as error:
        _log.debug("%s is not kept: %s", file, error)
    return grid


def _key(scene: Scene, body: tuple[float, ...]) -> str:
    hashed = hashlib.blake2b(np.array([VERSION, *body], np.float64).tobytes(), digest_size=16)
    hashed.update(np.ascontiguousarray(scene.vertices[scene.faces[scene.solid]]).tobytes())
    return hashed.hexdigest()


def _write(file: Path, grid: NavGrid) -> None:
    """Write a grid so that `file` is whole or absent."""
    file.parent.mkdir(exist_ok=True)
    ground: dict[str, Any] = grid.ground._asdict()
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with new.open("wb") as stream:
            np.savez(
                stream,
                numbers=np.array([ground[name] for name in NUMBERS], np.float64),
                body=np.array([grid.height, grid.base]),
                areas=grid.island_areas,
                **{name: ground[name] for name in ARRAYS},
            )
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


def _read(file: Path) -> NavGrid:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        arrays: dict[str, NDArray[Any]] = {name: data[name] for name in ARRAYS}
        numbers = dict(zip(NUMBERS, data["numbers"].tolist(), strict=True))
        (height, base), areas = data["body"].tolist(), data["areas"]
    nodes, columns = len(arrays["column"]), int(numbers["nx"]) * int(numbers["nz"])
    shapes = {"start": (columns + 1,), "near": (nodes, 4)}
    for name, dtype in ARRAYS.items():
        if arrays[name].dtype != dtype or arrays[name].shape != shapes.get(name, (nodes,)):
            raise ValueError(f"{name} is {arrays[name].dtype}{arrays[name].shape}")
    fields: dict[str, Any] = {**arrays, **numbers, **{name: int(numbers[name]) for name in ("nx", "nz")}}
    grid = NavGrid(Ground(**fields), float(height), areas)
    grid.base = float(base)
    return grid
