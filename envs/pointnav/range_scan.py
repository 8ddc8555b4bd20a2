"""Inverse sensor model of predicted depth: columns of a depth image as a range scan on an occupancy grid.

Predicted depth is coarse, and off by a tenth or more of itself. So pixels are not taken as points, as measured ones
are: of each column the nearest thing at the height of the agent's body counts, within a few metres, once per frame and
cell; the floor up to it is free (the beam model of occupancy grids: Moravec and Elfes 1985; Thrun, Burgard and Fox,
"Probabilistic Robotics", section 9.2). Cells become blocked where several frames agree.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Metres up to which predictions count.
REACH = 3.0
# The last part of the way up to an obstacle says nothing.
MARGIN = 0.1
# What is seen less than this high above the floor, metres, may be the floor.
LEAST_HEIGHT = 0.25
# Evidence that one frame adds to a cell.
BLOCKED, FREE = 1, -1


@njit(cache=True, nogil=True)
def add_evidence(
    evidence: NDArray[np.int8],
    box: NDArray[np.int64],
    position: NDArray[np.float64],
    forward: float,
    right: float,
    heading: float,
    cells_per_metre: float,
    added: int,
    bounds: tuple[int, int],
    last: tuple[int, int],
) -> tuple[bool, tuple[int, int]]:
    """Add evidence to the cell at a place ahead and to the right of an agent, unless it is the `last` one again.

    Evidence that is greater than `bounds` allow is certain, and stays.

    Returns:
        Whether the cell has become blocked, or is no longer, and which it is.
    """
    size = evidence.shape[0]
    cos, sin = math.cos(heading), math.sin(heading)
    i = math.floor((position[1] - sin * right - cos * forward) * cells_per_metre) + size // 2
    j = math.floor((position[0] + cos * right - sin * forward) * cells_per_metre) + size // 2
    if (i, j) == last or not (0 <= i < size and 0 <= j < size):
        return False, (i, j)
    before = evidence[i, j]
    if before > bounds[1]:
        return False, (i, j)
    known = min(max(before + added, bounds[0]), bounds[1])
    evidence[i, j] = known
    box[0], box[1] = min(box[0], i), max(box[1], i + 1)
    box[2], box[3] = min(box[2], j), max(box[3], j + 1)
    return (known > 0) != (before > 0), (i, j)


@njit(cache=True, nogil=True)
def nearest_obstacle(
    column: NDArray[np.float32], limit: float, lens: NDArray[np.float64], columns: int, body_height: float
) -> tuple[float, float, float]:
    """Reduce a column of a depth image to what it says about the floor.

    Args:
        column: (H,) planar depth in metres.
        limit: Depth from which on pixels say nothing, as 0 does.
        lens: Tangent of half the horizontal field of view, pitch in radians, height in metres.
        columns: Width of the image.
        body_height: What is higher, in metres above the floor, is no obstacle.

    Returns:
        Metres ahead, along the floor, to the nearest obstacle (inf if there is none), its planar depth (1 if none), and
        metres ahead from which on the floor is in view.
    """
    focal = columns / 2 / lens[0]
    cos, sin = math.cos(lens[1]), math.sin(lens[1])
    nearest, depth, floor = np.inf, 1.0, np.inf
    rows = len(column)
    for r in range(rows):
        up = (rows / 2 - r - 0.5) / focal
        rise, run = sin + up * cos, cos - up * sin
        if rise < 0.0:
            floor = min(floor, -lens[2] / rise * run)
        z = column[r]
        if 0.0 < z < limit and LEAST_HEIGHT < lens[2] + z * rise <= body_height and 0.0 < z * run < nearest:
            nearest, depth = z * run, z
    return nearest, depth, floor


@njit(cache=True, nogil=True)
def add_scan(
    evidence: NDArray[np.int8],
    box: NDArray[np.int64],
    depth: NDArray[np.float32],
    limit: float,
    position: NDArray[np.float64],
    heading: float,
    lens: NDArray[np.float64],
    body_height: float,
    cells_per_metre: float,
    bounds: tuple[int, int],
) -> bool:
    """Add the range scan of one predicted depth image to one agent's evidence.

    Args:
        evidence: (G, G) int8, positive where blocked; changed in place.
        box: (4,) rows [0, 1) and columns [2, 3) with evidence; widened in place.
        depth: (H, W) float32 planar depth in metres.
        limit: Depth from which on pixels say nothing, as 0 does.
        position: (2,) x and z of the agent in metres from the middle of the grid.
        heading: Radians, positive to the left.
        lens: See `nearest_obstacle`.
        body_height: Likewise.
        cells_per_metre: Of the grid.
        bounds: Least and greatest evidence.

    Returns:
        Whether blocked cells changed.
    """
    changed = False
    columns = depth.shape[1]
    for c in range(columns):
        nearest, z, floor = nearest_obstacle(depth[:, c], limit, lens, columns, body_height)
        aside = (c + 0.5 - columns / 2) / (columns / 2) * lens[0]
        # Metres to the right for each metre ahead: where the obstacle is, or along the floor at the image's middle row.
        slope = aside * z / nearest if nearest < np.inf else aside * math.cos(lens[1])
        reach = REACH / math.sqrt(1.0 + slope * slope)
        forward, end = floor, min(nearest * (1.0 - MARGIN), reach)
        last = (-1, -1)
        while forward < end:
            now, last = add_evidence(
                evidence, box, position, forward, forward * slope, heading, cells_per_metre, FREE, bounds, last
            )
            changed = changed or now
            forward += 0.5 / cells_per_metre
        if nearest < reach:
            now, _ = add_evidence(
                evidence, box, position, nearest, nearest * slope, heading, cells_per_metre, BLOCKED, bounds, (-1, -1)
            )
            changed = changed or now
    return changed
