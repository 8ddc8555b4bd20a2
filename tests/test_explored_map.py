"""The explored map: closed forms on a plain room, agreement with the walkable grid, and the way that it plans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rooms import simple_place

from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP, PointNav, PointNavTask
from envs.pointnav.explored_map import LAYERS, PLAN_REACH, ExploredMaps
from envs.pointnav.noise import NoiseSettings
from envs.pointnav.range_scan import MARGIN, REACH
from envs.pointnav.scene_episodes import AgentConfig, SceneEpisodes
from envs.pointnav.vec_env import GOAL, PointNavVecEnv
from envs.rendering.camera_offsets import CameraOffset
from envs.rendering.renderer import Camera
from envs.sources.apartments import apartments

CELL = 14.0 / 40
ONE = np.array([0])
OCCUPANCY = ("blocked", "free")
NOWHERE, AHEAD = np.zeros((1, 2)), np.zeros(1)


BODY = AgentConfig(0.18, 1.5, 0.2, 45.0)


@pytest.fixture(scope="module")
def places() -> list[SceneEpisodes]:
    return apartments("train", 2, 2, 0, BODY)


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
    maps = ExploredMaps(1, 40, 14.0, camera, OCCUPANCY)
    maps.update(ONE, wall(camera, 2.6), NOWHERE, AHEAD, 10.0)
    blocked, free = maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0]
    row = math.floor(20 - 2.6 / CELL)
    assert (blocked[row, 16:24] > 0).all() and not np.delete(blocked, row, axis=0).any()
    # The lower edge of the view meets the floor here.
    nearest = camera.height / math.tan(math.radians(55.0 - pitch))
    assert (free[row + 1 : math.floor(20 - nearest / CELL), 19:21] > 100).all()
    assert not free[: row - 1].any() and not free[21:].any()


def test_each_agent_maps_with_its_own_camera() -> None:
    offset = CameraOffset(height=-0.3, pitch=math.radians(-10.0), hfov=20.0)
    own = Camera(size=64, height=0.95, pitch=-10.0, hfov=110.0)
    depth = np.concatenate([wall(own, 2.6), wall(Camera(size=64), 2.6)])
    both, alone = ExploredMaps(2, 40, 14.0, Camera(size=64)), ExploredMaps(1, 40, 14.0, own)
    both.reset(0, offset)
    agents, poses = np.arange(2), (np.zeros((2, 2)), np.zeros(2))
    both.update(agents, depth, *poses, 10.0)
    alone.update(ONE, depth[:1], NOWHERE, AHEAD, 10.0)
    maps = both.egocentric(agents, *poses, np.zeros((2, 2)))
    np.testing.assert_array_equal(maps[0], alone.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0])
    # The wall is where it is for both; a wider view shows more of it.
    row = math.floor(20 - 2.6 / CELL)
    wide, standard = (set(np.flatnonzero(blocked[row])) for blocked in maps[:, 0])
    assert standard < wide and not np.delete(maps[:, 0], row, axis=1).any()
    both.reset(0)
    both.update(ONE, depth[1:], NOWHERE, AHEAD, 10.0)
    again = both.egocentric(agents, *poses, np.zeros((2, 2)))
    np.testing.assert_array_equal(again[0], again[1])


def test_the_map_turns_and_moves_with_the_agent() -> None:
    camera = Camera(size=64)
    maps = ExploredMaps(1, 40, 14.0, camera, OCCUPANCY)
    maps.update(ONE, wall(camera, 2.6), NOWHERE, AHEAD, 10.0)
    ahead = maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0, 0]
    # Turned to the left, what lay ahead lies to the right; one cell forward, it is one cell nearer.
    left = maps.egocentric(ONE, NOWHERE, np.full(1, math.pi / 2), NOWHERE)[0, 0]
    assert np.abs(np.rot90(ahead, -1).astype(int) - left).mean() < 2.0
    nearer = maps.egocentric(ONE, np.array([[0.0, -CELL]]), AHEAD, NOWHERE)[0, 0]
    np.testing.assert_array_equal(nearer[1:], ahead[:-1])
    maps.reset(ONE)
    assert not maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE).any()


@pytest.mark.parametrize("appearance", ["plain", "wide"])
def test_the_map_agrees_with_the_walkable_grid(appearance: str) -> None:
    places = apartments("train", 2, 2, 0, BODY, appearance=appearance)
    assert all((place.camera is not None) == (appearance == "wide") for place in places)
    camera = Camera(size=64)
    nav = PointNav(places, PointNavTask(sensors=("explored",), explored_layers=OCCUPANCY), camera, 4, 0)
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


def blocked_cells(maps: ExploredMaps) -> set[tuple[int, int]]:
    """Cells of the world grid that are blocked."""
    return {(int(i), int(j)) for i, j in np.argwhere(maps._memory.evidence[0] > 0)}


@pytest.mark.parametrize("predicted", [False, True])
def test_what_stops_an_agent_is_blocked_until_it_stands_there(predicted: bool) -> None:
    maps = ExploredMaps(1, 40, 14.0, Camera(size=64), OCCUPANCY, predicted=predicted)
    free, step = wall(Camera(size=64), 9.9), np.array([0.25])

    def look(z: float, asked: np.ndarray | None = None) -> None:
        maps.update(ONE, free, np.array([[0.01, z]]), AHEAD, 9.0, asked)

    look(0.0)
    look(-0.25, step)
    look(-0.4, step)  # slid along something for more than half of the way
    assert not blocked_cells(maps)
    look(-0.45, step)
    hit = blocked_cells(maps)
    # Half a cell or so beyond the body, which ends 0.63 m from the start; a cell is 0.175 m wide.
    middle = maps._memory.evidence.shape[1] // 2
    assert {i - middle for i, _ in hit} == {math.floor(-0.72 / 0.175)} and {j - middle for _, j in hit} <= {-1, 0}
    # From further back it is in view, and looked through; turning and stopping hit nothing.
    for _ in range(30):
        look(1.5)
        look(1.5, np.zeros(1))
    assert blocked_cells(maps) == hit
    look(-0.72)
    assert blocked_cells(maps) < hit


@pytest.mark.parametrize("gps", [True, False])
def test_agents_know_by_their_odometry_that_something_stopped_them(gps: bool) -> None:
    place = simple_place(1)
    # So short-sighted a sensor sees nothing.
    task = PointNavTask(sensors=("explored",), explored_layers=OCCUPANCY, max_depth=0.01, gps=gps)
    nav = PointNav([place], task, Camera(size=16), 1, 0)
    nav.reset(ONE)
    for _ in range(60):
        blocked = nav.observe()["explored"][0, 0]
        if not nav.agents.collisions[0]:
            assert not blocked.any()
        nav.step(np.array([FORWARD]))
    assert nav.agents.collisions[0] > 5
    assert nav.observe()["explored"][0, 0, 18:20, 18:22].any() == gps
    nav.reset(ONE)
    assert not nav.observe()["explored"][0, 0].any()


def test_noisy_turns_and_stops_are_no_collisions() -> None:
    noise = NoiseSettings(actuation=1.0)
    task = PointNavTask(sensors=("explored",), explored_layers=OCCUPANCY, max_depth=0.01, noise=noise)
    nav = PointNav([simple_place(1)], task, Camera(size=16), 1, 0)
    nav.reset(ONE)
    for action in [LEFT, RIGHT, RIGHT] * 40 + [STOP]:
        nav.step(np.array([action]))
        assert not nav.observe()["explored"][0, 0].any()


def layers_of(seen: np.ndarray) -> dict[str, np.ndarray]:
    """One agent's layers by name, as numbers that do not overflow."""
    return dict(zip(LAYERS, seen.astype(int), strict=True))


