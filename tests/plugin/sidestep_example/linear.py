"""The smallest policy: a linear layer on the goal and the mean of the adapted features of the newest frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from adapt import Adapted
from agents.policies.observations import FEATURES, GOAL, RGB, Observations
from agents.policies.policy import OwnState
from configs.settings import Range, Settings


@dataclass(frozen=True)
class LinearConfig(Settings):
    """The linear policy.

    Attributes:
        scale: Metres that count as 1.
    """

    scale: Annotated[float, Range(0, above=True)] = 5.0


class Features(BaseFeaturesExtractor):
    """Distance, cosine and sine of the goal, and the means of the features' channels."""

    def __init__(self, space: spaces.Dict, adapted: Adapted | None, scale: float) -> None:
        super().__init__(space, 3 + (adapted.output_shape[0] if adapted is not None else 0))
        self.adapted, self.scale = adapted, scale

    def forward(self, frames: Mapping[str, Tensor]) -> Tensor:
        """Frames (N, ...) to (N, features_dim)."""
        distance, angle = frames[GOAL].float().unbind(-1)
        parts = [torch.stack([distance / self.scale, angle.cos(), angle.sin()], -1)]
        if self.adapted is not None:
            image, features = frames.get(RGB), frames.get(FEATURES)
            seen = self.adapted(
                # SB3 makes floats of bytes here and there.
                image=None if image is None else image.to(torch.uint8),
                features=None if features is None else features.float(),
            )
            parts.append(seen.flatten(2).mean(2) if seen.ndim > 2 else seen)
        return torch.cat(parts, 1)


class LinearPolicy(OwnState, MultiInputActorCriticPolicy):
    """SB3's actor-critic on `Features`."""

    Config: ClassVar[type[LinearConfig]] = LinearConfig
    context = 0  # a decision depends on no earlier frame

    def __init__(self, *args: Any, adapted: Adapted | None, scale: float, **kwargs: Any) -> None:
        kwargs.update(net_arch=[], normalize_images=False, features_extractor_class=Features)
        kwargs["features_extractor_kwargs"] = {"adapted": adapted, "scale": scale}
        super().__init__(*args, **kwargs)

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """The newest frame alone."""
        return 1

    @property
    def adapted(self) -> Adapted | None:
        """What the policy sees through."""
        return self.features_extractor.adapted

    def logits(self, frames: Mapping[str, Any]) -> Tensor:
        """(N, actions) of single frames (N, ...)."""
        tensors = {key: torch.as_tensor(value, device=self.device) for key, value in frames.items()}
        return self.action_net(self.features_extractor(tensors))

    def new_actor(self) -> LinearActor:
        """Nothing is remembered."""
        return LinearActor(self)

    def window_logits(self, batch: Mapping[str, NDArray[Any]], window: int) -> Tensor:
        """See `agents.policies.policy.SequencePolicy`: every frame of the window by itself."""
        frames = {key: value.reshape(-1, *value.shape[2:]) for key, value in batch.items()}
        return self.logits(frames)


class LinearActor:
    """Acts with the policy; see `agents.policies.actor.Actor`."""

    def __init__(self, policy: LinearPolicy) -> None:
        self.policy = policy

    @torch.no_grad()
    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """The policy's logits."""
        self.policy.set_training_mode(False)
        return self.policy.logits(observations).float()
