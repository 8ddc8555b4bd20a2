"""habitat-sim's `GreedyGeodesicFollower`: turn as often as pays, then step forward.

Of all turns to the left and to the right up to half a circle, the one after which a step forward brings the agent
nearest to the goal, less small costs for turning, collisions and closeness to obstacles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FORWARD, LEFT, RIGHT = 1, 2, 3
# Costs in forward steps: of one turn, of a collision, and of an end nearer than CLOSE metres to an obstacle.
TURN_COST, COLLISION_COST, CLOSE_COST = 0.0125, 0.25, 0.05
CLOSE = 0.2
# A plan that gains this much is taken without looking at further turns.
ENOUGH = 0.99

Points = NDArray[np.float64]
Step = Callable[[Points, Points], tuple[Points, NDArray[np.bool_]]]
Measure = Callable[[Points], NDArray[np.float64]]


def plan(
    step: Step, distance: Measure, room: Measure, position: Points, heading: float, turn: float, forward: float
) -> list[int]:
    """The best turns and the step forward after them.

    Args:
        step: From positions (N, 3) and headings (N,): positions after a step forward, and whether it was held back.
        distance: Geodesic distance (N,) in metres from positions (N, 3) to the goal.
        room: Distance (N,) in metres from positions to the nearest obstacle.
        position: (3,) where the agent is.
        heading: Radians.
        turn: Turn step in radians.
        forward: Forward step in metres.

    Returns:
        Actions: any number of LEFT or RIGHT, then FORWARD; empty where all plans end in a collision.
    """
    turns = np.arange(max(1, math.ceil(math.pi / turn - 1e-6)) + 1)
    turns = turns[turns * np.float32(turn) < math.pi]
    # Left before right, and fewer turns before more: of equal plans the first is taken.
    signed = np.stack([turns, -turns], axis=1).ravel()[1:]
    ends, held = step(np.tile(position, (len(signed), 1)), np.asarray(heading + signed * turn, np.float64))
    gain = (float(distance(position[None])[0]) - distance(ends)) / forward
    reward = gain - TURN_COST * np.abs(signed) - COLLISION_COST * held - CLOSE_COST * (room(ends) < CLOSE)
    reward = np.where(np.isnan(reward), -np.inf, reward)
    good = np.flatnonzero(reward > ENOUGH)
    if len(good):
        # Both directions of the same number of turns are looked at before the search ends.
        last = int(np.abs(signed[good[0]]))
        reward = np.where(np.abs(signed) <= last, reward, -np.inf)
    best = int(np.argmax(reward))
    if reward[best] <= -COLLISION_COST:
        return []
    count = int(signed[best])
    return [LEFT if count > 0 else RIGHT] * abs(count) + [FORWARD]
