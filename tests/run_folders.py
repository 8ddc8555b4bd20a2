"""Run folders as `agents.train` and `agents.evaluate` leave them, for the tests of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agents.reports.video import write_video

RATES = {"agent": 0.8, "blind": 0.3, "random": 0.0, "expert": 1.0}
VERSIONS = {
    "command": "python -m agents.train adapt=side_tuning run=runs/a",
    "seed": 7,
    "git_commit": "0123456789abcdef",
    "git_dirty": False,
    "python": "3.12.0",
    "packages": {"torch": "2.15.0"},
    "date": "2026-01-02T03:04:05+00:00",
}


def records(rate: float, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for n in range(40):
        success = float(rng.random() < rate)
        made.append(
            {
                "scene_id": f"flat_{n % 8}",
                "episode_id": str(n),
                "success": success,
                "spl": success * float(rng.uniform(0.7, 1.0)),
                "soft_spl": float(rng.uniform(0.0, 1.0)),
                "distance_to_goal": float(rng.uniform(0.0, 5.0)),
                "collisions": int(rng.integers(0, 9)),
                "nav_reward": float(rng.normal()),
                "steps": int(rng.integers(10, 500)),
                "geodesic_distance": float(rng.uniform(5.0, 8.0)),
                "euclidean_distance": 5.0,
            }
        )
    return made


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def top_down(file: Path, success: float) -> None:
    navigable = np.zeros((60, 80), bool)
    navigable[5:55, 5:75] = True
    navigable[20:26, 20:50] = False
    np.savez_compressed(
        file,
        navigable=navigable,
        origin=np.array([-2.0, 1.0]),
        cell=0.05,
        agent_path=np.array([[-1.0, 2.0], [0.0, 2.0], [1.0, 3.0]]),
        expert_path=np.array([[-1.0, 2.0], [1.0, 3.0]]),
        start=np.array([-1.0, 2.0]),
        goal=np.array([1.0, 3.0]),
        scene_id="flat_0",
        episode_id="0",
        success=success,
        spl=success * 0.9,
    )


def clip(length: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (length, 8, 8, 3)).astype(np.uint8)


def write_run(path: Path) -> Path:
    """A run folder with everything in it."""
    folder = path / "eval" / "val"
    folder.mkdir(parents=True)
    for name, rate in RATES.items():
        write_lines(folder / f"{name}.jsonl", records(rate))
    for i in range(7):
        top_down(folder / f"topdown_{i}.npz", float(i % 2))
    write_video(folder / "video.gif", [(clip(3), "one"), (clip(5), "two")], scale=2)
    lines = [{"step": 10 * s, "seconds": 2.0 * s, "train/loss": 1 / s, "train/success": s / 60} for s in range(1, 60)]
    lines[-1]["val/success"] = lines[20]["val/success"] = 0.5
    write_lines(path / "metrics.jsonl", lines)
    (path / "versions.json").write_text(json.dumps(VERSIONS))
    (folder / "versions.json").write_text(json.dumps(VERSIONS | {"command": "python -m agents.evaluate run=runs/a"}))
    (path / "result.json").write_text(json.dumps({"seconds": 90.0, "train_seconds": 60.0}))
    (path / "config.yaml").write_text("adapt: {name: side_tuning}\nbase: {name: curvature}\nseed: 7\n")
    return path
