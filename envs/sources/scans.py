"""Textured meshes with PointNav-v1 episodes (``env=scans``): own scans, Gibson, MP3D, HM3D, ReplicaCAD."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from configs.settings import Names, NotNegative, OneOf, Positive, Range, Settings
from envs.pointnav.episode_files import absent, may_generate, split_file, write_generated
from envs.pointnav.episodes import (
    Episode,
    check_episodes,
    distinct,
    fitting_episodes,
    for_scene,
    generate_episodes,
    moved,
    read_episodes,
    with_distinct_ids,
)
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene, shard_of
from envs.scans.scene_datasets import Composition
from envs.scans.source import ScanSettings, episode_settings, find_scan, load_scan
from envs.sources.findings import DOCS, MISSING, NOTE, OK, Finding, check_file, check_split
from envs.sources.source import EmbeddedConfig, EmbeddedSource, Episodes, episode_seed, scene_sources

UNFIT = ("error", "skip")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation(Settings):
    """Settings of episode generation for scans; the defaults are those of Habitat-Lab's generator.

    Attributes:
        min_distance: Least geodesic distance in metres.
        max_distance: Largest.
        min_ratio: Episodes whose geodesic / Euclidean distance is below this are mostly rejected.
        goals: Different goals per scene.
    """

    min_distance: NotNegative = 1.0
    max_distance: Positive = 30.0
    min_ratio: NotNegative = 1.1
    goals: Annotated[int, Range(1, 100_000)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"less than max_distance={self.max_distance}"
        self.require(self.min_distance < self.max_distance, "min_distance", rule)


@dataclass(frozen=True)
class ScanSplit(Settings):
    """A split of scans.

    Attributes:
        episodes_per_scene: Episodes to generate where there are none.
    """

    episodes_per_scene: Episodes = 200


@dataclass(frozen=True)
class ScansConfig(ScanSettings, EmbeddedConfig):
    """Textured meshes (one's own scan, Gibson, MP3D, HM3D, ReplicaCAD) with PointNav-v1 episodes: docs/scans.md.

    Attributes:
        scene: A .glb, .gltf, .obj, .ply or .scene_instance.json file, or a name in `dataset`; null: all scenes of the
            episodes.
        episodes: PointNav-v1: a .json.gz file, or a folder of <split>/<split>.json.gz; generated into a new folder.
        scenes: Of the episodes' scenes only these, by name without ending; null: all.
        unfit: What to do with episodes off the floor.
        splits: Sizes of generated splits.
    """

    scene: str | None = None
    episodes: str | None = None
    scenes: Names | None = None
    unfit: Annotated[str, OneOf(*UNFIT)] = "error"
    generate: Generation = field(default_factory=Generation)
    splits: Mapping[str, ScanSplit] = field(
        default_factory=lambda: {"train": ScanSplit(2000), "val": ScanSplit(200), "test": ScanSplit(200)}
    )


def scans(
    scene: str | None,
    episodes: str | None,
    split: str,
    count: int,
    seed: int,
    body: AgentConfig,
    settings: ScanSettings | None = None,
    generation: Generation | None = None,
    scenes: str | Sequence[str] | None = None,
    unfit: str = "error",
) -> list[NavigableScene]:
    """Scans with the episodes of PointNav-v1 files.

    `episodes` is a folder laid out as Habitat's, ``<split>/<split>.json.gz`` with or without ``<split>/content/``, or
    one ``.json.gz`` file for every split. Without `episodes`, `count` episodes are generated and kept in memory; with a
    folder that is new, empty or holds generated ones only, they are written there. Both are logged as a warning.

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
        FileNotFoundError: A mesh is absent, or `episodes` names a place that holds something else than this split.
        ValueError: A mesh is broken, an episode does not fit it, or neither `scene` nor `episodes` is given.
    """
    settings = settings or ScanSettings()
    if unfit not in UNFIT:
        raise ValueError(f"env.unfit={unfit}: choose error or skip")
    scenes = [scenes] if isinstance(scenes, str) else scenes
    if episodes:
        file = split_file(episodes, split)
        if file.is_file():
            return _recorded(scene, file, body, settings, scenes, unfit)
        # Generated into a single file, held-out episodes would be among those trained on.
        if scene is None or not may_generate(episodes):
            raise absent(episodes, split)
    if scene is None:
        raise ValueError("env=scans needs env.scene=FILE, or env.episodes=FOLDER whose episodes name their scenes")
    loaded, grid = load_scan(scene, settings, **asdict(body))
    generated = generate_episodes(
        Path(scene).name,
        grid,
        count,
        seed=episode_seed(seed, split, 0),
        straight=None,
        **asdict(generation or Generation()),
    )
    note = (
        f" and written to {write_generated(episodes, split, scene, moved(generated, loaded.origin))}"
        if episodes
        else ""
    )
    _log.warning("%s: %d episodes of the split %s are generated%s", scene, len(generated), split, note)
    return [NavigableScene(loaded, grid, tuple(generated))]


def _recorded(
    scene: str | None, file: Path, body: AgentConfig, settings: ScanSettings, scenes: Sequence[str] | None, unfit: str
) -> list[NavigableScene]:
    """The scenes of an episode file with their episodes."""
    if scene is not None:
        read = [(scene, for_scene(read_episodes(file, [scene] if _per_scene(file) else None), scene))]
    else:
        episodes = read_episodes(file, scenes)
        try:
            read = _by_scene(episodes, settings)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    places = []
    for name, those in read:
        chosen = with_distinct_ids(those)
        own = episode_settings(settings, chosen[0].extra.get("scene_dataset_config"))
        loaded, grid = load_scan(name, own, **asdict(body))
        if any(loaded.origin):
            chosen = moved(chosen, [-v for v in loaded.origin])
        if unfit == "skip":
            fitting = fitting_episodes(grid, chosen)
            if len(fitting) < len(chosen):
                left_out = len(chosen) - len(fitting)
                _log.warning("%s: %d of %d episodes are off the floor and left out", name, left_out, len(chosen))
            chosen = fitting
            if not chosen:
                continue
        try:
            check_episodes(grid, chosen)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        places.append(NavigableScene(loaded, grid, tuple(chosen)))
    if not places:
        raise ValueError(f"{file}: no episode is on the floor; are the meshes those that they were made for?")
    # Records and reports know a place by its name.
    names = distinct([place.name for place in places])
    return [
        place if place.name == name else replace(place, scene=replace(place.scene, name=name))
        for place, name in zip(places, names, strict=True)
    ]


def _by_scene(episodes: Sequence[Episode], settings: ScanSettings) -> list[tuple[str, list[Episode]]]:
    """Episodes by scene, as the first of them names it; a scene that is named with several folders in front is one."""
    named: dict[tuple[str, str | None], list[Episode]] = {}
    for episode in episodes:
        dataset = episode.extra.get("scene_dataset_config")
        key = episode.scene_id, dataset if isinstance(dataset, str) else None
        named.setdefault(key, []).append(episode)
    by_scan: dict[object, tuple[str, list[Episode]]] = {}
    for (name, dataset), those in named.items():
        scan = find_scan(name, episode_settings(settings, dataset))
        same = (scan.name, scan.assets[0].path) if isinstance(scan, Composition) else scan.resolve()
        by_scan.setdefault(same, (name, []))[1].extend(those)
    return list(by_scan.values())


def _per_scene(file: Path) -> bool:
    """Whether an episode file has a folder of files per scene beside it, so that the others need not be read."""
    return (file.parent / "content").is_dir()


@scene_sources.register("scans")
class Scans(EmbeddedSource):
    """One scan, or all scenes of an episode file."""

    Config = ScansConfig

    def scenes(self, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Sequence[NavigableScene]:
        """See `SceneSource.scenes`."""
        env, wanted = self.env, self.split(split)
        places = scans(
            env["scene"],
            env["episodes"],
            split,
            wanted["episodes_per_scene"],
            seed,
            self.body,
            # Runs of older versions have fewer keys.
            ScanSettings(**{f.name: env[f.name] for f in fields(ScanSettings) if f.name in env}),
            Generation(**env.get("generate", {})),
            env.get("scenes"),
            env.get("unfit", "error"),
        )
        return shard_of(places, shard)

    def check(self, split: str) -> Iterator[Finding]:
        """The scene's and the episodes' files."""
        return _check_scans({**self.env, "split": split})


def _check_scans(env: Mapping[str, Any]) -> Iterator[Finding]:
    if env["scene"] is not None:
        try:
            find_scan(env["scene"], ScanSettings(env["dataset"], env["scenes_dir"]))
        except (OSError, ValueError) as error:
            fix = "give env.scene=<a .glb, .gltf, .obj or .ply file, or a name in env.dataset>"
            yield Finding(MISSING, " ".join(str(error).split()), fix)
        else:
            yield Finding(OK, f"the scene: {env['scene']}")
    if env["episodes"] is not None:
        yield from _check_episodes(env)
    elif env["scene"] is None:
        yield Finding(MISSING, "env=scans needs a scene", "give env.scene=FILE, or env.episodes=FOLDER")


def _check_episodes(env: Mapping[str, Any]) -> Iterator[Finding]:
    """Where ``env.episodes`` points, and the scenes of its split."""
    try:
        file = split_file(env["episodes"], env["split"])
        if not file.is_file() and env["scene"] is not None and may_generate(env["episodes"]):
            yield Finding(NOTE, f"no episodes at {file}", "nothing to do: they are generated when they are needed")
            return
        if not file.is_file():
            raise absent(env["episodes"], env["split"])
    except (OSError, ValueError) as error:
        yield Finding(MISSING, str(error), f"{DOCS} says where to get and put them")
        return
    wanted = env["scenes"] if env["scene"] is None else [env["scene"]]
    if env["scene"] is None and env["dataset"] is None:
        yield from check_split(file, Path(env["scenes_dir"]), wanted)
        return
    if env["dataset"] is not None:
        yield check_file(Path(env["dataset"]), "the scene dataset", f"{DOCS} says where to get it and where to put it")
    yield from check_split(file, None, wanted)
