from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from houses import clearance, write_house
from shapes import Part, box, floor, furnished, room, scene, turned

from envs.apartments import generator as apartments
from envs.navgrid.grid import NavGrid
from envs.scans.loading import load_scene

RADIUS = 0.1
FORWARD = 0.25


def taut_length(start: np.ndarray, corners: list[tuple[float, float]], goal: np.ndarray, radius: float) -> float:
    """Length of the string from start to goal round discs about `corners`, all passed on the same side.

    Straight tangents and arcs: the exact shortest way of a disc of that radius round wall corners.
    """
    points = np.array([start[[0, 2]], *corners, goal[[0, 2]]])
    legs = np.diff(points, axis=0)
    length = np.hypot(*legs.T)
    angle = np.unwrap(np.arctan2(legs[:, 1], legs[:, 0]))
    side = np.sign(angle[-1] - angle[0])
    angle[0] -= side * math.asin(radius / length[0])
    angle[-1] += side * math.asin(radius / length[-1])
    tangents = np.sqrt(length[[0, -1]] ** 2 - radius**2)
    return float(tangents.sum() + length[1:-1].sum() + radius * abs(angle[-1] - angle[0]))


def corridor(kind: str) -> tuple[list[Part], list[tuple[float, float]], np.ndarray, np.ndarray]:
    """Layout, inner corners passed by the shortest path, start and goal."""
    if kind == "L":
        return [*room(0, 5, 0, 5), box(1.2, 5, 1.2, 5)], [(1.2, 1.2)], np.array([4.6, 0, 0.5]), np.array([0.4, 0, 4.7])
    if kind == "U":
        parts = [*room(0, 3, 0, 5), box(1.3, 1.7, 1.1, 5)]
        return parts, [(1.7, 1.1), (1.3, 1.1)], np.array([2.2, 0, 4.5]), np.array([0.6, 0, 3.7])
    # A square spiral with corridors 1 m wide, from the outer end at the bottom left to its middle.
    walls = [(1, 1.2, 1, 6), (1.2, 6, 1, 1.2), (5.8, 6, 1.2, 5), (2.2, 5.8, 4.8, 5), (2.2, 2.4, 2.4, 4.8)]
    corners = [(1.0, 1.0), (6.0, 1.0), (6.0, 5.0), (2.2, 5.0), (2.2, 2.4), (2.4, 2.4)]
    parts = [*room(0, 7, 0, 6), *(box(*w) for w in walls)]
    return parts, corners, np.array([0.4, 0, 5.6]), np.array([3.6, 0, 3.3])


def between(grid: NavGrid, a: np.ndarray, b: np.ndarray) -> float:
    return float(grid.distance(grid.field(b), a[None])[0])


@pytest.fixture(scope="module")
def flat() -> NavGrid:
    return NavGrid.build(scene(furnished(0)), radius=RADIUS)


@pytest.mark.parametrize("kind", ["L", "U", "spiral"])
@pytest.mark.parametrize(("turn", "shift"), [(0.0, (0.0, 0.0)), (0.0, (0.513, 0.027)), (0.5, (0.0, 0.013))])
@pytest.mark.parametrize("radius", [0.1, 0.2])
def test_geodesic_distance_is_exact_in_corridors(
    kind: str, turn: float, shift: tuple[float, float], radius: float
) -> None:
    parts, corners, start, goal = corridor(kind)
    exact = taut_length(start, corners, goal, radius)
    grid = NavGrid.build(scene(parts, turn, shift), radius=radius)
    a, b = turned(np.array([start, goal]), turn, shift)
    there, back = between(grid, a, b), between(grid, b, a)
    assert there == pytest.approx(exact, rel=0.02)
    assert back == pytest.approx(exact, rel=0.02)
    assert there == pytest.approx(back, rel=0.01)


def test_distances_are_symmetric_between_any_two_points(flat: NavGrid) -> None:
    points = flat.sample(np.random.default_rng(1), 25, island=0)
    table = np.array([flat.distance(flat.field(p), points) for p in points])
    far = table > 1.0
    assert np.isfinite(table).all()
    assert (np.abs(table - table.T)[far] <= 0.01 * table[far]).all()
    assert np.abs(table - table.T).max() < 0.05
    assert (table >= np.linalg.norm(points[:, None] - points[None], axis=2) - 1e-6).all()


