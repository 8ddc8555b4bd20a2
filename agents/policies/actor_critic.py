"""Base of actor-critic policies of continuous actions learned from a replay buffer, as SAC and TD3 train them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from agents.policies.extractor import NavigationExtractor
from agents.policies.off_policy import LearnedParameters, OffPolicyPolicy
from agents.policies.policy import Units
from agents.policies.stack import StackConfig
from configs.settings import NotEmpty


@dataclass(frozen=True)
class ActorCriticConfig(StackConfig):
    """Settings of a policy of continuous actions on stacked frames, with critics of state and action.

    Attributes:
        critic: Units of the critics' layers on features and action.
    """

    critic: Annotated[tuple[Units, ...], NotEmpty()] = (256,)


class _LearnedCritic(LearnedParameters, ContinuousCritic):
    """SB3's critics of state and action."""


class OffPolicyActorCritic(OffPolicyPolicy):
    """Mixin for SB3's policies of SAC and TD3 on stacked frames through `NavigationExtractor`.

    Attributes:
        actor_class: Class of the acting network.
    """

    Config: ClassVar[type[ActorCriticConfig]] = ActorCriticConfig
    actor_class: ClassVar[type[BasePolicy]]
    # What SB3's classes set, which come after this one.
    actor: Any
    actor_kwargs: dict[str, Any]
    critic_kwargs: dict[str, Any]

    def __init__(self, *args: Any, critic: tuple[int, ...], **kwargs: Any) -> None:
        """As `OffPolicyPolicy`, with the units of the critics' layers."""
        super().__init__(*args, net_arch={"pi": [], "qf": list(critic)}, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """A new acting network."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return self.actor_class(**arguments).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """New critics."""
        return _LearnedCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    @property
    def extractor(self) -> NavigationExtractor:
        """The acting network's feature extractor."""
        return cast(NavigationExtractor, self.actor.features_extractor)
