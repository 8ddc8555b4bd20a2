"""Epsilon-greedy policies on action values of stacked frames: what those of DQN and QR-DQN share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from adapt import Adapted
from agents.policies.extractor import NavigationExtractor
from agents.policies.policy import OwnState
from agents.policies.stack import FrameStack, StackConfig
from configs.settings import Range


@dataclass(frozen=True)
class EpsilonGreedyConfig(StackConfig):
    """Settings of a policy of action values on stacked frames.

    Attributes:
        epsilon: When it is evaluated, the share of random actions at temperature 1; a lower temperature lessens it.
    """

    epsilon: Annotated[float, Range(0, 1, above=True, below=True)] = 0.05


class EpsilonGreedyPolicy(OwnState, BasePolicy):
    """Mixin for SB3's value-based policies: takes the action of the largest value, or sometimes any.

    The online and the target network each have their own extractor, and their own copy of the frozen base: SB3 moves
    the target's parameters towards the online ones, and would shrink a shared one.
    """

    Config: ClassVar[type[EpsilonGreedyConfig]] = EpsilonGreedyConfig
    online: ClassVar[str]  # the attribute that holds the online network

    def __init__(
        self,
        *args: Any,
        adapted: Adapted | None,
        frames: int,
        hidden: tuple[int, ...],
        bfloat16: bool,
        epsilon: float,
        **kwargs: Any,
    ) -> None:
        """As SB3's policy; `adapted`, `frames`, `hidden` and `bfloat16` go to the extractors."""
        extractor = {"adapted": adapted, "frames": frames, "hidden": tuple(hidden), "bfloat16": bfloat16}
        kwargs.update(
            net_arch=[],
            normalize_images=False,
            features_extractor_class=NavigationExtractor,
            features_extractor_kwargs=extractor,
        )
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """The setting `frames`."""
        return int(settings["frames"])

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """The online network's extractor at the first call, the target's at the second."""
        made = super().make_features_extractor()
        self.features_extractor_kwargs = {
            **self.features_extractor_kwargs,
            "adapted": copy.deepcopy(self.features_extractor_kwargs["adapted"]),
        }
        return made

    @property
    def extractor(self) -> NavigationExtractor:
        """The online network's feature extractor."""
        return cast(NavigationExtractor, getattr(self, self.online).features_extractor)

    @property
    def adapted(self) -> Adapted | None:
        """Adapted features of the online network; None for a blind policy."""
        return self.extractor.adapted

    def actor(self) -> FrameStack:
        """A new frame stack."""
        return FrameStack(self)

    def values(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) values."""
        raise NotImplementedError

    def logits(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) log-probabilities of epsilon-greedy actions."""
        values = self.values(latent)
        rest = self.epsilon / values.shape[1]
        probabilities = torch.full_like(values, rest)
        return probabilities.scatter(1, values.argmax(1, keepdim=True), 1 - self.epsilon + rest).log()
