"""Detour's `dtNavMeshQuery::moveAlongSurface` in plain Python, after its published source: what habitat-sim walks with.

One tile and one floor: points are (x, z).
"""

from __future__ import annotations

import numpy as np


def cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def inside(point, outline):
    """Whether a point lies in a convex outline (n, 2), either way round."""
    following = np.roll(outline, -1, axis=0)
    sides = [cross(b - a, point - a) for a, b in zip(outline, following, strict=True)]
    return all(side >= 0 for side in sides) or all(side <= 0 for side in sides)


def nearest(point, a, b):
    """Nearest point of a segment and its squared distance."""
    along = b - a
    found = a + np.clip(np.dot(point - a, along) / np.dot(along, along), 0.0, 1.0) * along
    return found, float(np.sum((found - point) ** 2))


def move_along_surface(outlines, neighbours, start_polygon, start, end):
    """Where a move from `start` towards `end` arrives.

    Among polygons that are reached by edges in a disc about both, the one that holds the end; else the point nearest to
    the end on their walls.

    Args:
        outlines: (n, 2) corners of each polygon.
        neighbours: For each polygon and edge, the polygon beyond or -1.
        start_polygon: The polygon that holds `start`.
        start: (2,).
        end: (2,).
    """
    best, least = start, np.inf
    middle, radius = 0.5 * (start + end), 0.5 * np.linalg.norm(end - start) + 0.001
    left, seen = [start_polygon], {start_polygon}
    while left:
        polygon = left.pop(0)
        outline = outlines[polygon]
        if inside(end, outline):
            return end
        for k, beyond in enumerate(neighbours[polygon]):
            a, b = outline[k], outline[(k + 1) % len(outline)]
            if beyond < 0:
                found, gap = nearest(end, a, b)
                if gap < least:
                    best, least = found, gap
            elif beyond not in seen and nearest(middle, a, b)[1] <= radius**2:
                seen.add(beyond)
                left.append(beyond)
    return best
