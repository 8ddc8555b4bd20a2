"""Piggyback: one learned binary or ternary mask over the frozen weights (Mallya et al., ECCV 2018).

W_task = m * W elementwise with m = 1[r >= tau] (section 3), and the gradient goes straight through the
threshold: dL/dr = dL/dm = g * W. Masked are all convolutions and hidden linear layers; biases are the base's.
What is stored is one bit per weight (two if ternary), so a loaded task computes the same but has forgotten
how far each r was from its threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer, Norm
from adapt.core.method import methods
from adapt.modules.binary import pack_levels, straight_through, unpack_levels
from configs.settings import OneOf, Positive

MASKS = ("binary", "ternary")
INITS = ("constant", "uniform", "weights")
GRADIENTS = ("none", "average", "individual")


@dataclass(frozen=True)
class PiggybackConfig(DeltaConfig):
    """Settings.

    Attributes:
        mask: "binary", or "ternary": -1 where r < 0, 1 where r reaches tau, else 0 (released code).
        init: r at the start. "constant": `scale` everywhere, so that the task starts as the base;
            "uniform": in (-scale, scale); "weights": the layer's mean |W| (the last two from the code).
        scale: of the initial r.
        threshold: tau.
        strict: whether r must exceed tau, as in the released code; in the paper reaching it is enough.
        gradient: what dL/dr is divided by. "none": nothing, as published; "average": the layer's mean |W|;
            "individual": |W| elementwise.
    """

    norm: Norm = "frozen"
    mask: Annotated[str, OneOf(*MASKS)] = "binary"
    init: Annotated[str, OneOf(*INITS)] = "constant"
    scale: Positive = 1e-2
    threshold: Positive = 5e-3
    strict: bool = False
    gradient: Annotated[str, OneOf(*GRADIENTS)] = "none"


class Mask(Delta):
    """m * W with a real number r behind each entry of m."""

    def __init__(self, weight: Tensor, config: PiggybackConfig) -> None:
        super().__init__()
        self.config = config
        self.bits = MASKS.index(config.mask) + 1
        real = torch.full_like(weight, config.scale)
        if config.init == "uniform":
            real.uniform_(-config.scale, config.scale)
        elif config.init == "weights":
            real.fill_(weight.abs().mean().item())
        self.r = nn.Parameter(real)

    def mask(self) -> Tensor:
        """The mask, float of the weight's shape, without gradient."""
        r, tau = self.r.detach(), self.config.threshold
        mask = (r > tau if self.config.strict else r >= tau).to(r.dtype)
        return mask - (r < 0).to(r.dtype) if self.config.mask == "ternary" else mask

    def forward(self, weight: Tensor) -> Tensor:
        """Mask a weight of any shape."""
        if not torch.is_grad_enabled():
            return self.mask() * weight
        factor = None
        if self.config.gradient == "average":
            factor = 1 / weight.abs().mean()
        elif self.config.gradient == "individual":
            # Departs: 0 where W = 0; the code divides 0 by 0.
            factor = torch.where(weight == 0, 0, 1 / weight.abs())
        return straight_through(self.mask(), self.r, factor) * weight

    def pack(self) -> dict[str, Tensor]:
        """The mask: 1 bit per weight; ternary 2 bits, which hold m modulo 4."""
        return {"mask": pack_levels(self.mask().to(torch.int8) & 3, self.bits)}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore each score r on the side of its threshold that the stored mask gives."""
        levels = unpack_levels(tensors["mask"], self.bits, self.r.shape)
        values = torch.tensor([0.0, 2 * self.config.threshold, 0.0, -self.config.threshold])
        with torch.no_grad():
            self.r.copy_(values[levels.long()])


@methods.register("piggyback")
class Piggyback(DeltaMethod):
    """A mask over every convolution and linear layer; normalisation as the settings say."""

    Config = PiggybackConfig
    config: PiggybackConfig

    def measures(self, head: int) -> dict[str, float]:
        """`masked_share`, the share of all weights that the mask removes."""
        masks = [delta.mask() for delta in self.deltas.values() if isinstance(delta, Mask)]
        removed = sum(float((mask == 0).sum()) for mask in masks)
        return {"masked_share": removed / sum(mask.numel() for mask in masks)}

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """A mask of the layer's weight."""
        return Mask(layer.weight, self.config)
