"""Runs that differ in their seeds alone: which belong together, and what their numbers say together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # Its parts are imported when they are used: statistics take half a second.

CONFIDENCE = 0.95
# Settings of a command that change nothing of what is learned.
INDIFFERENT = ("device", "log_every", "resume", "run", "save_every")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% confidence interval.

    Attributes:
        mean: In the unit of the values; NaN of none.
        low: Lower end; NaN with fewer than two values.
        high: Upper end.
        count: How many values.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, and whether it may be chance.

    Attributes:
        estimate: Of the differences, over pairs.
        p: Two-sided p-value of Student's paired t test; NaN with fewer than two pairs.
    """

    estimate: Estimate
    p: float


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of one number per seed with Student's interval."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, count)


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Difference:
    """Mean of ``values - others``, pair by pair.

    Raises:
        ValueError: They are not equally many.
    """
    differences = [a - b for a, b in zip(values, others, strict=True)]
    estimate = over_seeds(differences)
    if estimate.count < 2:
        return Difference(estimate, math.nan)
    if len(set(differences)) == 1:  # no spread: the test's statistic is 0/0, or endless
        return Difference(estimate, 1.0 if estimate.mean == 0 else 0.0)
    return Difference(estimate, float(scipy.stats.ttest_1samp(differences, 0.0).pvalue))


def signed_rank(values: Sequence[float], others: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of pairs, the test that Side-Tuning compares initialisations by.

    Pairs that are equal count for neither side; with no other pairs the p-value is 1.
    """
    differences = np.subtract(values, others)
    if not len(differences):
        return math.nan
    return float(scipy.stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def is_seed(key: str) -> bool:
    """Whether a key of a configuration is a seed."""
    return key.rpartition(".")[2] == "seed"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings |= flat(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings


def alike(configs: Sequence[Mapping[str, Any]], indifferent: Collection[str] = INDIFFERENT) -> list[list[int]]:
    """Places of the configurations that differ in seeds alone, together, in the order of their first ones.

    Args:
        configs: Flat: dotted keys to values.
        indifferent: Keys that do not count either.
    """
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, config in enumerate(configs):
        compared = {key: str(value) for key, value in config.items() if not is_seed(key) and key not in indifferent}
        groups.setdefault(tuple(sorted(compared.items())), []).append(place)
    return list(groups.values())
