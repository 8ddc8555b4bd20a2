from __future__ import annotations

import dataclasses
import math

import gymnasium
import numpy as np
import pytest
from environment_checks import check_officially
from rooms import episode, place, scene, simple_place, wall

from envs.navgrid.follower import act_all
from envs.navgrid.ground import step_all
from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP, EpisodeQueue, PointNav, PointNavTask
from envs.pointnav.vec_env import PointNavEnv, PointNavVecEnv
from envs.pointnav.visited_map import EMPTY, MARKED, draw_visited_maps
from envs.rendering.renderer import Camera
from envs.scene import Scene

CAMERA = Camera(size=16)


def one(start=(2.0, 3.0), goal=(2.0, 1.0), heading=0.0, **task) -> PointNav:
    """A single agent in an empty 4 x 4 m room."""
    nav = PointNav([place(scene(4, 4), [episode(start, goal, heading)])], PointNavTask(**task), CAMERA, 1, seed=0)
    nav.reset(np.array([0]))
    return nav


def run(nav: PointNav, *actions: int):
    for action in actions:
        reward, done, record = nav.step(np.array([action]))
    return float(reward[0]), bool(done[0]), record[0]


def test_goal_ahead_left_right_and_behind() -> None:
    for heading, bearing in ((0.0, 0.0), (math.pi / 2, -math.pi / 2), (-math.pi / 2, math.pi / 2)):
        rho, phi = one(heading=heading).observe()["pointgoal_with_gps_compass"][0]
        assert rho == pytest.approx(2.0, abs=1e-6)
        assert phi == pytest.approx(bearing, abs=1e-6)
    assert abs(one(heading=math.pi).observe()["pointgoal_with_gps_compass"][0, 1]) == pytest.approx(math.pi, abs=1e-6)


def test_turning_left_moves_the_goal_to_the_right() -> None:
    nav = one()
    run(nav, LEFT)
    assert nav.observe()["pointgoal_with_gps_compass"][0, 1] == pytest.approx(-math.radians(10), abs=1e-6)
    run(nav, RIGHT, RIGHT)
    assert nav.observe()["pointgoal_with_gps_compass"][0, 1] == pytest.approx(math.radians(10), abs=1e-6)


def test_straight_walk_has_closed_form_measures() -> None:
    nav = one()
    rewards = [run(nav, FORWARD)[0] for _ in range(8)]
    np.testing.assert_allclose(rewards, 0.25 - 0.01, atol=1e-6)
    reward, done, record = run(nav, STOP)
    assert done
    assert reward == pytest.approx(2.5 - 0.01, abs=1e-6)
    assert record["success"] == 1.0
    assert record["spl"] == pytest.approx(1.0, abs=1e-6)
    assert record["steps"] == 9
    assert record["nav_reward"] == pytest.approx(8 * 0.24 + 2.49, abs=1e-5)
    assert len(record["path"]) == 10
    assert not record["truncated"]


def test_stopping_early_fails_with_soft_spl_of_the_way_made() -> None:
    nav = one()
    run(nav, FORWARD, FORWARD, FORWARD, FORWARD)
    _, done, record = run(nav, STOP)
    assert done
    assert record["success"] == record["spl"] == 0.0
    assert record["soft_spl"] == pytest.approx(0.5, abs=1e-6)
    assert record["distance_to_goal"] == pytest.approx(1.0, abs=1e-6)


def test_collisions_count_and_a_blocked_agent_stays() -> None:
    nav = one(start=(2.0, 0.4), goal=(2.0, 3.0))
    before = nav.agents.position[0].copy()
    run(nav, FORWARD, FORWARD, FORWARD)
    assert nav.agents.collisions[0] >= 2
    assert np.linalg.norm(nav.agents.position[0] - before) < 0.4


def test_the_clock_runs_out_as_a_truncation() -> None:
    nav = one(max_steps=3)
    assert run(nav, LEFT, LEFT)[1] is False
    _, done, record = run(nav, LEFT)
    assert done
    assert record["truncated"]
    assert record["success"] == 0.0


def test_depth_is_told_as_habitat_lab_tells_it() -> None:
    # The wall is 2.95 m ahead of the level camera; above it there is sky, at which Habitat's depth is 0.
    tasks = {
        (0.0, 10.0, True): (0.295, 0.0),
        (0.5, 5.0, True): (2.45 / 4.5, 0.0),
        (0.5, 5.0, False): (2.95, 0.5),
        (0.5, 1.5, True): (1.0, 0.0),
    }
    for (low, high, normalize), (wall_ahead, sky) in tasks.items():
        nav = one(sensors=("depth",), min_depth=low, max_depth=high, normalize_depth=normalize)
        depth = nav.observe()["depth"][0]
        assert depth.shape == (16, 16, 1) and depth.dtype == np.float32
        assert depth[7, 7, 0] == pytest.approx(wall_ahead, abs=1e-4)
        assert depth[0, 7, 0] == pytest.approx(sky, abs=1e-6)
        space = PointNavEnv(nav.scenes, nav.task, CAMERA).observation_space["depth"]
        assert (space.low.min(), space.high.max()) == ((0.0, 1.0) if normalize else (low, high))
    with pytest.raises(ValueError, match="min_depth must be less than max_depth"):
        PointNavTask(min_depth=10.0)


