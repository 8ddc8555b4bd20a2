"""Recorded expert trajectories: the frames that behaviour cloning learns from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from adapt import Base
from adapt.training.files import to_json
from adapt.training.run import progress_bar, versions, write_text
from agents.learners.feature_cache import cached_features
from agents.learners.frames import ACTION, TRAJECTORY, FrameStore
from agents.policies.observations import DEPTH, EXPLORED, FEATURES, GOAL, MAPS, RGB, STEP, Observations
from agents.setup import Scenes, check_actions, make_rules, make_scenes, make_simulator
from configs.files import read_json
from configs.former import FORMER
from configs.settings import plain
from configs.writing import LOCK, scratch_folder
from envs.pointnav.env import PointNavTask
from envs.rendering.renderer import Camera

SEEN, VERSIONS = "seen.json", "versions.json"
# Settings of the task that earlier versions did not note: unknown where they are absent, not the default.
NOTED_LATER = ("gps", "min_depth", "max_depth", "normalize_depth")
COMPLETE = "trajectories"  # key of the number of whole trajectories, without a gap from the first on


def _frame(observations: Observations) -> Observations:
    """One frame of every agent as the store keeps it: images with channels first."""
    out = {key: observations[key] for key in (GOAL, *MAPS) if key in observations}
    if RGB in observations:
        out[RGB] = observations[RGB].transpose(0, 3, 1, 2)
    if DEPTH in observations:
        out[DEPTH] = observations[DEPTH].transpose(0, 3, 1, 2).astype(np.float16)
    return out


def record(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Record demonstrations of the shortest-path expert.

    `folder` appears only when all frames are there. The STOP frames are kept: with four actions, stopping is learned.
    Trajectories are numbered in the order in which they begin.

    Raises:
        ValueError: Actions are continuous.
    """
    check_actions(cfg, ("discrete",), "agents.collect")
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed)
    length = _length(cfg, scenes)
    env = make_simulator(cfg, scenes, cfg.env.agents, cfg.seed)
    observations: Observations = env.reset()  # type: ignore[assignment]
    layout = {key: (value.shape[1:], str(value.dtype)) for key, value in _frame(observations).items()}
    layout[TRAJECTORY] = (), "int32"
    scratch, lock = scratch_folder(
        folder, f"another process is recording into {folder}; wait, or choose another out=..."
    )
    try:
        store = FrameStore.create(scratch, env.num_envs, length, layout)
        walk = _Walk(env.num_envs)
        with progress_bar() as bar:
            task = bar.add_task("frames", total=length * env.num_envs, note="")
            for _ in range(length):
                actions = env.nav.expert()
                frame = {**_frame(observations), ACTION: actions, STEP: env.nav.agents.steps}
                store.push({**frame, TRAJECTORY: walk.numbers})
                observations, _, dones, infos = env.step(actions)  # type: ignore[assignment]
                walk.went_on(dones, [bool(info.get("is_success")) for info in infos])
                bar.update(task, advance=env.num_envs, note=f"{walk.finished} episodes")
        numbers = {
            "frames": store.frames_written,
            "episodes": walk.finished,
            "expert_success": walk.successes / max(walk.finished, 1),
            COMPLETE: walk.complete if cfg.trajectories is None else cfg.trajectories,
        }
        write_text(scratch / VERSIONS, to_json({**versions(cfg.seed), **numbers}, indent=1))
        write_text(scratch / SEEN, to_json(_seen(cfg)))
        (scratch / LOCK).unlink()
        scratch.rename(folder)
    finally:
        env.close()
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()
    return numbers


