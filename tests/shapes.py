"""Small analytic scenes for the tests of walking and episodes."""

from __future__ import annotations

import numpy as np

from envs.scene import Scene

Part = tuple[np.ndarray, np.ndarray]

_BOX = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
_BOX += [[1, 5, 7], [1, 7, 3]]


def floor(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> Part:
    """A level rectangle that faces up."""
    return np.array([[x0, y, z0], [x1, y, z0], [x1, y, z1], [x0, y, z1]]), np.array([[0, 2, 1], [0, 3, 2]])


def box(x0: float, x1: float, z0: float, z1: float, y0: float = 0.0, y1: float = 2.5) -> Part:
    """A closed box; its top faces up."""
    corners = [[x, y, z] for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)]
    faces = np.array(_BOX)
    return np.array(corners, float), np.array([f if _outward(corners, f) else f[::-1] for f in faces.tolist()])


def _outward(corners: list[list[float]], face: list[int]) -> bool:
    points = np.array(corners)
    a, b, c = points[face]
    return float(np.dot(np.cross(b - a, c - a), a - points.mean(0))) > 0.0


def room(x0: float, x1: float, z0: float, z1: float) -> list[Part]:
    """A floor with four walls around it."""
    walls = [(x0 - 0.1, x0, z0, z1), (x1, x1 + 0.1, z0, z1), (x0, x1, z0 - 0.1, z0), (x0, x1, z1, z1 + 0.1)]
    return [floor(x0, x1, z0, z1), *(box(*w) for w in walls)]


def furnished(seed: int, boxes: int = 25) -> list[Part]:
    """A 10 m x 10 m flat of four rooms with doors 0.9 m wide, cluttered with random boxes."""
    rng = np.random.default_rng(seed)
    parts = room(0.0, 10.0, 0.0, 10.0)
    walls = [(5, 5.1, 0, 4), (5, 5.1, 4.9, 10), (0, 2, 5, 5.1), (2.9, 5, 5, 5.1), (5.1, 8, 6, 6.1), (8.9, 10, 6, 6.1)]
    parts += [box(*w) for w in walls]
    for x, z, dx, dz, top in rng.uniform([0.5, 0.5, 0.2, 0.2, 0.4], [9, 9, 1.2, 1, 1.2], (boxes, 5)):
        parts.append(box(x, x + dx, z, z + dz, 0.0, top))
    return parts


def scene(parts: list[Part], turn: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Scene:
    """Join parts to a scene, turned about +Y by `turn` radians and then shifted in x and z."""
    count = np.cumsum([0, *(len(v) for v, _ in parts)])
    vertices = turned(np.concatenate([v for v, _ in parts]), turn, shift).astype(np.float32)
    faces = np.concatenate([f + n for (_, f), n in zip(parts, count, strict=False)]).astype(np.int32)
    n = len(faces)
    return Scene(
        name="shapes",
        vertices=vertices,
        faces=faces,
        corner_uv=np.zeros((n, 3, 2), np.float32),
        corner_color=np.full((n, 3, 3), 255, np.uint8),
        face_texture=np.full(n, -1, np.int32),
        textures=(),
        face_class=np.zeros(n, np.int32),
        face_instance=np.zeros(n, np.int32),
        class_names=("thing",),
        solid=np.ones(n, np.bool_),
    )


def turned(points: np.ndarray, turn: float, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points (N, 3) turned about +Y, then shifted in x and z."""
    c, s = np.cos(turn), np.sin(turn)
    return points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) + [shift[0], 0.0, shift[1]]
