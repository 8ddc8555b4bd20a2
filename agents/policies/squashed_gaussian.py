"""Squashed Gaussian over velocities from stacked frames (``policy=squashed_gaussian``), for SAC.

Haarnoja et al. 2018, arXiv 1812.05905.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, MultiInputPolicy
from torch import Tensor, nn

from agents.policies.actor import gaussian_of
from agents.policies.extractor import NavigationExtractor
from agents.policies.off_policy import LearnedParameters, OffPolicyPolicy
from agents.policies.policy import Units, policies
from agents.policies.stack import StackConfig
from configs.settings import NotEmpty


@dataclass(frozen=True)
class ActorCriticConfig(StackConfig):
    """Settings of a policy of continuous actions on stacked frames, with critics of state and action.

    Attributes:
        critic: Units of the critics' layers on features and action.
    """

    critic: Annotated[tuple[Units, ...], NotEmpty()] = (256,)


class LearnedCritic(LearnedParameters, ContinuousCritic):
    """SB3's critics of state and action."""


class _LearnedActor(LearnedParameters, Actor):
    """SB3's actor of SAC."""


@policies.register("squashed_gaussian")
class SquashedGaussianPolicy(OffPolicyPolicy, MultiInputPolicy):
    """SB3's actor, critics and their target for SAC on `agents.policies.extractor.NavigationExtractor`."""

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
        """(B, features_dim) extractor output to (B, 2, actions), see `agents.policies.actor.Actor.gaussian`."""
        spread = cast(nn.Linear, self.actor.log_std)(latent.float())
        return gaussian_of(self.actor.mu(latent.float()), spread.clamp(LOG_STD_MIN, LOG_STD_MAX))
