"""Recorded expert trajectories: the frames that behaviour cloning learns from."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
from omegaconf import DictConfig

from adapt import Base
from adapt.training.files import to_json, try_lock
from adapt.training.run import progress_bar, versions, write_text
from agents.learners.feature_cache import cached_features
from agents.learners.frames import ACTION, FrameStore
from agents.policies.observations import DEPTH, FEATURES, GOAL, MAPS, RGB, STEP, Observations
from agents.setup import make_rules, make_scenes, make_simulator
from configs.files import read_json

SEEN, LOCK = "seen.json", "lock"


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
    """
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed)
    env = make_simulator(cfg, scenes, cfg.env.agents, cfg.seed)
    observations: Observations = env.reset()  # type: ignore[assignment]
    length = max(1, cfg.frames // env.num_envs)
    layout = {key: (value.shape[1:], str(value.dtype)) for key, value in _frame(observations).items()}
    scratch, lock = _scratch(folder)
    try:
        store = FrameStore.create(scratch, env.num_envs, length, layout)
        episodes = successes = 0
        with progress_bar() as bar:
            task = bar.add_task("frames", total=length * env.num_envs, note="")
            for _ in range(length):
                actions = env.nav.expert()
                store.push({**_frame(observations), ACTION: actions, STEP: env.nav.agents.steps})
                observations, _, dones, infos = env.step(actions)  # type: ignore[assignment]
                episodes += int(dones.sum())
                successes += sum(bool(info.get("is_success")) for info in infos)
                bar.update(task, advance=env.num_envs, note=f"{episodes} episodes")
        numbers = {
            "frames": store.frames_written,
            "episodes": episodes,
            "expert_success": successes / max(episodes, 1),
        }
        write_text(scratch / "versions.json", to_json({**versions(cfg.seed), **numbers}, indent=1))
        write_text(scratch / SEEN, to_json(_seen(cfg)))
        (scratch / LOCK).unlink()
        scratch.rename(folder)
    finally:
        env.close()
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()
    return numbers


def _scratch(folder: Path) -> tuple[Path, IO[bytes]]:
    """A hidden folder beside `folder` to write into and the file that locks it; those of killed processes are removed.

    Raises:
        ValueError: Another process is recording into `folder`.
    """
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        if old.is_dir() and old.suffix[1:].isdigit():
            with (old / LOCK).open("ab") as file:
                if not try_lock(file):
                    raise ValueError(f"another process is recording into {folder}; wait, or choose another out=...")
                shutil.rmtree(old, ignore_errors=True)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    lock = (scratch / LOCK).open("ab")
    try_lock(lock)
    return scratch, lock


def _seen(cfg: DictConfig) -> dict[str, Any]:
    """What recorded frames and actions depend on."""
    task, camera = make_rules(cfg)
    rules = {key: getattr(task, key) for key in ("variant", "forward", "turn", "map_size", "map_extent")}
    return {"task": rules, "camera": {key: getattr(camera, key) for key in cfg.env.camera}}


def prepare(cfg: DictConfig, folder: Path, base: Base | None, reads: frozenset[str]) -> FrameStore:
    """Open recorded frames for a policy: only the observations it reads, with cached features of the base.

    Features lie beside the frames, named by the base's sha256.

    Raises:
        FileNotFoundError: There are no recorded frames.
        ValueError: They were recorded for another task or camera, or without pictures.
    """
    store = FrameStore.open(folder)
    now = _seen(cfg)
    before = read_json(folder / SEEN, tuple(now))
    for part in now:
        given = before[part] if isinstance(before[part], dict) else {}
        for key in sorted(now[part]):
            if given.get(key) != now[part][key]:
                raise ValueError(
                    f"{folder} was recorded with env.{part}.{key}={given.get(key)}, this run has "
                    f"{now[part][key]}; record again or use the same"
                )
    for key in make_rules(cfg)[0].sensors:
        if key not in store.arrays and key != RGB:
            raise ValueError(f"{folder} was recorded without {key}; record again with the same env.task.sensors")
    if reads and RGB not in store.arrays:
        raise ValueError(f"{folder} was recorded without pictures; record again with rgb among env.task.sensors")
    rgb = store.arrays[RGB] if "image" in reads else store.arrays.pop(RGB, None)
    if base is not None and "features" in reads and rgb is not None:
        store.arrays[FEATURES] = cached_features(folder, base, rgb)
    return store
