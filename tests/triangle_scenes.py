"""Small scenes of loose triangles for the tests of renderers."""

from __future__ import annotations

import numpy as np

from envs.scene import Scene


def scene_of(triangles, *, uv=None, color=None, texture=None, textures=(), classes=None, name="test"):
    """A scene from a triangle soup (F, 3, 3)."""
    triangles = np.asarray(triangles, np.float32)
    count = len(triangles)
    return Scene(
        name=name,
        vertices=triangles.reshape(-1, 3),
        faces=np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        corner_uv=np.zeros((count, 3, 2), np.float32) if uv is None else np.asarray(uv, np.float32),
        corner_color=np.full((count, 3, 3), 255, np.uint8) if color is None else np.asarray(color, np.uint8),
        face_texture=np.full(count, -1, np.int32) if texture is None else np.asarray(texture, np.int32),
        textures=tuple(textures),
        face_class=np.zeros(count, np.int32) if classes is None else np.asarray(classes, np.int32),
        face_instance=np.arange(count, dtype=np.int32) // 2 + 10,
        class_names=tuple("abcdef"),
        solid=np.ones(count, np.bool_),
    )


def quad(corner, across, down):
    """The two triangles of a parallelogram, and the (s, t) in [0, 1] of their corners."""
    corner, across, down = (np.asarray(v, np.float64) for v in (corner, across, down))
    st = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float64)
    return corner + st[..., :1] * across + st[..., 1:] * down, st


def box(low, high):
    """The 12 triangles of a box: faces -x, +x, -y, +y, -z, +z in that order."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    triangles = []
    for axis in range(3):
        a, b = np.zeros(3), np.zeros(3)
        a[(axis + 1) % 3] = (high - low)[(axis + 1) % 3]
        b[(axis + 2) % 3] = (high - low)[(axis + 2) % 3]
        for end in (low, high):
            corner = low.copy()
            corner[axis] = end[axis]
            triangles.append(quad(corner, a, b)[0])
    return np.concatenate(triangles)


def many_scenes(count=5):
    rng = np.random.default_rng(3)
    textures = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(3)]
    scenes = []
    for n in range(count):
        triangles = np.concatenate([box([-4, 0, -4], [4, 3 + n, 4]), rng.uniform(-3, 3, (200, 3, 3))])
        many = len(triangles)
        uv = rng.uniform(-2, 2, (many, 3, 2))
        color = rng.integers(0, 256, (many, 3, 3))
        texture = rng.integers(-1, 3, many)
        classes = rng.integers(0, 6, many)
        scenes.append(scene_of(triangles, uv=uv, color=color, texture=texture, textures=textures, classes=classes))
    return scenes
