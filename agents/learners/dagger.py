"""DAgger: one process acts and labels, the other learns, over frames on disk that both map into memory."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig

from adapt.training import distributed
from adapt.training.run import Run
from agents.learners.collector import Collector, frame_layout
from agents.learners.frames import FrameStore
from agents.learners.imitation import FrameSource, ImitationLearner, threads_beside_data, train_by_imitation
from agents.learners.learner import learners
from agents.learners.settings import DaggerConfig
from agents.policies.policy import Policy, SequencePolicy
from agents.setup import (
    VisualEncoder,
    make_env,
    make_policy,
    make_rules,
    make_scenes,
    make_visual_encoder,
    simulator_of,
)
from configs.errors import explain, is_expected
from configs.processes import SPAWN, end_with_parent


class CollectorDied(ChildProcessError):
    """The process that collects frames ended before training did."""


@dataclass
class _Link:
    """What the two processes share besides the frames: the newest weights, training progress, and when to stop."""

    weights: Any
    version: Any
    progress: Any
    stop: Any
    error: Any

    @classmethod
    def make(cls, policy: Policy) -> _Link:
        size = sum(t.numel() for t in policy.own_state().values())
        # Without locks: one would be held for ever by a process that is killed, and has a name in shared memory that
        # outlives both.
        return cls(
            weights=SPAWN.RawArray("f", size),
            version=SPAWN.RawValue("q", 0),
            progress=SPAWN.RawValue("d", 0.0),
            stop=SPAWN.RawValue("b", 0),
            error=SPAWN.RawArray("c", 2000),
        )

    def publish(self, policy: Policy) -> None:
        """Hand the policy's weights to the collecting process; their version is odd while they change."""
        flat = torch.cat([t.detach().float().reshape(-1).cpu() for t in policy.own_state().values()])
        self.version.value += 1
        np.frombuffer(self.weights, np.float32)[:] = flat.numpy()
        self.version.value += 1

    def fetch(self, policy: Policy, known: int) -> int:
        """Take over newer weights than version `known`, if there are any; returns the version now held.

        Weights that change meanwhile are left for the next call.
        """
        now = int(self.version.value)
        if now == known or now % 2:
            return known
        flat = torch.from_numpy(np.frombuffer(self.weights, np.float32).copy())
        if self.version.value != now:
            return known
        parts, start = {}, 0
        for key, tensor in policy.own_state().items():
            parts[key] = flat[start : start + tensor.numel()].reshape(tensor.shape).to(tensor.dtype)
            start += tensor.numel()
        policy.load_own_state(parts)
        return now


