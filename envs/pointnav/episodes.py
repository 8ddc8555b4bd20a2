"""PointNav episodes: Habitat's PointNav-v1 files (`.json.gz`), and episodes generated for a scene."""

from __future__ import annotations

import gzip
import json
import math
import os
import reprlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.files import mistaken, visible
from configs.names import nearest
from configs.writing import write_atomically
from envs.navgrid.grid import GeodesicField, NavGrid

CONTENT = "{data_path}/content/{scene}.json.gz"
# As in Habitat-Lab's PointNav generator: start and goal on one storey, islands of at least this radius.
MAX_RISE = 0.5
MIN_ISLAND_RADIUS = 1.5
# Storeys are of similar size; the tops of walls and long furniture are not.
MIN_ISLAND_SHARE = 0.1
CANDIDATES = 256
# A coordinate beyond this many metres is none: nothing on Earth, in any projection, is that far from its origin.
FARTHEST = 1e8
# Cosine of how far an agent may lean at its start.
UPRIGHT = 0.9
# The largest episode files of Habitat's datasets hold a tenth of this, in characters.
LARGEST_TEXT = 2**31
ENDINGS = (".scene_instance.json", ".scene_instance", ".basis.glb", ".glb", ".gltf", ".obj", ".ply", ".json")


@dataclass(frozen=True)
class Episode:
    """One PointNav task: where to start and where to go.

    Attributes:
        episode_id: Identifier within its file.
        scene_id: Scene name or file, as written in the episode file.
        start_position: x, y, z in metres, y on the floor.
        start_rotation: Unit quaternion x, y, z, w.
        goal_position: x, y, z in metres.
        goal_radius: Success radius in metres, None where the file has none (Habitat-Lab's measures ignore it).
        info: What is known about the episode, `geodesic_distance` in metres for one.
        extra: All other fields of the file, kept as they are.
    """

    episode_id: str
    scene_id: str
    start_position: tuple[float, float, float]
    start_rotation: tuple[float, float, float, float]
    goal_position: tuple[float, float, float]
    goal_radius: float | None = None
    info: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start_heading(self) -> float:
        """Heading in radians: rotation about +Y, 0 along -Z, positive to the left."""
        x, y, z, w = self.start_rotation
        return math.atan2(2.0 * (x * z + w * y), 1.0 - 2.0 * (x * x + y * y))


def read_episodes(path: str | os.PathLike[str], scenes: Sequence[str] | None = None) -> list[Episode]:
    """Read a PointNav-v1 file, and the files per scene in the `content` folder beside it where there is one.

    Args:
        path: The file.
        scenes: Names of scenes as Habitat's ``content_scenes``: other files per scene are not opened, other episodes
            left out; all when None.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not gzipped JSON of this format (the message names the episode and the field), or one of
            `scenes` has no episode.
    """
    file = Path(path)
    document = _load(file)
    episodes = _parse(file, document)
    wanted = None if scenes is None else {scene_name(scene) for scene in scenes}
    parts = content_files(file, document.get("content_scenes_path", CONTENT))
    for name, part in parts:
        if wanted is None or name in wanted:
            episodes += _parse(part, _load(part))
    if wanted is not None:
        known = sorted({*(scene_name(e.scene_id) for e in episodes), *(name for name, _ in parts)})
        episodes = [e for e in episodes if scene_name(e.scene_id) in wanted]
        if lacking := sorted(wanted - {scene_name(e.scene_id) for e in episodes}):
            hint = nearest(lacking[0], known)
            raise ValueError(f"{file} holds no episodes in {', '.join(lacking)}{hint or _listed(known)}")
    if not episodes:
        raise ValueError(f"{file} holds no episodes")
    return episodes


