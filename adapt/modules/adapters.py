"""The residual adapter of one convolution: a 1x1 convolution beside or after it, and how it folds into it.

Residual Adapters (Rebuffi et al., NIPS 2017 and CVPR 2018).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.core.deltas import Delta
from adapt.modules.svd import factor


class Adapter(Delta):
    """The adapter of one convolution; `branch` runs it, calling it folds it into the kernel.

    Departs: in a grouped convolution the adapter has the same groups, without which it could not be folded.

    Args:
        layer: the 3x3 convolution.
        series: whether the adapter comes after it, with a batch norm BN' of its own; else beside it.
        zero: whether a starts at zero; else normal of variance 2 / out (He, fan-out).
        dropout: probability of dropping a channel of the adapter's input in training.
    """

    costly = True
    a: nn.Parameter | None
    b: Tensor
    owner: Adapter | None

    def __init__(self, layer: nn.Conv2d, series: bool, zero: bool, dropout: float) -> None:
        super().__init__()
        self.dropout, self.groups, self.stride = dropout, layer.groups, layer.stride
        # How far the centre of the first kernel position lies outside the input.
        padding = cast(tuple[int, int], layer.padding)
        self.margin = [pad - dilation for pad, dilation in zip(padding, layer.dilation, strict=True)]
        outputs = layer.out_channels
        inputs = outputs // layer.groups if series else layer.weight.shape[1]
        self.inner = nn.BatchNorm2d(outputs) if series else None
        deviation = 0.0 if zero else (2 / outputs) ** 0.5
        self.a = nn.Parameter(torch.randn(outputs, inputs) * deviation)
        object.__setattr__(self, "owner", None)

    def depends_on(self) -> list[Tensor]:
        """Also the owner's factor."""
        return super().depends_on() + ([] if self.owner is None else [self.owner.b])

    def factorise(self, rank: float, shared: bool = False, owner: Adapter | None = None) -> None:
        """Replace a by the nearest product of factors; see `set_factors`."""
        matrix = self.matrix().detach()
        b, g = factor(matrix, self.rank(rank))
        if owner is not None:
            g = (torch.linalg.pinv(owner.b) @ matrix.to(owner.b.device)).T
        self.set_factors(b, g, shared, owner)

    def rank(self, share: float) -> int:
        """K for a share of the smaller side, at least 1."""
        return max(1, round(share * min(self.matrix().shape)))

    def set_factors(self, b: Tensor, g: Tensor, shared: bool, owner: Adapter | None) -> None:
        """Replace a (out, in) by B (out, K) and G (in, K), of which a shared B is frozen or the owner's."""
        self.a = None
        object.__setattr__(self, "owner", owner)
        self.g = nn.Parameter(g.contiguous())
        if shared and owner is None:
            self.register_buffer("b", b)
        elif not shared:
            self.b = nn.Parameter(b)

    def matrix(self) -> Tensor:
        """The matrix a of the 1x1 convolution, (out, in / groups)."""
        if self.a is not None:
            return self.a
        b = self.b if self.owner is None else self.owner.b
        return b @ self.g.T

    def branch(self, x: Tensor, y: Tensor) -> Tensor:
        """The adapter's contribution to the output y of the convolution of x."""
        source = y if self.inner is not None else x
        if self.dropout and self.training:
            source = F.dropout2d(source, self.dropout)
        kernel = self.matrix()[:, :, None, None]
        if self.inner is not None:
            return F.conv2d(self.inner(source), kernel, groups=self.groups)
        if any(self.margin):
            source = F.pad(source, [self.margin[1], self.margin[1], self.margin[0], self.margin[0]])
        return F.conv2d(source, kernel, stride=self.stride, groups=self.groups)

    def _grouped(self, rows: Tensor) -> Tensor:
        """The product of a and a matrix of one row per channel, group by group."""
        blocks = self.matrix().unflatten(0, (self.groups, -1))
        return torch.bmm(blocks, rows.unflatten(0, (self.groups, -1))).flatten(0, 1)

    def _affine(self) -> tuple[Tensor, Tensor]:
        """BN' in evaluation as p y + q."""
        norm = cast(nn.BatchNorm2d, self.inner)
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        p = norm.weight * torch.rsqrt(variance + norm.eps)
        return p, norm.bias - mean * p

    def forward(self, weight: Tensor) -> Tensor:
        """The kernel (out, in / groups, 3, 3) with the adapter in it."""
        if self.inner is None:
            return weight + F.pad(self.matrix()[:, :, None, None], [1, 1, 1, 1])
        p, _ = self._affine()
        return weight + self._grouped(p[:, None] * weight.flatten(1)).view_as(weight)

    def bias(self, bias: Tensor | None) -> Tensor | None:
        """The bias (out,) that a series adapter's BN' makes; the frozen one for a parallel adapter."""
        if self.inner is None:
            return bias
        p, q = self._affine()
        start = torch.zeros_like(q) if bias is None else bias
        return start + self._grouped((p * start + q)[:, None])[:, 0]
