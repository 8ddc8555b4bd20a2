"""Detour's polygons and its queries for points and paths, in single precision and in Detour's order of operations.

What habitat-sim answers on a ``.navmesh``: `dtNavMeshQuery::findNearestPoly` in a box of 2 x 4 x 2 m about the point,
`findPath` (A* over polygons by the midpoints of their edges, heuristic 0.999 times the straight distance, 2048 nodes)
and `findStraightPath` (the funnel through the edges, at most 256 corners), put together as its `PathFinder` does. The
way so found is not always the shortest, and may differ with the direction in which it is asked for.

Followed: recastnavigation at 6dc1667 and habitat-sim at 57ee494. Off-mesh connections, which habitat-sim never writes,
are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.heightfield import DoubleArray, FloatArray, IntArray, kernel

# Half sides of the box in which a polygon is looked for, metres.
EXTENT_X, EXTENT_Y, EXTENT_Z = np.float32(2.0), np.float32(4.0), np.float32(2.0)
# Share of the straight distance that the search takes for the way still to go.
HEURISTIC = np.float32(0.999)
MOST_NODES = 2048
MOST_CORNERS = 256
# Squared distance below which two corners of a path are one.
SAME = np.float32((1.0 / 16384.0) ** 2)
# Squared distance from a portal below which a path starts on it.
ON_PORTAL = np.float32(0.001) * np.float32(0.001)
# Magnum's vectors are equal within this, relative beyond 1.
EQUAL = np.float32(1e-5)
FLAT = np.float32(1e-6)
ZERO, HALF, ONE, FARTHEST = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(3.4e38)
BYTE = np.float32(1.0) / np.float32(255.0)
INTERNAL = 255
# Typed: numba would compile a function anew for each literal.
DOWN, UP = np.bool_(False), np.bool_(True)
ALL, RIM = np.bool_(False), np.bool_(True)
# States of a node of the search.
UNSEEN, OPEN, CLOSED = 0, 1, 2

Single = np.floating[Any]


class Polygons(NamedTuple):
    """The tiles of a navigation mesh, put into one set of arrays.

    Attributes:
        points: (V, 3) float32 corners of polygons and of detail triangles.
        corner: (P, 6) int32 corners of each polygon, in order.
        corners: (P,) int32 number of them.
        walkable: (P,) bool, whether habitat-sim's filter lets it pass.
        beyond: (P, 6) int32 polygon of the same tile beyond each edge, -1 none, -2 in other tiles (see `link`).
        island: (P,) int32 connected components of the polygons.
        link_start: (P + 1,) int32; polygon p has the links link_start[p]:link_start[p + 1], in Detour's order.
        link: (L, 5) int32 polygon, edge, side (255: within the tile), and the part of the edge in 255ths: low, high.
        triangle_start: (P + 1,) int32; as link_start, of detail triangles.
        triangle: (T, 4) int32 corners, and Detour's flags of edges.
        tile: (P,) int32 tile of each polygon.
        tile_place: (K, 2) int32 column and row of each tile; tiles are in the order in which Detour asks them.
        tile_box: (K, 2, 3) float32 lowest and highest corner.
        tile_scale: (K,) float32 quanta per metre in the boxes of its tree.
        tile_climb: (K,) float32 metres.
        tree_start: (K + 1,) int32; as link_start, of the tree's nodes, in depth-first order.
        tree_box: (N, 6) int32 lowest and highest corner in quanta.
        tree_item: (N,) int32 polygon of a leaf, or the number of nodes to skip, negative.
        origin: (2,) float32 x and z of the corner of tile (0, 0).
        tile_size: (2,) float32 metres.
    """

    points: FloatArray
    corner: IntArray
    corners: IntArray
    walkable: NDArray[np.bool_]
    beyond: IntArray
    island: IntArray
    link_start: IntArray
    link: IntArray
    triangle_start: IntArray
    triangle: IntArray
    tile: IntArray
    tile_place: IntArray
    tile_box: FloatArray
    tile_scale: FloatArray
    tile_climb: FloatArray
    tree_start: IntArray
    tree_box: IntArray
    tree_item: IntArray
    origin: FloatArray
    tile_size: FloatArray


# -- plane geometry ---------------------------------------------------------------------------------------------------


@kernel
def distance_to_segment(p: FloatArray, a: FloatArray, b: FloatArray) -> tuple[Single, Single]:
    """Squared distance, seen from above, from p to the segment a-b, and the share of it where it is nearest."""
    along_x, along_z = b[0] - a[0], b[2] - a[2]
    dx, dz = p[0] - a[0], p[2] - a[2]
    length = along_x * along_x + along_z * along_z
    t = along_x * dx + along_z * dz
    if length > ZERO:
        t /= length
    if t < ZERO:
        t = ZERO
    elif t > ONE:
        t = ONE
    dx = a[0] + t * along_x - p[0]
    dz = a[2] + t * along_z - p[2]
    return dx * dx + dz * dz, t


@kernel
def put(p: FloatArray, out: FloatArray) -> None:
    """Copy a point (3,); for an assignment of slices the compiler also compiles how to say that shapes differ."""
    for axis in range(3):
        out[axis] = p[axis]


@kernel
def between(a: FloatArray, b: FloatArray, t: Single, out: FloatArray) -> None:
    """The point at share t of the way from a to b."""
    for k in range(3):
        out[k] = a[k] + (b[k] - a[k]) * t


@kernel
def _apart(a: FloatArray, b: FloatArray) -> Single:
    x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    return np.sqrt(x * x + y * y + z * z)


@kernel
def _same(a: FloatArray, b: FloatArray) -> bool:
    x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    return x * x + y * y + z * z < SAME


@kernel
def _turn(a: FloatArray, b: FloatArray, c: FloatArray) -> Single:
    """Twice the signed area of a triangle seen from above."""
    return (c[0] - a[0]) * (b[2] - a[2]) - (b[0] - a[0]) * (c[2] - a[2])


@kernel
def inside(m: Polygons, polygon: int, p: FloatArray) -> bool:
    """Whether p lies in a polygon, seen from above."""
    found = False
    j = m.corners[polygon] - 1
    for i in range(m.corners[polygon]):
        a, b = m.points[m.corner[polygon, i]], m.points[m.corner[polygon, j]]
        if (a[2] > p[2]) != (b[2] > p[2]) and p[0] < (b[0] - a[0]) * (p[2] - a[2]) / (b[2] - a[2]) + a[0]:
            found = not found
        j = i
    return found


# -- points on the surface --------------------------------------------------------------------------------------------


@kernel
def _height_in_triangle(m: Polygons, number: int, p: FloatArray) -> tuple[bool, Single]:
    a, b, c = m.points[m.triangle[number, 0]], m.points[m.triangle[number, 1]], m.points[m.triangle[number, 2]]
    x0, y0, z0 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    x1, y1, z1 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    x2, z2 = p[0] - a[0], p[2] - a[2]
    area = x0 * z1 - z0 * x1
    if abs(area) < FLAT:
        return False, ZERO
    u = z1 * x2 - x1 * z2
    v = x0 * z2 - z0 * x2
    if area < ZERO:
        area, u, v = -area, -u, -v
    if u >= ZERO and v >= ZERO and u + v <= area:
        return True, a[1] + (y0 * u + y1 * v) / area
    return False, ZERO


@kernel
def _on_edges(m: Polygons, polygon: int, p: FloatArray, rim: bool, out: FloatArray) -> None:
    """Nearest point, seen from above, on the edges of the detail triangles; on the polygon's outline only if `rim`."""
    best, at = FARTHEST, ZERO
    first = last = -1
    for number in range(m.triangle_start[polygon], m.triangle_start[polygon + 1]):
        flags = m.triangle[number, 3]
        j = 2
        for k in range(3):
            if not rim or (flags >> (2 * j)) & 1:
                a, b = m.triangle[number, j], m.triangle[number, k]
                gap, t = distance_to_segment(p, m.points[a], m.points[b])
                if gap < best:
                    best, at, first, last = gap, t, a, b
            j = k
    between(m.points[first], m.points[last], at, out)