def test_goal_and_own_way_are_drawn() -> None:
    maps = ExploredMaps(1, 40, 14.0, Camera(size=64))
    nothing = np.zeros((1, 64, 64), np.float32)
    for z in (0.0, -0.5, -1.0):
        maps.update(ONE, nothing, np.array([[0.05, z]]), AHEAD, 10.0)
    here = np.array([[0.05, -1.0]])
    # 2.5 cells ahead and 4.5 to the right of the agent.
    shown = layers_of(maps.egocentric(ONE, here, AHEAD, here + CELL * np.array([[4.5, -2.5]]))[0])
    expected = np.zeros((40, 40), int)
    expected[16:19, 23:26] = 255
    np.testing.assert_array_equal(shown["goal"], expected)
    rows, columns = np.nonzero(shown["visited"])
    assert set(shown["visited"][rows, columns]) == {255} and set(columns) == {20} and set(rows) == {20, 21, 23}
    # What lies beyond the map is drawn on its rim: far behind, to the left.
    beyond = layers_of(maps.egocentric(ONE, here, AHEAD, np.array([[-4.9, 25.0]]))[0])["goal"]
    assert set(np.nonzero(beyond)[0]) == {38, 39} and np.nonzero(beyond)[1].max() < 10
    some = ExploredMaps(1, 40, 14.0, Camera(size=64), ("visited", "goal"))
    some.update(ONE, nothing, here, AHEAD, 10.0)
    assert some.egocentric(ONE, here, AHEAD, here)[0].any((1, 2)).all()


