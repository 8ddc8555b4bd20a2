"""Several runs side by side: a row for each setting, with mean and spread over the seeds that it was run with."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its statistics, half a second, are imported when they are used
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from adapt.supervised.finished import Finished, number
from adapt.supervised.page import Document, png
from adapt.supervised.pictures import figure_of, has_kept, read_kept
from adapt.supervised.results import average_ranks, mean
from adapt.training.seeds import alike

# Scores that every run has beside those of its metric, with their headings.
COMMON = {"forgetting": "forgetting (loss)", "rigidity": "rigidity"}
# What a method says about its tasks, with headings, shown where a run has it.
MEASURES = {
    "parameter_share": "% parameters",
    "layer_share": "% layers",
    "masked_share": "% masked out",
    "alpha": "alpha",
}
# Settings that change nothing of what is learned.
INDIFFERENT = ("cache", "device", "log_every", "pictures", "resume", "run", "training.workers")


@dataclass(frozen=True)
class Repeats:
    """Runs that differ in their seeds alone.

    Attributes:
        name: what they are called.
        runs: in the order in which they were given.
    """

    name: str
    runs: tuple[Finished, ...]

    @property
    def first(self) -> Finished:
        """The first run, for what all have in common."""
        return self.runs[0]

    def values(self, name: str) -> list[float]:
        """A number of the result, of each run that has it."""
        numbers = [run.result.get(name) for run in self.runs]
        return [value for value in numbers if isinstance(value, int | float) and not math.isnan(value)]

    def of_task(self, task: str, name: str) -> list[float]:
        """A number of a task, of each run that has it."""
        numbers = [run.result["per_task"].get(task, {}).get(name) for run in self.runs]
        return [value for value in numbers if value is not None]

    def shown(self, name: str) -> str:
        """A number of the result as a person reads it: mean ± standard deviation over the runs."""
        return spread(name, self.values(name))


def spread(name: str, values: Sequence[float]) -> str:
    """Mean ± standard deviation (of a sample) of a number as a person reads it; empty of nothing."""
    if len(values) < 2 or len(set(values)) == 1:
        return number(name, values[0]) if values else ""
    middle, deviation = number(name, mean(values)), number(name, float(np.std(values, ddof=1)))
    return f"{middle.removesuffix(' %')} ± {deviation}"


def group_seeds(runs: Sequence[Finished]) -> list[Repeats]:
    """Runs whose configurations differ in seeds alone, together, in the order of their first ones."""
    groups = [[runs[place] for place in places] for places in alike([run.config for run in runs], INDIFFERENT)]
    return [Repeats(_common_name(members), tuple(members)) for members in groups]


def _common_name(runs: Sequence[Finished]) -> str:
    """The run's name; of several what their names begin with, or else that of the folder that all are in."""
    if len(runs) == 1:
        return runs[0].name
    letters = itertools.takewhile(lambda same: len(set(same)) == 1, zip(*(run.name for run in runs), strict=False))
    common = "".join(same[0] for same in letters).rstrip("_-. ").removesuffix("seed").rstrip("_-. ")
    return common or Path(os.path.commonpath([str(run.path.parent) for run in runs])).name


def compare(runs: Sequence[Finished], out: Path, x: str | None = None, pictures: Sequence[str] = ()) -> Path:
    """Write `comparison.html` and `comparison.md` of several runs of one benchmark.

    Args:
        runs: in the order of the rows; those that differ in seeds alone become one row.
        out: folder to write to.
        x: a key of the configuration, or a number of `result.json` such as `parameter_share`; also draw the score
            against it, one curve per method.
        pictures: tasks whose predictions are drawn, where runs have kept some; by default the first ones.

    Raises:
        ValueError: runs of different benchmarks or tasks, no runs, an unknown key or task, or damaged predictions.
    """
    if not runs:
        raise ValueError("there is no run to compare")
    kinds = {(run.result["benchmark"], tuple(sorted(run.result["tasks"]))) for run in runs}
    if len(kinds) > 1:
        raise ValueError(f"the runs are of different benchmarks or tasks: {', '.join(run.name for run in runs)}")
    groups = group_seeds(runs)
    document = Document(f"{runs[0].result['benchmark']}: {len(runs)} runs")
    _table(document, groups)
    _tasks(document, groups)
    if all(len(run.result["matrix"]["loss"]) > 1 for run in runs):
        text = "Mean growth of the test loss of finished tasks"
        text = curves_caption(text, "log of loss in sequence over loss when first", runs)
        picture = png(curves({group.name: group.runs for group in groups}), 110)
        document.figure("comparison", picture, text)
    add_pictures(document, _with_pictures(groups), pictures)
    if x is not None:
        document.figure("sweep", png(sweep(groups, x), 110), f"{runs[0].score} against {x}")
    _relevance(document, groups)
    document.heading("Commands")
    document.code("\n".join(f"{run.versions['command']}  # {run.versions['git_commit'][:12]}" for run in runs))
    return document.write(out, "comparison")


