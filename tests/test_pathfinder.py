"""What Habitat code asks a path finder, without Habitat-Lab: on a grid of ours, and on a navigation mesh."""

from __future__ import annotations

import numpy as np
import pytest
from detour_scenes import SCENES, write
from shapes import room, scene

from envs.habitat.pathfinder import FAR, PathFinder
from envs.navgrid.grid import NavGrid
from envs.navgrid.navmesh import read_navmesh


@pytest.fixture(scope="module")
def flat():
    return PathFinder(NavGrid.build(scene(room(0, 6, 0, 4))), np.random.default_rng(0))


def test_a_floor_is_where_recast_would_put_it(flat):
    # The room's floor lies at 0, its lowest point: Recast's is the upper side of the first voxel, 0.2.
    heights = [y for y in (-0.4, -0.25, 0.0, 0.4, 0.65, 0.75) if flat.is_navigable([3, y, 2])]
    assert heights == [-0.25, 0.0, 0.4, 0.65]
    assert not flat.is_navigable([3, 0.5, 2], max_y_delta=0.25)
    assert not flat.is_navigable([0.05, 0.2, 2])
    view = flat.get_topdown_view(0.1, 0.2)
    low, high = flat.get_bounds()
    assert view.shape == (int((high[2] - low[2]) / 0.1), int((high[0] - low[0]) / 0.1))
    # The room less the agent's radius.
    assert view.sum() * 0.01 == pytest.approx(5.8 * 3.8, rel=0.06)


def test_snapping_reaches_as_far_as_habitat_sims(flat):
    assert flat.snap_point([-5, 0, 2]) == pytest.approx([0.1, 0, 2], abs=0.06)
    assert flat.snap_point([3, 3.5, 2]) == pytest.approx([3, 0, 2], abs=0.06)
    assert np.isnan(flat.snap_point([3, 4.5, 2])).all()
    assert np.isnan(flat.snap_point([-FAR, 0, 2])).all()
    assert flat.get_island([3, 0, 2]) == 0 and flat.get_island([3, 9, 2]) == -1


def test_positions_at_the_rim_lie_within_the_bounds(flat):
    rng = np.random.default_rng(1)
    low, high = flat.get_bounds()
    points = np.array([flat.get_random_navigable_point() for _ in range(300)])
    ends, _ = flat.step(points, rng.uniform(-np.pi, np.pi, len(points)), 3.0, True)
    assert (ends >= low).all() and (ends <= high).all()


def test_a_navigation_mesh_answers_by_itself(tmp_path):
    grid = NavGrid.from_navmesh(read_navmesh(write("rooms", tmp_path / "a.navmesh")))
    finder = PathFinder(grid, np.random.default_rng(0))
    assert finder.num_islands == 2 and finder.navigable_area == pytest.approx(71.97213745, rel=1e-6)
    start, end = SCENES["rooms"].moves[0]
    assert finder.try_step(start, end) == pytest.approx([0, 0, 2.1], abs=1e-6)
    assert finder.try_step_no_sliding(start, end) == pytest.approx([0, 0, 2.04], abs=1e-6)
    assert finder.snap_point([15, 5.9, 5]) == pytest.approx([15, 2, 5])
    assert finder.island_radius([3.5, 0, 6]) == pytest.approx(0.70710677)
    assert finder.distance_to_closest_obstacle([2, 0.4, 2]) == pytest.approx(2.0)
    assert finder.get_bounds()[1] == pytest.approx([17, 2, 9])
    view = finder.get_topdown_view(0.1, 0.0)
    assert view.shape == (90, 170) and view[20, 20] and not view[60, 80]
