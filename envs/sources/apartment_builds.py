"""Processes that build apartments into the disk cache, beside the one that waits for them.

Half of the work is Python's, which threads of one process cannot share. The processes need no torch and start in a
second; each is ``python -m envs.sources.apartment_builds`` with a `Build` as JSON, and builds from the last apartment
on. What one of them does not manage, the waiting process builds itself, so none of their errors matters.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from configs.processes import end_with_parent
from envs.apartments.appearance import camera_offset
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.sources.scene_cache import SceneCache
from envs.sources.source import episode_seed

GOALS_PER_SCENE = 4
# Fewer apartments than these are built sooner than a process has started.
LEAST = 24
MOST_PROCESSES = 8


@dataclass(frozen=True)
class Build:
    """Apartments of a split with episodes for agents of one size.

    Attributes:
        split: Their split.
        episodes: Episodes in each.
        seed: Of the episodes.
        body: The agents.
        appearance: One of `envs.apartments.appearance.APPEARANCES`.
    """

    split: str
    episodes: int
    seed: int
    body: AgentConfig
    appearance: str

    def make(self, cache: SceneCache, number: int) -> NavigableScene:
        """One apartment with its episodes, from the cache where it is there."""
        scene, grid = cache.scene(number, self.appearance, self.body)
        own = episode_seed(self.seed, self.split, number)
        episodes = cache.episodes(scene.name, grid, self.body, self.episodes, own, GOALS_PER_SCENE)
        return NavigableScene(scene, grid, episodes, camera_offset(number) if self.appearance == "wide" else None)

    def missing(self, cache: SceneCache, numbers: Sequence[int]) -> list[int]:
        """Those that the cache does not have."""
        return [number for number in numbers if not cache.has_scene(number, self.appearance, self.body)]


def processes_for(missing: int, cores: int) -> int:
    """Number of processes that pay beside this one."""
    return max(0, min(cores - 1, missing // LEAST, MOST_PROCESSES))


@contextlib.contextmanager
def built_beside(build: Build, numbers: Sequence[int], processes: int) -> Iterator[None]:
    """Let processes put apartments into the cache, the last first, while the context is open."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    started = []
    with contextlib.suppress(OSError):  # no more processes are allowed: this one builds what they would have
        for first in range(processes):
            order = {"parent": os.getpid(), "numbers": [*reversed(numbers)][first::processes], "build": asdict(build)}
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", __name__, json.dumps(order)],
                    env={**os.environ, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main(order: str) -> None:
    """Build what another process ordered."""
    wanted = json.loads(order)
    end_with_parent(wanted["parent"])
    build = Build(**{**wanted["build"], "body": AgentConfig(**wanted["build"]["body"])})
    cache = SceneCache()
    for number in wanted["numbers"]:
        build.make(cache, number)


if __name__ == "__main__":
    main(sys.argv[1])
