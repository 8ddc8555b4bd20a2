"""Geodesic distance by a marching front that carries its sources, and the moves that follow it.

Fast marching (Sethian 1996) accepts grid nodes in order of distance. In place of an upwind difference each node here
keeps the *vertex* its shortest path bends at next and is given its exact straight distance to it, checked by line of
sight when the node is accepted (Nash et al., Lazy Theta*, 2010). Distances are so lengths of real polylines, without the
error of finite differences, and a node needs only the number of its vertex.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs._ground import LEVEL_TOLERANCE, move, node_position, sees, stencil
from envs._heightfield import FloatArray, IntArray

NO_VERTEX = 65535


class Tree(NamedTuple):
    """Shortest paths from everywhere to one goal.

    Attributes:
        vertex: (M,) uint16 next vertex of each node's path, 65535 where the goal cannot be reached.
        position: (V, 3) float64 vertices; 0 is the goal.
        cost: (V,) float64 metres from the vertex to the goal.
        after: (V,) int32 next vertex on the way, the goal's own is 0.
    """

    vertex: NDArray[np.uint16]
    position: NDArray[np.float64]
    cost: NDArray[np.float64]
    after: IntArray


@njit(cache=True)
def _length(x, y, z, p):  # type: ignore[no-untyped-def]
    return np.sqrt((p[0] - x) ** 2 + (p[1] - y) ** 2 + (p[2] - z) ** 2)


@njit(cache=True)
def _around(g, i, out):  # type: ignore[no-untyped-def]
    """The up to eight island neighbours of node i in `out`; diagonal ones only past a navigable node. Count."""
    count = 0
    for d in range(4):
        j = g.near[i, d]
        if j < 0 or g.island[j] != g.island[i]:
            continue
        out[count] = j
        count += 1
        for e in range(2):
            k = g.near[j, e + 2 if d < 2 else e]
            if k < 0 or g.island[k] != g.island[i]:
                continue
            known = False
            for m in range(count):
                known = known or out[m] == k
            if not known:
                out[count] = k
                count += 1
    return count


@njit(cache=True)
def _add_vertex(position, cost, after, count, p, value, parent):  # type: ignore[no-untyped-def]
    if count == len(cost):
        position = np.concatenate((position, np.empty_like(position)))
        cost = np.concatenate((cost, np.empty_like(cost)))
        after = np.concatenate((after, np.empty_like(after)))
    position[count, 0], position[count, 1], position[count, 2] = p
    cost[count] = value
    after[count] = parent
    return position, cost, after


@njit(cache=True)
def march(g, goal):  # type: ignore[no-untyped-def]
    """Grow the `Tree` of a navigable goal (3,) float64 over its island."""
    nodes = len(g.column)
    value = np.full(nodes, np.inf)
    vertex = np.full(nodes, NO_VERTEX, np.int32)
    own = np.full(nodes, -1, np.int32)  # vertex number of nodes that became one
    state = np.zeros(nodes, np.uint8)  # 1: line of sight to the vertex is checked, 2: accepted
    position, cost, after = np.empty((64, 3)), np.empty(64), np.empty(64, np.int32)
    position, cost, after = _add_vertex(position, cost, after, 0, (goal[0], goal[1], goal[2]), 0.0, 0)
    count = 1
    around = np.empty(12, np.int32)
    heap = [(0.0, np.int32(-1))]
    a, b, c, d, _, _ = stencil(g, goal[0], goal[1], goal[2], LEVEL_TOLERANCE)
    for i in (a, b, c, d):
        if i >= 0 and g.island[i] >= 0:
            x, y, z = node_position(g, i)
            value[i], vertex[i], state[i] = _length(x, y, z, goal), 0, 1
            heapq.heappush(heap, (value[i], np.int32(i)))
    while len(heap) > 0:
        key, i = heapq.heappop(heap)
        if i < 0 or state[i] == 2 or key > value[i]:
            continue
        x, y, z = node_position(g, i)
        n = _around(g, i, around)
        v = vertex[i]
        if state[i] == 0:
            state[i] = 1
            if not sees(g, x, y, z, position[v, 0], position[v, 1], position[v, 2]):
                # Turn at an accepted neighbour, or go straight to what that neighbour sees.
                best, bend = np.inf, -1
                for m in range(n):
                    j = around[m]
                    if state[j] != 2:
                        continue
                    jx, jy, jz = node_position(g, j)
                    through = value[j] + np.sqrt((jx - x) ** 2 + (jy - y) ** 2 + (jz - z) ** 2)
                    if through < best:
                        best, bend, v = through, j, -1
                    w = vertex[j]
                    straight = cost[w] + _length(x, y, z, position[w])
                    if straight < best and sees(g, x, y, z, position[w, 0], position[w, 1], position[w, 2]):
                        best, bend, v = straight, -1, w
                if bend >= 0:
                    v = own[bend]
                    if v < 0:
                        position, cost, after = _add_vertex(
                            position, cost, after, count, node_position(g, bend), value[bend], vertex[bend]
                        )
                        own[bend] = v = count
                        count += 1
                value[i], vertex[i] = best, v
                if len(heap) > 0 and best > heap[0][0]:
                    heapq.heappush(heap, (best, np.int32(i)))
                    continue
        state[i] = 2
        for m in range(n):
            j = around[m]
            if state[j] == 2:
                continue
            jx, jy, jz = node_position(g, j)
            straight = cost[v] + _length(jx, jy, jz, position[v])
            if straight < value[j] - 1e-9:
                value[j], vertex[j], state[j] = straight, v, 0
                heapq.heappush(heap, (straight, np.int32(j)))
    return vertex, position[:count].copy(), cost[:count].copy(), after[:count].copy()


@njit(cache=True)
def toward(g, t, x, y, z):  # type: ignore[no-untyped-def]
    """Distance to the goal from (x, y, z) and the next vertex on the way, (inf, -1) if unreachable.

    The best vertex of the four surrounding nodes that is in sight, else the way through the best of these nodes.
    """
    s = stencil(g, x, y, z, LEVEL_TOLERANCE)
    a, b, c, d, _, _ = s
    best, found = np.inf, -1
    for i in (a, b, c, d):
        if i < 0 or t.vertex[i] == NO_VERTEX:
            continue
        v = np.int64(t.vertex[i])
        if v == found:
            continue
        p = t.position[v]
        value = t.cost[v] + _length(x, y, z, p)
        if value < best and sees(g, x, y, z, p[0], p[1], p[2]):
            best, found = value, v
    if found >= 0:
        return best, found, -1
    bend = -1
    for i in (a, b, c, d):
        if i < 0 or t.vertex[i] == NO_VERTEX:
            continue
        v = np.int64(t.vertex[i])
        nx, ny, nz = node_position(g, i)
        value = t.cost[v] + _length(nx, ny, nz, t.position[v])
        value += np.sqrt((nx - x) ** 2 + (ny - y) ** 2 + (nz - z) ** 2)
        if value < best:
            best, found, bend = value, v, i
    return best, found, bend


@njit(cache=True)
def distance_all(g, t, position):  # type: ignore[no-untyped-def]
    """Geodesic distance (N,) float64 of each position, inf where there is no way."""
    out = np.empty(len(position))
    for i in range(len(position)):
        out[i] = toward(g, t, position[i, 0], position[i, 1], position[i, 2])[0]
    return out


@njit(cache=True)
def _aim(g, t, x, y, z, reach):  # type: ignore[no-untyped-def]
    """Point to walk towards: `reach` metres along the shortest path, or nearer where that is out of sight."""
    _, v, bend = toward(g, t, x, y, z)
    px, py, pz = x, y, z
    left = reach
    if bend >= 0:
        px, py, pz = node_position(g, bend)
        left -= np.sqrt((px - x) ** 2 + (pz - z) ** 2)
    first_x, first_z = px, pz
    moved = bend >= 0
    while left > 0.0:
        q = t.position[v]
        length = np.sqrt((q[0] - px) ** 2 + (q[2] - pz) ** 2)
        if length > left:
            k = left / length
            ax, ay, az = px + k * (q[0] - px), py + k * (q[1] - py), pz + k * (q[2] - pz)
            return ax, ay, az, first_x, first_z, moved
        px, py, pz = q
        if not moved:
            first_x, first_z, moved = px, pz, True
        left -= length
        if v == 0:
            break
        v = np.int64(t.after[v])
    return px, py, pz, first_x, first_z, moved


@njit(cache=True)
def _after_forward(g, t, x, y, z, h, forward):  # type: ignore[no-untyped-def]
    """Distance to the goal after one step forward at heading h."""
    nx, ny, nz, _ = move(g, x, y, z, -np.sin(h) * forward, -np.cos(h) * forward, True)
    return toward(g, t, nx, ny, nz)[0]


@njit(cache=True)
def _best_turn(g, t, x, y, z, h, turn, forward):  # type: ignore[no-untyped-def]
    """Signed number of turns to the heading, of those reachable, whose step forward ends nearest to the goal."""
    count = int(np.round(np.pi / turn))
    best, turns = np.inf, 0
    for k in range(2 * count):
        n = (k + 1) // 2 if k % 2 else -(k // 2)
        value = _after_forward(g, t, x, y, z, h + n * turn, forward)
        if value < best - 1e-3:
            best, turns = value, n
    return turns


@njit(cache=True)
def act(g, t, x, y, z, h, turn, forward, success):  # type: ignore[no-untyped-def]
    """Best action of one agent: 0 stop, 1 forward, 2 left, 3 right."""
    here, _, _ = toward(g, t, x, y, z)
    if here < success or here == np.inf:
        return 0
    ax, ay, az, fx, fz, moved = _aim(g, t, x, y, z, 2.0 * forward)
    if moved and not sees(g, x, y, z, ax, ay, az) and (fx - x) ** 2 + (fz - z) ** 2 > 1e-4:
        ax, az = fx, fz
    off = np.arctan2(x - ax, z - az) - h
    off -= 2.0 * np.pi * np.round(off / (2.0 * np.pi))
    turns = int(np.round(off / turn))
    if here - _after_forward(g, t, x, y, z, h + turns * turn, forward) < 0.5 * min(forward, here):
        turns = _best_turn(g, t, x, y, z, h, turn, forward)
    return 1 if turns == 0 else (2 if turns > 0 else 3)


@njit(cache=True)
def act_all(g, t, position, heading, turn, forward, success):  # type: ignore[no-untyped-def]
    """`act` for N agents that share a goal: (N,) int32."""
    out = np.empty(len(position), np.int32)
    for i in range(len(position)):
        x, y, z = position[i]
        out[i] = act(g, t, x, y, z, heading[i], turn, forward, success)
    return out
