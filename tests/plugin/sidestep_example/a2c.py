"""Advantage actor-critic (Mnih et al. 2016), Stable-Baselines3's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import DictConfig
from stable_baselines3 import A2C

from adapt.training.run import Run
from agents.learners.rollout import Timeouts
from agents.learners.sb3_training import train_with_sb3
from agents.setup import make_scenes, make_stacked_env, make_visual_encoder, policy_arguments, policy_class
from configs.settings import Range, Settings


@dataclass(frozen=True)
class A2CConfig(Settings):
    """A2C.

    Attributes:
        steps: Environment steps, all agents together.
        rollout: Steps per agent between updates.
        learning_rate: Of RMSprop.
    """

    steps: Annotated[int, Range(1)] = 500_000
    rollout: Annotated[int, Range(1, 1000)] = 5
    learning_rate: Annotated[float, Range(0, above=True)] = 7e-4


class A2CLearner:
    """See `agents.learners.learner.Learner`."""

    Config = A2CConfig

    def train(self, cfg: DictConfig, run: Run) -> dict[str, Any]:
        """Train for ``cfg.algo.steps`` environment steps."""
        vision = make_visual_encoder(cfg)
        state = run.restore(vision.base_sha256)
        scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed)
        model = A2C(
            policy_class(cfg),
            make_stacked_env(cfg, scenes, vision, cfg.env.agents, cfg.seed),
            learning_rate=cfg.algo.learning_rate,
            n_steps=cfg.algo.rollout,
            policy_kwargs=policy_arguments(cfg, vision),
            seed=cfg.seed,
        )
        train_with_sb3(cfg, run, vision, model, state, [Timeouts()])
        return {"steps": model.num_timesteps}
