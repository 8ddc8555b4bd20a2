from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.evaluation.statistics import (
    MEASURES,
    bootstrap_weights,
    by_detour,
    by_scene,
    detour_ratio,
    difference,
    summarise,
)


def record(scene: str, episode: int, success: float, geodesic: float = 5.0, euclidean: float = 4.0) -> dict[str, Any]:
    measures = dict.fromkeys(MEASURES, 0.0) | {"success": success, "spl": 0.5 * success}
    return measures | {
        "scene_id": scene,
        "episode_id": str(episode),
        "geodesic_distance": geodesic,
        "euclidean_distance": euclidean,
    }


def records(rates: list[float], episodes: int, seed: int = 0) -> list[dict[str, Any]]:
    """Episodes of one scene per rate, that succeed with this probability."""
    rng = np.random.default_rng(seed)
    return [record(f"s{s}", e, float(rng.random() < p)) for s, p in enumerate(rates) for e in range(episodes)]


def test_one_scene_gives_the_binomial_interval() -> None:
    rows = [record("a", e, float(e < 240)) for e in range(400)]
    found = summarise(rows)["success"]
    half = 1.96 * np.sqrt(0.6 * 0.4 / 400)
    assert (found.mean, found.episodes, found.scenes) == (0.6, 400, 1)
    assert found.low == pytest.approx(0.6 - half, abs=0.006)
    assert found.high == pytest.approx(0.6 + half, abs=0.006)


def test_scenes_count_not_episodes_when_episodes_of_a_scene_are_alike() -> None:
    """50 scenes that succeed always or never: 10 episodes each tell no more than one."""
    rows = [record(f"s{s:02}", e, float(s < 25)) for s in range(50) for e in range(10)]
    found = summarise(rows)["success"]
    half = 1.96 * np.sqrt(0.25 / 50)
    assert found.low == pytest.approx(0.5 - half, abs=0.02)
    assert found.high == pytest.approx(0.5 + half, abs=0.02)


def test_a_constant_has_an_interval_of_width_zero() -> None:
    found = summarise(records([1.0] * 6, 5))["success"]
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_equal_seeds_give_equal_intervals() -> None:
    scenes = ["a"] * 20 + ["b"] * 20
    assert (bootstrap_weights(scenes, seed=1) == bootstrap_weights(scenes, seed=1)).all()
    assert (bootstrap_weights(scenes, seed=1) != bootstrap_weights(scenes, seed=2)).any()
    rows = records([0.2, 0.8, 0.5], 20)
    assert summarise(rows) == summarise(rows)


def test_the_mean_is_over_episodes_and_inside_its_interval() -> None:
    rows = records([0.9, 0.1], 30) + records([0.5], 5, seed=3)
    found = summarise(rows)
    for measure in MEASURES:
        assert found[measure].mean == pytest.approx(np.mean([r[measure] for r in rows]))
        assert found[measure].low <= found[measure].mean <= found[measure].high


def test_every_bootstrap_sample_draws_whole_scenes() -> None:
    weights = bootstrap_weights(["a"] * 3 + ["b"] * 5, resamples=200)
    assert weights.shape == (200, 8)
    drawn = np.stack([weights[:, :3].sum(axis=1) / 3, weights[:, 3:].sum(axis=1) / 5], axis=1)
    assert set(np.unique(drawn)) == {0.0, 1.0, 2.0}
    assert (drawn.sum(axis=1) == 2).all()


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Scene rates from Beta(2, 2), true mean 0.5; 60 repetitions, 95% expected."""
    rng = np.random.default_rng(0)
    covered = []
    for repetition in range(60):
        found = summarise(records(list(rng.beta(2, 2, 30)), 5, seed=repetition), ("success",))["success"]
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.88 <= np.mean(covered) <= 1.0


def test_paired_difference_is_exact_for_equal_offsets_and_only_over_common_episodes() -> None:
    ours = [record(f"s{s}", e, 0.4 + 0.1 * s) for s in range(4) for e in range(5)]
    theirs = [{**r, "success": r["success"] - 0.25} for r in ours[3:]] + [record("other", 0, 1.0)]
    found = difference(ours, theirs, "success")
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.episodes == 17
    assert difference(ours, [record("other", 0, 1.0)], "success") is None


def test_by_scene_counts_and_averages() -> None:
    table = by_scene([record("b", 0, 1.0), record("a", 0, 0.0), record("b", 1, 0.0)])
    assert list(table) == ["a", "b"]
    assert table["b"]["episodes"] == 2
    assert table["b"]["success"] == 0.5


def test_detour_bands_split_at_1_1_and_1_4_and_leave_out_empty_ones() -> None:
    rows = [record("a", i, float(i % 2), geodesic=g, euclidean=1.0) for i, g in enumerate([1.0, 1.1, 1.39, 1.4, 9.0])]
    bands = by_detour(rows)
    assert [(b.lower, b.success.episodes) for b in bands] == [(1.0, 1), (1.1, 2), (1.4, 2)]
    assert [b.success.mean for b in bands] == [0.0, 0.5, 0.5]
    assert [b.lower for b in by_detour(rows[:1])] == [1.0]
    assert detour_ratio(record("a", 0, 1.0, geodesic=0.99, euclidean=1.0)) == 1.0


def test_no_records_is_an_error_of_one_line() -> None:
    with pytest.raises(ValueError, match="no episodes to summarise"):
        summarise([])
