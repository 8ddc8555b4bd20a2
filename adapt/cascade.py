"""``python -m adapt.cascade``: cascaded inference over input sizes, with early exit where the network is confident.

    python -m adapt.cascade run=runs/resolutions

The stages are the sizes of a finished run of the benchmark `resolutions` (Mudrakarta et al., ICLR 2019;
see `adapt.supervised.cascade`). Writes `cascade.json` and the cost curve `cascade.png` into the run's folder.
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
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from adapt.benchmarks.benchmark import TaskData
from adapt.benchmarks.resolutions import Resolutions
from adapt.core.budget import multiply_adds
from adapt.datasets.images import LabelledImages
from adapt.supervised.cascade import Probabilities, choose_thresholds, run_cascade
from adapt.supervised.learner import TaskTrainer
from adapt.supervised.page import png
from adapt.train import make_base, make_benchmark, make_plan
from adapt.training.files import to_json
from adapt.training.run import list_checkpoints, load_checkpoint, load_config
from adapt.training.state import part, reading
from configs.compose import cli
from configs.settings import Settings
from configs.writing import write_atomically

TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)


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
    cfg = load_config(run)
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
        saved = part(state, "tasks")
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


@dataclass(frozen=True)
class CascadeCommand(Settings):
    """Settings of ``python -m adapt.cascade``.

    Attributes:
        run: Folder of a run of adapt.train benchmark=resolutions.
    """

    run: str


@cli("cascade", CascadeCommand)
def main(cfg: DictConfig) -> None:
    """Write `cascade.json` and `cascade.png` into the run's folder and print the saving."""
    run = Path(cfg.run)
    names, costs, (held, test), (held_labels, test_labels) = stages_of_run(run)
    curve = cost_curve(held, held_labels, test, test_labels, costs)
    accuracies = [float((stage.argmax(1) == test_labels).mean()) for stage in test]
    singles = dict(zip(names, zip(costs, accuracies, strict=True), strict=True))
    draw(singles, curve, run / "cascade.png")
    networks = {name: {"multiply_adds": cost, "accuracy": accuracy} for name, (cost, accuracy) in singles.items()}
    content = {"networks": networks, "cascade": curve, "held_out": len(held_labels), "test": len(test_labels)}
    write_atomically(run / "cascade.json", to_json(content, indent=1).encode())
    best = max(singles, key=lambda name: singles[name][1])
    cost, accuracy = singles[best]
    saved = 1 - curve[0]["cost"] / cost
    print(f"best single network: {best}, {accuracy:.1%}, {cost / 1e6:.1f} M multiply-adds")  # noqa: T201
    print(f"cascade: {curve[0]['accuracy']:.1%}, {curve[0]['cost'] / 1e6:.1f} M, {saved:.1%} less")  # noqa: T201
    print(f"{run / 'cascade.png'}")  # noqa: T201


if __name__ == "__main__":
    main()
