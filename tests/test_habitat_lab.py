"""The embedded simulator under Habitat-Lab's own environments, measures, sensors and datasets (make test-habitat)."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from habitat_rooms import describe, write_room, write_split
from houses import write_house

from envs.habitat import stand_ins as habitat_stand_ins
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP, NavigableScene, PointNav, PointNavTask
from envs.pointnav.episodes import Episode, read_episodes, write_episodes
from envs.rendering.renderer import Camera
from envs.scans.loading import load_scene

pytestmark = [
    pytest.mark.habitat,
    pytest.mark.skipif(find_spec("habitat") is None, reason="needs Habitat-Lab: make test-habitat"),
    # Habitat-Lab and its gym are older than some of what they import.
    pytest.mark.filterwarnings("ignore"),
]
CONFIG = "benchmark/nav/pointnav/pointnav_habitat_test.yaml"
NAMES = {STOP: "stop", FORWARD: "move_forward", LEFT: "turn_left", RIGHT: "turn_right"}
BLIND = [f"~habitat.simulator.agents.main_agent.sim_sensors.{name}_sensor" for name in ("rgb", "depth")]
MEASURES = [
    f"+habitat/task/measurements@habitat.task.measurements.{name}={name}"
    for name in ("soft_spl", "collisions", "num_steps")
]


@pytest.fixture(scope="module")
def habitat() -> Any:
    habitat_stand_ins.install()
    import habitat
    from habitat.core.logging import logger

    import envs.habitat.simulator  # noqa: F401

    logger.setLevel("WARNING")
    return habitat


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_split(folder, "train", [write_room(folder)], 12)
    return folder


@pytest.fixture(scope="module", params=["two rooms", pytest.param("real", marks=pytest.mark.shared)])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    if request.param == "real":
        (folder / "house.glb").symlink_to(request.getfixturevalue("shared") / "data/aws_small_house.glb")
    else:
        write_house(folder / "house.glb")
    describe(folder / "house.glb")
    write_split(folder, "train", [folder / "house.glb"], 100)
    return folder


@pytest.fixture(scope="module")
def house_place(house: Path) -> NavigableScene:
    scene = load_scene(house / "house.glb")
    return NavigableScene(scene, NavGrid.build(scene), tuple(read_episodes(house / "train/train.json.gz")))


def config(habitat: Any, folder: Path, *overrides: str) -> Any:
    paths = f"'{folder}/{{split}}/{{split}}.json.gz'"
    words = ["habitat.simulator.type=Sidestep-v0", f"habitat.dataset.scenes_dir={folder}"]
    return habitat.get_config(CONFIG, [*words, f"habitat.dataset.data_path={paths}", *MEASURES, *overrides])


def in_order(habitat: Any, folder: Path, *overrides: str) -> Any:
    """An environment that plays the episodes of the file in their order."""
    options = "habitat.environment.iterator_options"
    words = [f"{options}.shuffle=False", f"{options}.group_by_scene=False", f"{options}.max_scene_repeat_steps=-1"]
    return habitat.Env(config(habitat, folder, *words, *overrides))


def ours(folder: Path, mesh: str, episodes: list[Episode], **task: Any) -> PointNav:
    scene = load_scene(folder / mesh)
    place = NavigableScene(scene, NavGrid.build(scene), tuple(episodes))
    return PointNav([place], PointNavTask(**{"sensors": (), **task}), Camera(size=16), 1, seed=None)


Chooser = Callable[[PointNav, int, np.random.Generator], int]


def expert(nav: PointNav, step: int, rng: np.random.Generator) -> int:
    return int(nav.expert()[0])


def slipping(nav: PointNav, step: int, rng: np.random.Generator) -> int:
    return int(rng.choice([FORWARD, LEFT, RIGHT])) if rng.random() < 0.3 else expert(nav, step, rng)


def at_random(nav: PointNav, step: int, rng: np.random.Generator) -> int:
    return int(rng.choice(4, p=[0.005, 0.695, 0.15, 0.15]))


def into_walls(nav: PointNav, step: int, rng: np.random.Generator) -> int:
    return LEFT if step % 50 == 49 else FORWARD


def tour(nav: PointNav, step: int, rng: np.random.Generator) -> int:
    return STOP if step == 40 else [FORWARD, FORWARD, FORWARD, LEFT, FORWARD, RIGHT][step % 6]


CHOOSERS = (expert, slipping, at_random, into_walls, tour)


def on_floor(goal: Any) -> Any:
    """A polar goal as metres ahead and to the left: close to the goal its bearing is ill-conditioned."""
    return goal[0] * np.array([math.cos(goal[1]), math.sin(goal[1])])


@pytest.mark.parametrize("choose", CHOOSERS)
def test_one_hundred_episodes_in_the_house_have_the_measures_of_habitat_lab(
    habitat: Any, house: Path, house_place: NavigableScene, choose: Chooser
) -> None:
    """Every fifth of the hundred episodes for each way to act; at every step and at the end, to 1e-6."""
    part = slice(CHOOSERS.index(choose), None, len(CHOOSERS))
    env = in_order(habitat, house, *BLIND)
    assert len(env.episodes) == len(house_place.episodes) == 100
    env.episodes = env.episodes[part]
    nav = PointNav(
        [house_place.only(house_place.episodes[part])], PointNavTask(sensors=()), Camera(size=16), 1, seed=None
    )
    rng = np.random.default_rng(0)
    records = []
    for episode in house_place.episodes[part]:
        seen = env.reset()
        nav.reset(np.array([0]))
        assert env.current_episode.episode_id == episode.episode_id
        done, step, paid = False, 0, 0.0
        while not done:
            mine = nav.observe()["pointgoal_with_gps_compass"][0]
            # float32 angles at up to 20 m
            np.testing.assert_allclose(on_floor(mine), on_floor(seen["pointgoal_with_gps_compass"]), atol=1e-5)
            action = choose(nav, step, rng)
            seen = env.step(NAMES[action])
            rewards, dones, ended = nav.step(np.array([action]))
            done, step, theirs = bool(dones[0]), step + 1, env.get_metrics()
            assert done == env.episode_over
            reward = rewarded(env, theirs)
            paid += reward
            assert float(rewards[0]) == pytest.approx(reward, abs=1e-6)
            assert nav.agents.distance[0] == pytest.approx(theirs["distance_to_goal"], abs=1e-6)
            assert nav.agents.collisions[0] == theirs["collisions"]["count"]
        record, theirs = ended[0], env.get_metrics()
        for name in ("success", "spl", "soft_spl", "distance_to_goal"):
            assert record[name] == pytest.approx(theirs[name], abs=1e-6), (episode.episode_id, name)
        assert record["steps"] == theirs["num_steps"] == step
        assert record["nav_reward"] == pytest.approx(paid, abs=1e-6)
        assert record["truncated"] == (step == 500 and action != STOP)
        records.append(record)
    assert len(records) == 20
    if choose is expert:
        assert all(r["success"] for r in records)
    if choose is slipping:
        assert sum(r["collisions"] > 0 for r in records) >= 8
    if choose is into_walls:
        assert all(r["truncated"] and r["collisions"] > 50 for r in records)
    if choose is tour:
        assert not any(r["success"] for r in records)
        assert max(r["soft_spl"] for r in records) > 0.1


def rewarded(env: Any, metrics: Any) -> float:
    """The reward of Habitat-Lab's `RLTaskEnv`."""
    task = env._config.task
    bonus = task.success_reward if metrics[task.success_measure] else 0.0
    return float(task.slack_reward + metrics[task.reward_measure] + bonus)


