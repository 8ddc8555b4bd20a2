"""Rigid states and their integration, as Habitat-Lab's ``VelocityAction`` takes them from magnum and habitat-sim.

`envs.habitat.stand_ins` offers these under their own names where habitat-sim is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.habitat.stand_ins import Provided


class Vector(np.ndarray[Any, np.dtype[np.float64]]):
    """A vector whose `dot` without an argument is that with itself, as of magnum's ``Vector3``."""

    @staticmethod
    def of(values: ArrayLike) -> Vector:
        """A copy of values (3,) as such a vector."""
        return np.array(values, np.float64).view(Vector)

    def dot(self, *other: Any) -> Any:
        """The scalar product with another vector, or the squared length."""
        return super().dot(*other) if other else float(np.asarray(self) @ np.asarray(self))


class Quaternion(metaclass=Provided):
    """magnum's ``Quaternion``: `vector` (3,) and `scalar`."""

    __module__ = "magnum"

    def __init__(self, vector: ArrayLike = (0.0, 0.0, 0.0), scalar: float = 1.0) -> None:
        """The identity by default."""
        self.vector, self.scalar = Vector.of(vector), float(scalar)

    def __mul__(self, other: Quaternion) -> Quaternion:
        """The rotation by `other` and then by this."""
        a, b = np.asarray(self.vector), np.asarray(other.vector)
        vector = self.scalar * b + other.scalar * a + np.cross(a, b)
        return Quaternion(vector, self.scalar * other.scalar - float(a @ b))

    def transform_vector(self, vector: ArrayLike) -> Vector:
        """A vector (3,) rotated."""
        axis, v = np.asarray(self.vector), np.asarray(vector, np.float64)
        across = 2.0 * np.cross(axis, v)
        return Vector.of(v + self.scalar * across + np.cross(axis, across))

    def normalized(self) -> Quaternion:
        """The unit quaternion of the same rotation."""
        length = math.hypot(*self.vector, self.scalar)
        return Quaternion(self.vector / length, self.scalar / length)


class RigidState(metaclass=Provided):
    """habitat-sim's ``RigidState``: a rotation and a translation."""

    __module__ = "habitat_sim"

    def __init__(self, rotation: Quaternion | None = None, translation: ArrayLike = (0.0, 0.0, 0.0)) -> None:
        """The identity by default."""
        self.rotation, self.translation = rotation or Quaternion(), Vector.of(translation)


def _still() -> NDArray[np.float64]:
    return np.zeros(3)


@dataclass
class VelocityControl(metaclass=Provided):
    """habitat-sim's ``VelocityControl``: velocities in metres and radians per second, local or in world axes."""

    controlling_lin_vel: bool = False
    controlling_ang_vel: bool = False
    lin_vel_is_local: bool = False
    ang_vel_is_local: bool = False
    linear_velocity: NDArray[np.float64] = field(default_factory=_still)
    angular_velocity: NDArray[np.float64] = field(default_factory=_still)

    def integrate_transform(self, dt: float, rigid_state: RigidState) -> RigidState:
        """The state after `dt` seconds: moved along the rotation before, then turned."""
        rotation, translation = rigid_state.rotation, rigid_state.translation
        if self.controlling_lin_vel:
            moved = np.asarray(self.linear_velocity, np.float64) * dt
            moved = np.asarray(rotation.transform_vector(moved)) if self.lin_vel_is_local else moved
            translation = Vector.of(np.asarray(translation) + moved)
        if self.controlling_ang_vel and np.any(self.angular_velocity):
            spin = np.asarray(self.angular_velocity, np.float64)
            spin = np.asarray(rotation.transform_vector(spin)) if self.ang_vel_is_local else spin
            speed = float(np.linalg.norm(spin))
            half = speed * dt / 2
            rotation = (Quaternion(math.sin(half) * spin / speed, math.cos(half)) * rotation).normalized()
        return RigidState(rotation, translation)
