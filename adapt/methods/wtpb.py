"""Weight transformations with binary masks (Mancini et al., "Adding new tasks to a single network with weight
transformations using binary masks", 2018): W_task = k0 W + k1 1 + k2 M + k3 (W * M).

M = 1[r > 0] is a learned binary mask per weight, k0..k3 are scalars per layer. k0 = 1 is fixed and the others
start at 0, so that training starts at the base; k = (0, 0, 0, 1) with nothing learned is Piggyback. What is
stored is one bit per weight and the learned scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer
from adapt.core.method import methods
from adapt.modules.binary import pack_levels, straight_through, unpack_levels

LOW, HIGH = 1e-5, 2e-5


@dataclass(frozen=True)
class WTPBConfig(DeltaConfig):
    """Settings.

    Attributes:
        k: initial k0, k1, k2, k3.
        learned: which of them are trained.
    """

    k: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    learned: tuple[bool, bool, bool, bool] = (False, True, True, True)


class Transformed(Delta):
    """k0 W + k1 + k2 M + k3 W M; the mask starts full, with r uniform in (1e-5, 2e-5)."""

    k0: Tensor
    k1: Tensor
    k2: Tensor
    k3: Tensor

    def __init__(self, weight: Tensor, config: WTPBConfig) -> None:
        super().__init__()
        self.r = nn.Parameter(torch.empty_like(weight).uniform_(LOW, HIGH))
        self.learned = [i for i, learned in enumerate(config.learned) if learned]
        for i, (value, learned) in enumerate(zip(config.k, config.learned, strict=True)):
            if learned:
                self.register_parameter(f"k{i}", nn.Parameter(torch.tensor(value)))
            else:
                self.register_buffer(f"k{i}", torch.tensor(value), persistent=False)

    def mask(self) -> Tensor:
        """The mask, float of the weight's shape, without gradient."""
        return (self.r.detach() > 0).to(self.r.dtype)

    def forward(self, weight: Tensor) -> Tensor:
        """Transform a weight of any shape; dL/dr = g * (k2 + k3 W)."""
        mask = straight_through(self.mask(), self.r)
        return self.k0 * weight + self.k1 + mask * (self.k2 + self.k3 * weight)

    def pack(self) -> dict[str, Tensor]:
        """The mask, 1 bit per weight, and the learned scalars in one tensor."""
        packed = {"mask": pack_levels(self.mask(), 1)}
        if self.learned:
            packed["k"] = torch.stack([getattr(self, f"k{i}").detach() for i in self.learned])
        return packed

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore each score r with the sign that the stored mask gives and its initial magnitude."""
        levels = unpack_levels(tensors["mask"], 1, self.r.shape)
        with torch.no_grad():
            self.r.copy_(torch.where(levels.bool(), HIGH, -HIGH))
            if self.learned:
                for i, value in zip(self.learned, tensors["k"], strict=True):
                    getattr(self, f"k{i}").copy_(value)


@methods.register("wtpb")
class WTPB(DeltaMethod):
    """A transformation of every convolution and linear layer; by default with the task's own normalisation.

    Departs: hidden linear layers are transformed too, so that networks without convolutions can be.
    """

    Config = WTPBConfig
    config: WTPBConfig

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """The transformation of the layer's weight."""
        return Transformed(layer.weight, self.config)
