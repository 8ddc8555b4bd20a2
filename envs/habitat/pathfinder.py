"""Habitat-sim's pathfinder, greedy follower and semantic scene, on a walkable grid and a `Scene`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.habitat.rigid import Vector
from envs.navgrid.detour_floor import BESIDE
from envs.navgrid.greedy import LEFT, RIGHT, plan
from envs.navgrid.grid import GeodesicField, NavGrid, geodesic_distance
from envs.scene import Scene

STOP = 0
# Where habitat-sim has an answer from further away than `NavGrid` looks, metres: along the floor, and up and down.
FAR, HIGH = 10.0, 4.0
# Recast's floors lie on the upper side of voxels of this height, metres.
VOXEL_HEIGHT = 0.2


class PathFinder:
    """habitat-sim's `PathFinder` for one scene: names, arguments and results are its own.

    On a ``.navmesh`` it answers as habitat-sim does to the last bit of single precision, random points apart.
    """

    is_loaded = True

    def __init__(self, grid: NavGrid, rng: np.random.Generator) -> None:
        """Answer for `grid`; random points come from `rng`."""
        self.grid = grid
        self._detour = grid.detour
        self._rng = rng

    def seed(self, seed: int) -> None:
        """Restart the random points."""
        self._rng = np.random.default_rng(seed)

    @property
    def navigable_area(self) -> float:
        """Area of all islands in m2."""
        return float((self._detour.areas if self._detour else self.grid.island_areas).sum())

    @property
    def num_islands(self) -> int:
        """Number of islands."""
        return len(self._detour.areas if self._detour else self.grid.island_areas)

    def get_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest x, y, z of the navigable floor; on a ``.navmesh`` of what it was made from."""
        return self._detour.bounds if self._detour else self.grid.bounds

    def is_navigable(self, point: ArrayLike, max_y_delta: float = 0.5) -> bool:
        """Whether the agent can stand at a point (3,)."""
        where = np.asarray(point, np.float64)[None]
        if self._detour:
            return bool(self._detour.is_navigable(where, max_y_delta)[0])
        return bool(self._stands(where, max_y_delta)[0])

    def _recast_height(self, height: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where Recast puts floors of these heights, metres."""
        steps = np.floor((height - self.grid.base) / VOXEL_HEIGHT + 1e-6) + 1.0
        return np.asarray(self.grid.base + VOXEL_HEIGHT * steps, np.float64)

    def _stands(self, points: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
        """(N,) whether an agent can stand at points (N, 3), by the grid, to a tolerance in height."""
        floor = self.grid.snap(points)
        near = np.hypot(floor[:, 0] - points[:, 0], floor[:, 2] - points[:, 2]) <= BESIDE
        return near & (np.abs(self._recast_height(floor[:, 1]) - points[:, 1]) <= tolerance)

    def snap_point(self, point: ArrayLike, island_index: int = -1) -> NDArray[np.float64]:
        """Nearest navigable point, NaN where habitat-sim would find none: beyond 2 m, 4 m up and down.

        Its reach grows with the polygons around: up to 9 m in a house. Ours without a ``.navmesh`` is then 10 m.
        """
        island = None if island_index < 0 else island_index
        where = np.asarray(point, np.float64)[None]
        found = (self._detour or self.grid).snap(where, island)[0]
        if self._detour is None and np.isnan(found).any():
            found = self.grid.snap(where, island, FAR)[0]
            if not abs(found[1] - where[0, 1]) <= HIGH:
                return np.full(3, np.nan)
        return found

    def get_island(self, point: ArrayLike) -> int:
        """Island of the nearest navigable point, -1 where there is none."""
        if self._detour:
            return int(self._detour.island(np.asarray(point, np.float64)[None])[0])
        floor = self.snap_point(point)
        return -1 if np.isnan(floor).any() else int(self.grid.island(floor[None])[0])

    def island_radius(self, point: ArrayLike) -> float:
        """Radius in metres of the island that a point is on, 0 off the floor."""
        island = self.get_island(point)
        radii = self._detour.radii if self._detour else self.grid.island_radii
        return 0.0 if island < 0 else float(radii[island])

    def get_random_navigable_point(self, max_tries: int = 10, island_index: int = -1) -> NDArray[np.float64]:
        """A point drawn uniformly from the navigable floor."""
        island = None if island_index < 0 else island_index
        if self._detour:
            return self._detour.sample(self._rng, island)
        return self.grid.sample(self._rng, 1, island)[0]

    def distance_to_closest_obstacle(self, point: ArrayLike, max_search_radius: float = 2.0) -> float:
        """Distance in metres to the edge of the navigable floor, at most `max_search_radius`."""
        if self._detour:
            return float(self._detour.obstacle_distance(np.asarray(point, np.float64)[None], max_search_radius)[0])
        return min(float(self.grid.obstacle_distance(self.snap_point(point)[None])[0]), max_search_radius)

    def try_step(self, start: ArrayLike, end: ArrayLike) -> Vector:
        """End point of a walk from start towards end, sliding along obstacles."""
        return self._walk(start, end, True)

    def try_step_no_sliding(self, start: ArrayLike, end: ArrayLike) -> Vector:
        """End point of a walk from start towards end, up to the first contact."""
        return self._walk(start, end, False)

    def _walk(self, start: ArrayLike, end: ArrayLike, sliding: bool) -> Vector:
        return Vector.of(self._end_of_walk(start, end, sliding))

    def _end_of_walk(self, start: ArrayLike, end: ArrayLike, sliding: bool) -> NDArray[np.float64]:
        here, there = np.asarray(start, np.float64), np.asarray(end, np.float64)
        if self._detour:
            return self._detour.walk(here[None], there[None], sliding)[0][0]
        dx, dz = there[0] - here[0], there[2] - here[2]
        length = math.hypot(dx, dz)
        if length == 0.0:
            return here.copy()
        return self.grid.step(here[None], np.array([math.atan2(-dx, -dz)]), length, sliding)[0][0]

    def step(
        self, position: NDArray[np.float64], heading: NDArray[np.float64], distance: float, sliding: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Agents after a step forward; see `NavGrid.step`."""
        return (self._detour or self.grid).step(position, heading, distance, sliding)

    def room(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) metres from positions (N, 3) to the edge of the navigable floor, as far as 2 m."""
        return (self._detour or self.grid).obstacle_distance(position)

    def get_topdown_view(self, meters_per_pixel: float, height: float, eps: float = 0.5) -> NDArray[np.bool_]:
        """Map of the floor at a height: (z, x) bool, True where an agent can stand within `eps` metres of it.

        Pixels lie at the corner of `get_bounds` and on, as habitat-sim has them.
        """
        low, high = self.get_bounds()
        # A resolution that was made from the bounds comes out whole again.
        columns, rows = (max(1, int((high[k] - low[k]) / meters_per_pixel + 1e-6)) for k in (0, 2))
        x, z = np.meshgrid(low[0] + np.arange(columns) * meters_per_pixel, low[2] + np.arange(rows) * meters_per_pixel)
        points = np.stack([x.ravel(), np.full(x.size, float(height)), z.ravel()], axis=1)
        if self._detour:
            return self._detour.is_navigable(points, eps).reshape(rows, columns)
        return self._stands(points, eps).reshape(rows, columns)


class Follower:
    """habitat-sim's `GreedyGeodesicFollower`: the next action along the shortest path (`envs.navgrid.greedy`)."""

    def __init__(
        self,
        pathfinder: PathFinder,
        field: Callable[[ArrayLike], GeodesicField],
        pose: Callable[[], tuple[NDArray[np.float64], float]],
        keys: dict[int, Any],
        error: type[Exception],
        forward: float,
        turn: float,
        goal_radius: float,
        sliding: bool = True,
        thrashing: int | None = 16,
    ) -> None:
        """Follow for an agent.

        Args:
            pathfinder: The floor.
            field: Shortest paths to a goal (3,).
            pose: The agent's position (3,) and heading in radians now.
            keys: What to return for STOP, FORWARD, LEFT, RIGHT.
            error: Raised where there is no way.
            forward: Forward step in metres.
            turn: Turn step in degrees.
            goal_radius: STOP comes at less than this geodesic distance, metres; and at half a step, as no step brings
                the agent nearer from there.
            sliding: Whether the agent slides along obstacles.
            thrashing: After so many turns to and fro a plan is carried out to its end; None: never.
        """
        self._floor, self._field, self._pose, self._keys, self._error = pathfinder, field, pose, keys, error
        self._forward, self._turn, self._radius = forward, math.radians(turn), max(goal_radius, forward / 2)
        self._sliding, self._thrashing = sliding, thrashing
        self._goal: NDArray[np.float64] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the actions taken and planned."""
        self._taken: list[int] = []
        self._planned: list[int] = []

    def next_action_along(self, goal_pos: ArrayLike) -> Any:
        """The next action from where the agent is."""
        goal = np.asarray(goal_pos, np.float64)
        if self._goal is None or not np.allclose(goal, self._goal):
            self.reset()
            self._goal = goal
        position, heading = self._pose()
        try:
            field = self._field(goal_pos)
        except ValueError as error:
            raise self._error(str(error)) from error
        if self._floor.grid.detour is None and np.isfinite(floor := self._floor.snap_point(position)).all():
            position = floor
        left = float(self._distances(field, position[None])[0])
        if not math.isfinite(left):
            raise self._error(f"no way from {position.tolist()} to {goal.tolist()}")
        action = self._next(field, position, heading, left)
        self._taken = [*self._taken[-32:], action]
        return self._keys[action]

    def _next(self, field: GeodesicField, position: NDArray[np.float64], heading: float, left: float) -> int:
        if self._planned:
            return self._planned.pop(0)
        if left < self._radius:
            return STOP
        actions = plan(
            lambda start, angle: self._floor.step(start, angle, self._forward, self._sliding),
            lambda points: self._distances(field, points),
            self._floor.room,
            position,
            heading,
            self._turn,
            self._forward,
        )
        if not actions:
            raise self._error(f"every step from {position.tolist()} ends in a collision")
        if self._sways():
            self._planned = actions
            return self._planned.pop(0)
        return actions[0]

    def _distances(self, field: GeodesicField, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) metres to the goal, also from where a step ended just off the grid."""
        grid = self._floor.grid
        out = grid.distance(field, points)
        for n in np.flatnonzero(~np.isfinite(out)):
            out[n] = geodesic_distance(grid, field, points[n])
        return out

    def _sways(self) -> bool:
        """Whether the last actions were turns to and fro."""
        if self._thrashing is None or len(self._taken) < self._thrashing:
            return False
        last = self._taken[-self._thrashing :]
        return {last[0], last[1]} == {LEFT, RIGHT} and all(a == b for a, b in zip(last, last[2:], strict=False))


@dataclass(frozen=True)
class Box:
    """Axis-aligned box in metres.

    Attributes:
        low: (3,) smallest x, y, z.
        high: (3,) largest.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def center(self) -> NDArray[np.float64]:
        """(3,) middle."""
        return (self.low + self.high) / 2

    @property
    def sizes(self) -> NDArray[np.float64]:
        """(3,) lengths of the sides."""
        return self.high - self.low


@dataclass(frozen=True)
class Category:
    """Class of an object."""

    label: str

    def name(self, mapping: str = "") -> str:
        """Name of the class; `mapping` is ignored, there is one set of names."""
        return self.label


@dataclass(frozen=True)
class SemanticObject:
    """One object: its id is its place in `SemanticScene.objects` and its number in the semantic sensor's images."""

    id: str
    category: Category
    aabb: Box


@dataclass(frozen=True)
class SemanticScene:
    """The objects of a scene, as far as the scene file names them; no levels and regions."""

    objects: list[SemanticObject]
    aabb: Box
    levels: tuple[()] = ()
    regions: tuple[()] = ()

    @property
    def categories(self) -> list[Category]:
        """The classes that occur, each once."""
        return list(dict.fromkeys(item.category for item in self.objects))

    @classmethod
    def of(cls, scene: Scene) -> SemanticScene:
        """Objects of a scene: one per instance, after a first one for what belongs to none."""
        corners = scene.vertices[scene.faces].astype(np.float64)
        whole = Box(corners.min(axis=(0, 1)), corners.max(axis=(0, 1)))
        count = int(scene.face_instance.max()) + 1
        low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
        np.minimum.at(low, scene.face_instance, corners.min(axis=1))
        np.maximum.at(high, scene.face_instance, corners.max(axis=1))
        kind = np.zeros(count, np.int64)
        kind[scene.face_instance] = scene.face_class
        objects = [SemanticObject("void_0", Category("void"), whole)]
        for i in range(count):
            label = scene.class_names[kind[i]]
            objects.append(SemanticObject(f"{label}_{i + 1}", Category(label), Box(low[i], high[i])))
        return cls(objects, whole)
