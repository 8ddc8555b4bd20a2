"""Distance to the nearest obstacle or drop per walkable node, and connected components of the grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.heightfield import ROUNDING, Columns, DoubleArray, FloatArray, Floor, IntArray, kernel


@kernel
def _gap(x: float, z: float, columns: Columns, site: int, cell: float, nx: int) -> float:
    """Distance from (x, z) to a site: the box of fragment `site`, or for site < 0 the column -site - 1."""
    if site >= 0:
        x0, x1 = columns.box[site, 0], columns.box[site, 1]
        z0, z1 = columns.box[site, 2], columns.box[site, 3]
    else:
        c = -site - 1
        x0, z0 = (c % nx) * cell, (c // nx) * cell
        x1, z1 = x0 + cell, z0 + cell
    dx = max(x0 - x, x - x1, 0.0)
    dz = max(z0 - z, z - z1, 0.0)
    return np.sqrt(dx * dx + dz * dz)


@kernel
def _obstacle(
    c: int,
    x: float,
    y: float,
    z: float,
    columns: Columns,
    floor: Floor,
    cell: float,
    nx: int,
    height: float,
    climb: float,
    steps: int,
) -> tuple[float, int]:
    """Nearest wall in column c, or the drop it is, seen from (x, z) on a floor at y: distance (or inf) and site.

    The column is `steps` columns away along the axes. Floor there is no drop if it is within one climb, or within two
    beyond the next column: from one column to the next nobody climbs more than one.
    """
    for j in range(floor.start[c], floor.start[c + 1]):
        if abs(floor.height[j] - y) <= min(steps, 2) * (climb + ROUNDING):
            return np.inf, 0
    best, site = np.inf, 0
    for k in range(columns.start[c], columns.start[c + 1]):
        if columns.high[k] > y + climb and columns.low[k] < y + height:
            gap = _gap(x, z, columns, k, cell, nx)
            if gap < best:
                best, site = gap, k
    if best == np.inf:
        return _gap(x, z, columns, -c - 1, cell, nx), -c - 1
    return best, site


@kernel
def _seed(
    i: int, columns: Columns, floor: Floor, cell: float, nx: int, nz: int, height: float, climb: float
) -> tuple[float, int]:
    """Nearest wall or drop in the 5 x 5 columns around node i: distance and site."""
    ix, iz = floor.column[i] % nx, floor.column[i] // nx
    x, z, y = (ix + 0.5) * cell, (iz + 0.5) * cell, floor.height[i]
    best, site = np.inf, 0
    # The grid has a margin of empty columns, so that cutting the window at its border hides no drop.
    for jz in range(max(iz - 2, 0), min(iz + 3, nz)):
        for jx in range(max(ix - 2, 0), min(ix + 3, nx)):
            steps = abs(jx - ix) + abs(jz - iz)
            gap, found = _obstacle(jz * nx + jx, x, y, z, columns, floor, cell, nx, height, climb, steps)
            if gap < best:
                best, site = gap, found
    return best, site


@kernel
def _sweep(
    forward: bool, columns: Columns, floor: Floor, distance: DoubleArray, site: IntArray, cell: float, nx: int
) -> None:
    """One pass of the vector distance transform: take over the site of a neighbour where it is nearer."""
    for step in range(len(distance)):
        i = step if forward else len(distance) - 1 - step
        x = (floor.column[i] % nx + 0.5) * cell
        z = (floor.column[i] // nx + 0.5) * cell
        for m in range(12):
            d = m % 4
            j = floor.near[i, d]
            if m >= 4 and j >= 0:  # a diagonal neighbour through j
                j = floor.near[j, (m // 4 - 1) + (2 if d < 2 else 0)]
            if j >= 0 and distance[j] < distance[i] + 2.0 * cell:
                gap = _gap(x, z, columns, np.int64(site[j]), cell, nx)
                if gap < distance[i]:
                    distance[i] = gap
                    site[i] = site[j]


@kernel
def _on_rim(i: int, near: IntArray) -> bool:
    """Whether one of the eight neighbours of node i is missing."""
    for d in range(4):
        j = near[i, d]
        if j < 0 or near[j, 2 if d < 2 else 0] < 0 or near[j, 3 if d < 2 else 1] < 0:
            return True
    return False


@kernel
def clearance(columns: Columns, floor: Floor, cell: float, nx: int, nz: int, height: float, climb: float) -> FloatArray:
    """Distance in metres, (M,) float32, from each node of `floor` to the nearest wall or drop.

    Walls are the boxes of the fragments between `climb` and `height` above the floor: exact for walls along the
    axes, at most half a cell too wide for slanted ones. Sites spread from node to node (a vector distance
    transform, Danielsson 1980).
    """
    count = len(floor.column)
    distance = np.full(count, np.inf)
    site = np.zeros(count, np.int32)
    for i in range(count):
        if _on_rim(i, floor.near):
            distance[i], site[i] = _seed(i, columns, floor, cell, nx, nz, height, climb)
    for k in range(4):
        _sweep(k % 2 == 0, columns, floor, distance, site, cell, nx)
    return distance.astype(np.float32)


@kernel
def islands(free: NDArray[np.bool_], near: IntArray) -> IntArray:
    """Connected components of the nodes where `free`: (M,) int32 labels from 0 by first node, else -1."""
    label = np.full(len(free), -1, np.int32)
    stack = np.empty(len(free), np.int32)
    count = 0
    for seed in range(len(free)):
        if not free[seed] or label[seed] >= 0:
            continue
        label[seed] = count
        stack[0] = seed
        size = 1
        while size > 0:
            size -= 1
            i = stack[size]
            for d in range(4):
                j = near[i, d]
                if j >= 0 and free[j] and label[j] < 0:
                    label[j] = count
                    stack[size] = j
                    size += 1
        count += 1
    return label


@kernel
def fringe(label: IntArray, near: IntArray) -> NDArray[np.bool_]:
    """(M,) bool: nodes of an island and their eight neighbours, all that interpolation on it needs."""
    keep = label >= 0
    for i in range(len(label)):
        if label[i] < 0:
            continue
        for d in range(4):
            j = near[i, d]
            if j >= 0:
                keep[j] = True
                for e in range(2):
                    k = near[j, e + 2 if d < 2 else e]
                    if k >= 0:
                        keep[k] = True
    return keep
