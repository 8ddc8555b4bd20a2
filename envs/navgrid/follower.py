"""Looking up geodesic distances, and the shortest-path follower."""

from __future__ import annotations

import numpy as np

from envs.navgrid.geodesics import NO_VERTEX, PathTree, norm
from envs.navgrid.ground import LEVEL_TOLERANCE, Ground, Stencil, move, node_position, sees, stencil
from envs.navgrid.heightfield import DoubleArray, IntArray, fused_kernel, kernel

STOP, FORWARD, LEFT, RIGHT = 0, 1, 2, 3
# The follower walks towards the point this many forward steps along the shortest path.
LOOKAHEAD = 2.0
# Below this share of the possible progress a step counts as blocked.
PROGRESS = 0.5
# A step that gains at least this share of its length is taken without turning first. A stricter follower walks a little
# less, but its choice between a step and a turn depends on angles too fine to be seen, and so is harder to imitate.
ENOUGH = 0.94

# Nearer than this share of the success distance it stops at once. Between the two it takes one step more if that ends
# so near: who imitates it stops a little too soon now and then, and outside the distance a stop is a failure.
NEAR = 0.7
# An agent that is turning goes on in that direction if it has more than this to turn, radians, though the other way may
# be shorter. Which way is shorter can seldom be seen then; an imitator would sway to and fro and never get round.
KEEP_TURNING = 0.5 * np.pi


@fused_kernel
def _by_node(g: Ground, t: PathTree, s: Stencil, x: float, y: float, z: float) -> tuple[float, int, int]:
    """Way by the best of the nodes around (x, y, z): length, its vertex, node; (inf, -1, -1) if unreachable."""
    a, b, c, d, _, _ = s
    best, found, bend = np.inf, -1, -1
    for i in (a, b, c, d):
        if i >= 0 and t.vertex[i] != NO_VERTEX:
            v = int(t.vertex[i])
            nx, ny, nz = node_position(g, i)
            p = t.position
            value = t.cost[v] + norm(p[v, 0] - nx, p[v, 1] - ny, p[v, 2] - nz) + norm(nx - x, ny - y, nz - z)
            if value < best:
                best, found, bend = value, v, i
    return best, found, bend


@kernel
def toward(g: Ground, t: PathTree, x: float, y: float, z: float) -> tuple[float, int, int]:
    """Shortest path to the goal from (x, y, z): metres, next vertex, node to pass before it (-1: none).

    The best vertex of the four surrounding nodes that is in sight, else the way by the best of these nodes;
    (inf, -1, -1) where the goal cannot be reached.
    """
    s = stencil(g, x, y, z, LEVEL_TOLERANCE)
    a, b, c, d, _, _ = s
    best, found = np.inf, -1
    for i in (a, b, c, d):
        if i < 0 or t.vertex[i] == NO_VERTEX or t.vertex[i] == found:
            continue
        v = int(t.vertex[i])
        p = t.position
        value = t.cost[v] + norm(p[v, 0] - x, p[v, 1] - y, p[v, 2] - z)
        if value < best and sees(g, x, y, z, p[v, 0], p[v, 1], p[v, 2]):
            best, found = value, v
    if found >= 0:
        return best, found, -1
    return _by_node(g, t, s, x, y, z)


@kernel
def distance_all(g: Ground, t: PathTree, position: DoubleArray) -> DoubleArray:
    """Geodesic distance (N,) of each position (N, 3) in metres, inf where the goal is unreachable."""
    out = np.empty(len(position))
    for i in range(len(position)):
        out[i] = toward(g, t, position[i, 0], position[i, 1], position[i, 2])[0]
    return out


@kernel
def _ahead(t: PathTree, v: int, x: float, y: float, z: float, reach: float) -> tuple[float, float, float]:
    """The point `reach` metres from (x, y, z) along the path by vertex v, or the goal."""
    while True:
        qx, qy, qz = t.position[v]
        length = norm(qx - x, qy - y, qz - z)
        if length > reach:
            k = reach / length
            return x + k * (qx - x), y + k * (qy - y), z + k * (qz - z)
        if v == 0:
            return qx, qy, qz
        reach -= length
        x, y, z, v = qx, qy, qz, t.after[v]


