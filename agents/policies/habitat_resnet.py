"""The network of habitat-baselines' PointNav agents (``policy=habitat_resnet``), for comparisons.

Wijmans et al. 2020 (DD-PPO) and habitat-baselines' ``PointNavResNetPolicy``: RGB and depth, halved by average pooling,
through a ResNet-18 of half width with group normalisation, a 3x3 convolution to about 2,048 numbers and a fully
connected layer, beside a linear embedding of the goal; then an LSTM. Departs: images are scaled by fixed numbers (there
by running means and deviations), and the action before is not read. Nothing of it is frozen: RGB comes with
``adapt=scratch``, whose own network is not used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Adapted
from agents.policies.observations import DEPTH, GOAL, RGB
from agents.policies.policy import Units, policies
from agents.policies.recurrent import RecurrentConfig, RecurrentPolicy
from configs.settings import Range

GOAL_UNITS = 32
COMPRESSED = 2048


@dataclass(frozen=True)
class HabitatResNetConfig(RecurrentConfig):
    """Settings of the network of habitat-baselines.

    Attributes:
        hidden: Units of the fully connected layer after the ResNet.
        memory: Units of the LSTM.
        planes: Channels of the first of the four stages; each further one doubles them.
        bfloat16: Compute in bfloat16 (autocast); habitat-baselines does not.
    """

    hidden: tuple[Units, ...] = (512,)
    memory: Units = 512
    planes: Annotated[int, Range(2, 1024)] = 32
    bfloat16: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(len(self.hidden) == 1, "hidden", "one number")
        self.require(self.planes % 2 == 0, "planes", "even: it has half as many groups")


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016), with group normalisation."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.GroupNorm(groups, after),
        )
        same = stride == 1 and before == after
        projection = (nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(groups, after))
        self.shortcut = nn.Identity() if same else nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convs(x) + self.shortcut(x))


def resnet18(channels: int, planes: int) -> nn.Sequential:
    """A ResNet-18 without its head: (B, channels, H, W) to (B, 8 * planes, H/32, W/32), rounded up."""
    groups = planes // 2
    stem = (nn.Conv2d(channels, planes, 7, 2, 3, bias=False), nn.GroupNorm(groups, planes), nn.ReLU())
    layers: list[nn.Module] = [*stem, nn.MaxPool2d(3, 2, 1)]
    widths = [planes, *(planes * 2**stage for stage in range(4))]
    for stage, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [_Block(before, after, 1 if stage == 0 else 2, groups), _Block(after, after, 1, groups)]
    return nn.Sequential(*layers)


class HabitatExtractor(BaseFeaturesExtractor):
    """Single frames to the input of the LSTM: the visual features, then the goal's embedding."""

    adapted = None

    def __init__(self, observation_space: spaces.Dict, hidden: int, planes: int, bfloat16: bool) -> None:
        """Build for the pictures that the space has."""
        shapes = {key: observation_space[key].shape or () for key in (RGB, DEPTH) if key in observation_space.spaces}
        super().__init__(observation_space, GOAL_UNITS + (hidden if shapes else 0))
        self.keys, self.use_bfloat16 = tuple(shapes), bfloat16
        self.goal = nn.Linear(3, GOAL_UNITS)
        if shapes:
            channels = sum(shape[0] for shape in shapes.values())
            height, width = (math.ceil(side / 2 / 32) for side in next(iter(shapes.values()))[1:])
            compressed = round(COMPRESSED / (height * width))
            self.visual = nn.Sequential(
                resnet18(channels, planes),
                nn.Conv2d(8 * planes, compressed, 3, 1, 1, bias=False),
                nn.GroupNorm(1, compressed),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(compressed * height * width, hidden),
                nn.ReLU(),
            )
            for layer in self.visual.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nn.init.calculate_gain("relu"))
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """(B, ...) single frames to (B, features_dim) float32."""
        rho, phi = observations[GOAL].unbind(-1)
        goal = self.goal(torch.stack([rho, phi.cos(), phi.sin()], dim=1))
        if not self.keys:
            return cast(Tensor, goal)
        scaled = {key: observations[key].float() / (255 if key == RGB else 1) for key in self.keys}
        images = torch.cat([scaled[key] for key in self.keys], dim=1)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            seen = self.visual(F.avg_pool2d(images - 0.5, 2)).float()
        return torch.cat([seen, goal], dim=1)


@policies.register("habitat_resnet")
class HabitatResNetPolicy(RecurrentPolicy):
    """ResNet-18 and LSTM of habitat-baselines."""

    Config: ClassVar[type[HabitatResNetConfig]] = HabitatResNetConfig
    Cell = nn.LSTMCell

    def __init__(self, *args: Any, planes: int, **kwargs: Any) -> None:
        """As `RecurrentPolicy`, with the width of the ResNet."""
        self._planes = planes
        super().__init__(*args, **kwargs)

    def extractor_settings(self, adapted: Adapted | None, settings: RecurrentConfig) -> dict[str, Any]:
        """See `RecurrentPolicy.extractor_settings`."""
        arguments = {"hidden": settings.hidden[-1], "planes": self._planes, "bfloat16": settings.bfloat16}
        return {"features_extractor_class": HabitatExtractor, "features_extractor_kwargs": arguments}

    def frames(self, frames: Mapping[str, Tensor]) -> Tensor:
        """See `RecurrentPolicy.frames`."""
        return cast(Tensor, self.features_extractor(frames))
