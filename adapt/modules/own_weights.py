"""Base class of methods that train a copy of the base's weights.

To add such a method, write in `adapt/methods/<name>.py` a settings class and a subclass of `OwnWeights`. Its
`encoder` is an ordinary network that may be trained, pruned, or multiplied as the method asks: override
`forward`, `penalty`, `begin_task`, `end_task`, `advance`, `pack` where it departs from plain training.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import require_network
from adapt.core.method import Method, MethodConfig


class OwnWeights(Method):
    """A trainable copy of the base's encoder: uint8 images to features, the base is not run.

    Attributes:
        encoder: the copy, initialised by `initial`.
    """

    def __init__(self, base: Base, config: MethodConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self.encoder = self.initial(require_network(base, self.name())).requires_grad_()
        self.train()

    @property
    def needs_base(self) -> bool:
        """False: the copy is complete."""
        return False

    def initial(self, network: nn.Module) -> nn.Module:
        """The network to start from, given the base's; by default its copy."""
        return copy.deepcopy(network)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the task's own encoder on uint8 images (B,3,H,W)."""
        assert image is not None
        output: Tensor = self.encoder(self.base.normalise(image))
        return output

    def merge(self) -> Base:
        """The task's own encoder as a plain frozen network."""
        task = f"{self.base.spec.task} {self.name()}".strip()
        return Base(copy.deepcopy(self.encoder), replace(self.base.spec, task=task))
