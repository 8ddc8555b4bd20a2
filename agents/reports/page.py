"""Names and number formats of measures in pages and tables."""

from __future__ import annotations

from dataclasses import dataclass

from agents.evaluation.statistics import Summary

KICKER = "Sidestep · point-goal navigation"  # above the titles of pages
NAMES = {
    "success": "Success",
    "spl": "SPL",
    "soft_spl": "SoftSPL",
    "distance_to_goal": "Distance to goal (m)",
    "collisions": "Collisions",
    "nav_reward": "Reward",
    "steps": "Steps",
}
DIGITS = {"success": 3, "spl": 3, "soft_spl": 3, "distance_to_goal": 2, "collisions": 1, "nav_reward": 2, "steps": 0}
RATES = ("success", "spl", "soft_spl")


@dataclass(frozen=True)
class Cell:
    """A summary as it is printed; `bar` is (low, mean, high) in percent, for measures between 0 and 1."""

    mean: str
    low: str
    high: str
    bar: tuple[float, float, float] | None


def cell(measure: str, summary: Summary) -> Cell:
    """Round a summary to the digits that are usual for its measure."""
    low, mean, high = (f"{v:.{DIGITS[measure]}f}" for v in (summary.low, summary.mean, summary.high))
    bar = (100 * summary.low, 100 * summary.mean, 100 * summary.high) if measure in RATES else None
    return Cell(mean, low, high, bar)