def _make_collector(
    cfg: DictConfig, policy: Policy, vision: VisualEncoder, seed: int, shard: tuple[int, int]
) -> Collector:
    """This shard's agents in this shard's scenes."""
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed, shard)
    apart = seed + distributed.SEEDS_APART * shard[0]
    env, simulator = make_env(cfg, scenes, vision, cfg.env.agents // shard[1], apart, cfg.algo.mirror)
    return Collector(env, simulator, policy, tuple(cfg.algo.beta_floor), cfg.algo.temperature, seed, shard)


def _collect_in_child(
    cfg: DictConfig, folder: str, link: _Link, seed: int, shard: tuple[int, int], parent: int
) -> None:
    """Body of the collecting process; ends at the stop signal, or when its parent is gone."""
    end_with_parent(parent)
    try:
        torch.set_num_threads(threads_beside_data(of_data=True))
        vision = make_visual_encoder(cfg)
        policy = make_policy(cfg, vision)
        held = link.fetch(policy, -1)
        collector = _make_collector(cfg, policy, vision, seed, shard)
        store = _open_store(cfg.algo.buffer_frames // shard[1], Path(folder), collector)
        window = cfg.algo.learner.window + cast(SequencePolicy, policy).context
        while not link.stop.value and os.getppid() == parent:
            progress = link.progress.value
            if store.frames_written >= _frames_due(cfg, shard[1], progress) and store.windows_available(window):
                time.sleep(0.01)
                continue
            held = link.fetch(policy, held)
            collector.collect(store, 8, progress)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        link.error.value = explain(error).encode()[:1999]
        if not is_expected(error):
            raise  # a bug: where it is matters, too
        raise SystemExit(1) from error


def _frames_due(cfg: DictConfig, ranks: int, progress: float) -> float:
    """How many frames a rank may have collected at a training progress in [0, 1]: infinitely many without a limit."""
    per_update = cfg.algo.frames_per_update
    return (cfg.algo.warmup_frames + per_update * progress * cfg.algo.updates) / ranks if per_update else math.inf


def _open_store(frames: int, folder: Path, collector: Collector) -> FrameStore:
    """The run's frames: those of an earlier session, or new files that appear under their name once complete."""
    if folder.exists():
        return FrameStore.open(folder, "r+")
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    lanes = collector.env.num_envs
    layout = frame_layout(collector.observations)
    FrameStore.create(scratch, lanes, max(frames // lanes, 256), layout)
    scratch.rename(folder)
    return FrameStore.open(folder, "r+")


def drop_frames(folder: Path, but: str = "") -> None:
    """Forget the frames of all ranks but those whose names end so, and nothing else that may lie there."""
    for old in [*folder.glob("*_of_*"), *folder.glob(".*_of_*")]:
        if not but or not old.name.endswith(but):
            shutil.rmtree(old, ignore_errors=True)
    if not but:
        with contextlib.suppress(OSError):  # not empty, or never made
            folder.rmdir()


class DaggerData(FrameSource):
    """Frames that keep coming while the learner learns; `parallel` false collects in turns, deterministically."""

    def __init__(
        self, cfg: DictConfig, folder: Path, policy: SequencePolicy, vision: VisualEncoder, start: int
    ) -> None:
        """Start collecting into `folder` for a policy that has made `start` updates."""
        shard = (distributed.rank(), distributed.ranks())
        distributed.share(cfg.env.agents, "env.agents")
        if shard[0] == 0:  # frames written with another number of ranks: their shards do not match
            drop_frames(folder, f"_of_{shard[1]}")
        folder = folder / f"{shard[0]}_of_{shard[1]}"
        self.cfg, self.policy = cfg, policy
        self.total = cfg.algo.updates
        window = cfg.algo.learner.window + policy.context
        seed = cfg.seed + start  # a resumed run goes on with other episodes than it began with
        warm_frames = cfg.algo.warmup_frames // shard[1]
        self.collector: Collector | None = None
        self.process: Any = None
        if cfg.algo.parallel:
            self.link = _Link.make(policy)
            self.link.progress.value = start / self.total
            self.link.publish(policy)
            self.process = SPAWN.Process(
                target=_collect_in_child,
                args=(cfg, str(folder), self.link, seed, shard, os.getpid()),
                # A daemon may not start simulators in processes of their own; this one ends when its parent is gone.
                daemon=False,
                name="collector",
            )
            self.process.start()
            try:
                if len(os.sched_getaffinity(0)) > 1:  # on a core that is idle until the first frames are there
                    simulator_of(cfg).compile_ahead(make_rules(cfg)[0])
                self._wait_for(folder.exists)
                self.store = FrameStore.open(folder)
                warm = min(warm_frames, self.store.length * self.store.lanes)
                self._wait_for(lambda: self.store.frames_written >= warm and self.store.windows_available(window))
            except BaseException:
                self.close()
                raise
        else:
            self.collector = _make_collector(cfg, policy, vision, seed, shard)
            self.store = _open_store(cfg.algo.buffer_frames // shard[1], folder, self.collector)
            steps = max(window, warm_frames // self.store.lanes)
            self.collector.collect(self.store, steps, start / self.total)

    def _wait_for(self, ready: Any) -> None:
        while not ready():
            self._check()
            time.sleep(0.05)

    def _check(self) -> None:
        if self.process is not None and not self.process.is_alive():
            reason = self.link.error.value.decode(errors="replace") or f"exit code {self.process.exitcode}"
            raise CollectorDied(f"the collecting process ended: {reason}")

    def advance(self, learner: ImitationLearner) -> None:
        """Called after every update: share new weights, or take a turn at collecting."""
        progress = learner.updates / self.total
        if self.collector is not None:
            if learner.updates % self.cfg.algo.updates_per_step == 0:
                self.collector.collect(self.store, 1, progress)
        elif learner.updates % 20 == 0:
            self._check()
            self.link.progress.value = progress
            self.link.publish(self.policy)

    def close(self) -> None:
        """Stop collecting."""
        if self.process is not None:
            self.link.stop.value = 1
            self.process.join(timeout=30)
            if self.process.is_alive():
                self.process.kill()
        if self.collector is not None:
            self.collector.env.close()


@learners.register("dagger")
class Dagger:
    """DAgger (Ross et al. 2011): the expert labels the states that the learner itself comes into."""

    Config = DaggerConfig

    def train(self, cfg: DictConfig, run: Run) -> dict[str, Any]:
        """Collect and learn at once; see `Learner.train`."""
        folder = run.path / "frames"
        numbers = train_by_imitation(
            cfg, run, lambda policy, vision, start: DaggerData(cfg, folder, policy, vision, start)
        )
        if not cfg.algo.keep_frames and distributed.is_first():
            drop_frames(folder)
        return numbers
