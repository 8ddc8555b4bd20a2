"""Procedural apartments with generated episodes: the embedded default (``env=apartments``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from configs.settings import OneOf, Range, Settings
from envs.apartments import generator
from envs.apartments.appearance import APPEARANCES, BANKS, check_appearance
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene, every_nth, shard_of
from envs.sources.apartment_builds import Build, built_beside, processes_for
from envs.sources.scene_cache import SceneCache
from envs.sources.source import EmbeddedConfig, EmbeddedSource, Episodes, scene_sources


@dataclass(frozen=True)
class ApartmentSplit(Settings):
    """A split of the apartments.

    Attributes:
        scenes: The first so many apartments of the split.
        episodes_per_scene: Episodes generated in each.
    """

    scenes: Annotated[int, Range(1, 100_000)] = 40
    episodes_per_scene: Episodes = 5


@dataclass(frozen=True)
class ApartmentsConfig(EmbeddedConfig):
    """Seeded procedural apartments.

    Attributes:
        appearance: wide: materials, textures, light and camera at random, a quarter without ceilings; walkable floor
            and episodes as they are. Of the split that is trained on: validation and agents.evaluate use plain ones by
            default.
        splits: Sizes of the splits.
    """

    appearance: Annotated[str, OneOf(*APPEARANCES)] = "plain"
    splits: Mapping[str, ApartmentSplit] = field(
        default_factory=lambda: {
            "train": ApartmentSplit(300, 20),
            "val": ApartmentSplit(40, 5),
            "test": ApartmentSplit(40, 5),
        }
    )


@scene_sources.register("apartments")
class Apartments(EmbeddedSource):
    """The first apartments of a split."""

    Config = ApartmentsConfig

    @classmethod
    def without_randomisation(cls, env: Mapping[str, Any]) -> dict[str, Any]:
        """The same apartments as they are without other materials, light and cameras."""
        return {**env, "appearance": "plain"}

    def scenes(self, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Sequence[NavigableScene]:
        """See `SceneSource.scenes`; only this shard's apartments are built, where there are enough of them."""
        wanted = self.split(split)
        count, episodes = wanted["scenes"], wanted["episodes_per_scene"]
        appearance = self.env.get("appearance", "plain")
        places = apartments(split, count, episodes, seed, self.body, shard, appearance)
        return places if count >= shard[1] else shard_of(places, shard)

    def simulator(self, device: str) -> str:
        """See `SceneSource.simulator`; ``auto`` is Embree for wide apartments, whose cameras only it renders."""
        wide = self.env.get("appearance", "plain") == "wide"
        return "embree" if wide and self.env.get("backend", "auto") == "auto" else super().simulator(device)


def apartments(
    split: str,
    scenes: int,
    episodes_per_scene: int,
    seed: int,
    body: AgentConfig,
    shard: tuple[int, int] = (0, 1),
    appearance: str = "plain",
) -> list[NavigableScene]:
    """The first `scenes` procedural apartments of a split, each with generated episodes.

    With `shard` (index, shards) only the shard's are built. With `appearance` ``wide`` materials,
    textures, light and camera are drawn at random for every apartment, and a quarter of them has no ceiling; walkable
    floor and episodes stay. What was built before comes from `envs.sources.scene_cache`.

    Raises:
        ValueError: The split does not exist or holds fewer apartments, or the appearance does not exist.
    """
    check_appearance(appearance)
    seeds = generator.split_seeds(split)
    if not 1 <= scenes <= len(seeds):
        raise ValueError(f"{split} holds {len(seeds)} apartments, {scenes} were asked for")

    cache, build = SceneCache(), Build(split, episodes_per_scene, seed, body, appearance)
    numbers = every_nth(seeds[:scenes], shard)
    # Textures that apartments share are drawn, and kernels compiled, before others would each do so.
    for number in numbers[:BANKS]:
        generator.textures_of(number, appearance)
    first = build.make(cache, numbers[0])
    missing = build.missing(cache, numbers)
    cores = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # torchrun's ranks
    # Into a cache that cannot be written, others would build for nothing.
    processes = 0 if numbers[0] in missing else processes_for(len(missing), cores)
    with built_beside(build, missing, processes), ThreadPoolExecutor(cores - processes) as pool:
        places = [first, *pool.map(partial(build.make, cache), numbers[1:])]
    cache.arrays.trim()
    return places
