"""Voxelisation of triangles into floor levels: heights at which an agent can stand, per grid column.

A triangle is cut along the grid, and each piece (a *fragment*) keeps its exact height range and its exact
horizontal bounding box, so that later stages know where inside a 5 cm cell a wall stands.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

kernel: Any = njit(cache=True, error_model="numpy", nogil=True)
# For what is called in innermost loops: a call that passes arrays, or tuples of them, counts references to each.
# Also for what one kernel alone calls, which compiles faster so; but the compiler copies a kernel once for each part.
fused_kernel: Any = njit(cache=True, error_model="numpy", nogil=True, inline="always")

# Directions of the four neighbours in (x, z) cells; direction d and d ^ 1 are opposite.
STEP_X = np.array([-1, 1, 0, 0], np.int32)
STEP_Z = np.array([0, 0, -1, 1], np.int32)
# A step of exactly one climb is one, whichever way its heights were rounded; metres.
ROUNDING = 1e-4
# A narrower piece of floor in a column is none, metres.
LEAST_WIDTH = np.float32(1e-4)

Span = tuple[float, float]


class Columns(NamedTuple):
    """Fragments of all triangles, grouped by grid column.

    Attributes:
        start: (columns + 1,) int32; column c holds the fragments start[c]:start[c + 1]. c = iz * nx + ix.
        low: (K,) float32 lowest height of each fragment, metres.
        high: (K,) float32 highest.
        box: (K, 4) float32 horizontal bounds x_min, x_max, z_min, z_max, metres from the grid's corner.
        walkable: (K,) bool, True where the triangle faces up within the slope limit.
    """

    start: IntArray
    low: FloatArray
    high: FloatArray
    box: FloatArray
    walkable: NDArray[np.bool_]


class Floor(NamedTuple):
    """Walkable nodes before erosion by the agent's radius, one per column and level, ordered by column.

    Attributes:
        start: (columns + 1,) int32; column c holds the nodes start[c]:start[c + 1].
        column: (M,) int32 column of each node.
        height: (M,) float32 y of the floor.
        near: (M, 4) int32 node to the -x, +x, -z, +z within one climb, -1 where there is none.
    """

    start: IntArray
    column: IntArray
    height: FloatArray
    near: IntArray


@kernel
def _clip(work: DoubleArray, src: int, count: int, dst: int, axis: int, limit: float, sign: float) -> int:
    """Keep in `work[dst]` the part of polygon `work[src, :count]` with sign * (coordinate - limit) >= 0: its size."""
    kept = 0
    a = sign * (work[src, 0, axis] - limit)
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        b = sign * (work[src, j, axis] - limit)
        if a >= 0.0:
            for k in range(3):
                work[dst, kept, k] = work[src, i, k]
            kept += 1
        if (a < 0.0 < b) or (b < 0.0 < a):
            t = a / (a - b)
            for k in range(3):
                work[dst, kept, k] = work[src, i, k] + t * (work[src, j, k] - work[src, i, k])
            work[dst, kept, axis] = limit
            kept += 1
        a = b
    return kept


@fused_kernel
def _slice(
    work: DoubleArray, src: int, count: int, spare: int, dst: int, axis: int, span: Span, lower: float, upper: float
) -> tuple[int, int]:
    """Cut polygon `work[src, :count]`, spanning `span`, at two limits: where the middle is, and its size."""
    if span[0] < lower:
        count = _clip(work, src, count, spare, axis, lower, 1.0)
        src = spare
    if span[1] > upper:
        count = _clip(work, src, count, dst, axis, upper, -1.0)
        src = dst
    return src, count


@fused_kernel
def _range(work: DoubleArray, src: int, count: int, axis: int) -> Span:
    """Least and largest coordinate of a polygon along an axis."""
    low = high = work[src, 0, axis]
    for i in range(1, count):
        low = min(low, work[src, i, axis])
        high = max(high, work[src, i, axis])
    return low, high


@kernel
def _cut(triangles: DoubleArray, cell: float, nx: int, nz: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Cut triangles (F, 3, 3), in metres from the grid's corner: column, triangle and record (K, 6) of each piece.

    A record is low, high, x_min, x_max, z_min, z_max.
    """
    capacity = 4 * len(triangles) + 2 * nx * nz
    column = np.empty(capacity, np.int32)
    owner = np.empty(capacity, np.int32)
    record = np.empty((capacity, 6), np.float32)
    work = np.empty((5, 10, 3))
    count = 0
    # Typed constants: numba would compile `_clip` anew for every literal.
    along_x, along_z, corners = np.int64(0), np.int64(2), np.int64(3)
    whole, below, strip, left, piece = np.int64(0), np.int64(1), np.int64(2), np.int64(3), np.int64(4)
    for f in range(len(triangles)):
        for corner in range(corners):
            for axis in range(3):
                work[whole, corner, axis] = triangles[f, corner, axis]
        span = _range(work, whole, corners, along_z)
        z_low = max(int(np.floor(span[0] / cell)), 0)
        z_high = min(int(np.floor(span[1] / cell)), nz - 1)
        for iz in range(z_low, z_high + 1):
            row, size = _slice(work, whole, corners, below, strip, along_z, span, iz * cell, (iz + 1) * cell)
            if size == 0:
                continue
            across = _range(work, row, size, along_x)
            x_low = max(int(np.floor(across[0] / cell)), 0)
            x_high = min(int(np.floor(across[1] / cell)), nx - 1)
            if count + x_high - x_low + 1 > capacity:
                capacity = 2 * capacity + nx
                column = np.concatenate((column, np.empty(capacity - len(column), np.int32)))
                owner = np.concatenate((owner, np.empty(capacity - len(owner), np.int32)))
                record = np.concatenate((record, np.empty((capacity - len(record), 6), np.float32)))
            for ix in range(x_low, x_high + 1):
                at, n = _slice(work, row, size, left, piece, along_x, across, ix * cell, (ix + 1) * cell)
                if n > 0:
                    record[count, 0], record[count, 1] = _range(work, at, n, 1)
                    record[count, 2], record[count, 3] = _range(work, at, n, 0)
                    record[count, 4], record[count, 5] = _range(work, at, n, 2)
                    column[count] = iz * nx + ix
                    owner[count] = f
                    count += 1
    return column[:count], owner[:count], record[:count]