def _with_pictures(groups: Sequence[Repeats]) -> dict[str, Finished]:
    """The first run of each group that has kept predictions, by the group's name; by path where groups share one."""
    names = [group.name for group in groups]
    kept = [next((run for run in group.runs if has_kept(run)), group.first) for group in groups]
    return {name if names.count(name) == 1 else str(run.path): run for name, run in zip(names, kept, strict=True)}


def add_pictures(document: Document, runs: Mapping[str, Finished], tasks: Sequence[str] = ()) -> None:
    """Add the predictions that runs, by name, have kept, if there are any; raises ValueError as `figure_of` does."""
    figure, caption = figure_of({name: read_kept(run) for name, run in runs.items()}, tasks)
    if figure is not None:
        document.figure("pictures", png(figure, 110), caption)


def ranks(groups: Sequence[Repeats]) -> list[float | None]:
    """Average rank of each group over the tasks, by means over seeds; None where there is but one group."""
    if len(groups) < 2:
        return [None] * len(groups)
    kinds = groups[0].first.result["score"]
    scores = {
        str(place): {task: mean(group.of_task(task, score)) for task, score in kinds.items()}
        for place, group in enumerate(groups)
    }
    by_group = average_ranks(scores, groups[0].first.result["higher_is_better"])
    return [by_group[str(place)] for place in range(len(groups))]


