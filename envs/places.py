"""Where to navigate: scenes with their walkable grids and episodes, ready for `envs.pointnav`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from envs import apartments as generator
from envs.episodes import check_episodes, for_scene, generate_episodes, read_episodes, write_episodes
from envs.navigation import NavGrid
from envs.pointnav import Place
from envs.scans import load_scene

T = TypeVar("T")

GOALS_PER_SCENE = 6
SPLIT_SEEDS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Body:
    """The agent's cylinder: radius and height in metres, the highest step it climbs, steepest slope in degrees."""

    radius: float = 0.1
    height: float = 1.5
    climb: float = 0.2
    max_slope: float = 45.0


def apartments(
    split: str, scenes: int, episodes_per_scene: int, seed: int, body: Body, part: tuple[int, int] = (0, 1)
) -> list[Place]:
    """The first `scenes` procedural apartments of a split, each with generated episodes.

    With `part` (index, parts) only those that `share_places` would leave are built.

    Raises:
        ValueError: The split does not exist or holds fewer apartments.
    """
    seeds = generator.split_seeds(split)
    if not 1 <= scenes <= len(seeds):
        raise ValueError(f"{split} holds {len(seeds)} apartments, {scenes} were asked for")
    made = []
    for number in share_places(seeds[:scenes], part):
        scene = generator.generate(number)
        grid = NavGrid.build(scene, **asdict(body))
        episodes = generate_episodes(
            scene.name, grid, episodes_per_scene, seed=_seed(seed, split, number), goals=GOALS_PER_SCENE
        )
        made.append(Place(scene, grid, tuple(episodes)))
    return made


def share_places(items: Sequence[T], part: tuple[int, int]) -> Sequence[T]:
    """Every `parts`-th item from `index` on, for `part` = (index, parts); all where there are too few to go round."""
    index, parts = part
    return items[index::parts] if len(items) >= parts else items


def scans(path: str, episodes: str | None, split: str, count: int, seed: int, body: Body, up: str = "y") -> list[Place]:
    """One textured mesh with the episodes of a PointNav-v1 file.

    `episodes` is a folder laid out as Habitat's, ``<split>/<split>.json.gz``, or one ``.json.gz`` file for every split.
    Where the folder's file does not exist, `count` episodes are generated and written there; without `episodes` they
    are kept in memory.

    Raises:
        FileNotFoundError: The mesh is absent.
        ValueError: The mesh is broken, or an episode does not fit it.
    """
    scene = load_scene(path, up=up)
    grid = NavGrid.build(scene, **asdict(body))
    file = Path(episodes) if episodes else None
    folder = file is not None and file.suffix != ".gz"
    if file is not None and folder:
        file = file / split / f"{split}.json.gz"
    # A single file is read whether it exists or not: generated, it would put held-out episodes among those trained on.
    if file is not None and (file.exists() or not folder):
        kept = for_scene(read_episodes(file), path)
        check_episodes(grid, kept)
        return [Place(scene, grid, tuple(kept))]
    made = generate_episodes(Path(path).name, grid, count, seed=_seed(seed, split, 0), goals=GOALS_PER_SCENE)
    if file is not None:
        write_episodes(file, made)
    return [Place(scene, grid, tuple(made))]


def _seed(seed: int, split: str, scene: int) -> int:
    """Seed of a scene's episodes: other episodes in every split, scene and run seed."""
    return (seed * 3 + SPLIT_SEEDS[split]) * 100_003 + scene