@kernel
def set_height(m: Polygons, polygon: int, p: FloatArray) -> bool:
    """Put p on the surface of a polygon if it lies in it, seen from above: whether it does."""
    if not inside(m, polygon, p):
        return False
    for number in range(m.triangle_start[polygon], m.triangle_start[polygon + 1]):
        found, height = _height_in_triangle(m, number, p)
        if found:
            p[1] = height
            return True
    near = np.empty(3, np.float32)
    _on_edges(m, polygon, p, ALL, near)
    p[1] = near[1]
    return True


@kernel
def _quantised(value: float, low: float, high: float, scale: float, up: bool) -> int:
    """One coordinate of a query box in the quanta of a tile's tree."""
    inner = min(max(value, low), high) - low
    if up:
        return (int(scale * inner + ONE) & 0xFFFF) | 1
    return int(scale * inner) & 0xFFFE


@kernel
def _nearer(
    m: Polygons, polygon: int, p: FloatArray, best: Single, trial: FloatArray, nearest: FloatArray
) -> tuple[bool, Single]:
    """Whether a polygon is nearer to p than `best` (squared); the nearest point of it is then put into `nearest`."""
    put(p, trial)
    over = set_height(m, polygon, trial)
    if not over:
        _on_edges(m, polygon, p, RIM, trial)
    x, y, z = p[0] - trial[0], p[1] - trial[1], p[2] - trial[2]
    if over:
        gap = abs(y) - m.tile_climb[m.tile[polygon]]
        gap = gap * gap if gap > ZERO else ZERO
    else:
        gap = x * x + y * y + z * z
    if gap < best:
        put(trial, nearest)
        return True, gap
    return False, best


