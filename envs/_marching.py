"""Geodesic distance by a marching front that carries its sources, and the moves that follow it.

Fast marching (Sethian 1996) accepts grid nodes in order of distance. In place of an upwind difference each node here
keeps the *vertex* its shortest path bends at next and is given its exact straight distance to it, checked by line of
sight when the node is accepted (Nash et al., Lazy Theta*, 2010). Distances are so lengths of real polylines, without the
error of finite differences, and a node needs only the number of its vertex.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs._ground import (
    LEVEL_TOLERANCE,
    clear_at,
    height_at,
    move,
    nearest_node,
    node_position,
    sees,
    sight,
    slope_at,
    stencil,
)
from envs._heightfield import IntArray, kernel

NO_VERTEX = 65535
# How far a sight line may cut into an obstacle's margin to be bent around it there, in cells.
GRAZE = 0.6
# States of a node: proposed, known to see its vertex, final.
OPEN, CHECKED, ACCEPTED = 0, 1, 2
# Cells from a node to its neighbours: the four of `Ground.near`, then the diagonals.
OFFSETS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [-1, -1], [1, -1], [-1, 1], [1, 1]], np.float64)


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


@kernel
def _hypot3(x, y, z):  # type: ignore[no-untyped-def]
    return np.sqrt(x * x + y * y + z * z)


@kernel
def _around(g, i, out):  # type: ignore[no-untyped-def]
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


@kernel
def _push(keys, items, size, key, item):  # type: ignore[no-untyped-def]
    """Add to a binary heap in arrays that are long enough; the new size."""
    k = size
    while k > 0 and keys[(k - 1) // 2] > key:
        keys[k], items[k] = keys[(k - 1) // 2], items[(k - 1) // 2]
        k = (k - 1) // 2
    keys[k], items[k] = key, item
    return size + 1


@kernel
def _pop(keys, items, size):  # type: ignore[no-untyped-def]
    """Take the least from a binary heap: key, item, new size."""
    key, item = keys[0], items[0]
    size -= 1
    last, moved = keys[size], items[size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= last:
            break
        keys[k], items[k] = keys[child], items[child]
        k = child
    keys[k], items[k] = last, moved
    return key, item, size


@kernel
def _add_vertex(position, cost, after, count, p, value, parent):  # type: ignore[no-untyped-def]
    if count == len(cost):
        position = np.concatenate((position, np.empty_like(position)))
        cost = np.concatenate((cost, np.empty_like(cost)))
        after = np.concatenate((after, np.empty_like(after)))
    position[count, 0], position[count, 1], position[count, 2] = p
    cost[count] = value
    after[count] = parent
    return position, cost, after


@kernel
def _corner(g, x, z, p, share, y):  # type: ignore[no-untyped-def]
    """The corner that hides vertex p from (x, z), free up to `share` of the way and at floor y: found, x, y, z.

    Only where the sight line grazes: the deepest point of the cut is then pushed out to the obstacle's margin.
    """
    dx, dz = p[0] - x, p[2] - z
    stride = 0.25 * g.cell / np.sqrt(dx * dx + dz * dz)
    deepest = 0.0
    cx, cz = x, z
    for k in range(int((1.0 - share) / stride) + 1):
        px, pz = x + (share + k * stride) * dx, z + (share + k * stride) * dz
        room = clear_at(g, stencil(g, px, y, pz, 2.0 * g.climb)) - g.radius
        if room < -GRAZE * g.cell:
            return False, x, y, z
        if room > deepest + 0.25 * g.cell:
            break
        if room < deepest:
            deepest, cx, cz = room, px, pz
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
    return sees(g, cx, y, cz, p[0], p[1], p[2]), cx, y, cz


@kernel
def _inherits(g, i, v, x, z, px, pz, vertex, state):  # type: ignore[no-untyped-def]
    """Whether node i at (x, z) surely sees vertex v at (px, pz): both neighbours that straddle the ray to v do.

    Between their two rays, at most 1.5 cells apart, no obstacle grown by the agent's radius finds room.
    """
    dx, dz = px - x, pz - z
    if max(abs(dx), abs(dz)) < 1.5 * g.cell or g.radius < g.cell:
        return False
    toward_x, toward_z = (1 if dx > 0 else 0), (3 if dz > 0 else 2)
    a = g.near[i, toward_x if abs(dx) >= abs(dz) else toward_z]
    if a < 0 or state[a] != ACCEPTED or vertex[a] != v:
        return False
    b = g.near[a, toward_z if abs(dx) >= abs(dz) else toward_x]
    return b >= 0 and state[b] == ACCEPTED and vertex[b] == v


@kernel
def _reroute(g, x, y, z, around, front, tree):  # type: ignore[no-untyped-def]
    """Best way of a node that is not in sight of its vertex: by an accepted neighbour, or to what that one sees.

    Returns:
        Length, vertex (-1: the neighbour itself becomes one), neighbour.
    """
    value, vertex, state = front
    position, cost = tree
    best, v, bend, denied = np.inf, -1, -1, -1
    for m in range(8):
        j = around[m]
        if j < 0 or state[j] != ACCEPTED:
            continue
        through = value[j] + _hypot3(OFFSETS[m, 0] * g.cell, g.height[j] - y, OFFSETS[m, 1] * g.cell)
        if through < best:
            best, v, bend = through, -1, j
        w = vertex[j]
        p = position[w]
        straight = cost[w] + _hypot3(p[0] - x, p[1] - y, p[2] - z)
        if straight < best and w != denied:
            if sees(g, x, y, z, p[0], p[1], p[2]):
                best, v, bend = straight, w, -1
            else:
                denied = w
    return best, v, bend


@kernel
def march(g, goal):  # type: ignore[no-untyped-def]
    """Grow the `Tree` of a navigable goal (3,) float64 over its island, as its four arrays."""
    nodes = len(g.column)
    value = np.full(nodes, np.inf)
    vertex = np.full(nodes, NO_VERTEX, np.int32)
    own = np.full(nodes, -1, np.int32)  # vertex number of the nodes that became one
    state = np.zeros(nodes, np.uint8)
    position, cost, after = np.empty((64, 3)), np.empty(64), np.empty(64, np.int32)
    position, cost, after = _add_vertex(position, cost, after, 0, (goal[0], goal[1], goal[2]), 0.0, 0)
    count = 1
    around = np.empty(8, np.int32)
    # Every node is proposed by at most eight others and rerouted at most as often.
    keys, items, size = np.empty(16 * nodes + 4), np.empty(16 * nodes + 4, np.int32), 0
    for i in stencil(g, goal[0], goal[1], goal[2], LEVEL_TOLERANCE)[:4]:
        if i >= 0 and g.island[i] >= 0:
            x, y, z = node_position(g, i)
            value[i], vertex[i], state[i] = _hypot3(x - goal[0], y - goal[1], z - goal[2]), 0, CHECKED
            size = _push(keys, items, size, value[i], i)
    while size > 0:
        key, i, size = _pop(keys, items, size)
        if state[i] == ACCEPTED or key > value[i]:
            continue
        x, y, z = node_position(g, i)
        _around(g, i, around)
        v = vertex[i]
        px, py, pz = position[v]
        seen = state[i] == CHECKED or _inherits(g, i, v, x, z, px, pz, vertex, state)
        share, floor_y = (1.0, y) if seen else sight(g, x, y, z, px, py, pz)
        if share < 1.0:
            best, w, bend = _reroute(g, x, y, z, around, (value, vertex, state), (position, cost))
            found, cx, cy, cz = _corner(g, x, z, position[v], share, floor_y)
            if found:
                far = cost[v] + _hypot3(cx - px, cy - py, cz - pz)
                straight = far + _hypot3(cx - x, cy - y, cz - z)
                if straight < best and sees(g, x, y, z, cx, cy, cz):
                    best = straight
                    near = nearest_node(g, cx, cy, cz, g.island[i], 2.0 * g.cell)
                    w = own[near]
                    if (
                        w < 0
                        or cost[w] + _hypot3(x - position[w, 0], y - position[w, 1], z - position[w, 2])
                        > best + 0.05 * g.cell
                        or not sees(g, x, y, z, position[w, 0], position[w, 1], position[w, 2])
                    ):
                        w = own[near] = count
                        position, cost, after = _add_vertex(position, cost, after, count, (cx, cy, cz), far, v)
                        count += 1
                    else:
                        best = cost[w] + _hypot3(x - position[w, 0], y - position[w, 1], z - position[w, 2])
            if w < 0:
                w = own[bend]
                if w < 0:
                    position, cost, after = _add_vertex(
                        position, cost, after, count, node_position(g, bend), value[bend], vertex[bend]
                    )
                    own[bend] = w = count
                    count += 1
            value[i] = best
            v = w
            vertex[i] = v
            state[i] = CHECKED
            size = _push(keys, items, size, value[i], i)
            continue
        state[i] = ACCEPTED
        for m in range(8):
            j = around[m]
            if j < 0 or state[j] == ACCEPTED:
                continue
            straight = cost[v] + _hypot3(
                x + OFFSETS[m, 0] * g.cell - px, g.height[j] - py, z + OFFSETS[m, 1] * g.cell - pz
            )
            if straight < value[j] - 1e-9:
                value[j], vertex[j], state[j] = straight, v, OPEN
                size = _push(keys, items, size, straight, j)
    return vertex, position[:count].copy(), cost[:count].copy(), after[:count].copy()


@kernel
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
        value = t.cost[v] + _hypot3(p[0] - x, p[1] - y, p[2] - z)
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
        p = t.position[v]
        value = t.cost[v] + _hypot3(p[0] - nx, p[1] - ny, p[2] - nz) + _hypot3(nx - x, ny - y, nz - z)
        if value < best:
            best, found, bend = value, v, i
    return best, found, bend


@kernel
def distance_all(g, t, position):  # type: ignore[no-untyped-def]
    """Geodesic distance (N,) float64 of each position, inf where there is no way."""
    out = np.empty(len(position))
    for i in range(len(position)):
        out[i] = toward(g, t, position[i, 0], position[i, 1], position[i, 2])[0]
    return out


@kernel
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


@kernel
def _after_forward(g, t, x, y, z, h, forward):  # type: ignore[no-untyped-def]
    """Distance to the goal after one step forward at heading h."""
    nx, ny, nz, _ = move(g, x, y, z, -np.sin(h) * forward, -np.cos(h) * forward, True)
    return toward(g, t, nx, ny, nz)[0]


@kernel
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


@kernel
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


@kernel
def act_all(g, t, position, heading, turn, forward, success):  # type: ignore[no-untyped-def]
    """`act` for N agents that share a goal: (N,) int32."""
    out = np.empty(len(position), np.int32)
    for i in range(len(position)):
        x, y, z = position[i]
        out[i] = act(g, t, x, y, z, heading[i], turn, forward, success)
    return out
