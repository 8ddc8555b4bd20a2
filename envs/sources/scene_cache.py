"""Disk cache of generated apartments: meshes, walkable grids and episodes by seed and by the version of the code.

Files lie in ``apartments`` of `configs.files.cache_folder`. A file's name holds a digest of all that its content
depends on, the source code included, so that another version of Sidestep makes its own. Files appear complete or not
at all; one that is damaged is made anew. Beyond `LARGEST` bytes those that were not used for longest go. The folder may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.files import cache_folder, visible
from configs.writing import sweep, write_atomically
from envs.apartments.generator import CLASS_NAMES, generate, textures_of
from envs.navgrid.grid import NavGrid
from envs.pointnav.episodes import Episode, as_dict, from_dict, generate_episodes
from envs.pointnav.scene_episodes import AgentConfig
from envs.scene import Room, Scene

Arrays = dict[str, NDArray[Any]]

LARGEST = 2 * 2**30
CODE = ("scene.py", "apartments", "navgrid", "pointnav/episodes.py", "sources/scene_cache.py")
DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
MESH = ("vertices", "faces", "corner_uv", "corner_color", "face_texture", "face_class", "face_instance", "solid")


@cache
def code_version() -> str:
    """A digest of the code that makes apartments, grids and episodes."""
    made = hashlib.sha256(f"numpy {version('numpy')} scipy {version('scipy')}".encode())
    root = Path(__file__).parents[1]
    for part in CODE:
        for file in sorted((root / part).rglob("*.py")) if (root / part).is_dir() else [root / part]:
            made.update(file.read_bytes())
    return made.hexdigest()


class SceneCache:
    """The cache, by default in the user's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use a folder, which need not exist."""
        self.folder = folder or cache_folder() / "apartments"
        self.written = False

    def scene(self, number: int, appearance: str, body: AgentConfig) -> tuple[Scene, NavGrid]:
        """An apartment (`envs.apartments.generator.generate`) and where an agent of this size can walk in it."""
        file = self._file(f"apartment-{number}", {"appearance": appearance, "body": asdict(body)})
        with contextlib.suppress(*DAMAGE):
            return _unpack_scene(number, appearance, _read(file))
        scene = generate(number, appearance)
        grid = NavGrid.build(scene, **asdict(body))
        self._write(file, _pack_scene(scene, grid))
        return scene, grid

    def episodes(
        self, scene: str, grid: NavGrid, body: AgentConfig, count: int, seed: int, goals: int
    ) -> tuple[Episode, ...]:
        """`generate_episodes` in a plain or wide apartment, whose grids are the same."""
        what = {"body": asdict(body), "count": count, "seed": seed, "goals": goals}
        file = self._file(f"{scene}-episodes", what)
        with contextlib.suppress(*DAMAGE):
            text = _read(file)["episodes"].tobytes().decode()
            return tuple(from_dict(raw, str(file)) for raw in json.loads(text))
        made = generate_episodes(scene, grid, count, seed=seed, goals=goals)
        text = json.dumps([as_dict(episode) for episode in made])
        self._write(file, {"episodes": np.frombuffer(text.encode(), np.uint8)})
        return tuple(made)

    def _file(self, name: str, what: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps([code_version(), what], sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}-{digest[:16]}.npz"

    def _write(self, file: Path, arrays: Arrays) -> None:
        """Put arrays into the cache; one that cannot be written does without them, with a warning."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        try:
            write_atomically(file, content.getvalue(), lasting=False)
            self.written = True
        except OSError as error:
            warnings.warn(
                f"apartments are built again every time: {error.strerror}; SIDESTEP_CACHE names the folder",
                stacklevel=2,
            )

    def trim(self, largest: int = LARGEST) -> None:
        """If anything was written: drop the least recently used files beyond `largest` bytes, and half-written ones."""
        if not self.written:
            return
        self.written = False
        with contextlib.suppress(OSError):
            sweep(self.folder)
            total = 0
            for file in sorted(visible(self.folder), key=lambda file: -file.stat().st_mtime):
                total += file.stat().st_size
                if total > largest:
                    file.unlink(missing_ok=True)


def _read(file: Path) -> Arrays:
    """The arrays of a file, whose checksums are verified; it counts as used now."""
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    with contextlib.suppress(OSError):
        os.utime(file)
    return arrays


def _pack_scene(scene: Scene, grid: NavGrid) -> Arrays:
    corners = [room.polygon for room in scene.rooms]
    return {
        **{name: getattr(scene, name) for name in MESH},
        **{f"grid_{name}": array for name, array in grid.to_arrays().items()},
        "room_kinds": np.array([room.kind for room in scene.rooms]),
        "room_corners": np.concatenate(corners),
        "room_sizes": np.array([len(polygon) for polygon in corners]),
    }


def _unpack_scene(number: int, appearance: str, arrays: Arrays) -> tuple[Scene, NavGrid]:
    polygons = np.split(arrays["room_corners"], np.cumsum(arrays["room_sizes"])[:-1])
    scene = Scene(
        name=f"apartment-{number}",
        textures=textures_of(number, appearance),
        class_names=CLASS_NAMES,
        rooms=tuple(Room(kind, polygon) for kind, polygon in zip(arrays["room_kinds"].tolist(), polygons, strict=True)),
        **{name: arrays[name] for name in MESH},  # type: ignore[arg-type]
    )
    grid = {name.removeprefix("grid_"): array for name, array in arrays.items() if name.startswith("grid_")}
    return scene, NavGrid.from_arrays(grid)
