"""Speeds of the simulator: frames of the renderer beside its bare ray caster, steps of the task beside rendering."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from envs import _shading
from envs._packing import build_tree
from envs.navigation import NavGrid
from envs.pointnav import Place, PointNav, Task
from envs.renderer import Camera, EmbreeRenderer
from envs.scene import Scene

AGENTS = 64


def rate(work: Callable[[], Any], units: float, seconds: float = 2.0) -> float:
    """Units per second of `work`, repeated for about `seconds` after one call to warm up; the best of three tries."""
    work()
    best = 0.0
    for _ in range(3):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / 3:
            work()
            count += 1
        best = max(best, units * count / spent)
    return best


def _poses(grid: NavGrid, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return grid.sample(rng, count, island=0), rng.uniform(-np.pi, np.pi, count)


def renderer(scene: Scene, grid: NavGrid) -> dict[str, float]:
    """RGB+depth frames/s on one core, and the bare ray caster on the same rays."""
    drawer, tree = EmbreeRenderer([scene]), build_tree(scene)
    positions, headings = _poses(grid, AGENTS)
    which = np.zeros(AGENTS, np.int64)
    out: dict[str, float] = {"triangles": len(scene.faces)}
    for size in (64, 128, 256):
        camera, agents = Camera(size=size), slice(0, max(4, AGENTS * 64 * 64 // size**2))
        frames = len(which[agents])
        args = which[agents], positions[agents], headings[agents], camera
        out[f"rgb_depth_{size}"] = rate(partial(drawer.render, *args, sensors=("rgb", "depth")), frames)
        rays = np.empty((2, frames * size**2, 3), np.float32)
        half_width, height = math.tan(math.radians(camera.hfov) / 2), camera.height
        poses = np.ascontiguousarray(positions[agents]), headings[agents], np.zeros(frames)
        _shading.make_rays(*poses, size, size, half_width, height, camera.near, rays[0], rays[1])
        out[f"rays_{size}"] = rate(partial(tree.run, rays[0], rays[1], output=1), frames)
        out[f"rgb_depth_{size}_over_rays"] = out[f"rays_{size}"] / out[f"rgb_depth_{size}"]
    return out


def task(places: list[Place]) -> dict[str, float]:
    """Cost of one step of the task (physics, distances, map, expert) beside rendering, microseconds per agent."""
    camera = Camera(size=64)
    seeing = PointNav(places, Task(sensors=("rgb", "depth")), camera, AGENTS, seed=0)
    seeing.reset(np.arange(AGENTS))
    render = 1e6 / rate(seeing.observe, AGENTS)

    def stepping(sensors: tuple[str, ...], expert: bool) -> float:
        nav = PointNav(places, Task(sensors=sensors, map_size=40), camera, AGENTS, seed=0)
        nav.reset(np.arange(AGENTS))

        def step() -> None:
            actions = nav.expert() if expert else np.full(AGENTS, 1)
            _, dones, _ = nav.step(actions)
            nav.observe()
            nav.reset(np.flatnonzero(dones))

        return 1e6 / rate(step, AGENTS)

    physics, mapped, labelled = stepping((), False), stepping(("map",), False), stepping((), True)
    return {
        "render_us": render,
        "step_us": physics,
        "step_over_render": physics / render,
        "map_us": mapped - physics,
        "expert_us": labelled - physics,
    }
