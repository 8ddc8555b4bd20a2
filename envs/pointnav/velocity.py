"""Velocity control: continuous actions as Habitat-Lab's ``VelocityAction`` (``env.task.actions=continuous``).

An action is a linear and an angular velocity, each scaled to [-1, 1], held for one time step. The agent moves along its
heading and then turns; where both velocities are below their thresholds, the action is STOP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.settings import Positive, Settings

# Linear and angular velocity.
DIMENSIONS = 2


@dataclass(frozen=True, eq=False)
class Motions:
    """Motions of N agents for one step.

    Attributes:
        stop: (N,) bool, whether the agent calls STOP and stays.
        ahead: (N,) float64 metres along the heading.
        left: (N,) float64 radians that the agent turns to the left.
    """

    stop: NDArray[np.bool_]
    ahead: NDArray[np.float64]
    left: NDArray[np.float64]


@dataclass(frozen=True)
class VelocitySettings(Settings):
    """Velocity control, with the names and defaults of Habitat-Lab's ``velocity_control`` action.

    Attributes:
        lin_vel_range: Least and largest linear velocity in metres per second, ahead if positive.
        ang_vel_range: Least and largest angular velocity in degrees per second, to the left if positive.
        min_abs_lin_speed: STOP is called at a linear speed below this, metres per second, ...
        min_abs_ang_speed: ... and an angular speed below this, degrees per second.
        time_step: Seconds that an action lasts.
    """

    lin_vel_range: tuple[float, ...] = (0.0, 0.25)
    ang_vel_range: tuple[float, ...] = (-10.0, 10.0)
    min_abs_lin_speed: Positive = 0.025
    min_abs_ang_speed: Positive = 1.0
    time_step: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lin_vel_range", "ang_vel_range"):
            limits = getattr(self, name)
            pair = len(limits) == DIMENSIONS
            self.require(pair and limits[0] <= 0.0 < limits[1], name, "two numbers, [least, largest], around 0")
        self.require(self.ang_vel_range[0] < 0.0, "ang_vel_range", "negative and positive: agents turn both ways")
        self.require(self.min_abs_lin_speed < self.lin_vel_range[1], "min_abs_lin_speed", "below lin_vel_range")

    @property
    def _limits(self) -> NDArray[np.float64]:
        """(2, 2) least and largest velocities; rows linear (m/s) and angular (degrees/s)."""
        return np.array([self.lin_vel_range, self.ang_vel_range], np.float64)

    def motions(self, actions: ArrayLike) -> Motions:
        """Motions for actions (N, 2) in [-1, 1]: linear and angular velocity, scaled to their ranges.

        Raises:
            ValueError: They are of another shape, or not all in [-1, 1].
        """
        given = np.asarray(actions, np.float64)
        if given.ndim != 2 or given.shape[1] != DIMENSIONS or not (np.abs(given) <= 1.0).all():
            raise ValueError(f"actions must be pairs of velocities in [-1, 1], got {actions!r}")
        least, largest = self._limits.T
        linear, angular = (least + (given + 1.0) / 2.0 * (largest - least)).T
        stop = (np.abs(linear) < self.min_abs_lin_speed) & (np.abs(angular) < self.min_abs_ang_speed)
        return Motions(stop, linear * self.time_step, np.radians(angular) * self.time_step)

    def actions(self, ahead: ArrayLike, left: ArrayLike) -> NDArray[np.float32]:
        """Actions (N, 2) float32 that ask for motions: metres ahead (N,) and radians to the left (N,), within range."""
        least, largest = self._limits.T
        velocities = np.stack([np.asarray(ahead), np.degrees(left)], axis=-1) / self.time_step
        return ((velocities - least) / (largest - least) * 2.0 - 1.0).clip(-1.0, 1.0).astype(np.float32)

    def steps(self, forward: float, turn: float) -> tuple[float, float]:
        """Metres ahead and radians of a turn that fit in one action: `forward` and `turn` if they do."""
        fastest = min(-self.ang_vel_range[0], self.ang_vel_range[1])
        return min(forward, self.lin_vel_range[1] * self.time_step), min(turn, math.radians(fastest) * self.time_step)
