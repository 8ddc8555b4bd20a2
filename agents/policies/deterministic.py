"""One pair of velocities from stacked frames (``policy=deterministic``), for TD3 (Fujimoto et al. 2018)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.td3.policies import Actor, MultiInputPolicy
from torch import Tensor

from agents.policies.actor import gaussian_of
from agents.policies.extractor import NavigationExtractor
from agents.policies.off_policy import LearnedParameters, OffPolicyPolicy
from agents.policies.policy import policies
from agents.policies.squashed_gaussian import ActorCriticConfig, LearnedCritic


class _LearnedActor(LearnedParameters, Actor):
    """SB3's actor of TD3."""


@policies.register("deterministic")
class DeterministicPolicy(OffPolicyPolicy, MultiInputPolicy):
    """SB3's actor, critics and their targets for TD3 on `agents.policies.extractor.NavigationExtractor`."""

    Config: ClassVar[type[ActorCriticConfig]] = ActorCriticConfig

    def __init__(self, *args: Any, critic: tuple[int, ...], **kwargs: Any) -> None:
        """As `OffPolicyPolicy`, with the units of the critics' layers."""
        super().__init__(*args, net_arch={"pi": [], "qf": list(critic)}, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """A new actor."""
        return _LearnedActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """New critics."""
        return LearnedCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    @property
    def extractor(self) -> NavigationExtractor:
        """The actor's feature extractor."""
        return cast(NavigationExtractor, self.actor.features_extractor)

    def gaussian(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, 2, actions): before the hyperbolic tangent, without deviation."""
        mean = self.actor.mu[:-1](latent.float())
        return gaussian_of(mean, torch.full_like(mean, -math.inf))
