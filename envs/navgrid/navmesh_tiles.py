"""The layout of habitat-sim's ``.navmesh`` files and of the Detour tiles in them.

habitat-sim's `PathFinder::saveNavMesh` (versions 1 and 2 of its ``MSET`` container) and Detour's `dtNavMesh::addTile`
(tile version 7), little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SET_MAGIC, TILE_MAGIC = b"TESM", b"VAND"  # 'MSET' and 'DNAV' as little-endian integers
TILE_VERSION = 7
EXTERNAL = 0x8000  # an edge that leads to another tile
WALK = 0x01  # habitat-sim's POLYFLAGS_WALK
LEAST_AREA = 1e-5  # m2; habitat-sim disables smaller polygons
SETTINGS = (
    "cell_size cell_height agent_height agent_radius agent_max_climb agent_max_slope region_min_size "
    "region_merge_size edge_max_len edge_max_error verts_per_poly detail_sample_dist detail_sample_max_error"
).split()
# The settings end with three or four booleans, padded to four bytes.
SETTINGS_BYTES = 4 * len(SETTINGS) + 4
MOST_CORNERS = 6

COUNTS = ("polys", "verts", "links", "detail_meshes", "detail_verts", "detail_tris", "bv_nodes")
TILE_HEADER = np.dtype(
    [(name, "<i4") for name in ("magic", "version", "x", "y", "layer", "user", "polys", "verts", "links")]
    + [(name, "<i4") for name in ("detail_meshes", "detail_verts", "detail_tris", "bv_nodes", "off_mesh", "off_base")]
    + [("height", "<f4"), ("radius", "<f4"), ("climb", "<f4"), ("low", "<f4", 3), ("high", "<f4", 3), ("quant", "<f4")]
)
POLY = np.dtype(
    [
        ("first_link", "<u4"),
        ("verts", "<u2", MOST_CORNERS),
        ("neighbours", "<u2", MOST_CORNERS),
        ("flags", "<u2"),
        ("count", "u1"),
        ("area_and_type", "u1"),
    ]
)
DETAIL = np.dtype(
    [("vert_base", "<u4"), ("tri_base", "<u4"), ("vert_count", "u1"), ("tri_count", "u1"), ("pad", "u1", 2)]
)
TREE_NODE = np.dtype([("box", "<u2", 6), ("item", "<i4")])


@dataclass
class Tile:
    """One tile as it lies in the file.

    Attributes:
        header: One `TILE_HEADER`.
        verts: (V, 3) float32 corners, metres.
        polys: (P,) `POLY`.
        details: (D,) `DETAIL`.
        detail_verts: (W, 3) float32 further corners of detail triangles.
        detail_tris: (T, 4) uint8 corners, of the polygon and then of its own, and flags of edges.
        tree: (N,) `TREE_NODE`, boxes about the polygons.
        walkable: (P,) bool, the polygons one may stand on.
    """

    header: np.void
    verts: NDArray[np.float32]
    polys: NDArray[Any]
    details: NDArray[Any]
    detail_verts: NDArray[np.float32]
    detail_tris: NDArray[np.uint8]
    tree: NDArray[Any]
    walkable: NDArray[np.bool_]

    def corners(self, number: int) -> NDArray[np.float32]:
        """(n, 3) corners of a polygon."""
        poly = self.polys[number]
        return self.verts[poly["verts"][: poly["count"]]]

    def fan(self, number: int) -> NDArray[np.int64]:
        """(t, 4) detail triangles of a polygon over its corners and its own; a fan where it has none; with flags."""
        count = int(self.polys[number]["count"])
        if number >= len(self.details) or self.details[number]["tri_count"] == 0:
            return np.array([[0, i, i + 1, 0] for i in range(1, count - 1)], np.int64)
        first = int(self.details[number]["tri_base"])
        return self.detail_tris[first : first + int(self.details[number]["tri_count"])].astype(np.int64)

    def own_corners(self, number: int) -> NDArray[np.float32]:
        """(n, 3) corners of a polygon's detail triangles that are not its own corners."""
        if number >= len(self.details):
            return np.zeros((0, 3), np.float32)
        base = int(self.details[number]["vert_base"])
        return self.detail_verts[base : base + int(self.details[number]["vert_count"])]

    def triangles(self, number: int) -> NDArray[np.float64]:
        """(t, 3, 3) detail triangles of a polygon, metres."""
        corners = np.concatenate([self.corners(number), self.own_corners(number)]).astype(np.float64)
        return corners[self.fan(number)[:, :3]]


