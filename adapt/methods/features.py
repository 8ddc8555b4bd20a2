"""Frozen features: the base as it is, with nothing trained but the head outside."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.method import Method, MethodConfig, NotMergeable, methods
from adapt.modules.merges import group_normalise


@dataclass(frozen=True)
class FeaturesConfig(MethodConfig):
    """Settings.

    Attributes:
        normalise: standardise the features in 8 groups of channels before the readout, as Side-Tuning's code
            does (tlkit/models/sidetune_architecture.py).
    """

    normalise: bool = False


@methods.register("features")
class Features(Method):
    """y = base(x)."""

    Config = FeaturesConfig
    reads = frozenset({"features"})
    config: FeaturesConfig

    def __init__(self, base: Base, config: FeaturesConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        channels = base.feature_shape(image_size)[0]
        self.norm = group_normalise(channels) if config.normalise else nn.Identity()

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Return the base's features (B,C,h,w) or (B,C), standardised if so set."""
        output: Tensor = self.norm(features)
        return output

    def merge(self) -> Base:
        """The base's encoder, followed by the normalisation if there is one."""
        if self.base.black_box:
            raise NotMergeable("features of a black box are no network")
        encoder = copy.deepcopy(self.base.encoder)
        if not self.config.normalise:
            return Base(encoder, self.base.spec)
        return Base(nn.Sequential(encoder, self.norm), replace(self.base.spec, encoder="", kwargs={}))