def test_habitat_labs_follower_reaches_the_goals(habitat: Any, house: Path) -> None:
    from habitat.tasks.nav.shortest_path_follower import ShortestPathFollower

    env = in_order(habitat, house, *BLIND)
    follower = ShortestPathFollower(env.sim, 0.1, False)
    results = []
    for _ in range(100):
        env.reset()
        while not env.episode_over:
            env.step(follower.get_next_action(env.current_episode.goals[0].position))
        results.append(env.get_metrics())
    assert np.mean([r["success"] for r in results]) >= 0.99
    assert np.mean([r["spl"] for r in results]) >= 0.95


def test_pictures_are_those_of_the_embedded_environment(habitat: Any, room: Path) -> None:
    size = [
        f"habitat.simulator.agents.main_agent.sim_sensors.{s}_sensor.{k}=24"
        for s in ("rgb", "depth")
        for k in ("width", "height")
    ]
    env = in_order(habitat, room, *size)
    nav = ours(room, "room.ply", read_episodes(room / "train/train.json.gz"), sensors=("rgb", "depth"))
    nav.camera = Camera(size=24)
    for _ in range(3):
        seen = env.reset()
        nav.reset(np.array([0]))
        for action in (FORWARD, LEFT, FORWARD, RIGHT, RIGHT):
            mine = nav.observe()
            assert np.array_equal(seen["rgb"], mine["rgb"][0])
            np.testing.assert_allclose(seen["depth"], mine["depth"][0], atol=1e-6)
            seen = env.step(NAMES[action])
            nav.step(np.array([action]))


