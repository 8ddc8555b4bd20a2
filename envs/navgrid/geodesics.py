"""Any-angle geodesic distance transform: fast marching order with Lazy Theta* parent vertices.

Fast marching (Sethian 1996) accepts grid nodes in order of distance. In place of an upwind difference each node here
keeps the *vertex* where its shortest path bends next, and is given its exact straight distance to it, checked by line
of sight when the node is accepted (Nash et al. 2010, Lazy Theta*). Where a sight line grazes an obstacle, a vertex is
put on the margin of that obstacle, between the nodes. Distances are so lengths of real polylines without the error of
finite differences (0.1 % on average), and a node needs only the number of its vertex.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.ground import (
    LEVEL_TOLERANCE,
    Ground,
    clear_at,
    height_at,
    nearest_node,
    node_position,
    sees,
    sight,
    slope_at,
    stencil,
)
from envs.navgrid.heap import pop, push
from envs.navgrid.heightfield import DoubleArray, fused_kernel, kernel

LongArray = NDArray[np.int64]

NO_VERTEX = 65535
# States of a node: proposed, known to see its vertex, final.
OPEN, CHECKED, ACCEPTED = 0, 1, 2
# How far a sight line may cut into the margin around an obstacle to be bent round it there, in radii.
MARGIN_CUT_FRACTION = 0.8
# A detour shorter than this many cells is not worth a look for a better corner.
MIN_DETOUR_CELLS = 0.03
# Cells from a node to its neighbours: the four of `Ground.near`, then the diagonals.
OFFSETS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [-1, -1], [1, -1], [-1, 1], [1, 1]], np.float64)


class PathTree(NamedTuple):
    """Shortest paths from everywhere to one goal.

    Attributes:
        vertex: (M,) uint16 next vertex of each node's path, 65535 where the goal cannot be reached.
        position: (V, 3) float64 vertices; 0 is the goal.
        cost: (V,) float64 metres from the vertex to the goal.
        after: (V,) int64 next vertex on the way; the goal's own is 0.
    """

    vertex: NDArray[np.uint16]
    position: DoubleArray
    cost: DoubleArray
    after: LongArray


class Front(NamedTuple):
    """State of the march, per node.

    Attributes:
        value: (M,) float64 distance to the goal, inf before the first proposal.
        vertex: (M,) int64 next vertex.
        state: (M,) uint8 OPEN, CHECKED or ACCEPTED.
        own: (M,) int64 vertex at or beside the node, -1 if none.
    """

    value: DoubleArray
    vertex: LongArray
    state: NDArray[np.uint8]
    own: LongArray


class Vertices(NamedTuple):
    """The vertices found so far and room for more; see `PathTree`."""

    position: DoubleArray
    cost: DoubleArray
    after: LongArray


@kernel
def norm(x: float, y: float, z: float) -> float:
    """Length of a vector."""
    return np.sqrt(x * x + y * y + z * z)


@fused_kernel
def _via(vertices: Vertices, v: int, x: float, y: float, z: float) -> float:
    """Distance to the goal from (x, y, z) straight to vertex v and on."""
    p = vertices.position
    return vertices.cost[v] + norm(p[v, 0] - x, p[v, 1] - y, p[v, 2] - z)


@kernel
def _sees_vertex(g: Ground, vertices: Vertices, v: int, x: float, y: float, z: float) -> bool:
    p = vertices.position
    return sees(g, x, y, z, p[v, 0], p[v, 1], p[v, 2])


@kernel
def _put_vertex(vertices: Vertices, at: int, x: float, y: float, z: float, cost: float, after: int) -> None:
    vertices.position[at, 0], vertices.position[at, 1], vertices.position[at, 2] = x, y, z
    vertices.cost[at] = cost
    vertices.after[at] = after


@fused_kernel
def _grown(vertices: Vertices, count: int) -> Vertices:
    """The vertices with room for at least one more than `count`."""
    if count < len(vertices.cost):
        return vertices
    position, cost, after = vertices
    return Vertices(
        np.concatenate((position, np.empty_like(position))),
        np.concatenate((cost, np.empty_like(cost))),
        np.concatenate((after, np.empty_like(after))),
    )


@fused_kernel
def _around(g: Ground, i: int, out: LongArray) -> None:
    """The eight island neighbours of node i in `out`, by `OFFSETS`; -1 where none, diagonals only past another."""
    own = g.island[i]
    for d in range(4):
        j = g.near[i, d]
        out[d] = j if j >= 0 and g.island[j] == own else -1
    for d in range(4, 8):
        across, along = d & 1, 2 + (d - 4) // 2
        k = -1
        if out[across] >= 0:
            k = g.near[out[across], along]
        elif out[along] >= 0:
            k = g.near[out[along], across]
        out[d] = k if k >= 0 and g.island[k] == own else -1


@fused_kernel
def _inherits(g: Ground, front: Front, i: int, dx: float, dz: float) -> bool:
    """Whether node i surely sees its vertex, (dx, dz) away: both neighbours that straddle the ray see it.

    Between their two rays, at most 1.5 cells apart, no obstacle grown by the agent's radius finds room.
    """
    if max(abs(dx), abs(dz)) < 1.5 * g.cell or g.radius < g.cell:
        return False
    side_x, side_z = (1 if dx > 0 else 0), (3 if dz > 0 else 2)
    steep = abs(dz) > abs(dx)
    v = front.vertex[i]
    a = g.near[i, side_z if steep else side_x]
    if a < 0 or front.state[a] != ACCEPTED or front.vertex[a] != v:
        return False
    b = g.near[a, side_x if steep else side_z]
    return b >= 0 and front.state[b] == ACCEPTED and front.vertex[b] == v


@fused_kernel
def _corner(
    g: Ground, x: float, z: float, px: float, pz: float, share: float, y: float
) -> tuple[bool, float, float, float]:
    """The corner that hides (px, pz) from (x, z), free up to `share` of the way, floor y there: found, x, y, z.

    Only where the sight line grazes: the deepest point of the cut is pushed out to the obstacle's margin.
    """
    dx, dz = px - x, pz - z
    stride = 0.25 * g.cell / np.sqrt(dx * dx + dz * dz)
    deepest, cx, cz = 0.0, x, z
    for k in range(int((1.0 - share) / stride) + 1):
        qx, qz = x + (share + k * stride) * dx, z + (share + k * stride) * dz
        room = clear_at(g, stencil(g, qx, y, qz, 2.0 * g.climb)) - g.radius
        if room < -MARGIN_CUT_FRACTION * g.radius:
            return False, x, y, z
        if room > deepest + 0.25 * g.cell:
            break
        if room < deepest:
            deepest, cx, cz = room, qx, qz
    for _ in range(2):
        s = stencil(g, cx, y, cz, 2.0 * g.climb)
        gx, gz = slope_at(g, s)
        steep = gx * gx + gz * gz
        if steep < 0.1:
            return False, x, y, z
        lack = g.radius - clear_at(g, s)
        cx += lack * gx / steep
        cz += lack * gz / steep
        y = height_at(g, s, y)
    return True, cx, y, cz


@kernel
def _next_vertex(
    front: Front, vertices: Vertices, around: LongArray, x: float, y: float, z: float, denied: int, bar: float
) -> tuple[float, int]:
    """Of the vertices of accepted neighbours, other than `denied`, the one with the least way above `bar`."""
    best, v = np.inf, -1
    for j in around:
        if j >= 0 and front.state[j] == ACCEPTED and front.vertex[j] != denied:
            straight = _via(vertices, front.vertex[j], x, y, z)
            if bar < straight < best:
                best, v = straight, front.vertex[j]
    return best, v


@fused_kernel
def _by_neighbour(
    g: Ground,
    front: Front,
    vertices: Vertices,
    count: int,
    around: LongArray,
    x: float,
    y: float,
    z: float,
    denied: int,
) -> tuple[float, int, int]:
    """Best way straight to what an accepted neighbour sees, or by that neighbour: length, vertex, vertex count."""
    best, v = _next_vertex(front, vertices, around, x, y, z, denied, -np.inf)
    while v >= 0 and not _sees_vertex(g, vertices, v, x, y, z):
        best, v = _next_vertex(front, vertices, around, x, y, z, denied, best)
    bend = -1
    for m in range(8):
        j = around[m]
        if j >= 0 and front.state[j] == ACCEPTED:
            through = front.value[j] + norm(OFFSETS[m, 0] * g.cell, g.height[j] - y, OFFSETS[m, 1] * g.cell)
            if through < best:
                best, bend = through, j
    if bend >= 0:
        v = front.own[bend]
        if v < 0:
            v = front.own[bend] = count
            jx, jy, jz = node_position(g, bend)
            _put_vertex(vertices, v, jx, jy, jz, front.value[bend], front.vertex[bend])
            count += 1
        best = _via(vertices, v, x, y, z)
    return best, v, count


@fused_kernel
def _by_corner(
    g: Ground,
    front: Front,
    vertices: Vertices,
    count: int,
    x: float,
    y: float,
    z: float,
    hidden: int,
    share: float,
    floor_y: float,
) -> tuple[float, int, int]:
    """Way by the corner that hides vertex `hidden`: length (inf if none is found), vertex, vertex count."""
    px, py, pz = vertices.position[hidden]
    found, cx, cy, cz = _corner(g, x, z, px, pz, share, floor_y)
    node = nearest_node(g, cx, cy, cz, np.int64(-1), 2.0 * g.cell) if found else -1
    if node < 0:
        return np.inf, -1, count
    far = vertices.cost[hidden] + norm(cx - px, cy - py, cz - pz)
    straight = far + norm(cx - x, cy - y, cz - z)
    v = front.own[node]
    if v >= 0:
        again = _via(vertices, v, x, y, z)
        if again < straight + 0.05 * g.cell and _sees_vertex(g, vertices, v, x, y, z):
            return again, v, count
    if not sees(g, x, y, z, cx, cy, cz) or not sees(g, cx, cy, cz, px, py, pz):
        return np.inf, -1, count
    front.own[node] = count
    _put_vertex(vertices, count, cx, cy, cz, far, hidden)
    return straight, count, count + 1


@fused_kernel
def _reroute(
    g: Ground,
    front: Front,
    vertices: Vertices,
    count: int,
    around: LongArray,
    i: int,
    share: float,
    floor_y: float,
) -> int:
    """Find another way for node i, which does not see its vertex: the vertex count."""
    x, y, z = node_position(g, i)
    hidden, hoped = front.vertex[i], front.value[i]
    best, v, count = _by_neighbour(g, front, vertices, count, around, x, y, z, hidden)
    if best > hoped + MIN_DETOUR_CELLS * g.cell:
        other, w, count = _by_corner(g, front, vertices, count, x, y, z, hidden, share, floor_y)
        if other < best:
            best, v = other, w
    front.value[i], front.vertex[i], front.state[i] = best, v, CHECKED
    return count


@fused_kernel
def _propose(
    g: Ground,
    front: Front,
    vertices: Vertices,
    around: LongArray,
    i: int,
    x: float,
    z: float,
    keys: DoubleArray,
    items: LongArray,
    size: int,
) -> int:
    """Offer the vertex of node i at (x, z) to its neighbours: the new size of the heap."""
    v = front.vertex[i]
    for m in range(8):
        j = around[m]
        if j < 0 or front.state[j] == ACCEPTED:
            continue
        straight = _via(vertices, v, x + OFFSETS[m, 0] * g.cell, np.float64(g.height[j]), z + OFFSETS[m, 1] * g.cell)
        if straight < front.value[j] - 1e-9:
            front.value[j], front.vertex[j], front.state[j] = straight, v, OPEN
            size = push(keys, items, size, straight, j)
    return size


@kernel
def march(g: Ground, goal: DoubleArray) -> tuple[LongArray, DoubleArray, DoubleArray, LongArray]:
    """Find the paths to a navigable goal (3,) from all over its island: the arrays of a `PathTree`."""
    nodes = len(g.column)
    front = Front(
        np.full(nodes, np.inf),
        np.full(nodes, NO_VERTEX, np.int64),
        np.zeros(nodes, np.uint8),
        np.full(nodes, -1, np.int64),
    )
    vertices = Vertices(np.empty((64, 3)), np.empty(64), np.empty(64, np.int64))
    # Typed constants: numba would compile the functions called anew for literals.
    zero, count = np.int64(0), np.int64(1)
    _put_vertex(vertices, zero, goal[0], goal[1], goal[2], 0.0, zero)
    around = np.empty(8, np.int64)
    # Every node is proposed by at most eight others and rerouted at most as often.
    keys, items, size = np.empty(16 * nodes + 4), np.empty(16 * nodes + 4, np.int64), zero
    for i in stencil(g, goal[0], goal[1], goal[2], LEVEL_TOLERANCE)[:4]:
        if i >= 0 and g.island[i] >= 0:
            x, y, z = node_position(g, i)
            front.value[i], front.vertex[i], front.state[i] = _via(vertices, zero, x, y, z), 0, CHECKED
            size = push(keys, items, size, front.value[i], i)
    while size > 0:
        key, i, size = pop(keys, items, size)
        if front.state[i] == ACCEPTED or key > front.value[i]:
            continue
        x, y, z = node_position(g, i)
        _around(g, i, around)
        px, py, pz = vertices.position[front.vertex[i]]
        if front.state[i] == OPEN and not _inherits(g, front, i, px - x, pz - z):
            share, floor_y = sight(g, x, y, z, px, py, pz)
            if share < 1.0:
                vertices = _grown(vertices, count + 1)
                count = _reroute(g, front, vertices, count, around, i, share, floor_y)
                size = push(keys, items, size, front.value[i], i)
                continue
        front.state[i] = ACCEPTED
        size = _propose(g, front, vertices, around, i, x, z, keys, items, size)
    return front.vertex, vertices.position[:count].copy(), vertices.cost[:count].copy(), vertices.after[:count].copy()
