"""Evaluation on held-out episodes, each run exactly once, by any actor."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from adapt.training import distributed
from adapt.training.finite import check_finite
from agents.policies.actor import sample_actions, sample_velocities, tempered
from agents.policies.observations import GOAL, Observations
from agents.policies.policy import Policy
from agents.setup import Scenes, VisualEncoder, can_mirror, make_env, make_scenes, without_randomisation
from envs.pointnav.scene_episodes import SceneEpisodes
from envs.pointnav.simulator import Simulator
from envs.pointnav.vec_env import swapped_actions

VALIDATION_METRICS = ("success", "spl")  # while training
# (single frames, perhaps with their mirror images, simulator, uniform numbers) -> actions: one number per agent and
# (N,) indices, or (N, 2) of both where actions are continuous.
Act = Callable[[Observations, Simulator, NDArray[np.float64]], NDArray[Any]]


def policy_actor(policy: Policy, temperature: float) -> Act:
    """Sample from the policy at a temperature; 0 takes the likeliest action. Good for one `run_episodes`.

    Where the mirror images of all observations follow them, logits are averaged with those of swapped actions there.
    """
    actor = policy.new_actor()

    def act(observations: Observations, nav: Simulator, noise: NDArray[np.float64]) -> NDArray[Any]:
        if nav.task.continuous:
            gaussian = actor.gaussian(observations, nav.agents.steps)
            return sample_velocities(gaussian, temperature, noise, policy.squash_output)
        views = len(observations[GOAL]) // len(noise)
        logits = actor.logits(observations, np.tile(nav.agents.steps, views))
        if views == 2:
            here, mirrored = logits.chunk(2)
            logits = (here + mirrored[:, swapped_actions(nav.task)]) / 2
        if not temperature:
            return logits.argmax(1).cpu().numpy()
        return sample_actions(tempered(logits, temperature), noise)

    return act


def averages_mirror_views(cfg: DictConfig) -> bool:
    """Whether decisions are averaged with those in the mirror image: not where no agent can have been mirrored."""
    return bool(OmegaConf.select(cfg, "evaluation.mirror", default=False)) and can_mirror(cfg)


def random_actor(observations: Observations, nav: Simulator, noise: NDArray[np.float64]) -> NDArray[Any]:
    """Uniform actions."""
    if nav.task.continuous:
        return (2.0 * noise - 1.0).astype(np.float32)
    return (noise * len(nav.task.discrete_actions)).astype(np.int64)


def expert_actor(observations: Observations, nav: Simulator, noise: NDArray[np.float64]) -> NDArray[Any]:
    """The shortest-path expert."""
    return nav.expert()


def _noise(nav: Simulator, agent: int, seed: int) -> np.random.Generator:
    """An episode's own source of noise, so that its result is independent of batch composition and order."""
    episode = nav.episode(agent)
    return np.random.default_rng([seed, zlib.crc32(f"{episode.scene_id}|{episode.episode_id}".encode())])


def run_episodes(
    cfg: DictConfig,
    scenes: Scenes,
    vision: VisualEncoder,
    act: Act,
    seed: int,
    watch: Callable[[Simulator], None] | None = None,
) -> list[dict[str, Any]]:
    """Play every episode of `scenes` once, with actions by `act`.

    Args:
        cfg: A training config (task, camera, frame stack).
        scenes: Where, and which episodes.
        vision: What the policy looks through; `VisualEncoder(None, None)` renders nothing.
        act: How to act.
        seed: Of the sampling noise; every episode draws its own, so results do not depend on how many run at once.
        watch: Called before every step.

    Returns:
        One record per episode (`PointNav.step`), in the order of `scenes`.
    """
    total = sum(len(place.episodes) for place in scenes)
    env, simulator = make_env(
        cfg, scenes, vision, min(cfg.env.agents, total), None, both_views=averages_mirror_views(cfg)
    )
    nav = simulator.nav
    observations: Observations = env.reset()  # type: ignore[assignment]
    numbers = env.action_space.shape or None  # one for each discrete action
    noise = [_noise(nav, n, seed) for n in range(env.num_envs)]
    records = []
    while simulator.active.any():
        if watch is not None:
            watch(nav)
        actions = act(observations, nav, np.array([source.random(numbers) for source in noise]))
        observations, _, dones, infos = env.step(actions)  # type: ignore[assignment]
        for n in np.flatnonzero(dones):
            records.append(infos[n]["nav"])
            noise[n] = _noise(nav, int(n), seed)
    env.close()
    order = {(p.name, e.episode_id): i for i, (p, e) in enumerate((p, e) for p in scenes for e in p.episodes)}
    return sorted(records, key=lambda r: order[(r["scene_id"], r["episode_id"])])


class Validation:
    """A few held-out episodes now and then while training: a learning curve, never a choice between checkpoints.

    Several ranks share the episodes.
    """

    def __init__(self, cfg: DictConfig) -> None:
        """Build the validation scenes, if the config asks for any."""
        self.cfg = cfg
        self.scenes: list[SceneEpisodes] = []
        if cfg.validation.episodes:
            scenes = make_scenes(self._env(), cfg.validation.split, cfg.seed)
            share = max(1, cfg.validation.episodes // len(scenes))
            self.scenes = [p.only(p.episodes[:share]) for p in scenes[: cfg.validation.episodes]][
                distributed.rank() :: distributed.ranks()
            ]

    def _env(self) -> DictConfig:
        """The environment to validate in, of no more scenes than episodes are asked for."""
        env = without_randomisation(self.cfg.env)
        split = OmegaConf.select(env, f"splits.{self.cfg.validation.split}")
        if isinstance(split, DictConfig) and split.get("scenes") is not None:
            split.scenes = min(split.scenes, self.cfg.validation.episodes)
        return env

    def __call__(self, policy: Policy, vision: VisualEncoder) -> dict[str, float]:
        """Success and SPL of the policy now; empty if no validation was asked for."""
        if not self.cfg.validation.episodes:
            return {}
        records = []
        check_finite(policy.own_state(), "the policy that was to be validated")
        if self.scenes:
            act = policy_actor(policy, self.cfg.evaluation.temperature)
            records = run_episodes(self.cfg, self.scenes, vision, act, self.cfg.seed)
        every = [
            r for part in distributed.gathered([{k: r[k] for k in VALIDATION_METRICS} for r in records]) for r in part
        ]
        return {f"val/{key}": float(np.mean([r[key] for r in every])) for key in VALIDATION_METRICS}
