"""Habitat's navigation meshes (``.navmesh``): Detour tiles as habitat-sim saves them, and the walkable grid they make.

The layout is that of habitat-sim's `PathFinder::saveNavMesh` (versions 1 and 2 of its ``MSET`` container) and of
Detour's `dtNavMesh::addTile` (tile version 7), little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from configs.files import mistaken

SET_MAGIC, TILE_MAGIC = b"TESM", b"VAND"  # 'MSET' and 'DNAV' as little-endian integers
TILE_VERSION = 7
EXTERNAL = 0x8000  # an edge that leads to another tile
WALK = 0x01  # habitat-sim's POLYFLAGS_WALK
LEAST_AREA = 1e-5  # m2; habitat-sim disables smaller polygons
SETTINGS = (
    "cell_size cell_height agent_height agent_radius agent_max_climb agent_max_slope region_min_size "
    "region_merge_size edge_max_len edge_max_error verts_per_poly detail_sample_dist detail_sample_max_error"
).split()
# Smallest and largest radius, height and climb of an agent, and side of a voxel, in metres.
MEASURES = {"radius": (0.0, 10.0), "height": (0.0, 100.0), "climb": (0.0, 10.0), "cell": (0.005, 1.0)}
FARTHEST = 1e8  # metres
# The settings end with three or four booleans, padded to four bytes.
SETTINGS_BYTES = 4 * len(SETTINGS) + 4

COUNTS = ("polys", "verts", "links", "detail_meshes", "detail_verts", "detail_tris")
_TILE_HEADER = np.dtype(
    [(name, "<i4") for name in ("magic", "version", "x", "y", "layer", "user", "polys", "verts", "links")]
    + [(name, "<i4") for name in ("detail_meshes", "detail_verts", "detail_tris", "bv_nodes", "off_mesh", "off_base")]
    + [("height", "<f4"), ("radius", "<f4"), ("climb", "<f4"), ("low", "<f4", 3), ("high", "<f4", 3), ("quant", "<f4")]
)
_POLY = np.dtype(
    [
        ("first_link", "<u4"),
        ("verts", "<u2", 6),
        ("neighbours", "<u2", 6),
        ("flags", "<u2"),
        ("count", "u1"),
        ("area_and_type", "u1"),
    ]
)
_DETAIL = np.dtype(
    [("vert_base", "<u4"), ("tri_base", "<u4"), ("vert_count", "u1"), ("tri_count", "u1"), ("pad", "u1", 2)]
)


@dataclass(frozen=True, eq=False)
class NavMesh:
    """Walkable polygons of a scene, in habitat-sim's world axes, which are ours.

    Attributes:
        triangles: (T, 3, 3) float64 corners of the detail triangles, metres.
        polygon: (T,) int32 polygon of each triangle.
        island: (P,) int32 island of each polygon: those that hang together by shared edges.
        border: (E, 2, 3) float64 edges of polygons beyond which there is no floor.
        low: (3,) float64 lowest corner of the tiles; the voxels that they were made of start there.
        radius: Agent radius in metres by which the floor was eroded.
        height: Agent height in metres.
        climb: Highest step in metres.
        cell: Voxel size in metres.
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
        return replace(self, triangles=self.triangles + by, border=self.border + by, low=self.low + by)


@dataclass
class _Tile:
    """One tile as it lies in the file; `walkable` are the polygons one may stand on."""

    header: np.void
    verts: NDArray[np.float64]
    polys: NDArray[Any]
    details: NDArray[Any]
    detail_verts: NDArray[np.float64]
    detail_tris: NDArray[np.uint8]
    walkable: NDArray[np.bool_]


def read_navmesh(path: str | Path) -> NavMesh:
    """Read a navigation mesh.

    Raises:
        ValueError: It is no such file, damaged, or has no walkable polygon; the message is one line.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        settings, tiles = _parse(data)
        if not any(tile.walkable.any() for tile in tiles):
            raise ValueError("it has no walkable polygon")
        mesh = _joined(tiles, settings)
        _check(mesh)
    except (OSError, ValueError, IndexError, struct.error, OverflowError) as error:
        reason = mistaken(path) or f"{error}; is it a .navmesh that habitat-sim saved?"
        raise ValueError(f"cannot read {path}: {reason}") from error
    return mesh


def _check(mesh: NavMesh) -> None:
    """Refuse an agent or voxels of impossible measures, and corners that are nowhere."""
    for name, (least, most) in MEASURES.items():
        value = getattr(mesh, name)
        if not least <= value <= most:
            raise ValueError(f"{name} {value:g} m is not between {least:g} and {most:g}")
    if not (np.abs(mesh.triangles) <= FARTHEST).all() or not (np.abs(mesh.low) <= FARTHEST).all():
        raise ValueError(f"a corner lies further away than {FARTHEST:g} m")


def triangle_areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) areas of triangles (T, 3, 3)."""
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 1])
    return 0.5 * np.linalg.norm(cross, axis=1)


# -- the file ---------------------------------------------------------------------------------------------------------