@kernel
def project(m: Polygons, p: FloatArray, island: int, nearest: FloatArray) -> int:
    """The polygon nearest to p (3,) float32 on `island` (any if -1): its number, -1 if none is in the box.

    A point over a polygon, within the climb of it, is at distance 0 from it. `nearest` becomes the point on it.
    """
    found, best = -1, FARTHEST
    if not (np.isfinite(p[0]) and np.isfinite(p[1]) and np.isfinite(p[2])):
        return found
    low_x, low_y, low_z = p[0] - EXTENT_X, p[1] - EXTENT_Y, p[2] - EXTENT_Z
    high_x, high_y, high_z = p[0] + EXTENT_X, p[1] + EXTENT_Y, p[2] + EXTENT_Z
    column_low = np.floor((low_x - m.origin[0]) / m.tile_size[0])
    column_high = np.floor((high_x - m.origin[0]) / m.tile_size[0])
    row_low = np.floor((low_z - m.origin[1]) / m.tile_size[1])
    row_high = np.floor((high_z - m.origin[1]) / m.tile_size[1])
    trial = np.empty(3, np.float32)
    for tile in range(len(m.tile_climb)):
        column, row = m.tile_place[tile]
        if not (column_low <= column <= column_high and row_low <= row <= row_high):
            continue
        a, b, scale = m.tile_box[tile, 0], m.tile_box[tile, 1], m.tile_scale[tile]
        x0, x1 = _quantised(low_x, a[0], b[0], scale, DOWN), _quantised(high_x, a[0], b[0], scale, UP)
        y0, y1 = _quantised(low_y, a[1], b[1], scale, DOWN), _quantised(high_y, a[1], b[1], scale, UP)
        z0, z1 = _quantised(low_z, a[2], b[2], scale, DOWN), _quantised(high_z, a[2], b[2], scale, UP)
        node = m.tree_start[tile]
        while node < m.tree_start[tile + 1]:
            box, item = m.tree_box[node], m.tree_item[node]
            overlap = x0 <= box[3] and x1 >= box[0] and y0 <= box[4] and y1 >= box[1] and z0 <= box[5] and z1 >= box[2]
            if item >= 0 and overlap and m.walkable[item] and (island < 0 or m.island[item] == island):
                nearer, best = _nearer(m, item, p, best, trial, nearest)
                if nearer:
                    found = item
            node += 1 if overlap or item >= 0 else -item
    return found


