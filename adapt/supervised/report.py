"""The report of one run, and of several side by side, with the published numbers where the benchmark has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from omegaconf import OmegaConf
from scipy.stats import spearmanr

from adapt.benchmarks.benchmark import Published, get_benchmark
from adapt.supervised.page import Document
from adapt.supervised.results import average_ranks, mean
from adapt.training.run import load_config
from configs.files import visible

# Scores that every run has beside those of its metric, with their headings.
COMMON = {"forgetting": "forgetting (loss)", "rigidity": "rigidity"}
SHARES = ("accuracy", "mean_iou", "f1", "exact", "parameter_share", "layer_share", "masked_share")
# What a method says about its tasks, with headings, shown where a run has it.
MEASURES = {
    "parameter_share": "% parameters",
    "layer_share": "% layers",
    "masked_share": "% masked out",
    "alpha": "alpha",
}


@dataclass(frozen=True)
class Finished:
    """A run folder with a result.

    Attributes:
        path: the folder.
        result: its `result.json`.
        versions: its `versions.json`.
        config: its configuration, flat: dotted keys to values.
    """

    path: Path
    result: Mapping[str, Any]
    versions: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def encoder(self) -> str:
        """The architecture of the base without its library's name, such as "resnet50"."""
        name = self.result.get("encoder") or str(self.config.get("base.name", ""))
        return name.partition(":")[0].rpartition("/")[2]

    @property
    def row(self) -> Published | None:
        """The published row with this run's method, base, protocol and settings, if there is one."""
        about = self.encoder, self.result.get("pretraining", ""), self.result["protocol"]
        rows = get_benchmark(self.result["benchmark"]).published
        return next((row for row in rows if row.fits(self.result["method"], *about, self.config)), None)

    @property
    def published(self) -> Mapping[str, float]:
        """The numbers of that row."""
        return {} if self.row is None else self.row.scores

    @property
    def score(self) -> str:
        """The score that most tasks are judged by."""
        scores = list(self.result["score"].values())
        return max(dict.fromkeys(scores), key=scores.count)

    def matrix(self, score: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """R of a score, NaN where a task was not tested."""
        rows = [[math.nan if value is None else value for value in row] for row in self.result["matrix"][score]]
        return np.array(rows, dtype=np.float64)


def read_run(path: Path) -> Finished:
    """Read a finished run.

    Raises:
        FileNotFoundError: the folder holds no result.
    """
    file = path / "result.json"
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no result.json; give the folder of a finished run of adapt.train")
    config = OmegaConf.to_container(load_config(path), resolve=True)
    versions = json.loads((path / "versions.json").read_text())
    return Finished(path, json.loads(file.read_text()), versions, dict(_flat(config)))


def find_runs(paths: Sequence[Path]) -> list[Finished]:
    """The finished runs in these folders: run folders, or folders of run folders.

    Raises:
        FileNotFoundError: a folder holds none.
    """
    runs = []
    for path in paths:
        folders = [path] if (path / "result.json").is_file() else [f.parent for f in visible(path, "*/result.json")]
        runs += [read_run(folder) for folder in folders or [path]]
    return runs


def write_report(path: Path) -> Path:
    """Write `report.html` and `report.md` into a run folder; gives the path of the first."""
    run = read_run(path)
    result, published = run.result, run.published
    document = Document(f"{result['method']} on {result['benchmark']}, {result['protocol']}")
    document.paragraph(
        f"{len(result['tasks'])} tasks, {result['images']:,} training examples in all, {result['seconds']:.0f} s. "
        f"Seed {run.versions['seed']}, commit {run.versions['git_commit'][:12]}, {run.versions['date']}."
    )
    document.code(run.versions["command"])
    document.table(
        ["all tasks", "here", "published"],
        [[name, number(name, value), number(name, published.get(name))] for name, value in headline(run).items()],
    )
    document.heading("Tasks")
    scores = _columns(result["per_task"])
    rows = []
    for task in result["tasks"]:
        numbers = result["per_task"].get(task, {})
        rows.append([task, *(_beside(run, task, name, numbers.get(name)) for name in scores)])
    document.table(["task", *scores], rows)
    if run.row is not None:
        document.paragraph(f"Published numbers, in brackets or their own column, are of: {run.row.source}.")
    if len(result["matrix"]["loss"]) > 1:
        text = "Growth of a task's test loss after its own training"
        document.figure("report", curves([run]), _both(text, "log of its loss over its loss when first", [run]))
    return document.write(path, "report")


def _beside(run: Finished, task: str, name: str, value: Any) -> str:
    """A number of a task, with the published one in brackets if there is one."""
    key = task if name == run.result["score"][task] else f"{task}/{name}"
    published = number(name, run.published.get(key))
    return f"{number(name, value)} ({published})" if published else number(name, value)


def headline(run: Finished) -> dict[str, Any]:
    """The numbers over all tasks, by name."""
    skipped = ("images", "seconds", "head_parameters")
    return {
        name: value
        for name, value in run.result.items()
        if (isinstance(value, int | float) or name == "rigidity") and name not in skipped
    }


def compare(runs: Sequence[Finished], out: Path, x: str | None = None) -> Path:
    """Write `comparison.html` and `comparison.md` of several runs of one benchmark.

    Args:
        runs: in the order of the rows.
        out: folder to write to.
        x: a key of the configuration, or a number of `result.json` such as `parameter_share`; also draw the score
            against it, one curve per method.

    Raises:
        ValueError: runs of different benchmarks or tasks, no runs, or an unknown key.
    """
    if not runs:
        raise ValueError("there is no run to compare")
    kinds = {(run.result["benchmark"], tuple(sorted(run.result["tasks"]))) for run in runs}
    if len(kinds) > 1:
        raise ValueError(f"the runs are of different benchmarks or tasks: {', '.join(run.name for run in runs)}")
    document = Document(f"{runs[0].result['benchmark']}: {len(runs)} runs")
    _table(document, runs)
    if all(len(run.result["matrix"]["loss"]) > 1 for run in runs):
        text = "Mean growth of the test loss of finished tasks"
        text = _both(text, "log of loss in sequence over loss when first", runs)
        document.figure("comparison", curves(runs), text)
    if x is not None:
        document.figure("sweep", sweep(runs, x), f"{runs[0].score} against {x}")
    _relevance(document, runs)
    document.heading("Commands")
    document.code("\n".join(f"{run.versions['command']}  # {run.versions['git_commit'][:12]}" for run in runs))
    return document.write(out, "comparison")


def ranks(runs: Sequence[Finished]) -> dict[str, float]:
    """Average rank of each run over the tasks, by path; {} for a single run."""
    if len(runs) < 2:
        return {}
    kinds = runs[0].result["score"]
    # Names are not unique: runs/a/side and runs/b/side.
    scores = {
        str(run.path): {task: run.result["per_task"][task][score] for task, score in kinds.items()} for run in runs
    }
    return average_ranks(scores, runs[0].result["higher_is_better"])


def _table(document: Document, runs: Sequence[Finished]) -> None:
    """One row per run; ranks among all, and among the first run of each method whose rank was published."""
    first = {run.result["method"]: run for run in reversed(runs) if "rank" in run.published}
    judged = [run for run in runs if first.get(run.result["method"]) is run]
    everywhere, among = ranks(runs), ranks(judged)
    score = runs[0].score
    measures = [name for name in MEASURES if any(name in run.result for run in runs)]
    rows = []
    for run in runs:
        result, published = run.result, run.published
        rows.append(
            [
                run.name,
                number(score, result.get(score)),
                number("rank", everywhere.get(str(run.path))),
                number("rank", among.get(str(run.path))),
                number("rank", published.get("rank")),
                number(score, published.get(score)),
                *(number(name, result.get(name)) for name in COMMON),
                *(number(name, result.get(name)) for name in measures),
                number("parameters", result["parameters"]),
                number("bits", result["bits"]),
                number("model_size", result.get("model_size")),
                number("images", result["images"] // len(result["tasks"])),
            ]
        )
    columns = ["run", score, "rank", f"rank of {len(judged)}", "published rank", f"published {score}", *COMMON.values()]
    columns += [MEASURES[name] for name in measures]
    document.table([*columns, "parameters", "bits", "size / base", "examples per task"], rows)
    if among:
        document.paragraph(f"'rank of {len(judged)}' counts one run of each method that has a published rank.")


def _relevance(document: Document, runs: Sequence[Finished]) -> None:
    """The base's share that tasks have learned, beside what the base's features alone reach."""
    features = next((run for run in runs if run.result["method"] == "features"), None)
    for run in runs:
        alphas = {task: scores["alpha"] for task, scores in run.result["per_task"].items() if "alpha" in scores}
        if not alphas:
            continue
        document.heading(f"The base's share: {run.name}")
        if features is None or len(alphas) < 3:
            document.table(["task", "alpha"], [[task, f"{alpha:.3f}"] for task, alpha in alphas.items()])
            continue
        alone = {task: features.result["per_task"][task][run.score] for task in alphas}
        rows = [[task, f"{alpha:.3f}", number(run.score, alone[task])] for task, alpha in alphas.items()]
        document.table(["task", "alpha", f"{run.score} of features alone"], rows)
        if len(set(alphas.values())) > 1 and len(set(alone.values())) > 1:
            rho = float(spearmanr(list(alphas.values()), list(alone.values())).statistic)
            document.paragraph(f"Rank correlation of the two (Spearman): {rho:+.2f}.")


def _rigidity_known(runs: Sequence[Finished]) -> bool:
    """Whether any of the runs has trained its tasks first, too."""
    return any(run.result.get("rigidity") is not None for run in runs)


def _both(left: str, right: str, runs: Sequence[Finished]) -> str:
    """What `curves` shows, in words."""
    return f"{left} (left); {right} (right)." if _rigidity_known(runs) else f"{left}."


def curves(runs: Sequence[Finished]) -> Figure:
    """Forgetting, and rigidity where it was measured, against the tasks learned: Figures 5 and 6 of Side-Tuning."""
    panels = 2 if _rigidity_known(runs) else 1
    figure = Figure(figsize=(5.5 * panels, 3.6), layout="constrained")
    axes = [*figure.subplots(1, panels, squeeze=False)[0]]
    left = axes[0]
    for run in runs:
        growth = run.matrix("loss")
        growth = growth - np.diag(growth) if growth.shape[0] == growth.shape[1] else growth - growth[0]
        steps = np.arange(1, len(growth) + 1)
        if len(runs) == 1:
            for j in range(len(growth)):
                left.plot(steps[j:], growth[j:, j], color="#8888aa", linewidth=0.8)
        old = [mean([v for v in growth[i, :i] if not math.isnan(v)]) for i in range(len(growth))]
        left.plot(steps, [0.0, *old[1:]], label=run.name, marker="o", markersize=3)
        ratios = [run.result["per_task"][task].get("rigidity", math.nan) for task in run.result["tasks"]]
        for axis in axes[1:]:
            axis.plot(steps, ratios[: len(steps)], label=run.name, marker="o", markersize=3)
    left.set(xlabel="tasks learned", ylabel="growth of loss")
    for axis in axes[1:]:
        axis.set(xlabel="position in the sequence", ylabel="rigidity")
    for axis in axes:
        axis.axhline(0, color="black", linewidth=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize=8)
    return figure


def sweep(runs: Sequence[Finished], x: str) -> Figure:
    """The score against a key of the configuration or a number of the result, one curve per method.

    Raises:
        ValueError: a run has neither.
    """
    values = [run.config.get(x, run.result.get(x)) for run in runs]
    for run, value in zip(runs, values, strict=True):
        if not isinstance(value, int | float | str):
            raise ValueError(f"{run.path} has neither a setting nor a result {x!r} to draw against")
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    score = runs[0].score
    for method in dict.fromkeys(run.result["method"] for run in runs):
        own = [(value, run) for value, run in zip(values, runs, strict=True) if run.result["method"] == method]
        points = sorted((value, run.result[score]) for value, run in own)
        axis.plot([p[0] for p in points], [p[1] for p in points], marker="o", label=method)
    axis.set(xlabel=x, ylabel=score)
    if all(isinstance(v, int | float) and v > 0 for v in values) and max(values) / min(values) > 20:
        axis.set_xscale("log")
    axis.legend(fontsize=8)
    return figure


def number(name: str, value: Any) -> str:
    """A number as a person reads it; shares as percentages."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if name in SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if name == "rank" else f"{value:.4g}"


def _columns(per_task: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for scores in per_task.values() for name in scores))


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix.rstrip("."), value)]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}{key}.")]
