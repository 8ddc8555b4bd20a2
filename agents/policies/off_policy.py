"""Base of policies learned from a replay buffer: several networks, each with a feature extractor of its own.

SB3 moves the parameters of target networks towards the online ones and would shrink shared ones, so that each network
also has its own copy of the frozen base.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from adapt import Adapted
from agents.policies.extractor import NavigationExtractor
from agents.policies.policy import OwnState
from agents.policies.stack import FrameStack


class OffPolicyPolicy(OwnState, BasePolicy):
    """Mixin for SB3's off-policy policies on stacked frames through `NavigationExtractor`."""

    def __init__(
        self,
        *args: Any,
        adapted: Adapted | None,
        frames: int,
        hidden: tuple[int, ...],
        bfloat16: bool,
        net_arch: Any = (),
        **kwargs: Any,
    ) -> None:
        """As SB3's policy; `adapted`, `frames`, `hidden` and `bfloat16` go to the extractors."""
        extractor = {"adapted": adapted, "frames": frames, "hidden": tuple(hidden), "bfloat16": bfloat16}
        kwargs.update(
            net_arch=net_arch or [],
            normalize_images=False,
            features_extractor_class=NavigationExtractor,
            features_extractor_kwargs=extractor,
        )
        super().__init__(*args, **kwargs)

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """The setting `frames`."""
        return int(settings["frames"])

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """The acting network's extractor at the first call, those of the others at later ones."""
        made = super().make_features_extractor()
        self.features_extractor_kwargs = {
            **self.features_extractor_kwargs,
            "adapted": copy.deepcopy(self.features_extractor_kwargs["adapted"]),
        }
        return made

    @property
    def extractor(self) -> NavigationExtractor:
        """The acting network's feature extractor."""
        raise NotImplementedError

    @property
    def adapted(self) -> Adapted | None:
        """Adapted features of the acting network; None for a blind policy."""
        return self.extractor.adapted

    def new_actor(self) -> FrameStack:
        """A new frame stack."""
        return FrameStack(self)


class LearnedParameters(nn.Module):
    """Mixin for a network of which optimisers, and averages of targets, see only what is learned."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The parameters that training may change; not those of a frozen base."""
        return (parameter for parameter in super().parameters(recurse) if parameter.requires_grad)
