"""Classifier cascades with confidence thresholds (after Streeter, ICML 2018).

The sure-ness of a stage is its largest softmax probability, which Mudrakarta et al. (ICLR 2019) leave open. Thresholds
are chosen on held-out examples so that those that a stage answers come out as often right as with the best single
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Probabilities = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class CascadeResult:
    """Accuracy and cost of a cascade on some examples.

    Attributes:
        accuracy: share that is classified right.
        cost: mean cost of an example: that of all stages that it passes through.
        shares: share of the examples that each stage answers.
    """

    accuracy: float
    cost: float
    shares: tuple[float, ...]


def choose_thresholds(stages: Probabilities, labels: NDArray[np.int64], tolerance: float = 0.0) -> list[float]:
    """Thresholds of all stages, the lowest that keep the accuracy; 0 for the last, which answers everything.

    Stage after stage, among the examples that the stages before left: it answers the surest ones, as many as it can
    while at least (1 - tolerance) times as many of them are right as the best single network gets right.

    Args:
        stages: of each stage, in the order in which they run, probabilities (N,classes).
        labels: (N,) classes.
        tolerance: share of right answers that may be lost, 0 or more; more makes a cheaper cascade.

    Raises:
        ValueError: there is no stage or no example.
    """
    if not len(stages) or not len(labels):
        raise ValueError("a cascade needs at least one stage and one held-out example")
    right = [stage.argmax(1) == labels for stage in stages]
    reference = right[int(np.argmax([np.mean(each) for each in right]))]
    left = np.ones(len(labels), bool)
    thresholds = []
    for stage, correct in zip(stages[:-1], right[:-1], strict=True):
        sure = stage.max(1)
        thresholds.append(_threshold(sure[left], correct[left], reference[left], tolerance))
        left &= sure < thresholds[-1]
    return [*thresholds, 0.0]


def _threshold(
    sure: NDArray[np.floating], right: NDArray[np.bool_], reference: NDArray[np.bool_], tolerance: float
) -> float:
    """The lowest threshold at which the answered are right often enough; above 1 if there is none."""
    order = np.argsort(-sure, kind="stable")
    accurate = np.cumsum(right[order]) >= (1 - tolerance) * np.cumsum(reference[order])
    # Equally sure examples are answered together.
    last = np.append(sure[order][1:] < sure[order][:-1], True) if len(order) else np.zeros(0, bool)
    places = np.flatnonzero(accurate & last)
    return float(sure[order][places[-1]]) if len(places) else 2.0


def run_cascade(
    stages: Probabilities, labels: NDArray[np.int64], costs: Sequence[float], thresholds: Sequence[float]
) -> CascadeResult:
    """Classify examples: each goes from stage to stage until one is as sure as its threshold.

    Args:
        stages: of each stage, probabilities (N,classes).
        labels: (N,) classes.
        costs: of each stage for one example.
        thresholds: of `choose_thresholds`.

    Raises:
        ValueError: costs or thresholds are not one per stage.
    """
    if not len(stages) == len(costs) == len(thresholds):
        raise ValueError(f"{len(stages)} stages, {len(costs)} costs and {len(thresholds)} thresholds; give one each")
    left = np.ones(len(labels), bool)
    right, cost, shares = 0, 0.0, []
    for stage, price, threshold in zip(stages, costs, thresholds, strict=True):
        cost += price * int(left.sum())
        answered = left & (stage.max(1) >= threshold)
        right += int((stage.argmax(1) == labels)[answered].sum())
        shares.append(float(answered.mean()))
        left &= ~answered
    return CascadeResult(right / len(labels), cost / len(labels), tuple(shares))