def test_open_floor_gives_euclidean_distance() -> None:
    grid = NavGrid.build(scene(room(0, 6, 0, 4)))
    rng = np.random.default_rng(0)
    points, goal = grid.sample(rng, 200), np.array([2.013, 0.0, 1.987])
    field = grid.field(goal)
    assert grid.distance(field, points) == pytest.approx(np.linalg.norm(points - goal, axis=1), abs=1e-6)
    assert grid.distance(field, goal[None])[0] == 0.0


def test_distance_falls_by_the_step_on_the_way_and_path_has_that_length(flat: NavGrid) -> None:
    rng = np.random.default_rng(2)
    field = flat.field(flat.sample(rng, 1, island=0)[0])
    starts = flat.sample(rng, 30, island=0)
    for start, distance in zip(starts, flat.distance(field, starts), strict=True):
        path = flat.path(field, start)
        legs = np.linalg.norm(np.diff(path, axis=0), axis=1)
        assert legs.sum() == pytest.approx(distance, abs=1e-6)
        assert (path[0] == start).all() and (path[-1] == field.goal).all()
        bends = path[1:-1]
        assert (np.linalg.norm(flat.snap(bends) - bends, axis=1) < 0.05).all()


def test_room_is_eroded_by_the_radius() -> None:
    for radius in (0.1, 0.25):
        grid = NavGrid.build(scene(room(0, 4, 0, 3), shift=(0.02, 0.031)), radius=radius)
        assert grid.island_areas == pytest.approx([(4 - 2 * radius) * (3 - 2 * radius)], rel=0.03)
        edge = np.array([[0.02 + radius + 1e-3, 0, 1.5], [0.02 + radius - 2e-3, 0, 1.5]])
        assert grid.is_navigable(edge).tolist() == [True, False]


def test_round_pillar_keeps_its_distance_from_any_side() -> None:
    angles = np.linspace(0, 2 * np.pi, 33)[:-1]
    ring = np.stack([2 + 0.3 * np.cos(angles), 0 * angles, 2 + 0.3 * np.sin(angles)], axis=1)
    up = np.array([0.0, 2.0, 0.0])
    wall = [
        (np.array([p, q, q + up, p + up]), np.array([[0, 1, 2], [0, 2, 3]]))
        for p, q in zip(ring, np.roll(ring, -1, 0), strict=True)
    ]
    grid = NavGrid.build(scene([*room(0, 4, 0, 4), *wall]))
    for factor, expected in ((0.385, False), (0.46, True)):
        at = np.stack([2 + factor * np.cos(angles), 0 * angles, 2 + factor * np.sin(angles)], axis=1)
        assert (grid.is_navigable(at) == expected).all()


def test_step_is_exact_on_open_floor() -> None:
    grid = NavGrid.build(scene(room(0, 4, 0, 4)))
    heading = np.radians([0.0, 90.0, 180.0, -37.0])
    start = np.tile([2.0, 0.0, 2.0], (4, 1))
    now, collided = grid.step(start, heading, FORWARD)
    forward = np.stack([-np.sin(heading), 0 * heading, -np.cos(heading)], axis=1)
    assert now == pytest.approx(start + FORWARD * forward, abs=1e-12)
    assert not collided.any()


def test_step_stops_at_a_wall_and_slides_along_it() -> None:
    grid = NavGrid.build(scene(room(0, 4, 0, 4)))
    start = np.array([[2.0, 0.0, 0.2]])
    head_on, collided = grid.step(start, [0.0], FORWARD)
    assert collided.all()
    assert head_on[0] == pytest.approx([2.0, 0.0, RADIUS], abs=2e-3)
    for degrees in (20.0, 45.0, 70.0, -60.0):
        slid, collided = grid.step(np.array([[2.0, 0.0, RADIUS + 1e-3]]), [math.radians(degrees)], FORWARD)
        assert collided.all()
        assert slid[0] == pytest.approx([2.0 - FORWARD * math.sin(math.radians(degrees)), 0.0, RADIUS], abs=3e-3)
    stuck, collided = grid.step(start, [math.radians(20.0)], FORWARD, sliding=False)
    assert collided.all()
    assert stuck[0, 2] == pytest.approx(RADIUS, abs=0.021)
    _, collided = grid.step(np.array([[2.0, 0.0, RADIUS + 1e-3]]), [math.pi / 2], FORWARD)
    assert not collided.any()


