"""Arithmetic of glTF: matrices of nodes and textures, normalised integers, triangles of index lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Modes of a primitive.
TRIANGLES, STRIP, FAN = 4, 5, 6


def normalised(values: NDArray[Any]) -> NDArray[Any]:
    """Integers as fractions of their largest value, floats as they are."""
    if values.dtype.kind not in "iu":
        return values
    return np.maximum(values / np.float64(np.iinfo(values.dtype).max), -1.0)


def node_matrix(node: Mapping[str, Any]) -> NDArray[np.float64]:
    """(4, 4) matrix of a node: its column-major matrix, or translation x rotation x scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", (0.0, 0.0, 0.0, 1.0)), np.float64)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if length > 0:
        matrix[:3, :3] = rotation_matrix(w / length, x / length, y / length, z / length)
    matrix[:3, :3] *= np.array(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def rotation_matrix(w: float, x: float, y: float, z: float) -> NDArray[np.float64]:
    """(3, 3) rotation of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def texture_transform(change: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Offset x rotation x scale; with v down the image a positive angle turns the coordinates counter-clockwise."""
    (sx, sy), (tx, ty) = change.get("scale", (1.0, 1.0)), change.get("offset", (0.0, 0.0))
    c, s = math.cos(change.get("rotation", 0.0)), math.sin(change.get("rotation", 0.0))
    return (c * sx, s * sy, tx), (-s * sx, c * sy, ty)


def triangles_of(indices: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """(F, 3) faces of an index list, without those that have no area because they repeat a vertex."""
    if mode == TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.empty((0, 3), np.int64)
    if mode == STRIP:
        faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
        faces[1::2] = faces[1::2, [1, 0, 2]]
    else:
        first = np.broadcast_to(indices[0], len(indices) - 2)
        faces = np.stack([first, indices[1:-1], indices[2:]], axis=1)
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]