def test_gps_and_compass_are_in_the_frame_of_the_start(habitat: Any, room: Path) -> None:
    from habitat.config import default_structured_configs as defaults
    from habitat.config.read_write import read_write

    made = config(habitat, room, *BLIND)
    with read_write(made):
        sensors = made.habitat.task.lab_sensors
        sensors.compass = defaults.CompassSensorConfig()
        sensors.gps = defaults.GPSSensorConfig()
        sensors.heading = defaults.HeadingSensorConfig()
        sensors.proximity = defaults.ProximitySensorConfig()
        made.habitat.task.measurements.top_down_map = defaults.TopDownMapMeasurementConfig(map_resolution=100)
    env = habitat.Env(made)
    grid = NavGrid.build(load_scene(room / "room.ply"))
    for _ in range(12):
        seen = env.reset()
        np.testing.assert_allclose([*seen["gps"], *seen["compass"]], 0.0, atol=1e-6)
        start, heading = env.sim.get_agent_state().position, float(seen["heading"][0])
        seen = env.step("turn_left")
        assert float(seen["compass"][0]) == pytest.approx(math.radians(10), abs=1e-6)
        assert math.remainder(float(seen["heading"][0]) - heading - math.radians(10), math.tau) == pytest.approx(
            0, abs=1e-5
        )
        seen = env.step("move_forward")
        here = env.sim.get_agent_state().position
        if not env.sim.previous_step_collided:
            expected = 0.25 * np.array([math.cos(math.radians(10)), -math.sin(math.radians(10))])
            np.testing.assert_allclose(seen["gps"], expected, atol=1e-5)
        assert np.linalg.norm(seen["gps"]) == pytest.approx(np.linalg.norm((here - start)[[0, 2]]), abs=1e-5)
        assert float(seen["proximity"][0]) == pytest.approx(min(2.0, grid.obstacle_distance(here[None])[0]), abs=1e-6)
        drawn = env.get_metrics()["top_down_map"]
        row, column = drawn["agent_map_coord"][0]
        assert min(drawn["map"].shape) == 100
        assert drawn["map"][row, column] > 0
        assert drawn["fog_of_war_mask"].any()


def test_simulator_answers_as_habitat_lab_asks(habitat: Any, room: Path) -> None:
    env = habitat.Env(config(habitat, room))
    sim = env.sim
    env.reset()
    assert sim.forward_vector.tolist() == [0, 0, -1]
    assert sim.up_vector.tolist() == [0, 1, 0]
    sim.seed(3)
    points = [sim.sample_navigable_point() for _ in range(20)]
    sim.seed(3)
    assert [sim.sample_navigable_point() for _ in range(20)] == points
    assert all(sim.is_navigable(p) for p in points)
    assert not sim.is_navigable([2.0, 0.0, 2.0])  # in the wall
    assert not sim.is_navigable([1.0, 1.0, 1.0])  # in the air
    assert sim.island_radius(points[0]) == pytest.approx(3.0, rel=0.25)
    one = [sim.geodesic_distance(points[0], p) for p in points[1:]]
    assert sim.geodesic_distance(points[0], points[1:]) == min(one)
    assert sim.geodesic_distance(points[1], points[0]) == pytest.approx(one[0], rel=0.01)
    assert sim.geodesic_distance(points[0], [50.0, 0.0, 50.0]) == math.inf
    path = np.array(sim.get_straight_shortest_path_points(points[0], points[1]))
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(one[0], abs=1e-6)
    # An episode's cache holds its goals until it is emptied, as in HabitatSim.
    episode = env.current_episode
    episode._shortest_path_cache = None
    first = sim.geodesic_distance(points[0], [points[1]], episode)
    assert sim.geodesic_distance(points[0], [points[2]], episode) == first == one[0]
    episode.goals = list(episode.goals)
    assert sim.geodesic_distance(points[0], [points[2]], episode) == one[1]


