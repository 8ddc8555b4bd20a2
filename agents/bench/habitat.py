"""Frames of habitat-sim beside ours: the same mesh, camera and poses, one agent in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bench.simulator import medians
from envs.navgrid.grid import NavGrid
from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.scans.loading import load_scene

VIEWS = 64


def frames(file: str, size: int, rounds: int) -> tuple[float, float]:
    """Frames/s of RGB+depth at `size` x `size`, one view at a time, and that over habitat-sim's; on the clock."""
    scene = load_scene(file)
    camera = Camera(size=size)
    rng = np.random.default_rng(0)
    position = NavGrid.build(scene).sample(rng, VIEWS, island=0)
    heading = rng.uniform(-np.pi, np.pi, VIEWS)
    renderer, which = EmbreeRenderer([scene]), np.zeros(1, np.int64)

    def ours() -> None:
        for k in range(VIEWS):
            renderer.render(which, position[k : k + 1], heading[k : k + 1], camera)

    works = {"ours": ours, "habitat-sim": _of_habitat(file, camera, position, heading)}
    seconds = medians(works, rounds, time.perf_counter)
    return VIEWS / seconds["ours"], seconds["habitat-sim"] / seconds["ours"]


def _of_habitat(
    file: str, camera: Camera, position: NDArray[np.float64], heading: NDArray[np.float64]
) -> Callable[[], None]:
    import habitat_sim

    scene = habitat_sim.SimulatorConfiguration()
    scene.scene_id, scene.enable_physics = file, False
    sensors = []
    for name, kind in (("rgb", habitat_sim.SensorType.COLOR), ("depth", habitat_sim.SensorType.DEPTH)):
        sensor = habitat_sim.CameraSensorSpec()
        sensor.uuid, sensor.sensor_type = name, kind
        sensor.resolution, sensor.hfov = [camera.size, camera.columns], camera.hfov
        sensor.position, sensor.near, sensor.far = [0.0, camera.height, 0.0], camera.near, camera.far
        sensors.append(sensor)
    body = habitat_sim.agent.AgentConfiguration(sensor_specifications=sensors)
    simulator: Any = habitat_sim.Simulator(habitat_sim.Configuration(scene, [body]))
    agent, state = simulator.get_agent(0), habitat_sim.AgentState()

    def render() -> None:
        for k in range(len(position)):
            state.position = position[k]
            state.rotation = [0.0, math.sin(heading[k] / 2), 0.0, math.cos(heading[k] / 2)]
            agent.set_state(state)
            simulator.get_sensor_observations()

    return render
