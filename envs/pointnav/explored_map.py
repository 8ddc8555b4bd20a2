"""Egocentric occupancy mapping from depth and odometry: free, blocked and unseen floor, goal, own way and plan.

The usual map of embodied navigation (for example Chaplot et al. 2020, "Learning to Explore using Active Neural SLAM",
there learned): each depth pixel is projected to a point in the world; points as high as the agent's body block their
cell, points lower than a step free it. Counts per cell make the map robust where depth is noisy. Predicted depth is
read column by column instead (`envs.pointnav.range_scan`). As in Active Neural SLAM, collisions block the cells before
the agent, the map also holds the goal and where the agent has been, and paths to the goal are planned on it
(`envs.pointnav.map_planner`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.pointnav.map_planner import MARGIN, MEASURED, PREDICTED, Costs, march, traversal_costs
from envs.pointnav.range_scan import add_evidence, add_scan
from envs.rendering.camera_offsets import CameraOffset
from envs.rendering.renderer import Camera

# Layers of the egocentric map (`ExploredMaps.egocentric`).
LAYERS = ("blocked", "free", "goal", "visited", "plan")
GOAL, VISITED, PLAN = 2, 3, 4
# The plan's range: places so much nearer to the goal than the agent have the largest value, metres.
PLAN_REACH = 2.0
# Cells of the world grid per cell of the egocentric map, along one axis.
FINER = 2
# Evidence that one point adds, and its bounds: a wall that was seen is not wiped out by the floor before it.
BLOCKED, FREE = 2, -1
MOST_BLOCKED, MOST_FREE = 24, -12
# Where an agent collided stays blocked until it stands there: what stopped it may be too low or too thin to be seen.
COLLISION = 127
# A motion of which less than this share was covered was stopped, and did not slide along.
LEAST_COVERED = 0.5
# The blocked cells lie this far beyond the agent's body and to either side, metres.
BEYOND, ASIDE = 0.09, 0.1


class Memory(NamedTuple):
    """Occupancy grids of N agents, G cells a side, each with its agent's start in the centre.

    Attributes:
        evidence: (N, G, G) int8, positive where blocked, negative where free.
        visited: (N, G, G) uint8, 1 where the agent has stood.
        box: (N, 4) int64 rows [0, 1) and columns [2, 3) with evidence; empty where the first is the greater.
        last: (N, 2) float64 where it last looked from; NaN before.
        stale: (N,) bool, whether blocked cells have changed since the last plan.
        distance: (N, G, G) float32 planned metres to the goal; (N, 1, 1) without a plan.
        limit: (N,) float64 up to which distance the plan is final.
    """

    evidence: NDArray[np.int8]
    visited: NDArray[np.uint8]
    box: NDArray[np.int64]
    last: NDArray[np.float64]
    stale: NDArray[np.bool_]
    distance: NDArray[np.float32]
    limit: NDArray[np.float64]


class Room(NamedTuple):
    """Scratch arrays of the planner (`envs.pointnav.map_planner.march`), and what obstacles cost."""

    cost: NDArray[np.float32]
    keys: NDArray[np.float32]
    items: NDArray[np.int32]
    costs: Costs


@njit(cache=True, nogil=True)
def _observe(
    evidence: NDArray[np.int8],
    box: NDArray[np.int64],
    depth: NDArray[np.float32],
    limit: float,
    position: NDArray[np.float64],
    heading: float,
    lens: NDArray[np.float64],
    step_height: float,
    body_height: float,
    cells_per_metre: float,
) -> bool:
    """Add the points of one depth image to the evidence (G, G) of one agent; returns whether blocked cells changed."""
    changed = False
    rows, columns = depth.shape
    focal, pitch, camera_height = columns / 2 / lens[0], lens[1], lens[2]
    size = evidence.shape[0]
    cos, sin = math.cos(heading), math.sin(heading)
    cos_pitch, sin_pitch = math.cos(pitch), math.sin(pitch)
    for r in range(rows):
        up = (rows / 2 - r - 0.5) / focal
        for c in range(columns):
            z = depth[r, c]
            if not 0.0 < z < limit:
                continue
            height = camera_height + z * (sin_pitch + up * cos_pitch)
            if height > body_height:
                continue
            ahead = z * (cos_pitch - up * sin_pitch)
            right = z * (c + 0.5 - columns / 2) / focal
            x = position[0] + cos * right - sin * ahead
            y = position[1] - sin * right - cos * ahead
            i = math.floor(y * cells_per_metre) + size // 2
            j = math.floor(x * cells_per_metre) + size // 2
            if 0 <= i < size and 0 <= j < size:
                before = evidence[i, j]
                if before > MOST_BLOCKED:
                    continue
                known = before + (BLOCKED if height > step_height else FREE)
                evidence[i, j] = min(max(known, MOST_FREE), MOST_BLOCKED)
                changed = changed or (known > 0) != (before > 0)
                box[0], box[1] = min(box[0], i), max(box[1], i + 1)
                box[2], box[3] = min(box[2], j), max(box[3], j + 1)
    return changed


@njit(cache=True, nogil=True)
def _cell(position: NDArray[np.float64], cells_per_metre: float, size: int) -> tuple[int, int]:
    """Row and column of a position in the world grid; what is beyond it is clipped to its rim."""
    i = math.floor(position[1] * cells_per_metre) + size // 2
    j = math.floor(position[0] * cells_per_metre) + size // 2
    return min(max(i, 0), size - 1), min(max(j, 0), size - 1)


@njit(cache=True, nogil=True)
def _collide(
    evidence: NDArray[np.int8],
    box: NDArray[np.int64],
    last: NDArray[np.float64],
    position: NDArray[np.float64],
    heading: float,
    asked: float,
    radius: float,
    cells_per_metre: float,
    here: tuple[int, int],
) -> bool:
    """Block the cells before an agent that something stopped on a motion forward; returns whether they were not yet."""
    moved = math.hypot(position[0] - last[0], position[1] - last[1])
    changed = False
    if moved < LEAST_COVERED * asked:
        for side in range(-1, 2):
            ahead = evidence, box, position, radius + BEYOND, side * ASIDE, heading
            now, _ = add_evidence(*ahead, cells_per_metre, COLLISION, (MOST_FREE, COLLISION), here)
            changed = changed or now
    return changed


@njit(cache=True, nogil=True)
def _observe_all(
    memory: Memory,
    which: NDArray[np.int64],
    depth: NDArray[np.float32],
    limit: float,
    positions: NDArray[np.float64],
    headings: NDArray[np.float64],
    asked: NDArray[np.float64],
    lenses: NDArray[np.float64],
    predicted: bool,
    step_height: float,
    body_height: float,
    radius: float,
    cells_per_metre: float,
) -> None:
    size = memory.evidence.shape[1]
    for k in range(len(which)):
        n = which[k]
        evidence = memory.evidence[n]
        seen = evidence, memory.box[n], depth[k], limit, positions[k], headings[k], lenses[n]
        if predicted:
            changed = add_scan(*seen, body_height, cells_per_metre, (MOST_FREE, MOST_BLOCKED))
        else:
            changed = _observe(*seen, step_height, body_height, cells_per_metre)
        here = _cell(positions[k], cells_per_metre, size)
        stopped = memory.box[n], memory.last[n], positions[k], headings[k], asked[k], radius, cells_per_metre, here
        changed = _collide(evidence, *stopped) or changed
        memory.last[n] = positions[k]
        if not memory.visited[n][here]:
            # What lies beside obstacles is cheaper once the agent has stood there.
            i, j = here
            changed = changed or (evidence[i - 1 : i + 2, j - 1 : j + 2] > 0).any()
            memory.visited[n][here] = 1
        evidence[here] = MOST_FREE
        memory.stale[n] |= changed


@njit(cache=True, nogil=True)
def _plan(
    memory: Memory, n: int, position: NDArray[np.float64], goal: NDArray[np.float64], cells_per_metre: float, room: Room
) -> float:
    """Bring agent n's distances to the goal up to date; returns the agent's own."""
    evidence, distance, box = memory.evidence[n], memory.distance[n], memory.box[n]
    size = evidence.shape[0]
    here, there = _cell(position, cells_per_metre, size), _cell(goal, cells_per_metre, size)
    own = distance[here]
    if memory.stale[n] or not own + PLAN_REACH <= memory.limit[n]:
        around = math.ceil(MARGIN * cells_per_metre)
        window = (
            max(min(box[0], here[0], there[0]) - around, 0),
            min(max(box[1], here[0] + 1, there[0] + 1) + around, size),
            max(min(box[2], here[1], there[1]) - around, 0),
            min(max(box[3], here[1] + 1, there[1] + 1) + around, size),
        )
        cell = 1.0 / cells_per_metre
        traversal_costs(evidence, memory.visited[n], window, cell, room.costs, room.cost)
        # A metre more than is shown, so that it lasts for a few steps.
        beyond = PLAN_REACH + 1.0
        memory.limit[n] = march(room.cost, cell, window, there, here, beyond, distance, room.keys, room.items)
        memory.stale[n] = False
        own = distance[here]
    return own


@njit(cache=True, nogil=True)
def _mark(layer: NDArray[np.uint8], ahead: float, right: float, cells_per_metre: float) -> None:
    """Paint the 3x3 block around a place; what is beyond the map is clipped to its rim, as in the visited map."""
    side = layer.shape[0]
    r = min(max(math.floor(side / 2 - ahead * cells_per_metre), 0), side - 1)
    c = min(max(math.floor(side / 2 + right * cells_per_metre), 0), side - 1)
    layer[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] = 255


@njit(cache=True, nogil=True)
def _turn_to(
    memory: Memory,
    n: int,
    position: NDArray[np.float64],
    heading: float,
    goal: NDArray[np.float64],
    cells_per_metre: float,
    own: float,
    out: NDArray[np.uint8],
) -> None:
    """Sample what one agent knows around it into its egocentric map, all `LAYERS` of it (5, M, M)."""
    evidence, visited, distance = memory.evidence[n], memory.visited[n], memory.distance[n]
    size, side, planned = evidence.shape[0], out.shape[1], len(distance) > 1
    cos, sin = math.cos(heading), math.sin(heading)
    share = 255.0 / (FINER * FINER)
    out[GOAL] = 0
    for r in range(side):
        for c in range(side):
            blocked = free = been = 0
            nearer = 0.0
            for k in range(FINER * FINER):
                ahead = (side / 2 - r - (k // FINER + 0.5) / FINER) * FINER / cells_per_metre
                right = (c + (k % FINER + 0.5) / FINER - side / 2) * FINER / cells_per_metre
                x = position[0] + cos * right - sin * ahead
                y = position[1] - sin * right - cos * ahead
                i = math.floor(y * cells_per_metre) + size // 2
                j = math.floor(x * cells_per_metre) + size // 2
                if 0 <= i < size and 0 <= j < size:
                    blocked += evidence[i, j] > 0
                    free += evidence[i, j] < 0
                    been += visited[i, j]
                    if planned:
                        gain = (own - distance[i, j]) / PLAN_REACH
                        nearer += min(max(gain, -1.0), 1.0) + 1.0
            out[0, r, c] = np.uint8(blocked * share)
            out[1, r, c] = np.uint8(free * share)
            out[VISITED, r, c] = 255 if been else 0
            out[PLAN, r, c] = np.uint8(nearer * share / 2.0)
    dx, dz = goal[0] - position[0], goal[1] - position[1]
    _mark(out[GOAL], -sin * dx - cos * dz, cos * dx - sin * dz, cells_per_metre / FINER)


@njit(cache=True, nogil=True)
def _turn_all(
    memory: Memory,
    which: NDArray[np.int64],
    positions: NDArray[np.float64],
    headings: NDArray[np.float64],
    goals: NDArray[np.float64],
    cells_per_metre: float,
    room: Room,
    out: NDArray[np.uint8],
) -> None:
    for k in range(len(which)):
        n, own = which[k], 0.0
        if memory.distance.shape[1] > 1:
            own = _plan(memory, n, positions[k], goals[k], cells_per_metre, room)
        _turn_to(memory, n, positions[k], headings[k], goals[k], cells_per_metre, own, out[k])


class ExploredMaps:
    """The occupancy maps of N agents, each in a grid of its own around the start of its episode.

    Poses are odometry: metres and radians in any frame that stays fixed during an episode and whose origin is its
    start; Habitat's axes (x right, z back; headings positive to the left).
    """

    def __init__(
        self,
        count: int,
        size: int,
        extent: float,
        camera: Camera,
        layers: Sequence[str] = LAYERS,
        *,
        predicted: bool = False,
        step_height: float = 0.2,
        body_height: float = 1.5,
        reach: float = 30.0,
        radius: float = 0.18,
    ) -> None:
        """Empty maps.

        Args:
            count: Number of agents, N.
            size: Side of the egocentric map in cells, M.
            extent: Side of the egocentric map in metres.
            camera: Field of view, height and pitch of the agents' cameras.
            layers: Which of `LAYERS` the egocentric maps have, in this order.
            predicted: Whether depth images are predictions from RGB, which are coarse and unsure.
            step_height: Points up to this height in metres above the floor are walkable.
            body_height: Points above this height in metres do not matter.
            reach: How far from its start an agent is mapped, metres.
            radius: Of the agents, metres: what they collide with lies so far before them.
        """
        self.size = size
        self._cells_per_metre = FINER * size / extent
        side = 2 * math.ceil(reach * self._cells_per_metre)
        self._layers = [LAYERS.index(layer) for layer in layers]
        planned = side if "plan" in layers else 1
        self._memory = Memory(
            evidence=np.zeros((count, side, side), np.int8),
            visited=np.zeros((count, side, side), np.uint8),
            box=np.zeros((count, 4), np.int64),
            last=np.full((count, 2), np.nan),
            stale=np.ones(count, np.bool_),
            distance=np.zeros((count, planned, planned), np.float32),
            limit=np.zeros(count),
        )
        self._room = Room(
            np.ones((planned, planned), np.float32),
            np.empty(5 * planned * planned, np.float32),
            np.empty(5 * planned * planned, np.int32),
            PREDICTED if predicted else MEASURED,
        )
        self._camera, self._lenses = camera, np.zeros((count, 3))
        self._predicted, self._heights = predicted, (float(step_height), float(body_height))
        self._radius = float(radius)
        self.reset(np.arange(count))

    def reset(self, which: NDArray[np.int64] | int, offset: CameraOffset | None = None) -> None:
        """Forget all that the given agents have seen; an episode begins, with this difference to the camera."""
        memory, own = self._memory, offset or CameraOffset()
        half_view = math.radians(self._camera.hfov + own.hfov) / 2
        pitch = math.radians(self._camera.pitch) + own.pitch
        self._lenses[which] = math.tan(half_view), pitch, self._camera.height + own.height
        memory.evidence[which] = 0
        memory.visited[which] = 0
        memory.box[which] = np.array([memory.evidence.shape[1], 0] * 2)
        memory.last[which] = np.nan
        memory.stale[which] = True
        memory.distance[which] = np.inf

    def update(
        self,
        which: NDArray[np.int64],
        depth: NDArray[np.float32],
        positions: NDArray[np.float64],
        headings: NDArray[np.float64],
        limit: float,
        asked: NDArray[np.float64] | None = None,
    ) -> None:
        """Integrate the given agents' depth images, and what stopped them on the way here.

        Args:
            which: (n,) agents.
            depth: (n, H, W) float32 planar depth in metres, of any size; 0, and `limit` or more, say nothing.
            positions: (n, 2) x and z in metres from the episode's start.
            headings: (n,) radians, positive to the left, in the frame of `positions`.
            limit: Depth in metres from which on the sensor is clipped.
            asked: (n,) metres ahead that they meant to move since they last looked, at their heading of now; 0 and less
                where they turned or stopped, and None for all, say nothing of obstacles.
        """
        depth = np.ascontiguousarray(depth, np.float32)
        positions = np.ascontiguousarray(positions, np.float64)
        seen = depth, limit, positions, headings, np.zeros(len(which)) if asked is None else asked
        rules = self._lenses, self._predicted, *self._heights, self._radius
        _observe_all(self._memory, which, *seen, *rules, self._cells_per_metre)

    def egocentric(
        self,
        which: NDArray[np.int64],
        positions: NDArray[np.float64],
        headings: NDArray[np.float64],
        goals: NDArray[np.float64],
    ) -> NDArray[np.uint8]:
        """Maps of the given agents as they stand, looking up.

        Args:
            which: (n,) agents.
            positions: (n, 2) x and z in metres from the episode's start.
            headings: (n,) radians, positive to the left.
            goals: (n, 2) x and z in metres from the episode's start, the same throughout an episode.

        Returns:
            (n, L, M, M) uint8, the layers asked for: ``blocked`` and ``free``: the share of each cell that is so, 255
            for all of it, both 0 where nothing was seen; ``goal``: 255 at and around the goal, clipped to the rim;
            ``visited``: 255 where the agent has been; ``plan``: how much nearer to the goal than the agent a cell is by
            the shortest path on what the agent knows, from 255 for `PLAN_REACH` metres or more to 0 for as much
            further, blocked cells and what is walled off.
        """
        out = np.empty((len(which), len(LAYERS), self.size, self.size), np.uint8)
        poses = np.ascontiguousarray(positions, np.float64), np.ascontiguousarray(headings, np.float64)
        aims = np.ascontiguousarray(goals, np.float64)
        _turn_all(self._memory, which, *poses, aims, self._cells_per_metre, self._room, out)
        return np.ascontiguousarray(out[:, self._layers])
