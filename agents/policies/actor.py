"""Actors: a policy with its memory for N agents, and sampling of actions from their distributions."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.policies.observations import Observations

# Uniform numbers nearer to 0 or 1 would be drawn from a Gaussian's far tails.
LEAST_NOISE = 1e-9


class Actor(Protocol):
    """Acts for N agents, step by step; holds whatever of their past the policy needs.

    One is made for each run of N agents (`agents.policies.policy.Policy.new_actor`); rows stand for the same agents at
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

    def gaussian(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """Distribution of continuous actions for the next frame of every agent, in place of `logits`.

        Args:
            observations: As for `logits`.
            steps: As for `logits`.

        Returns:
            (N, 2, actions) float32, means and logarithms of standard deviations of a Gaussian.
        """


def tempered(logits: Tensor, temperature: float) -> NDArray[np.float32]:
    """Probabilities (N, A) float32 of `logits` (N, A) divided by a temperature."""
    return cast("NDArray[np.float32]", (logits / temperature).softmax(-1).cpu().numpy())


def sample_actions(probabilities: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
    """Actions (N,) int64 by inverse transform of `noise` (N,) uniform in [0, 1) through `probabilities` (N, A)."""
    cumulative = probabilities.cumsum(1)
    chosen = (noise[:, None] * cumulative[:, -1:] >= cumulative).sum(1)
    return np.minimum(chosen, probabilities.shape[1] - 1).astype(np.int64)


def gaussian_of(mean: Tensor, log_std: Tensor) -> Tensor:
    """Means (N, A) and log standard deviations (A,) or (N, A) as `Actor.gaussian` returns them."""
    return torch.stack([mean, log_std.expand_as(mean)], dim=1)


def sample_velocities(gaussian: Tensor, temperature: float, noise: NDArray[Any], squashed: bool) -> NDArray[np.float32]:
    """Continuous actions (N, A) float32 in [-1, 1] by inverse transform of noise.

    Args:
        gaussian: (N, 2, A), see `Actor.gaussian`.
        temperature: The density is raised to its inverse, as probabilities are by `tempered`; 0 takes the mean.
        noise: (N, A) uniform in [0, 1).
        squashed: Whether actions are the hyperbolic tangent of what is drawn (SAC, TD3); else they are clipped.
    """
    mean, log_std = gaussian.cpu().unbind(1)
    drawn = torch.special.ndtri(torch.as_tensor(noise, dtype=torch.float64).clamp(LEAST_NOISE, 1 - LEAST_NOISE))
    chosen = mean + math.sqrt(temperature) * log_std.exp() * drawn.float()
    return cast("NDArray[np.float32]", (chosen.tanh() if squashed else chosen.clamp(-1.0, 1.0)).numpy())
