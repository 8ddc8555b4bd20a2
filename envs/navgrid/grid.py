"""The walkable grid of a scene: navigability, geodesic distances, movement and the shortest-path expert."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.navgrid import clearance as _clearance
from envs.navgrid import follower as _follower
from envs.navgrid import geodesics as _marching
from envs.navgrid import greedy as _greedy
from envs.navgrid import ground as _ground
from envs.navgrid import heightfield as _heightfield
from envs.navgrid import polygon_grid as _polyfloor
from envs.navgrid.detour_floor import DetourFloor
from envs.navgrid.extent import check_grid_size
from envs.navgrid.navmesh import NavMesh
from envs.scene import Scene

GEODESICS = ("exact", "detour")
# A position this far from the floor of the goal's island still counts as standing on it, metres.
PROJECTION = 0.3
# Storeys are at least twice as far apart, metres.
HALF_STOREY = 1.25


@dataclass(frozen=True, eq=False)
class GeodesicField:
    """Shortest paths from everywhere on an island to one goal; made by `NavGrid.field`.

    Attributes:
        goal: (3,) float64 navigable goal position; in Detour's mode the one that was asked for.
        tree: The paths, one next vertex per node (about 2 bytes per node); None in Detour's mode, which finds each path
            when it is asked for.
    """

    goal: NDArray[np.float64]
    tree: _marching.PathTree | None

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        return 0 if self.tree is None else sum(array.nbytes for array in self.tree)


class NavGrid:
    """Walkable floor of a scene for an upright cylinder, as a grid of columns with one node per floor level.

    Islands smaller than 1 m2 are dropped, as in habitat-sim's navigation meshes; one that is read keeps all it has.

    Attributes:
        radius: Agent radius, metres.
        height: Agent height, metres.
        climb: Largest step in height, metres.
        cell: Grid spacing, metres.
        island_areas: (I,) float64 area of each island in m2 (where the agent's centre can be), largest first.
        base: Lowest height of the scene in metres.
        detour: habitat-sim's own answers, where the grid was laid over a navigation mesh; else None.
        geodesic: ``exact``: distances, paths and the expert are the shortest; ``detour``: they are as habitat-sim has
            them, up to half longer.
    """

    base: float = 0.0
    detour: DetourFloor | None = None
    geodesic: str = "exact"
    MIN_ISLAND = 1.0
    SNAP_REACH = 2.0

    def __init__(self, ground: _ground.Ground, height: float, areas: NDArray[np.float64]) -> None:
        """Take over a finished ground; users call `build`."""
        self.ground = ground
        self.radius, self.climb, self.cell = ground.radius, ground.climb, ground.cell
        self.height = height
        self.island_areas = areas
        self._fields: dict[bytes, GeodesicField] = {}

    @classmethod
    def build(
        cls,
        scene: Scene,
        radius: float = 0.1,
        height: float = 1.5,
        climb: float = 0.2,
        cell: float = 0.05,
        max_slope: float = 45.0,
    ) -> NavGrid:
        """Build the grid from the solid triangles of a scene.

        Args:
            scene: The scene; faces that may be stood on are wound so that their normal points up.
            radius: Agent radius in metres (default as Habitat).
            height: Agent height in metres: free space needed above the floor.
            climb: Height in metres that one step can overcome.
            cell: Grid spacing in metres.
            max_slope: Steepest floor in degrees.

        Raises:
            ValueError: If the scene has no place to stand, or is too large for a grid.
        """
        triangles = scene.vertices[scene.faces[scene.solid]].astype(np.float64)
        return cls.from_triangles(triangles, scene.name, radius, height, climb, cell, max_slope)

    @classmethod
    def from_triangles(
        cls,
        triangles: NDArray[np.float64],
        name: str,
        radius: float = 0.1,
        height: float = 1.5,
        climb: float = 0.2,
        cell: float = 0.05,
        max_slope: float = 45.0,
    ) -> NavGrid:
        """Build the grid from triangles (F, 3, 3) in metres that are all solid; see `build`.

        Raises:
            ValueError: If there is no place to stand, or they reach too far for a grid.
        """
        if not len(triangles):
            raise ValueError(f"scene {name} has no solid triangles")
        check_grid_size(triangles, cell, name)
        triangles = triangles.copy()
        normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        length = np.linalg.norm(normal, axis=1)
        walkable = normal[:, 1] >= np.cos(np.radians(max_slope)) * np.maximum(length, 1e-12)
        low = triangles.min(axis=(0, 1)) - 2.5 * cell
        high = triangles.max(axis=(0, 1)) + 2.5 * cell
        nx, nz = (int(np.ceil((high[k] - low[k]) / cell)) for k in (0, 2))
        triangles[:, :, 0] -= low[0]
        triangles[:, :, 2] -= low[2]
        columns = _heightfield.cut(triangles, walkable, cell, nx, nz)
        floor = _heightfield.find_floor(columns, nx, nz, height, climb)
        clear = _clearance.clearance(columns, floor, cell, nx, nz, height, climb)
        free = np.where(clear >= radius, 0, -1).astype(np.int32)
        label, areas = _rank(_clearance.components(free, floor.near), cell * cell, cls.MIN_ISLAND)
        if len(areas) == 0:
            raise ValueError(
                f"scene {name}: no floor of {cls.MIN_ISLAND} m2 for an agent of radius {radius} m and height "
                f"{height} m; check that the mesh is in metres with +Y up and its floor faces wound upwards"
            )
        keep = _clearance.fringe(label, floor.near)
        column, level = floor.column[keep], floor.height[keep]
        start = np.zeros(nx * nz + 1, np.int32)
        np.cumsum(np.bincount(column, minlength=nx * nz), out=start[1:])
        near = _heightfield.link(start, column, level, nx, nz, climb)
        ground = _ground.Ground(
            start, column, level, clear[keep], label[keep], near,
            float(low[0]), float(low[2]), float(cell), nx, nz, float(radius), float(climb),
        )  # fmt: skip
        grid = cls(ground, float(height), areas)
        grid.base = float(triangles[..., 1].min())
        return grid

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """A grid that `build` made as arrays, from which `from_arrays` makes an equal one; neighbours are left out."""
        g = self.ground
        place = np.array([g.x0, g.z0, g.cell, g.nx, g.nz, g.radius, g.climb, self.height, self.base])
        return {
            **{name: getattr(g, name) for name in ("start", "height", "clear", "island")},
            "place": place,
            "areas": self.island_areas,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NavGrid:
        """The grid that `to_arrays` gave these of."""
        start, level = arrays["start"], arrays["height"]
        x0, z0, cell, across, deep, radius, climb, height, base = arrays["place"].tolist()
        nx, nz = int(across), int(deep)
        column = np.repeat(np.arange(nx * nz, dtype=np.int32), np.diff(start))
        near = _heightfield.link(start, column, level, nx, nz, climb)
        clear, island = arrays["clear"], arrays["island"]
        ground = _ground.Ground(start, column, level, clear, island, near, x0, z0, cell, nx, nz, radius, climb)
        grid = cls(ground, height, arrays["areas"])
        grid.base = base
        return grid

    @classmethod
    def from_navmesh(cls, mesh: NavMesh, name: str = "", geodesic: str = "exact") -> NavGrid:
        """Lay the grid over a navigation mesh of habitat-sim: its floor, islands, agent and heights.

        Args:
            mesh: The polygons (`envs.navgrid.navmesh.read_navmesh`).
            name: Name of the scene, for messages.
            geodesic: One of `GEODESICS`; see the attribute.

        Raises:
            ValueError: There is no such mode.
        """
        if geodesic not in GEODESICS:
            raise ValueError(f"geodesic={geodesic}: choose from {', '.join(GEODESICS)}")
        ground, areas, radii = _polyfloor.ground_of(mesh, name)
        grid = cls(ground, mesh.height, areas)
        grid.island_radii = radii
        grid.detour = DetourFloor(mesh)
        grid.geodesic = geodesic
        return grid

    @cached_property
    def island_radii(self) -> NDArray[np.float64]:
        """(I,) float64 greatest distance in metres from the centre of each island to a point of it."""
        ground = self.ground
        nodes = np.flatnonzero(ground.island >= 0)
        label = ground.island[nodes]
        where = np.stack([ground.column[nodes] % ground.nx, ground.column[nodes] // ground.nx], axis=1) * self.cell
        count = np.bincount(label)
        centre = np.stack([np.bincount(label, weights=where[:, k]) / count for k in range(2)], axis=1)
        radius = np.zeros(len(count))
        np.maximum.at(radius, label, np.linalg.norm(where - centre[label], axis=1))
        return radius

    def island(self, position: ArrayLike) -> NDArray[np.int32]:
        """Island number (N,) int32 of positions (N, 3), -1 where not navigable."""
        return _ground.island_all(self.ground, _ground.check_positions(position))

    def is_navigable(self, position: ArrayLike) -> NDArray[np.bool_]:
        """Whether the agent's centre can be at positions (N, 3); y within 0.5 m of the floor."""
        return self.island(position) >= 0

    def snap(self, position: ArrayLike, island: int | None = None, reach: float = SNAP_REACH) -> NDArray[np.float64]:
        """Nearest navigable points (N, 3) float64 to positions (N, 3), on `island` if given; NaN beyond `reach` m."""
        where = -1 if island is None else island
        return _ground.snap_all(self.ground, _ground.check_positions(position), where, float(reach))

    def sample(self, rng: np.random.Generator, n: int, island: int | None = None) -> NDArray[np.float64]:
        """Draw n navigable points (n, 3) float64, uniform over the area of one island or of all."""
        ground = self.ground
        nodes = np.flatnonzero(ground.island >= 0 if island is None else ground.island == island)
        if len(nodes) == 0:
            raise ValueError(f"island {island} does not exist; there are {len(self.island_areas)}, numbered from 0")
        node = rng.choice(nodes, n)
        jitter = (rng.random((n, 2)) - 0.5) * self.cell
        point = np.empty((n, 3))
        point[:, 0] = ground.x0 + (ground.column[node] % ground.nx + 0.5) * self.cell
        point[:, 1] = ground.height[node]
        point[:, 2] = ground.z0 + (ground.column[node] // ground.nx + 0.5) * self.cell
        moved = point.copy()
        moved[:, ::2] += jitter
        inside = self.island(moved) == ground.island[node]
        return self.snap(np.where(inside[:, None], moved, point))

    def step(
        self, position: ArrayLike, heading: ArrayLike, distance: float, sliding: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Move agents forward along their headings, as habitat-sim's try_step.

        Args:
            position: (N, 3) navigable positions.
            heading: (N,) radians about +Y, 0 along -Z, positive to the left.
            distance: Metres.
            sliding: Slide along obstacles; if False an agent stops at the first contact.

        Returns:
            (N, 3) float64 new positions with y on the floor, and (N,) bool whether the agent was held back. A position
            that is not navigable stays and counts as held back.
        """
        turn = np.ascontiguousarray(heading, np.float64)
        return _ground.step_all(self.ground, _ground.check_positions(position), turn, float(distance), sliding)

    def field(self, goal: ArrayLike) -> GeodesicField:
        """Shortest paths to a goal (3,), snapped to the floor.

        Raises:
            ValueError: If no floor is within 2 m of the goal.
        """
        wanted = np.asarray(goal, np.float64)
        if (known := self._fields.get(wanted.tobytes())) is not None:
            return known
        by_detour = self.detour if self.geodesic == "detour" else None
        point = (by_detour or self).snap(wanted[None])[0]
        if np.isnan(point).any():
            raise ValueError(f"goal {wanted.tolist()} is more than {self.SNAP_REACH} m from any floor")
        if by_detour is not None:
            return GeodesicField(wanted, None)
        vertex, position, cost, after = _marching.march(self.ground, point)
        return GeodesicField(point, _marching.PathTree(vertex.astype(np.uint16), position, cost, after))

    def keep(self, goal: ArrayLike, field: GeodesicField) -> None:
        """Let `field` answer with this field whenever it is asked for this goal (3,), without a search."""
        self._fields[np.asarray(goal, np.float64).tobytes()] = field

    def distance(self, field: GeodesicField, position: ArrayLike) -> NDArray[np.float64]:
        """Geodesic distance (N,) float64 in metres from positions (N, 3), inf where the goal cannot be reached."""
        points = _ground.check_positions(position)
        if field.tree is None:
            return self._detour().distance(points, field.goal)
        return _follower.distance_all(self.ground, field.tree, points)

    def _detour(self) -> DetourFloor:
        if self.detour is None:
            raise ValueError("a field of Detour's distances belongs to a grid over a navigation mesh")
        return self.detour

    def expert(
        self,
        field: GeodesicField,
        position: ArrayLike,
        heading: ArrayLike,
        turn: float = math.radians(10.0),
        forward: float = 0.25,
        success: float = 0.2,
        turning: ArrayLike | None = None,
    ) -> NDArray[np.int32]:
        """Next action of a shortest-path follower at any state.

        Args:
            field: Paths to the goal.
            position: (N, 3) navigable positions.
            heading: (N,) radians.
            turn: Turn step in radians.
            forward: Forward step in metres.
            success: A stop counts within this geodesic distance, metres; it stops well inside.
            turning: (N,) 1 for agents that just turned left, -1 for right, 0 for others (all by default). An agent with
                more than a right angle to turn goes on in the direction in which it is turning.

        Returns:
            (N,) int32: 0 stop (also where the goal cannot be reached), 1 forward, 2 left, 3 right.
        """
        angle = np.ascontiguousarray(heading, np.float64)
        points = _ground.check_positions(position)
        spin = np.ascontiguousarray(np.zeros(len(points)) if turning is None else turning, np.int32)
        if field.tree is None:
            chosen = [
                self._act_by_detour(field, points[n], angle[n], turn, forward, success, spin[n])
                for n in range(len(points))
            ]
            return np.array(chosen, np.int32)
        return _follower.act_all(
            self.ground, field.tree, points, angle, spin, float(turn), float(forward), float(success)
        )

    def plan(self, field: GeodesicField, position: ArrayLike, heading: float, turn: float, forward: float) -> list[int]:
        """Turns and a step forward as habitat-sim's greedy follower chooses them (`envs.navgrid.greedy.plan`)."""
        return _greedy.plan(
            lambda start, angle: self.step(start, angle, forward),
            lambda points: self.distance(field, points),
            self.obstacle_distance,
            np.asarray(position, np.float64),
            float(heading),
            turn,
            forward,
        )

    def _act_by_detour(
        self,
        field: GeodesicField,
        position: NDArray[np.float64],
        heading: float,
        turn: float,
        forward: float,
        success: float,
        turning: int,
    ) -> int:
        """One agent's action: first of `plan`, stopping as `_follower.act` does.

        Never a turn back after a turn, as from there the agent would turn again.
        """
        near = _follower.NEAR * success
        left = float(self.distance(field, position[None])[0])
        if left < near or not math.isfinite(left):
            return _follower.STOP
        if left < success:
            after = self.step(position[None], [heading], forward)[0]
            return _follower.FORWARD if self.distance(field, after)[0] < near else _follower.STOP
        actions = self.plan(field, position, heading, turn, forward)
        back = _follower.RIGHT if turning > 0 else _follower.LEFT
        return _follower.FORWARD if not actions or (turning and actions[0] == back) else actions[0]

    def path(self, field: GeodesicField, position: ArrayLike) -> NDArray[np.float64]:
        """Corners (K, 3) of the shortest path from a position (3,) to the goal, both included.

        Raises:
            ValueError: If the goal cannot be reached from there.
        """
        point = np.asarray(position, np.float64)
        if field.tree is None:
            by_detour = self._detour().path(point, field.goal)
            if not len(by_detour):
                raise ValueError(f"no way from {point.tolist()} to the goal {field.goal.tolist()}")
            return by_detour
        distance, vertex, bend = _follower.toward(self.ground, field.tree, *point)
        if not np.isfinite(distance):
            raise ValueError(f"no way from {point.tolist()} to the goal {field.goal.tolist()}")
        corners = [point]
        if bend >= 0:
            corners.append(np.array(_ground.node_position(self.ground, bend)))
        while vertex != 0:
            corners.append(field.tree.position[vertex])
            vertex = int(field.tree.after[vertex])
        return np.array([*corners, field.tree.position[0]])

    def obstacle_distance(self, position: ArrayLike) -> NDArray[np.float64]:
        """Clearance (N,) float64 in metres of positions (N, 3): distance to the nearest obstacle; 0 off the floor.

        habitat-sim's `distance_to_closest_obstacle`: to the edge of the navigable floor, the agent's radius deducted.
        """
        return np.maximum(_ground.clear_all(self.ground, _ground.check_positions(position)) - self.radius, 0.0)

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest x, y, z of the navigable floor, each (3,) float64 in metres."""
        ground = self.ground
        nodes = np.flatnonzero(ground.island >= 0)
        row, column = np.divmod(ground.column[nodes], ground.nx)
        centre = np.stack(
            [
                ground.x0 + (column + 0.5) * self.cell,
                ground.height[nodes].astype(np.float64),
                ground.z0 + (row + 0.5) * self.cell,
            ],
            axis=1,
        )
        # A point beside a node is navigable up to a cell away from it.
        margin = np.array([self.cell, 0.0, self.cell])
        return centre.min(axis=0) - margin, centre.max(axis=0) + margin

    def top_down(
        self, island: int | None = None, height: float | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
        """Map for drawing.

        Args:
            island: Only this island; all when None.
            height: Only floor of the storey at this height in metres, at most `HALF_STOREY` away; all when None.

        Returns:
            (nz, nx) bool, navigable; (2,) float64 world x and z of the map's corner; cell size in metres.
        """
        ground = self.ground
        chosen = ground.island >= 0 if island is None else ground.island == island
        if height is not None:
            chosen &= np.abs(ground.height - height) <= HALF_STOREY
        free = np.zeros(ground.nx * ground.nz, np.bool_)
        free[ground.column[chosen]] = True
        return free.reshape(ground.nz, ground.nx), np.array([ground.x0, ground.z0]), self.cell


def geodesic_distance(grid: NavGrid, field: GeodesicField, position: ArrayLike) -> float:
    """Geodesic distance in metres from one position (3,), inf where the goal cannot be reached.

    A position just off the goal's island is projected onto it first, as habitat-sim's `find_path` does.
    """
    point = np.asarray(position, np.float64).reshape(1, 3)
    left = float(grid.distance(field, point)[0])
    if math.isfinite(left) or field.tree is None:
        return left
    here, there = (int(grid.island(p)[0]) for p in (point, field.goal[None]))
    floor = grid.snap(point, there)
    near = here in (-1, there) and np.linalg.norm(floor - point) <= PROJECTION
    return float(grid.distance(field, floor)[0]) if near else math.inf


def wrap_angle(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles in radians brought into [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def _rank(label: NDArray[np.int32], cell_area: float, least: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Renumber components by falling size and drop those under `least` m2: labels and areas."""
    size = np.bincount(label[label >= 0]).astype(np.float64) * cell_area
    order = np.argsort(-size, kind="stable")
    areas = size[order]
    areas = areas[areas >= least]
    rank = np.full(len(size) + 1, -1, np.int32)
    rank[order[: len(areas)]] = np.arange(len(areas))
    return rank[label], areas


def compile_ahead() -> None:
    """Compile what agents run at every step, their moves and the expert's actions, or load it from the cache.

    For a process that waits while another makes grids: compiling takes seconds the first time.
    """
    none, level = np.zeros(0, np.int32), np.zeros(0, np.float32)
    near = np.zeros((0, 4), np.int32)
    ground = _ground.Ground(np.zeros(2, np.int32), none, level, level, none, near, 0.0, 0.0, 1.0, 1, 1, 0.1, 0.1)
    grid = NavGrid(ground, 1.0, np.zeros(0))
    nobody, headings = np.zeros((0, 3)), np.zeros(0)
    grid.step(nobody, headings, 0.25)
    tree = _marching.PathTree(np.zeros(0, np.uint16), np.zeros((1, 3)), np.zeros(1), np.zeros(1, np.int64))
    grid.expert(GeodesicField(np.zeros(3), tree), nobody, headings)
