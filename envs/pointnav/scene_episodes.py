"""Where to navigate: scenes with their walkable grids and episodes, ready for `envs.pointnav.env`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from envs.apartments import generator
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import Place
from envs.pointnav.episodes import (
    check_episodes,
    fitting_episodes,
    for_scene,
    generate_episodes,
    read_episodes,
    write_episodes,
)
from envs.scans.source import ScanSettings, episode_settings, load_scan

T = TypeVar("T")

_log = logging.getLogger(__name__)

GOALS_PER_SCENE = 4
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

    def make(number: int) -> Place:
        scene = generator.generate(number)
        grid = NavGrid.build(scene, **asdict(body))
        own = _seed(seed, split, number)
        made = generate_episodes(scene.name, grid, episodes_per_scene, seed=own, goals=GOALS_PER_SCENE)
        return Place(scene, grid, tuple(made))

    # Half of the work is in kernels that leave the interpreter to other threads.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(make, share_places(seeds[:scenes], part)))


def share_places(items: Sequence[T], part: tuple[int, int]) -> Sequence[T]:
    """Every `parts`-th item from `index` on, for `part` = (index, parts); all where there are too few to go round."""
    index, parts = part
    return items[index::parts] if len(items) >= parts else items


@dataclass(frozen=True)
class Generation:
    """Which episodes are generated for scans: by default those of Habitat-Lab's PointNav generator.

    Attributes:
        min_distance: Least geodesic distance in metres.
        max_distance: Largest.
        min_ratio: Episodes whose geodesic / Euclidean distance is below this are mostly rejected.
        goals: Different goals per scene.
    """

    min_distance: float = 1.0
    max_distance: float = 30.0
    min_ratio: float = 1.1
    goals: int = 64

    def __post_init__(self) -> None:
        if self.goals < 1:
            raise ValueError(f"env.generate.goals must be at least 1, got {self.goals}")
        if not 0.0 <= self.min_distance < self.max_distance:
            raise ValueError(
                f"env.generate: min_distance={self.min_distance} must be less than max_distance={self.max_distance}"
            )


def scans(
    scene: str | None,
    episodes: str | None,
    split: str,
    count: int,
    seed: int,
    body: Body,
    settings: ScanSettings | None = None,
    generation: Generation | None = None,
    scenes: str | Sequence[str] | None = None,
    unfit: str = "error",
) -> list[Place]:
    """Scans with the episodes of PointNav-v1 files.

    `episodes` is a folder laid out as Habitat's, ``<split>/<split>.json.gz`` with or without ``<split>/content/``, or
    one ``.json.gz`` file for every split. Where the folder's file does not exist, `count` episodes are generated and
    written there; without `episodes` they are kept in memory.

    Args:
        scene: The one scene (`envs.scans.source.load_scan`); None for all that the episodes are in.
        episodes: Where the episodes are.
        split: Which of them.
        count: Episodes to generate.
        seed: Of generated episodes.
        body: The agent.
        settings: How scans are found and read.
        generation: Which episodes to generate.
        scenes: Names of scenes, as Habitat's ``content_scenes``: no others are loaded.
        unfit: ``error`` refuses episodes whose start or goal is off the floor; ``skip`` leaves them out with a warning.

    Raises:
        FileNotFoundError: A mesh is absent.
        ValueError: A mesh is broken, an episode does not fit it, or neither `scene` nor `episodes` is given.
    """
    settings = settings or ScanSettings()
    if unfit not in ("error", "skip"):
        raise ValueError(f"env.unfit={unfit}: choose error or skip")
    file = Path(episodes) if episodes else None
    folder = file is not None and file.suffix != ".gz"
    scenes = [scenes] if isinstance(scenes, str) else scenes
    if file is not None and folder:
        file = file / split / f"{split}.json.gz"
    # A single file is read whether it exists or not: generated, it would put held-out episodes among those trained on.
    if file is not None and (file.exists() or not folder or scene is None):
        return _recorded(scene, file, body, settings, scenes, unfit)
    if scene is None:
        raise ValueError("env=scans needs env.scene=FILE, or env.episodes=FOLDER whose episodes name their scenes")
    loaded, grid = load_scan(scene, settings, **asdict(body))
    made = generate_episodes(
        Path(scene).name,
        grid,
        count,
        seed=_seed(seed, split, 0),
        straight=None,
        **asdict(generation or Generation()),
    )
    if file is not None:
        write_episodes(file, made)
    return [Place(loaded, grid, tuple(made))]


def _recorded(
    scene: str | None, file: Path, body: Body, settings: ScanSettings, scenes: Sequence[str] | None, unfit: str
) -> list[Place]:
    """The scenes of an episode file with their episodes."""
    if scene is not None:
        read = {scene: for_scene(read_episodes(file, [scene] if _per_scene(file) else None), scene)}
    else:
        read = {}
        for episode in read_episodes(file, scenes):
            read.setdefault(episode.scene_id, []).append(episode)
    places = []
    for name, kept in read.items():
        own = episode_settings(settings, kept[0].extra.get("scene_dataset_config"))
        loaded, grid = load_scan(name, own, **asdict(body))
        if unfit == "skip":
            fitting = fitting_episodes(grid, kept)
            if len(fitting) < len(kept):
                _log.warning(
                    "%s: %d of %d episodes are off the floor and left out", name, len(kept) - len(fitting), len(kept)
                )
            kept = fitting
        check_episodes(grid, kept)
        places.append(Place(loaded, grid, tuple(kept)))
    return places


def _per_scene(file: Path) -> bool:
    """Whether an episode file has a folder of files per scene beside it, so that the others need not be read."""
    return (file.parent / "content").is_dir()


def _seed(seed: int, split: str, scene: int) -> int:
    """Seed of a scene's episodes: other episodes in every split, scene and run seed."""
    if split not in SPLIT_SEEDS:
        raise ValueError(f"no episodes are generated for env.split={split}; choose from {', '.join(SPLIT_SEEDS)}")
    return (seed * 3 + SPLIT_SEEDS[split]) * 100_003 + scene
