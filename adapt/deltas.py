"""Weight-delta methods: public import path of `adapt.core.deltas` for methods of one's own."""

from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer

__all__ = ["Delta", "DeltaConfig", "DeltaMethod", "Layer"]
