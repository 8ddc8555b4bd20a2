"""BitFit (Ben Zaken et al. 2022): the task owns the bias of every layer, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer


@dataclass(frozen=True)
class BitFitConfig(DeltaConfig):
    """BitFit.

    Attributes:
        add: Give layers that have no bias one of zeros.
    """

    add: bool = False


class OwnBias(Delta):
    """A bias beside the frozen weight."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        zeros = torch.zeros(layer.weight.shape[0])
        self.own = nn.Parameter(zeros if layer.bias is None else layer.bias.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight is the base's."""
        return weight

    def bias(self, bias: Tensor | None) -> Tensor:
        """The bias is the task's."""
        return self.own


class BitFit(DeltaMethod):
    """The base's weights with the task's biases."""

    Config = BitFitConfig
    config: BitFitConfig

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """A bias for every layer that has one, or for all."""
        return OwnBias(layer) if layer.bias is not None or self.config.add else None
