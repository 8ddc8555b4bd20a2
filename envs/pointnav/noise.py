"""Actuation and sensor noise of the Habitat Challenge 2020, all off by default.

Actuation: Gaussians measured on a LoCoBot with its ILQR controller (PyRobot, Murali et al. 2019; habitat-sim's
``PyRobotNoisyActuationSpec``). RGB: Gaussian, independent for pixels and channels. Depth: Redwood (Choi et al. 2015):
pixels are jittered and halved in resolution, disparities get noise and are rounded, what is 10 m away or more is lost.
Departs: Redwood's table of the lens distortion of one sensor is left out.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numba import njit
from numpy.typing import NDArray

from configs.settings import Range, Settings

Strength = Annotated[float, Range(0, 100)]
# Mean and standard deviation of what is added to a motion: metres ahead, metres to the right, radians to the left (for
# turns: in their direction). The variances are PyRobot's.
FORWARD = ((0.014, 0.009, 0.008), (math.sqrt(0.006), math.sqrt(0.005), math.sqrt(0.004)))
TURN = ((0.003, 0.003, 0.023), (math.sqrt(0.002), math.sqrt(0.003), math.sqrt(0.012)))
# Draws lie within so many deviations, and a motion keeps at least this share of itself.
MOST_DEVIATIONS, LEAST_MOTION = 3.0, 0.05
# Of the Redwood model: jitter in pixels, the sensor's range in metres, focal length times baseline, noise of the
# disparity, steps of a disparity.
JITTER, RANGE, BASELINE, DISPARITY, STEPS = 0.25, 10.0, 35.130, 0.027778, 8.0


@dataclass(frozen=True)
class NoiseSettings(Settings):
    """Noise of the embedded simulator; 0: none.

    Attributes:
        actuation: Multiple of the LoCoBot's noise (Habitat Challenge 2020: 0.5).
        rgb: Standard deviation of the noise of RGB, as a share of the full range (there 0.1).
        depth: Multiple of the Redwood model's noise (there 1).
    """

    actuation: Strength = 0.0
    rgb: Strength = 0.0
    depth: Strength = 0.0

    @property
    def any(self) -> bool:
        """Whether there is noise at all."""
        return bool(self.actuation or self.rgb or self.depth)


class Noise:
    """The noise of N agents, each from a source of its own that begins anew with every episode.

    So an episode's noise depends neither on other agents nor, where every episode comes once, on their order.
    """

    def __init__(self, settings: NoiseSettings, count: int, seed: int | None) -> None:
        """Prepare for `count` agents; with seed None an episode has the same noise whenever it comes."""
        self.settings, self._seed = settings, seed
        self._sources = [np.random.default_rng(n) for n in range(count)]
        self._begun = 0

    def reset(self, agent: int, scene: str, episode: str) -> None:
        """An agent begins an episode."""
        key = zlib.crc32(f"{scene}|{episode}".encode())
        self._begun += 1
        again = [] if self._seed is None else [self._seed, self._begun]
        self._sources[agent] = np.random.default_rng([key, *again])

    def moved(self, agent: int, forward: float, turn: float) -> tuple[float, float, float]:
        """Noisy motion of an agent.

        Args:
            agent: Whose.
            forward: Intended metres ahead; 0 for a turn.
            turn: Intended radians to the left; 0 for a step.

        Returns:
            Metres ahead, metres to the right, radians to the left.
        """
        strength = self.settings.actuation
        if not strength:
            return forward, 0.0, turn
        means, deviations = TURN if turn else FORWARD
        drawn = self._sources[agent].standard_normal(3).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        ahead, right, left = (strength * (m + d * x) for m, d, x in zip(means, deviations, drawn, strict=True))
        if turn:
            size = max(abs(turn) + left, LEAST_MOTION * abs(turn))
            return ahead, right, math.copysign(size, turn)
        return max(forward + ahead, LEAST_MOTION * forward), right, left

    def rgb(self, agents: NDArray[np.int64], images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Noisy (n, H, W, 3) uint8 images of the given agents."""
        if not self.settings.rgb:
            return images
        out = np.empty_like(images)
        for i, agent in enumerate(agents):
            drawn = self._sources[agent].standard_normal(images.shape[1:], np.float32)
            out[i] = (images[i] + 255.0 * self.settings.rgb * drawn).clip(0, 255).round()
        return out

    def depth(self, agents: NDArray[np.int64], depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Noisy (n, H, W) float32 planar depth in metres, 0 where the sensor sees nothing."""
        if not self.settings.depth:
            return depth
        out = np.empty_like(depth)
        for i, agent in enumerate(agents):
            drawn = self._sources[agent].standard_normal((*depth.shape[1:], 3), np.float32)
            _redwood(np.ascontiguousarray(depth[i]), self.settings.depth * drawn, out[i])
        return out


@njit(cache=True, nogil=True)
def _redwood(depth: NDArray[np.float32], drawn: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """One image (H, W) through the Redwood model with drawn normal numbers (H, W, 3): row, column, disparity."""
    rows, columns = depth.shape
    for r in range(rows):
        for c in range(columns):
            y = int(min(max(r + JITTER * drawn[r, c, 0], 0.0), rows - 1.0) + 0.5)
            x = int(min(max(c + JITTER * drawn[r, c, 1], 0.0), columns - 1.0) + 0.5)
            metres = depth[y - y % 2, x - x % 2]
            out[r, c] = 0.0
            if 0.0 < metres < RANGE:
                disparity = round((BASELINE / metres + DISPARITY * drawn[r, c, 2]) * STEPS)
                if disparity > 0:
                    out[r, c] = BASELINE * STEPS / disparity
