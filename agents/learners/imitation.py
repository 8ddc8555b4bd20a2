"""Supervised learning of a policy from expert actions, shared by BC and DAgger."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional as F

from adapt.training import distributed
from adapt.training.finite import Data, clip_finite
from adapt.training.run import Run, progress_bar
from adapt.training.state import Damaged, check_like, entry_of, load_optimizer
from agents.evaluation.episodes import Validation
from agents.learners.frames import ACTION, FrameStore
from agents.learners.start import init_from_run
from agents.policies.policy import SequencePolicy, trainable
from agents.setup import VisualEncoder, check_actions, make_policy, make_visual_encoder


class ImitationLearner:
    """Cross-entropy on the expert's actions (Side-Tuning, section 4.3: behaviour cloning), by Adam.

    A batch is made of windows of consecutive frames, so that each frame is encoded once although up to K stacks hold
    it: with 4 labelled frames and a stack of 4 that is 7 encodings instead of 16.
    """

    def __init__(
        self,
        policy: SequencePolicy,
        total_updates: int,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        window: int = 4,
        max_grad_norm: float = 1.0,
        weight_decay: float = 0.0,
        schedule: str = "linear",
        seed: int = 0,
    ) -> None:
        """Prepare to make `total_updates` updates; the learning rate falls linearly to 0 or is constant."""
        own = distributed.share(batch_size, "algo.learner.batch_size")
        if own % window:
            raise ValueError(
                f"algo.learner.batch_size={batch_size} must be a multiple of algo.learner.window={window} on each rank"
            )
        if schedule not in ("linear", "constant"):
            raise ValueError(f"algo.learner.schedule={schedule!r} is unknown; choose linear or constant")
        self.policy = policy
        self.window, self.windows = window, own // window
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.rng = np.random.default_rng([seed, 1, distributed.rank()])
        self.parameters = trainable(policy)
        # Fused, a step takes a fifth of the time on the CPU.
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
        self.total_updates, self.learning_rate, self.falling = total_updates, learning_rate, schedule == "linear"
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda k: self._share_of_rate(k))
        self.updates = 0

    def _share_of_rate(self, updates: int) -> float:
        """Share of the learning rate after so many updates."""
        return max(0.0, 1.0 - updates / self.total_updates) if self.falling else 1.0

    def update(self, store: FrameStore) -> tuple[float, float]:
        """One gradient step on a random batch of `store`; returns (loss, accuracy) of this rank's share of it.

        Raises:
            NotFinite: The frames, the loss or the gradient hold NaN or infinity; nothing was changed.
        """
        batch = store.sample(self.rng, self.windows, self.window + self.policy.context)
        self.policy.set_training_mode(True)
        logits = self.policy.window_logits(batch, self.window)
        labels = torch.as_tensor(batch[ACTION][:, -self.window :].reshape(-1), device=self.policy.device).long()
        loss = F.cross_entropy(logits.float(), labels)
        adapted = self.policy.adapted
        if adapted is not None:
            loss = loss + adapted.penalty()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.parameters)
        at = f"update {self.updates + 1}"
        value = clip_finite(at, loss, self.parameters, self.max_grad_norm, lambda: _named(batch, store))
        self.optimizer.step()
        self.schedule.step()
        self.updates += 1
        if adapted is not None:
            distributed.average_statistics(cast(nn.Module, self.policy))
            adapted.advance(len(labels) * distributed.ranks())
        return value, float((logits.detach().argmax(1) == labels).float().mean())

    def state(self) -> dict[str, Any]:
        """State of the learner beside the policy's weights, for checkpoints."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updates": self.updates,
            "rng": _plain(self.rng.bit_generator.state),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            Damaged: It is not what `state` gave.
        """
        schedule, own = entry_of(state, "schedule", prefix="learner."), self.schedule.state_dict()
        # Another version of torch may know more settings, or fewer.
        entry_of(schedule, "last_epoch", int, "learner.schedule.")
        both = own.keys() & schedule.keys()
        check_like({n: schedule[n] for n in both}, {n: own[n] for n in both}, "learner.schedule")
        generator = entry_of(state, "rng", prefix="learner.")
        check_like(generator, _plain(self.rng.bit_generator.state), "learner.rng")
        if entry_of(state, "updates", int, "learner.") < 0:
            raise Damaged("learner.updates is negative")
        if state["updates"] and not entry_of(
            entry_of(state, "optimizer", prefix="learner."), "state", prefix="learner.optimizer."
        ):
            raise Damaged("learner.optimizer.state is empty")
        load_optimizer(self.optimizer, entry_of(state, "optimizer", prefix="learner."), "learner.optimizer")
        self.schedule.load_state_dict(schedule)
        self.updates = state["updates"]
        for group in self.optimizer.param_groups:  # there may be more updates to make than when it was saved
            group["lr"] = self.learning_rate * self._share_of_rate(self.updates)
        if distributed.is_first():
            try:
                self.rng.bit_generator.state = generator
            except (ValueError, TypeError, OverflowError, KeyError) as error:
                raise Damaged(f"learner.rng is none ({error})") from error
        else:
            self.rng = np.random.default_rng([self.seed, 1, distributed.rank(), self.updates])

    def progress(self) -> str:
        """One line about where a resumed training is."""
        rate = f"{self.learning_rate * self._share_of_rate(self.updates):.3g}"
        falls = ", falling to 0 at the end" if self.falling else ""
        return f"going on after update {self.updates:,} of {self.total_updates:,}; learning rate {rate}{falls}"


def _named(batch: dict[str, NDArray[Any]], store: FrameStore) -> Data:
    """The frames of a batch by the files that they come from."""
    return {str(getattr(store.arrays[key], "filename", key)): array for key, array in batch.items()}


def _plain(state: Any) -> Any:
    """A bit generator's state with Python integers only, as a weights-only checkpoint demands."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return int(state) if isinstance(state, int | np.integer) else state


