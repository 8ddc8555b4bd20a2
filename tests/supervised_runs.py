"""Whole runs of `adapt.train` on tiny bases, for the tests of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from adapt.core.base import random_base, save_base
from adapt.supervised.runs import train
from configs.compose import compose


def narrow_base(folder: Path) -> str:
    """The words that choose a narrow ResNet-26 whose statistics are not at their initial values."""
    path = folder / "narrow.safetensors"
    if not path.is_file():
        base = random_base("resnet26", seed=3, width=0.125)
        base.encoder.train()
        with torch.no_grad():
            base.encoder(torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        base.encoder.eval()
        save_base(base, path, torch.float32)
    return str(path)


def run(folder: Path, *words: str, base: str = "") -> dict[str, Any]:
    """Run `python -m adapt.train` with these words; gives what `result.json` holds.

    Args:
        folder: of the run; the base and features are kept beside it.
        *words: overrides.
        base: name of the base; by default a narrow ResNet-26.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = base or narrow_base(folder.parent)
    chosen = ["base=random", f"base.name={name}"] if base != "configured" else []
    cfg = compose("supervised", [*chosen, "device=cpu", f"cache={folder}_kept", f"run={folder}", *words])
    result = train(cfg)
    written = json.loads((folder / "result.json").read_text())
    assert written["per_task"] == result["per_task"]
    assert set(written["per_task"]) == set(written["tasks"])
    return written