class _Walk:
    """Which trajectory every agent is in, numbered in the order in which they begin.

    Attributes:
        numbers: (agents,) int32.
        finished: Trajectories that have ended.
        successes: Those of them that reached the goal.
    """

    def __init__(self, agents: int) -> None:
        self.numbers = np.arange(agents, dtype=np.int32)
        self.finished = self.successes = 0

    @property
    def complete(self) -> int:
        """How many of the first trajectories have all ended."""
        return int(self.numbers.min())

    def went_on(self, dones: NDArray[np.bool_], reached: Sequence[bool]) -> None:
        """Agents whose episode is over begin the next trajectories."""
        over = np.flatnonzero(dones)
        self.numbers[over] = len(self.numbers) + self.finished + np.arange(len(over))
        self.finished += len(over)
        self.successes += sum(reached[int(n)] for n in over)


def _length(cfg: DictConfig, scenes: Scenes) -> int:
    """Steps of every agent until enough is recorded; for trajectories the expert walks them once without pictures."""
    if cfg.trajectories is None:
        return max(1, cfg.frames // cfg.env.agents)
    env = make_simulator(cast(DictConfig, OmegaConf.merge(cfg, {"blind": True})), scenes, cfg.env.agents, cfg.seed)
    env.reset()
    walk, steps = _Walk(env.num_envs), 0
    while walk.complete < cfg.trajectories:
        _, _, dones, _ = env.step(env.nav.expert())
        walk.went_on(dones, [False] * env.num_envs)
        steps += 1
    env.close()
    return steps


def _seen(cfg: DictConfig) -> dict[str, Any]:
    """What recorded frames and actions depend on."""
    task, camera = make_rules(cfg)
    names = ["variant", "forward", "turn", "map_size", "map_extent", "gps"]
    if DEPTH in task.sensors:
        names += ["min_depth", "max_depth", "normalize_depth"]
    if EXPLORED in task.sensors:
        names += ["explored_size", "explored_extent", "explored_layers", "explored_from"]
    rules = plain({name: getattr(task, name) for name in names})
    return {"task": rules, "camera": {key: getattr(camera, key) for key in cfg.env.camera}}


def _check_seen(cfg: DictConfig, folder: Path) -> None:
    """Refuse frames that were recorded for another task or camera."""
    now = _seen(cfg)
    before = read_json(folder / SEEN, tuple(now))
    for part, default in (("task", PointNavTask()), ("camera", Camera())):
        given = before[part] if isinstance(before[part], dict) else {}
        for key in sorted(now[part]):
            if key in NOTED_LATER and key not in given:
                continue
            # What the version that recorded them did not have was as it is by default.
            recorded = given.get(key, FORMER.get(f"env.{part}.{key}", plain(getattr(default, key))))
            if recorded != now[part][key]:
                raise ValueError(
                    f"{folder} was recorded with env.{part}.{key}={recorded}, this run has {now[part][key]}; "
                    "record again or use the same"
                )


def prepare(
    cfg: DictConfig, folder: Path, base: Base | None, reads: frozenset[str], trajectories: int | None = None
) -> FrameStore:
    """Open recorded frames for a policy: only the observations it reads, with cached features of the base.

    Features lie beside the frames, named by the base's sha256. Of `trajectories` only the first so many are drawn.

    Raises:
        FileNotFoundError: There are no recorded frames.
        ValueError: They were recorded for another task or camera, without pictures, or are too few.
    """
    store = FrameStore.open(folder)
    _check_seen(cfg, folder)
    for key in make_rules(cfg)[0].sensors:
        if key not in store.arrays and key != RGB:
            raise ValueError(f"{folder} was recorded without {key}; record again with the same env.task.sensors")
    if reads and RGB not in store.arrays:
        raise ValueError(f"{folder} was recorded without pictures; record again with rgb among env.task.sensors")
    rgb = store.arrays[RGB] if "image" in reads else store.arrays.pop(RGB, None)
    if base is not None and "features" in reads and rgb is not None:
        store.arrays[FEATURES] = cached_features(folder, base, rgb)
    if trajectories is not None:
        there = read_json(folder / VERSIONS).get(COMPLETE, trajectories)
        if there < trajectories:
            raise ValueError(f"{folder} holds {there} whole trajectories, algo.trajectories asks for {trajectories}")
        store = store.first(trajectories)
    store.arrays.pop(TRAJECTORY, None)
    return store