def content_files(file: Path, template: object = CONTENT) -> list[tuple[str, Path]]:
    """The files per scene beside an episode file, each with the name of its scene (`scene_name`), in order.

    Args:
        file: The episode file.
        template: Its ``content_scenes_path``.

    Raises:
        ValueError: The template names no scene.
    """
    if not isinstance(template, str) or "{scene}" not in template:
        raise ValueError(f"{file}: content_scenes_path is {template!r}, which has no '{{scene}}'")
    folder, _, ending = template.replace("{data_path}", str(file.parent)).partition("{scene}")
    parts = [part for part in visible(Path(folder)) if part.name.endswith(ending)]
    return [(scene_name(part.name.removesuffix(ending)), part) for part in parts]


def moved(episodes: Sequence[Episode], by: Sequence[float]) -> list[Episode]:
    """The same episodes with start and goal moved by x, y, z in metres."""
    x, y, z = by
    return [
        replace(
            e,
            start_position=(e.start_position[0] + x, e.start_position[1] + y, e.start_position[2] + z),
            goal_position=(e.goal_position[0] + x, e.goal_position[1] + y, e.goal_position[2] + z),
        )
        for e in episodes
    ]


def with_distinct_ids(episodes: Sequence[Episode]) -> list[Episode]:
    """The same episodes of one scene, those whose identifier stands there already renamed: ``7``, ``7 (2)``."""
    return [
        e if e.episode_id == name else replace(e, episode_id=name)
        for e, name in zip(episodes, distinct([e.episode_id for e in episodes]), strict=True)
    ]


def distinct(names: Sequence[str]) -> list[str]:
    """The names, the second and further of equal ones with a number that makes them distinct."""
    taken, out = set(names), []
    seen: set[str] = set()
    for name in names:
        new, number = name, 1
        while new in seen or (number > 1 and new in taken):
            number += 1
            new = f"{name} ({number})"
        seen.add(new)
        out.append(new)
    return out


def write_episodes(path: str | os.PathLike[str], episodes: Iterable[Episode]) -> None:
    """Write a PointNav-v1 file that Habitat-Lab and `read_episodes` read; equal episodes give equal bytes.

    The file appears complete or not at all.

    Raises:
        OSError: If it cannot be written; an existing file is then unchanged.
    """
    file = Path(path)
    text = json.dumps({"episodes": [as_dict(e) for e in episodes]}, allow_nan=False)
    write_atomically(file, gzip.compress(text.encode(), mtime=0))


def for_scene(episodes: Sequence[Episode], scene: str | os.PathLike[str]) -> list[Episode]:
    """Episodes of one scene, matched by file name without folder and ending, as Habitat names scenes.

    Raises:
        ValueError: If there are none; the message lists the scenes there are.
    """
    wanted = scene_name(os.fspath(scene))
    chosen = [e for e in episodes if scene_name(e.scene_id) == wanted]
    if not chosen:
        known = sorted({scene_name(e.scene_id) for e in episodes})
        raise ValueError(f"no episode is in scene {wanted}{_listed(known)}")
    return chosen


def _listed(scenes: Sequence[str]) -> str:
    """Names of scenes for the end of a message."""
    return f"; the episodes are in {', '.join(scenes[:5])}{', ...' if len(scenes) > 5 else ''}" if scenes else ""


def fitting_episodes(grid: NavGrid, episodes: Sequence[Episode], tolerance: float = 0.3) -> list[Episode]:
    """The episodes that `check_episodes` finds no fault with."""
    on_floor, connected, _, _ = _fit(grid, episodes, tolerance)
    return [e for e, fits in zip(episodes, on_floor.all(axis=0) & connected, strict=True) if fits]


