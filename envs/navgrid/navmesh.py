"""Habitat's navigation meshes (``.navmesh``): Detour tiles as habitat-sim saves them, and the walkable grid they make.

`envs.navgrid.navmesh_tiles` has their layout, `envs.navgrid.detour` what habitat-sim answers on them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from configs.files import mistaken
from envs.navgrid.detour import Polygons
from envs.navgrid.detour_mesh import join
from envs.navgrid.navmesh_tiles import EXTERNAL, Tile, parse, triangle_areas

# Smallest and largest radius, height and climb of an agent, and side of a voxel, in metres.
MEASURES = {"radius": (0.0, 10.0), "height": (0.0, 100.0), "climb": (0.0, 10.0), "cell": (0.005, 1.0)}
FARTHEST = 1e8  # metres


@dataclass(frozen=True, eq=False)
class NavMesh:
    """Walkable polygons of a scene, in habitat-sim's world axes, which are ours.

    Attributes:
        triangles: (T, 3, 3) float64 corners of the detail triangles, metres.
        polygon: (T,) int32 polygon of each triangle.
        island: (P,) int32 island of each polygon: its component over shared edges.
        border: (E, 2, 3) float64 edges of polygons beyond which there is no floor.
        low: (3,) float64 lowest corner of the tiles; the voxels that they were made of start there.
        radius: Agent radius in metres by which the floor was eroded.
        height: Agent height in metres.
        climb: Highest step in metres.
        cell: Voxel size in metres.
        polygons: All polygons as Detour knows them, in the file's coordinates.
        offset: (3,) float64 what was added to the file's coordinates, metres.
    """

    triangles: NDArray[np.float64]
    polygon: NDArray[np.int32]
    island: NDArray[np.int32]
    border: NDArray[np.float64]
    low: NDArray[np.float64]
    radius: float
    height: float
    climb: float
    cell: float
    polygons: Polygons
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    @property
    def areas(self) -> NDArray[np.float64]:
        """(I,) float64 area of each island in m2."""
        weights = triangle_areas(self.triangles)
        return np.asarray(np.bincount(self.island[self.polygon], weights=weights), np.float64)

    @property
    def radii(self) -> NDArray[np.float64]:
        """(I,) float64 greatest distance in metres from the mean of an island's corners to one of them."""
        corners = self.triangles.reshape(-1, 3)
        label = np.repeat(self.island[self.polygon], 3)
        count = np.bincount(label)
        centre = np.stack([np.bincount(label, weights=corners[:, k]) / count for k in range(3)], axis=1)
        radius = np.zeros(len(count))
        np.maximum.at(radius, label, np.linalg.norm(corners - centre[label], axis=1))
        return radius

    def moved(self, by: NDArray[np.float64]) -> NavMesh:
        """The same mesh moved by (3,) metres."""
        return replace(
            self,
            triangles=self.triangles + by,
            border=self.border + by,
            low=self.low + by,
            offset=self.offset + by,
        )