@pytest.mark.parametrize("heading", [0.0, 0.7])
def test_on_unseen_floor_the_plan_is_the_straight_line(heading: float) -> None:
    maps = ExploredMaps(1, 40, 14.0, Camera(size=64))
    goal = np.array([[2.0, -3.0]])
    plan = layers_of(maps.egocentric(ONE, NOWHERE, np.full(1, heading), goal)[0])["plan"]
    row, column = np.mgrid[:40, :40]
    ahead, right = (20 - row - 0.5) * CELL, (column + 0.5 - 20) * CELL
    x = math.cos(heading) * right - math.sin(heading) * ahead
    z = -math.sin(heading) * right - math.cos(heading) * ahead
    gain = math.hypot(*goal[0]) - np.hypot(x - goal[0, 0], z - goal[0, 1])
    # Only the surroundings of the straight line are planned.
    near = (np.hypot(x, z) < 0.8) | (np.hypot(*(np.stack([x, z]) - goal.T[:, :, None])) < 0.8)
    shown = (plan[near] / 255 * 2 - 1) * PLAN_REACH
    # Fast marching of first order is off by a few per cent.
    assert np.abs(shown - np.clip(gain[near], -PLAN_REACH, PLAN_REACH)).max() < 0.3


def test_the_plan_leads_round_what_was_seen() -> None:
    camera = Camera(size=64)
    maps = ExploredMaps(1, 40, 14.0, camera)
    goal = np.array([[0.0, -5.0]])
    open_floor = layers_of(maps.egocentric(ONE, NOWHERE, AHEAD, goal)[0])["plan"]
    depth = wall(camera, 2.6)
    # The wall ends where the image does: 45 degrees to both sides.
    maps.update(ONE, depth, NOWHERE, AHEAD, 10.0)
    plan = layers_of(maps.egocentric(ONE, NOWHERE, AHEAD, goal)[0])["plan"]
    before = math.floor(20 - 2.6 / CELL) + 2
    assert open_floor[before, 19:21].min() > 180
    # The ends of the wall are nearer to the goal than its middle.
    ends = max(plan[before, 8:12].max(), plan[before, 28:32].max())
    assert plan[before, 19:21].max() + 20 < min(ends, open_floor[before, 19:21].max())
    # Behind the wall one would be a long way nearer.
    assert (plan[before - 6, 17:23] > 200).all()
    assert (plan[before - 2, 17:23] < 150).all()


def climb(plan: np.ndarray) -> float:
    """Bearing, positive to the left, of the place 0.5 to 0.9 m away that is nearest to the goal."""
    row, column = np.mgrid[:40, :40]
    ahead, right = 19.5 - row, column - 19.5
    ring = np.abs(np.hypot(ahead, right) - 2.0) < 0.6
    best = np.argmax(np.where(ring, plan.astype(float), -1.0))
    return math.atan2(-right.flat[best], ahead.flat[best])