@kernel
def _clamped(m: Polygons, polygon: int, p: FloatArray, out: FloatArray) -> None:
    """The point itself if it lies in the polygon, seen from above, else the nearest point of its outline."""
    put(p, out)
    if inside(m, polygon, p):
        return
    best, at, first = FARTHEST, ZERO, 0
    count = m.corners[polygon]
    for k in range(count):
        gap, t = distance_to_segment(p, m.points[m.corner[polygon, k]], m.points[m.corner[polygon, (k + 1) % count]])
        if gap < best:
            best, at, first = gap, t, k
    between(m.points[m.corner[polygon, first]], m.points[m.corner[polygon, (first + 1) % count]], at, out)


# -- paths ------------------------------------------------------------------------------------------------------------


@kernel
def _portal(m: Polygons, here: int, there: int, left: FloatArray, right: FloatArray) -> None:
    """Ends of the edge by which one polygon is left for another."""
    for k in range(m.link_start[here], m.link_start[here + 1]):
        if m.link[k, 0] != there:
            continue
        edge = m.link[k, 1]
        a = m.points[m.corner[here, edge]]
        b = m.points[m.corner[here, (edge + 1) % m.corners[here]]]
        low, high = m.link[k, 3], m.link[k, 4]
        if m.link[k, 2] != INTERNAL and (low != 0 or high != 255):
            between(a, b, np.float32(low) * BYTE, left)
            between(a, b, np.float32(high) * BYTE, right)
        else:
            put(a, left)
            put(b, right)
        return


class Search(NamedTuple):
    """The nodes and the heap of one A* search; node n stands for a polygon, entered from one side."""

    of: IntArray
    polygon: IntArray
    parent: IntArray
    state: IntArray
    at: FloatArray
    cost: FloatArray
    total: FloatArray
    heap: IntArray


@kernel
def _rise(s: Search, place: int, node: int) -> None:
    parent = (place - 1) // 2
    while place > 0 and s.total[s.heap[parent]] > s.total[node]:
        s.heap[place] = s.heap[parent]
        place = parent
        parent = (place - 1) // 2
    s.heap[place] = node


@kernel
def _sink(s: Search, size: int, node: int) -> None:
    """Put `node` into the heap whose first place is free."""
    place, child = 0, 1
    while child < size:
        if child + 1 < size and s.total[s.heap[child]] > s.total[s.heap[child + 1]]:
            child += 1
        s.heap[place] = s.heap[child]
        place = child
        child = 2 * place + 1
    _rise(s, place, node)


@kernel
def _node_of(s: Search, polygon: int, side: int, used: int) -> tuple[int, int]:
    """The node of a polygon entered from a side, and the number of nodes in use; -1 if there is no room for it."""
    key = 4 * polygon + side
    if s.of[key] >= 0:
        return s.of[key], used
    if used >= MOST_NODES:
        return -1, used
    s.of[key] = used
    s.polygon[used], s.parent[used], s.state[used] = polygon, -1, UNSEEN
    s.cost[used] = s.total[used] = ZERO
    return used, used + 1


@kernel
def _new_search(polygons: int) -> Search:
    return Search(
        np.full(4 * polygons, -1, np.int32),
        np.empty(MOST_NODES, np.int32),
        np.empty(MOST_NODES, np.int32),
        np.empty(MOST_NODES, np.int32),
        np.empty((MOST_NODES, 3), np.float32),
        np.empty(MOST_NODES, np.float32),
        np.empty(MOST_NODES, np.float32),
        np.empty(MOST_NODES + 1, np.int32),
    )


@kernel
def _offer(s: Search, node: int, parent: int, cost: Single, total: Single, size: int) -> int:
    """Take a way to a node if it is better than the one it has: the new size of the heap."""
    if s.state[node] != UNSEEN and total >= s.total[node]:
        return size
    s.parent[node], s.cost[node], s.total[node] = parent, cost, total
    if s.state[node] == OPEN:
        place = 0
        while s.heap[place] != node:
            place += 1
        _rise(s, place, node)
        return size
    s.state[node] = OPEN
    _rise(s, size, node)
    return size + 1