def test_side_tuning_variant_stops_by_itself_and_pays_ten() -> None:
    nav = one(variant="side_tuning")
    assert nav.task.discrete_actions == (FORWARD, LEFT, RIGHT)
    for _ in range(8):
        reward, done, _ = run(nav, 0)
        assert not done
    reward, done, record = run(nav, 1)
    assert done
    assert record["success"] == 1.0
    assert reward == pytest.approx(10 - 0.01, abs=1e-6)


def test_expert_solves_every_episode_around_the_wall() -> None:
    made = simple_place(6)
    for variant in ("habitat", "side_tuning"):
        nav = PointNav([made], PointNavTask(variant=variant, sensors=()), CAMERA, 6, seed=None)
        nav.reset(np.arange(6))
        records = {}
        while nav.agents.active.any():
            _, dones, found = nav.step(nav.expert())
            for n in np.flatnonzero(dones):
                records[found[n]["episode_id"]] = found[n]
            if dones.any():
                nav.reset(np.flatnonzero(dones))
        assert len(records) == 6
        assert all(r["success"] for r in records.values())
        assert np.mean([r["spl"] for r in records.values()]) > 0.9


def test_episodes_come_once_each_or_in_endless_rounds() -> None:
    made = simple_place(3)
    queue = EpisodeQueue([made, made], None)
    keys = [queue.next() for _ in range(7)]
    assert keys[:6] == [(p, e) for p in range(2) for e in range(3)]
    assert keys[6] is None
    shuffled = EpisodeQueue([made, made], 3)
    rounds = [[shuffled.next() for _ in range(6)] for _ in range(2)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == keys[:6]
    assert rounds[0] != rounds[1]


def test_visited_map_shows_trail_behind_and_goal_ahead() -> None:
    nav = one(sensors=("map",), map_size=84)
    run(nav, FORWARD, FORWARD, FORWARD, FORWARD)
    image = nav.observe()["map"][0]
    assert image.shape == (3, 84, 84)
    assert set(np.unique(image)) == {EMPTY, MARKED}
    assert (image[2] == EMPTY).all()
    cell = 22.0 / 84
    rows, columns = np.nonzero(image[0] == MARKED)
    assert rows.min() == 40  # as in the release, the agent's own cell is the 41st of 84
    assert rows.max() == math.floor(42 + 1.0 / cell) + 1
    assert set(columns) == {40, 41, 42}
    rows, columns = np.nonzero(image[1] == MARKED)
    assert rows.mean() == math.floor(42 - 1.0 / cell)
    run(nav, *[LEFT] * 9)  # the trail, behind before, is now to the left
    rows, columns = np.nonzero(nav.observe()["map"][0, 0] == MARKED)
    assert columns.min() < 40 - 2
    assert set(rows) <= {40, 41, 42, 43}


def test_what_lies_beyond_the_visited_map_is_drawn_on_its_rim() -> None:
    nav = one(sensors=("map",), map_size=40, map_extent=1.0)
    run(nav, *[FORWARD] * 4)
    image = nav.observe()["map"][0]
    assert (image[0, 39, 19:22] == MARKED).any()  # the start, a metre behind
    assert (image[1, 0, 18:21] == MARKED).all()  # the goal, a metre ahead


def test_same_seed_same_rollout_bit_for_bit() -> None:
    made = [simple_place(5), simple_place(3)]
    actions = np.random.default_rng(0).integers(1, 4, (40, 4))

    def rollout():
        env = PointNavVecEnv(made, PointNavTask(sensors=("rgb", "depth", "map"), max_steps=15), CAMERA, 4, seed=7)
        seen = [env.reset()]
        for row in actions:
            observations, rewards, _, _ = env.step(row)
            seen.append({**observations, "rewards": rewards})
        return seen

    for a, b in zip(rollout(), rollout(), strict=True):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k], b[k]) for k in a)


