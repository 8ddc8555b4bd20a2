"""``python -m agents.train algo=dagger|bc|ppo adapt=side_tuning base=curvature env=apartments run=runs/a``.

On several processes or machines: ``torchrun --nproc-per-node 2 -m agents.train ...`` (docs/scaling.md). ``env.agents``,
``algo.learner.batch_size``, ``algo.buffer_frames`` and ``algo.steps`` are then totals that the ranks share.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from adapt.training import distributed
from adapt.training.run import Run, progress_bar
from agents.collect import prepare
from agents.evaluation.episodes import Validation
from agents.learners.dagger import DaggerData, drop_frames
from agents.learners.frames import FrameStore
from agents.learners.imitation import ImitationLearner
from agents.learners.limits import check_limits
from agents.learners.memory import keep_freed_memory
from agents.learners.ppo import train_ppo
from agents.policies.navigation import NavigationPolicy
from agents.setup import Vision, device_of, make_policy, make_vision
from configs.compose import cli


def train_imitation(cfg: DictConfig, run: Run, policy: NavigationPolicy, vision: Vision) -> dict[str, Any]:
    """BC from recorded frames, or DAgger; returns final numbers."""
    if cfg.algo.parallel:
        torch.set_num_threads(1)
    learner = ImitationLearner(policy, cfg.algo.updates, seed=cfg.seed, **cfg.algo.learner)
    state = run.restore(vision.base_sha256)
    if state is not None:
        policy.load_own_state(state["policy"])
        learner.restore(state["learner"])
    distributed.copy_from_first(policy.own_state().values())
    folder = run.path / "frames"
    data = DaggerData(cfg, folder, policy, vision, learner.updates) if cfg.algo.name == "dagger" else None
    store = data.store if data is not None else _recorded(cfg, vision)
    try:
        validation = Validation(cfg)
        _updates(cfg, run, learner, store, data, vision, validation)
    finally:
        if data is not None:
            data.close()
    frames = distributed.total(store.frames_written)
    if data is not None and not cfg.algo.keep_frames and distributed.is_first():
        drop_frames(folder)
    return {"updates": learner.updates, "frames": frames}


def _recorded(cfg: DictConfig, vision: Vision) -> FrameStore:
    """This rank's part of the recorded frames."""
    store = prepare(cfg, Path(cfg.algo.data), vision.base, vision.reads)
    return store.part(distributed.rank(), distributed.ranks())


def _updates(
    cfg: DictConfig,
    run: Run,
    learner: ImitationLearner,
    store: FrameStore,
    data: DaggerData | None,
    vision: Vision,
    validation: Validation,
) -> None:
    """The loop over updates: learn, collect, log, validate, save."""
    recent: deque[tuple[float, float]] = deque(maxlen=cfg.log_every)
    total = cfg.algo.updates
    with progress_bar() as bar:
        task = bar.add_task(cfg.algo.name, total=total, completed=learner.updates, note="")
        while learner.updates < total:
            recent.append(learner.update(store))
            if data is not None:
                data.advance(learner)
            now = learner.updates
            bar.update(task, completed=now)
            last = now == total
            if now % cfg.log_every == 0 or last:
                loss, accuracy = np.mean(recent, axis=0)
                frames = distributed.total(store.frames_written)
                values = {"train/loss": loss, "train/accuracy": accuracy, "train/frames": frames}
                values["train/learning_rate"] = learner.optimizer.param_groups[0]["lr"]
                if now % (cfg.log_every * cfg.validation.every) == 0:
                    values.update(validation(learner.policy, vision))
                run.log(now, values)
                bar.update(task, note=f"loss {loss:.3f}, accuracy {accuracy:.3f}, {frames:,} frames")
            if now % cfg.save_every == 0 or last:
                state = {"policy": learner.policy.own_state(), "learner": learner.state()}
                distributed.check_equal(state["policy"], f"after update {now}")
                run.save(now, vision.base_sha256, state)


@cli("train")
def main(cfg: DictConfig) -> None:
    """Train one agent into one run folder."""
    with distributed.joined(device_of(cfg)):
        check_limits(cfg)
        keep_freed_memory()
        run = Run(Path(cfg.run), cfg, cfg.resume)
        np.random.seed(cfg.seed)
        vision = make_vision(cfg)
        if cfg.algo.name == "ppo":
            numbers = train_ppo(cfg, run, vision)
        else:
            numbers = train_imitation(cfg, run, make_policy(cfg, vision), vision)
        run.result({**numbers, "train_seconds": round(run.seconds, 1)})
        run.close()


if __name__ == "__main__":
    main()
