"""What habitat-sim's `PathFinder` (57ee494, recastnavigation 6dc1667) answered on small meshes, and what we do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from detour_scenes import SCENES, write

from envs.navgrid.detour_floor import DetourFloor
from envs.navgrid.greedy import FORWARD, LEFT, RIGHT, plan
from envs.navgrid.grid import NavGrid, geodesic_distance
from envs.navgrid.navmesh import read_navmesh

INF, NAN = math.inf, math.nan
# There and back, metres: the way depends on the direction.
DISTANCES = {
    "rooms": [
        (7.516648292541504, 7.516648292541504),
        (16.031341552734375, 16.031341552734375),
        (12.079387664794922, 12.079386711120605),
        (11.36956787109375, 11.36956787109375),
        (18.433870315551758, 18.433870315551758),
        (15.559389114379883, 15.559388160705566),
        (INF, INF),
        (8.020797729492188, 8.020797729492188),
        (0.0, 0.0),
        (3.0, 3.0),
        (6.291287899017334, 6.291287899017334),
        (INF, INF),
    ],
    "tiles": [
        (10.885661125183105, 10.770329475402832),
        (6.852673053741455, 6.84762716293335),
        (5.715089797973633, 5.51231050491333),
        (6.606263160705566, 6.606263160705566),
        (11.630133628845215, 11.81209945678711),
    ],
}
# snap_point, is_navigable, get_island, distance_to_closest_obstacle.
SNAPS = {
    "rooms": [
        ((2, 0, 2), True, 0, 2),
        ((2, 0, 2), False, 0, 2),
        ((0, 0, 2), True, 0, 0),
        ((0, 0, 2), False, 0, 0),
        ((0, 0, 2), False, 0, 0),
        ((NAN, NAN, NAN), False, -1, INF),
        ((3.5, 0, 6), True, 1, 0.5),
        ((3, 0, 6.2), False, 1, 0),
        ((12, 1, 8.5), False, 0, 0.5),
        ((15, 2, 5), False, 0, 1),
        ((15, 2, 5), False, 0, 1),
        ((15, 2, 5), False, 0, 1),
        ((6.25, 0, 1.5), False, 0, 0),
    ],
    "tiles": [((4, 0, 2), True, 0, 1), ((8, 0, 1.5), False, 0, 0.5), ((12, 0.1, 3), False, 0, 0)],
}
# try_step, try_step_no_sliding.
MOVES = {
    "rooms": [
        ((0, 0, 2.1), (0, 0, 2.04)),
        ((6.1, 0, 0.55), (6.0333333, 0, 0.5)),
        ((6.12, 0, 1.5), (6.00999975, 0, 1.5)),
        ((8.9, 0, 8), (9, 0, 7.9249997)),
        ((11.2, 0.6, 8), (11.1333332, 0.5666666, 8)),
        ((6.2, 0, 0.5), (6.2, 0, 0.5)),
        ((3, 0, 5.9), (3, 0, 5.9666667)),
    ],
    "tiles": [
        ((4.1, 0, 2.1), (4.1, 0, 2.1)),
        ((4.1, 0, 1), (4.1, 0, 1)),
        ((8.15, 0.1, 3.6), (8.15, 0.1, 3.6)),
    ],
}


@pytest.fixture(scope="module", params=list(SCENES))
def scene(request, tmp_path_factory):
    name = request.param
    return name, read_navmesh(write(name, tmp_path_factory.mktemp("detour") / f"{name}.navmesh"))


def close(values):
    return pytest.approx(values, abs=2e-6, rel=1e-6, nan_ok=True)


def test_distances_are_those_of_habitat_sim_in_both_directions(scene):
    name, mesh = scene
    floor = DetourFloor(mesh)
    for (a, b), (there, back) in zip(SCENES[name].pairs, DISTANCES[name], strict=True):
        assert floor.distance([a], b)[0] == close(there), (a, b)
        assert floor.distance([b], a)[0] == close(back), (b, a)
        corners = floor.path(a, b)
        length = np.linalg.norm(np.diff(corners, axis=0), axis=1).sum()
        assert length == pytest.approx(0.0 if there == INF else there, abs=2e-5)
        assert (len(corners) == 0) == (there == INF)


def test_snapping_and_islands_are_those_of_habitat_sim(scene):
    name, mesh = scene
    floor = DetourFloor(mesh)
    points = np.array(SCENES[name].points, float)
    found, navigable, island, room = zip(*SNAPS[name], strict=True)
    assert floor.snap(points) == close(np.array(found, float))
    assert floor.is_navigable(points).tolist() == list(navigable)
    assert floor.island(points).tolist() == list(island)
    assert floor.obstacle_distance(points) == close(np.array(room, float))
    area, radii, high = {
        "rooms": (71.97213745117188, [10.8247652, 0.70710677], (17, 2, 9)),
        "tiles": (50.0, [6.88416577], (12, 0.1, 6)),
    }[name]
    assert floor.areas.sum() == pytest.approx(area, rel=1e-6)
    assert floor.radii == pytest.approx(radii, rel=1e-6)
    assert floor.bounds[1] == pytest.approx(high)


def test_moves_are_those_of_habitat_sim(scene):
    name, mesh = scene
    floor = DetourFloor(mesh)
    starts, ends = np.array(SCENES[name].moves, float).transpose(1, 0, 2)
    for sliding, expected in zip((True, False), zip(*MOVES[name], strict=True), strict=True):
        got, held = floor.walk(starts, ends, sliding)
        assert got == close(np.array(expected, float))
        asked = np.linalg.norm(ends - starts, axis=1)
        assert held.tolist() == (np.linalg.norm(got - starts, axis=1) ** 2 + 1e-5 < asked**2).tolist()


def test_a_mesh_that_was_moved_gives_the_same_distances(scene):
    name, mesh = scene
    by = np.array([-1000.0, 5.0, 300.0])
    there, here = DetourFloor(mesh.moved(by)), DetourFloor(mesh)
    for a, b in SCENES[name].pairs:
        assert there.distance(a + by[None], b + by)[0] == pytest.approx(here.distance([a], b)[0], abs=1e-3)
    assert there.snap(SCENES[name].points + by) == pytest.approx(here.snap(SCENES[name].points) + by, nan_ok=True)


def test_points_are_drawn_from_the_whole_of_an_island(scene):
    _, mesh = scene
    floor, rng = DetourFloor(mesh), np.random.default_rng(0)
    points = np.array([floor.sample(rng, 0) for _ in range(300)])
    assert floor.is_navigable(points).all()
    assert (floor.island(points) == 0).all()
    assert np.ptp(points[:, 0]) > 10.0
    with pytest.raises(ValueError, match="island 7 does not exist"):
        floor.sample(rng, 7)


def test_a_grid_measures_as_it_is_told(scene):
    name, mesh = scene
    exact, detour = NavGrid.from_navmesh(mesh), NavGrid.from_navmesh(mesh, geodesic="detour")
    for (a, b), (there, _) in zip(SCENES[name].pairs, DISTANCES[name], strict=True):
        if name == "rooms" and b == (25, 0, 7):
            with pytest.raises(ValueError, match="from any floor"):
                detour.field(b)
            continue
        field = detour.field(b)
        assert geodesic_distance(detour, field, a) == close(there)
        assert field.nbytes == 0
        if there < INF and exact.island(np.array([a, b], float)).min() >= 0:
            # No way is shorter than the shortest; the grid's are up to a cell's diagonal off.
            assert exact.distance(exact.field(b), np.array([a], float))[0] <= there * 1.01 + 0.05
    with pytest.raises(ValueError, match=r"geodesic=euclid: choose from exact, detour"):
        NavGrid.from_navmesh(mesh, geodesic="euclid")


@pytest.mark.parametrize("geodesic", ["exact", "detour"])
def test_the_expert_reaches_the_goal_by_either_distance(scene, geodesic):
    name, mesh = scene
    grid = NavGrid.from_navmesh(mesh, geodesic=geodesic)
    a, b = SCENES[name].pairs[0]
    field = grid.field(b)
    position, heading, turning, walked = np.array([a], float), 0.0, 0, 0.0
    start = grid.distance(field, position)[0]
    for _ in range(200):
        action = int(grid.expert(field, position, [heading], turning=[turning])[0])
        if action == 0:
            break
        turning = {FORWARD: 0, LEFT: 1, RIGHT: -1}[action]
        heading += turning * math.radians(10)
        if action == FORWARD:
            ends, _ = grid.step(position, [heading], 0.25)
            walked += float(np.linalg.norm(ends - position))
            position = ends
    assert action == 0 and grid.distance(field, position)[0] < 0.2
    assert start / max(walked, start) > 0.94


def test_a_plan_turns_where_that_gains_and_walks_on_where_it_does_not():
    def step(points, headings):
        ahead = np.stack([-np.sin(headings), 0 * headings, -np.cos(headings)], axis=1)
        return points + 0.25 * ahead, np.zeros(len(points), bool)

    def distance(points):
        return np.linalg.norm(points - [0.0, 0.0, -5.0], axis=1)

    def room(points):
        return np.full(len(points), np.inf)

    ask = [np.zeros(3), 0.0, math.radians(10), 0.25]
    assert plan(step, distance, room, *ask) == [FORWARD]
    assert plan(step, distance, room, ask[0], math.radians(-31), *ask[2:]) == [LEFT] * 3 + [FORWARD]
    assert plan(step, distance, room, ask[0], math.radians(59), *ask[2:]) == [RIGHT] * 6 + [FORWARD]
    # A turn costs an eightieth of a step: one that gains less than that is left out.
    assert plan(step, distance, room, ask[0], math.radians(6), *ask[2:]) == [FORWARD]
    assert plan(lambda *a: (step(*a)[0], np.ones(len(a[1]), bool)), lambda p: np.ones(len(p)), room, *ask) == []
