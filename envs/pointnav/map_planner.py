"""Path planning on an agent's own occupancy map: fast marching from the goal, where unseen floor counts as free.

The planner of modular navigation agents (Chaplot et al. 2020, "Learning to Explore using Active Neural SLAM", section
4: the Fast Marching Method of Sethian 1996 on the predicted map). Here it does not choose actions: policies read how
much nearer to the goal each place of the map is (layer ``plan`` of `envs.pointnav.explored_map`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.navgrid.heap import pop, push

# Metres from centres of blocked cells; bodies of Habitat's 10 to 18 cm radius seldom get stuck from `BESIDE` on.
BESIDE, NEAR = 0.2, 0.4
# Metres around all that is known through which paths may lead.
MARGIN = 1.0


class Costs(NamedTuple):
    """Cost of a metre; 1 where nothing is near, and nothing is forbidden, as depth images may be wrong.

    Attributes:
        blocked: In blocked cells.
        beside: Within `BESIDE` metres of their centres.
        near: Within `NEAR` metres of them, and at most where the agent has been.
    """

    blocked: float
    beside: float
    near: float


# Much of what predicted depth blocks is free.
MEASURED, PREDICTED = Costs(40.0, 6.0, 1.6), Costs(4.0, 1.75, 1.15)


@njit(cache=True, nogil=True)
def traversal_costs(
    evidence: NDArray[np.int8],
    visited: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    cell: float,
    costs: Costs,
    out: NDArray[np.float32],
) -> None:
    """Cost of a metre in each cell.

    Args:
        evidence: (G, G) int8, positive where blocked.
        visited: (G, G) uint8, not 0 where the agent has stood: free, whatever its camera says.
        box: Rows and columns [top, bottom) x [left, right) to fill.
        cell: Side of a cell, metres.
        costs: What obstacles cost.
        out: (G, G) float32, written within the box.
    """
    top, bottom, left, right = box
    out[top:bottom, left:right] = 1.0
    reach, beside, near = math.ceil(NEAR / cell), (BESIDE / cell) ** 2, (NEAR / cell) ** 2
    for i in range(top, bottom):
        for j in range(left, right):
            if evidence[i, j] <= 0:
                continue
            for u in range(max(i - reach, top), min(i + reach + 1, bottom)):
                for v in range(max(j - reach, left), min(j + reach + 1, right)):
                    apart = (u - i) * (u - i) + (v - j) * (v - j)
                    if apart <= near:
                        cost = costs.blocked if apart == 0 else costs.beside if apart <= beside else costs.near
                        out[u, v] = max(out[u, v], np.float32(cost))
    for i in range(top, bottom):
        for j in range(left, right):
            if visited[i, j]:
                out[i, j] = min(out[i, j], np.float32(costs.near))


@njit(cache=True, nogil=True)
def march(
    cost: NDArray[np.float32],
    cell: float,
    box: tuple[int, int, int, int],
    goal: tuple[int, int],
    agent: tuple[int, int],
    beyond: float,
    distance: NDArray[np.float32],
    keys: NDArray[np.float32],
    items: NDArray[np.int32],
) -> float:
    """Fast marching (Sethian 1996, first-order upwind) from the goal until `beyond` metres past the agent.

    Args:
        cost: (G, G) float32, see `traversal_costs`.
        cell: Side of a cell, metres.
        box: Rows and columns [top, bottom) x [left, right) to march in; goal and agent lie within.
        goal: Row and column.
        agent: Row and column.
        beyond: Metres.
        distance: (G, G) float32, written within the box: weighted metres to the goal, inf where not reached.
        keys: Room for the heap, 5 G^2 float32.
        items: Room for the heap, 5 G^2 int32.

    Returns:
        Up to which distance values are final.
    """
    top, bottom, left, right = box
    distance[top:bottom, left:right] = np.inf
    side = cost.shape[1]
    distance[goal] = 0.0
    size = push(keys, items, 0, 0.0, goal[0] * side + goal[1])
    limit = np.inf
    while size:
        key, item, size = pop(keys, items, size)
        i, j = item // side, item % side
        if key > distance[i, j]:
            continue
        if key > limit:
            break
        if i == agent[0] and j == agent[1]:
            limit = key + beyond
        for d in range(4):
            u, v = i + (d == 0) - (d == 1), j + (d == 2) - (d == 3)
            if not (top <= u < bottom and left <= v < right) or distance[u, v] <= key:
                continue
            a = min(distance[u - 1, v] if u > top else np.inf, distance[u + 1, v] if u + 1 < bottom else np.inf)
            b = min(distance[u, v - 1] if v > left else np.inf, distance[u, v + 1] if v + 1 < right else np.inf)
            step = cost[u, v] * cell
            new = min(a, b) + step
            if abs(a - b) < step:
                new = (a + b + math.sqrt(2.0 * step * step - (a - b) * (a - b))) / 2.0
            if new < distance[u, v] - 1e-6:
                distance[u, v] = new
                size = push(keys, items, size, new, u * side + v)
    return limit
