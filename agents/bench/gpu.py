"""Speeds of the Warp backend: all agents and apartments on one device, PPO end to end. Runs at tiny size on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig

from adapt.training.device import choose_device
from agents.bench.ppo import Contestant, ours, race, settings
from agents.bench.simulator import medians
from agents.bench.table import Measurement
from agents.setup import make_scenes
from envs.pointnav.scene_episodes import NavigableScene
from envs.rendering.renderer import Camera


def gpu_rows(cfg: DictConfig) -> list[Measurement]:
    """Frames/s beside the bare rays, and PPO steps/s of a 64-pixel FCN5 base and a 256-pixel Taskonomy base.

    Args:
        cfg: ``device``, ``agents``, ``apartments``, ``frame_sizes``, ``runs`` (a base and a size each), ``steps``
            per agent and rollout, ``batch``, ``rounds`` and ``profile``.
    """
    device = choose_device(cfg.device)
    overrides = [f"device={device}", f"env.splits.train.scenes={cfg.apartments}", "env.backend=warp"]
    scenes = cast("list[NavigableScene]", make_scenes(settings(cfg.agents, cfg.steps, *overrides).env, "train", 0))
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "Warp's CPU device"
    rows = []
    for size in cfg.frame_sizes:
        rows += _frames(scenes, cfg.agents, size, device, name, cfg.rounds)
    for run in cfg.runs:
        chosen = [*overrides, f"base.name={run.base}", f"env.camera.size={run.size}", "adapt=features"]
        chosen.append(f"algo.learner.batch_size={cfg.batch}")
        learner = ours(settings(cfg.agents, cfg.steps, *chosen), scenes)
        race({"ours": learner}, cfg.rounds, time.perf_counter)
        if cfg.profile is not None:
            _profile(learner, Path(cfg.profile), f"{run.base} at {run.size}")
        what = f"{name}: PPO, {cfg.agents} agents, {run.base} at {run.size}, features"
        rows.append(Measurement("gpu", what, 1 / learner.median("total"), "steps/s", target=run.target))
        rows += [
            Measurement("gpu", f"  {stage}", 1e6 * learner.median(stage), "us per step")
            for stage in learner.seconds
            if stage != "total"
        ]
        del learner
    return rows


def _profile(learner: Contestant, file: Path, what: str) -> None:
    """Append torch's profile of one rollout and update to a file, the operators that take longest first."""
    with torch.profiler.profile() as profile:
        race({what: learner}, 0)
    kind = "cuda" if learner.model.device.type == "cuda" else "cpu"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        print(what, profile.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=40), sep="\n", file=out)


def _frames(
    scenes: list[NavigableScene], agents: int, size: int, device: str, name: str, rounds: int
) -> list[Measurement]:
    from envs.warp.renderer import WarpRenderer

    renderer, camera = WarpRenderer([place.scene for place in scenes], device), Camera(size=size)
    rng = np.random.default_rng(0)
    index = np.arange(agents) % len(scenes)
    position = np.concatenate([scenes[k].grid.sample(rng, 1, island=0) for k in index])
    heading = rng.uniform(-np.pi, np.pi, agents)
    which, where, turn = (torch.as_tensor(a, device=device) for a in (index, position, heading))
    depth = torch.empty(agents * size**2, device=device)
    view = renderer.view(which, where, turn, camera)
    repeats = 20 if device.startswith("cuda") else 1
    works = {
        "frames": _finished(partial(renderer.render_tensors, which, where, turn, camera), repeats, device),
        "rays": _finished(partial(renderer.trace, view, depth), repeats, device),
    }
    seconds = medians(works, rounds, time.perf_counter)
    what = f"{name}: RGB+depth at {size}, {agents} agents, {len(scenes)} apartments"
    target = {64: ">= 150,000", 128: ">= 40,000"}.get(size, "") if device.startswith("cuda") else ""
    ratio = seconds["frames"] / seconds["rays"]
    return [
        Measurement(
            "gpu", what, repeats * agents / seconds["frames"], "frames/s", "time of the bare rays", ratio, target
        )
    ]


def _finished(work: Callable[[], Any], repeats: int, device: str) -> Callable[[], None]:
    """`work` repeatedly, until the device has done it."""

    def run() -> None:
        for _ in range(repeats):
            work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return run
