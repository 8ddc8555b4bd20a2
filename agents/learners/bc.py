"""Behaviour cloning of recorded expert trajectories (``algo=bc``; Side-Tuning, section 4.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adapt.training import distributed
from adapt.training.run import Run
from agents.learners.imitation import FrameSource, train_by_imitation
from agents.learners.learner import learners
from agents.learners.recorded import prepare
from agents.learners.settings import BCConfig


@learners.register("bc")
class BehaviourCloning:
    """The expert's actions in the states that the expert came into."""

    Config = BCConfig

    def train(self, cfg: DictConfig, run: Run) -> dict[str, Any]:
        """Learn from ``algo.data``; see `Learner.train`."""
        rank, ranks = distributed.rank(), distributed.ranks()
        return train_by_imitation(
            cfg,
            run,
            lambda policy, vision, start: FrameSource(
                prepare(cfg, Path(cfg.algo.data), vision.base, vision.reads, cfg.algo.trajectories).shard(rank, ranks)
            ),
        )