@kernel
def _expand(m: Polygons, s: Search, best: int, last: int, end: FloatArray, used: int, size: int) -> tuple[int, int]:
    """Offer the ways over the neighbours of a node: nodes in use (one more than there may be if some had no room), and
    the new size of the heap.
    """
    left, right = np.empty(3, np.float32), np.empty(3, np.float32)
    here = s.polygon[best]
    came = s.polygon[s.parent[best]] if s.parent[best] >= 0 else -1
    full = False
    for k in range(m.link_start[here], m.link_start[here + 1]):
        there, side = m.link[k, 0], m.link[k, 2]
        if there == came or not m.walkable[there]:
            continue
        # Integers of one type everywhere: numba would compile what is called anew for others.
        node, used = _node_of(s, np.int64(there), np.int64(side >> 1 if side != INTERNAL else 0), used)
        if node < 0:
            full = True
            continue
        if s.state[node] == UNSEEN:
            _portal(m, here, there, left, right)
            for axis in range(3):
                s.at[node, axis] = (left[axis] + right[axis]) * HALF
        cost, rest = s.cost[best] + _apart(s.at[best], s.at[node]), ZERO
        if there == last:
            cost = cost + _apart(s.at[node], end)
        else:
            rest = _apart(s.at[node], end) * HEURISTIC
        size = _offer(s, node, best, cost, cost + rest, size)
    return used + 1 if full else used, size


@kernel
def trace(polygon: IntArray, parent: IntArray, last: int, out: IntArray) -> int:
    """Polygons of a search tree from its root to a node, in `out`: how many, 0 where there are too many."""
    length, node = 0, last
    while node >= 0:
        length += 1
        node = parent[node]
    if length > len(out):
        return 0
    node = last
    for k in range(length - 1, -1, -1):
        out[k] = polygon[node]
        node = parent[node]
    return length


@kernel
def find_corridor(m: Polygons, first: int, last: int, start: FloatArray, end: FloatArray, out: IntArray) -> int:
    """Polygons of Detour's way from one polygon to another in `out`: how many, 0 where there is no complete one."""
    if first == last:
        out[0] = first
        return 1
    s = _new_search(len(m.corners))
    node, used = _node_of(s, first, np.int64(0), np.int64(0))
    put(start, s.at[node])
    s.total[node] = _apart(start, end) * HEURISTIC
    s.state[node] = OPEN
    s.heap[0] = node
    size, full = np.int64(1), False
    while size > 0:
        best = s.heap[0]
        size -= 1
        _sink(s, size, np.int64(s.heap[size]))
        s.state[best] = CLOSED
        if s.polygon[best] == last:
            # Whoever ran out of nodes cannot know that this is the way, and habitat-sim then takes none.
            return 0 if full else trace(s.polygon, s.parent, np.int64(best), out)
        used, size = _expand(m, s, best, last, end, used, size)
        if used > MOST_NODES:
            used, full = MOST_NODES, True
    return 0


@kernel
def _append(points: FloatArray, count: int, p: FloatArray) -> int:
    """Add a corner to a path unless it is the last one again: the new count."""
    if count > 0 and _same(points[count - 1], p):
        return count
    put(p, points[count])
    return count + 1


class Funnel(NamedTuple):
    """The corner last passed, the ends of the sight from it, and the edges where these lie."""

    apex: FloatArray
    left: FloatArray
    right: FloatArray
    at: IntArray


@kernel
def _narrow(f: Funnel, left: FloatArray, right: FloatArray, edge: int) -> int:
    """Narrow the sight to the ends of an edge: -1, or where it closes, the edge of the corner that is then the apex."""
    if _turn(f.apex, f.right, right) <= ZERO:
        if _same(f.apex, f.right) or _turn(f.apex, f.left, right) > ZERO:
            put(right, f.right)
            f.at[1] = edge
        else:
            put(f.left, f.apex)
            return f.at[0]
    if _turn(f.apex, f.left, left) >= ZERO:
        if _same(f.apex, f.left) or _turn(f.apex, f.right, left) < ZERO:
            put(left, f.left)
            f.at[0] = edge
        else:
            put(f.right, f.apex)
            return f.at[1]
    return -1


