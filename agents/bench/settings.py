"""Settings of ``python -m agents.bench``."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.settings import Count, Device, Names, Pixels, Settings


@dataclass(frozen=True)
class RaceSettings(Settings):
    """PPO beside Stable-Baselines3.

    Attributes:
        agents: Agents at once.
        steps: Steps per agent and rollout.
        rounds: Repetitions.
        scenes: Apartments.
    """

    agents: Count = 64
    steps: Count = 32
    rounds: Count = 3
    scenes: Count = 8


@dataclass(frozen=True)
class MemorySettings(Settings):
    """Memory.

    Attributes:
        apartments: How many are weighed.
    """

    apartments: Count = 16


@dataclass(frozen=True)
class GpuRun(Settings):
    """A PPO run on a GPU.

    Attributes:
        base: The frozen base.
        size: Pixels per side.
        target: What the table shows as aim.
    """

    base: str
    size: Pixels
    target: str = ""


@dataclass(frozen=True)
class GpuSettings(Settings):
    """The Warp backend.

    Attributes:
        device: What computes.
        agents: Agents at once.
        apartments: Scenes.
        frame_sizes: Pixels per side of the frames that are timed.
        steps: Steps per agent and rollout.
        batch: Samples per update.
        rounds: Repetitions.
        runs: PPO runs that are timed.
        profile: File for torch's profile of a rollout and an update of each of them; null for none.
    """

    device: Device = "auto"
    agents: Count = 1024
    apartments: Count = 64
    frame_sizes: tuple[Pixels, ...] = (64, 128)
    steps: Count = 64
    batch: Count = 8192
    rounds: Count = 3
    runs: tuple[GpuRun, ...] = (GpuRun("curvature", 64, ">= 20,000"), GpuRun("random/taskonomy", 256, ">= 6,000"))
    profile: str | None = None


@dataclass(frozen=True)
class BenchSettings(Settings):
    """Settings of ``python -m agents.bench``.

    Attributes:
        out: File of the numbers.
        sections: all, or some of imports, render, cores, memory, task, base, ppo, policies, imitation, adapt, habitat,
            gpu (the last two by themselves only where habitat-sim and a GPU are).
        scene: A textured mesh to measure the renderer on, beside an apartment.
        rounds: Repetitions, of which the median counts.
        runs: How often a section is measured as a whole; medians count, and their spread is shown.
        ppo: PPO beside Stable-Baselines3.
        memory: Memory.
        gpu: The Warp backend.
    """

    out: str = "docs/bench.json"
    sections: Names = "all"
    scene: str | None = None
    rounds: Count = 5
    runs: Count = 3
    ppo: RaceSettings = field(default_factory=RaceSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    gpu: GpuSettings = field(default_factory=GpuSettings)
