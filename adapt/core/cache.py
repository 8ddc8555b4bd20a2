"""Cache of one result, invalidated when a tensor that it was computed from changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class CachedUntilChanged(Generic[Result]):
    """A cached result with copies of its inputs.

    Inputs are compared by value: version counters do not show what was changed through `Tensor.data`.
    """

    def __init__(self) -> None:
        self._inputs: list[Tensor] = []
        self._frozen: tuple[int, ...] = ()
        self._result: Result | None = None

    def get(self, inputs: Sequence[Tensor], frozen: Tensor, compute: Callable[[], Result]) -> Result:
        """The result of `compute`, which is called only if something changed since the last call.

        Args:
            inputs: tensors that training changes.
            frozen: a tensor of the base, which is not expected to change and so not compared number by number.
            compute: gives the result, without gradients, from these tensors.
        """
        place = (frozen.data_ptr(), 0 if frozen.is_inference() else frozen._version)
        if self._result is None or place != self._frozen or not self._same(inputs):
            self._inputs, self._frozen = [tensor.detach().clone() for tensor in inputs], place
            with torch.no_grad():
                self._result = compute()
        return self._result

    def _same(self, inputs: Sequence[Tensor]) -> bool:
        return len(inputs) == len(self._inputs) and all(
            new.dtype == old.dtype and new.device == old.device and torch.equal(new, old)
            for new, old in zip(inputs, self._inputs, strict=True)
        )
