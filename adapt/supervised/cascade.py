"""Classifier cascades with confidence thresholds (after Streeter, ICML 2018).

The sure-ness of a stage is its largest softmax probability, which Mudrakarta et al. (ICLR 2019) leave open. Thresholds
are chosen on held-out examples so that those that a stage answers come out as often right as with the best single
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from adapt.benchmarks.benchmark import TaskData
from adapt.benchmarks.resolutions import Resolutions
from adapt.core.budget import multiply_adds
from adapt.datasets.images import LabelledImages
from adapt.supervised.learner import TaskTrainer
from adapt.supervised.page import png
from adapt.supervised.runs import make_base, make_benchmark, make_plan
from adapt.training.run import list_checkpoints, load_checkpoint, load_config
from adapt.training.state import entry_of, reading
from configs.writing import write_atomically

Probabilities = Sequence[NDArray[np.floating]]

TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)


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


@torch.no_grad()
def stages_of_run(run: Path) -> tuple[list[str], list[float], list[Probabilities], list[NDArray[np.int64]]]:
    """Load a finished run as the stages of a cascade.

    Args:
        run: folder of a run of the benchmark `resolutions`.

    Returns:
        The names of the tasks, their multiply-adds per image, and for held-out and for test examples the probabilities
        of each task and the classes.

    Raises:
        ValueError: it is a run of another benchmark.
        FileNotFoundError: there is no run, or it has not finished.
    """
    cfg = load_config(run, "supervised")
    benchmark = make_benchmark(cfg)
    if not isinstance(benchmark, Resolutions):
        raise ValueError(f"{run} is a run of {cfg.benchmark.name}; a cascade is made of one of benchmark=resolutions")
    base = make_base(cfg, benchmark)
    checkpoints = list_checkpoints(run)
    if not checkpoints or not (run / "result.json").is_file():
        raise FileNotFoundError(f"{run} has not finished; add resume=true to its command")
    state = load_checkpoint(checkpoints[-1], base.sha256)
    every = zip(benchmark.tasks(Path(cfg.data)), benchmark.held_out(Path(cfg.data)), strict=True)
    with reading(checkpoints[-1]):
        saved = entry_of(state, "tasks")
    chosen = [(task, examples) for task, examples in every if task.name in saved]
    plan = make_plan(cfg, benchmark)
    learners = [TaskTrainer(base, plan)] * len(chosen)
    if cfg.protocol == "single":
        learners = [TaskTrainer(base, plan) for _ in chosen]
    costs: list[float] = []
    parts: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    labels: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for (task, examples), learner in zip(chosen, learners, strict=True):
        with reading(checkpoints[-1]):
            learner.restore([task], saved)
        learner.eval()
        assert isinstance(task.test, LabelledImages)
        image = examples[0][0][None].to(learner.device)
        costs.append(float(multiply_adds(partial(learner.outputs, task, image, None))))
        for place, data in enumerate((examples, task.test)):
            parts[place].append(_probabilities(learner, task, data, plan.training.test_batch))
            labels[place].append(data.source.labels)
    return [task.name for task, _ in chosen], costs, list(parts), [each[0] for each in labels]


def _probabilities(learner: TaskTrainer, task: TaskData, data: LabelledImages, batch: int) -> NDArray[np.float32]:
    outputs = [
        learner.outputs(task, images.to(learner.device), None).softmax(1).cpu() for images, _ in DataLoader(data, batch)
    ]
    return torch.cat(outputs).numpy()


def cost_curve(
    held: Probabilities,
    held_labels: NDArray[np.int64],
    test: Probabilities,
    test_labels: NDArray[np.int64],
    costs: Sequence[float],
) -> list[dict[str, Any]]:
    """Test accuracy and mean cost of the cascade for each tolerance of `choose_thresholds` on held-out examples."""
    rows = []
    for tolerance in TOLERANCES:
        thresholds = choose_thresholds(held, held_labels, tolerance)
        outcome = run_cascade(test, test_labels, costs, thresholds)
        rows.append({"tolerance": tolerance, "thresholds": thresholds, **asdict(outcome)})
    return rows


def draw(singles: Mapping[str, tuple[float, float]], curve: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: accuracy against mean multiply-adds of the single networks and of the cascade."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    points = list(singles.values())
    axes.plot([cost / 1e6 for cost, _ in points], [100 * a for _, a in points], "o--", label="one network")
    for name, (cost, accuracy) in singles.items():
        axes.annotate(name, (cost / 1e6, 100 * accuracy), xytext=(4, -10), textcoords="offset points", fontsize=7)
    costs, accuracies = ([row[key] for row in curve] for key in ("cost", "accuracy"))
    axes.plot([cost / 1e6 for cost in costs], [100 * a for a in accuracies], "s-", label="cascade")
    axes.set(xlabel="mean multiply-adds per image, millions", ylabel="test accuracy, %")
    axes.legend()
    write_atomically(path, png(figure, 130))
