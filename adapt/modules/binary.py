"""Straight-through estimators for hard decisions, and bit packing.

Masks (Piggyback, WTPB), layer indicators (TAPS) and channel switches (BA2) compute with 0 and 1 but train a
real number behind each of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, real: Tensor, factor: Tensor | None) -> Tensor:
        ctx.factor = factor
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        gradient = gradients[0] if ctx.factor is None else gradients[0] * ctx.factor
        return None, gradient, None


def straight_through(hard: Tensor, real: Tensor, factor: Tensor | None = None) -> Tensor:
    """The value of `hard` with the gradient going to `real` as if the two were the same.

    Args:
        hard: a decision computed from `real`, float, of its shape.
        real: what is trained.
        factor: multiplies the gradient if given; of a shape that broadcasts to it.

    Returns:
        `hard`, with d/d(real) = identity (times `factor`): no clipping, no sigmoid.
    """
    passed: Tensor = _StraightThrough.apply(hard, real, factor)
    return passed


def pack_levels(levels: Tensor, bits: int) -> Tensor:
    """Store small integers in `bits` bits each.

    Args:
        levels: any shape, bool or integers in [0, 2**bits).
        bits: 1 to 8.

    Returns:
        uint8 of length ceil(bits * levels.numel() / 8).
    """
    flat = levels.detach().cpu().to(torch.uint8).flatten().numpy()
    columns = (flat[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return torch.from_numpy(np.packbits(columns, bitorder="little"))


def unpack_levels(packed: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """The inverse of `pack_levels`.

    Args:
        packed: uint8, one-dimensional.
        bits: as when packed.
        shape: of the levels.

    Returns:
        uint8 of that shape, in [0, 2**bits), on the CPU.

    Raises:
        RuntimeError: the length does not fit the shape.
    """
    count = shape.numel()
    if packed.numel() != -(-bits * count // 8):
        raise RuntimeError(f"{packed.numel()} bytes cannot hold {count} values of {bits} bits")
    columns = np.unpackbits(packed.cpu().numpy(), count=bits * count, bitorder="little").reshape(count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return torch.from_numpy((columns * weights).sum(1, dtype=np.uint8)).view(shape)