@dataclass(frozen=True)
class TileSet:
    """All that a file holds.

    Attributes:
        settings: What the mesh was made with, by `SETTINGS`; empty in version 1.
        origin: (3,) float32 lowest corner of the tile in column and row 0.
        size: (2,) float32 sides of a tile along x and z, metres.
        tiles: The tiles, in the file's order.
    """

    settings: dict[str, float]
    origin: NDArray[np.float32]
    size: NDArray[np.float32]
    tiles: list[Tile]


def triangle_areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) areas of triangles (T, 3, 3)."""
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 1])
    return 0.5 * np.linalg.norm(cross, axis=1)


def parse(data: bytes) -> TileSet:
    """The tiles in the bytes of a file.

    Raises:
        ValueError: They are none of habitat-sim's.
        struct.error: They end early.
    """
    if data[:4] != SET_MAGIC:
        raise ValueError("it does not start with the magic number MSET")
    version, count = struct.unpack_from("<2i", data, 4)
    if version not in (1, 2):
        raise ValueError(f"it is of version {version}; versions 1 and 2 are read")
    place = np.array(struct.unpack_from("<5f", data, 12), np.float32)
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
    return TileSet(settings, place[:3], place[3:], tiles)


def _tile(data: bytes, size: int, wide: bool) -> Tile:
    if data[:4] != TILE_MAGIC:
        raise ValueError("a tile does not start with the magic number DNAV")
    if len(data) < size or size < TILE_HEADER.itemsize:
        raise ValueError("a tile ends early")
    header = np.frombuffer(data, TILE_HEADER, 1)[0]
    counts = {name: int(header[name]) for name in COUNTS}
    if min(counts.values()) < 0:
        raise ValueError("a tile has a negative count")
    if header["version"] != TILE_VERSION:
        raise ValueError(f"a tile is of version {header['version']}; version {TILE_VERSION} is read")
    at = TILE_HEADER.itemsize

    def take(dtype: np.dtype[np.void] | str, count: int) -> NDArray[Any]:
        nonlocal at
        array = np.frombuffer(data, dtype, count, at)
        at += array.nbytes
        return array

    verts = take("<f4", 3 * counts["verts"]).reshape(-1, 3)
    polys = take(POLY, counts["polys"])
    at += counts["links"] * (16 if wide else 12)
    details = take(DETAIL, counts["detail_meshes"])
    detail_verts = take("<f4", 3 * counts["detail_verts"]).reshape(-1, 3)
    detail_tris = take("u1", 4 * counts["detail_tris"]).reshape(-1, 4)
    tree = take(TREE_NODE, counts["bv_nodes"])
    walkable = ((polys["flags"] & WALK) != 0) & (polys["area_and_type"] >> 6 == 0) & (polys["count"] >= 3)
    if len(polys) and polys["count"].max() > MOST_CORNERS:
        raise ValueError(f"a polygon has more than {MOST_CORNERS} corners")
    if not np.isfinite(verts).all() or not np.isfinite(detail_verts).all():
        raise ValueError("a corner is not finite")
    tile = Tile(header, verts, polys, details, detail_verts, detail_tris, tree, walkable)
    for number in np.flatnonzero(walkable):
        if triangle_areas(tile.triangles(int(number))).sum() < LEAST_AREA:
            walkable[number] = False
    return tile
