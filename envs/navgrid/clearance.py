"""Distance to the nearest obstacle or drop per walkable node, and connected components of the grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.heightfield import ROUNDING, Columns, DoubleArray, FloatArray, Floor, IntArray, fused_kernel, kernel

NO_SITE = np.int32(2**31 - 1)

# Numbers, by row, of the columns in a window of 5 x 5: the inner ones first.
NEAR_FIRST = np.array([6, 7, 8, 11, 12, 13, 16, 17, 18, *range(6), 9, 10, 14, 15, *range(19, 25)])


class Spread(NamedTuple):
    """State of the distance transform.

    Attributes:
        distance: (M,) float64 from each node to its site, metres; inf where none is known.
        site: (M,) int32 nearest site known, as `_gap` has it.
        changed: (columns,) int64 number of the last visit that gave a node in or beside this column another site.
    """

    distance: DoubleArray
    site: IntArray
    changed: NDArray[np.int64]


@fused_kernel
def _gap(x: float, z: float, box: FloatArray, site: int, cell: float, nx: int) -> float:
    """Distance from (x, z) to a site: the box of fragment `site`, or for site < 0 the column -site - 1."""
    if site >= 0:
        x0, x1 = box[site, 0], box[site, 1]
        z0, z1 = box[site, 2], box[site, 3]
    else:
        c = -site - 1
        x0, z0 = (c % nx) * cell, (c // nx) * cell
        x1, z1 = x0 + cell, z0 + cell
    dx = max(x0 - x, x - x1, 0.0)
    dz = max(z0 - z, z - z1, 0.0)
    return np.sqrt(dx * dx + dz * dz)


@fused_kernel
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
            gap = _gap(x, z, columns.box, k, cell, nx)
            if gap < best:
                best, site = gap, k
    if best == np.inf:
        return _gap(x, z, columns.box, -c - 1, cell, nx), -c - 1
    return best, site


@fused_kernel
def _seed(
    i: int, columns: Columns, floor: Floor, cell: float, nx: int, nz: int, height: float, climb: float
) -> tuple[float, np.int32]:
    """Nearest wall or drop in the 5 x 5 columns around node i: distance and site."""
    ix, iz = floor.column[i] % nx, floor.column[i] // nx
    x, z, y = (ix + 0.5) * cell, (iz + 0.5) * cell, floor.height[i]
    best, site, best_rank = np.inf, NO_SITE, 0
    # The nine columns around it, then those further out that may hold something nearer. Of equally near ones the first
    # by row counts. The grid has a margin of empty columns, so that cutting the window at its border hides no drop.
    for k in range(25):
        rank = NEAR_FIRST[k]
        jx, jz = ix + rank % 5 - 2, iz + rank // 5 - 2
        if jx < 0 or jz < 0 or jx >= nx or jz >= nz:
            continue
        c, steps = jz * nx + jx, abs(jx - ix) + abs(jz - iz)
        if k >= 9 and _gap(x, z, columns.box, -c - 1, cell, nx) - ROUNDING > best:
            continue
        gap, found = _obstacle(c, x, y, z, columns, floor, cell, nx, height, climb, steps)
        if gap < best or (gap == best and rank < best_rank):
            best, site, best_rank = gap, found, rank
    return best, site


@fused_kernel
def _beyond(near: IntArray, j: int, d: int) -> int:
    """Neighbour in direction d of node j, -1 if there is no such node."""
    return int(near[j, d]) if j >= 0 else -1


@fused_kernel
def _nearer(
    i: int,
    x: float,
    z: float,
    box: FloatArray,
    near: IntArray,
    distance: DoubleArray,
    site: IntArray,
    cell: float,
    nx: int,
) -> bool:
    """Give node i at (x, z) the nearest of the sites of its neighbours, where that is nearer than its own: whether."""
    west, east, north, south = np.int64(near[i, 0]), np.int64(near[i, 1]), np.int64(near[i, 2]), np.int64(near[i, 3])
    west_north, east_north = _beyond(near, west, 2), _beyond(near, east, 2)
    south_west, east_south = _beyond(near, south, 0), _beyond(near, east, 3)
    # Neighbours, each with one that was looked at before: where storeys meet, the two ways to a diagonal may differ.
    pairs = (
        (west, -1), (east, -1), (north, -1), (south, -1),
        (west_north, -1), (east_north, -1), (_beyond(near, north, 0), west_north),
        (south_west, -1), (_beyond(near, west, 3), south_west), (east_south, -1),
        (_beyond(near, north, 1), east_north), (_beyond(near, south, 1), east_south),
    )  # fmt: skip
    changed = False
    for j, before in pairs:
        if j < 0 or j == before or site[j] == site[i]:
            continue
        if distance[j] < distance[i] + 2.0 * cell:
            gap = _gap(x, z, box, np.int64(site[j]), cell, nx)
            if gap < distance[i]:
                distance[i] = gap
                site[i] = site[j]
                changed = True
    return changed


@fused_kernel
def _sweep(turn: int, columns: Columns, floor: Floor, spread: Spread, cell: float, nx: int, nz: int) -> None:
    """Pass number `turn` of the vector distance transform, forwards and backwards in turns."""
    box, start, near = columns.box, floor.start, floor.near
    distance, site, changed = spread
    count = len(distance)
    for step in range(nx * nz):
        c = step if turn % 2 == 0 else nx * nz - 1 - step
        first, last = start[c], start[c + 1] - 1
        ix, iz = c % nx, c // nx
        for k in range(last + 1 - first):
            i = first + k if turn % 2 == 0 else last - k
            visit = i if turn % 2 == 0 else count - 1 - i
            # Nothing can be new if no neighbour was given another site since the last visit.
            if turn > 0 and changed[c] <= turn * count - 1 - visit:
                continue
            if _nearer(i, (ix + 0.5) * cell, (iz + 0.5) * cell, box, near, distance, site, cell, nx):
                for jz in range(max(iz - 1, 0), min(iz + 2, nz)):
                    for jx in range(max(ix - 1, 0), min(ix + 2, nx)):
                        changed[jz * nx + jx] = turn * count + visit


@fused_kernel
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
    spread = Spread(np.full(count, np.inf), np.full(count, NO_SITE, np.int32), np.full(nx * nz, -1, np.int64))
    for i in range(count):
        if _on_rim(i, floor.near):
            spread.distance[i], spread.site[i] = _seed(i, columns, floor, cell, nx, nz, height, climb)
    for turn in range(4):
        _sweep(turn, columns, floor, spread, cell, nx, nz)
    return spread.distance.astype(np.float32)


@kernel
def components(group: IntArray, near: IntArray) -> IntArray:
    """Connected components of nodes of equal group: (M,) int32 labels from 0 by first node, -1 where `group` is."""
    label = np.full(len(group), -1, np.int32)
    stack = np.empty(len(group), np.int32)
    count = 0
    for seed in range(len(group)):
        if group[seed] < 0 or label[seed] >= 0:
            continue
        label[seed] = count
        stack[0] = seed
        size = 1
        while size > 0:
            size -= 1
            i = stack[size]
            for d in range(4):
                j = near[i, d]
                if j >= 0 and group[j] == group[i] and label[j] < 0:
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