def test_poses_are_set_and_looked_from(habitat: Any, room: Path) -> None:
    sim = habitat.Env(config(habitat, room)).sim
    sim.reset()
    assert sim.set_agent_state([1.0, 0.0, 1.0], [0.0, math.sin(0.3), 0.0, math.cos(0.3)])
    before = sim.get_agent_state()
    there = sim.get_observations_at([4.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0])
    assert np.array_equal(sim.get_agent_state().position, before.position)
    assert not np.array_equal(there["rgb"], sim.render("rgb"))
    sim.get_observations_at([4.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0], keep_agent_at_new_pose=True)
    assert np.array_equal(there["rgb"], sim.render("rgb"))
    assert np.array_equal(sim.get_agent(0).state.position, [4.0, 0.0, 3.0])
    sim.set_agent_state([1.0, 0.0, 0.3], [0.0, 0.0, 0.0, 1.0])  # 0.15 m of floor in front of the wall
    sim.step(FORWARD)
    assert sim.previous_step_collided
    sim.step(LEFT)
    assert not sim.previous_step_collided
    for _ in range(36):
        sim.step(RIGHT)
    state = sim.get_agent_state().rotation
    assert 2 * math.atan2(state.y, state.w) == pytest.approx(math.radians(10), abs=1e-9)


def test_cameras_of_any_shape_share_one_focal_length(habitat: Any, room: Path) -> None:
    depth = "habitat.simulator.agents.main_agent.sim_sensors.depth_sensor"
    images = {}
    # 32 rows of 90 degrees across 64 columns are the middle of a square image; so are 32 columns of 53 degrees.
    for width, height, hfov in ((64, 64, 90), (64, 32, 90), (32, 64, 53)):
        words = [f"{depth}.width={width}", f"{depth}.height={height}", f"{depth}.hfov={hfov}"]
        sim = habitat.Env(config(habitat, room, *words, f"{depth}.normalize_depth=False")).sim
        seen = sim.get_observations_at([1.0, 0.0, 3.2], [0.0, 0.0, 0.0, 1.0])["depth"]
        assert seen.shape == (height, width, 1)
        images[width, height] = seen
    assert images[64, 64].max() > 1.0
    np.testing.assert_allclose(images[64, 32], images[64, 64][16:48], atol=1e-5)
    # 53 is 53.13 rounded: the floor's depth in a row is off by as little.
    np.testing.assert_allclose(images[32, 64][40:, 16], images[64, 64][40:, 32], rtol=5e-3)


def with_sensors(habitat: Any, folder: Path, **sensors: Any) -> Any:
    """The simulator with these camera sensors only."""
    from habitat.config.read_write import read_write

    made = config(habitat, folder, *BLIND)
    with read_write(made):
        for name, sensor in sensors.items():
            made.habitat.simulator.agents.main_agent.sim_sensors[name] = sensor
    return habitat.Env(made).sim


