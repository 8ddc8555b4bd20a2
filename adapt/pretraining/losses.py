"""Losses of the Taskonomy tasks (as Side-Tuning's evkit/utils/losses.py defines them)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_l1(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over valid pixels and channels.

    Args:
        output: (B,C,H,W) float.
        target: (B,C,H,W) float.
        mask: (B,1,H,W) float, 1 where the target is valid.

    Returns:
        Scalar mean(mask * error) / mean(mask), 0 if nothing is valid.
    """
    return _masked((output - target).abs(), mask)


def masked_l2(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over valid pixels and channels; shapes as `masked_l1`."""
    return _masked((output - target) ** 2, mask)


def segmentation_cross_entropy(
    output: Tensor, target: Tensor, weight: Tensor | None = None, ignore: int = -100
) -> Tensor:
    """Cross-entropy per pixel.

    Args:
        output: (B,classes,H,W) float scores.
        target: (B,H,W) int64 classes.
        weight: (classes,) weights of the classes; the mean is weighted by them.
        ignore: Class that counts nothing.
    """
    return functional.cross_entropy(output, target, weight=weight, ignore_index=ignore)


def dense_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with soft labels: sum over classes, mean over the batch.

    Args:
        output: (B,classes) float scores.
        target: (B,classes) float probabilities.
    """
    return functional.cross_entropy(output, target)


def _masked(error: Tensor, mask: Tensor) -> Tensor:
    return (mask * error).mean() / torch.clamp(mask.mean(), min=1e-12)
