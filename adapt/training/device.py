"""Choice of the torch device."""

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
