"""Deep Adaptation Networks: the task's filters are linear combinations of the base's (Rosenfeld and Tsotsos,
2017): W_task = A W per layer, with W's filters as the rows of a (out, rest) matrix and A (out, out) trained.

A starts as the identity, so that training starts at the base, or random. A bias is the task's own, from the
base's. The paper's controller switches between the base and a task: that is `disabled` and `activate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer
from adapt.core.method import methods
from configs.settings import OneOf


@dataclass(frozen=True)
class DANConfig(DeltaConfig):
    """Settings.

    Attributes:
        init: A at the start: "identity", or "random" (normal of variance 1 / out, which keeps the scale of
            the filters).
        layers: "all", "conv" or "linear".
    """

    init: Annotated[str, OneOf("identity", "random")] = "identity"
    layers: Annotated[str, OneOf("all", "conv", "linear")] = "all"


class Combination(Delta):
    """A W, and the task's bias.

    Departs: where the base has no bias there is none, because the normalisation that follows has one.
    """

    costly = True

    def __init__(self, layer: Layer, init: str) -> None:
        super().__init__()
        outputs = layer.weight.shape[0]
        eye = torch.eye(outputs)
        self.a = nn.Parameter(eye if init == "identity" else torch.randn_like(eye) / outputs**0.5)
        self.b = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Combine the filters of a weight (out, ...)."""
        return (self.a @ weight.flatten(1)).view_as(weight)

    def bias(self, bias: Tensor | None) -> Tensor | None:
        """The task's own bias (out,), if the base has one."""
        return self.b


@methods.register("dan")
class DAN(DeltaMethod):
    """A combination for every convolution and linear layer; by default with the task's own normalisation."""

    Config = DANConfig
    config: DANConfig

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """A combination where the settings ask for this kind of layer."""
        kind = "linear" if isinstance(layer, nn.Linear) else "conv"
        return Combination(layer, self.config.init) if self.config.layers in ("all", kind) else None