def _parse(data: bytes) -> tuple[dict[str, float], list[_Tile]]:
    """Settings (empty in version 1) and tiles of a file."""
    if data[:4] != SET_MAGIC:
        raise ValueError("it does not start with the magic number MSET")
    version, count = struct.unpack_from("<2i", data, 4)
    if version not in (1, 2):
        raise ValueError(f"it is of version {version}; versions 1 and 2 are read")
    at = 12 + 28  # magic, version, count; dtNavMeshParams: origin, tile width and height, two maxima
    settings = {}
    if version == 2:
        settings = dict(zip(SETTINGS, struct.unpack_from(f"<{len(SETTINGS)}f", data, at), strict=True))
        at += SETTINGS_BYTES
    tiles = []
    for _ in range(count):
        # Tile reference and size come before a tile: 4 + 4 bytes, or 8 + 4 + padding where references have 64 bits.
        wide = data[at + 8 : at + 12] != TILE_MAGIC
        skip = 16 if wide else 8
        (size,) = struct.unpack_from("<i", data, at + (8 if wide else 4))
        tiles.append(_tile(data[at + skip : at + skip + size], size, wide))
        at += skip + size
    return settings, tiles


def _tile(data: bytes, size: int, wide: bool) -> _Tile:
    if data[:4] != TILE_MAGIC:
        raise ValueError("a tile does not start with the magic number DNAV")
    if len(data) < size or size < _TILE_HEADER.itemsize:
        raise ValueError("a tile ends early")
    header = np.frombuffer(data, _TILE_HEADER, 1)[0]
    counts = {name: int(header[name]) for name in COUNTS}
    if min(counts.values()) < 0:
        raise ValueError("a tile has a negative count")
    if header["version"] != TILE_VERSION:
        raise ValueError(f"a tile is of version {header['version']}; version {TILE_VERSION} is read")
    at = _TILE_HEADER.itemsize

    def take(dtype: np.dtype[np.void] | str, count: int) -> NDArray[Any]:
        nonlocal at
        found = np.frombuffer(data, dtype, count, at)
        at += found.nbytes
        return found

    verts = take("<f4", 3 * counts["verts"]).reshape(-1, 3).astype(np.float64)
    polys = take(_POLY, counts["polys"])
    at += counts["links"] * (16 if wide else 12)
    details = take(_DETAIL, counts["detail_meshes"])
    detail_verts = take("<f4", 3 * counts["detail_verts"]).reshape(-1, 3).astype(np.float64)
    detail_tris = take("u1", 4 * counts["detail_tris"]).reshape(-1, 4)
    walkable = ((polys["flags"] & WALK) != 0) & (polys["area_and_type"] >> 6 == 0) & (polys["count"] >= 3)
    if len(polys) and polys["count"].max() > 6:
        raise ValueError("a polygon has more than 6 corners")
    if not np.isfinite(verts).all() or not np.isfinite(detail_verts).all():
        raise ValueError("a corner is not finite")
    tile = _Tile(header, verts, polys, details, detail_verts, detail_tris, walkable)
    for number in np.flatnonzero(walkable):
        if triangle_areas(_triangles(tile, int(number))).sum() < LEAST_AREA:
            walkable[number] = False
    return tile


def _corners(tile: _Tile, number: int) -> NDArray[np.float64]:
    """(n, 3) corners of a polygon."""
    poly = tile.polys[number]
    return tile.verts[poly["verts"][: poly["count"]]]


def _triangles(tile: _Tile, number: int) -> NDArray[np.float64]:
    """(t, 3, 3) detail triangles of a polygon, a fan where it has none."""
    outline = _corners(tile, number)
    if number >= len(tile.details) or tile.details[number]["tri_count"] == 0:
        return np.stack([[outline[0], outline[i], outline[i + 1]] for i in range(1, len(outline) - 1)])
    detail = tile.details[number]
    base, own = int(detail["vert_base"]), int(detail["vert_count"])
    corners = np.concatenate([outline, tile.detail_verts[base : base + own]])
    first = int(detail["tri_base"])
    return corners[tile.detail_tris[first : first + int(detail["tri_count"]), :3].astype(np.int64)]


# -- putting it together ----------------------------------------------------------------------------------------------


def _joined(tiles: list[_Tile], settings: dict[str, float]) -> NavMesh:
    """The walkable polygons of all tiles as one mesh."""
    number_of: dict[tuple[int, int], int] = {}
    triangles, polygon = [], []
    for t, tile in enumerate(tiles):
        for p in np.flatnonzero(tile.walkable):
            number = number_of.setdefault((t, int(p)), len(number_of))
            found = _triangles(tile, int(p))
            triangles.append(found)
            polygon.append(np.full(len(found), number, np.int32))
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
    )


def _edges(
    tiles: list[_Tile], number_of: dict[tuple[int, int], int]
) -> Iterator[tuple[int, int, int, NDArray[np.float64]]]:
    """Yield tile, polygon, neighbour code and (2, 3) ends of all edges of walkable polygons."""
    for t, p in number_of:
        outline = _corners(tiles[t], p)
        for k in range(len(outline)):
            ends = np.stack([outline[k], outline[(k + 1) % len(outline)]])
            yield t, p, int(tiles[t].polys[p]["neighbours"][k]), ends


def _joints(
    tiles: list[_Tile], number_of: dict[tuple[int, int], int]
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
