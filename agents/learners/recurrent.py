"""sb3-contrib's RecurrentPPO for policies with a memory cell of any kind, on sequences of equal length.

A rollout is cut into sequences of consecutive steps. Each is learned from as a whole, from the memory's state that the
rollout had at its first step (stored state, Kapturowski et al. 2019); gradients flow through the sequence, and the
state is zero where an episode begins. Nothing is padded, unlike in sb3-contrib's own buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RecurrentDictRolloutBufferSamples, RNNStates
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from agents.learners.rollout import AdvantagesOverRanks, DeviceRolloutBuffer
from agents.policies.recurrent import RecurrentPolicy, State


class SequenceBuffer(DeviceRolloutBuffer):
    """A rollout on the learner's device, drawn in sequences of `sequence` steps of one agent."""

    def __init__(self, *args: Any, sequence: int, **kwargs: Any) -> None:
        """As SB3's `DictRolloutBuffer`; `sequence` divides its number of steps."""
        self.sequence = sequence
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget the rollout; memory is kept."""
        super().reset()
        self._states: list[State] = []

    def add(self, *args: Any, lstm_states: RNNStates, **kwargs: Any) -> None:  # type: ignore[override]
        """Append one step of all agents; `lstm_states` is the memory's state before it."""
        if self.pos % self.sequence == 0:
            self._states.append(tuple(part.clone() for part in lstm_states.pi))
        super().add(*args, **kwargs)

    def get(self, batch_size: int | None = None) -> Iterator[RecurrentDictRolloutBufferSamples]:  # type: ignore[override]
        """Yield all sequences in random order, in batches of `batch_size` steps; rows are sequence by sequence."""
        if not self.full:
            raise RuntimeError(f"the rollout holds {self.pos} of {self.buffer_size} steps; collect all before learning")
        starts = tuple(torch.stack(parts).flatten(0, 1) for parts in zip(*self._states, strict=True))
        count = len(starts[0])
        order = torch.as_tensor(np.random.permutation(count), device=self.device)
        size = max(1, (batch_size or count * self.sequence) // self.sequence)
        ahead = torch.arange(self.sequence, device=self.device)
        for chosen in order.split(size):
            first = chosen // self.n_envs * self.sequence
            rows = (first[:, None] + ahead) * self.n_envs + (chosen % self.n_envs)[:, None]
            state = tuple(part[chosen] for part in starts)
            yield self._sequences(rows.flatten(), RNNStates(state, state))

    def _sequences(self, rows: Tensor, states: RNNStates) -> RecurrentDictRolloutBufferSamples:
        steps = self._get_samples(rows)
        return RecurrentDictRolloutBufferSamples(
            **steps._asdict(),
            lstm_states=states,
            episode_starts=self._numbers["episode_start"].flatten()[rows],
            mask=torch.ones(len(rows), device=self.device),
        )


# RecurrentPPO asks for its own kind of buffer.
RecurrentDictRolloutBuffer.register(SequenceBuffer)


class SequencesOverRanks(AdvantagesOverRanks, SequenceBuffer):
    """Sequences whose advantages are normalised over the mini-batches of all ranks together."""


class MemoryPPO(RecurrentPPO):
    """sb3-contrib's RecurrentPPO whose policy is a `agents.policies.recurrent.RecurrentPolicy`."""

    policy: RecurrentPolicy

    def __init__(self, *args: Any, rollout_buffer_class: type[SequenceBuffer], sequence: int, **kwargs: Any) -> None:
        """As SB3's PPO; `sequence` is the number of steps through which gradients flow."""
        kwargs["_init_setup_model"] = False
        super().__init__(*args, **kwargs)
        self.rollout_buffer_class = rollout_buffer_class
        self.rollout_buffer_kwargs = {"sequence": sequence}
        self._setup_model()

    def _setup_model(self) -> None:
        OnPolicyAlgorithm._setup_model(self)
        self._last_lstm_states: Any = self.policy.empty_states(self.n_envs)
        self.clip_range, self.clip_range_vf = _constant(self.clip_range), _constant(self.clip_range_vf)


def _constant(value: Any) -> Any:
    """A number as SB3's schedule of numbers; None stays."""
    return None if value is None else lambda left: value


def sequence_of(steps: int, rollout: int, batch_size: int) -> int:
    """Steps of a sequence: `steps`, or a whole rollout if that is shorter.

    Raises:
        ValueError: It does not divide the rollout and the batch.
    """
    sequence = min(steps, rollout)
    for name, total in (("algo.rollout", rollout), ("algo.learner.batch_size", batch_size)):
        if total % sequence:
            raise ValueError(f"{name}={total} must be a multiple of algo.sequence={sequence} for a recurrent policy")
    return sequence
