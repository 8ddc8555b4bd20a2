"""A house of two rooms as one textured GLB, built by the tests, whose floor plan is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gltf_files import Gltf, png, textured
from shapes import Part, box, floor

SIZE = (9.0, 5.0)
HEIGHT = 2.6
THICK = 0.1
# Walls and furniture as x0, x1, z0, z1, y1: boxes on the floor. A door 0.9 m wide leads from room to room.
WALLS = {
    "west": (-THICK, 0.0, -THICK, SIZE[1] + THICK, HEIGHT),
    "east": (SIZE[0], SIZE[0] + THICK, -THICK, SIZE[1] + THICK, HEIGHT),
    "north": (0.0, SIZE[0], -THICK, 0.0, HEIGHT),
    "south": (0.0, SIZE[0], SIZE[1], SIZE[1] + THICK, HEIGHT),
    "inner, long": (5.0, 5.0 + THICK, 0.0, 3.2, HEIGHT),
    "inner, short": (5.0, 5.0 + THICK, 4.1, SIZE[1], HEIGHT),
}
FURNITURE = {
    "table": (1.8, 3.2, 1.2, 2.1, 0.75),
    "sofa": (0.1, 1.0, 3.0, 4.8, 0.8),
    "cupboard": (7.9, 8.9, 0.1, 0.7, 1.9),
    "bed": (6.9, 8.8, 2.4, 4.0, 0.5),
    "stool": (3.6, 4.0, 3.9, 4.3, 0.45),
}
SOLID = [*WALLS.values(), *FURNITURE.values()]


def clearance(points: np.ndarray) -> np.ndarray:
    """Distance of points (N,2) (x, z) to the nearest wall or piece of furniture, 0 within one; below 0 outdoors."""
    x, z = points.T
    away = [np.hypot(np.maximum(a - x, x - b).clip(0), np.maximum(c - z, z - d).clip(0)) for a, b, c, d, _ in SOLID]
    indoors = (x > 0) & (x < SIZE[0]) & (z > 0) & (z < SIZE[1])
    return np.where(indoors, np.min(away, 0), -1.0)


def texture(name: str) -> np.ndarray:
    """Of a part of the house, uint8 (16,16,3): shades of one colour."""
    rng = np.random.default_rng(list(name.encode()))
    return (rng.integers(40, 216, 3) + rng.integers(-40, 40, (16, 16, 1))).astype(np.uint8)


def write_house(path: Path) -> Path:
    """Write it, Y-up in metres, the floor at height 0; each wall, floor and piece of furniture is a node of its own."""
    file = Gltf()
    file.header["nodes"].append({"name": "house", "children": []})
    across, along = (0.0, SIZE[0]), (0.0, SIZE[1])
    parts = {
        "floor": floor(*across, *along),
        # Seen from below only, so that nobody walks on it.
        "ceiling": (floor(*across, *along, HEIGHT)[0], floor(*across, *along)[1][:, ::-1]),
        "lintel": box(5.0, 5.0 + THICK, 3.2, 4.1, 2.1, HEIGHT),
        **{name: box(*sides, 0.0, top) for name, (*sides, top) in WALLS.items()},
    }
    for name, part in parts.items():
        _add(file, name, part)
    for name, (x0, x1, z0, z1, top) in FURNITURE.items():
        _add(file, name, box(0.0, x1 - x0, 0.0, z1 - z0, 0.0, top), translation=[x0, 0.0, z0])
    return file.save(path)


def _add(file: Gltf, name: str, part: Part, **node: object) -> None:
    """A node with a texture of its own, a texel per 10 cm."""
    number = len(file.header["meshes"])
    file.put("images", {"bufferView": file.view(png(texture(name))), "mimeType": "image/png"})
    file.put("textures", {"source": number}).put("materials", textured(number))
    corners = part[0][part[1]].reshape(-1, 3).astype(np.float32)
    uv = (corners[:, [0, 1]] + corners[:, [2, 2]]) / 1.6
    primitive = file.part(number, uv, positions=corners, indices=np.arange(len(corners)))
    file.put("meshes", {"primitives": [primitive]})
    file.header["nodes"][0]["children"].append(len(file.header["nodes"]))
    file.put("nodes", {"name": name, "mesh": number, **node})
