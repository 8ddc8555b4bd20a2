"""The egocentric map of visited cells that the Side-Tuning policy reads beside its image features."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

EMPTY = 128
MARKED = 255


@njit(cache=True, nogil=True)
def _mark(image: NDArray[np.uint8], channel: int, row: float, column: float) -> None:
    """Paint the 3x3 block around a cell: the original max-pools its map with a 3x3 window.

    As in the release, points beyond the map are clipped to its rim, and points on the agent's own axis belong to the
    cell before it.
    """
    size = image.shape[1]
    r = min(max(math.ceil(row) - 1, 0), size - 1)
    c = min(max(math.ceil(column) - 1, 0), size - 1)
    for i in range(max(r - 1, 0), min(r + 2, size)):
        for j in range(max(c - 1, 0), min(c + 2, size)):
            image[channel, i, j] = MARKED


@njit(cache=True, nogil=True)
def draw_visited_maps(
    trails: NDArray[np.float32],
    lengths: NDArray[np.int64],
    headings: NDArray[np.float64],
    goals: NDArray[np.float64],
    extent: float,
    out: NDArray[np.uint8],
) -> None:
    """Draw one map per agent: the agent in the centre, looking up, no obstacles (Side-Tuning, supplement; its code's
    `occupancy_map`).

    Args:
        trails: (N, T, 2) float32 x and z in metres of every position since the episode's start.
        lengths: (N,) int64 how many rows of each trail are in use; the last one is where the agent is now.
        headings: (N,) float64 radians, positive to the left.
        goals: (N, 2) float64 x and z of the goal in metres.
        extent: Side of the map in metres.
        out: (N, 3, M, M) uint8, overwritten: 255 at visited cells (channel 0) and at the goal (channel 1), 128
            elsewhere; channel 2 stays 128, as in the original. What lies beyond the map is drawn on its rim.
    """
    size = out.shape[2]
    scale = size / extent
    for n in range(out.shape[0]):
        out[n] = EMPTY
        last = lengths[n] - 1
        x0, z0 = trails[n, last, 0], trails[n, last, 1]
        cos, sin = math.cos(headings[n]), math.sin(headings[n])
        for t in range(lengths[n]):
            dx, dz = trails[n, t, 0] - x0, trails[n, t, 1] - z0
            right, ahead = cos * dx - sin * dz, -sin * dx - cos * dz
            _mark(out[n], 0, size / 2 - ahead * scale, size / 2 + right * scale)
        dx, dz = goals[n, 0] - x0, goals[n, 1] - z0
        right, ahead = cos * dx - sin * dz, -sin * dx - cos * dz
        _mark(out[n], 1, size / 2 - ahead * scale, size / 2 + right * scale)


def compile_ahead() -> None:
    """Compile `draw_visited_maps`, or load it from the cache."""
    trails, out = np.zeros((0, 1, 2), np.float32), np.zeros((0, 3, 1, 1), np.uint8)
    draw_visited_maps(trails, np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2)), 1.0, out)
