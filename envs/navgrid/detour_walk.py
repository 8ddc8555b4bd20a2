"""Moves over Detour's polygons: `dtNavMeshQuery::moveAlongSurface` and what habitat-sim's `try_step` makes of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.detour import (
    FARTHEST,
    FLAT,
    HALF,
    ONE,
    ZERO,
    Polygons,
    Single,
    between,
    distance_to_segment,
    inside,
    project,
    put,
    set_height,
    trace,
)
from envs.navgrid.heightfield import DoubleArray, FloatArray, IntArray, kernel

# Polygons that one move may look at, and that may wait to be looked at.
MOST_SEEN, MOST_WAITING = 64, 48
REACH = np.float32(0.001)
TWO = np.float32(2.0)
NEAR = np.bool_(True)
# How far a point between two islands is moved into its own, metres.
NUDGE = np.float32(1e-4)


@kernel
def _passes(m: Polygons, polygon: int, edge: int, out: IntArray) -> int:
    """Polygons beyond an edge that may be walked on, in `out`: how many; 0 means a wall."""
    beyond = m.beyond[polygon, edge]
    count = 0
    if beyond >= 0:
        if m.walkable[beyond]:
            out[0] = beyond
            count = 1
    elif beyond < -1:
        for k in range(m.link_start[polygon], m.link_start[polygon + 1]):
            if m.link[k, 1] == edge and m.walkable[m.link[k, 0]] and count < len(out):
                out[count] = m.link[k, 0]
                count += 1
    return count


class Flood(NamedTuple):
    """The polygons that one move has looked at, those that wait, and how many of each.

    Attributes:
        polygon: (MOST_SEEN,) int32.
        parent: (MOST_SEEN,) int32 place of the polygon from which each was reached, -1 for none.
        queued: (MOST_SEEN,) bool, whether it waits or has waited.
        waiting: Places in the order in which they wait.
        tally: (3,) int32 polygons seen, first that waits, and one past the last.
    """

    polygon: IntArray
    parent: IntArray
    queued: NDArray[np.bool_]
    waiting: IntArray
    tally: IntArray


@kernel
def _enter(f: Flood, polygon: int, near: bool, parent: int) -> None:
    """Let a polygon wait if it is near and has not waited; one that is far is remembered all the same."""
    place = 0
    while place < f.tally[0] and f.polygon[place] != polygon:
        place += 1
    if place == MOST_SEEN:
        return
    if place == f.tally[0]:
        f.polygon[place], f.parent[place], f.queued[place] = polygon, -1, False
        f.tally[0] += 1
    if near and not f.queued[place] and f.tally[2] - f.tally[1] < MOST_WAITING:
        f.queued[place], f.parent[place] = True, parent
        f.waiting[f.tally[2]] = place
        f.tally[2] += 1


@kernel
def _look_beyond(
    m: Polygons, f: Flood, place: int, end: FloatArray, middle: FloatArray, reach: Single, best: Single, out: FloatArray
) -> Single:
    """Let a polygon's neighbours wait; if a wall of it is nearer to the end than `best` (squared), `out` is there."""
    beyond = np.empty(8, np.int32)
    here = f.polygon[place]
    j = m.corners[here] - 1
    for i in range(m.corners[here]):
        a, b = m.points[m.corner[here, j]], m.points[m.corner[here, i]]
        found = _passes(m, here, np.int64(j), beyond)
        if found == 0:
            gap, t = distance_to_segment(end, a, b)
            if gap < best:
                between(a, b, t, out)
                best = gap
        for k in range(found):
            _enter(f, np.int64(beyond[k]), distance_to_segment(middle, a, b)[0] <= reach, np.int64(place))
        j = i
    return best


@kernel
def _along_surface(
    m: Polygons, first: int, start: FloatArray, end: FloatArray, out: FloatArray, visited: IntArray
) -> int:
    """Move from a start on polygon `first` towards an end: the point in `out`, the way's polygons in `visited`.

    Of the polygons reached by edges in a ball about both, the one with the end; else the point of their walls that is
    nearest to the end. The result is the number of polygons on the way, 0 where there is nowhere to go.
    """
    f = Flood(
        np.empty(MOST_SEEN, np.int32),
        np.empty(MOST_SEEN, np.int32),
        np.empty(MOST_SEEN, np.bool_),
        np.empty(MOST_SEEN + 1, np.int32),
        np.zeros(3, np.int32),
    )
    middle = np.empty(3, np.float32)
    between(start, end, HALF, middle)
    x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    reach = np.sqrt(x * x + y * y + z * z) / TWO + REACH
    _enter(f, first, NEAR, np.int64(-1))
    best, least = -1, FARTHEST
    put(start, out)
    while f.tally[1] < f.tally[2]:
        place = f.waiting[f.tally[1]]
        f.tally[1] += 1
        if inside(m, f.polygon[place], end):
            best = place
            put(end, out)
            break
        gap = _look_beyond(m, f, place, end, middle, reach * reach, least, out)
        if gap < least:
            least, best = gap, place
    return trace(f.polygon, f.parent, best, visited)


