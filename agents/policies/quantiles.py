"""Quantiles of every action's return from stacked frames (``policy=quantiles``), for QR-DQN (Dabney et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from sb3_contrib.qrdqn.policies import MultiInputPolicy
from torch import Tensor

from agents.policies.epsilon_greedy import EpsilonGreedyConfig, EpsilonGreedyPolicy
from agents.policies.policy import policies
from configs.settings import Range


@dataclass(frozen=True)
class QuantilesConfig(EpsilonGreedyConfig):
    """Settings of the policy of quantiles.

    Attributes:
        n_quantiles: How many for each action.
    """

    n_quantiles: Annotated[int, Range(1, 10_000)] = 50


@policies.register("quantiles")
class QuantilePolicy(EpsilonGreedyPolicy, MultiInputPolicy):
    """sb3-contrib's quantile network and its target on `agents.policies.extractor.NavigationExtractor`."""

    Config: ClassVar[type[QuantilesConfig]] = QuantilesConfig
    online = "quantile_net"

    def values(self, latent: Tensor) -> Tensor:
        """Means of the quantiles; see `EpsilonGreedyPolicy.values`."""
        quantiles: Tensor = self.quantile_net.quantile_net(latent.float())
        return quantiles.unflatten(1, (self.quantile_net.n_quantiles, -1)).mean(1)
