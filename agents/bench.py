"""``make bench``: speeds of the stages on this machine; those of the simulator beside a reference of the same run."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from adapt.bench import measure as measure_methods
from adapt.run import versions, write_text
from agents.collector import frame_layout, stored
from agents.frames import ACTION, STEP, FrameStore
from agents.imitation import ImitationLearner
from agents.observations import RGB, frozen_features
from agents.setup import make_env, make_policy, make_vision
from configs.compose import cli, compose
from envs import bench
from envs.navigation import NavGrid
from envs.places import Body, apartments
from envs.pointnav import Place
from envs.scans import load_scene


def learning(places: list[Place]) -> dict[str, float]:
    """Frozen base and imitation updates of the demo's agent at 64x64, one thread."""
    cfg = compose("train", ["run=none"])
    vision = make_vision(cfg)
    env, simulator = make_env(cfg, places, vision, bench.AGENTS, 0)
    policy = make_policy(cfg, vision)
    observations: dict[str, np.ndarray[Any, Any]] = env.reset()  # type: ignore[assignment]
    assert vision.base is not None
    base, rgb = vision.base, observations[RGB]
    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore.create(Path(folder) / "frames", bench.AGENTS, 128, frame_layout(observations))
        for _ in range(128):
            labels = simulator.nav.expert()
            store.push({**stored(observations), ACTION: labels, STEP: simulator.nav.agents.steps})
            observations = env.step(labels)[0]  # type: ignore[assignment]
        learner = ImitationLearner(policy, 10_000, **cfg.algo.learner)
        batch = cfg.algo.learner.batch_size
        return {
            "base_frames": bench.rate(lambda: frozen_features(base, rgb), bench.AGENTS),
            "imitation_samples": bench.rate(lambda: learner.update(store), batch, 6.0),
        }


@cli("bench")
def main(cfg: DictConfig) -> None:
    """Measure, print and write ``docs/bench.json``."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    places = apartments("val", 16, 8, 0, Body())
    results["renderer/apartment"] = bench.renderer(places[0].scene, places[0].grid)
    if cfg.scene is not None:
        house = load_scene(cfg.scene)
        results["renderer/scan"] = bench.renderer(house, NavGrid.build(house))
    results["task"] = bench.task(places)
    results["learning"] = learning(places)
    results.update(measure_methods())
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    document = {"machine": machine, "versions": versions(0), "results": results}
    write_text(Path(cfg.out), json.dumps(document, indent=1))
    table = Table("what", "measure", "value")
    for name, numbers in results.items():
        for key, value in numbers.items():
            table.add_row(name, key, f"{value:,.2f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
