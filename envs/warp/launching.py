"""Warp runtime: initialisation, device names, launches in torch's stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import warp as wp

# Copied into the options of every module of kernels. Nothing here is differentiated. Fused multiply-adds would round
# otherwise than the CPU's task does, and a borderline collision would then differ.
KERNEL_OPTIONS = {"enable_backward": False, "fuse_fp": False}


@cache
def start_warp() -> None:
    """Start Warp without its banner."""
    wp.config.log_level = wp.LOG_WARNING
    wp.init()


def device_name(device: str) -> str:
    """Torch's name of a device with its number, as Warp counts them: ``cuda`` becomes ``cuda:0``.

    Raises:
        ValueError: Neither ``cpu`` nor a CUDA device that is there.
    """
    start_warp()
    kind = torch.device(device)
    if kind.type == "cpu":
        return "cpu"
    if kind.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: there is no such CUDA device here; use cpu")
    return f"cuda:{kind.index if kind.index is not None else torch.cuda.current_device()}"


def in_torch_order(device: str) -> AbstractContextManager[Any]:
    """Within this context kernels run in torch's current stream, so that neither side waits for the other."""
    if device == "cpu":
        return nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(torch.device(device))), sync_enter=False)


def launch(kernel: Any, dim: int | Sequence[int], inputs: Sequence[Any], device: str) -> None:
    """Run a kernel once per index of `dim` in torch's order."""
    with in_torch_order(device):
        wp.launch(kernel, dim=dim, inputs=list(inputs), device=device)


def finish_uploads(device: str) -> None:
    """Wait for copies that Warp made in its own stream, before kernels in torch's read them."""
    wp.synchronize_device(device)
