"""Egocentric occupancy mapping from depth and odometry: free, blocked and unseen floor.

The usual map of embodied navigation (for example Chaplot et al. 2020, "Learning to Explore using Active Neural SLAM",
there learned): each depth pixel is projected to a point in the world; points as high as the agent's body block their
cell, points lower than a step free it. Counts per cell make the map robust where depth is predicted or noisy.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.rendering.renderer import Camera

# Cells of the world grid per cell of the egocentric map, along one axis.
FINER = 2
# Evidence that one point adds, and its bounds: a wall that was seen is not wiped out by the floor before it.
BLOCKED, FREE = 2, -1
MOST_BLOCKED, MOST_FREE = 24, -12


@njit(cache=True, nogil=True)
def _observe(
    evidence: NDArray[np.int8],
    depth: NDArray[np.float32],
    limit: float,
    position: NDArray[np.float64],
    heading: float,
    focal: float,
    pitch: float,
    camera_height: float,
    step_height: float,
    body_height: float,
    cells_per_metre: float,
) -> None:
    """Add the points of one depth image to the evidence (G, G) of one agent, whose start is in the grid's centre."""
    rows, columns = depth.shape
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
                known = evidence[i, j] + (BLOCKED if height > step_height else FREE)
                evidence[i, j] = min(max(known, MOST_FREE), MOST_BLOCKED)


@njit(cache=True, nogil=True)
def _visit(evidence: NDArray[np.int8], position: NDArray[np.float64], cells_per_metre: float) -> None:
    """Free the cell in which the agent stands."""
    size = evidence.shape[0]
    i = math.floor(position[1] * cells_per_metre) + size // 2
    j = math.floor(position[0] * cells_per_metre) + size // 2
    if 0 <= i < size and 0 <= j < size:
        evidence[i, j] = MOST_FREE


@njit(cache=True, nogil=True)
def _turn_to(
    evidence: NDArray[np.int8],
    position: NDArray[np.float64],
    heading: float,
    cells_per_metre: float,
    out: NDArray[np.uint8],
) -> None:
    """Sample the evidence (G, G) around one agent into its egocentric map (2, M, M)."""
    size, side = evidence.shape[0], out.shape[1]
    cos, sin = math.cos(heading), math.sin(heading)
    share = 255.0 / (FINER * FINER)
    for r in range(side):
        for c in range(side):
            blocked = free = 0
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
            out[0, r, c] = np.uint8(blocked * share)
            out[1, r, c] = np.uint8(free * share)


@njit(cache=True, nogil=True)
def _observe_all(
    evidence: NDArray[np.int8],
    which: NDArray[np.int64],
    depth: NDArray[np.float32],
    limit: float,
    positions: NDArray[np.float64],
    headings: NDArray[np.float64],
    lens: tuple[float, float, float, float, float],
    cells_per_metre: float,
) -> None:
    for k in range(len(which)):
        _observe(evidence[which[k]], depth[k], limit, positions[k], headings[k], *lens, cells_per_metre)
        _visit(evidence[which[k]], positions[k], cells_per_metre)


@njit(cache=True, nogil=True)
def _turn_all(
    evidence: NDArray[np.int8],
    which: NDArray[np.int64],
    positions: NDArray[np.float64],
    headings: NDArray[np.float64],
    cells_per_metre: float,
    out: NDArray[np.uint8],
) -> None:
    for k in range(len(which)):
        _turn_to(evidence[which[k]], positions[k], headings[k], cells_per_metre, out[k])


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
        *,
        step_height: float = 0.2,
        body_height: float = 1.5,
        reach: float = 30.0,
    ) -> None:
        """Empty maps.

        Args:
            count: Number of agents, N.
            size: Side of the egocentric map in cells, M.
            extent: Side of the egocentric map in metres.
            camera: Size, field of view, height and pitch of the depth camera.
            step_height: Points up to this height in metres above the floor are walkable.
            body_height: Points above this height in metres do not matter.
            reach: How far from its start an agent is mapped, metres.
        """
        self.size = size
        self._cells_per_metre = FINER * size / extent
        side = 2 * math.ceil(reach * self._cells_per_metre)
        self._evidence = np.zeros((count, side, side), np.int8)
        focal = camera.columns / 2 / math.tan(math.radians(camera.hfov) / 2)
        self._lens = (focal, math.radians(camera.pitch), float(camera.height), float(step_height), float(body_height))

    def reset(self, which: NDArray[np.int64] | int) -> None:
        """Forget all that the given agents have seen; an episode begins."""
        self._evidence[which] = 0

    def update(
        self,
        which: NDArray[np.int64],
        depth: NDArray[np.float32],
        positions: NDArray[np.float64],
        headings: NDArray[np.float64],
        limit: float,
    ) -> None:
        """Integrate the given agents' depth images.

        Args:
            which: (n,) agents.
            depth: (n, H, W) float32 planar depth in metres; 0, and `limit` or more, say nothing.
            positions: (n, 2) x and z in metres from the episode's start.
            headings: (n,) radians, positive to the left, in the frame of `positions`.
            limit: Depth in metres from which on the sensor is clipped.
        """
        depth = np.ascontiguousarray(depth, np.float32)
        positions = np.ascontiguousarray(positions, np.float64)
        _observe_all(self._evidence, which, depth, limit, positions, headings, self._lens, self._cells_per_metre)

    def egocentric(
        self, which: NDArray[np.int64], positions: NDArray[np.float64], headings: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Maps of the given agents as they stand, looking up.

        Returns:
            (n, 2, M, M) uint8: the share of each cell that is blocked (channel 0) and free (channel 1), 255 for all of
            it; both 0 where nothing was seen.
        """
        out = np.empty((len(which), 2, self.size, self.size), np.uint8)
        positions = np.ascontiguousarray(positions, np.float64)
        _turn_all(self._evidence, which, positions, headings, self._cells_per_metre, out)
        return out
