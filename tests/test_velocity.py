"""Continuous actions (``env.task.actions=continuous``): closed forms, Gymnasium's checks, learners, refusals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from agent_runs import SMALL, metrics, same, state, train, weights
from environment_checks import check_officially
from gymnasium import spaces
from rooms import episode, place, scene, simple_place
from stable_baselines3 import PPO, SAC, TD3

from agents.evaluate import load_policy
from agents.evaluation.episodes import expert_actor, policy_actor, random_actor, run_episodes
from agents.learners.recorded import record
from agents.policies.actor import sample_velocities
from agents.policies.observations import GOAL, VALID
from agents.policies.policy import policies
from agents.setup import VisualEncoder, make_scenes
from configs.compose import ConfigError, compose
from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP, PointNav, PointNavTask
from envs.pointnav.vec_env import PointNavEnv, PointNavVecEnv
from envs.pointnav.velocity import VelocitySettings
from envs.rendering.renderer import Camera

CAMERA = Camera(16)
FAST = {"lin_vel_range": (-1.0, 2.0), "ang_vel_range": (-30.0, 90.0), "time_step": 0.5}
CONTINUOUS = ["env.task.actions=continuous", "log_every=1", "save_every=2", "blind=true"]
ALGORITHMS = {
    "ppo": ["algo.rollout=8", "algo.learner.batch_size=16"],
    "sb3/a2c": ["algo.rollout=8"],
    "sb3/trpo": [
        "algo.rollout=8",
        "algo.learner.batch_size=16",
        "algo.learner.n_critic_updates=2",
        "algo.learner.cg_max_steps=3",
    ],
}


def one(start: tuple[float, float], goal: tuple[float, float], heading: float = 0.0, **task: object) -> PointNav:
    """One agent in an empty room of 4 x 4 m."""
    rules = PointNavTask(actions="continuous", sensors=(), **task)  # type: ignore[arg-type]
    nav = PointNav([place(scene(4, 4), [episode(start, goal, heading)])], rules, CAMERA, 1, seed=0)
    nav.reset(np.array([0]))
    return nav


def test_velocities_are_scaled_to_their_ranges() -> None:
    velocity = VelocitySettings(**FAST)  # type: ignore[arg-type]
    found = velocity.motions([[-1, -1], [1, 1], [0, 0], [-1 / 3, -0.5]])
    np.testing.assert_allclose(found.ahead, [-0.5, 1.0, 0.25, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.degrees(found.left), [-15, 45, 15, 0], atol=1e-12)
    # -1/3 and -0.5 are speeds of 0.
    assert found.stop.tolist() == [False, False, False, True]
    again = velocity.actions(found.ahead, found.left)
    np.testing.assert_allclose(again, [[-1, -1], [1, 1], [0, 0], [-1 / 3, -0.5]], atol=1e-6)


def test_both_speeds_below_their_thresholds_are_stop() -> None:
    velocity = VelocitySettings(lin_vel_range=(-1.0, 1.0), min_abs_lin_speed=0.1, min_abs_ang_speed=2.0)
    linear, angular = [0.0, 0.099, -0.099, 0.101, 0.0, 0.101], [0.0, 1.99, -1.99, 0.0, 2.01, 5.0]
    assert velocity.motions(np.transpose([linear, np.divide(angular, 10)])).stop.tolist() == [True] * 3 + [False] * 3


def test_the_agent_moves_along_its_heading_and_then_turns() -> None:
    nav = one((2.0, 2.0), (2.0, 0.5), heading=0.3, velocity=VelocitySettings(**FAST))  # type: ignore[arg-type]
    a = nav.agents
    x, z = a.position[0, [0, 2]]
    for action in ([0.2, 0.7], [-0.8, 0.1], [-0.4, -1.0]):
        asked = nav.task.velocity.motions([action])
        ahead, left, heading = asked.ahead[0], asked.left[0], a.heading[0]
        x, z = x - math.sin(heading) * ahead, z - math.cos(heading) * ahead
        nav.step(np.array([action]))
        np.testing.assert_allclose(a.position[0, [0, 2]], [x, z], atol=1e-9)
        assert a.heading[0] == pytest.approx(heading + left, abs=1e-12)
    assert a.collisions[0] == 0 and ahead < 0 < nav.task.velocity.motions([[0.2, 0]]).ahead[0]


def test_a_straight_walk_stops_with_closed_form_measures() -> None:
    nav = one((2.0, 3.0), (2.0, 1.0))
    for _ in range(8):
        rewards, dones, _ = nav.step(np.array([[1.0, 0.0]]))
        assert rewards[0] == pytest.approx(0.25 - 0.01) and not dones[0]
    rewards, dones, records = nav.step(np.array([[-1.0, 0.05]]))
    assert dones[0] and rewards[0] == pytest.approx(2.5 - 0.01)
    assert records[0]["success"] == records[0]["spl"] == 1.0 and records[0]["steps"] == 9
    assert not records[0]["truncated"]


def test_a_wall_is_a_collision_and_the_agent_slides_or_not() -> None:
    ends = []
    for sliding in (True, False):
        nav = one((0.4, 2.0), (2.0, 1.0), heading=math.radians(45), sliding=sliding)
        for _ in range(4):
            nav.step(np.array([[1.0, 0.0]]))
        assert nav.agents.collisions[0] >= 2
        ends.append(nav.agents.position[0])
    assert ends[0][2] < ends[1][2] - 0.2


def test_without_stop_the_environment_ends_the_episode() -> None:
    nav = one((2.0, 1.5), (2.0, 1.2), variant="side_tuning")
    _, dones, _ = nav.step(np.array([[-1.0, 0.0]]))
    assert not dones[0]
    nav.step(np.array([[1.0, 0.0]]))
    rewards, dones, records = nav.step(np.array([[1.0, 1.0]]))
    assert dones[0] and records[0]["success"] == 1.0 and rewards[0] == pytest.approx(9.99)


def test_dead_reckoning_follows_the_velocities() -> None:
    rng = np.random.default_rng(0)
    nav = one((2.0, 2.0), (2.0, 0.5), gps=False, velocity=VelocitySettings(lin_vel_range=(-0.1, 0.1)))
    for _ in range(12):
        nav.step(rng.uniform(-1, 1, (1, 2)))
    a = nav.agents
    assert a.collisions[0] == 0
    np.testing.assert_allclose(a.reckoned[0], [*a.position[0, [0, 2]], a.heading[0]], atol=1e-6)


@pytest.mark.parametrize("variant", ["habitat", "side_tuning"])
def test_the_expert_moves_as_with_discrete_actions(variant: str) -> None:
    records = []
    for actions in ("discrete", "continuous"):
        task = PointNavTask(variant=variant, actions=actions, sensors=())
        nav = PointNav([simple_place(6)], task, CAMERA, 6, seed=None)
        nav.reset(np.arange(6))
        found: list[dict[str, object]] = []
        while nav.agents.active.any():
            _, dones, made = nav.step(nav.expert())
            found += [record for record in made if record]
            nav.reset(np.flatnonzero(dones))
        records.append(found)
    for own, other in zip(*records, strict=True):
        assert own["success"] == other["success"] == 1.0 and own["steps"] == other["steps"]
        np.testing.assert_allclose(own["path"], other["path"], atol=2e-3)  # type: ignore[arg-type]


def test_slow_velocities_give_a_slow_expert_that_arrives() -> None:
    task = PointNavTask(
        actions="continuous",
        sensors=(),
        velocity=VelocitySettings(lin_vel_range=(0.0, 0.1), ang_vel_range=(-5.0, 8.0)),
    )
    assert task.expert_steps == (pytest.approx(0.1), pytest.approx(math.radians(5)))
    forward, left, right, stop = task.velocity.motions(task.as_actions(np.array([FORWARD, LEFT, RIGHT, STOP]))).ahead
    assert forward == pytest.approx(0.1) and max(map(abs, (left, right, stop))) < 1e-6
    nav = PointNav([simple_place(4)], task, CAMERA, 4, seed=None)
    nav.reset(np.arange(4))
    successes = 0.0
    while nav.agents.active.any():
        _, dones, made = nav.step(nav.expert())
        successes += sum(record["success"] for record in made if record)
        nav.reset(np.flatnonzero(dones))
    assert successes == 4


@pytest.mark.parametrize("variant", ["habitat", "side_tuning"])
def test_official_environment_checks(variant: str) -> None:
    task = PointNavTask(variant=variant, actions="continuous", sensors=("rgb", "depth", "map"), max_steps=20)
    env = PointNavEnv([simple_place(4)], task, Camera(size=40), render_mode="rgb_array")
    assert env.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    check_officially(env)


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    for settings, words in (
        ({"lin_vel_range": (0.0,)}, "lin_vel_range must be two numbers"),
        ({"lin_vel_range": (0.1, 0.2)}, "around 0"),
        ({"lin_vel_range": (0.0, math.inf)}, r"lin_vel_range\[1\] must be a finite number"),
        ({"ang_vel_range": (0.0, 10.0)}, "turn both ways"),
        ({"min_abs_lin_speed": 0.3}, "min_abs_lin_speed must be below"),
        ({"time_step": 0.0}, "time_step must be positive"),
    ):
        with pytest.raises(ConfigError, match=words):
            VelocitySettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"noise must be without actuation"):
        compose("train", ["run=none", "algo=ppo", *CONTINUOUS, "env.task.noise.actuation=0.5"])
    with pytest.raises(ConfigError, match=r"velocity must be such that a step forward and a turn"):
        PointNavTask(actions="continuous", forward=0.01)
    with pytest.raises(ValueError, match="mirrored"):
        PointNavVecEnv([simple_place(4)], PointNavTask(actions="continuous"), CAMERA, 2, mirror=True)
    nav = one((2.0, 2.0), (2.0, 0.5))
    for wrong in ([[1.1, 0.0]], [[math.nan, 0.0]], [0.0, 0.0], [[0.0]]):
        with pytest.raises(ValueError, match=r"actions must be"):
            nav.step(np.array(wrong))


def test_learners_of_other_actions_are_refused(tmp_path: Path) -> None:
    refused = (
        (["algo=dagger"], r"algo=dagger knows discrete actions only, not env.task.actions=continuous; algo=ppo"),
        (["algo=bc", f"algo.data={tmp_path}"], r"algo=bc knows discrete actions only"),
        (["algo=sb3/dqn"], r"algo=sb3/dqn knows discrete actions only"),
        (["algo=sb3/sac", "policy=stack"], r"algo=sb3/sac cannot train policy=stack; use policy=squashed_gaussian"),
        (
            ["algo=sb3/td3", "env.task.actions=discrete"],
            r"algo=sb3/td3 knows continuous actions only, not env.task.act",
        ),
    )
    for number, (words, message) in enumerate(refused):
        with pytest.raises(ValueError, match=message):
            train(tmp_path / str(number), *CONTINUOUS, *words)
    collect = compose("collect", [f"out={tmp_path / 'frames'}", "env=apartments", "env.task.actions=continuous"])
    with pytest.raises(ValueError, match=r"agents.collect knows discrete actions only"):
        record(collect, tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_it_trains_resumes_is_deterministic_and_evaluates(name: str, tmp_path: Path) -> None:
    words = [f"algo={name}", *CONTINUOUS, *ALGORITHMS[name]]
    a, b = (train(tmp_path / run, *words, "algo.steps=64") for run in "ab")
    assert same(a, b) and state(a)["step"] == 64
    first = {key: value.clone() for key, value in weights(a).items()}
    train(a, *words, "algo.steps=128", "resume=true")
    assert state(a)["step"] == 128 and metrics(a)[-1]["step"] == 128
    assert any(not torch.equal(value, weights(a)[key]) for key, value in first.items())
    cfg, policy, vision = load_policy(a)
    scenes = make_scenes(cfg.env, "val", 0)
    runs = [run_episodes(cfg, scenes, vision, policy_actor(policy, 0.5), 0) for _ in range(2)]
    assert len(runs[0]) == 4 and runs[0] == runs[1]


def test_a_memory_learns_velocities_too(tmp_path: Path) -> None:
    words = ["algo=ppo", "policy=gru", "policy.memory=16", *CONTINUOUS, *ALGORITHMS["ppo"], "algo.sequence=8"]
    cfg, policy, vision = load_policy(train(tmp_path / "run", *words, "algo.steps=64"))
    assert len(run_episodes(cfg, make_scenes(cfg.env, "val", 0), vision, policy_actor(policy, 0.5), 0)) == 4


def test_reference_rows_know_continuous_actions(tmp_path: Path) -> None:
    cfg = compose("train", [*SMALL, *CONTINUOUS, "algo=ppo", "run=none", "env.task.max_steps=300"])
    scenes, unseen = make_scenes(cfg.env, "val", 0), VisualEncoder(None, None)
    assert all(r["success"] for r in run_episodes(cfg, scenes, unseen, expert_actor, 0))
    assert all(r["steps"] >= 1 for r in run_episodes(cfg, scenes, unseen, random_actor, 0))


@pytest.mark.parametrize(("name", "algorithm"), [("squashed_gaussian", SAC), ("deterministic", TD3)])
def test_targets_share_nothing_with_what_is_trained(name: str, algorithm: type[SAC]) -> None:
    task = PointNavTask(actions="continuous", sensors=())
    env = Blind([simple_place(4)], task, CAMERA, 2, 0)
    settings = {"adapted": None, "frames": 1, "hidden": (16,), "bfloat16": False, "critic": (16,)}
    policy = algorithm(policies.get(name), env, policy_kwargs=settings, device="cpu", buffer_size=10).policy
    targets = {name for name, _ in policy.named_children() if name.endswith("_target")}
    optimised = {
        id(p)
        for part in (policy.actor, policy.critic)
        for group in part.optimizer.param_groups
        for p in group["params"]
    }
    for target in targets:
        mine = dict(policy.named_children())[target]
        own = dict(policy.named_children())[target.removesuffix("_target")]
        assert not optimised & {id(p) for p in mine.parameters()}
        assert all(torch.equal(x, y) for x, y in zip(mine.parameters(), own.parameters(), strict=True))


@pytest.mark.parametrize(("name", "algorithm"), [("squashed_gaussian", SAC), ("deterministic", TD3)])
def test_the_likeliest_action_is_that_of_the_algorithm(name: str, algorithm: type[SAC]) -> None:
    env = Blind([simple_place(4)], PointNavTask(actions="continuous", sensors=()), CAMERA, 3, 0)
    settings = {"adapted": None, "frames": 1, "hidden": (16,), "bfloat16": False, "critic": (16,)}
    model = algorithm(policies.get(name), env, policy_kwargs=settings, device="cpu", buffer_size=10)
    seen = env.reset()
    gaussian = model.policy.new_actor().gaussian(seen, np.zeros(3, np.int64))  # type: ignore[operator]
    chosen = sample_velocities(gaussian, 0.0, np.full((3, 2), 0.3), model.policy.squash_output)
    np.testing.assert_allclose(chosen, model.predict(seen, deterministic=True)[0], atol=1e-6)


def test_sampled_velocities_follow_the_gaussian() -> None:
    mean, log_std = torch.tensor([[0.1, -0.2]]), torch.tensor([[math.log(0.2), math.log(0.1)]])
    gaussian = torch.stack([mean, log_std], dim=1).expand(20_000, 2, 2)
    noise = np.random.default_rng(0).random((20_000, 2))
    for temperature in (1.0, 0.25):
        drawn = sample_velocities(gaussian, temperature, noise, squashed=False)
        np.testing.assert_allclose(drawn.mean(0), [0.1, -0.2], atol=0.005)
        np.testing.assert_allclose(drawn.std(0), np.sqrt(temperature) * np.array([0.2, 0.1]), rtol=0.02)
    squashed = sample_velocities(gaussian, 1.0, noise, squashed=True)
    plain = sample_velocities(gaussian, 1.0, noise, squashed=False)
    inside = np.abs(plain) < 1
    np.testing.assert_allclose(np.tanh(plain)[inside], squashed[inside], atol=1e-6)
    assert (sample_velocities(gaussian, 0.0, noise, squashed=False) == mean.numpy()).all()


class Blind(PointNavVecEnv):
    """Agents with the goal alone, in the form that policies read."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        goal = self.observation_space[GOAL]  # type: ignore[index]
        self.observation_space = spaces.Dict({GOAL: goal, VALID: spaces.Box(0.0, 1.0, (1,), np.float32)})

    def _observe(self) -> dict[str, np.ndarray]:
        return {**super()._observe(), VALID: np.ones((self.num_envs, 1), np.float32)}

    def step_wait(self):  # type: ignore[no-untyped-def]
        observations, rewards, dones, infos = super().step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"][VALID] = np.ones(1, np.float32)
        return observations, rewards, dones, infos


