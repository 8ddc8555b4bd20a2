"""Choice of the torch device, and what it computes fast."""

from __future__ import annotations

import torch


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` takes CUDA where there is a device.

    Raises:
        ValueError: It is no device, or CUDA was asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device={name}: this must be cpu, cuda or auto")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name}: there is no CUDA device here; use device=cpu or device=auto")
    return name


def has_bfloat16(device: torch.device) -> bool:
    """Whether autocast to bfloat16 pays there."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
