"""BN-only: the task owns scale, bias and running statistics of every normalisation layer, and nothing else.

The baseline "BN only" of TAPS and Residual Adapters. Group and layer normalisations have no statistics; of
them the task owns scale and bias, which goes beyond the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer
from adapt.core.method import methods
from configs.settings import OneOf


@dataclass(frozen=True)
class BNConfig(DeltaConfig):
    """Settings; `norm` as in `DeltaConfig`, where "frozen" would leave nothing to train."""

    norm: Annotated[str, OneOf("trained", "affine", "statistics")] = "trained"


@methods.register("bn")
class BN(DeltaMethod):
    """Every weight is the base's; every normalisation layer is the task's."""

    Config = BNConfig

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """No weight changes."""
        return None
