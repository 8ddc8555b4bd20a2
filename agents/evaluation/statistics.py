"""Means of evaluation records with confidence intervals by the cluster bootstrap over scenes.

Episodes of one scene resemble each other, so they are no independent sample of "apartments the agent has
never seen". All intervals are 95% percentile intervals of a two-stage bootstrap: scenes are drawn with
replacement, then as many episodes within every drawn scene as it has (Davison and Hinkley 1997, section
3.8). With a single scene only episodes are drawn, and an interval then holds for that scene alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal", "collisions", "nav_reward", "steps")
DETOUR_BANDS = ((1.0, 1.1), (1.1, 1.4), (1.4, float("inf")))
RESAMPLES = 4000
SEED = 0

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Mean of one measure over episodes, every episode weighing the same.

    Attributes:
        mean: The mean, in the measure's unit; NaN without episodes.
        low: Lower end of the 95% confidence interval.
        high: Upper end.
        episodes: Number of episodes.
        scenes: Number of scenes that they lie in.
    """

    mean: float
    low: float
    high: float
    episodes: int
    scenes: int


@dataclass(frozen=True)
class Band:
    """Success among episodes whose geodesic/euclidean distance lies in [lower, upper)."""

    lower: float
    upper: float
    success: Summary
    spl: Summary


def bootstrap_weights(scenes: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.float64]:
    """Weights of the episodes in every bootstrap sample: how often each was drawn.

    Args:
        scenes: Scene of each of the N episodes.
        resamples: Number B of bootstrap samples.
        seed: Of the draws; equal arguments give equal weights.

    Returns:
        (B, N) float64 counts.

    Raises:
        ValueError: There are no episodes.
    """
    if not len(scenes):
        raise ValueError("there are no episodes to summarise; evaluate the run first")
    rng = np.random.default_rng(seed)
    names, member = np.unique(np.asarray(scenes), return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = np.empty((resamples, len(member)))
    for scene in range(len(names)):
        columns = np.flatnonzero(member == scene)
        size = len(columns)
        # c draws of a scene, each of `size` episodes, are together one multinomial of c * size draws.
        weights[:, columns] = rng.multinomial(drawn[:, scene] * size, np.full(size, 1 / size))
    return weights


def _summaries(values: NDArray[np.float64], scenes: Sequence[str], seed: int) -> list[Summary]:
    """Summaries of the M columns of `values` (N, M), all over the same bootstrap samples."""
    weights = bootstrap_weights(scenes, seed=seed)
    means = weights @ values / weights.sum(axis=1, keepdims=True)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    mean, count = values.mean(axis=0), len(set(scenes))
    return [Summary(float(mean[m]), float(low[m]), float(high[m]), len(values), count) for m in range(values.shape[1])]


def _scenes(records: Sequence[Record]) -> list[str]:
    return [str(record["scene_id"]) for record in records]


def summarise(records: Sequence[Record], measures: Sequence[str] = MEASURES, seed: int = SEED) -> dict[str, Summary]:
    """Mean and 95% confidence interval of each measure.

    Args:
        records: One per episode, as `envs.pointnav.env.PointNav.step` returns them.
        measures: Keys of numbers in the records.
        seed: Of the bootstrap.

    Raises:
        ValueError: There are no records.
    """
    values = np.array([[float(record[m]) for m in measures] for record in records]).reshape(-1, len(measures))
    return dict(zip(measures, _summaries(values, _scenes(records), seed), strict=True))


def difference(records: Sequence[Record], other: Sequence[Record], measure: str, seed: int = SEED) -> Summary | None:
    """Mean of ``records - other`` over the episodes that both ran, with its 95% confidence interval.

    Pairing by episode takes out how hard the episodes are, so the interval is narrower than what the two
    single ones suggest.

    Returns:
        The summary; None if they have no episode in common.
    """
    theirs = {(r["scene_id"], r["episode_id"]): float(r[measure]) for r in other}
    pairs = [(r, theirs[key]) for r in records if (key := (r["scene_id"], r["episode_id"])) in theirs]
    if not pairs:
        return None
    values = np.array([[float(r[measure]) - value] for r, value in pairs])
    return _summaries(values, _scenes([r for r, _ in pairs]), seed)[0]


def by_scene(records: Sequence[Record], measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """Plain means per scene, in order of the scenes' names, with the number of ``episodes``."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(str(record["scene_id"]), []).append(record)
    return {
        scene: {
            "episodes": len(groups[scene]),
            **{m: float(np.mean([float(r[m]) for r in groups[scene]])) for m in measures},
        }
        for scene in sorted(groups)
    }


def detour_ratio(record: Record) -> float:
    """Geodesic over euclidean distance from start to goal; 1 is a straight walk."""
    return max(1.0, float(record["geodesic_distance"]) / max(float(record["euclidean_distance"]), 1e-6))


def by_detour(records: Sequence[Record], seed: int = SEED) -> list[Band]:
    """Success and SPL of easy to hard episodes (`DETOUR_BANDS`); bands without episodes are left out."""
    bands = []
    for lower, upper in DETOUR_BANDS:
        inside = [r for r in records if lower <= detour_ratio(r) < upper]
        if inside:
            summary = summarise(inside, ("success", "spl"), seed)
            bands.append(Band(lower, upper, summary["success"], summary["spl"]))
    return bands
