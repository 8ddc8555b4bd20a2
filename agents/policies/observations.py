"""Observation wrappers: frozen features computed once per frame, and stacks of K frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations
from torch import Tensor

from adapt import Base
from envs.pointnav.vec_env import reflect

GOAL = "pointgoal_with_gps_compass"
RGB, DEPTH = "rgb", "depth"
MAP, EXPLORED = "map", "explored"
FEATURES = "features"
VALID = "valid"
# Of recorded frames and windows: a frame's place in its episode.
STEP = "step"
# Egocentric maps, passed on as the simulator draws them.
MAPS = (MAP, EXPLORED)
_CHANNELS_FIRST = (RGB, FEATURES, DEPTH, *MAPS)

Observations = dict[str, NDArray[Any]]


def frame_space(source: spaces.Dict, base: Base | None, reads: frozenset[str]) -> spaces.Dict:
    """Space of one frame as the policy reads it, from the simulator's observation space."""
    made: dict[str, spaces.Space[Any]] = {GOAL: source[GOAL], VALID: spaces.Box(0.0, 1.0, (1,), np.float32)}
    if base is not None:
        if RGB not in source.spaces:
            raise ValueError("the policy looks at rgb, but the task has no rgb sensor; add it to env.task.sensors")
        height, width, channels = source[RGB].shape or ()
        if "image" in reads:
            made[RGB] = spaces.Box(0, 255, (channels, height, width), np.uint8)
        if "features" in reads:
            made[FEATURES] = spaces.Box(-np.inf, np.inf, base.feature_shape(height), np.float16)
    if DEPTH in source.spaces:
        height, width, channels = source[DEPTH].shape or ()
        limits = float(source[DEPTH].low.min()), float(source[DEPTH].high.max())  # type: ignore[attr-defined]
        made[DEPTH] = spaces.Box(*limits, (channels, height, width), np.float16)
    made |= {key: source[key] for key in MAPS if key in source.spaces}
    return spaces.Dict(made)


@torch.no_grad()
def features_of(base: Base, images: Tensor) -> Tensor:
    """(N, C, h, w) float16 features of (N, 3, H, W) uint8 images on the base's device, by bfloat16 autocast."""
    with torch.autocast(images.device.type, torch.bfloat16):
        features: Tensor = base(images.contiguous(memory_format=torch.channels_last))
    return features.to(torch.float16)


def frozen_features(base: Base, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """`features_of` images in host memory."""
    device = next(base.parameters(), torch.empty(0)).device
    return features_of(base, torch.as_tensor(rgb, device=device)).cpu().numpy()


def _stack_order(space: spaces.Dict) -> dict[str, str]:
    return {key: "first" if key in _CHANNELS_FIRST else "last" for key in space.spaces}


def stacked_space(space: spaces.Dict, frames: int) -> spaces.Dict:
    """Space of a stack of `frames` frames, as `stack_frames` gives them."""
    stacked = StackedObservations(1, frames, space, _stack_order(space)).stacked_observation_space
    assert isinstance(stacked, spaces.Dict)
    return stacked


class PolicyObservations(VecEnvWrapper):
    """Observation wrapper that adds the frozen base's features and drops what the policy does not read.

    Output keys: the goal; ``valid`` (N, 1) float32 ones (a frame stack's zeros then mark frames before an episode's
    start); ``features`` (N, C, h, w) float16 if the method reads them; ``rgb`` (N, 3, H, W) uint8 if it reads images;
    ``depth`` (N, 1, H, W) float16, ``map`` and ``explored`` if the task has them. With `both_views` N
    more rows follow, what the same agents would read in the mirror image of their world: for evaluation by both views,
    no learner expects them.
    """

    def __init__(self, venv: VecEnv, base: Base | None, reads: frozenset[str], *, both_views: bool = False) -> None:
        """Wrap `venv`; `base` None for a blind policy."""
        self.base = base
        self.both_views = both_views
        self.reads = reads if base is not None else frozenset()
        assert isinstance(venv.observation_space, spaces.Dict)
        super().__init__(venv, observation_space=frame_space(venv.observation_space, base, self.reads))

    def reset(self) -> Observations:
        """Reset and convert."""
        return self._convert(self._with_mirrored(self.venv.reset()))  # type: ignore[arg-type]

    def step_wait(
        self,
    ) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step and convert, the last observations of finished episodes included."""
        observations, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones)
        if len(ended):
            lasts = [infos[n]["terminal_observation"] for n in ended]
            last = self._convert({key: np.stack([one[key] for one in lasts]) for key in lasts[0]})
            for i, n in enumerate(ended):
                infos[n]["terminal_observation"] = {key: value[i] for key, value in last.items()}
        return self._convert(self._with_mirrored(observations)), rewards, dones, infos  # type: ignore[arg-type]

    def _with_mirrored(self, observations: Observations) -> Observations:
        if not self.both_views:
            return observations
        twice = {key: np.concatenate([value, value]) for key, value in observations.items()}
        return reflect(twice, np.arange(2 * self.num_envs) >= self.num_envs)

    def _convert(self, observations: Observations) -> Observations:
        out = {GOAL: observations[GOAL], VALID: np.ones((len(observations[GOAL]), 1), np.float32)}
        if self.reads:
            # As rendered it is channels-last, which the base likes best.
            rgb = observations[RGB].transpose(0, 3, 1, 2)
            if "image" in self.reads:
                out[RGB] = np.ascontiguousarray(rgb)
            if "features" in self.reads:
                assert self.base is not None
                out[FEATURES] = frozen_features(self.base, rgb)
        if DEPTH in observations:
            out[DEPTH] = observations[DEPTH].transpose(0, 3, 1, 2).astype(np.float16)
        return out | {key: observations[key] for key in MAPS if key in observations}


def stack_frames(venv: VecEnv, frames: int) -> VecEnv:
    """Stack the last `frames` observations along channels, oldest first, zeros before an episode's start."""
    assert isinstance(venv.observation_space, spaces.Dict)
    if frames == 1:  # spare the copies
        return venv
    return VecFrameStack(venv, frames, channels_order=_stack_order(venv.observation_space))
