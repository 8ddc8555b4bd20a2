"""The record of a finished episode: one line of an evaluation's JSON Lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray


def episode_record(
    episode_id: str,
    scene: str,
    start: Sequence[float],
    goal: Sequence[float],
    *,
    success: float,
    spl: float,
    soft_spl: float,
    start_distance: float,
    distance: float,
    collisions: int,
    total_reward: float,
    steps: int,
    truncated: bool,
    path: NDArray[Any] | None,
) -> dict[str, Any]:
    """Build an episode's record (identity, measures, path) of plain values for JSON.

    Args:
        episode_id: Identifier among the scene's episodes.
        scene: The scene's name.
        start: x, y, z of the start as in the episode file, metres.
        goal: x, y, z of the goal, metres.
        success: 1 or 0.
        spl: Success weighted by path length (`envs.pointnav.measures.spl`).
        soft_spl: Progress weighted by path length (`envs.pointnav.measures.soft_spl`).
        start_distance: Geodesic distance from the start to the goal, metres.
        distance: Geodesic distance from the end to the goal, metres.
        collisions: Steps that ran into something.
        total_reward: Sum of the episode's rewards.
        steps: Actions taken.
        truncated: Whether the episode was cut off.
        path: (steps + 1, 2) x and z of all positions, metres; left out if None.
    """
    record = {
        "episode_id": episode_id,
        "scene_id": scene,
        "success": success,
        "spl": spl,
        "soft_spl": soft_spl,
        "distance_to_goal": distance,
        "collisions": collisions,
        "nav_reward": total_reward,
        "steps": steps,
        "geodesic_distance": start_distance,
        "euclidean_distance": math.dist([float(v) for v in start], [float(v) for v in goal]),
        "truncated": truncated,
        "goal": [float(v) for v in goal],
    }
    if path is not None:
        record["path"] = path.round(3).tolist()
    return record
