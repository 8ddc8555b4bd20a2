"""Noise of motions and sensors against its published numbers, and agents without GPS."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest
from rooms import episode, place, scene, simple_place

from configs.compose import ConfigError, compose
from envs.pointnav.env import FORWARD, LEFT, RIGHT, PointNav, PointNavTask
from envs.pointnav.noise import Noise, NoiseSettings, _redwood
from envs.rendering.renderer import Camera

GOAL = "pointgoal_with_gps_compass"
TURN = math.radians(10)
ALL = ("rgb", "depth", "map", "explored")


def noise(seed: int | None = 0, **settings: float) -> Noise:
    made = Noise(NoiseSettings(**settings), 1, seed)
    made.reset(0, "room", "0")
    return made


def nav_in_a_room(**task: Any) -> PointNav:
    nav = PointNav([place(scene(4, 4), [episode((2.0, 3.0), (2.0, 1.0))])], PointNavTask(**task), Camera(16), 1, 0)
    nav.reset(np.array([0]))
    return nav


def test_steps_and_turns_have_the_locobots_means_and_deviations() -> None:
    source = noise(actuation=1.0)
    steps = np.array([source.moved(0, 1.0, 0.0) for _ in range(20_000)])
    np.testing.assert_allclose(steps.mean(0), [1.014, 0.009, 0.008], atol=0.003)
    np.testing.assert_allclose(steps.var(0), [0.006, 0.005, 0.004], rtol=0.06)
    left = np.array([source.moved(0, 0.0, 1.0) for _ in range(20_000)])
    np.testing.assert_allclose(left.mean(0), [0.003, 0.003, 1.023], atol=0.003)
    np.testing.assert_allclose(left.var(0), [0.002, 0.003, 0.012], rtol=0.06)
    right = np.array([source.moved(0, 0.0, -1.0) for _ in range(20_000)])
    assert right[:, 2].mean() == pytest.approx(-1.023, abs=0.003)
    half = noise(actuation=0.5)
    assert np.std([half.moved(0, 1.0, 0.0)[0] for _ in range(5000)]) == pytest.approx(math.sqrt(0.006) / 2, rel=0.06)


def test_a_motion_keeps_its_direction() -> None:
    source = noise(actuation=5.0)
    drawn = [source.moved(0, 0.25, 0.0)[0] for _ in range(500)]
    assert min(drawn) == pytest.approx(0.05 * 0.25)
    assert max(source.moved(0, 0.0, -TURN)[2] for _ in range(500)) == pytest.approx(-0.05 * TURN)
    assert noise().moved(0, 0.25, 0.0) == (0.25, 0.0, 0.0)


def test_rgb_noise_has_its_deviation_and_stays_in_range() -> None:
    images = np.full((1, 64, 64, 3), 128, np.uint8)
    noisy = noise(rgb=0.1).rgb(np.array([0]), images)
    assert noisy.std() == pytest.approx(25.5, rel=0.03) and noisy.mean() == pytest.approx(128, abs=1)
    extreme = noise(rgb=10.0).rgb(np.array([0]), images)
    assert set(np.unique(extreme)) >= {0, 255}
    assert noise().rgb(np.array([0]), images) is images


def test_redwood_without_luck_rounds_disparities_and_halves_the_resolution() -> None:
    depth = np.array([[2.0, 9.0, 10.0, 0.0], [1.0, 9.0, 3.0, 3.0]], np.float32)
    out = np.empty_like(depth)
    _redwood(depth, np.zeros((2, 4, 3), np.float32), out)
    two = 35.130 * 8 / round(35.130 / 2 * 8)
    np.testing.assert_allclose(out, [[two, two, 0, 0], [two, two, 0, 0]], rtol=1e-6)


def test_redwood_adds_noise_to_disparities() -> None:
    noisy = noise(depth=1.0).depth(np.array([0]), np.full((1, 64, 64), 4.0, np.float32))[0]
    drawn = np.random.default_rng([zlib.crc32(b"room|0"), 0, 1]).standard_normal((64, 64, 3), np.float32)
    expected = 35.130 * 8 / np.round((35.130 / 4.0 + 0.027778 * drawn[..., 2].astype(np.float64)) * 8)
    np.testing.assert_allclose(noisy, expected, rtol=1e-5)
    assert len(np.unique(noisy)) > 1
    assert noise(depth=1.0).depth(np.array([0]), np.full((1, 4, 4), 12.0, np.float32)).max() == 0


def walked(agents: int, seed: int | None, **task: Any) -> dict[str, Any]:
    """Records of the expert in a room by episode."""
    nav = PointNav([simple_place(4)], PointNavTask(sensors=(), **task), Camera(16), agents, seed)
    nav.reset(np.arange(agents))
    found: dict[str, Any] = {}
    while nav.agents.active.any() and len(found) < 4:
        _, dones, records = nav.step(nav.expert())
        for n in np.flatnonzero(dones):
            found.setdefault(records[n]["episode_id"], records[n])
        if dones.any():
            nav.reset(np.flatnonzero(dones))
    return found


def test_noise_belongs_to_the_episode() -> None:
    noisy = {"noise": NoiseSettings(actuation=1.0)}
    one, three = walked(1, None, **noisy), walked(3, None, **noisy)
    assert len(one) == 4 and one == {key: three[key] for key in one}
    quiet = walked(1, None)
    assert all(one[key]["path"] != quiet[key]["path"] for key in one)
    assert all(record["success"] for record in one.values())
    again = walked(2, 7, **noisy)
    assert again == walked(2, 7, **noisy) and again != walked(2, 8, **noisy)


def test_dead_reckoning_is_gps_until_something_is_in_the_way() -> None:
    known, reckoned = nav_in_a_room(sensors=ALL), nav_in_a_room(sensors=ALL, gps=False)
    for action in (LEFT, FORWARD, FORWARD, RIGHT, RIGHT, FORWARD):
        for nav in (known, reckoned):
            nav.step(np.array([action]))
        seen, told = known.observe(), reckoned.observe()
        np.testing.assert_allclose(told[GOAL], seen[GOAL], atol=1e-5)
        for key in ("map", "explored"):
            np.testing.assert_array_equal(told[key], seen[key])
    for _ in range(12):  # into the wall behind the goal, 1 m further
        for nav in (known, reckoned):
            nav.step(np.array([FORWARD]))
    gap = abs(float(reckoned.observe()[GOAL][0, 0]) - float(known.observe()[GOAL][0, 0]))
    assert gap > 0.5
    assert reckoned.agents.collisions[0] > 0
    np.testing.assert_array_equal(reckoned.agents.trail, known.agents.trail)


def test_dead_reckoning_is_led_astray_by_noise() -> None:
    nav = nav_in_a_room(sensors=(), gps=False, noise=NoiseSettings(actuation=1.0))
    for _ in range(4):
        nav.step(np.array([FORWARD]))
    # It believes that it went 1 m ahead.
    np.testing.assert_allclose(nav.observe()[GOAL][0], [1.0, 0.0], atol=1e-6)
    assert np.hypot(*(nav.agents.position[0, [0, 2]] - [2.0, 2.0])) > 1e-3


def test_sensors_with_noise_reach_the_observations() -> None:
    quiet, noisy = nav_in_a_room(sensors=ALL), nav_in_a_room(sensors=ALL, noise=NoiseSettings(rgb=0.1, depth=1.0))
    a, b = quiet.observe(), noisy.observe()
    assert not np.array_equal(a["rgb"], b["rgb"]) and not np.array_equal(a["depth"], b["depth"])
    assert a["explored"].shape == b["explored"].shape
    np.testing.assert_array_equal(quiet.picture(16), noisy.picture(16))


def test_settings_and_simulators_that_know_no_noise() -> None:
    cfg = compose("train", ["run=none", "env.task.noise.actuation=0.5", "env.task.gps=false"])
    assert cfg.env.task.noise.actuation == 0.5 and cfg.env.task.gps is False
    with pytest.raises(ConfigError, match=r"env\.task\.noise\.rgb must be between 0 and 100"):
        compose("train", ["run=none", "env.task.noise.rgb=-1"])
