"""Results of continual learning: R[i][j], the test result on task j after training task i, and metrics derived from it.

Forgetting and rigidity are those of Side-Tuning, section 4.1, on test losses; ranks compare methods task by task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import scipy  # its statistics, half a second, are imported when they are used

Scores = dict[str, float]


@dataclass
class Results:
    """Test results of a run so far.

    Attributes:
        tasks: names in their order.
        rows: for each finished task, in order, the scores (`loss` and the metric's) of the tasks tested after it.
        first: scores of tasks that were, in an extra run, trained before all others.
    """

    tasks: list[str]
    rows: list[dict[str, Scores]] = field(default_factory=list)
    first: dict[str, Scores] = field(default_factory=dict)

    def matrix(self, score: str) -> list[list[float]]:
        """R of one score, a row per finished task; NaN where a task was not tested."""
        missing: Scores = {}
        return [[row.get(task, missing).get(score, math.nan) for task in self.tasks] for row in self.rows]

    def final(self) -> dict[str, Scores]:
        """The last result of each tested task."""
        return {task: row[task] for row in self.rows for task in self.tasks if task in row}

    def own(self) -> dict[str, Scores]:
        """The result of each task right after its own training, the first time that it was tested."""
        return {task: row[task] for row in reversed(self.rows) for task in self.tasks if task in row}

    def forgetting(self, score: str = "loss") -> dict[str, float]:
        """Growth of a score of each task from right after its training to the end; positive losses are forgetting."""
        own, final = self.own(), self.final()
        return {task: final[task][score] - own[task][score] for task in own}

    def rigidity(self) -> dict[str, float]:
        """log(loss right after training in sequence / loss when trained first); 0 for the task that was first."""
        own = self.own()
        ratios = {self.tasks[0]: 0.0} if self.rows and self.tasks[0] in own else {}
        for task, scores in self.first.items():
            if task in own:
                ratios[task] = log_ratio(own[task]["loss"], scores["loss"])
        return {task: ratios[task] for task in self.tasks if task in ratios}


def log_ratio(loss: float, reference: float) -> float:
    """log(loss / reference), defined for a loss of 0 too."""
    tiny = 1e-12
    return math.log(max(loss, tiny) / max(reference, tiny))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def shared_means(scores: Mapping[str, Scores]) -> Scores:
    """Mean over tasks of every score that all tasks have."""
    tasks = list(scores.values())
    names = [name for name in (tasks[0] if tasks else {}) if all(name in task for task in tasks)]
    return {name: mean([task[name] for task in tasks]) for name in names}


def average_ranks(scores: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]) -> dict[str, float]:
    """Average rank of each method over the tasks, 1 the best; methods that tie share the mean of their places.

    Args:
        scores: by method, the score of each task.
        higher_is_better: by task.

    Raises:
        ValueError: a method lacks a task.
    """
    methods = list(scores)
    for method in methods:
        if absent := [task for task in higher_is_better if task not in scores[method]]:
            raise ValueError(f"{method} has no result for {', '.join(absent)}; ranks need the same tasks for all")
    sums = dict.fromkeys(methods, 0.0)
    for task, better in higher_is_better.items():
        places = scipy.stats.rankdata([-scores[m][task] if better else scores[m][task] for m in methods])
        for method, place in zip(methods, places, strict=True):
            sums[method] += float(place)
    return {method: total / len(higher_is_better) for method, total in sums.items()}