@fused_kernel
def _aim(g: Ground, t: PathTree, x: float, y: float, z: float, reach: float) -> tuple[float, float]:
    """Where to walk to (x, z): `reach` metres along the shortest path if in sight, else to its first corner."""
    _, v, bend = toward(g, t, x, y, z)
    if bend >= 0:
        first_x, first_y, first_z = node_position(g, bend)
        left = max(reach - norm(first_x - x, first_y - y, first_z - z), 0.0)
        ax, ay, az = _ahead(t, v, first_x, first_y, first_z, left)
    else:
        first_x, first_y, first_z = t.position[v]
        ax, ay, az = _ahead(t, v, x, y, z, reach)
    far = (first_x - x) ** 2 + (first_z - z) ** 2 > 1e-4
    if far and not sees(g, x, y, z, ax, ay, az):
        return first_x, first_z
    return ax, az


@kernel
def _after_forward(g: Ground, t: PathTree, x: float, y: float, z: float, heading: float, forward: float) -> float:
    """Distance to the goal after one step forward."""
    nx, ny, nz, _ = move(g, x, y, z, -np.sin(heading) * forward, -np.cos(heading) * forward, np.bool_(True))
    return toward(g, t, nx, ny, nz)[0]


@fused_kernel
def _best_turns(
    g: Ground, t: PathTree, x: float, y: float, z: float, heading: float, turn: float, forward: float
) -> int:
    """Turns (positive left) to the heading, of those in reach, whose step forward ends nearest to the goal."""
    best, turns = np.inf, 0
    for k in range(2 * int(np.round(np.pi / turn))):
        n = (k + 1) // 2 if k % 2 else -(k // 2)
        value = _after_forward(g, t, x, y, z, heading + n * turn, forward)
        if value < best - 1e-3:
            best, turns = value, n
    return turns


@fused_kernel
def act(
    g: Ground,
    t: PathTree,
    x: float,
    y: float,
    z: float,
    heading: float,
    turning: int,
    turn: float,
    forward: float,
    success: float,
) -> int:
    """Best action of one agent; `turning` is 1 after a turn to the left, -1 after one to the right, else 0.

    Go forward where that gains enough. Else turn to the heading nearest to a point ahead on the shortest path or,
    where a step at that heading would be blocked, to the heading whose step gains most. Both headings depend on the
    position alone and not on which way the agent looks, so it never turns to and fro.
    """
    here = toward(g, t, x, y, z)[0]
    if here < NEAR * success or here == np.inf:
        return STOP
    after = _after_forward(g, t, x, y, z, heading, forward)
    if here < success:
        return FORWARD if after < NEAR * success else STOP
    if here - after >= ENOUGH * min(forward, here):
        return FORWARD
    ax, az = _aim(g, t, x, y, z, LOOKAHEAD * forward)
    off = np.arctan2(x - ax, z - az) - heading
    off -= 2.0 * np.pi * np.round(off / (2.0 * np.pi))
    turns = int(np.round(off / turn))
    gain = here - _after_forward(g, t, x, y, z, heading + turns * turn, forward)
    if gain < PROGRESS * min(forward, here):
        turns = _best_turns(g, t, x, y, z, heading, turn, forward)
    if turns == 0:
        return FORWARD
    if turns * turning < 0 and abs(turns) * turn > KEEP_TURNING:
        turns = turning
    return LEFT if turns > 0 else RIGHT


@kernel
def act_all(
    g: Ground,
    t: PathTree,
    position: DoubleArray,
    heading: DoubleArray,
    turning: IntArray,
    turn: float,
    forward: float,
    success: float,
) -> IntArray:
    """`act` for N agents that share a goal: (N,) int32."""
    out = np.empty(len(position), np.int32)
    for i in range(len(position)):
        x, y, z = position[i]
        out[i] = act(g, t, x, y, z, heading[i], int(turning[i]), turn, forward, success)
    return out
