"""LoRA: a low-rank update of every convolution and linear layer (Hu et al., 2022, eq. 3).

A convolution's kernel (out, in, k, k) is taken as the matrix (out, in*k*k), so the update is one k x k
convolution to `rank` channels followed by one 1x1 convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer, Norm
from adapt.core.method import methods
from configs.settings import Count, OneOf


@dataclass(frozen=True)
class LoRAConfig(DeltaConfig):
    """Settings.

    Attributes:
        rank: inner size of the factors of each update, also of layers with a smaller side, as in PEFT.
        alpha: the update is scaled by alpha / rank.
        layers: "all", "conv" or "linear".
    """

    norm: Norm = "frozen"
    rank: Count = 8
    alpha: float = 16.0
    layers: Annotated[str, OneOf("all", "conv", "linear")] = "all"


class LowRank(Delta):
    """W + (alpha / rank) B A, with A random and B zero, so that training starts from the base."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape[0], weight[0].numel()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the low-rank update to a weight (out, in, ...)."""
        return weight + (self.scale * (self.b @ self.a)).view_as(weight)


@methods.register("lora")
class LoRA(DeltaMethod):
    """Low-rank updates of all convolutions and linear layers, or of one kind."""

    Config = LoRAConfig
    config: LoRAConfig

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """A low-rank update where the settings ask for this kind of layer."""
        kind = "linear" if isinstance(layer, nn.Linear) else "conv"
        if self.config.layers not in ("all", kind):
            return None
        return LowRank(layer.weight, self.config.rank, self.config.alpha)