def _fit(
    grid: NavGrid, episodes: Sequence[Episode], tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Whether starts and goals are on the floor (2, N), whether a way joins them (N,); the starts and goals (N, 3)."""
    starts = np.array([e.start_position for e in episodes]).reshape(-1, 3)
    goals = np.array([e.goal_position for e in episodes]).reshape(-1, 3)
    snapped = [grid.snap(starts), grid.snap(goals)]
    on_floor = np.zeros((2, len(episodes)), np.bool_)
    for k, given in enumerate((starts, goals)):
        apart = np.hypot(*(snapped[k] - given)[:, ::2].T)
        on_floor[k] = (apart <= tolerance) & (np.abs(snapped[k][:, 1] - given[:, 1]) <= MAX_RISE)
    return on_floor, grid.island(snapped[0]) == grid.island(snapped[1]), starts, goals


def check_episodes(grid: NavGrid, episodes: Sequence[Episode], tolerance: float = 0.3) -> None:
    """Check that starts and goals lie on the floor and that there is a way from each start to its goal.

    Args:
        grid: The scene's walkable grid.
        episodes: Episodes of that scene.
        tolerance: Horizontal distance in metres to the nearest navigable point that is still accepted, because files
            come from navigation meshes that differ from the grid by a few centimetres.

    Raises:
        ValueError: On the first episode that does not fit.
    """
    on_floor, connected, starts, goals = _fit(grid, episodes, tolerance)
    for what, given, fits in (("start", starts, on_floor[0]), ("goal", goals, on_floor[1])):
        if not fits.all():
            first = int(np.flatnonzero(~fits)[0])
            raise ValueError(
                f"episode {episodes[first].episode_id} of scene {episodes[first].scene_id}: {what} "
                f"{np.round(given[first], 3).tolist()} is off the floor ({(~fits).sum()} of {len(fits)} episodes are); "
                "check that the mesh is the one the episodes were made for, in metres and with +Y up (else env.up=z)"
            )
    cut_off = ~connected
    if cut_off.any():
        first = int(np.flatnonzero(cut_off)[0])
        raise ValueError(
            f"episode {episodes[first].episode_id} of scene {episodes[first].scene_id}: no way from start to goal for "
            f"an agent of radius {grid.radius} m ({cut_off.sum()} of {len(cut_off)} episodes); use a smaller radius"
        )


def generate_episodes(
    scene_id: str,
    grid: NavGrid,
    n: int,
    seed: int,
    goals: int = 10,
    min_distance: float = 1.0,
    max_distance: float = 12.0,
    min_ratio: float = 1.1,
    straight: float | None = 0.25,
    fields: list[GeodesicField] | None = None,
) -> list[Episode]:
    """Generate episodes as Habitat-Lab's PointNav generator does: same island and storey, bounded geodesic distance.

    Goals are uniform over the wide islands, starts over the goal's island. Few goals serve many starts each, so that
    geodesic fields are shared; episode i goes to goal i % goals. Episodes whose geodesic / Euclidean ratio is below
    `min_ratio` are rejected at random as Habitat-Lab does, or make up a fixed share, which keeps scenes comparable.

    Args:
        scene_id: Written into the episodes.
        grid: The scene's walkable grid.
        n: Number of episodes.
        seed: Equal seeds give equal episodes.
        goals: Number of different goals.
        min_distance: Least geodesic distance in metres.
        max_distance: Largest.
        min_ratio: Episodes below this ratio count as straight.
        straight: Share of straight episodes, 0 to 1, where the scene allows; None for Habitat-Lab's rule, by which an
            episode of ratio r below `min_ratio` is kept with probability 20 (r - 0.98)^2.
        fields: Takes the paths to the goal of episode 0, 1, ... `goals` - 1, which had to be found anyway.

    Raises:
        ValueError: If the scene has no such episodes, or the distances are no range.
    """
    if not 0.0 <= min_distance < max_distance:
        raise ValueError(f"episodes of {min_distance} to {max_distance} m are no range; give the smaller one first")
    rng = np.random.default_rng(seed)
    goals = min(goals, n)
    islands = _wide_islands(grid)
    per_goal: list[list[Episode]] = []
    attempts = (5 if straight is not None else 20) * goals + 20
    while len(per_goal) < goals and attempts > 0:
        need = n // goals + (len(per_goal) < n % goals)
        before = sum(map(len, per_goal))
        # Rounded over all goals, so that the share holds however few starts each of them has.
        curved = 0
        if straight is not None:
            curved = need - (math.floor(straight * (before + need)) - math.floor(straight * before))
        attempts -= 1
        goal = grid.sample(rng, 1, int(rng.choice(islands, p=_shares(grid, islands))))[0]
        geodesic = grid.field(goal)
        starts, lengths, ratios = _candidates(grid, geodesic, goal, rng, min_distance, max_distance, need)
        if straight is None:
            accepted = (ratios >= min_ratio) | (rng.random(len(ratios)) <= 20.0 * (ratios - 0.98) ** 2)
            starts, lengths, ratios = starts[accepted], lengths[accepted], ratios[accepted]
        bent, plain = np.flatnonzero(ratios >= min_ratio), np.flatnonzero(ratios < min_ratio)
        if len(starts) < need or (len(bent) < curved and attempts > goals - len(per_goal)):
            continue  # another goal has more to offer, unless attempts run out
        if straight is None:
            taken = np.arange(need)
        else:
            taken = bent[: max(curved, need - len(plain))]
            taken = rng.permutation(np.concatenate([taken, plain[: need - len(taken)]]))
        per_goal.append([_episode(scene_id, starts[k], goal, lengths[k], rng) for k in taken])
        if fields is not None:
            fields.append(geodesic)
    if len(per_goal) < goals:
        raise ValueError(
            f"scene {scene_id}: found only {len(per_goal)} of {goals} goals with starts {min_distance} to "
            f"{max_distance} m away; widen the distance range or use a larger scene"
        )
    picked = [per_goal[i % goals][i // goals] for i in range(n)]
    return [Episode(str(i), *_rest(episode)) for i, episode in enumerate(picked)]


def _rest(episode: Episode) -> tuple[Any, ...]:
    """All but the identifier."""
    e = episode
    return e.scene_id, e.start_position, e.start_rotation, e.goal_position, e.goal_radius, e.info, e.extra


def _wide_islands(grid: NavGrid) -> NDArray[np.int64]:
    """Islands of at least Habitat-Lab's least radius that are no mere wall tops; the largest alone where none is."""
    areas = grid.island_areas
    wide = np.flatnonzero((grid.island_radii >= MIN_ISLAND_RADIUS) & (areas >= MIN_ISLAND_SHARE * areas[0]))
    return wide if len(wide) else np.zeros(1, np.int64)


def _shares(grid: NavGrid, islands: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of each island, by area."""
    areas = grid.island_areas[islands]
    return areas / areas.sum()


def _candidates(
    grid: NavGrid,
    geodesic: GeodesicField,
    goal: NDArray[np.float64],
    rng: np.random.Generator,
    least: float,
    most: float,
    need: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Random starts of a goal within the distance range: positions (k, 3), geodesic distances, ratios."""
    starts = grid.sample(rng, CANDIDATES + 8 * need, int(grid.island(goal[None])[0]))
    lengths = grid.distance(geodesic, starts)
    fits = (lengths >= least) & (lengths <= most) & (np.abs(starts[:, 1] - goal[1]) <= MAX_RISE)
    starts, lengths = starts[fits], lengths[fits]
    return starts, lengths, lengths / np.maximum(np.linalg.norm(starts - goal, axis=1), 1e-9)


def _episode(
    scene_id: str,
    start: NDArray[np.float64],
    goal: NDArray[np.float64],
    length: float,
    rng: np.random.Generator,
) -> Episode:
    """An episode with a random start heading; its identifier follows later."""
    half = rng.uniform(0.0, math.pi)
    rotation = (0.0, math.sin(half), 0.0, math.cos(half))
    info = {"geodesic_distance": float(length)}
    return Episode("", scene_id, _triple(start), rotation, _triple(goal), 0.2, info, dict(_HABITAT_DEFAULTS))


_HABITAT_DEFAULTS = {"start_room": None, "shortest_paths": None}


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def scene_name(scene_id: str) -> str:
    """Name of a scene: its file's, without folder and ending."""
    name = Path(scene_id.replace("\\", "/")).name
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)


def as_dict(episode: Episode) -> dict[str, Any]:
    """The episode as PointNav-v1 writes it."""
    extra = dict(episode.extra)
    goal = {"position": list(episode.goal_position), "radius": episode.goal_radius, **extra.pop("goal", {})}
    return {
        "episode_id": episode.episode_id,
        "scene_id": episode.scene_id,
        "start_position": list(episode.start_position),
        "start_rotation": list(episode.start_rotation),
        "info": None if episode.info is None else dict(episode.info),
        "goals": [goal],
        **extra,
    }


def _load(file: Path) -> dict[str, Any]:
    """The JSON object of a gzipped file."""
    if not file.is_file():
        raise FileNotFoundError(f"episode file {file} does not exist")
    try:
        document = json.loads(read_gzip(file))
    except (OSError, EOFError, ValueError, zlib.error, RecursionError, MemoryError) as error:
        reason = mistaken(file) or str(error) or type(error).__name__
        raise ValueError(f"{file} is not a gzipped JSON file: {reason}") from error
    if not isinstance(document, dict) or not isinstance(document.get("episodes"), list):
        raise ValueError(f"{file} is not a PointNav-v1 file: it has no list 'episodes'")
    return document


def read_gzip(file: Path, most: int = LARGEST_TEXT, cut: bool = False) -> str:
    """The text of a gzipped UTF-8 file of at most `most` characters, or, where it may be `cut`, its start.

    Raises:
        OSError, EOFError, UnicodeDecodeError, zlib.error: It is damaged.
        ValueError: It holds more than `most` characters.
    """
    with gzip.open(file, "rt", encoding="utf-8-sig") as stream:
        text = stream.read(most)
        if not cut and stream.read(1):
            raise ValueError(f"it holds more than {most / 2**30:g} GiB of text")
    return text


def _parse(file: Path, document: dict[str, Any]) -> list[Episode]:
    return [from_dict(raw, f"{file}, episode {number}") for number, raw in enumerate(document["episodes"])]


def from_dict(raw: Any, where: str) -> Episode:
    """An episode as PointNav-v1 writes it, checked.

    Raises:
        ValueError: It is not one; the message begins with `where`.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{where} is not an object")
    fields = dict(raw)
    missing = [k for k in ("episode_id", "scene_id", "start_position", "start_rotation", "goals") if k not in raw]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    goals = fields.pop("goals")
    if not isinstance(goals, list) or len(goals) != 1 or not isinstance(goals[0], dict):
        raise ValueError(f"{where}: 'goals' must hold exactly one goal")
    goal = dict(goals[0])
    if "position" not in goal:
        raise ValueError(f"{where}: the goal lacks position")
    position = _vector(fields.pop("start_position"), 3, where, "start_position")
    rotation = _vector(fields.pop("start_rotation"), 4, where, "start_rotation")
    if abs(math.hypot(*rotation) - 1.0) > 1e-2:
        raise ValueError(f"{where}: start_rotation {list(rotation)} is not a unit quaternion")
    tip = 1.0 - 2.0 * (rotation[0] ** 2 + rotation[2] ** 2)  # of its own up along the world's
    if tip < UPRIGHT:
        raise ValueError(
            f"{where}: start_rotation {list(rotation)} lays the agent on its side; the order is x, y, z, w"
        )
    target = _vector(goal.pop("position"), 3, where, "goal position")
    radius, info = goal.pop("radius", None), fields.pop("info", None)
    identity, scene = fields.pop("episode_id"), fields.pop("scene_id")
    for name, value, kinds in (
        ("episode_id", identity, str | int),
        ("scene_id", scene, str),
        ("info", info, dict | None),
        ("goal radius", radius, float | int | None),
    ):
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"{where}: {name} cannot be {reprlib.repr(value)}")
    extra = {**fields, "goal": goal} if goal else fields
    return Episode(str(identity), scene, position, rotation, target, radius, info, extra)  # type: ignore[arg-type]


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST


def _vector(value: Any, length: int, where: str, name: str) -> tuple[float, ...]:
    """A list of `length` finite numbers of a possible size as a tuple."""
    if not isinstance(value, list) or len(value) != length or not all(map(_is_coordinate, value)):
        raise ValueError(f"{where}: {name} must be {length} finite numbers, got {reprlib.repr(value)}")
    return tuple(float(v) for v in value)