class FrameSource:
    """Source of labelled frames during imitation learning: a store to which nothing is added, unless subclassed.

    Attributes:
        store: This rank's frames.
    """

    def __init__(self, store: FrameStore) -> None:
        self.store = store

    def advance(self, learner: ImitationLearner) -> None:
        """Called after every update."""

    def close(self) -> None:
        """Called when training ends, by an error too."""


def threads_beside_data(of_data: bool = False) -> int:
    """Threads for a learner, or for the process that makes its data: half of PyTorch's each, so that all cores work."""
    own = max(1, torch.get_num_threads() // 2)
    return max(1, torch.get_num_threads() - own) if of_data else own


def train_by_imitation(
    cfg: DictConfig, run: Run, frames: Callable[[SequencePolicy, VisualEncoder, int], FrameSource]
) -> dict[str, Any]:
    """Train a policy on labelled frames.

    Args:
        cfg: The config of ``agents.train``.
        run: Its run folder.
        frames: Opens the source of frames for a policy that looks through `vision` and has made so many updates.

    Returns:
        Final numbers: updates, and frames of all ranks.

    Raises:
        ValueError: The policy cannot learn from windows of frames, or actions are continuous.
    """
    check_actions(cfg, ("discrete",), f"algo={cfg.algo.name}")
    vision = make_visual_encoder(cfg)
    policy = make_policy(cfg, vision)
    if not isinstance(policy, SequencePolicy):
        raise ValueError(f"algo={cfg.algo.name} cannot train policy={cfg.policy.name}: it has no window_logits")
    if cfg.algo.parallel:
        torch.set_num_threads(threads_beside_data())
    learner = ImitationLearner(policy, cfg.algo.updates, seed=cfg.seed, **cfg.algo.learner)
    state = run.restore(vision.base_sha256)
    if state is not None:
        with run.taking_over():
            policy.load_own_state(entry_of(state, "policy"))
            learner.restore(entry_of(state, "learner"))
        distributed.print_once(learner.progress())
    else:
        init_from_run(cfg, run, policy, vision.base_sha256)
    distributed.copy_from_first(policy.own_state().values())
    source = frames(policy, vision, learner.updates)
    try:
        _updates(cfg, run, learner, source, vision, Validation(cfg))
    finally:
        source.close()
    return {"updates": learner.updates, "frames": distributed.total(source.store.frames_written)}


def _updates(
    cfg: DictConfig,
    run: Run,
    learner: ImitationLearner,
    frames: FrameSource,
    vision: VisualEncoder,
    validation: Validation,
) -> None:
    """The loop over updates: learn, collect, log, validate, save."""
    recent: deque[tuple[float, float]] = deque(maxlen=cfg.log_every)
    total = cfg.algo.updates
    with progress_bar() as bar:
        task = bar.add_task(cfg.algo.name, total=total, completed=learner.updates, note="")
        while learner.updates < total:
            recent.append(learner.update(frames.store))
            frames.advance(learner)
            now = learner.updates
            bar.update(task, completed=now)
            last = now == total
            if now % cfg.log_every == 0 or last:
                loss, accuracy = np.mean(recent, axis=0)
                count = distributed.total(frames.store.frames_written)
                values = {"train/loss": loss, "train/accuracy": accuracy, "train/frames": count}
                values["train/learning_rate"] = learner.optimizer.param_groups[0]["lr"]
                if now % (cfg.log_every * cfg.validation.every) == 0:
                    values.update(validation(learner.policy, vision))
                run.log(now, values)
                bar.update(task, note=f"loss {loss:.3f}, accuracy {accuracy:.3f}, {count:,} frames")
            if now % cfg.save_every == 0 or last:
                state = {"policy": learner.policy.own_state(), "learner": learner.state()}
                distributed.check_equal(state["policy"], f"after update {now}")
                run.save(now, vision.base_sha256, state)
