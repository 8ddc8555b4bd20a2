from __future__ import annotations

import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.array_cache import ArrayCache
from envs.apartments import textures
from envs.navgrid.grid import NavGrid
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.scene import Scene
from envs.sources import scene_cache
from envs.sources.apartment_builds import Build, built_beside, processes_for
from envs.sources.apartments import apartments
from envs.sources.scene_cache import SceneCache

BODY = AgentConfig(radius=0.18)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path))
    return tmp_path / "apartments"


def build(appearance: str = "plain") -> list[NavigableScene]:
    return apartments("val", 2, 6, 3, BODY, appearance=appearance)


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    elif isinstance(one, NavGrid):
        assert_equal(one.ground, other.ground)
        assert_equal(one.island_areas, other.island_areas)
        assert (one.height, one.base) == (other.height, other.base)
    elif isinstance(one, NavigableScene | Scene):
        for field in fields(one):
            assert_equal(getattr(one, field.name), getattr(other, field.name))
    elif not hasattr(one, "polygon"):
        assert one == other
    else:
        assert_equal((one.kind, one.polygon), (other.kind, other.polygon))


@pytest.mark.parametrize("appearance", ["plain", "wide"])
def test_what_comes_from_disk_equals_what_is_built(
    appearance: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(appearance)
    assert len(list(folder.iterdir())) == 4
    monkeypatch.setattr(scene_cache, "generate", None)
    monkeypatch.setattr(scene_cache, "generate_episodes", None)
    kept = build(appearance)
    assert_equal(built, kept)
    for one, other in zip(built, kept, strict=True):
        assert all(map(lambda a, b: a is b, one.scene.textures, other.scene.textures))


def test_paths_to_the_goals_are_kept_with_the_episodes(folder: Path) -> None:
    for place in (build()[0], build()[0]):
        fresh = NavGrid.from_arrays(place.grid.to_arrays())
        for goal in {episode.goal_position for episode in place.episodes}:
            kept, found = place.grid.field(goal), fresh.field(goal)
            assert kept is place.grid.field(goal)
            assert kept.tree is not None and found.tree is not None
            assert_equal((kept.goal, *kept.tree), (found.goal, *found.tree))


def test_damaged_files_are_made_anew(folder: Path) -> None:
    built = build()
    files = sorted(folder.iterdir())
    whole = [file.read_bytes() for file in files]
    for number, file in enumerate(files):
        content = bytearray(whole[number])
        if number % 2:
            content[len(content) // 2] ^= 255
        file.write_bytes(content if number % 2 else content[: len(content) // 3])
    assert_equal(built, build())
    assert [file.read_bytes() for file in files] == whole


def test_another_version_of_the_code_another_body_or_seed_are_other_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SceneCache()
    first = cache.scene(0, "plain", BODY)[1]
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(scene_cache, "_code", lambda: "of tomorrow")
    SceneCache().scene(0, "plain", BODY)
    wide = cache.scene(0, "plain", AgentConfig(radius=0.3))[1]
    assert len(list(folder.iterdir())) == 3
    assert wide.island_areas[0] < first.island_areas[0]


def test_the_least_recently_used_go_first_and_so_does_what_killed_processes_left(folder: Path) -> None:
    cache, now = ArrayCache("apartments", ""), time.time()
    cache.trim(70)
    folder.mkdir()
    for name, size, age in (("a.npz", 30, 9), ("b.npz", 30, 5), ("c.npz", 30, 7), (".d.npz.1.partial", 99, 4)):
        (folder / name).write_bytes(bytes(size))
        os.utime(folder / name, (now - age, now - age))
    cache.trim(1000)
    assert len(list(folder.iterdir())) == 4  # nothing was written
    assert cache.get("e", {}, lambda: 5, lambda n: {"n": np.array(n)}, lambda arrays: int(arrays["n"])) == 5
    cache.trim((folder / next(p.name for p in folder.glob("e*"))).stat().st_size + 70)
    assert [path.name[0] for path in sorted(folder.iterdir())] == ["b", "c", "e"]


def test_a_folder_that_cannot_be_written_is_done_without(folder: Path) -> None:
    folder.write_text("")
    with pytest.warns(UserWarning, match="not write .* choose another place.*; SIDESTEP_CACHE names the folder"):
        SceneCache().scene(0, "plain", BODY)


def test_textures_on_disk_equal_those_that_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path))
    drawn = textures.texture_bank.__wrapped__()
    monkeypatch.setattr(textures, "_draw", None)
    kept = textures.texture_bank.__wrapped__()
    assert_equal(drawn.images, kept.images)
    assert drawn.groups == kept.groups
    assert not any(image.flags.writeable for image in kept.images)


def test_another_process_builds_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    order = Build("val", 2, 3, BODY, "wide")
    with built_beside(order, [1001, 1000], 1):
        deadline = time.monotonic() + 300  # kernels may have to be compiled first
        while len(list(folder.glob("apartment-*-episodes-*.npz"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert 1000 not in order.missing(SceneCache(), [1000, 1001])  # the last first
    theirs = order.make(SceneCache(), 1000)
    monkeypatch.setenv("SIDESTEP_CACHE", str(tmp_path_factory.mktemp("other")))
    assert_equal(theirs, order.make(SceneCache(), 1000))


@pytest.mark.parametrize(
    ("missing", "cores", "processes"), [(300, 2, 1), (300, 16, 8), (47, 16, 1), (23, 2, 0), (300, 1, 0)]
)
def test_processes_are_started_where_they_pay(missing: int, cores: int, processes: int) -> None:
    assert processes_for(missing, cores) == processes
