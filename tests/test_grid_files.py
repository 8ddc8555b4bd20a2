"""Grids that are kept beside their scenes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from shapes import furnished, scene

from envs.navgrid import grid_files
from envs.navgrid.grid import NavGrid
from envs.navgrid.grid_files import FOLDER, load_or_build

BODY = (0.1, 1.5, 0.2, 45.0)


@pytest.fixture
def flat(monkeypatch):
    monkeypatch.setattr(grid_files, "LEAST_TRIANGLES", 1)
    return scene(furnished(0, 8))


def kept(folder):
    return sorted((folder / FOLDER).glob("*")) if (folder / FOLDER).is_dir() else []


def never(*args, **kwargs):
    raise AssertionError("the grid is made again")


def test_a_grid_is_made_once_for_an_agent_and_a_scene(tmp_path, flat, monkeypatch):
    made = load_or_build(flat, tmp_path, *BODY)
    assert len(kept(tmp_path)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(NavGrid, "build", never)
        read = load_or_build(flat, tmp_path, *BODY)
    for name, value in made.ground._asdict().items():
        other = getattr(read.ground, name)
        np.testing.assert_array_equal(other, value)
        assert type(other) is type(value), name
    assert read.island_areas.tolist() == made.island_areas.tolist()
    assert (read.base, read.height, read.radius) == (made.base, made.height, made.radius)
    points = made.sample(np.random.default_rng(0), 20)
    goal = points[0]
    assert (read.distance(read.field(goal), points) == made.distance(made.field(goal), points)).all()
    load_or_build(flat, tmp_path, 0.2, *BODY[1:])
    load_or_build(scene(furnished(1, 8)), tmp_path, *BODY)
    assert len(kept(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_made_anew(tmp_path, flat, caplog, damage):
    made = load_or_build(flat, tmp_path, *BODY)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    if damage == "other":
        np.savez(file, start=np.zeros(3))
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with caplog.at_level(logging.WARNING):
        again = load_or_build(flat, tmp_path, *BODY)
    assert "made anew" in caplog.text
    assert again.island_areas.tolist() == made.island_areas.tolist()
    assert kept(tmp_path) == [file] and file.read_bytes()[:100] == whole[:100]


def test_nothing_is_kept_where_that_is_impossible_or_not_worth_it(tmp_path, flat, monkeypatch):
    # A file where the folder would be, as root may write into any folder.
    (tmp_path / FOLDER).write_text("")
    assert load_or_build(flat, tmp_path, *BODY).island_areas.size
    monkeypatch.setattr(grid_files, "LEAST_TRIANGLES", 20_000)
    small = tmp_path / "small"
    small.mkdir()
    load_or_build(flat, small, *BODY)
    assert not list(small.iterdir())
