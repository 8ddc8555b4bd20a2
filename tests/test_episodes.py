from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from habitat_rooms import put_episodes
from shapes import box, floor, furnished, room, scene

from envs.navgrid.grid import NavGrid
from envs.pointnav.episodes import Episode, check_episodes, for_scene, generate_episodes, read_episodes, write_episodes


@pytest.fixture(scope="module")
def grid() -> NavGrid:
    return NavGrid.build(scene(furnished(0)))


@pytest.fixture(scope="module")
def made(grid: NavGrid) -> list[Episode]:
    return generate_episodes("flat.glb", grid, 60, seed=3, goals=7)


# As Habitat-Lab writes it, with the fields that only it uses.
RAW: dict[str, Any] = {
    "episode_id": "12",
    "scene_id": "data/scene_datasets/gibson/Cantwell.glb",
    "scene_dataset_config": "default",
    "additional_obj_config_paths": [],
    "start_position": [-4.25, 0.0722, 1.125],
    "start_rotation": [0, 0.6, 0, 0.8],
    "info": {"geodesic_distance": 6.5, "difficulty": "easy"},
    "goals": [{"position": [1.5, 0.0722, -2.25], "radius": None}],
    "start_room": None,
    "shortest_paths": None,
}


def test_habitat_file_is_read_and_written_without_loss(tmp_path: Path) -> None:
    other = {
        **RAW,
        "episode_id": "13",
        "goals": [{"position": [1, 2, 3], "radius": 0.2, "view_points": [1]}],
        "kept": {"a": 1},
    }
    file = put_episodes(tmp_path / "val.json.gz", RAW, other)
    episodes = read_episodes(file)
    assert episodes[0].goal_position == (1.5, 0.0722, -2.25)
    assert episodes[0].info == {"geodesic_distance": 6.5, "difficulty": "easy"}
    again = tmp_path / "again.json.gz"
    write_episodes(again, episodes)
    assert json.loads(gzip.decompress(again.read_bytes())) == json.loads(gzip.decompress(file.read_bytes()))
    assert read_episodes(again) == episodes


def test_generated_episodes_survive_a_round_trip_bit_for_bit(tmp_path: Path, made: list[Episode]) -> None:
    first, second = tmp_path / "a" / "train.json.gz", tmp_path / "second.json.gz"
    write_episodes(first, made)
    assert read_episodes(first) == made
    write_episodes(second, made)
    assert first.read_bytes() == second.read_bytes()
    habitat = {
        "episode_id",
        "scene_id",
        "start_position",
        "start_rotation",
        "info",
        "goals",
        "start_room",
        "shortest_paths",
    }
    assert set(json.loads(gzip.decompress(first.read_bytes()))["episodes"][0]) == habitat


def test_content_folder_holds_the_episodes_of_each_scene(tmp_path: Path) -> None:
    file = put_episodes(tmp_path / "train.json.gz")
    put_episodes(tmp_path / "content" / "B.json.gz", {**RAW, "episode_id": "b"})
    put_episodes(tmp_path / "content" / "A.json.gz", {**RAW, "episode_id": "a"})
    assert [e.episode_id for e in read_episodes(file)] == ["a", "b"]
    named = put_episodes(tmp_path / "x" / "train.json.gz", content_scenes_path="{data_path}/parts/{scene}.json.gz")
    put_episodes(tmp_path / "x" / "parts" / "C.json.gz", {**RAW, "episode_id": "c"})
    assert [e.episode_id for e in read_episodes(named)] == ["c"]


