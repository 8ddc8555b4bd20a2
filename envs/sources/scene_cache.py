"""Disk cache of generated apartments: meshes, walkable grids, episodes and the paths to their goals."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.array_cache import ArrayCache, Arrays, code_version
from envs.apartments.appearance import without_some_ceilings
from envs.apartments.generator import CLASS_NAMES, generate, textures_of
from envs.navgrid.geodesics import PathTree
from envs.navgrid.grid import GeodesicField, NavGrid
from envs.pointnav.episodes import Episode, as_dict, from_dict, generate_episodes
from envs.pointnav.scene_episodes import AgentConfig
from envs.scene import Room, Scene

CODE = ("scene.py", "apartments", "navgrid", "pointnav/episodes.py", "sources/scene_cache.py")
MESH = ("vertices", "faces", "corner_uv", "corner_color", "face_texture", "face_class", "face_instance", "solid")
# What a `PathTree` has of each corner.
CORNERS = ("position", "cost", "after")

Navigation = tuple[tuple[Episode, ...], list[GeodesicField]]


@cache
def _code() -> str:
    """The version of the code that makes apartments, grids and episodes."""
    return code_version([Path(__file__).parents[1] / part for part in CODE])


class SceneCache:
    """The folder ``apartments`` of the cache."""

    def __init__(self) -> None:
        self.arrays = ArrayCache("apartments", _code())

    def scene(self, number: int, appearance: str, body: AgentConfig) -> tuple[Scene, NavGrid]:
        """An apartment, if it is wide by `without_some_ceilings`, and where an agent of this size can walk in it."""

        def make() -> tuple[Scene, NavGrid]:
            scene = generate(number, appearance)
            if appearance == "wide":
                scene = without_some_ceilings(number, scene)
            return scene, NavGrid.build(scene, **asdict(body))

        name, key = _scene_key(number, appearance, body)
        return self.arrays.get(name, key, make, _pack, partial(_unpack, number, appearance))

    def has_scene(self, number: int, appearance: str, body: AgentConfig) -> bool:
        """Whether the apartment is there."""
        return self.arrays.file(*_scene_key(number, appearance, body)).is_file()

    def episodes(
        self, scene: str, grid: NavGrid, body: AgentConfig, count: int, seed: int, goals: int
    ) -> tuple[Episode, ...]:
        """`generate_episodes` in a plain or wide apartment, whose grids are the same; `grid` keeps the paths."""

        def make() -> Navigation:
            fields: list[GeodesicField] = []
            return tuple(generate_episodes(scene, grid, count, seed=seed, goals=goals, fields=fields)), fields

        key = {"body": asdict(body), "count": count, "seed": seed, "goals": goals}
        unpack = partial(_unpack_episodes, scene)
        episodes, fields = self.arrays.get(f"{scene}-episodes", key, make, _pack_episodes, unpack)
        for episode, field in zip(episodes, fields, strict=False):  # The first episodes go to one goal each.
            grid.keep(episode.goal_position, field)
        return episodes


def _scene_key(number: int, appearance: str, body: AgentConfig) -> tuple[str, dict[str, Any]]:
    return f"apartment-{number}", {"appearance": appearance, "body": asdict(body)}


def _pack_episodes(navigation: Navigation) -> Arrays:
    text = json.dumps([as_dict(episode) for episode in navigation[0]])
    trees = [field.tree for field in navigation[1] if field.tree is not None]
    return {
        "episodes": np.frombuffer(text.encode(), np.uint8),
        "goals": np.array([field.goal for field in navigation[1]]),
        "sizes": np.array([len(tree.cost) for tree in trees]),
        "vertex": np.array([tree.vertex for tree in trees]),
        **{name: np.concatenate([getattr(tree, name) for tree in trees]) for name in CORNERS},
    }


def _unpack_episodes(scene: str, arrays: Arrays) -> Navigation:
    episodes = tuple(from_dict(raw, scene) for raw in json.loads(arrays["episodes"].tobytes()))
    cuts = np.cumsum(arrays["sizes"])[:-1]
    position, cost, after = (np.split(arrays[name], cuts) for name in CORNERS)
    parts = zip(arrays["goals"], arrays["vertex"], position, cost, after, strict=True)
    return episodes, [GeodesicField(goal, PathTree(*tree)) for goal, *tree in parts]


def _pack(built: tuple[Scene, NavGrid]) -> Arrays:
    scene, grid = built
    corners = [room.polygon for room in scene.rooms]
    return {
        **{name: getattr(scene, name) for name in MESH},
        **{f"grid_{name}": array for name, array in grid.to_arrays().items()},
        "room_kinds": np.array([room.kind for room in scene.rooms]),
        "room_corners": np.concatenate(corners),
        "room_sizes": np.array([len(polygon) for polygon in corners]),
    }


def _unpack(number: int, appearance: str, arrays: Arrays) -> tuple[Scene, NavGrid]:
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
