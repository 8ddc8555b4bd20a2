"""Empty halls: a floor and four walls, as long as their number says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np

from configs.settings import Range, Settings
from envs.navgrid.grid import NavGrid
from envs.pointnav.episodes import generate_episodes
from envs.pointnav.scene_episodes import NavigableScene, shard_of
from envs.scene import Scene
from envs.sources.source import EmbeddedConfig, EmbeddedSource, episode_seed

Count = Annotated[int, Range(1, 1000)]


@dataclass(frozen=True)
class HallSplit(Settings):
    """A split.

    Attributes:
        scenes: How many halls.
        episodes_per_scene: Episodes generated in each.
    """

    scenes: Count = 2
    episodes_per_scene: Count = 20


def _splits() -> dict[str, HallSplit]:
    return {"train": HallSplit(), "val": HallSplit(1, 5), "test": HallSplit(1, 5)}


@dataclass(frozen=True)
class HallConfig(EmbeddedConfig):
    """Empty halls.

    Attributes:
        width: Metres.
        splits: Sizes of the splits.
    """

    width: Annotated[float, Range(2, 100)] = 4.0
    splits: Mapping[str, HallSplit] = field(default_factory=_splits)


class Hall(EmbeddedSource):
    """Halls of 6 m, 7 m, 8 m, ..."""

    Config = HallConfig

    def scenes(self, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Sequence[NavigableScene]:
        """See `envs.sources.source.SceneSource`."""
        wanted = self.split(split)
        places = [self._place(split, seed, number, wanted["episodes_per_scene"]) for number in range(wanted["scenes"])]
        return shard_of(places, shard)

    def _place(self, split: str, seed: int, number: int, count: int) -> NavigableScene:
        scene = hall(f"hall_{split}_{number}", self.env["width"], 6.0 + number)
        grid = NavGrid.build(scene, **asdict(self.body))
        episodes = generate_episodes(scene.name, grid, count, seed=episode_seed(seed, split, number), straight=None)
        return NavigableScene(scene, grid, tuple(episodes))


def hall(name: str, width: float, length: float, height: float = 2.5) -> Scene:
    """A closed box without a ceiling, seen from both sides; +Y is up."""
    ends = [(0.0, 0.0), (width, 0.0), (width, length), (0.0, length)]
    floor = [[ends[0], ends[2], ends[1]], [ends[0], ends[3], ends[2]]]
    triangles: list[Any] = [[(x, 0.0, z) for x, z in corners] for corners in floor]
    for (x0, z0), (x1, z1) in zip(ends, [*ends[1:], ends[0]], strict=True):
        a, b, c, d = (x0, 0.0, z0), (x1, 0.0, z1), (x1, height, z1), (x0, height, z0)
        triangles += [(a, b, c), (a, c, d)]
    count = len(triangles)
    colours = np.random.default_rng(0).integers(60, 255, (count, 1, 3), dtype=np.uint8)
    return Scene(
        name=name,
        vertices=np.array(triangles, np.float32).reshape(-1, 3),
        faces=np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        corner_uv=np.zeros((count, 3, 2), np.float32),
        corner_color=colours.repeat(3, 1),
        face_texture=np.full(count, -1, np.int32),
        textures=(),
        face_class=np.array([1] * 2 + [0] * (count - 2), np.int32),
        face_instance=np.arange(count, dtype=np.int32),
        class_names=("wall", "floor"),
        solid=np.ones(count, np.bool_),
    )
