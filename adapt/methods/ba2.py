"""Budget-aware adapters: a binary switch on each input channel of each layer (Berriel et al., ICCV 2019).

y_k = sum_c s_c K_kc * x_c with s = 1[r > 0]. The share of switches that are on is held at or below `budget`
by a Lagrange multiplier: the penalty is multiplier * (mean(s) - budget), the multiplier rises while the share
is above the budget, falls while it is below, and never becomes negative. What is stored is one bit per
channel and the task's normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from adapt.core.base import Base
from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer
from adapt.core.method import Method, methods
from adapt.modules.binary import pack_levels, straight_through, unpack_levels
from configs.settings import Positive, Range


@dataclass(frozen=True)
class BA2Config(DeltaConfig):
    """Settings.

    Attributes:
        budget: largest share of channels, over all layers, that stay on; the paper's are 1, .75, .5, .25.
        multiplier_rate: how much the multiplier rises per step and unit of excess.
            Departs: the paper's update is not known; this is plain dual ascent.
    """

    budget: Annotated[float, Range(0, 1, above=True)] = 0.75
    multiplier_rate: Positive = 0.1


class Switches(Delta):
    """One switch per input channel of a layer, r = 1 (on) at the start."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.groups = layer.groups if isinstance(layer, _ConvNd) else 1
        self.r = nn.Parameter(torch.ones(self.groups * layer.weight.shape[1]))

    def switches(self) -> Tensor:
        """The switches, float (input channels,), with the gradient going straight to r."""
        return straight_through((self.r.detach() > 0).to(self.r.dtype), self.r)

    def forward(self, weight: Tensor) -> Tensor:
        """Switch off input channels of a weight (out, in / groups, ...)."""
        rows = weight.shape[0] // self.groups
        table = self.switches().view(self.groups, -1).repeat_interleave(rows, 0)
        return weight * table.view(*table.shape, *[1] * (weight.ndim - 2))

    def pack(self) -> dict[str, Tensor]:
        """One bit per channel."""
        return {"switches": pack_levels(self.r > 0, 1)}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Set r to 1 where the switch is on, else to -1."""
        levels = unpack_levels(tensors["switches"], 1, self.r.shape)
        with torch.no_grad():
            self.r.copy_(2.0 * levels - 1)


@methods.register("ba2")
class BA2(DeltaMethod):
    """Switches on every convolution and linear layer, under one budget.

    Departs: hidden linear layers have switches too, so that networks without convolutions can be adapted.

    Attributes:
        multiplier: the Lagrange multiplier of the budget, at least 0.
    """

    Config = BA2Config
    config: BA2Config
    multiplier: Tensor

    def __init__(self, base: Base, config: BA2Config, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self.register_buffer("multiplier", torch.zeros(()))

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """The layer's switches."""
        return Switches(layer)

    def share(self) -> Tensor:
        """The share of channels that are on, a scalar in [0, 1] whose gradient goes to the switches."""
        return torch.cat([d.switches() for d in self.deltas.values() if isinstance(d, Switches)]).mean()

    def penalty(self) -> Tensor:
        """The Lagrangian's second term, multiplier * (share - budget)."""
        return self.multiplier.clone() * (self.share() - self.config.budget)

    def advance(self, samples: int) -> None:
        """Count samples and move the multiplier."""
        super().advance(samples)
        with torch.no_grad():
            excess = self.share() - self.config.budget
            self.multiplier.add_(self.config.multiplier_rate * excess).clamp_(min=0)
