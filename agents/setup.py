"""Factories from a composed config: scenes, visual encoder, environment, policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from gymnasium import spaces
from omegaconf import DictConfig, OmegaConf
from stable_baselines3.common.vec_env import VecEnv

from adapt import Adapted, Base, load_base, with_maps, wrap
from adapt.training.device import choose_device
from agents.policies.observations import (
    DEPTH,
    EXPLORED,
    RGB,
    PolicyObservations,
    frame_space,
    stack_frames,
    stacked_space,
)
from agents.policies.policy import Policy, policies
from agents.policies.predicted_depth import PredictedDepth
from envs.pointnav.env import PointNavTask
from envs.pointnav.scene_episodes import SceneEpisodes
from envs.pointnav.simulator import SimulatorVecEnv, simulators
from envs.pointnav.vec_env import action_space, observation_space
from envs.rendering.renderer import Camera
from envs.rendering.threads import set_num_threads
from envs.sources.source import SceneSource, scene_sources

ADAPT_TASK = "pointnav"
CONTINUOUS_LEARNERS = "algo=ppo, sb3/a2c, sb3/trpo, sb3/sac and sb3/td3 learn those"

Scenes = Sequence[SceneEpisodes]


@dataclass
class VisualEncoder:
    """The frozen base and its adaptation; both None for a blind agent."""

    base: Base | None
    adapted: Adapted | None

    @property
    def reads(self) -> frozenset[str]:
        """The method's inputs: ``image``, ``features``."""
        return self.adapted.reads if self.adapted is not None else frozenset()

    @property
    def base_sha256(self) -> str:
        """Identity of the base; empty for a blind agent."""
        return self.base.sha256 if self.base is not None else ""


def device_of(cfg: DictConfig) -> str:
    """The device that `device` names; see `adapt.training.device`."""
    return choose_device(str(cfg.device))


def scene_source(env: DictConfig) -> SceneSource:
    """The source of scenes that a config's ``env`` names."""
    settings: dict[str, Any] = OmegaConf.to_container(env, resolve=True)  # type: ignore[assignment]
    return scene_sources.get(env.name)(settings)


def without_randomisation(env: DictConfig) -> DictConfig:
    """The environment without the domain randomisation of training, for evaluation."""
    settings: dict[str, Any] = OmegaConf.to_container(env)  # type: ignore[assignment]
    return OmegaConf.create(scene_sources.get(env.name).without_randomisation(settings))


