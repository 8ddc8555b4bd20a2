"""Numbers over seeds: closed forms of Student's interval and test, Wilcoxon's test, and which runs belong together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adapt.training.seeds import alike, flat, over_seeds, paired_difference, signed_rank


def test_interval_of_three_is_students() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    half = 4.302652729911275 * 1.0 / math.sqrt(3)  # the 97.5% point of t with two degrees of freedom
    assert (found.mean, found.count) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_one_value_has_no_interval() -> None:
    found = over_seeds([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert math.isnan(over_seeds([]).mean)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [over_seeds(list(rng.normal(1.0, 2.0, 3))) for _ in range(2000)]
    assert np.mean([f.low <= 1.0 <= f.high for f in found]) == pytest.approx(0.95, abs=0.015)


def test_paired_difference_is_students_test() -> None:
    found = paired_difference([1.0, 3.0], [0.0, 0.0])
    # With one degree of freedom t, here mean / (deviation / sqrt 2) = 2, follows Cauchy's law: p = 1 - 2/pi * atan(t).
    assert found.estimate.mean == 2.0
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2.0))
    assert math.isnan(paired_difference([1.0], [0.0]).p)
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1.0
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [])


def test_signed_rank_counts_sign_patterns() -> None:
    # All five differences positive: of 2**5 patterns of signs two are as extreme.
    assert signed_rank([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]) == pytest.approx(2 / 2**5)
    assert signed_rank([1, 2], [1, 2]) == 1.0


def test_configurations_that_differ_in_seeds_belong_together() -> None:
    configs = [
        flat({"seed": seed, "run": f"runs/{seed}{lr}", "algo": {"lr": lr, "order": {"seed": seed}}})
        for seed in (0, 1)
        for lr in (0.1, 0.2)
    ]
    assert configs[0]["algo.order.seed"] == 0
    assert alike(configs) == [[0, 2], [1, 3]]
    assert alike(configs, ()) == [[0], [1], [2], [3]]
