"""Hand-made scenes for tests: rooms of boxes whose distances can be worked out on paper."""

from __future__ import annotations

import numpy as np

from envs.navgrid.grid import NavGrid
from envs.pointnav.env import NavigableScene
from envs.pointnav.episodes import Episode
from envs.scene import Scene

CLASSES = ("wall", "floor")


def quad(corners: list[tuple[float, float, float]]) -> np.ndarray:
    """Two triangles (2, 3, 3) over four corners in order."""
    a, b, c, d = np.array(corners, np.float32)
    return np.array([[a, b, c], [a, c, d]])


def wall(x0: float, z0: float, x1: float, z1: float, height: float = 2.5, thickness: float = 0.1) -> np.ndarray:
    """The four sides and the top of a box-shaped wall along x or z, (10, 3, 3)."""
    t = thickness / 2
    lo, hi = (min(x0, x1) - t, min(z0, z1) - t), (max(x0, x1) + t, max(z0, z1) + t)
    (a, b), (c, d) = lo, hi
    sides = [(a, b, c, b), (c, b, c, d), (c, d, a, d), (a, d, a, b)]
    parts = [quad([(p, 0, q), (r, 0, s), (r, height, s), (p, height, q)]) for p, q, r, s in sides]
    return np.concatenate([*parts, quad([(a, height, b), (a, height, d), (c, height, d), (c, height, b)])])


def scene(width: float, depth: float, walls: list[np.ndarray] | None = None, name: str = "room") -> Scene:
    """A room on the floor [0, width] x [0, depth] (x, z) with outer walls and the given inner ones."""
    floor = quad([(0, 0, 0), (0, 0, depth), (width, 0, depth), (width, 0, 0)])
    outer = [
        wall(0, 0, width, 0),
        wall(0, depth, width, depth),
        wall(0, 0, 0, depth),
        wall(width, 0, width, depth),
    ]
    solid = np.concatenate([*outer, *(walls or [])])
    triangles = np.concatenate([floor, solid]).astype(np.float32)
    count = len(triangles)
    kind = np.array([1] * len(floor) + [0] * len(solid), np.int32)
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return Scene(
        name=name,
        vertices=triangles.reshape(-1, 3),
        faces=np.arange(count * 3, dtype=np.int32).reshape(-1, 3),
        corner_uv=(triangles[:, :, [0, 2]] + triangles[:, :, [1]]).astype(np.float32),
        corner_color=rng.integers(60, 255, (count, 1, 3), dtype=np.uint8).repeat(3, 1),
        face_texture=np.zeros(count, np.int32),
        textures=(texture,),
        face_class=kind,
        face_instance=np.arange(count, dtype=np.int32),
        class_names=CLASSES,
        solid=np.ones(count, np.bool_),
    )


def episode(start: tuple[float, float], goal: tuple[float, float], heading: float = 0.0, number: int = 0) -> Episode:
    """An episode between two floor points (x, z)."""
    return Episode(
        episode_id=str(number),
        scene_id="room",
        start_position=(start[0], 0.0, start[1]),
        start_rotation=(0.0, float(np.sin(heading / 2)), 0.0, float(np.cos(heading / 2))),
        goal_position=(goal[0], 0.0, goal[1]),
    )


def place(made: Scene, episodes: list[Episode]) -> NavigableScene:
    """A scene with its grid and episodes."""
    return NavigableScene(made, NavGrid.build(made), tuple(episodes))


def simple_place(count: int = 4) -> NavigableScene:
    """A 4 x 4 m room with a wall half across it and a few episodes around that wall."""
    made = scene(4.0, 4.0, [wall(0.0, 2.0, 2.5, 2.0)])
    rng = np.random.default_rng(1)
    starts, goals = rng.uniform(0.5, 3.5, (count, 2)), rng.uniform(0.5, 3.5, (count, 2))
    starts[:, 1], goals[:, 1] = rng.uniform(0.4, 1.6, count), rng.uniform(2.4, 3.6, count)
    return place(made, [episode(tuple(s), tuple(g), i, i) for i, (s, g) in enumerate(zip(starts, goals, strict=True))])