def test_equirectangular_and_fisheye_sensors(habitat: Any, room: Path) -> None:
    from habitat.config import default_structured_configs as kinds

    place, ahead, back = [1.0, 0.0, 3.2], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]
    sim = with_sensors(
        habitat,
        room,
        rgb_sensor=kinds.HabitatSimEquirectangularRGBSensorConfig(height=32, width=64),
        depth_sensor=kinds.HabitatSimEquirectangularDepthSensorConfig(height=32, width=64, normalize_depth=False),
    )
    seen, behind = (sim.get_observations_at(place, facing) for facing in (ahead, back))
    assert seen["rgb"].shape == (32, 64, 3) and seen["depth"].shape == (32, 64, 1)
    for key, value in seen.items():
        np.testing.assert_allclose(np.roll(value, 32, axis=1).astype(float), behind[key].astype(float), atol=1)
    # The camera is 1.25 m above the floor.
    assert seen["depth"][-1].max() == pytest.approx(1.25, abs=1e-3)
    lens = {"height": 64, "width": 64, "focal_length": [18.0, 18.0]}
    sim = with_sensors(
        habitat,
        room,
        rgb_sensor=kinds.HabitatSimFisheyeRGBSensorConfig(**lens),
        depth_sensor=kinds.SimulatorFisheyeDepthSensorConfig(**lens, normalize_depth=False),
    )
    round_view = sim.get_observations_at(place, ahead)
    assert round_view["rgb"].shape == (64, 64, 3) and round_view["rgb"][32, 32].any()
    sides = seen["depth"][15:17, 30:34].mean()
    assert round_view["depth"][31:33, 31:33].mean() == pytest.approx(sides, rel=0.02)


def test_noise_models_of_sensors(habitat: Any, room: Path) -> None:
    main = "habitat.simulator.agents.main_agent.sim_sensors"
    noisy = [
        f"{main}.rgb_sensor.noise_model=GaussianNoiseModel",
        f"+{main}.rgb_sensor.noise_model_kwargs.intensity_constant=0.1",
        f"{main}.depth_sensor.noise_model=RedwoodDepthNoiseModel",
    ]
    small = [f"{main}.{name}_sensor.{side}=64" for name in ("rgb", "depth") for side in ("height", "width")]
    place, facing = [1.0, 0.0, 3.2], [0.0, 0.0, 0.0, 1.0]
    plain, drawn, again = (
        habitat.Env(config(habitat, room, *small, *words)).sim.get_observations_at(place, facing)
        for words in ([], noisy, noisy)
    )
    off = drawn["rgb"].astype(float) - plain["rgb"]
    inside = (plain["rgb"] > 100) & (plain["rgb"] < 170)
    assert off[inside].std() == pytest.approx(25.5, rel=0.1) and abs(off[inside].mean()) < 3
    assert 0 < np.median(np.abs(drawn["depth"] - plain["depth"])) < 0.01
    assert all(np.array_equal(drawn[key], again[key]) for key in drawn)


def test_velocity_control_is_habitat_labs(habitat: Any, room: Path) -> None:
    from habitat.config.default_structured_configs import VelocityControlActionConfig
    from habitat.config.read_write import read_write

    made = config(habitat, room, *BLIND)
    with read_write(made):
        made.habitat.task.actions = {"velocity_control": VelocityControlActionConfig()}
    env = habitat.Env(made)
    env.reset()
    before = env.sim.get_agent_state()
    heading = 2 * math.atan2(before.rotation.y, before.rotation.w)
    env.step({"action": "velocity_control", "action_args": {"linear_velocity": -0.2, "angular_velocity": 0.5}})
    after = env.sim.get_agent_state()
    if not env.get_metrics()["collisions"]["is_collision"]:
        expected = np.array([-math.sin(heading), 0.0, -math.cos(heading)]) * 0.1
        np.testing.assert_allclose(after.position - before.position, expected, atol=1e-6)
    turned = 2 * math.atan2(after.rotation.y, after.rotation.w) - heading
    assert math.remainder(turned - math.radians(5), 2 * math.pi) == pytest.approx(0.0, abs=1e-6)
    for _ in range(60):  # across the room, into a wall
        env.step({"action": "velocity_control", "action_args": {"linear_velocity": 1.0, "angular_velocity": 0.0}})
    assert env.get_metrics()["collisions"]["is_collision"] and env.get_metrics()["collisions"]["count"] > 30
    assert not env.episode_over
    env.step({"action": "velocity_control", "action_args": {"linear_velocity": -1.0, "angular_velocity": 0.0}})
    assert env.episode_over