def test_step_off_the_floor_stays() -> None:
    grid = NavGrid.build(scene(room(0, 4, 0, 4)))
    outside = np.array([[9.0, 0.0, 9.0]])
    now, collided = grid.step(outside, [0.0], FORWARD)
    assert (now == outside).all() and collided.all()


def test_random_walks_never_leave_the_island_nor_come_too_near_to_a_box() -> None:
    parts = furnished(3)
    grid = NavGrid.build(scene(parts))
    rng = np.random.default_rng(0)
    position = grid.sample(rng, 200, island=0)
    heading = rng.uniform(-np.pi, np.pi, 200)
    field = grid.field(position[0])
    boxes = np.array([[*v.min(0)[[0, 2]], *v.max(0)[[0, 2]]] for v, f in parts[1:]])
    hits = 0
    for _ in range(150):
        before = position
        position, collided = grid.step(position, heading, FORWARD)
        hits += int(collided.sum())
        heading = np.where(rng.random(200) < 0.4, rng.uniform(-np.pi, np.pi, 200), heading)
        assert (grid.island(position) == 0).all()
        assert np.linalg.norm(position - before, axis=1).max() <= FORWARD * 1.01
        assert (position[:, 1] == 0.0).all()
        x, z = position[:, None, 0], position[:, None, 2]
        dx = np.maximum(np.maximum(boxes[:, 0] - x, x - boxes[:, 2]), 0)
        dz = np.maximum(np.maximum(boxes[:, 1] - z, z - boxes[:, 3]), 0)
        assert np.hypot(dx, dz).min() > RADIUS - 4e-3
        assert np.isfinite(grid.distance(field, position)).all()
    assert hits > 1000


@pytest.mark.parametrize(
    ("obstacle", "passes"),
    [
        (box(2.0, 2.2, 0, 3, 1.6, 2.5), True),  # a lintel above the head
        (box(2.0, 2.2, 0, 3, 1.4, 2.5), False),
        (box(2.0, 2.2, 0, 3, 0.0, 0.15), True),  # a threshold
        (box(2.0, 2.2, 0, 3, 0.0, 0.3), False),
        (box(2.09, 2.1, 0, 3, 0.5, 0.52), False),  # a rail, thinner than a cell
        (floor(2.0, 2.5, 0, 3, 0.02), True),  # a rug
    ],
)
def test_what_blocks_an_agent(obstacle: Part, passes: bool) -> None:
    grid = NavGrid.build(scene([*room(0, 4, 0, 3), obstacle]))
    sides = grid.island(np.array([[1.0, 0.0, 1.5], [3.0, 0.0, 1.5]]))
    assert (sides >= 0).all()
    assert (sides[0] == sides[1]) == passes


@pytest.mark.parametrize("height", [0.15, 0.2, 0.21, 0.3, 0.39, 0.6])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_ledge_higher_than_a_step_is_an_edge_from_below_and_from_above(height: float, side: float) -> None:
    grid = NavGrid.build(scene([*room(0, 6, 0, 3), box(3.0, 6.0, 0, 3, 0.0, height)]))
    start = np.array([[3.0 - side, 0.0 if side > 0 else height, 1.5]])
    position = start
    for _ in range(8):
        position, _ = grid.step(position, [-side * math.pi / 2], FORWARD)
    if height <= 0.2:
        assert position[0, 0] == pytest.approx(3.0 + side)
    else:
        # A wall is where it is; a drop begins with the column that lacks the floor.
        exact = 4e-3 if side > 0 else grid.cell
        assert side * (3.0 - position[0, 0]) == pytest.approx(RADIUS, abs=exact)
        assert position[0, 1] == pytest.approx(start[0, 1])
        assert grid.island(position) == grid.island(start)


def storeys(steps: int) -> list[Part]:
    """Two storeys 2.88 m apart; a stair of 16 steps of 0.18 m leads up, of which the first `steps` are built."""
    parts = [floor(0, 8, 0, 3), floor(6.5, 10, 0, 3, 2.88)]
    stair = [floor(2 + 0.28 * k, 2.28 + 0.28 * k, 0, 1.2, 0.18 * (k + 1)) for k in range(steps)]
    return [*parts, *stair, floor(6.4, 6.6, 0, 1.2, 2.88)]


