"""The explored map: closed forms on a plain room, and agreement with the walkable grid along an expert's way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.pointnav.env import PointNav, PointNavTask
from envs.pointnav.explored_map import ExploredMaps
from envs.pointnav.scene_episodes import AgentConfig, SceneEpisodes
from envs.pointnav.vec_env import PointNavVecEnv
from envs.rendering.renderer import Camera
from envs.sources.apartments import apartments

CELL = 14.0 / 40
ONE = np.array([0])


@pytest.fixture(scope="module")
def places() -> list[SceneEpisodes]:
    return apartments("train", 2, 2, 0, AgentConfig(0.18, 1.5, 0.2, 45.0))


def wall(camera: Camera, distance: float) -> np.ndarray:
    """(1, H, W) planar depth of a floor and a wall straight ahead at `distance` metres."""
    focal = camera.columns / 2 / math.tan(math.radians(camera.hfov) / 2)
    up = (camera.size / 2 - np.arange(camera.size) - 0.5) / focal
    cos, sin = math.cos(math.radians(camera.pitch)), math.sin(math.radians(camera.pitch))
    rise, ahead = sin + up * cos, cos - up * sin
    floor = np.where(rise < 0, -camera.height / np.minimum(rise, -1e-9), np.inf)
    return np.repeat(np.minimum(floor, distance / ahead)[None, :, None], camera.columns, axis=2).astype(np.float32)


@pytest.mark.parametrize("pitch", [-20.0, 0.0, 15.0])
def test_a_wall_ahead_blocks_a_row_and_the_floor_before_it_is_free(pitch: float) -> None:
    camera = Camera(size=64, pitch=pitch, hfov=110.0)
    maps = ExploredMaps(1, 40, 14.0, camera)
    here = np.zeros((1, 2))
    maps.update(ONE, wall(camera, 2.6), here, np.zeros(1), 10.0)
    blocked, free = maps.egocentric(ONE, here, np.zeros(1))[0]
    row = math.floor(20 - 2.6 / CELL)
    assert (blocked[row, 16:24] > 0).all() and not np.delete(blocked, row, axis=0).any()
    # The lower edge of the view meets the floor here.
    nearest = camera.height / math.tan(math.radians(55.0 - pitch))
    assert (free[row + 1 : math.floor(20 - nearest / CELL), 19:21] > 100).all()
    assert not free[: row - 1].any() and not free[21:].any()


def test_the_map_turns_and_moves_with_the_agent() -> None:
    camera = Camera(size=64)
    maps = ExploredMaps(1, 40, 14.0, camera)
    maps.update(ONE, wall(camera, 2.6), np.zeros((1, 2)), np.zeros(1), 10.0)
    ahead = maps.egocentric(ONE, np.zeros((1, 2)), np.zeros(1))[0, 0]
    # Turned to the left, what lay ahead lies to the right; one cell forward, it is one cell nearer.
    left = maps.egocentric(ONE, np.zeros((1, 2)), np.full(1, math.pi / 2))[0, 0]
    assert np.abs(np.rot90(ahead, -1).astype(int) - left).mean() < 2.0
    nearer = maps.egocentric(ONE, np.array([[0.0, -CELL]]), np.zeros(1))[0, 0]
    np.testing.assert_array_equal(nearer[1:], ahead[:-1])
    maps.reset(ONE)
    assert not maps.egocentric(ONE, np.zeros((1, 2)), np.zeros(1)).any()


def test_the_map_agrees_with_the_walkable_grid(places: list[SceneEpisodes]) -> None:
    camera = Camera(size=64)
    nav = PointNav(places, PointNavTask(sensors=("explored",)), camera, 4, 0)
    agents = np.arange(4)
    nav.reset(agents)
    for _ in range(30):
        nav.observe()
        nav.step(nav.expert())
    seen = nav.observe()["explored"]
    agree = total = walls = 0
    for n in agents:
        grid, heading, position = nav.scenes[nav.agents.place[n]].grid, nav.agents.heading[n], nav.agents.position[n]
        rows, columns = np.nonzero((seen[n] == 255).any(0))
        ahead, right = (20 - rows - 0.5) * CELL, (columns + 0.5 - 20) * CELL
        cos, sin = math.cos(heading), math.sin(heading)
        points = np.stack([position[0] + cos * right - sin * ahead, 0 * ahead, position[2] - sin * right - cos * ahead])
        walkable = grid.is_navigable(points.T)
        blocked = seen[n, 0, rows, columns] == 255
        # No agent fits where cells are blocked; free floor may lie too close to a wall for its radius.
        agree += (~walkable[blocked]).sum() + walkable[~blocked].sum()
        total += len(rows)
        walls += blocked.sum()
    assert walls > 20 and total > 200
    assert agree / total > 0.8


def test_observing_twice_changes_nothing(places: list[SceneEpisodes]) -> None:
    nav = PointNav(places, PointNavTask(sensors=("rgb", "explored")), Camera(size=32), 2, 0)
    nav.reset(np.arange(2))
    np.testing.assert_array_equal(nav.observe()["explored"], nav.observe()["explored"])


def test_a_mirrored_agent_reads_the_mirrored_map(places: list[SceneEpisodes]) -> None:
    task = PointNavTask(sensors=("explored",))
    plain, mirrored = (PointNavVecEnv(places, task, Camera(size=32), 2, 0, mirror=m) for m in (False, True))
    a, b = plain.reset()["explored"], mirrored.reset()["explored"]
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], np.flip(b[1], -1))
