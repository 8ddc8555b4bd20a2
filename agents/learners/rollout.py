"""Device-resident rollout buffer, and batched value bootstrapping at time limits."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from adapt.training import distributed

_SCALARS = ("action", "reward", "episode_start", "value", "log_prob", "advantage", "return")


def torch_dtype(kind: np.dtype[Any] | type[Any] | None) -> torch.dtype:
    """Torch's dtype of a numpy one."""
    return torch.from_numpy(np.empty(0, kind)).dtype


def rollout_bytes(space: spaces.Dict, steps: int, agents: int) -> int:
    """Bytes that `DeviceRolloutBuffer` allocates for `steps` steps of `agents` agents."""
    frame = sum(int(np.prod(s.shape or (1,))) * np.dtype(s.dtype).itemsize for s in space.spaces.values())
    return steps * agents * (frame + 4 * len(_SCALARS))


class DeviceRolloutBuffer(DictRolloutBuffer):
    """SB3's `DictRolloutBuffer` with all tensors on `device`, allocated once.

    Observations may be tensors, which then never leave the device, or arrays. Each key keeps the dtype of its space, so
    features in half precision stay so. Mini-batches are equal to SB3's for the same seed of numpy.
    """

    def reset(self) -> None:
        """Empty the buffer without freeing its memory."""
        if not hasattr(self, "_frames"):
            lead = (self.buffer_size, self.n_envs)
            self._frames = {
                key: torch.zeros(
                    (*lead, *shape), dtype=torch_dtype(self.observation_space[key].dtype), device=self.device
                )
                for key, shape in self.obs_shape.items()
            }
            self._numbers = {name: torch.zeros(lead, device=self.device) for name in _SCALARS}
            if self.action_dim > 1:
                self._numbers["action"] = torch.zeros((*lead, self.action_dim), device=self.device)
        self.observations = {}
        self.generator_ready = False
        self.pos, self.full = 0, False

    def add(  # type: ignore[override]
        self,
        obs: dict[str, Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Append one step of all agents; arguments as SB3's."""
        for key, frames in self._frames.items():
            frames[self.pos].copy_(torch.as_tensor(obs[key]), non_blocking=True)
        row = {"action": action, "reward": reward, "episode_start": episode_start, "value": value, "log_prob": log_prob}
        for name, numbers in row.items():
            place = self._numbers[name][self.pos]
            place.copy_(torch.as_tensor(numbers, device=self.device).reshape(place.shape))
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[Any]) -> None:
        """SB3's generalised advantage estimate, on the device."""
        rewards, values, starts = (self._numbers[name] for name in ("reward", "value", "episode_start"))
        follows = 1.0 - torch.as_tensor(dones, dtype=torch.float32, device=self.device)
        value, running = last_values.detach().flatten().float(), torch.zeros(self.n_envs, device=self.device)
        for step in reversed(range(self.buffer_size)):
            delta = rewards[step] + self.gamma * value * follows - values[step]
            running = delta + self.gamma * self.gae_lambda * follows * running
            self._numbers["advantage"][step] = running
            follows, value = 1.0 - starts[step], values[step]
        torch.add(self._numbers["advantage"], values, out=self._numbers["return"])
        # SB3 computes the explained variance of these with numpy.
        self.values, self.returns = values.cpu().numpy(), self._numbers["return"].cpu().numpy()

    def contents(self) -> dict[str, Tensor]:
        """All that the rollout holds, by name: observations and numbers, (steps, agents, ...)."""
        return {**{f"observation {key}": frames for key, frames in self._frames.items()}, **self._numbers}

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Yield random mini-batches of the full rollout."""
        if not self.full:
            raise RuntimeError(f"the rollout holds {self.pos} of {self.buffer_size} steps; collect all before learning")
        total = self.buffer_size * self.n_envs
        order = torch.as_tensor(np.random.permutation(total), device=self.device)
        # SB3 counts all steps of the first agent, then of the second; rows here are all agents of the first step.
        rows = (order % self.buffer_size) * self.n_envs + order // self.buffer_size
        size = batch_size or total
        for start in range(0, total, size):
            yield self._get_samples(rows[start : start + size])

    def _get_samples(self, batch_inds: Any, env: VecNormalize | None = None) -> DictRolloutBufferSamples:  # type: ignore[override]
        def pick(tensor: Tensor) -> Tensor:
            # As `tensor[batch_inds]`, which copies whole frames twenty times as slowly on a CPU.
            return tensor.flatten(0, 1).index_select(0, batch_inds)

        return DictRolloutBufferSamples(
            observations={key: pick(frames) for key, frames in self._frames.items()},
            actions=pick(self._numbers["action"]).reshape(len(batch_inds), self.action_dim),
            old_values=pick(self._numbers["value"]),
            old_log_prob=pick(self._numbers["log_prob"]),
            advantages=pick(self._numbers["advantage"]),
            returns=pick(self._numbers["return"]),
        )


class AdvantagesOverRanks(DeviceRolloutBuffer):
    """Mini-batches whose advantages have mean 0 and deviation 1 over the mini-batches of all ranks together."""

    def get(self, batch_size: int | None = None) -> Iterator[Any]:  # type: ignore[override]
        """SB3's random mini-batches of `batch_size` samples of this rank."""
        for samples in super().get(batch_size):
            mean, deviation = distributed.moments(samples.advantages)
            yield samples._replace(advantages=(samples.advantages - mean) / (deviation + 1e-8))


class Timeouts(BaseCallback):
    """Value bootstrapping at time limits: adds the discounted value to the last reward, one batch per step.

    SB3 does the same one agent at a time (Pardo et al. 2018, arXiv 1712.00378; SB3 issue 633); the flag that asks it to
    is taken back here. Observations may be tensors on the policy's device.
    """

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        rows = [n for n, info in enumerate(infos) if info.get("TimeLimit.truncated")]
        if rows:
            lasts = [infos[n]["terminal_observation"] for n in rows]
            stacked = {
                key: torch.stack([torch.as_tensor(last[key]) for last in lasts]).to(self.model.device)
                for key in lasts[0]
            }
            policy: Any = self.model.policy
            memory: list[Any] = []
            if "lstm_states" in self.locals:  # of a recurrent policy, before these observations
                states = tuple(part[rows] for part in self.locals["lstm_states"].vf)
                memory = [states, torch.zeros(len(rows), device=self.model.device)]
            with torch.no_grad():
                values = policy.predict_values(stacked, *memory).flatten()
            self.locals["rewards"][rows] += self.model.gamma * values.float().cpu().numpy()  # type: ignore[attr-defined]
            for n in rows:
                infos[n]["TimeLimit.truncated"] = False
        return True
