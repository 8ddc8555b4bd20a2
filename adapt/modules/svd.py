"""Truncated singular value decompositions of a task's matrices (Residual Adapters, CVPR 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def factor(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation B G^T of a given rank.

    Args:
        matrix: (out, in).
        rank: K, at most the smaller side.

    Returns:
        B (out, K), which holds the singular values, and G (in, K), whose columns are orthonormal.
    """
    u, s, v = torch.linalg.svd(matrix.detach(), full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank].T.contiguous()


def factor_jointly(matrices: Sequence[Tensor], rank: int) -> tuple[Tensor, list[Tensor]]:
    """The best approximations B G_t^T of several matrices that share B.

    They are laid side by side along their inputs, so that the shared factor is on the output side.

    Args:
        matrices: each (out, in), of one shape.
        rank: K, at most the smaller of out and all inputs together.

    Returns:
        B (out, K) and each G_t (in, K).
    """
    b, g = factor(torch.cat([matrix.detach() for matrix in matrices], 1), rank)
    return b, [block.contiguous() for block in g.split(matrices[0].shape[1])]