@pytest.mark.parametrize("degrees", [0.0, 30.0, 179.0, -90.0])
def test_start_heading_is_the_turn_about_the_vertical(degrees: float) -> None:
    half = math.radians(degrees) / 2
    episode = Episode("0", "s", (0, 0, 0), (0.0, math.sin(half), 0.0, math.cos(half)), (1, 0, 0))
    assert math.degrees(episode.start_heading) == pytest.approx(degrees)
    negated = dataclasses.replace(episode, start_rotation=tuple(-v for v in episode.start_rotation))
    assert math.degrees(negated.start_heading) == pytest.approx(degrees)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_position": None}, "start_position must be 3 finite numbers"),
        ({"start_position": [0, 1]}, "start_position must be 3 finite numbers"),
        ({"start_rotation": [0, 0, 0, 2]}, "not a unit quaternion"),
        ({"goals": []}, "exactly one goal"),
        ({"goals": [{"radius": 1}]}, "the goal lacks position"),
        ({"goals": [{"position": ["a", 0, 0]}]}, "goal position must be 3 finite numbers"),
    ],
)
def test_broken_episodes_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = put_episodes(tmp_path / "val.json.gz", RAW, {**RAW, **change})
    with pytest.raises(ValueError, match=rf"val.json.gz, episode 1.*{message}"):
        read_episodes(file)


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.json\.gz does not exist"):
        read_episodes(tmp_path / "absent.json.gz")
    plain = tmp_path / "plain.json.gz"
    plain.write_text("{}")
    with pytest.raises(ValueError, match=r"plain\.json\.gz is not a gzipped JSON file"):
        read_episodes(plain)
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(put_episodes(tmp_path / "whole.json.gz", RAW).read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut\.json\.gz is not a gzipped JSON file"):
        read_episodes(cut)
    with pytest.raises(ValueError, match="no list 'episodes'"):
        other = tmp_path / "other.json.gz"
        other.write_bytes(gzip.compress(b"[1, 2]"))
        read_episodes(other)
    with pytest.raises(ValueError, match="lacks scene_id, goals"):
        read_episodes(
            put_episodes(tmp_path / "m.json.gz", {k: v for k, v in RAW.items() if k not in ("goals", "scene_id")})
        )
    with pytest.raises(ValueError, match="holds no episodes"):
        read_episodes(put_episodes(tmp_path / "empty.json.gz"))


def test_failed_write_leaves_the_old_file(tmp_path: Path, made: list[Episode]) -> None:
    resource = pytest.importorskip("resource", reason="needs file size limits to make a write fail")
    file = tmp_path / "val.json.gz"
    write_episodes(file, made[:5])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not write \S*val\.json\.gz \(File too large\)"):
            write_episodes(file, made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_episodes(file) == made[:5]
    assert [p.name for p in tmp_path.iterdir()] == ["val.json.gz"]


def test_episodes_of_one_scene(made: list[Episode]) -> None:
    there = dataclasses.replace(made[0], scene_id="gibson/Other.glb")
    assert for_scene([*made, there], "scans/Other.glb") == [there]
    with pytest.raises(ValueError, match="no episode is in scene Gone; the episodes are in Other, flat"):
        for_scene([*made, there], "Gone.glb")


def test_check_finds_starts_off_the_floor_and_goals_out_of_reach(grid: NavGrid, made: list[Episode]) -> None:
    check_episodes(grid, made)
    away = dataclasses.replace(made[3], start_position=(25.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"episode 3 of scene flat\.glb: start \[25.0, 0.0, 1.0\] is off the floor"):
        check_episodes(grid, [*made[:3], away])
    high = dataclasses.replace(made[2], goal_position=(*made[2].goal_position[:1], 1.7, made[2].goal_position[2]))
    with pytest.raises(ValueError, match=r"episode 2.*goal"):
        check_episodes(grid, [high])
    split = NavGrid.build(scene([*room(0, 6, 0, 4), box(2.9, 3.1, 0, 4)]))
    across = Episode("7", "s", (1.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), (5.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="episode 7 of scene s: no way from start to goal"):
        check_episodes(split, [across])


def test_generated_episodes_keep_the_rules(grid: NavGrid, made: list[Episode]) -> None:
    assert [e.episode_id for e in made] == [str(i) for i in range(60)]
    starts = np.array([e.start_position for e in made])
    goals = np.array([e.goal_position for e in made])
    assert len(np.unique(goals, axis=0)) == 7
    assert len(np.unique(starts, axis=0)) == 60
    assert (grid.island(starts) == grid.island(goals)).all()
    listed = np.array([(e.info or {})["geodesic_distance"] for e in made])
    true = [grid.distance(grid.field(g), s[None])[0] for s, g in zip(starts, goals, strict=True)]
    assert listed == pytest.approx(np.array(true))
    assert (listed >= 1.0).all() and (listed <= 12.0).all()
    ratio = listed / np.linalg.norm(starts - goals, axis=1)
    assert (ratio > 1.1).mean() >= 0.6
    assert (ratio < 1.1).mean() >= 0.1
    headings = np.array([e.start_heading for e in made])
    assert headings.min() < -2 and headings.max() > 2


def test_generation_repeats_with_its_seed(grid: NavGrid, made: list[Episode]) -> None:
    assert generate_episodes("flat.glb", grid, 60, seed=3, goals=7) == made
    assert generate_episodes("flat.glb", grid, 60, seed=4, goals=7) != made


def test_generation_stays_off_furniture_and_on_every_storey() -> None:
    low, high = room(0, 8, 0, 8), [floor(20, 26, 0, 6, 2.8)]
    grid = NavGrid.build(scene([*low, box(3, 5, 3, 5, 0, 0.5), *high]))
    assert len(grid.island_areas) == 3
    made = generate_episodes("s", grid, 40, seed=0, goals=10, straight=1.0)
    assert {round(e.start_position[1], 2) for e in made} == {0.0, 2.8}


def test_empty_room_gives_straight_episodes_and_a_closet_none() -> None:
    bare = NavGrid.build(scene(room(0, 6, 0, 6)))
    assert len(generate_episodes("s", bare, 20, seed=0, goals=2)) == 20
    closet = NavGrid.build(scene(room(0, 1.4, 0, 1.4)))
    with pytest.raises(ValueError, match=r"scene s: found only 0 of 2 goals with starts 4\.0"):
        generate_episodes("s", closet, 20, seed=0, goals=2, min_distance=4.0)
