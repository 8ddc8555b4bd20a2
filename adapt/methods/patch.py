"""Model patches: a small part of the network is the task's own (Mudrakarta et al., "K for the price of 1",
ICLR 2019).

- scale and bias: the batch norms' scale, bias and statistics, `norm="trained"`; only re-estimated statistics
  is `norm="statistics"`; without this patch, `norm="frozen"`, the base's are used as they are.
- `depthwise`: all depthwise kernels.
- `last_layer`: the encoder's own last layer too. The paper's last layer is the classifier, the head outside, which is
  trained; `training.readout=fixed` leaves it at its random start, for which scale and bias must then make up.

With `joint` all tasks train all other weights together, each with its patch private (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import Delta, DeltaConfig, Layer, is_depthwise, norm_layers, require_network, weighted_layers
from adapt.core.method import Incompatible, Method, methods
from adapt.modules.joint import JointDeltaMethod
from configs.settings import OneOf


@dataclass(frozen=True)
class PatchConfig(DeltaConfig):
    """Settings.

    Attributes:
        norm: the scale-and-bias patch: "trained", "affine" (the base's statistics), "statistics", "frozen".
        depthwise: whether the depthwise kernels are the task's own.
        last_layer: the encoder's last layer: "base" or "trained".
        joint: whether all else is trained by all tasks together.
    """

    retired: ClassVar[Mapping[str, Any]] = {"seed": 0}

    depthwise: bool = False
    last_layer: Annotated[str, OneOf("base", "trained")] = "base"
    joint: bool = False


class Replacement(Delta):
    """A weight and bias of the task's own, that start as the base's."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.w = nn.Parameter(layer.weight.detach().clone())
        self.b = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        """The task's weight, of the shape of the frozen one, which is not used."""
        return self.w

    def bias(self, bias: Tensor | None) -> Tensor | None:
        """The task's bias, if the layer has one."""
        return self.b


@methods.register("patch")
class ModelPatch(JointDeltaMethod):
    """The base with the task's own patch, by default scales and biases."""

    Config = PatchConfig
    config: PatchConfig

    def __init__(self, base: Base, config: PatchConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        layers = weighted_layers(require_network(base, self.name()))
        self._depthwise = [name for name, layer in layers.items() if is_depthwise(layer)]
        if not layers:
            raise Incompatible("a patch needs convolutions or linear layers, and this base has none")
        self._last = list(layers)[-1]
        if config.depthwise and not self._depthwise:
            raise Incompatible("a depthwise patch needs depthwise convolutions, and this base has none")
        if config.norm != "frozen" and not norm_layers(base.encoder):
            raise Incompatible("a scale-and-bias patch needs normalisation layers, and this base has none")
        super().__init__(base, config, image_size, earlier)
        if config.joint:
            replaced = [f"{key.replace('/', '.')}.{leaf}" for key in self.deltas for leaf in ("weight", "bias")]
            self.join(earlier, [*self.norm_tensors(), *replaced])

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """The task's own layer, if a patch is there."""
        last = name == self._last and self.config.last_layer == "trained"
        own = last or (self.config.depthwise and name in self._depthwise)
        return Replacement(layer) if own else None