@kernel
def _between_ends(
    m: Polygons, corridor: IntArray, length: int, last: FloatArray, points: FloatArray, count: int
) -> tuple[int, bool]:
    """Add the corners after the first to a path: their number, and whether the end was one of them."""
    f = Funnel(points[0].copy(), points[0].copy(), points[0].copy(), np.zeros(2, np.int32))
    left, right = np.empty(3, np.float32), np.empty(3, np.float32)
    i = np.int64(0)
    while i < length and count < len(points):
        if i + 1 < length:
            _portal(m, corridor[i], corridor[i + 1], left, right)
            if i == 0 and distance_to_segment(f.apex, left, right)[0] < ON_PORTAL:
                i += 1
                continue
        else:
            put(last, left)
            put(last, right)
        restart = _narrow(f, left, right, i)
        if restart >= 0:
            before = count
            count = _append(points, count, f.apex)
            if count > before and restart == length - 1:
                return count, True
            put(f.apex, f.left)
            put(f.apex, f.right)
            f.at[:] = restart
            i = restart
        i += 1
    return count, False


@kernel
def pull_string(
    m: Polygons, corridor: IntArray, length: int, start: FloatArray, end: FloatArray, points: FloatArray
) -> int:
    """Corners of the straight path through the edges between polygons in `points`: how many, 0 where too many."""
    first, last = np.empty(3, np.float32), np.empty(3, np.float32)
    _clamped(m, corridor[0], start, first)
    _clamped(m, corridor[length - 1], end, last)
    count, ended = _append(points, np.int64(0), first), False
    if length > 1:
        count, ended = _between_ends(m, corridor, length, last, points, count)
    if not ended and count < len(points):
        count = _append(points, count, last)
    return 0 if count >= len(points) else count


@kernel
def _equal(a: Single, b: Single) -> np.bool_:
    gap = abs(a - b)
    if a == ZERO or b == ZERO or gap < EQUAL:
        return gap < EQUAL
    return gap / (abs(a) + abs(b)) < EQUAL


@kernel
def find_path(m: Polygons, start: FloatArray, end: FloatArray, points: FloatArray) -> tuple[Single, int]:
    """habitat-sim's way from start to end, (3,) float32 each: its length in metres and the number of its corners.

    The corners are put into `points` (`MOST_CORNERS`, 3) float32. (inf, 0) where there is none.
    """
    nothing = np.float32(np.inf), 0
    here, there = np.empty(3, np.float32), np.empty(3, np.float32)
    first = project(m, start, np.int64(-1), here)
    last = project(m, end, np.int64(-1), there)
    if first < 0 or last < 0:
        return nothing
    if _equal(here[0], there[0]) and _equal(here[1], there[1]) and _equal(here[2], there[2]):
        put(here, points[0])
        put(there, points[1])
        return ZERO, 2
    if m.island[first] != m.island[last]:
        return nothing
    corridor = np.empty(MOST_CORNERS, np.int32)
    length = find_corridor(m, first, last, here, there, corridor)
    if length == 0:
        return nothing
    count = pull_string(m, corridor, length, start, end, points)
    if count == 0:
        return nothing
    way = ZERO
    for k in range(1, count):
        way += _apart(points[k], points[k - 1])
    return way, count


@kernel
def distances(m: Polygons, start: FloatArray, end: FloatArray) -> DoubleArray:
    """Lengths (N,) of the ways from each of (N, 3) float32 positions to one end (3,); inf where there is none."""
    points = np.empty((MOST_CORNERS, 3), np.float32)
    out = np.empty(len(start))
    for n in range(len(start)):
        out[n] = find_path(m, start[n], end, points)[0]
    return out


@kernel
def projections(m: Polygons, position: FloatArray, island: int) -> tuple[FloatArray, IntArray]:
    """The nearest points (N, 3) to (N, 3) positions, and their polygons (N,); NaN and -1 where there is none."""
    out = np.full(position.shape, np.nan, np.float32)
    polygon = np.empty(len(position), np.int32)
    for n in range(len(position)):
        polygon[n] = project(m, position[n], island, out[n])
    return out, polygon
