"""From a composed config to its objects: places, frozen base, adapted features, environment, policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from gymnasium import spaces
from omegaconf import DictConfig, OmegaConf
from stable_baselines3.common.vec_env import VecEnv

from adapt import Adapted, Base, load_base, wrap
from adapt.training.device import choose_device
from agents.policies.navigation import NavigationPolicy
from agents.policies.observations import RGB, PolicyObservations, frame_space, stack_frames, stacked_space
from envs.habitat import vec_env as habitat
from envs.pointnav.env import Place, PointNav, Task
from envs.pointnav.scene_episodes import Body, Generation, apartments, scans, share_places
from envs.pointnav.vec_env import PointNavVecEnv, observation_space
from envs.rendering.renderer import Camera, choose_backend
from envs.scans.source import ScanSettings

ADAPT_TASK = "pointnav"

AnyPlace = Place | habitat.HabitatPlace
Places = Sequence[AnyPlace]
Nav = PointNav | habitat.HabitatNav
Simulator = PointNavVecEnv | habitat.HabitatVecEnv


@dataclass
class Vision:
    """The frozen base and what one adaptation method makes of it; both None for a blind agent."""

    base: Base | None
    adapted: Adapted | None

    @property
    def reads(self) -> frozenset[str]:
        """What the method reads of a frame: ``image``, ``features``."""
        return self.adapted.reads if self.adapted is not None else frozenset()

    @property
    def base_sha256(self) -> str:
        """Identity of the base; empty for a blind agent."""
        return self.base.sha256 if self.base is not None else ""


def device_of(cfg: DictConfig) -> str:
    """The device that `device` names; see `adapt.training.device`."""
    return choose_device(str(cfg.device))


def make_places(env: DictConfig, split: str, seed: int, part: tuple[int, int] = (0, 1)) -> Places:
    """Scenes with walkable grids and episodes of a split (``train``, ``val``, ``test``).

    Args:
        env: The config's ``env``.
        split: Which episodes.
        seed: Of generated episodes.
        part: (index, parts): only every `parts`-th scene from `index` on; with fewer scenes than parts, every
            `parts`-th episode of each. Parts have no episode in common.
    """
    settings = env.splits[split] if split in env.splits else None
    if settings is None:
        raise ValueError(f"env.split={split}: there is no such split; choose from {', '.join(env.splits)}")
    if env.name == "habitat":
        scenes = habitat.make_places(_habitat_settings(env, split))
        if len(scenes) >= part[1]:
            return list(share_places(scenes, part))
        return [p.only(share_places(p.episodes, part)) for p in scenes]
    body, seen = Body(**env.body), settings.episodes_per_scene
    if env.name == "apartments":
        places = apartments(split, settings.scenes, seen, seed, body, part)
        if settings.scenes >= part[1]:
            return places
    elif env.name == "scans":
        places = scans(
            env.scene,
            env.episodes,
            split,
            seen,
            seed,
            body,
            # Runs of older versions have fewer keys.
            ScanSettings(**{f.name: env[f.name] for f in fields(ScanSettings) if f.name in env}),
            Generation(**env.get("generate", {})),
            env.get("scenes"),
            env.get("unfit", "error"),
        )
        if len(places) >= part[1]:
            return list(share_places(places, part))
    else:
        raise ValueError(f"env.name={env.name!r} is unknown; choose apartments, scans or habitat")
    return [p.only(share_places(p.episodes, part)) for p in places]


def _habitat_settings(env: DictConfig, split: str) -> habitat.Settings:
    return habitat.Settings.of(OmegaConf.to_container(env, resolve=True), split)  # type: ignore[arg-type]


def make_rules(cfg: DictConfig) -> tuple[Task, Camera]:
    """The task's rules and the agents' camera; a blind agent gets no picture."""
    task: dict[str, Any] = OmegaConf.to_container(cfg.env.task, resolve=True)  # type: ignore[assignment]
    sensors = tuple(s for s in task["sensors"] if not (cfg.blind and s in (RGB, "depth")))
    if cfg.env.name == "habitat":
        # Which simulator will run does not matter here: a run may be judged on another than it was trained on.
        settings = replace(_habitat_settings(cfg.env, cfg.env.split), simulator="sidestep")
        return habitat.rules(settings.with_sensors(sensors))
    return Task(**{**task, "sensors": sensors}), Camera(**cfg.env.camera)


def make_vision(cfg: DictConfig) -> Vision:
    """Load the base and wrap it with the configured method."""
    if cfg.blind:
        return Vision(None, None)
    torch.manual_seed(cfg.seed)
    base = load_base(cfg.base.name).to(device_of(cfg))
    if OmegaConf.select(cfg, "compile", default=False):
        base.encoder.compile()
    settings: dict[str, Any] = OmegaConf.to_container(cfg.adapt, resolve=True)  # type: ignore[assignment]
    name = settings.pop("name")
    adapted = wrap(base, name, task=ADAPT_TASK, image_size=make_rules(cfg)[1].size, **settings)
    return Vision(base, adapted.to(device_of(cfg)))


def make_simulator(cfg: DictConfig, places: Places, count: int, seed: int | None, mirror: bool = False) -> Simulator:
    """`count` agents in `places`; with seed None every episode comes once.

    `mirror` puts every second agent into the mirror image of its scene, which Habitat cannot.
    """
    task, camera = make_rules(cfg)
    if cfg.env.name == "habitat":
        return habitat.HabitatVecEnv(cast("list[habitat.HabitatPlace]", places), task, camera, count, seed)
    device = device_of(cfg) if backend_of(cfg) == "warp" else "cpu"
    return PointNavVecEnv(cast("list[Place]", places), task, camera, count, seed, device, mirror)


def backend_of(cfg: DictConfig) -> str:
    """What renders: ``embree`` on the CPU or ``warp`` (`envs.rendering.renderer.choose_backend`)."""
    if cfg.env.name == "habitat":
        return "embree"
    return choose_backend(OmegaConf.select(cfg, "env.backend", default="auto"), device_of(cfg))


def make_stacked_env(cfg: DictConfig, places: Places, vision: Vision, count: int, seed: int | None) -> VecEnv:
    """`count` agents with stacks of ``policy.frames`` frames: with Warp all of it on the device, as tensors."""
    if backend_of(cfg) == "embree":
        return stack_frames(make_env(cfg, places, vision, count, seed)[0], cfg.policy.frames)
    from agents.policies.device_observations import DeviceFrames
    from envs.warp.pointnav import DevicePointNavVecEnv

    task, camera = make_rules(cfg)
    simulator = DevicePointNavVecEnv(cast("list[Place]", places), task, camera, count, seed, device_of(cfg))
    return DeviceFrames(simulator, vision.base, vision.reads, cfg.policy.frames)


def make_env(
    cfg: DictConfig,
    places: Places,
    vision: Vision,
    count: int,
    seed: int | None,
    mirror: bool = False,
    *,
    both_views: bool = False,
) -> tuple[VecEnv, Simulator]:
    """`count` agents with what the policy reads of single frames, and the simulator underneath (expert, records).

    `mirror` is `make_simulator`'s; with `both_views` the mirror images of all observations follow them.
    """
    simulator = make_simulator(cfg, places, count, seed, mirror)
    return PolicyObservations(simulator, vision.base, vision.reads, both_views=both_views), simulator


def policy_arguments(cfg: DictConfig, vision: Vision) -> dict[str, Any]:
    """Keyword arguments of `NavigationPolicy` beyond SB3's own."""
    return {"adapted": vision.adapted, **cfg.policy, "hidden": tuple(cfg.policy.hidden)}


def make_policy(cfg: DictConfig, vision: Vision) -> NavigationPolicy:
    """A policy with fresh weights, drawn with the config's seed; needs no scene."""
    task, camera = make_rules(cfg)
    source = observation_space(task, camera)
    space = stacked_space(frame_space(source, vision.base, vision.reads), cfg.policy.frames)
    torch.manual_seed(cfg.seed)
    actions = spaces.Discrete(len(task.actions))
    policy = NavigationPolicy(space, actions, lambda _: 0.0, **policy_arguments(cfg, vision))
    return policy.to(device_of(cfg))