def test_what_is_not_there_is_refused_in_one_line(habitat: Any, room: Path) -> None:
    sensor = "habitat.simulator.agents.main_agent.sim_sensors.rgb_sensor"
    with pytest.raises(ValueError, match=r"asks for noise_model=SpeckleNoiseModel"):
        habitat.Env(config(habitat, room, f"{sensor}.noise_model=SpeckleNoiseModel"))
    with pytest.raises(ValueError, match="does not roll"):
        habitat.Env(config(habitat, room, f"{sensor}.orientation=[0,0,0.5]"))
    sim = habitat.Env(config(habitat, room, *BLIND)).sim
    with pytest.raises(ValueError, match="knows stop, move_forward, turn_left, turn_right"):
        sim.step(7)
    with pytest.raises(ValueError, match="one agent"):
        sim.get_agent_state(1)
    with pytest.raises(ImportError, match="needs habitat-sim"):
        habitat.Env(config(habitat, room, "habitat.simulator.type=Sim-v0"))


def test_objects_of_the_house_are_listed(habitat: Any, house: Path, house_place: NavigableScene) -> None:
    sim = habitat.Env(config(habitat, house, *BLIND)).sim
    scene = sim.semantic_annotations()
    assert len(scene.objects) == 1 + house_place.scene.face_instance.max() + 1 >= 15
    assert scene.objects[0].category.name() == "void"
    for item in scene.objects[1:]:
        assert (item.aabb.sizes >= 0).all()
        assert (np.abs(item.aabb.center() - scene.aabb.center()) <= scene.aabb.sizes / 2 + 1e-3).all()


def document(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def test_our_files_are_read_by_habitat_lab_losslessly(habitat: Any, room: Path, tmp_path: Path) -> None:
    from habitat.datasets.pointnav.pointnav_dataset import PointNavDatasetV1

    mine = read_episodes(room / "train/train.json.gz")
    made = config(habitat, room)
    dataset = PointNavDatasetV1(made.habitat.dataset)
    assert len(dataset.episodes) == len(mine) == 12
    for theirs, own in zip(dataset.episodes, mine, strict=True):
        assert theirs.episode_id == own.episode_id
        assert theirs.scene_id == str(room / own.scene_id)
        assert tuple(theirs.start_position) == own.start_position
        assert tuple(theirs.start_rotation) == own.start_rotation
        assert tuple(theirs.goals[0].position) == own.goal_position
        assert theirs.goals[0].radius == own.goal_radius
        assert theirs.info == dict(own.info)
    assert PointNavDatasetV1.get_scenes_to_load(made.habitat.dataset) == ["room"]


def test_habitat_labs_files_are_read_and_written_back_losslessly(habitat: Any, room: Path, tmp_path: Path) -> None:
    from habitat.datasets.pointnav.pointnav_dataset import PointNavDatasetV1
    from habitat.datasets.pointnav.pointnav_generator import generate_pointnav_episode

    sim = habitat.Env(config(habitat, room, *BLIND)).sim
    np.random.seed(0)
    dataset = PointNavDatasetV1()
    # Shortest paths included: fields that we do not use must survive, too.
    dataset.episodes = list(generate_pointnav_episode(sim, 5, geodesic_to_euclid_min_ratio=1.0001))
    theirs = dataset.to_json()
    source, back = tmp_path / "theirs.json.gz", tmp_path / "back.json.gz"
    source.write_bytes(gzip.compress(theirs.encode()))
    mine = read_episodes(source)
    assert [e.start_position for e in mine] == [tuple(e.start_position) for e in dataset.episodes]
    assert all(1.0 <= e.info["geodesic_distance"] <= 30.0 for e in mine)
    write_episodes(back, mine)
    assert document(back)["episodes"] == document(source)["episodes"]
    again = PointNavDatasetV1()
    again.from_json(json.dumps(document(back)))
    assert json.loads(again.to_json()) == json.loads(theirs)
    assert all(len(e.shortest_paths[0]) > 2 for e in again.episodes)
