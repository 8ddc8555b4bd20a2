"""Translation of ``env=habitat`` settings to a Habitat-Lab config and a PointNav task."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from envs.habitat import egl
from envs.habitat import stand_ins as habitat_stand_ins
from envs.pointnav.env import PointNavTask
from envs.pointnav.velocity import VelocitySettings
from envs.rendering.renderer import Camera

SIMULATORS = ("habitat_sim", "sidestep")
ACTIONS = ("stop", "move_forward", "turn_left", "turn_right")
VELOCITY = "velocity_control"
# Habitat-Lab's sensor classes -> our names.
CAMERAS = {"HabitatSimRGBSensor": "rgb", "HabitatSimDepthSensor": "depth"}


@dataclass(frozen=True)
class HabitatSplit:
    """The settings of `envs.habitat.settings.HabitatSettings` for one split.

    Attributes:
        simulator: ``"habitat_sim"``, or ``"sidestep"``: the embedded one behind Habitat-Lab's interface.
        config: A Habitat-Lab config by name or the path of a YAML file.
        overrides: Hydra overrides of it.
        episodes: Folder of ``<split>/<split>.json.gz``, or an episode file; None: as the config says.
        scenes_dir: Folder that the files' scene ids are relative to; None: as the config says.
        dataset: A ``.scene_dataset_config.json`` for the episodes that name none; None: there is none.
        split: The dataset's name of the split.
        scenes: At most this many scenes; None: all.
        episodes_per_scene: At most this many episodes of each; None: all.
        gpu: Device that habitat-sim renders on, -1 for software; None: CUDA device 0 where EGL has it.
        geodesic: ``"exact"``, or ``"detour"``: the embedded simulator's distances.
        navmesh: ``"match"``, ``"recast"`` or ``"none"``: the embedded simulator's floor.
        camera: ``size``, ``hfov``, ``height``; what is None is as the config says.
        body: ``radius``, ``height``, ``climb``, ``max_slope``; likewise.
        task: The fields of `PointNavTask`; likewise.
    """

    simulator: str
    config: str
    overrides: tuple[str, ...]
    episodes: str | None
    scenes_dir: str | None
    dataset: str | None
    split: str
    scenes: int | None
    episodes_per_scene: int | None
    gpu: int | None
    geodesic: str
    navmesh: str
    camera: tuple[tuple[str, Any], ...]
    body: tuple[tuple[str, Any], ...]
    task: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        """Check what can be checked without Habitat-Lab."""
        if self.simulator not in SIMULATORS:
            raise ValueError(f"env.simulator={self.simulator}: choose from {', '.join(SIMULATORS)}")
        for name in ("scenes", "episodes_per_scene"):
            count = getattr(self, name)
            if count is not None and not (isinstance(count, int) and count >= 1):
                raise ValueError(
                    f"{name}={count} of the split {self.split} must be a whole number of at least 1, or null"
                )

    @classmethod
    def of(cls, env: Mapping[str, Any], split: str) -> HabitatSplit:
        """The settings of a composed ``env`` group for one of its splits.

        Raises:
            ValueError: There is no such split, or a setting is wrong.
        """
        if split not in env["splits"]:
            raise ValueError(f"env.split={split}: there is no such split; choose from {', '.join(env['splits'])}")
        chosen = env["splits"][split]
        groups = {name: tuple((k, _plain(v)) for k, v in env[name].items()) for name in ("camera", "body", "task")}
        return cls(
            simulator=env["simulator"],
            config=env["config"],
            overrides=tuple(env["overrides"]),
            episodes=env["episodes"],
            scenes_dir=env["scenes_dir"],
            dataset=env["dataset"],
            split=chosen["split"],
            scenes=chosen["scenes"],
            episodes_per_scene=chosen["episodes_per_scene"],
            gpu=env["gpu"],
            geodesic=env.get("geodesic", "exact"),
            navmesh=env.get("navmesh", "match"),
            **groups,
        )

    def with_sensors(self, sensors: tuple[str, ...]) -> HabitatSplit:
        """The same with other sensors: fewer, for a blind agent."""
        return replace(self, task=tuple({**dict(self.task), "sensors": sensors}.items()))

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors that the task names."""
        return tuple(dict(self.task)["sensors"])


def _plain(value: Any) -> Any:
    """A value of the settings, hashable."""
    if isinstance(value, Mapping):
        return tuple((key, _plain(v)) for key, v in value.items())
    return tuple(value) if isinstance(value, list) else value