@kernel
def _group(column: IntArray, owner: IntArray, record: FloatArray, walkable: NDArray[np.bool_], total: int) -> Columns:
    """Sort pieces by column; those of a column stay in their order."""
    start = np.zeros(total + 1, np.int32)
    for c in column:
        start[c + 1] += 1
    for c in range(total):
        start[c + 1] += start[c]
    free = start[:-1].copy()
    count = len(column)
    low, high, box = np.empty(count, np.float32), np.empty(count, np.float32), np.empty((count, 4), np.float32)
    carries = np.empty(count, np.bool_)
    for k in range(count):
        to = free[column[k]]
        free[column[k]] = to + 1
        low[to], high[to] = record[k, 0], record[k, 1]
        for side in range(4):
            box[to, side] = record[k, 2 + side]
        # A piece that only touches the column along a line is no floor there.
        broad = min(record[k, 3] - record[k, 2], record[k, 5] - record[k, 4]) > LEAST_WIDTH
        carries[to] = walkable[owner[k]] and broad
    return Columns(start, low, high, box, carries)


def cut(triangles: DoubleArray, walkable: NDArray[np.bool_], cell: float, nx: int, nz: int) -> Columns:
    """Cut triangles along the grid.

    Args:
        triangles: (F, 3, 3) float64 corners in metres, x and z from the grid's corner.
        walkable: (F,) bool, whether one may stand on the triangle.
        cell: Cell size in metres.
        nx: Columns along x.
        nz: Columns along z.
    """
    column, owner, record = _cut(triangles, cell, nx, nz)
    return _group(column, owner, record, walkable, nx * nz)


@fused_kernel
def _top(columns: Columns, a: int, b: int, i: int, climb: float) -> float:
    """Height one stands at on fragment i of the column a:b: an obstacle up to `climb` above it is stepped onto."""
    top = columns.high[i]
    for j in range(a, b):
        if columns.high[i] < columns.high[j] <= columns.high[i] + climb:
            top = max(top, columns.high[j])
    return top


@fused_kernel
def _fits(columns: Columns, a: int, b: int, top: float, height: float) -> bool:
    """Whether nothing in the column a:b is between `top` and `height` above it."""
    for j in range(a, b):
        if columns.high[j] > top + 1e-4 and columns.low[j] < top + height:
            return False
    return True


@fused_kernel
def _column_floors(columns: Columns, a: int, b: int, height: float, climb: float, out: FloatArray) -> int:
    """Heights to stand at in the column of fragments a:b, ascending, in `out`; how many."""
    count = 0
    for i in range(a, b):
        if not columns.walkable[i] or count == len(out):
            continue
        top = _top(columns, a, b, i, climb)
        if not _fits(columns, a, b, top, height):
            continue
        k = count
        while k > 0 and out[k - 1] > top + 1e-3:
            k -= 1
        if k > 0 and out[k - 1] >= top - 1e-3:
            continue  # this level is known
        for m in range(count, k, -1):
            out[m] = out[m - 1]
        out[k] = top
        count += 1
    return count


@kernel
def find_floor(columns: Columns, nx: int, nz: int, height: float, climb: float) -> Floor:
    """Find the floor for an agent of `height` that climbs steps of `climb` metres, as Recast does."""
    total = nx * nz
    start = np.zeros(total + 1, np.int32)
    capacity = total + 1024
    column = np.empty(capacity, np.int32)
    level = np.empty(capacity, np.float32)
    out = np.empty(64, np.float32)
    count = 0
    for c in range(total):
        n = _column_floors(columns, columns.start[c], columns.start[c + 1], height, climb, out)
        if count + n > capacity:
            capacity *= 2
            column = np.concatenate((column, np.empty(capacity - len(column), np.int32)))
            level = np.concatenate((level, np.empty(capacity - len(level), np.float32)))
        for k in range(n):
            column[count] = c
            level[count] = out[k]
            count += 1
        start[c + 1] = count
    column, level = column[:count].copy(), level[:count].copy()
    return Floor(start, column, level, link(start, column, level, nx, nz, climb))


@fused_kernel
def link(start: IntArray, column: IntArray, level: FloatArray, nx: int, nz: int, climb: float) -> IntArray:
    """Neighbour table (M, 4) int32 of nodes ordered by column: the nearest level within `climb`, else -1."""
    near = np.full((len(column), 4), -1, np.int32)
    for i in range(len(column)):
        ix, iz = column[i] % nx, column[i] // nx
        for d in range(4):
            jx, jz = ix + STEP_X[d], iz + STEP_Z[d]
            if jx < 0 or jz < 0 or jx >= nx or jz >= nz:
                continue
            c = jz * nx + jx
            best = climb + ROUNDING
            for j in range(start[c], start[c + 1]):
                gap = abs(level[j] - level[i])
                if gap <= best:
                    best = gap
                    near[i, d] = j
    return near