def test_climbing_the_plan_comes_nearer_to_goals_than_a_straight_line(places: list[SceneEpisodes]) -> None:
    task = PointNavTask(sensors=("explored",), explored_layers=("plan",), max_steps=120)
    near = {}
    for planned in (False, True):
        nav = PointNav(places, task, Camera(size=48), 4, None)
        nav.reset(np.arange(4))
        left = []
        while nav.agents.active.any():
            seen = nav.observe()
            distance, bearing = seen["pointgoal_with_gps_compass"].T
            if planned:
                climbed = [climb(maps[0]) for maps in seen["explored"]]
                bearing = np.where(distance > 0.8, climbed, bearing)
            turn = np.where(bearing > 0, LEFT, RIGHT)
            actions = np.where(distance < 0.19, STOP, np.where(np.abs(bearing) > 0.2, turn, FORWARD))
            _, dones, records = nav.step(actions)
            left += [records[n]["distance_to_goal"] for n in np.flatnonzero(dones)]
            nav.reset(np.flatnonzero(dones))
        near[planned] = np.mean(left)
    assert near[True] < 0.7 * near[False]


def test_a_kept_plan_is_what_a_new_one_would_be(places: list[SceneEpisodes]) -> None:
    """Paths are planned again only where it matters: after a random walk that shows in very few cells."""
    task, camera = PointNavTask(sensors=("depth",), normalize_depth=False), Camera(size=32)
    agents = np.arange(4)
    nav, rng = PointNav(places, task, camera, 4, 0), np.random.default_rng(0)
    nav.reset(agents)
    start, goals = nav.agents.position[:, [0, 2]].copy(), nav.agents.goal[:, [0, 2]]
    often, once = (ExploredMaps(4, 40, 14.0, camera, ("plan",)) for _ in range(2))
    for _ in range(40):
        pose = nav.agents.position[:, [0, 2]] - start, nav.agents.heading
        for maps in (often, once):
            maps.update(agents, nav.observe()["depth"][..., 0], *pose, 10.0)
        kept = often.egocentric(agents, *pose, goals - start)
        nav.step(rng.choice([FORWARD, FORWARD, LEFT, RIGHT], 4))
    new = once.egocentric(agents, *pose, goals - start)
    assert (new > 0).any((1, 2, 3)).all()
    assert np.mean(np.abs(kept.astype(int) - new) > 4) < 0.01


def test_layers_are_named_once_and_exist() -> None:
    with pytest.raises(ValueError, match="none comes twice"):
        PointNavTask(explored_layers=("goal", "goal"))
    with pytest.raises(ValueError, match="visited"):
        PointNavTask(explored_layers=("visted",))
    with pytest.raises(ValueError, match="explored_layers"):
        PointNavTask(explored_layers=())


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


@pytest.mark.parametrize("pitch", [-10.0, 0.0, 10.0])
def test_predicted_depth_frees_the_floor_in_view_up_to_the_nearest_obstacle(pitch: float) -> None:
    camera = Camera(size=16, pitch=pitch)
    maps = ExploredMaps(1, 40, 14.0, camera, OCCUPANCY, predicted=True)
    maps.update(ONE, wall(camera, 2.2), NOWHERE, AHEAD, 10.0)
    blocked, free = maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0]
    row = math.floor(20 - 2.2 / CELL)
    assert (blocked[row, 17:23] > 0).all() and not np.delete(blocked, row, axis=0).any()
    # Here the floor comes into view, and there the last tenth of the way begins, of which nothing is said.
    nearest, end = camera.height / math.tan(math.radians(44.0 - pitch)), (1.0 - MARGIN) * 2.2
    seen = free[:, 19:21].max(1) > 0
    rows = np.flatnonzero(seen[:19])  # without where the agent stands
    assert 20 - nearest / CELL - 2 <= rows.max() <= 20 - nearest / CELL + 1
    assert abs(rows.min() - math.floor(20 - end / CELL)) <= 1 and seen[rows.min() : rows.max() + 1].all()


