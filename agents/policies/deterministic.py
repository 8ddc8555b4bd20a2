"""One pair of velocities from stacked frames (``policy=deterministic``), for TD3 (Fujimoto et al. 2018)."""

from __future__ import annotations

import math

import torch
from stable_baselines3.td3.policies import Actor, MultiInputPolicy
from torch import Tensor

from agents.policies.actor import gaussian_of
from agents.policies.actor_critic import OffPolicyActorCritic
from agents.policies.off_policy import LearnedParameters
from agents.policies.policy import policies


class _LearnedActor(LearnedParameters, Actor):
    """SB3's actor of TD3."""


@policies.register("deterministic")
class DeterministicPolicy(OffPolicyActorCritic, MultiInputPolicy):
    """SB3's actor, critics and their targets for TD3 on `agents.policies.extractor.NavigationExtractor`."""

    actor_class = _LearnedActor

    def gaussian(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, 2, actions): before the hyperbolic tangent, without deviation."""
        mean = self.actor.mu[:-1](latent.float())
        return gaussian_of(mean, torch.full_like(mean, -math.inf))
