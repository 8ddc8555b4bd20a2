"""Squashed Gaussian over velocities from stacked frames (``policy=squashed_gaussian``), for SAC.

Haarnoja et al. 2018, arXiv 1812.05905.
"""

from __future__ import annotations

from typing import cast

from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, MultiInputPolicy
from torch import Tensor, nn

from agents.policies.actor import gaussian_of
from agents.policies.actor_critic import OffPolicyActorCritic
from agents.policies.off_policy import LearnedParameters
from agents.policies.policy import policies


class _LearnedActor(LearnedParameters, Actor):
    """SB3's actor of SAC."""


@policies.register("squashed_gaussian")
class SquashedGaussianPolicy(OffPolicyActorCritic, MultiInputPolicy):
    """SB3's actor, critics and their target for SAC on `agents.policies.extractor.NavigationExtractor`."""

    actor_class = _LearnedActor

    def gaussian(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, 2, actions), see `agents.policies.actor.Actor.gaussian`."""
        spread = cast(nn.Linear, self.actor.log_std)(latent.float())
        return gaussian_of(self.actor.mu(latent.float()), spread.clamp(LOG_STD_MIN, LOG_STD_MAX))