def test_predictions_count_nearby_only_and_where_frames_agree() -> None:
    camera = Camera(size=16)
    maps = ExploredMaps(1, 40, 14.0, camera, OCCUPANCY, predicted=True)
    maps.update(ONE, wall(camera, REACH + 0.5), NOWHERE, AHEAD, 10.0)
    blocked, free = maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0]
    assert not blocked.any() and free.any() and not free[: math.floor(20 - REACH / CELL)].any()
    # One frame against one says nothing; a wall that two put too near disappears when three others look through it.
    maps.update(ONE, wall(camera, 2.0), NOWHERE, AHEAD, 10.0)
    assert not maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0, 0].any()
    maps.update(ONE, wall(camera, 2.0), NOWHERE, AHEAD, 10.0)
    assert maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0, 0].any()
    for _ in range(3):
        maps.update(ONE, wall(camera, 2.9), NOWHERE, AHEAD, 10.0)
    blocked = maps.egocentric(ONE, NOWHERE, AHEAD, NOWHERE)[0, 0]
    assert set(np.flatnonzero(blocked[:, 19:21].any(1))) == {math.floor(20 - 2.9 / CELL)}


def test_ways_round_predicted_obstacles_are_shorter() -> None:
    camera, goal = Camera(size=16), np.array([[0.0, -5.0]])
    gain = {}
    for predicted in (False, True):
        maps = ExploredMaps(1, 40, 14.0, camera, ("blocked", "plan"), predicted=predicted)
        nothing = maps.egocentric(ONE, NOWHERE, AHEAD, goal)[0, 1].astype(int)
        for _ in range(3):
            maps.update(ONE, wall(camera, 2.2), NOWHERE, AHEAD, 10.0)
        blocked, plan = maps.egocentric(ONE, NOWHERE, AHEAD, goal)[0].astype(int)
        row = math.floor(20 - 2.2 / CELL)
        assert blocked[row, 18:22].all()
        # Before the wall one is further from the goal than on open floor, as one must go round or through it.
        gain[predicted] = (plan - nothing)[row + 2, 18:22].mean()
    assert gain[False] < gain[True] < 0


def test_a_predictor_takes_the_place_of_the_depth_sensor(places: list[SceneEpisodes]) -> None:
    task = PointNavTask(sensors=("explored",), explored_from="predicted", explored_layers=OCCUPANCY)
    asked: list[tuple[int, ...]] = []

    def predict(rgb: np.ndarray) -> np.ndarray:
        asked.append(rgb.shape)
        return np.repeat(wall(Camera(size=16), 2.2), len(rgb), axis=0)

    env = PointNavVecEnv(places, task, Camera(size=32), 2, 0, predict_depth=predict)
    seen = env.reset()
    assert set(seen) == {GOAL, "explored"}
    expected = ExploredMaps(1, 40, 14.0, Camera(size=32), OCCUPANCY, predicted=True)
    expected.update(ONE, wall(Camera(size=16), 2.2), NOWHERE, env.nav.agents.heading[:1], 10.0)
    shown = expected.egocentric(ONE, NOWHERE, env.nav.agents.heading[:1], NOWHERE)
    # The agent's own place is a corner of four cells, and rounding may put it into another.
    assert shown[0].any((1, 2)).all() and (seen["explored"][0] != shown[0]).sum() < 5
    env.nav.observe()
    env.step(np.full(2, LEFT))
    # Each state is predicted once, all agents in one batch.
    assert asked == [(2, 32, 32, 3)] * 2
    with pytest.raises(ValueError, match=r"explored_from=predicted needs"):
        PointNavVecEnv(places, task, Camera(size=32), 2, 0)
    with pytest.raises(ValueError, match="explored_from"):
        PointNavTask(explored_from="depths")
