"""Fusion of the features of base and side network (Side-Tuning section 3.1; code
tlkit/models/merge_operators.py).

Every merge is a module `merge(base, side)` of two tensors of the same shape, maps (B,C,h,w) or vectors (B,C).
`adapter` makes the small network that the MLP merges and progressive networks put on a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adapt.core.method import Incompatible

MERGES = ("alpha", "product", "sum", "mlp", "mlp2", "resmlp2", "film", "concat", "side")
GROUPS = 8


def group_normalise(channels: int) -> nn.Module:
    """Standardise in 8 groups of channels without parameters; for 8-channel maps that is per channel.

    Takes maps (B,C,h,w) and vectors (B,C), of which each group of C/8 entries is standardised.

    Raises:
        Incompatible: the number of channels is not a multiple of 8.
    """
    if channels % GROUPS:
        raise Incompatible(f"normalise forms {GROUPS} groups, into which {channels} channels do not divide")
    return nn.GroupNorm(GROUPS, channels, affine=False)


class Scale(nn.Module):
    """A learned scalar factor that starts at 0.9, as in the released adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.9]))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the factor."""
        return x * self.scale


def map_adapter(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """Adapter of a map: scale, convolution, GroupNorm(2), ReLU, 1x1 convolution; 145 parameters for 8."""
    return nn.Sequential(
        Scale(),
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.GroupNorm(2, outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1, bias=False),
    )


def vector_adapter(channels: int) -> nn.Sequential:
    """Adapter of a vector: linear, batch norm, ReLU, linear; 8,448 parameters for 64."""
    return nn.Sequential(
        nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Linear(channels, channels)
    )


def adapter(shape: tuple[int, ...]) -> nn.Sequential:
    """The adapter of features of this shape per image, (C,h,w) or (C,), to as many channels."""
    return map_adapter(shape[0], shape[0]) if len(shape) == 3 else vector_adapter(shape[0])


def blend(share: Tensor, base: Tensor, side: Tensor) -> Tensor:
    """Compute share * base + (1 - share) * side for two tensors of one shape."""
    return share * base + (1 - share) * side


def weighted_sum(alphas: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Sum of tensors of one shape with weights that sum to 1, the softmax of `alphas` (n,)."""
    return torch.stack([a * t for a, t in zip(alphas.softmax(0), tensors, strict=True)]).sum(0)


class Alpha(nn.Module):
    """alpha base + (1 - alpha) side with alpha = sigmoid(alphas), the base's share.

    Args:
        alpha: the initial share of the base, in (0,1).
        learned: whether training changes it.
    """

    def __init__(self, alpha: float, learned: bool) -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.tensor(math.log(alpha / (1 - alpha))), requires_grad=learned)

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Blend two tensors of one shape."""
        return blend(self.share(), base, side)

    def share(self) -> Tensor:
        """The base's share, a scalar in (0,1)."""
        return torch.sigmoid(self.alphas)


class DenseAlpha(nn.Module):
    """Base, sides of earlier tasks and side, weighted by a learned softmax that starts even.

    Args:
        earlier: number of earlier sides.
    """

    def __init__(self, earlier: int) -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.zeros(earlier + 2))

    def forward(self, base: Tensor, side: Tensor, earlier: Sequence[Tensor] = ()) -> Tensor:
        """Blend tensors of one shape."""
        return weighted_sum(self.alphas, (base, *earlier, side))

    def share(self) -> Tensor:
        """The base's share, a scalar in (0,1)."""
        return self.alphas.softmax(0)[0]


_PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "product": torch.mul,
    "sum": torch.add,
    "concat": lambda base, side: torch.cat([base, side], 1),
    "side": lambda base, side: side,
}


class Plain(nn.Module):
    """A merge without parameters: "product", "sum", "concat" (to twice the channels) or "side" (the base dropped)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge two tensors of one shape."""
        return _PLAIN[self.kind](base, side)


class MLP(nn.Module):
    """Sum of adapter(base) and the side ("mlp"), adapter(side) ("mlp2"), or both ("resmlp2")."""

    def __init__(self, shape: tuple[int, ...], kind: str) -> None:
        super().__init__()
        self.base_adapter = adapter(shape)
        self.side_adapter = None if kind == "mlp" else adapter(shape)
        self.residual = kind != "mlp2"

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge two tensors of one shape."""
        merged: Tensor = self.base_adapter(base)
        if self.side_adapter is not None:
            merged = merged + self.side_adapter(side)
        return merged + side if self.residual else merged


class FiLM(nn.Module):
    """base * gamma + beta, each a function of the side plus the side; 1,680 parameters for 8 channels."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.GroupNorm(2, hidden), nn.ReLU())
        self.gamma = nn.Conv2d(hidden, channels, 1)
        self.beta = nn.Conv2d(hidden, channels, 1)

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Modulate a map (B,C,h,w) by another of its shape."""
        hidden = self.trunk(side)
        return base * (self.gamma(hidden) + side) + self.beta(hidden) + side


def build_merge(kind: str, shape: tuple[int, ...]) -> nn.Module:
    """Build one of `MERGES` other than "alpha", for features of this shape per image, (C,h,w) or (C,).

    Raises:
        Incompatible: FiLM on vectors.
    """
    if kind in ("mlp", "mlp2", "resmlp2"):
        return MLP(shape, kind)
    if kind == "film":
        if len(shape) != 3:
            raise Incompatible("the film merge modulates maps, and this base gives vectors; use an mlp merge")
        return FiLM(shape[0])
    return Plain(kind)
