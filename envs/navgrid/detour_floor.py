"""A navigation mesh as habitat-sim's `PathFinder` answers on it: positions, moves, distances, islands."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.navgrid import detour, detour_walk
from envs.navgrid.navmesh import NavMesh
from envs.navgrid.navmesh_tiles import triangle_areas

# A point is on the floor up to this far from a polygon, seen from above, metres.
BESIDE = np.float32(0.01)


class DetourFloor:
    """habitat-sim's answers on a ``.navmesh``, computed in single precision as there (`envs.navgrid.detour`).

    Positions are (N, 3) metres. A point counts as on the nearest polygon in a box of 2 m to the sides and 4 m up and
    down about it.
    """

    def __init__(self, mesh: NavMesh) -> None:
        """Answer for a navigation mesh as it was read, wherever it was moved since."""
        self.polygons = mesh.polygons
        self._offset = mesh.offset

    def _single(self, position: ArrayLike) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.asarray(position, np.float64) - self._offset, np.float32)

    def _project(self, position: ArrayLike, island: int = -1) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        points, polygon = detour.projections(self.polygons, self._single(position), island)
        return points.astype(np.float64) + self._offset, polygon

    def snap(self, position: ArrayLike, island: int | None = None) -> NDArray[np.float64]:
        """`snap_point`: nearest points (N, 3) on the polygons, of `island` if given; NaN where none is in the box."""
        return self._project(position, -1 if island is None else island)[0]

    def island(self, position: ArrayLike) -> NDArray[np.int32]:
        """`get_island`: (N,) int32 island of the nearest polygon, -1 where none is in the box."""
        polygon = self._project(position)[1]
        return np.where(polygon >= 0, self.polygons.island[polygon], -1).astype(np.int32)

    def is_navigable(self, position: ArrayLike, max_y_delta: float = 0.5) -> NDArray[np.bool_]:
        """(N,) whether a polygon is within 1 cm, seen from above, and within `max_y_delta` metres in height."""
        points = self._single(position)
        projected, polygon = detour.projections(self.polygons, points, -1)
        x, y, z = (projected - points).T
        return (polygon >= 0) & (np.abs(y) <= np.float32(max_y_delta)) & (np.sqrt(x * x + z * z) <= BESIDE)

    def distance(self, position: ArrayLike, goal: ArrayLike) -> NDArray[np.float64]:
        """(N,) metres from positions to a goal (3,) by Detour's way, inf where there is none."""
        return np.asarray(detour.distances(self.polygons, self._single(position), self._single(goal)), np.float64)

    def path(self, position: ArrayLike, goal: ArrayLike) -> NDArray[np.float64]:
        """Corners (K, 3) of Detour's way from a position (3,) to a goal (3,), both included; K = 0 without one."""
        points = np.empty((detour.MOST_CORNERS, 3), np.float32)
        _, count = detour.find_path(self.polygons, self._single(position), self._single(goal), points)
        return points[:count].astype(np.float64) + self._offset

    def walk(
        self, position: ArrayLike, target: ArrayLike, sliding: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """`try_step` from positions towards targets, (N, 3) each: where it ends, and (N,) whether it was held back."""
        ends, held = detour_walk.steps(self.polygons, self._single(position), self._single(target), np.bool_(sliding))
        return ends.astype(np.float64) + self._offset, held

    def step(
        self, position: ArrayLike, heading: ArrayLike, distance: float, sliding: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """`walk` by a distance in metres along headings (N,) in radians; see `NavGrid.step`."""
        start, angle = np.asarray(position, np.float64), np.asarray(heading, np.float64)
        ahead = np.stack([-np.sin(angle), np.zeros_like(angle), -np.cos(angle)], axis=1)
        return self.walk(start, start + distance * ahead, sliding)

    def obstacle_distance(self, position: ArrayLike, most: float = 2.0) -> NDArray[np.float64]:
        """`distance_to_closest_obstacle`: (N,) metres to the rim of the polygons, at most `most`; inf off them."""
        return np.asarray(detour_walk.wall_distances(self.polygons, self._single(position), most), np.float64)

    def sample(self, rng: np.random.Generator, island: int | None = None) -> NDArray[np.float64]:
        """A point (3,) drawn uniformly from the area of the polygons, of one island or of all.

        Raises:
            ValueError: The island has no area, or does not exist.
        """
        triangles, weight = self._triangles
        if island is not None:
            weight = np.where(self.polygons.island[self._owner] == island, weight, 0.0)
        if weight.sum() <= 0.0:
            raise ValueError(f"island {island} does not exist; there are {len(self.areas)}, numbered from 0")
        a, b, c = triangles[rng.choice(len(weight), p=weight / weight.sum())]
        u, v = math.sqrt(rng.random()), rng.random()
        return np.asarray((1.0 - u) * a + u * (1.0 - v) * b + u * v * c + self._offset, np.float64)

    @cached_property
    def _owner(self) -> NDArray[np.int64]:
        """(T,) polygon of each detail triangle."""
        return np.repeat(np.arange(len(self.polygons.corners)), np.diff(self.polygons.triangle_start))

    @cached_property
    def _triangles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(T, 3, 3) detail triangles, and (T,) their areas where one may walk, else 0."""
        triangles = self.polygons.points[self.polygons.triangle[:, :3]].astype(np.float64)
        return triangles, np.where(self.polygons.walkable[self._owner], triangle_areas(triangles), 0.0)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(I,) float64 area of each island in m2, in habitat-sim's order of islands."""
        island = self.polygons.island
        return np.asarray(np.bincount(island[self._owner], self._triangles[1], int(island.max()) + 1), np.float64)

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """(I,) float64 greatest distance in metres from the mean of an island's polygons' corners to one of them."""
        m = self.polygons
        used = np.arange(m.corner.shape[1]) < m.corners[:, None]
        corners = m.points[m.corner[used]].astype(np.float64)
        label = np.repeat(m.island, m.corners)
        count = np.bincount(label)
        centre = np.stack([np.bincount(label, corners[:, k]) / count for k in range(3)], axis=1)
        radius = np.zeros(len(count))
        np.maximum.at(radius, label, np.linalg.norm(corners - centre[label], axis=1))
        return radius

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner of the tiles, each (3,) float64 in metres."""
        box = self.polygons.tile_box.astype(np.float64)
        return box[:, 0].min(axis=0) + self._offset, box[:, 1].max(axis=0) + self._offset
