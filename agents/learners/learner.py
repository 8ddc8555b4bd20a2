"""The interface of learners, and their registry (``algo.name``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from omegaconf import DictConfig

from adapt.training.run import Run
from configs.registry import Registry, modules_of
from configs.settings import Settings


class Learner(Protocol):
    """Trains one agent into one run folder; made without arguments.

    `agents.setup` turns the config into its objects: scenes, frozen base and adapted features, environment, policy.

    Attributes:
        Config: Dataclass of the settings of ``algo=<name>``.
    """

    Config: ClassVar[type[Settings]]

    def train(self, cfg: DictConfig, run: Run) -> Mapping[str, Any]:
        """Train; resumes an interrupted run.

        Args:
            cfg: The config of ``agents.train``; ``cfg.algo`` are the learner's settings.
            run: The run folder: metrics go to `run.log`, checkpoints to `run.save` with the policy's `own_state` under
                ``policy``; `run.restore` gives back the last one.

        Returns:
            Final numbers for ``result.json``.
        """


HELPERS = (
    "collector",
    "feature_cache",
    "frames",
    "imitation",
    "learner",
    "memory",
    "recorded",
    "recurrent",
    "rollout",
    "sb3",
    "sb3_settings",
    "sb3_training",
    "settings",
    "start",
)

SB3 = ("a2c", "dqn", "qrdqn", "sac", "td3", "trpo")


def _modules() -> dict[str, str]:
    """The modules of built-in learners by name."""
    families = {f"sb3/{name}": "agents.learners.sb3" for name in SB3}
    return {**modules_of("agents.learners", but=HELPERS), **families}


learners: Registry[type[Learner]] = Registry("learner", "sidestep.learners", _modules, nested=True)
"""All learners by name."""
