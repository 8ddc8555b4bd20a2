"""Scenes with PointNav episodes, and their division into shards for several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.settings import Range, Settings
from envs.navgrid.grid import NavGrid
from envs.pointnav.episodes import Episode
from envs.rendering.camera_offsets import CameraOffset
from envs.scene import Scene

T = TypeVar("T")
S = TypeVar("S", bound="SceneEpisodes")


@dataclass(frozen=True)
class AgentConfig(Settings):
    """The agent's body, a cylinder.

    Attributes:
        radius: Metres; the Habitat Challenge has 0.18, Habitat-Lab 0.1.
        height: Metres.
        climb: Highest step that it climbs, metres.
        max_slope: Steepest floor that it walks on, degrees.
    """

    radius: Annotated[float, Range(0, 10, above=True)] = 0.1
    height: Annotated[float, Range(0, 10, above=True)] = 1.5
    climb: Annotated[float, Range(0, 10)] = 0.2
    max_slope: Annotated[float, Range(0, 90, above=True)] = 45.0


class SceneEpisodes(Protocol):
    """A scene with its PointNav episodes, as learners and evaluation know it; a simulator knows more of its own."""

    @property
    def name(self) -> str:
        """The scene's name."""

    @property
    def episodes(self) -> Sequence[Any]:
        """The episodes; each has an `episode_id`, a `start_position` and what its simulator needs."""

    def only(self: S, episodes: Iterable[Any]) -> S:
        """The same scene with some of its episodes."""

    def floor_plan(self, episode: Any) -> dict[str, NDArray[Any]]:
        """Top-down map of an episode's storey, with the shortest path.

        Returns:
            ``navigable`` (z, x) bool, the walkable floor of the start's storey; ``origin`` (2,) world x and z of its
            corner in metres; ``cell``, metres; ``expert_path`` (K, 2) x and z of the corners of the shortest path.
        """


@dataclass(frozen=True)
class NavigableScene:
    """A scene, its walkable grid, the episodes that start and end in it, and its camera where it has one of its own."""

    scene: Scene
    grid: NavGrid
    episodes: tuple[Episode, ...]
    camera: CameraOffset | None = None

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.scene.name

    def only(self, episodes: Iterable[Episode]) -> NavigableScene:
        """The same scene with some of its episodes."""
        return replace(self, episodes=tuple(episodes))

    def floor_plan(self, episode: Episode) -> dict[str, NDArray[Any]]:
        """Top-down map of an episode; see `SceneEpisodes.floor_plan`."""
        floor = self.grid.snap(np.asarray(episode.start_position)[None])
        navigable, origin, cell = self.grid.top_down(int(self.grid.island(floor)[0]), float(floor[0, 1]))
        field = self.grid.field(np.asarray(episode.goal_position))
        path = self.grid.path(field, floor[0])[:, [0, 2]]
        return {"navigable": navigable, "origin": origin, "cell": np.asarray(cell), "expert_path": path}


def shard_of(scenes: Sequence[S], shard: tuple[int, int]) -> list[S]:
    """The shard of one process, (index, shards): every `shards`-th scene, or where there are fewer scenes than shards,
    every `shards`-th episode of each.
    """
    if len(scenes) >= shard[1]:
        return list(every_nth(scenes, shard))
    return [scene.only(every_nth(scene.episodes, shard)) for scene in scenes]


def every_nth(items: Sequence[T], shard: tuple[int, int]) -> Sequence[T]:
    """Every `shards`-th item from `index` on, for `shard` = (index, shards); all where there are fewer than that."""
    index, shards = shard
    return items[index::shards] if len(items) >= shards else items
