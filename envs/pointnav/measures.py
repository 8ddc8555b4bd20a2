"""PointNav measures and rewards, defined as in Habitat-Lab (`habitat.tasks.nav.nav`, `habitat.gym`).

All functions are pure and work on scalars and arrays alike; distances are geodesic, in metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

HABITAT_SUCCESS_REWARD = 2.5
SIDE_TUNING_SUCCESS_REWARD = 10.0
SLACK_REWARD = -0.01


def moved(previous: ArrayLike, current: ArrayLike) -> NDArray[np.bool_]:
    """Whether agents moved enough for their distance to be measured anew, as Habitat-Lab's `DistanceToGoal`.

    Args:
        previous: (..., 3) positions at the last measurement, metres.
        current: (..., 3) positions now.

    Returns:
        (...) bool, True where a coordinate changed by more than 0.1 mm + 1e-5 of its value (`np.allclose`).
    """
    before, now = np.asarray(previous, np.float64), np.asarray(current, np.float64)
    return np.asarray((np.abs(before - now) > 1e-4 + 1e-5 * np.abs(now)).any(axis=-1), np.bool_)


def success(stopped: ArrayLike, distance_to_goal: ArrayLike, success_distance: float = 0.2) -> NDArray[np.bool_]:
    """Whether STOP was called closer to the goal than `success_distance` (strictly), as Habitat-Lab's `Success`."""
    return np.logical_and(stopped, np.less(distance_to_goal, success_distance))


def spl(succeeded: ArrayLike, start_distance: ArrayLike, path_length: ArrayLike) -> NDArray[np.float64]:
    """Success weighted by path length (Anderson et al. 2018, arXiv 1807.06757, eq. 1), as Habitat-Lab's `SPL`.

    Args:
        succeeded: Truth value of success at the end of the episode.
        start_distance: Distance to the goal at the start, l in the paper.
        path_length: Sum of the straight distances between successive positions, p in the paper.

    Returns:
        float64 in [0, 1]: succeeded * l / max(l, p); the ratio is 1 where both lengths are 0.
    """
    return np.asarray(succeeded, np.float64) * _efficiency(start_distance, path_length)


def soft_spl(distance_to_goal: ArrayLike, start_distance: ArrayLike, path_length: ArrayLike) -> NDArray[np.float64]:
    """Habitat-Lab's `SoftSPL`: progress max(0, 1 - distance / start) in place of success.

    Returns:
        float64 in [0, 1]. For an episode that starts on its goal, where Habitat-Lab divides by zero, progress is 1 on
        the goal and else 0.
    """
    left, start = np.asarray(distance_to_goal, np.float64), np.asarray(start_distance, np.float64)
    share = np.divide(left, start, out=np.where(left > 0.0, 1.0, 0.0), where=start > 0.0)
    return np.maximum(0.0, 1.0 - share) * _efficiency(start, path_length)


def nav_reward(
    previous_distance: ArrayLike,
    distance_to_goal: ArrayLike,
    succeeded: ArrayLike,
    success_reward: float = HABITAT_SUCCESS_REWARD,
    slack: float = SLACK_REWARD,
) -> NDArray[np.float64]:
    """Reward of one step: slack + distance gained + `success_reward` on success.

    Habitat-Lab's PointNav (`slack_reward`, `distance_to_goal_reward`, `success_reward`) pays 2.5 for success, the
    Side-Tuning paper 10. The sum over an episode is the paper's "nav. reward".
    """
    gained = np.subtract(previous_distance, distance_to_goal, dtype=np.float64)
    return slack + gained + success_reward * np.asarray(succeeded, np.float64)


def _efficiency(start_distance: ArrayLike, path_length: ArrayLike) -> NDArray[np.float64]:
    """Shortest over walked length, l / max(l, p), 1 where both are 0."""
    shortest = np.asarray(start_distance, np.float64)
    longest = np.maximum(shortest, np.asarray(path_length, np.float64))
    return np.divide(shortest, longest, out=np.ones_like(longest), where=longest > 0.0)


def depth_observation(
    depth: NDArray[np.float32], low: float = 0.0, high: float = 10.0, normalize: bool = True
) -> NDArray[np.float32]:
    """Depth images clipped and normalised as by Habitat-Lab's `HabitatSimDepthSensor`.

    Args:
        depth: (...) planar depth in metres, 0 where nothing was hit.
        low: Lower clipping bound (`min_depth`).
        high: Largest (`max_depth`).
        normalize: Map [low, high] to [0, 1] (`normalize_depth`).

    Returns:
        (..., 1) float32; pixels without a hit have the value of `low`.
    """
    clipped = np.clip(depth, np.float32(low), np.float32(high))[..., None]
    return (clipped - np.float32(low)) / np.float32(high - low) if normalize else clipped
