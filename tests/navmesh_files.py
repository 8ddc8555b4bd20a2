"""Writes ``.navmesh`` files byte by byte in the layout of habitat-sim and Detour, for tests.

habitat-sim's `PathFinder::saveNavMesh`: int magic 'MSET', int version, int tiles, dtNavMeshParams; from version 2 on
the NavMeshSettings (13 floats, 4 booleans); then per tile dtTileRef, int size, data. Detour's dtCreateNavMeshData: a
tile is dtMeshHeader, vertices, dtPoly, dtLink, dtPolyDetail, detail vertices, detail triangles, dtBVNode, off-mesh
connections.
"""

from __future__ import annotations

import struct

import numpy as np

WALK = 1


def tile(verts, polys, *, flags=None, details=None, low=None, portals=(), radius=0.1, climb=0.2, wide=False, at=(0, 0),
         rims=True):  # fmt: skip
    """One tile, as Detour itself loads it.

    Args:
        verts: (V, 3) corners.
        polys: Lists of corner numbers, in order.
        flags: Flags of each polygon, WALK when None.
        details: For each polygon (extra corners, triangles over outline + extra corners) or None for a fan.
        low: Lowest corner of the tile.
        portals: (polygon, edge) that lead to other tiles.
        radius: Agent radius.
        climb: Highest step.
        wide: Whether references have 64 bits.
        at: Tile's place in the grid of tiles.
        rims: Whether detail triangles say which of their edges are part of the outline, as they do since 2020.
    """
    verts = np.asarray(verts, np.float32)
    flags = [WALK] * len(polys) if flags is None else flags
    details = [None] * len(polys) if details is None else details
    edge_owner = {}
    for p, poly in enumerate(polys):
        for k, corner in enumerate(poly):
            edge_owner[corner, poly[(k + 1) % len(poly)]] = p
    body, links, detail_records, detail_verts, detail_tris = b"", b"", b"", b"", b""
    link_count = 0
    for p, poly in enumerate(polys):
        neighbours = [0] * 6
        first = link_count
        for k, corner in enumerate(poly):
            other = edge_owner.get((poly[(k + 1) % len(poly)], corner))
            if other is not None:
                neighbours[k] = other + 1
                links += struct.pack("<QI4B" if wide else "<II4B", other + 1, link_count + 1, k, 0xFF, 0, 0)
                link_count += 1
            elif (p, k) in portals:
                neighbours[k] = 0x8000 | side_of(verts[corner], verts[poly[(k + 1) % len(poly)]], verts)
        body += struct.pack("<I", first if link_count > first else 0xFFFFFFFF)
        body += struct.pack("<6H", *poly, *[0] * (6 - len(poly))) + struct.pack("<6H", *neighbours)
        body += struct.pack("<HBB", flags[p], len(poly), 0)
        extra, triangles = details[p] or ([], [(0, k, k + 1) for k in range(1, len(poly) - 1)])
        detail_records += struct.pack(
            "<IIBBxx", len(detail_verts) // 12, len(detail_tris) // 4, len(extra), len(triangles)
        )
        detail_verts += np.asarray(extra, np.float32).tobytes()
        detail_tris += b"".join(struct.pack("<4B", *t, rim(t, len(poly)) if rims else 0) for t in triangles)
    low = verts.min(0) if low is None else np.asarray(low, np.float32)
    # Detour makes room for the links between tiles.
    links += bytes(2 * len(portals) * (16 if wide else 12))
    link_count += 2 * len(portals)
    nodes = b"".join(struct.pack("<3H3Hi", 0, 0, 0, 65535, 65535, 65535, p) for p in range(len(polys)))
    header = b"VAND" + struct.pack("<i", 7) + struct.pack("<3iI", *at, 0, 0)
    header += struct.pack("<9i", len(polys), len(verts), link_count, len(polys), len(detail_verts) // 12,
                          len(detail_tris) // 4, len(polys), 0, len(polys))  # fmt: skip
    header += struct.pack("<3f", 1.5, radius, climb) + low.tobytes() + verts.max(0).tobytes() + struct.pack("<f", 20.0)
    assert len(header) == 100
    return header + verts.tobytes() + body + links + detail_records + detail_verts + detail_tris + nodes


def side_of(a, b, verts):
    """Detour's number of the side of a tile on which an edge lies: 0 at +x, 2 at +z, 4 at -x, 6 at -z."""
    axis = 0 if a[0] == b[0] else 2
    return axis if a[axis] == verts[:, axis].max() else axis + 4


def rim(triangle, corners):
    """Detour's flags of a detail triangle: which edges are part of the polygon's outline."""
    ends = [(triangle[k], triangle[(k + 1) % 3]) for k in range(3)]
    near = [max(a, b) < corners and (b - a) % corners in (1, corners - 1) for a, b in ends]
    return sum(1 << (2 * k) for k in range(3) if near[k])


def save(path, *tiles, version=2, radius=0.1, wide=False, origin=(0, 0, 0), size=(100, 100)):
    """Write tiles of one size as habitat-sim does; `origin` is the lowest corner of the one at (0, 0)."""
    poly_bits, tile_bits = 12, (len(tiles) - 1).bit_length()
    place = struct.pack("<5f2i", *origin, *size, len(tiles), 1 << poly_bits)
    data = b"TESM" + struct.pack("<2i", version, len(tiles)) + place
    if version == 2:
        settings = [0.05, 0.2, 1.5, radius, 0.2, 45.0, 20.0, 20.0, 12.0, 1.3, 6.0, 6.0, 1.0]
        data += struct.pack("<13f4?", *settings, True, True, True, False)
    for number, content in enumerate(tiles):
        reference = 1 << (poly_bits + tile_bits) | number << poly_bits
        data += struct.pack("<Qi4x" if wide else "<Ii", reference, len(content)) + content
    path.write_bytes(data)
    return path


def strips(rectangles):
    """Corners and polygons of rectangles (x0, x1, z0, z1, y) or sloping ones (x0, x1, z0, z1, y0, y1) along x.

    Corners at equal places are shared, so that rectangles whose sides are equal hang together.
    """
    corners, polys = {}, []
    for x0, x1, z0, z1, *height in rectangles:
        y0, y1 = height[0], height[-1]
        outline = [(x0, y0, z0), (x0, y0, z1), (x1, y1, z1), (x1, y1, z0)]
        polys.append([corners.setdefault(corner, len(corners)) for corner in outline])
    return np.array(list(corners), np.float32), polys
