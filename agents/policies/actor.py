"""Actors: a policy with its memory for N agents, and sampling of actions from logits."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.policies.observations import Observations


class Actor(Protocol):
    """Acts for N agents, step by step; holds whatever of their past the policy needs.

    One is made for each run of N agents (`agents.policies.policy.Policy.actor`); rows stand for the same agents at
    every call. Where mirror images of all observations follow them, these are rows, with a memory, of their own.
    """

    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """Unnormalised log-probabilities of actions for the next frame of every agent; call it once per step.

        Args:
            observations: Single frames (`agents.policies.observations.PolicyObservations`), (N, ...).
            steps: (N,) each frame's place in its episode; at 0 an episode begins, and what was before is forgotten.

        Returns:
            (N, actions) float32.
        """


def tempered(logits: Tensor, temperature: float) -> NDArray[np.float32]:
    """Probabilities (N, A) float32 of `logits` (N, A) divided by a temperature."""
    return cast("NDArray[np.float32]", (logits / temperature).softmax(-1).cpu().numpy())


def sample_actions(probabilities: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
    """Actions (N,) int64 by inverse transform of `noise` (N,) uniform in [0, 1) through `probabilities` (N, A)."""
    cumulative = probabilities.cumsum(1)
    chosen = (noise[:, None] * cumulative[:, -1:] >= cumulative).sum(1)
    return np.minimum(chosen, probabilities.shape[1] - 1).astype(np.int64)
