"""Epsilon-greedy policies on action values of stacked frames: what those of DQN and QR-DQN share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from torch import Tensor

from agents.policies.extractor import NavigationExtractor
from agents.policies.off_policy import OffPolicyPolicy
from agents.policies.stack import StackConfig
from configs.settings import Range


@dataclass(frozen=True)
class EpsilonGreedyConfig(StackConfig):
    """Settings of a policy of action values on stacked frames.

    Attributes:
        epsilon: When it is evaluated, the share of random actions at temperature 1; a lower temperature lessens it.
    """

    epsilon: Annotated[float, Range(0, 1, above=True, below=True)] = 0.05


class EpsilonGreedyPolicy(OffPolicyPolicy):
    """Mixin for SB3's value-based policies: takes the action of the largest value, or sometimes any."""

    Config: ClassVar[type[EpsilonGreedyConfig]] = EpsilonGreedyConfig
    online: ClassVar[str]  # the attribute that holds the online network

    def __init__(self, *args: Any, epsilon: float, **kwargs: Any) -> None:
        """As `OffPolicyPolicy`, with the share of random actions."""
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    @property
    def extractor(self) -> NavigationExtractor:
        """The online network's feature extractor."""
        return cast(NavigationExtractor, getattr(self, self.online).features_extractor)

    def values(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) values."""
        raise NotImplementedError

    def logits(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) log-probabilities of epsilon-greedy actions."""
        values = self.values(latent)
        rest = self.epsilon / values.shape[1]
        probabilities = torch.full_like(values, rest)
        return probabilities.scatter(1, values.argmax(1, keepdim=True), 1 - self.epsilon + rest).log()
