"""PointNav and PPO on a device against the same on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from extras import require
from gymnasium import spaces
from rooms import episode, place, scene, simple_place, wall
from stable_baselines3.common.buffers import DictRolloutBuffer

from agents.learners import ppo, sb3_training
from agents.learners.memory import check_memory, ppo_bytes
from agents.learners.rollout import DeviceRolloutBuffer, Timeouts, rollout_bytes
from agents.setup import make_stacked_env, make_visual_encoder
from configs.compose import compose
from envs.apartments.generator import generate
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import NavigableScene, PointNavTask
from envs.pointnav.episodes import generate_episodes
from envs.pointnav.vec_env import PointNavVecEnv
from envs.rendering.renderer import Camera

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CAMERA = Camera(size=16)


@pytest.fixture(scope="module")
def apartment() -> NavigableScene:
    """A furnished apartment with doors, walls to slide along and goals behind corners."""
    made = generate(3)
    grid = NavGrid.build(made, radius=0.18)
    return NavigableScene(made, grid, tuple(generate_episodes(made.name, grid, 12, seed=0, goals=4)))


def device_env(*arguments, **options):
    require("warp")
    from envs.warp.pointnav import DevicePointNavVecEnv

    return DevicePointNavVecEnv(*arguments, **options)


def assert_same_observations(host: dict, device: dict) -> None:
    assert host.keys() == device.keys()
    for name, value in host.items():
        other = device[name].cpu().numpy()
        assert other.dtype == value.dtype
        assert other.shape == value.shape
        far = np.abs(other.astype(float) - value) > (2 if name == "rgb" else 1e-4)
        if name == "rgb":  # where two faces meet or coincide
            assert far.mean() < (0.02 if len(value) > 1 else 0.1)  # a single view may be all edges
        elif name == "depth":
            assert far.mean() < 2e-3
        elif name == "map":  # cells beside a trail that runs along a cell's edge
            assert far.mean() < 1e-4
        else:
            assert not far.any()


def assert_same_infos(host: list[dict], device: list[dict]) -> int:
    ended = 0
    for ours, theirs in zip(host, device, strict=True):
        assert ours.keys() == theirs.keys()
        if "nav" not in ours:
            continue
        ended += 1
        assert ours["TimeLimit.truncated"] == theirs["TimeLimit.truncated"]
        assert ours["is_success"] == theirs["is_success"]
        last = {key: value.cpu().numpy()[None] for key, value in theirs["terminal_observation"].items()}
        wanted = {key: value[None] for key, value in ours["terminal_observation"].items()}
        assert_same_observations(wanted, {key: torch.as_tensor(value) for key, value in last.items()})
        record = dict(ours["nav"])
        record.pop("path")
        for key, value in record.items():
            assert theirs["nav"][key] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key
    return ended


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("variant", "sliding"), [("habitat", True), ("side_tuning", True), ("habitat", False)])
def test_same_trajectories_as_on_the_host(apartment: NavigableScene, device: str, variant: str, sliding: bool) -> None:
    places = [apartment, simple_place(5)]
    task = PointNavTask(variant=variant, sliding=sliding, sensors=("rgb", "depth", "map"), max_steps=60, map_size=40)
    agents = 8
    host = PointNavVecEnv(places, task, CAMERA, agents, seed=7)
    other = device_env(places, task, CAMERA, agents, seed=7, device=device)
    assert_same_observations(host.reset(), other.reset())
    rng, ended, held = np.random.default_rng(0), 0, 0
    for _ in range(150):
        # The expert's way with detours: along walls, into them, round them, to goals.
        lost = rng.random(agents) < 0.35
        experts = host.nav.expert()
        assert (other.nav.expert() != experts).mean() <= 1 / agents  # poses differ by rounding
        assert np.array_equal(other.nav.agents.steps, host.nav.agents.steps)
        count = len(task.discrete_actions)
        actions = np.where(lost, rng.integers(count - 3, count, agents), experts)
        seen, rewards, dones, infos = host.step(actions)
        held += int(host.nav.agents.collisions.sum())
        seen_there, rewards_there, dones_there, infos_there = other.step(actions)
        assert np.array_equal(dones, dones_there)
        np.testing.assert_allclose(rewards_there, rewards, atol=1e-5)
        state = other.nav.state
        np.testing.assert_allclose(state["position"].cpu().numpy(), host.nav.agents.position, atol=1e-4)
        np.testing.assert_allclose(state["distance"].cpu().numpy(), host.nav.agents.distance, atol=1e-4)
        assert_same_observations(seen, seen_there)
        ended += assert_same_infos(infos, infos_there)
    assert ended > 10
    assert held > 10


def test_each_episode_once_and_then_idle() -> None:
    made = [simple_place(5)]
    task = PointNavTask(sensors=(), max_steps=3)
    env = device_env(made, task, CAMERA, 3, seed=None, device="cpu")
    env.reset()
    records = []
    while env.active.any():
        _, _, _, infos = env.step(np.ones(3, np.int64))
        records += [info["nav"]["episode_id"] for info in infos if "nav" in info]
    assert sorted(records) == ["0", "1", "2", "3", "4"]
    assert env.step(np.ones(3, np.int64))[1].tolist() == [0.0, 0.0, 0.0]


def test_goals_take_turns_in_few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    require("warp")
    from envs.warp import world

    monkeypatch.setattr(world, "CACHED_FIELDS", 2)
    monkeypatch.setattr(world, "_FIRST_VERTICES", 1)  # also grows
    made, task = [simple_place(6), simple_place(4)], PointNavTask(sensors=(), max_steps=9)
    host, few = PointNavVecEnv(made, task, CAMERA, 2, seed=1), device_env(made, task, CAMERA, 2, seed=1, device="cpu")
    host.reset()
    few.reset()
    assert few.nav.goals.slots == 2
    for k in range(60):
        actions = host.nav.expert() if k % 3 else np.ones(2, np.int64)
        rewards = host.step(actions)[1]
        np.testing.assert_allclose(few.step(actions)[1], rewards, atol=1e-6)
    with pytest.raises(ValueError, match=r"actions must be 2 integers in \[0, 4\)"):
        few.step(np.array([0, 4]))
    split = place(scene(4, 4, [wall(0, 2, 4, 2)]), [episode((2, 1), (2, 3))])
    with pytest.raises(ValueError, match="episode 0 of scene room: the goal cannot be reached"):
        device_env([split], task, CAMERA, 1, seed=0, device="cpu").reset()


def config(*words: str):
    return compose(
        "train",
        [
            "run=none", "experiment=side_tuning_ppo", "base=random", "device=cpu", "env.agents=4", "env.camera.size=32",
            "env.task.max_steps=7", "algo.rollout=16", "algo.learner.batch_size=32", "policy.hidden=[32]",
            "adapt.width=0.25", "policy.bfloat16=false", *words,
        ],
    )  # fmt: skip


@pytest.mark.parametrize("frames", [1, 3])
def test_stacks_on_the_device_are_those_of_the_host(frames: int) -> None:
    require("warp")
    made = [simple_place(5), simple_place(3)]
    envs = []
    for backend in ("embree", "warp"):
        cfg = config(f"env.backend={backend}", f"policy.frames={frames}")
        vision = make_visual_encoder(cfg)
        envs.append(make_stacked_env(cfg, made, vision, 3, 5))
    host, device = envs
    assert host.observation_space == device.observation_space

    def check(ours: dict, theirs: dict) -> None:
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            other = torch.as_tensor(theirs[key])
            assert str(other.dtype).endswith(str(np.asarray(value).dtype))
            bound = {"rgb": 2, "features": 0.15}.get(key, 1e-4)
            assert np.abs(other.float().numpy() - np.asarray(value, np.float32)).max() <= bound, key

    check(host.reset(), device.reset())
    assert device.reset()["rgb"] is not device.reset()["rgb"]
    host.reset(), host.reset()
    for k in range(20):
        actions = np.array([k % 3, 0, (k // 2) % 3])
        ours, theirs = host.step(actions), device.step(actions)
        check(ours[0], theirs[0])
        for mine, other in zip(ours[3], theirs[3], strict=True):
            assert ("terminal_observation" in mine) == ("terminal_observation" in other)
            if "terminal_observation" in mine:
                check(mine["terminal_observation"], other["terminal_observation"])


def test_device_buffer_gives_stock_batches_and_returns() -> None:
    space = spaces.Dict(
        {
            "f": spaces.Box(-9, 9, (2, 3), np.float16),
            "i": spaces.Box(0, 255, (3, 4, 4), np.uint8),
            "g": spaces.Box(-1, 1, (2,)),
        }
    )
    steps, agents = 6, 5
    stock, ours = (
        kind(steps, space, spaces.Discrete(3), "cpu", gae_lambda=0.9, gamma=0.97, n_envs=agents)
        for kind in (DictRolloutBuffer, DeviceRolloutBuffer)
    )
    rng = np.random.default_rng(0)
    for round_ in range(2):
        for buffer in (stock, ours):
            buffer.reset()
        for _ in range(steps):
            obs = {key: np.stack([s.sample() for _ in range(agents)]) for key, s in space.spaces.items()}
            row = (
                rng.integers(0, 3, (agents, 1)),
                rng.normal(size=agents).astype(np.float32),
                rng.random(agents) < 0.3,
            )
            tensors = (
                torch.as_tensor(rng.normal(size=(agents, 1)), dtype=torch.float32),
                torch.as_tensor(rng.normal(size=agents)),
            )
            stock.add(obs, *row, *tensors)
            ours.add({key: torch.as_tensor(v) for key, v in obs.items()}, *row, *tensors)
        last = torch.as_tensor(rng.normal(size=(agents, 1)), dtype=torch.float32), rng.random(agents) < 0.5
        for buffer in (stock, ours):
            buffer.compute_returns_and_advantage(*last)
        batches = []
        for buffer in (stock, ours):
            np.random.seed(round_)
            batches.append(list(buffer.get(8)))
        for a, b in zip(*batches, strict=True):
            for key in space.spaces:
                assert torch.equal(a.observations[key], b.observations[key])
            for name in ("actions", "old_values", "old_log_prob", "advantages", "returns"):
                assert torch.allclose(getattr(a, name), getattr(b, name), atol=1e-6), name
            assert b.observations["f"].dtype == torch.float16
    assert rollout_bytes(space, steps, agents) == steps * agents * (12 + 48 + 8 + 7 * 4)
    with pytest.raises(RuntimeError, match="holds 0 of 6 steps"):
        ours.reset()
        next(ours.get(4))


def learned(monkeypatch: pytest.MonkeyPatch, *words: str, stock: bool = False) -> dict[str, torch.Tensor]:
    cfg = config(*words)
    monkeypatch.setattr(sb3_training, "make_scenes", lambda *_: [simple_place(5), simple_place(3)])
    if stock:
        monkeypatch.setattr(sb3_training, "DeviceRolloutBuffer", DictRolloutBuffer)
    model = ppo.make_ppo(cfg, make_visual_encoder(cfg))
    model.set_logger(sb3_training.Logger(None, []))
    model.learn(4 * 16 * 2, None if stock else Timeouts())
    monkeypatch.undo()
    return model.policy.own_state()


def test_ppo_learns_the_same_with_stock_buffer_and_single_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, stock = learned(monkeypatch), learned(monkeypatch, stock=True)
    assert all(torch.allclose(ours[key], stock[key], atol=2e-4) for key in ours)


def test_ppo_on_the_device_learns_as_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    require("warp")
    host, device = (learned(monkeypatch, f"env.backend={backend}") for backend in ("embree", "warp"))
    # A level or two of colour, through a random base, moves Adam's steps a little.
    assert all((host[key] - device[key]).abs().max() < 0.02 for key in host)


def test_memory_is_planned_and_refused_in_one_line() -> None:
    cfg = config("algo.rollout=1000")
    parts = ppo_bytes(cfg, make_visual_encoder(cfg), [simple_place()], 4)
    assert parts["rollout"] > 4000 * (3 * 32 * 32 + 3 * 40 * 40)
    line = check_memory(parts, "cpu")
    assert "\n" not in line
    assert "rollout" in line
    with pytest.raises(ValueError, match=r"does not fit; rollout takes most: lower env\.agents") as raised:
        check_memory({**parts, "rollout": 2**60}, "cpu")
    assert "\n" not in str(raised.value)
