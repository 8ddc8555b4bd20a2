"""``python -m agents.train algo=dagger|bc|ppo adapt=side_tuning base=curvature env=apartments run=runs/a``.

On several processes or machines: ``torchrun --nproc-per-node 2 -m agents.train ...`` (docs/scaling.md). ``env.agents``,
``algo.learner.batch_size``, ``algo.buffer_frames`` and ``algo.steps`` are then totals that the ranks share.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from adapt.training import distributed
from adapt.training.run import Run, resumed
from agents.learners.learner import learners
from agents.learners.memory import keep_freed_memory
from agents.settings import TrainSettings
from agents.setup import device_of
from configs.compose import cli


@cli("train", TrainSettings)
def main(cfg: DictConfig) -> None:
    """Train one agent into one run folder."""
    with distributed.joined(device_of(cfg)):
        cfg = resumed(cfg)
        learner = learners.get(cfg.algo.name)()
        keep_freed_memory()
        run = Run(Path(cfg.run), cfg, cfg.resume)
        np.random.seed(cfg.seed)
        with closing(run):
            with run.stopping_well():
                numbers = learner.train(cfg, run)
            run.result({**numbers, "train_seconds": round(run.seconds, 1)})
        if distributed.is_first():
            print(f"{cfg.run}: trained in {run.seconds:.0f} s; next: python -m agents.evaluate run={cfg.run}")  # noqa: T201


if __name__ == "__main__":
    main()