def read_navmesh(path: str | Path) -> NavMesh:
    """Read a navigation mesh.

    Raises:
        ValueError: It is no such file, damaged, or has no walkable polygon; the message is one line.
    """
    path = Path(path)
    try:
        return navmesh_of(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = mistaken(path) or f"{error}; is it a .navmesh that habitat-sim saved?"
        raise ValueError(f"cannot read {path}: {reason}") from error


def navmesh_of(data: bytes) -> NavMesh:
    """The navigation mesh in the content of a file.

    Raises:
        ValueError: It is none of habitat-sim's, damaged, or has no walkable polygon.
    """
    try:
        read = parse(data)
        if not any(tile.walkable.any() for tile in read.tiles):
            raise ValueError("it has no walkable polygon")
        mesh = _joined(read.tiles, read.settings, join(read))
        _check(mesh)
    except (IndexError, struct.error, OverflowError) as error:
        raise ValueError(str(error)) from error
    return mesh


def _check(mesh: NavMesh) -> None:
    """Refuse an agent or voxels of impossible measures, and corners that are nowhere."""
    for name, (least, most) in MEASURES.items():
        value = getattr(mesh, name)
        if not least <= value <= most:
            raise ValueError(f"{name} {value:g} m is not between {least:g} and {most:g}")
    if not (np.abs(mesh.triangles) <= FARTHEST).all() or not (np.abs(mesh.low) <= FARTHEST).all():
        raise ValueError(f"a corner lies further away than {FARTHEST:g} m")


# -- putting it together ----------------------------------------------------------------------------------------------


def _joined(tiles: list[Tile], settings: dict[str, float], polygons: Polygons) -> NavMesh:
    """The walkable polygons of all tiles as one mesh."""
    number_of: dict[tuple[int, int], int] = {}
    triangles, polygon = [], []
    for t, tile in enumerate(tiles):
        for p in np.flatnonzero(tile.walkable):
            number = number_of.setdefault((t, int(p)), len(number_of))
            part = tile.triangles(int(p))
            triangles.append(part)
            polygon.append(np.full(len(part), number, np.int32))
    joints, border = _joints(tiles, number_of)
    count = len(number_of)
    pairs = np.array(joints, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    header = tiles[0].header
    return NavMesh(
        np.concatenate(triangles),
        np.concatenate(polygon),
        label.astype(np.int32),
        np.array(border, np.float64).reshape(-1, 2, 3),
        np.min([tile.header["low"] for tile in tiles], axis=0).astype(np.float64),
        float(settings.get("agent_radius", header["radius"])),
        float(settings.get("agent_height", header["height"])),
        float(settings.get("agent_max_climb", header["climb"])),
        float(settings.get("cell_size", 0.05)),
        polygons,
    )


def _edges(
    tiles: list[Tile], number_of: dict[tuple[int, int], int]
) -> Iterator[tuple[int, int, int, NDArray[np.float64]]]:
    """Yield tile, polygon, neighbour code and (2, 3) ends of all edges of walkable polygons."""
    for t, p in number_of:
        outline = tiles[t].corners(p).astype(np.float64)
        for k in range(len(outline)):
            ends = np.stack([outline[k], outline[(k + 1) % len(outline)]])
            yield t, p, int(tiles[t].polys[p]["neighbours"][k]), ends


def _joints(
    tiles: list[Tile], number_of: dict[tuple[int, int], int]
) -> tuple[list[tuple[int, int]], list[NDArray[np.float64]]]:
    """Pairs of polygons that share an edge, and the edges that lead nowhere."""
    joints: list[tuple[int, int]] = []
    border: list[NDArray[np.float64]] = []
    outer: list[tuple[int, int, NDArray[np.float64]]] = []
    for t, p, code, ends in _edges(tiles, number_of):
        here = number_of[t, p]
        if code & EXTERNAL:
            outer.append((t, here, ends))
        elif code and (t, code - 1) in number_of:
            joints.append((here, number_of[t, code - 1]))
        else:
            border.append(ends)
    climb = float(tiles[0].header["climb"])
    for t, here, ends in outer:
        across = [other for u, other, far in outer if u != t and _touch(ends, far, climb)]
        joints += [(here, other) for other in across]
        if not across:
            border.append(ends)
    return joints, border


def _touch(a: NDArray[np.float64], b: NDArray[np.float64], climb: float, near: float = 1e-2) -> bool:
    """Whether two edges on the border between tiles overlap along a line, within one climb in height."""
    along = a[1, [0, 2]] - a[0, [0, 2]]
    length = float(np.hypot(*along))
    if length < near:
        return False
    unit = along / length
    offset = b[:, [0, 2]] - a[0, [0, 2]]
    if np.abs(offset @ [-unit[1], unit[0]]).max() > near:
        return False
    first, last = sorted(float(v) for v in offset @ unit)
    low, high = max(first, 0.0), min(last, length)
    if high - low <= near:
        return False
    middle = 0.5 * (low + high)
    at_a = a[0, 1] + (a[1, 1] - a[0, 1]) * middle / length
    t = (middle - float(offset[0] @ unit)) / float(offset[1] @ unit - offset[0] @ unit)
    return bool(abs(at_a - (b[0, 1] + (b[1, 1] - b[0, 1]) * t)) <= climb)
