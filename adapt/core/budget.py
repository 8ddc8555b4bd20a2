"""Cost of one task: trainable parameters, stored bits, additional multiply-adds per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Budget:
    """Cost of one task.

    Attributes:
        trainable_parameters: numbers that training may change, without the head.
        stored_bits: size of the task's tensors on disk, without file headers.
        base_multiply_adds: multiply-adds of the base on one image (convolutions and matrix products only).
        extra_multiply_adds: what the task adds to that when it runs unmerged; negative if it computes less.
    """

    trainable_parameters: int
    stored_bits: int
    base_multiply_adds: int
    extra_multiply_adds: int

    def __str__(self) -> str:
        """One line for a person."""
        stored = f"{self.stored_bits / 8 / 1024:,.1f} KiB stored"
        extra, base = self.extra_multiply_adds / 1e6, self.base_multiply_adds / 1e6
        work = f"{extra:+,.1f} M multiply-adds per image on {base:,.1f} M"
        return f"{self.trainable_parameters:,} trainable parameters, {stored}, {work}"


def stored_bits(tensors: dict[str, Tensor]) -> int:
    """Bits that these tensors take in a file."""
    return 8 * sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def multiply_adds(run: Callable[[], Tensor]) -> int:
    """Count the multiply-adds of a call of `run`."""
    fused = torch.backends.mha.get_fastpath_enabled()
    # The counter does not know torch's fused attention, and without gradients weight deltas may be kept, not computed.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops()) // 2
