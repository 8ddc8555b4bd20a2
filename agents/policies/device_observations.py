"""Observation wrapper for simulators on a device: frame stacks as tensors that stay there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from adapt import Base
from agents.policies.observations import (
    DEPTH,
    FEATURES,
    GOAL,
    MAPS,
    RGB,
    VALID,
    features_of,
    frame_space,
    stacked_space,
)
from envs.pointnav.simulator import SimulatorVecEnv

Tensors = dict[str, Tensor]


class DeviceFrames(VecEnvWrapper):
    """`agents.policies.observations.PolicyObservations` and a stack of K frames in one, on tensors.

    Observations are those of `agents.policies.observations.stack_frames`, and so are the last ones of finished
    episodes, which
    `agents.learners.rollout.Timeouts` reads.
    """

    def __init__(self, venv: SimulatorVecEnv, base: Base | None, reads: frozenset[str], frames: int) -> None:
        """Wrap `venv`, whose observations are tensors; `base` None for a blind policy."""
        self.base, self.frames = base, frames
        self.reads = reads if base is not None else frozenset()
        assert isinstance(venv.observation_space, spaces.Dict)
        single = frame_space(venv.observation_space, base, self.reads)
        super().__init__(venv, observation_space=stacked_space(single, frames))
        self._stack: Tensors = {}

    def reset(self) -> Tensors:  # type: ignore[override]
        """Reset all agents."""
        frame = self._frame(self.venv.reset())  # type: ignore[arg-type]
        self._stack = {key: self._blank(value) for key, value in frame.items()}
        return self._push(frame)

    def step_wait(  # type: ignore[override]
        self,
    ) -> tuple[Tensors, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all agents; stacks of finished episodes end, and begin anew."""
        observations, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones)
        if len(ended):
            lasts = [infos[n]["terminal_observation"] for n in ended]
            last = self._frame({key: torch.stack([one[key] for one in lasts]) for key in lasts[0]})
            rows = torch.as_tensor(ended, device=last[GOAL].device)
            for key, value in last.items():
                full = torch.cat([self._stack[key][rows, value.shape[1] :], value], dim=1)
                for i, n in enumerate(ended):
                    if key == GOAL:
                        infos[n]["terminal_observation"] = {}
                    infos[n]["terminal_observation"][key] = full[i]
                self._stack[key][rows] = 0
        return self._push(self._frame(observations)), rewards, dones, infos  # type: ignore[arg-type]

    def _blank(self, frame: Tensor) -> Tensor:
        shape = (len(frame), frame.shape[1] * self.frames, *frame.shape[2:])
        return torch.zeros(shape, dtype=frame.dtype, device=frame.device)

    def _push(self, frame: Tensors) -> Tensors:
        """Append the newest frame along channels; a stack handed out earlier is not changed by it."""
        self._stack = {
            key: torch.cat([self._stack[key][:, value.shape[1] :], value], dim=1) for key, value in frame.items()
        }
        return dict(self._stack)

    def _frame(self, observations: Tensors) -> Tensors:
        """One frame of each agent as the policy reads it; the goal comes first."""
        goal = observations[GOAL]
        out = {GOAL: goal, VALID: torch.ones((len(goal), 1), device=goal.device)}
        if self.reads:
            # Rows of pixels as they were rendered are channels-last, which is what convolutions like best.
            rgb = observations[RGB].permute(0, 3, 1, 2)
            if "image" in self.reads:
                out[RGB] = rgb
            if "features" in self.reads:
                assert self.base is not None
                out[FEATURES] = features_of(self.base, rgb)
        if DEPTH in observations:
            out[DEPTH] = observations[DEPTH].permute(0, 3, 1, 2).to(torch.float16)
        return out | {key: observations[key] for key in MAPS if key in observations}