def test_what_is_compiled_ahead_is_what_agents_run() -> None:
    task = PointNavTask(sensors=("map",))
    PointNavVecEnv.compile_ahead(task)
    kernels = step_all, act_all, draw_visited_maps
    ahead = [list(kernel.signatures) for kernel in kernels]
    for count in (1, 3):
        env = PointNavVecEnv([simple_place(3)], task, CAMERA, count, seed=0)
        env.reset()
        for _ in range(2):
            env.step(env.expert())
    assert all(ahead) and [list(kernel.signatures) for kernel in kernels] == ahead


def test_vec_env_gives_the_true_last_frame_and_flags_the_time_limit() -> None:
    made = simple_place(4)
    env = PointNavVecEnv([made], PointNavTask(sensors=("rgb",), max_steps=2), CAMERA, 1, seed=0)
    env.reset()
    env.step(np.array([LEFT]))
    single = PointNav([made], env.nav.task, CAMERA, 1, seed=0)
    single.reset(np.array([0]))
    single.step(np.array([LEFT]))
    single.step(np.array([LEFT]))
    observations, _, dones, infos = env.step(np.array([LEFT]))
    assert dones[0]
    assert infos[0]["TimeLimit.truncated"]
    assert not infos[0]["is_success"]
    last = infos[0]["terminal_observation"]
    assert np.array_equal(last["rgb"], single.observe()["rgb"][0])
    assert not np.array_equal(last["rgb"], observations["rgb"][0])


def reflected(made: Scene, width: float) -> Scene:
    """The scene seen in a mirror: x becomes width - x."""
    vertices = made.vertices * np.float32([-1, 1, 1]) + np.float32([width, 0, 0])
    turned = {name: getattr(made, name)[:, ::-1] for name in ("faces", "corner_uv", "corner_color")}
    return dataclasses.replace(made, vertices=vertices, **turned)


@pytest.mark.parametrize("variant", ["habitat", "side_tuning"])
def test_a_mirrored_agent_lives_as_another_does_in_the_mirrored_scene(variant: str) -> None:
    room = scene(4.0, 4.0, [wall(0.0, 2.0, 2.5, 2.0)])
    here = place(room, [episode((1.3, 1.0), (1.1, 3.2), 0.4)])
    there = place(reflected(room, 4.0), [episode((2.7, 1.0), (2.9, 3.2), -0.4)])
    task = PointNavTask(variant=variant, sensors=("rgb", "depth", "map"), map_size=41, max_steps=80)
    mirrored = PointNavVecEnv([here], task, CAMERA, 2, seed=0, mirror=True)
    plain = PointNavVecEnv([there], task, CAMERA, 1, seed=0)
    a, b = mirrored.reset(), plain.reset()
    lasts = []
    for _ in range(70):
        assert a["pointgoal_with_gps_compass"][1] == pytest.approx(b["pointgoal_with_gps_compass"][0], abs=1e-5)
        assert np.abs(a["rgb"][1].astype(int) - b["rgb"][0]).mean() < 2.0
        assert np.abs(a["depth"][1] - b["depth"][0]).mean() < 1e-3
        assert (a["map"][1] != b["map"][0]).mean() < 0.01
        labels = mirrored.expert()
        assert labels[1] == plain.expert()[0]
        a, _, done, infos = mirrored.step(labels)
        b, _, _, twins = plain.step(labels[1:])
        if done[1]:
            lasts = [info["terminal_observation"]["pointgoal_with_gps_compass"] for info in (infos[1], twins[0])]
            break
    assert lasts[0] == pytest.approx(lasts[1], abs=1e-5)
    assert infos[1]["is_success"]


@pytest.mark.parametrize("variant", ["habitat", "side_tuning"])
def test_official_environment_checks(variant: str) -> None:
    task = PointNavTask(variant=variant, sensors=("rgb", "depth", "map"), max_steps=20)
    env = PointNavEnv([simple_place(4)], task, Camera(size=40), render_mode="rgb_array")
    check_officially(env)
    assert isinstance(env, gymnasium.Env)


def test_bad_task_and_bad_actions_are_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match="variant must be one of habitat, side_tuning, got 'habit'; did you mean 'habitat'"
    ):
        PointNavTask(variant="habit")
    with pytest.raises(ValueError, match=r"sensors\[0\] must be one of rgb, depth, map"):
        PointNavTask(sensors=("sonar",))
    with pytest.raises(ValueError, match=r"actions must be 1 integers in \[0, 4\)"):
        one().step(np.array([4]))
    with pytest.raises(ValueError, match="no episodes"):
        EpisodeQueue([], 0)


def test_unreachable_goal_is_named() -> None:
    split = place(scene(4, 4, [wall(0, 2, 4, 2)]), [episode((2, 1), (2, 3))])
    nav = PointNav([split], PointNavTask(sensors=()), CAMERA, 1, seed=0)
    with pytest.raises(ValueError, match="episode 0 of scene room: the goal cannot be reached"):
        nav.reset(np.array([0]))
