"""Estimate of PPO's peak memory; fails early where it exceeds what is free."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Mapping, Sequence

import torch
from omegaconf import DictConfig

from agents.learners.rollout import rollout_bytes
from agents.setup import VisualEncoder, make_rules, policy_space, simulator_of
from envs.pointnav.vec_env import observation_space

# Activations of a mini-batch: multiples of its observations as float32, forward and backward (measured: 20 to 40).
ACTIVATIONS = 40


def ppo_bytes(cfg: DictConfig, vision: VisualEncoder, scenes: Sequence[object], agents: int) -> dict[str, int]:
    """Bytes of each part of a PPO training with `agents` agents on this rank, by the part's name."""
    task, camera = make_rules(cfg)
    source = observation_space(task, camera)
    space = policy_space(cfg, vision)
    parts = {"rollout": rollout_bytes(space, cfg.algo.rollout, agents)}
    frame = sum(math.prod(s.shape or ()) for s in space.spaces.values())
    largest = cfg.algo.rollout * agents
    parts["mini-batch"] = 4 * frame * min(cfg.algo.learner.get("batch_size", largest), largest) * ACTIVATIONS
    parts["frames"] = 8 * agents * sum(math.prod(s.shape or ()) for s in source.spaces.values())
    parts.update(simulator_of(cfg).planned_bytes(scenes, task, agents))
    return parts


def replay_bytes(cfg: DictConfig, vision: VisualEncoder) -> dict[str, int]:
    """Bytes of each part of a training from replayed steps, by the part's name."""
    space = policy_space(cfg, vision)
    # Every step is kept with the observation before and the one after it.
    replay = 2 * rollout_bytes(space, cfg.algo.learner.buffer_size, 1)
    frame = sum(math.prod(s.shape or ()) for s in space.spaces.values())
    return {"replay": replay, "mini-batch": 2 * 4 * frame * cfg.algo.learner.batch_size * ACTIVATIONS}


def check_memory(parts: Mapping[str, int], device: str) -> str:
    """Compare the estimate with the free memory; returns a one-line summary.

    Raises:
        ValueError: They do not fit; the message says by how much, and what to make smaller.
    """
    free, total = free_bytes(device), sum(parts.values())
    listed = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in parts.items() if size)
    line = f"memory on {device}: {total / 2**20:,.0f} MiB ({listed}) of {free / 2**20:,.0f} MiB free"
    if total > free:
        largest = max(parts, key=lambda name: parts[name])
        raise ValueError(
            f"{line}: it does not fit; {largest} takes most: lower env.agents, algo.rollout, algo.learner.buffer_size, "
            "env.camera.size or the number of scenes"
        )
    return line


def keep_freed_memory() -> None:
    """Configure malloc to reuse freed memory: saves the page faults of large tensors (a tenth of an update)."""
    trim_threshold, mmap_threshold, largest = -1, -3, 2**25
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, largest)
        library.mallopt(trim_threshold, 2**31 - 1)


def free_bytes(device: str) -> int:
    """Memory that can be allocated on a device now."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    with open("/proc/meminfo") as file:
        kib = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return kib["MemAvailable"] * 1024
