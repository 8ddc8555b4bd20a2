"""Scenes and episodes as Habitat finds them: meshes with stage configs beside them, folders of PointNav-v1 files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import trimesh
from rooms import scene, wall

from envs.navgrid.grid import NavGrid
from envs.pointnav.episodes import Episode, generate_episodes, write_episodes
from envs.scans.loading import load_scene

# Habitat takes a mesh without this as Z-up.
Y_UP = {"up": [0, 1, 0], "front": [0, 0, -1]}


def describe(mesh: Path) -> None:
    """Write the stage config that says that a mesh is Y-up."""
    mesh.with_name(f"{mesh.stem}.stage_config.json").write_text(json.dumps({"render_asset": mesh.name, **Y_UP}))


def write_mesh(folder: Path, name: str = "room", width: float = 5.0) -> Path:
    """A room 4 m long with a wall half across it, as PLY."""
    made = scene(width, 4.0, [wall(0.0, 2.0, width - 1.8, 2.0)])
    mesh = trimesh.Trimesh(made.vertices, made.faces, process=False)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=made.corner_color.reshape(-1, 3))
    path = folder / f"{name}.ply"
    mesh.export(path)
    return path


def write_room(folder: Path, name: str = "room", width: float = 5.0) -> Path:
    """The same with its stage config."""
    path = write_mesh(folder, name, width)
    describe(path)
    return path


def put_episodes(path: Path, *episodes: Any, **document: Any) -> Path:
    """Write a ``.json.gz`` of these episodes, whatever they are, and further keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps({"episodes": list(episodes), **document}).encode()))
    return path


def write_split(folder: Path, split: str, meshes: list[Path], count: int, seed: int = 0) -> list[Episode]:
    """Generate `count` episodes in each mesh and write them as ``<folder>/<split>/<split>.json.gz``."""
    made: list[Episode] = []
    for mesh in meshes:
        grid = NavGrid.build(load_scene(mesh))
        made += generate_episodes(mesh.name, grid, count, seed)
    write_episodes(folder / split / f"{split}.json.gz", made)
    return made
