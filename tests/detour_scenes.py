"""Small navigation meshes, and the questions that habitat-sim's `PathFinder` was asked about them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from navmesh_files import save, strips, tile


class Questions(NamedTuple):
    """Pairs of points for paths, points to snap, moves."""

    pairs: list
    points: list
    moves: list


def _rooms():
    """Three rooms around a wide one, a ramp to a floor above part of them, a small island: polygons of many sizes."""
    rects = [
        (0, 1, 0, 4, 0.0),
        (1, 6, 0, 4, 0.0),
        (6, 6.5, 0.5, 1.5, 0.0),
        (6.5, 9, 0.5, 1.5, 0.0),
        (0, 1, 4, 5, 0.0),
        (0, 1, 5, 9, 0.0),
        (1, 9, 8, 9, 0.0),
        (9, 10, 8, 9, 0.0),
        (9, 10, 0.5, 1.5, 0.0),
        (9, 10, 1.5, 8, 0.0),
        (10, 14, 8, 9, 0.0, 2.0),
        (14, 17, 8, 9, 2.0),
        (14, 17, 3, 8, 2.0),
        (3, 4, 5.5, 6.5, 0.0),
    ]
    return _welded(rects)


def _welded(rects):
    """Polygons of rectangles; a corner that lies on the side of another is a corner of that one, too."""
    verts, polys = strips(rects)
    full = []
    for poly in polys:
        outline = []
        for k, corner in enumerate(poly):
            a, b = verts[corner], verts[poly[(k + 1) % len(poly)]]
            on = [
                (float(np.dot(v - a, b - a)), n)
                for n, v in enumerate(verts)
                if abs(np.linalg.norm(v - a) + np.linalg.norm(v - b) - np.linalg.norm(b - a)) < 1e-5
            ]
            outline += [n for _, n in sorted(on)[:-1]]
        assert len(outline) <= 6, rects
        full.append(outline)
    return verts, full


def write(name, path):
    """Write one of `SCENES`."""
    if name == "rooms":
        return save(path, tile(*_rooms(), low=(0, -0.2, 0)), origin=(0, -0.2, 0), size=(17, 9))
    # Three tiles in a row; the portal to the third is narrower on the other side.
    left = strips([(0, 4, 0, 3, 0.0), (0, 4, 3, 5, 0.0)])
    middle = strips([(4, 8, 1, 3, 0.0), (4, 8, 3, 4.5, 0.0)])
    right = strips([(8, 12, 2, 5, 0.1), (8, 12, 5, 6, 0.1)])
    tiles = [
        tile(*left, portals=[(0, 2), (1, 2)]),
        tile(*middle, portals=[(0, 0), (0, 2), (1, 0), (1, 2)], at=(1, 0)),
        tile(*right, portals=[(0, 0)], at=(2, 0)),
    ]
    return save(path, *tiles, size=(4, 6))


SCENES = {
    "rooms": Questions(
        [
            ((0.5, 0, 0.5), (8, 0, 1)),
            ((0.5, 0, 0.5), (9.5, 0, 8.5)),
            ((5.5, 0, 3.5), (9.5, 0, 8.5)),
            ((3, 0, 3.9), (9.5, 0, 6)),
            ((0.2, 0, 8.7), (16, 2, 4)),
            ((5.9, 0, 0.1), (15, 2, 8.5)),
            ((0.5, 0, 0.5), (3.5, 0, 6)),
            ((-0.4, 0.1, 2), (8, 0.3, 1.9)),
            ((2, 0, 2), (2, 0, 2.00001)),
            ((2, 1.5, 2), (4, -0.5, 3)),
            ((12, 1, 8.5), (12.0, 0, 4)),
            ((0.5, 0, 7), (25, 0, 7)),
        ],
        [
            (2, 0.4, 2),
            (2, 0.6, 2),
            (-0.005, 0, 2),
            (-0.05, 0, 2),
            (-1.9, 0, 2),
            (-2.1, 0, 2),
            (3.5, 0, 6),
            (2.5, 0, 6.2),
            (12, 3.9, 8.5),
            (15, 1.2, 5),
            (15, 5.9, 5),
            (15, 6.5, 5),
            (6.25, 0, 1.7),
        ],
        [
            ((0.1, 0, 2), (-0.15, 0, 2.1)),
            ((5.9, 0, 0.4), (6.1, 0, 0.55)),
            ((5.9, 0, 1.4), (6.12, 0, 1.6)),
            ((9.1, 0, 7.95), (8.9, 0, 7.9)),
            ((11, 0.5, 8.1), (11.2, 0.5, 7.95)),
            ((6.2, 0, 0.6), (6.2, 0, 0.4)),
            ((3.1, 0, 6), (2.8, 0, 5.9)),
        ],
    ),
    "tiles": Questions(
        [
            ((1, 0, 1), (11, 0, 5)),
            ((1, 0, 4.5), (7, 0, 1.2)),
            ((3.9, 0, 4.9), (8.5, 0, 2.1)),
            ((1, 0, 0.2), (7.5, 0, 1.1)),
            ((11, 0.1, 5.5), (0.5, 0, 0.5)),
        ],
        [(4, 0, 2), (8.01, 0.05, 1.5), (13, 0, 3)],
        [((3.9, 0, 2), (4.1, 0, 2.1)), ((3.9, 0, 0.9), (4.1, 0, 0.95)), ((7.9, 0, 3.4), (8.15, 0, 3.6))],
    ),
}