def make_scenes(env: DictConfig, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Scenes:
    """Scenes with episodes of a split (``train``, ``val``, ``test``); see `envs.sources.source.SceneSource.scenes`."""
    return scene_source(env).scenes(split, seed, shard)


def make_rules(cfg: DictConfig) -> tuple[PointNavTask, Camera]:
    """The task's rules and the agents' camera; a blind agent gets nothing that comes from a camera."""
    sensors = tuple(s for s in cfg.env.task.sensors if not (cfg.blind and s in (RGB, DEPTH, EXPLORED)))
    return scene_source(cfg.env).rules(sensors)


def simulator_of(cfg: DictConfig) -> type[SimulatorVecEnv]:
    """The simulator that runs the config's scenes on its device."""
    return simulators.get(scene_source(cfg.env).simulator(device_of(cfg)))


def make_visual_encoder(cfg: DictConfig) -> VisualEncoder:
    """Load the base and wrap it with the configured method."""
    if cfg.blind or RGB not in cfg.env.task.sensors:
        return VisualEncoder(None, None)
    torch.manual_seed(cfg.seed)
    base = with_maps(load_base(cfg.base.name)).to(device_of(cfg))
    if OmegaConf.select(cfg, "compile", default=False):
        base.encoder.compile()
    settings: dict[str, Any] = OmegaConf.to_container(cfg.adapt, resolve=True)  # type: ignore[assignment]
    name = settings.pop("name")
    adapted = wrap(base, name, task=ADAPT_TASK, image_size=make_rules(cfg)[1].size, **settings)
    return VisualEncoder(base, adapted.to(device_of(cfg)))


def make_simulator(
    cfg: DictConfig, scenes: Scenes, count: int, seed: int | None, mirror: bool = False
) -> SimulatorVecEnv:
    """`count` agents in `scenes` with observations as arrays; with seed None every episode comes once.

    `mirror` puts every second agent into the mirror image of its scene, if the simulator can.
    """
    task, camera = make_rules(cfg)
    kind = simulator_of(cfg)
    device = device_of(cfg) if kind.on_device else "cpu"
    kind = kind.with_arrays()
    set_num_threads(OmegaConf.select(cfg, "env.threads") or torch.get_num_threads())
    own = {"predict_depth": PredictedDepth(device_of(cfg))} if task.predicts_depth else {}
    return kind.make(scenes, task, camera, count, seed, device, mirror and kind.can_mirror, **own)


def can_mirror(cfg: DictConfig) -> bool:
    """Whether the config's simulator can mirror scenes, and its actions can be mirrored."""
    return simulator_of(cfg).with_arrays().can_mirror and actions_of(cfg) == "discrete"


def actions_of(cfg: DictConfig) -> str:
    """``discrete`` or ``continuous``."""
    return str(OmegaConf.select(cfg, "env.task.actions", default="discrete"))


def check_actions(cfg: DictConfig, known: Sequence[str], of: str) -> None:
    """Check that a config's actions are among those that something knows.

    Args:
        cfg: The config.
        known: Some of `envs.pointnav.env.ACTIONS`.
        of: What knows only these, as the config names it.

    Raises:
        ValueError: They are not.
    """
    if actions_of(cfg) not in known:
        raise ValueError(
            f"{of} knows {' and '.join(known)} actions only, not env.task.actions={actions_of(cfg)}; "
            f"{CONTINUOUS_LEARNERS if actions_of(cfg) == 'continuous' else 'set env.task.actions=continuous'}"
        )


def check_spaces(cfg: DictConfig, vision: VisualEncoder, policy: Policy, of: str) -> None:
    """Check that a policy reads what agents observe with these settings, and acts as they can.

    Args:
        cfg: The settings.
        vision: What the policy looks through.
        policy: The policy.
        of: Whose it is, for the message.

    Raises:
        ValueError: It reads something else, or of another size, or knows other actions.
    """
    spaces_of: Any = policy
    trained = spaces_of.observation_space
    now = policy_space(cfg, vision)
    # A blind agent passes over what else its seeing twin reads.
    for name in trained.spaces if cfg.blind else {**trained.spaces, **now.spaces}:
        shapes = [space[name].shape if name in space.spaces else "none" for space in (trained, now)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{of} was trained on observations of {name} of shape {shapes[0]}, with these settings they are "
                f"{shapes[1]}; leave env.task.sensors and the sizes of camera and maps as they were"
            )
    actions = action_space(make_rules(cfg)[0])
    if spaces_of.action_space != actions:
        raise ValueError(
            f"{of} was trained on the actions {spaces_of.action_space}, with these settings they are {actions}; "
            "leave env.task.variant and env.task.actions as they were"
        )


def make_stacked_env(
    cfg: DictConfig, scenes: Scenes, vision: VisualEncoder, count: int, seed: int | None, mirror: bool = False
) -> VecEnv:
    """`count` agents with the stacks of frames that the policy reads: with Warp all of it on the device, as tensors.

    `mirror` is `make_simulator`'s; Warp knows no mirror images, so that agents with them are on the CPU.
    """
    kind = simulator_of(cfg)
    if mirror or not kind.on_device:
        return stack_frames(make_env(cfg, scenes, vision, count, seed, mirror)[0], stacked_frames(cfg))
    from agents.policies.device_observations import DeviceFrames

    task, camera = make_rules(cfg)
    simulator = kind.make(scenes, task, camera, count, seed, device_of(cfg))
    return DeviceFrames(simulator, vision.base, vision.reads, stacked_frames(cfg))


def make_env(
    cfg: DictConfig,
    scenes: Scenes,
    vision: VisualEncoder,
    count: int,
    seed: int | None,
    mirror: bool = False,
    *,
    both_views: bool = False,
) -> tuple[VecEnv, SimulatorVecEnv]:
    """`count` agents with the policy's observations of single frames, and their simulator (expert, records).

    `mirror` is `make_simulator`'s; with `both_views` the mirror images of all observations follow them.
    """
    simulator = make_simulator(cfg, scenes, count, seed, mirror)
    return PolicyObservations(simulator, vision.base, vision.reads, both_views=both_views), simulator


def policy_class(cfg: DictConfig) -> type[Policy]:
    """The policy that ``policy.name`` names; runs of older versions have no such key."""
    return policies.get(OmegaConf.select(cfg, "policy.name", default="stack"))


def policy_arguments(cfg: DictConfig, vision: VisualEncoder) -> dict[str, Any]:
    """Keyword arguments of the policy beyond SB3's own."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg.policy, resolve=True)  # type: ignore[assignment]
    return {"adapted": vision.adapted, **{key: value for key, value in settings.items() if key != "name"}}


def stacked_frames(cfg: DictConfig) -> int:
    """The number of frames that reinforcement learning stacks for the configured policy."""
    return policy_class(cfg).stacked_frames(cfg.policy)


def policy_space(cfg: DictConfig, vision: VisualEncoder) -> spaces.Dict:
    """Space of the policy's observations in reinforcement learning."""
    single = frame_space(observation_space(*make_rules(cfg)), vision.base, vision.reads)
    return stacked_space(single, stacked_frames(cfg))


def make_policy(cfg: DictConfig, vision: VisualEncoder) -> Policy:
    """A policy with fresh weights, drawn with the config's seed; needs no scene."""
    task, _ = make_rules(cfg)
    space = policy_space(cfg, vision)
    torch.manual_seed(cfg.seed)
    make: Any = policy_class(cfg)
    policy = make(space, action_space(task), lambda _: 0.0, **policy_arguments(cfg, vision))
    return cast(Policy, policy.to(device_of(cfg)))
