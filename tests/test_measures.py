from __future__ import annotations

import numpy as np
import pytest

from envs.pointnav import measures


def test_success_needs_a_stop_strictly_inside() -> None:
    stopped = np.array([True, True, True, False])
    distance = np.array([0.0, 0.19999, 0.2, 0.1])
    assert measures.success(stopped, distance).tolist() == [True, True, False, False]
    assert bool(measures.success(True, 0.3, success_distance=0.36))


@pytest.mark.parametrize(
    ("succeeded", "start", "walked", "expected"),
    [
        (True, 5.0, 5.0, 1.0),
        (True, 5.0, 10.0, 0.5),
        (True, 5.0, 4.0, 1.0),
        (False, 5.0, 5.0, 0.0),
        (True, 0.0, 0.0, 1.0),
    ],
)
def test_spl(succeeded: bool, start: float, walked: float, expected: float) -> None:
    assert measures.spl(succeeded, start, walked) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("left", "start", "walked", "expected"),
    [
        (0.0, 4.0, 4.0, 1.0),
        (1.0, 4.0, 4.0, 0.75),
        (1.0, 4.0, 6.0, 0.5),
        (5.0, 4.0, 2.0, 0.0),
        (np.inf, 4.0, 2.0, 0.0),
        (0.0, 0.0, 0.0, 1.0),
        (0.5, 0.0, 0.5, 0.0),
    ],
)
def test_soft_spl(left: float, start: float, walked: float, expected: float) -> None:
    assert measures.soft_spl(left, start, walked) == pytest.approx(expected)


def test_measures_of_arrays_are_those_of_their_elements() -> None:
    rng = np.random.default_rng(0)
    left, start, walked = rng.uniform(0.1, 9, (3, 50))
    stop = rng.random(50) < 0.5
    assert measures.spl(stop, start, walked).tolist() == [
        float(measures.spl(*row)) for row in zip(stop, start, walked, strict=True)
    ]
    assert measures.soft_spl(left, start, walked).tolist() == [
        float(measures.soft_spl(*row)) for row in zip(left, start, walked, strict=True)
    ]
    assert (measures.soft_spl(left, start, walked) <= 1.0).all()


def test_nav_reward() -> None:
    assert measures.nav_reward(3.0, 2.75, False) == pytest.approx(0.24)
    assert measures.nav_reward(3.0, 3.1, False) == pytest.approx(-0.11)
    assert measures.nav_reward(0.1, 0.1, True) == pytest.approx(2.49)
    assert measures.nav_reward(0.1, 0.1, True, measures.SIDE_TUNING_SUCCESS_REWARD) == pytest.approx(9.99)


def test_return_of_an_episode_telescopes() -> None:
    distance = np.array([6.0, 5.8, 5.9, 4.0, 0.1, 0.1])
    done = np.array([False, False, False, False, True])
    total = measures.nav_reward(distance[:-1], distance[1:], done).sum()
    assert total == pytest.approx(5 * -0.01 + (6.0 - 0.1) + 2.5)


def test_distance_is_measured_anew_only_after_a_movement_that_habitat_lab_would_notice() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(-20, 20, (200, 3))
    after = before + rng.normal(0, 2e-4, (200, 3)) * (rng.random((200, 3)) < 0.5)
    expected = [not np.allclose(b, a, atol=1e-4) for b, a in zip(before, after, strict=True)]
    assert measures.moved(before, after).tolist() == expected
    assert 0 < sum(expected) < 200