@kernel
def _stop_at_wall(
    m: Polygons, visited: IntArray, length: int, start: FloatArray, end: FloatArray, out: FloatArray
) -> None:
    """Put `out` where the straight way from start to end first meets a wall of the polygons on the way.

    Of the meetings the one nearest to the end, as habitat-sim has it; `out` stays where there is none.
    """
    beyond = np.empty(8, np.int32)
    hit = np.empty(3, np.float32)
    least = FARTHEST
    for n in range(length):
        here = visited[n]
        for j in range(m.corners[here]):
            if m.beyond[here, j] >= 0 or _passes(m, here, np.int64(j), beyond) > 0:
                continue
            a, b = m.points[m.corner[here, j]], m.points[m.corner[here, (j + 1) % m.corners[here]]]
            ux, uz = b[0] - a[0], b[2] - a[2]
            vx, vz = end[0] - start[0], end[2] - start[2]
            wx, wz = a[0] - start[0], a[2] - start[2]
            cross = ux * vz - uz * vx
            if abs(cross) < FLAT:
                continue
            s, t = (vx * wz - vz * wx) / cross, (ux * wz - uz * wx) / cross
            if not (ZERO <= t <= ONE and ZERO <= s <= ONE):
                continue
            between(a, b, s, hit)
            x, z = end[0] - hit[0], end[2] - hit[2]
            if x * x + z * z < least:
                least = x * x + z * z
                put(hit, out)


@kernel
def try_step(m: Polygons, start: FloatArray, end: FloatArray, sliding: bool, out: FloatArray) -> None:
    """End point of a walk from start towards end, (3,) float32 each, into `out`, on the surface."""
    here, other = np.empty(3, np.float32), np.empty(3, np.float32)
    put(start, out)
    first = project(m, start, np.int64(-1), here)
    last = project(m, end, np.int64(-1), other)
    if first < 0 or last < 0 or m.island[first] != m.island[last]:
        return
    visited = np.empty(MOST_SEEN, np.int32)
    moved = np.empty(3, np.float32)
    length = _along_surface(m, first, here, end, moved, visited)
    if length == 0:
        return
    if not sliding:
        _stop_at_wall(m, visited, length, here, end, moved)
    polygon = visited[length - 1]
    set_height(m, polygon, moved)
    last = project(m, moved, np.int64(-1), other)
    if last < 0 or m.island[first] != m.island[last]:
        # On an edge that two islands share: a little into the polygon that the move ended in.
        centre = np.zeros(3, np.float32)
        for k in range(m.corners[polygon]):
            centre += m.points[m.corner[polygon, k]]
        toward = centre / np.float32(m.corners[polygon]) - moved
        length_of = np.sqrt(toward[0] * toward[0] + toward[1] * toward[1] + toward[2] * toward[2])
        for k in range(3):
            moved[k] = moved[k] + NUDGE * (toward[k] / length_of)
    put(moved, out)


@kernel
def steps(m: Polygons, position: FloatArray, target: FloatArray, sliding: bool) -> tuple[FloatArray, NDArray[np.bool_]]:
    """`try_step` of N agents from (N, 3) towards (N, 3) float32: where they arrive, and whether they were held back.

    Held back as habitat-sim has it: moved^2 + 1e-5 < asked^2, heights included.
    """
    out = np.empty(position.shape, np.float32)
    held = np.empty(len(position), np.bool_)
    for n in range(len(position)):
        try_step(m, position[n], target[n], sliding, out[n])
        moved = asked = 0.0
        for k in range(3):
            moved += np.float64(out[n, k] - position[n, k]) ** 2
            asked += np.float64(target[n, k] - position[n, k]) ** 2
        held[n] = moved + 1e-5 < asked
    return out, held


@kernel
def wall_distances(m: Polygons, position: FloatArray, most: float) -> DoubleArray:
    """Distances (N,) in metres, seen from above, from (N, 3) float32 positions to the nearest wall, at most `most`.

    inf where no polygon is near.
    """
    out = np.empty(len(position))
    here = np.empty(3, np.float32)
    beyond = np.empty(8, np.int32)
    seen = np.zeros(len(m.corners), np.bool_)
    stack = np.empty(len(m.corners), np.int32)
    for n in range(len(position)):
        first = project(m, position[n], np.int64(-1), here)
        if first < 0:
            out[n] = np.inf
            continue
        seen[:] = False
        seen[first] = True
        stack[0] = first
        size = 1
        least = np.float32(most) * np.float32(most)
        while size > 0:
            size -= 1
            polygon = stack[size]
            for j in range(m.corners[polygon]):
                a, b = m.points[m.corner[polygon, j]], m.points[m.corner[polygon, (j + 1) % m.corners[polygon]]]
                gap = distance_to_segment(here, a, b)[0]
                if gap > least:
                    continue
                found = _passes(m, polygon, np.int64(j), beyond)
                if found == 0:
                    least = gap
                for k in range(found):
                    if not seen[beyond[k]]:
                        seen[beyond[k]] = True
                        stack[size] = beyond[k]
                        size += 1
        out[n] = np.sqrt(least)
    return out