def test_storeys_are_joined_by_stairs_only() -> None:
    below, above = np.array([[7.5, 0.05, 2.0]]), np.array([[7.5, 2.9, 2.0]])
    joined = NavGrid.build(scene(storeys(16)))
    assert joined.snap(below)[0, 1] == pytest.approx(0.0, abs=1e-6)
    assert joined.snap(above)[0, 1] == pytest.approx(2.88, abs=1e-6)
    assert joined.island(below) == joined.island(above)
    way = joined.distance(joined.field(above[0]), below)[0]
    stair = math.hypot(2.88, 4.48)
    assert 5.5 + stair < way < 5.5 + stair + 2.5
    broken = NavGrid.build(scene(storeys(8)))
    assert broken.island(below) != broken.island(above)
    assert broken.distance(broken.field(above[0]), below)[0] == np.inf
    with pytest.raises(ValueError, match="no way"):
        broken.path(broken.field(above[0]), below[0])


def test_agents_climb_stairs() -> None:
    grid = NavGrid.build(scene(storeys(16)))
    position = np.array([[1.5, 0.0, 0.6]])
    for _ in range(30):
        position, _ = grid.step(position, [-math.pi / 2], FORWARD)
    assert position[0] == pytest.approx([9.0, 2.88, 0.6], abs=1e-3)


def test_snap() -> None:
    grid = NavGrid.build(scene([*room(0, 4, 0, 4), box(1, 3, 1, 3, 0, 0.6)]))
    table = int(grid.island([[2.0, 0.6, 2.0]])[0])
    assert table != int(grid.island([[0.5, 0.0, 0.5]])[0])
    asked = np.array([[0.5, 0.3, 0.5], [2.0, 0.55, 2.0], [-0.5, 0.0, 2.0], [9.0, 0.0, 9.0]])
    found = grid.snap(asked)
    assert found[0] == pytest.approx([0.5, 0.0, 0.5])
    assert found[1] == pytest.approx([2.0, 0.6, 2.0])
    assert found[2] == pytest.approx([RADIUS, 0.0, 2.0], abs=0.04)
    assert np.isnan(found[3]).all()
    assert grid.is_navigable(found[:3]).all()
    assert grid.snap(found[:3]) == pytest.approx(found[:3])
    moved = grid.snap(asked[1:2], island=0)
    assert grid.island(moved).tolist() == [0]
    with pytest.raises(ValueError, match=r"more than 2\.0 m"):
        grid.field([9.0, 0.0, 9.0])


def test_sample_is_uniform_and_repeats_with_its_seed(flat: NavGrid) -> None:
    points = flat.sample(np.random.default_rng(5), 4000)
    assert (points == flat.sample(np.random.default_rng(5), 4000)).all()
    assert flat.is_navigable(points).all()
    open_room = NavGrid.build(scene(room(0, 4, 0, 4)))
    x = open_room.sample(np.random.default_rng(0), 8000)[:, 0]
    share, _ = np.histogram(x, bins=4, range=(0.1, 3.9))
    assert share / 8000 == pytest.approx([0.25] * 4, abs=0.02)
    with pytest.raises(ValueError, match="numbered from 0"):
        flat.sample(np.random.default_rng(0), 1, island=99)


def test_ceilings_and_floors_seen_from_below_carry_nobody() -> None:
    parts = room(0, 4, 0, 4)
    upside_down = (parts[0][0], parts[0][1][:, ::-1])
    with pytest.raises(ValueError, match="shapes: no floor"):
        NavGrid.build(scene([upside_down, *parts[1:]]))
    low = scene([*parts, floor(0, 4, 0, 4, 1.2)])
    ghost = dataclasses.replace(low, solid=np.arange(len(low.faces)) < len(low.faces) - 2)
    assert len(NavGrid.build(ghost).island_areas) == 1
    assert (NavGrid.build(low).snap([[2.0, 0.0, 2.0]])[:, 1] > 1.0).all()


