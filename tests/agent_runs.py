"""Trainings of small agents within the test's process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt.training.run import Run, list_checkpoints
from agents.learners.learner import learners
from configs.compose import compose

SMALL = [
    "base=random",
    "env=apartments",
    "env.agents=4",
    "env.camera.size=32",
    "env.task.max_steps=40",
    "env.splits.train.scenes=1",
    "env.splits.train.episodes_per_scene=8",
    "env.splits.val.scenes=1",
    "env.splits.val.episodes_per_scene=4",
    "policy.hidden=[32]",
    "device=cpu",
]
IMITATION = ["algo=dagger", "algo.parallel=false", "algo.warmup_frames=64", "algo.buffer_frames=2048"]


def train(folder: Path, *words: str) -> Path:
    """What ``python -m agents.train`` does, with `SMALL` before the words; returns the folder."""
    cfg = compose("train", [*SMALL, *words, f"run={folder}"])
    run = Run(folder, cfg, cfg.resume)
    np.random.seed(cfg.seed)
    try:
        run.result(dict(learners.get(cfg.algo.name)().train(cfg, run)))
    finally:
        run.close()
    return folder


def state(folder: Path) -> dict[str, Any]:
    """The newest checkpoint."""
    found: dict[str, Any] = torch.load(list_checkpoints(folder)[-1], weights_only=True)
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The policy of the newest checkpoint."""
    found: dict[str, torch.Tensor] = state(folder)["policy"]
    return found


def same(a: Path, b: Path) -> bool:
    """Whether two runs ended with the same weights, to the bit."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