def success_of(model: PPO, env: PointNavVecEnv, episodes: int) -> float:
    """Share of episodes in which the agents reach the goal."""
    seen, found = env.reset(), []
    while len(found) < episodes:
        seen, _, _, infos = env.step(model.predict(seen, deterministic=True)[0])
        found += [info["nav"]["success"] for info in infos if "nav" in info]
    return float(np.mean(found))


def test_ppo_learns_to_steer_to_the_goal() -> None:
    rng = np.random.default_rng(0)
    ends = rng.uniform(0.6, 3.4, (64, 2, 2))
    ends = ends[np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) > 0.8][:32]
    made = place(scene(4, 4), [episode(*map(tuple, e), rng.uniform(-3, 3), i) for i, e in enumerate(ends)])  # type: ignore[arg-type]
    velocity = VelocitySettings(ang_vel_range=(-40.0, 40.0))
    task = PointNavTask("side_tuning", "continuous", velocity, sensors=(), max_steps=50)
    env = Blind([made], task, CAMERA, 16, 0)
    settings = {"adapted": None, "frames": 1, "hidden": (32,), "bfloat16": False}
    model = PPO(
        policies.get("stack"),
        env,
        n_steps=64,
        batch_size=256,
        n_epochs=6,
        learning_rate=2e-3,
        gamma=0.95,
        policy_kwargs=settings,
        seed=0,
        device="cpu",
    )
    before = success_of(model, env, 32)
    model.learn(16 * 64 * 12)
    assert before < 0.4 and success_of(model, env, 64) > 0.9