def test_building_is_deterministic() -> None:
    a, b = (NavGrid.build(scene(furnished(1))).ground for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_positions_of_another_shape_are_refused(flat: NavGrid) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        flat.is_navigable([1.0, 2.0, 3.0])


def follow(grid: NavGrid, episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and SPL of the follower from random states to one random goal, 500 steps at most."""
    rng = np.random.default_rng(seed)
    field = grid.field(grid.sample(rng, 1, island=0)[0])
    position = grid.sample(rng, 6 * episodes, island=0)
    shortest = grid.distance(field, position)
    position = position[(shortest > 1.0) & (shortest < 12.0)][:episodes]
    shortest = grid.distance(field, position)
    heading = rng.uniform(-np.pi, np.pi, len(position))
    walked, stopped = np.zeros(len(position)), np.zeros(len(position), bool)
    for _ in range(500):
        action = grid.expert(field, position, heading)
        stopped |= action == 0
        forward = (action == 1) & ~stopped
        now, _ = grid.step(position, heading, FORWARD)
        walked += np.where(forward, np.linalg.norm(now - position, axis=1), 0.0)
        position = np.where(forward[:, None], now, position)
        heading = heading + math.radians(10) * np.where(stopped, 0, (action == 2) * 1.0 - (action == 3))
    success = stopped & (grid.distance(field, position) < 0.2)
    return success, success * shortest / np.maximum(shortest, walked)


@pytest.mark.parametrize("source", ["boxes", "apartment"])
def test_expert_succeeds_on_nearly_shortest_paths(source: str) -> None:
    results = []
    for seed in range(3):
        if source == "boxes":
            grid = NavGrid.build(scene(furnished(seed)))
        else:
            grid = NavGrid.build(apartments.generate(apartments.split_seeds("val")[seed]))
        results += [follow(grid, 25, goal) for goal in range(2)]
    success, spl = (np.concatenate(r) for r in zip(*results, strict=True))
    assert len(success) >= 100
    assert success.mean() >= 0.99
    assert spl.mean() >= 0.97


def test_expert_actions() -> None:
    grid = NavGrid.build(scene(room(0, 6, 0, 6)))
    field = grid.field([3.0, 0.0, 1.0])
    place = np.tile([3.0, 0.0, 4.0], (4, 1))
    turns = grid.expert(field, place, np.radians([0.0, 4.0, 40.0, -40.0]))
    assert turns.tolist() == [1, 1, 3, 2]
    # Within the success distance it takes one step more if that ends nearer to the goal, else it stops.
    near = np.array([[3.0, 0.0, z] for z in (1.13, 1.19, 1.19, 1.21)])
    assert grid.expert(field, near, [0.0, 0.0, np.pi, 0.0]).tolist() == [0, 1, 0, 1]


def test_expert_goes_on_turning_the_way_it_turns() -> None:
    grid = NavGrid.build(scene(room(0, 6, 0, 6)))
    field = grid.field([3.0, 0.0, 1.0])
    place = np.tile([3.0, 0.0, 4.0], (4, 1))
    # 160 degrees to turn: 16 to the right or 20 to the left; 80 degrees: always the short way.
    headings = np.radians([160.0, 160.0, 160.0, 80.0])
    assert grid.expert(field, place, headings, turning=[0, -1, 1, 1]).tolist() == [3, 3, 2, 3]


def test_top_down_shows_the_navigable_area(flat: NavGrid) -> None:
    free, corner, cell = flat.top_down()
    assert free.sum() * cell**2 == pytest.approx(flat.island_areas.sum(), rel=1e-6)
    point = flat.sample(np.random.default_rng(0), 1)[0]
    column = np.floor((point[[0, 2]] - corner) / cell).astype(int)
    assert free[column[1], column[0]]
    assert flat.top_down(island=0)[0].sum() * cell**2 == pytest.approx(flat.island_areas[0])


def test_memory_is_modest(flat: NavGrid) -> None:
    arrays = [a for a in flat.ground if isinstance(a, np.ndarray)]
    assert sum(a.nbytes for a in arrays) < 2e6
    assert flat.field(flat.sample(np.random.default_rng(0), 1)[0]).nbytes < 2e5


def test_a_house_is_free_where_its_plan_is(tmp_path: Path) -> None:
    grid = NavGrid.build(load_scene(write_house(tmp_path / "house.glb")), radius=RADIUS)
    free, corner, cell = grid.top_down(island=0)
    iz, ix = np.indices(free.shape)
    middle = np.stack([corner[0] + (ix + 0.5) * cell, corner[1] + (iz + 0.5) * cell], -1)
    away = clearance(middle.reshape(-1, 2)).reshape(free.shape)
    assert 12_000 < free.sum() < 14_000
    assert away[free].min() > RADIUS - 1e-6 and away[~free].max() < RADIUS + 1e-6