def import_habitat(simulator: str) -> ModuleType:
    """Import Habitat-Lab for a simulator; for the embedded one, stand-ins take the place of a missing habitat-sim.

    Raises:
        ImportError: Habitat-Lab or habitat-sim is not installed; the message says what to do.
    """
    if find_spec("habitat") is None:
        raise ImportError(
            "env=habitat needs Habitat-Lab; install the extra: pip install -e '.[habitat]' (Python < 3.13)"
        )
    # Both are chatty; what goes wrong is raised.
    for name, value in (("MAGNUM_LOG", "quiet"), ("HABITAT_SIM_LOG", "quiet"), ("GLOG_minloglevel", "2")):
        os.environ.setdefault(name, value)
    habitat_stand_ins.quiet_gym()
    if simulator == "sidestep":
        habitat_stand_ins.install()
        import envs.habitat.simulator  # noqa: F401 (registers the simulator)
    elif habitat_stand_ins.missing():
        raise ImportError(
            "env.simulator=habitat_sim needs habitat-sim, which is not installed; docs/habitat.md says how to install "
            "it, env.simulator=sidestep does without it"
        )
    import habitat
    from habitat.core.logging import logger

    logger.setLevel(logging.WARNING)
    return habitat


def habitat_config(settings: HabitatSplit) -> Any:
    """Habitat-Lab's config (``DictConfig``) for the settings.

    Raises:
        ImportError: Habitat-Lab or habitat-sim is not installed.
        ValueError: There is no such config, an override is wrong, or its task is no PointNav with cameras of ours.
    """
    habitat = import_habitat(settings.simulator)
    from habitat.config.read_write import read_write

    config = _composed(habitat, settings)
    with read_write(config):
        _set_dataset(config.habitat.dataset, settings)
        _set_simulator(config.habitat.simulator, settings)
        _set_task(config.habitat, settings)
    return config


