"""The guard against NaN and infinity that every training loop calls right before the optimiser's step.

A number that is not finite in the data, the loss or the gradient ends the training in one line before the weights take
it up, and weights that are not finite are neither saved nor evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

# What an update was computed from, by name.
Data = Mapping[str, Tensor | NDArray[Any]]


class NotFinite(ValueError):
    """A number that must be finite is NaN or infinite; the message is one line that says where it was found."""


class StoredNotFinite(NotFinite):
    """A number that is not finite in a file that was read; the message names the file and what to do."""


def clip_finite(
    at: str,
    loss: Tensor | None,
    parameters: Iterable[nn.Parameter],
    max_norm: float = 0.0,
    data: Callable[[], Data] = dict,
) -> float:
    """Check the loss and the gradient of an update before it is made, then clip the gradient.

    Both are read from the device together, once.

    Args:
        at: Which update this is, for the message.
        loss: Scalar; None where the caller does not have it.
        parameters: What the optimiser changes.
        max_norm: Largest norm of the gradient of all parameters together; 0: no clipping.
        data: Gives what the update was computed from; called only if something is not finite, to name it.

    Returns:
        The loss; 0 where it was not given.

    Raises:
        NotFinite: The loss or the gradient is not finite.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in with_gradient if p.grad is not None])
    value = torch.zeros_like(norm) if loss is None else loss.detach().to(norm.device)
    number, size = torch.stack([value.double(), norm.double()]).tolist()
    if not np.isfinite([number, size]).all():
        reason = f"the loss is {number}" if not np.isfinite(number) else f"the gradient's norm is {size}"
        raise NotFinite(f"{at}: {blame(data()) or reason}")
    if max_norm:
        clip_grads_with_norm_(with_gradient, max_norm, norm)
    return float(number)


def blame(data: Data) -> str:
    """Describe which arrays hold NaN or infinity, and how many; empty if none does."""
    arrays = []
    for name, array in data.items():
        tensor = torch.as_tensor(array)
        if tensor.is_floating_point() and (count := int((~tensor.isfinite()).sum())):
            arrays.append(f"{name} ({count:,} of {tensor.numel():,} numbers)")
    return f"the data is not finite in {', '.join(arrays)}" if arrays else ""


def check_finite(state: Any, what: str) -> None:
    """Check all floating tensors in nested dicts and lists.

    Raises:
        NotFinite: One holds NaN or infinity; the message names `what` and the keys that lead to it.
    """
    if isinstance(state, Mapping):
        for key, value in state.items():
            check_finite(value, f"{what}.{key}")
    elif isinstance(state, list | tuple):
        for i, value in enumerate(state):
            check_finite(value, f"{what}.{i}")
    elif isinstance(state, Tensor) and (state.is_meta or state.layout != torch.strided or state.is_quantized):
        raise NotFinite(f"{what} is a tensor of another kind ({state.layout}, {state.device}), not of plain numbers")
    elif isinstance(state, Tensor) and state.is_floating_point() and not bool(state.isfinite().all()):
        count = int((~state.isfinite()).sum())
        raise NotFinite(f"{what} is not finite ({count:,} of {state.numel():,} numbers)")