def _table(document: Document, groups: Sequence[Repeats]) -> None:
    """One row per setting; ranks among all, and among the first of each method whose rank was published."""
    first = {g.first.result["method"]: g for g in reversed(groups) if "rank" in g.first.published}
    ranked = [group for group in groups if first.get(group.first.result["method"]) is group]
    among = dict(zip([group.name for group in ranked], ranks(ranked), strict=True))
    score = groups[0].first.score
    measures = [name for name in MEASURES if any(group.values(name) for group in groups)]
    rows = []
    for group, rank in zip(groups, ranks(groups), strict=True):
        result, published = group.first.result, group.first.published
        rows.append(
            [
                group.name,
                str(len(group.runs)),
                group.shown(score),
                number("rank", rank),
                number("rank", among.get(group.name) if group in ranked else None),
                number("rank", published.get("rank")),
                number(score, published.get(score)),
                *(group.shown(name) for name in (*COMMON, *measures, "parameters", "bits", "model_size")),
                number("images", result["images"] // len(result["tasks"])),
            ]
        )
    columns = ["run", "seeds", score, "rank", f"rank of {len(ranked)}", "published rank", f"published {score}"]
    columns += [*COMMON.values(), *(MEASURES[name] for name in measures)]
    columns += ["parameters", "bits", "size / base", "examples seen per task"]
    # What no run has (a published number, rigidity, a rank of one) needs no column.
    full = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    document.table([columns[i] for i in full], [[row[i] for i in full] for row in rows])
    if any(rank is not None for rank in among.values()):
        document.paragraph(f"'rank of {len(ranked)}' counts one setting of each method that has a published rank.")
    if any(len(group.runs) > 1 for group in groups):
        document.paragraph("± is the standard deviation over runs that differ in seeds alone.")


def _tasks(document: Document, groups: Sequence[Repeats]) -> None:
    """The score of every task, a row per setting, with the published one in brackets."""
    kinds = groups[0].first.result["score"]
    if len(kinds) < 2:
        return
    document.heading("Tasks")
    rows = []
    for group in groups:
        cells = []
        for task, score in kinds.items():
            published = number(score, group.first.published.get(task))
            cells.append(spread(score, group.of_task(task, score)) + (f" ({published})" if published else ""))
        rows.append([group.name, *cells])
    document.table(["run", *kinds], rows)


def _relevance(document: Document, groups: Sequence[Repeats]) -> None:
    """The base's share that tasks have learned, beside what the base's features alone reach."""
    features = next((group for group in groups if group.first.result["method"] == "features"), None)
    for group in groups:
        score, tasks = group.first.score, group.first.result["tasks"]
        alphas = {task: mean(values) for task in tasks if (values := group.of_task(task, "alpha"))}
        if not alphas:
            continue
        document.heading(f"The base's share: {group.name}")
        if features is None or len(alphas) < 3:
            document.table(["task", "alpha"], [[task, f"{alpha:.3f}"] for task, alpha in alphas.items()])
            continue
        alone = {task: mean(features.of_task(task, score)) for task in alphas}
        rows = [[task, f"{alpha:.3f}", number(score, alone[task])] for task, alpha in alphas.items()]
        document.table(["task", "alpha", f"{score} of features alone"], rows)
        if len(set(alphas.values())) > 1 and len(set(alone.values())) > 1:
            rho = float(scipy.stats.spearmanr(list(alphas.values()), list(alone.values())).statistic)
            document.paragraph(f"Rank correlation of the two (Spearman): {rho:+.2f}.")


def _rigidity_known(runs: Sequence[Finished]) -> bool:
    """Whether any of the runs has trained its tasks first, too."""
    return any(run.result.get("rigidity") is not None for run in runs)


def curves_caption(left: str, right: str, runs: Sequence[Finished]) -> str:
    """Caption of `curves`."""
    return f"{left} (left); {right} (right)." if _rigidity_known(runs) else f"{left}."


def curves(groups: Mapping[str, Sequence[Finished]]) -> Figure:
    """Forgetting, and rigidity where it was measured, against the tasks learned: Figures 5 and 6 of Side-Tuning.

    Args:
        groups: runs that differ in seeds alone, by name; a band around their mean is their standard deviation.
    """
    every = [run for runs in groups.values() for run in runs]
    panels = 2 if _rigidity_known(every) else 1
    figure = Figure(figsize=(5.5 * panels, 3.6), layout="constrained")
    axes = [*figure.subplots(1, panels, squeeze=False)[0]]
    for name, runs in groups.items():
        growths = [_growth(run) for run in runs]
        steps = np.arange(1, 1 + min(map(len, growths)))
        if len(every) == 1:
            for j in range(len(steps)):
                axes[0].plot(steps[j:], growths[0][j:, j], color="#8888aa", linewidth=0.8)
        old = [[0.0, *(mean([v for v in g[i, :i] if not math.isnan(v)]) for i in steps[:-1])] for g in growths]
        _band(axes[0], steps, np.array(old), name)
        ratios = [[run.result["per_task"][t].get("rigidity", math.nan) for t in run.result["tasks"]] for run in runs]
        for axis in axes[1:]:
            _band(axis, steps, np.array(ratios)[:, : len(steps)], name)
    axes[0].set(xlabel="tasks learned", ylabel="growth of loss")
    for axis in axes[1:]:
        axis.set(xlabel="position in the sequence", ylabel="rigidity")
    for axis in axes:
        axis.axhline(0, color="black", linewidth=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=8)
    return figure


def _growth(run: Finished) -> NDArray[np.float64]:
    """Growth of each task's loss since its own training, a row per finished task."""
    losses = run.matrix("loss")
    return losses - np.diag(losses) if losses.shape[0] == losses.shape[1] else losses - losses[0]


def _band(axis: Any, steps: NDArray[np.int64], values: NDArray[np.float64], name: str) -> None:
    """Draw the mean of rows, and their standard deviation as a band."""
    middle = values.mean(0)
    (line,) = axis.plot(steps, middle, label=name, marker="o", markersize=3)
    if len(values) > 1:
        deviation = values.std(0, ddof=1)
        axis.fill_between(steps, middle - deviation, middle + deviation, color=line.get_color(), alpha=0.2)


def sweep(groups: Sequence[Repeats], x: str) -> Figure:
    """The score against a key of the configuration or a number of the result, one curve per method.

    Raises:
        ValueError: a run has neither.
    """
    score = groups[0].first.score
    points: dict[str, list[tuple[Any, float, float]]] = {}
    for group in groups:
        values = group.values(score)
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        points.setdefault(group.first.result["method"], []).append((_abscissa(group, x), mean(values), deviation))
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    for method, own in points.items():
        places, middles, deviations = zip(*sorted(own), strict=True)
        axis.errorbar(places, middles, deviations, marker="o", capsize=2, label=method)
    axis.set(xlabel=x, ylabel=score)
    every = [place for own in points.values() for place, _, _ in own]
    if all(isinstance(v, int | float) and v > 0 for v in every) and max(every) / min(every) > 20:
        axis.set_xscale("log")
    axis.legend(fontsize=8)
    return figure


def _abscissa(group: Repeats, x: str) -> Any:
    value = group.first.config.get(x)
    if value is None and (results := group.values(x)):
        return mean(results)
    if not isinstance(value, int | float | str):
        raise ValueError(f"{group.first.path} has neither a setting nor a result {x!r} to draw against")
    return value