def _composed(habitat: ModuleType, settings: HabitatSplit) -> Any:
    """Habitat-Lab's config as it is, composed by Hydra, which may be busy with the config of a command of ours."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    busy = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        return habitat.get_config(settings.config, list(settings.overrides))
    except (RuntimeError, HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"env.config={settings.config} with {list(settings.overrides)}: {reason}") from error
    finally:
        GlobalHydra.instance().hydra = busy


def _set_dataset(dataset: Any, settings: HabitatSplit) -> None:
    dataset.split = settings.split
    if settings.scenes_dir is not None:
        dataset.scenes_dir = settings.scenes_dir
    if settings.episodes is not None:
        single = settings.episodes.endswith(".gz")
        dataset.data_path = settings.episodes if single else f"{settings.episodes}/{{split}}/{{split}}.json.gz"


def _set_simulator(simulator: Any, settings: HabitatSplit) -> None:
    from habitat.config.default import get_agent_config
    from omegaconf import open_dict

    if settings.simulator == "sidestep":
        from envs.habitat.simulator import NAME

        simulator.type = NAME
        with open_dict(simulator):
            simulator.geodesic, simulator.navmesh = settings.geodesic, settings.navmesh
    else:
        simulator.habitat_sim_v0.gpu_device_id = egl.default_device() if settings.gpu is None else settings.gpu
    agent = get_agent_config(simulator)
    body = dict(settings.body)
    for key, ours in (("radius", "radius"), ("height", "height"), ("max_climb", "climb"), ("max_slope", "max_slope")):
        if body[ours] is not None:
            agent[key] = float(body[ours])
    wanted = PointNavTask(sensors=settings.sensors, explored_from=dict(settings.task)["explored_from"]).cameras
    kinds = {name: CAMERAS.get(str(sensor.type)) for name, sensor in agent.sim_sensors.items()}
    lacking = [name for name in wanted if name not in kinds.values()]
    if lacking:
        raise ValueError(
            f"env.config={settings.config} has no {' and no '.join(lacking)} sensor; choose another config "
            "or other env.task.sensors"
        )
    for name, kind in kinds.items():
        if kind not in wanted:
            del agent.sim_sensors[name]
        else:
            _set_camera(agent.sim_sensors[name], dict(settings.camera), dict(settings.task))


def _set_camera(sensor: Any, camera: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    if camera["size"] is not None:
        sensor.height = sensor.width = int(camera["size"])
    if camera["hfov"] is not None:
        sensor.hfov = _whole(camera["hfov"], "env.camera.hfov")
    if camera["height"] is not None:
        sensor.position = [0.0, float(camera["height"]), 0.0]
    if "max_depth" in sensor:
        # [0, 1] from 0 to max_depth, as every environment here gives it.
        sensor.min_depth, sensor.normalize_depth = 0.0, True
        if task["max_depth"] is not None:
            sensor.max_depth = float(task["max_depth"])


def _whole(value: float, key: str) -> int:
    """Habitat-Lab keeps some angles as whole degrees."""
    if value != int(value):
        raise ValueError(f"{key} must be a whole number of degrees for Habitat-Lab, got {value}")
    return int(value)


def _set_task(config: Any, settings: HabitatSplit) -> None:
    """Steps, limits, and the measures and sensors that a record needs."""
    from habitat.config import default_structured_configs as defaults

    task = dict(settings.task)
    actions = config.task.actions
    if task.get("actions") == "continuous":
        velocity = {k: list(v) if isinstance(v, tuple) else v for k, v in task["velocity"]}
        config.task.actions = {VELOCITY: defaults.VelocityControlActionConfig(**velocity)}
    elif any(name not in actions for name in ACTIONS):
        raise ValueError(
            f"env.config={settings.config}: the task must have the actions {', '.join(ACTIONS)}, it has "
            f"{', '.join(actions)}"
        )
    measurements = config.task.measurements
    # Their order counts: each is computed from those before it.
    for name, kind in (
        ("distance_to_goal", defaults.DistanceToGoalMeasurementConfig),
        ("success", defaults.SuccessMeasurementConfig),
        ("spl", defaults.SPLMeasurementConfig),
        ("soft_spl", defaults.SoftSPLMeasurementConfig),
        ("collisions", defaults.CollisionsMeasurementConfig),
    ):
        if name not in measurements:
            measurements[name] = kind()
    config.task.lab_sensors = {"pointgoal_with_gps_compass_sensor": defaults.PointGoalWithGPSCompassSensorConfig()}
    if task["forward"] is not None:
        config.simulator.forward_step_size = float(task["forward"])
    if task["turn"] is not None:
        config.simulator.turn_angle = _whole(task["turn"], "env.task.turn")
    if task["success_distance"] is not None:
        measurements.success.success_distance = float(task["success_distance"])
    if task["max_steps"] is not None:
        config.environment.max_episode_steps = int(task["max_steps"])
    if task["sliding"] is not None:
        config.simulator.habitat_sim_v0.allow_sliding = bool(task["sliding"])


@lru_cache(8)
def rules(settings: HabitatSplit) -> tuple[PointNavTask, Camera]:
    """The task and the camera that the config comes to; the simulator's own sensors may be none (a blind agent).

    Raises:
        ValueError: The images are not square, or the config leaves the size open.
    """
    config = habitat_config(settings).habitat
    from habitat.config.default import get_agent_config

    cameras = get_agent_config(config.simulator).sim_sensors.values()
    ours = dict(settings.task)
    task = PointNavTask(
        variant=ours["variant"],
        actions=ours.get("actions", "discrete"),
        velocity=VelocitySettings(**dict(ours.get("velocity", ()))),
        forward=float(config.simulator.forward_step_size),
        turn=float(config.simulator.turn_angle),
        success_distance=float(config.task.measurements.success.success_distance),
        max_steps=int(config.environment.max_episode_steps),
        sliding=bool(config.simulator.habitat_sim_v0.allow_sliding),
        sensors=settings.sensors,
        map_size=ours["map_size"],
        map_extent=ours["map_extent"],
        explored_size=ours["explored_size"],
        explored_extent=ours["explored_extent"],
        explored_layers=tuple(ours["explored_layers"]),
        explored_from=ours["explored_from"],
        max_depth=next((float(camera.max_depth) for camera in cameras if "max_depth" in camera), 10.0),
    )
    shapes = {(s.height, s.width, s.hfov, s.position[1]) for s in cameras}
    if not shapes:
        size = dict(settings.camera)["size"]
        return task, Camera() if size is None else Camera(size=int(size))
    height, width, hfov, up = sorted(shapes)[0]
    if len(shapes) > 1 or height != width:
        raise ValueError(
            f"env.config={settings.config}: rgb and depth must be square images of one camera; set env.camera.size"
        )
    return task, Camera(size=int(height), hfov=float(hfov), height=float(up))
