"""Evaluated runs that differ in their seeds alone, as one: intervals over seeds and over scenes, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.training.seeds import Difference, Estimate, alike, flat, over_seeds, paired_difference, signed_rank
from agents.evaluation.statistics import Record, Summary, by_scene, difference, summarise
from agents.reports.page import DIGITS, NAMES
from agents.reports.results import EvaluationReport

MEASURES = ("success", "spl", "nav_reward")


@dataclass(frozen=True)
class Versus:
    """Paired difference of two settings.

    Attributes:
        seeds: Over the seeds that both have, run by run.
        scenes: Over scenes, then episodes, by bootstrap of the means over seeds; None without common episodes.
        signed_rank: p-value of Wilcoxon's signed-rank test over the means of scenes.
    """

    seeds: Difference
    scenes: Summary | None
    signed_rank: float


@dataclass(frozen=True)
class Repeats:
    """Runs that differ in seeds alone.

    Attributes:
        name: What they are called.
        reports: One evaluation for each seed.
    """

    name: str
    reports: tuple[EvaluationReport, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds, in the order of the runs; -1 where a run has none."""
        return [int(report.trained.get("seed", -1)) for report in self.reports]

    def values(self, measure: str) -> list[float]:
        """The mean of a measure for each seed."""
        return [float(np.mean([r[measure] for r in report.rows["agent"]])) for report in self.reports]

    def over_seeds(self, measure: str) -> Estimate:
        """The mean of a measure with its interval over seeds."""
        return over_seeds(self.values(measure))

    def over_scenes(self, measure: str) -> Summary:
        """The mean of a measure with its interval over scenes and episodes, those of all seeds averaged."""
        return summarise(self.episodes((measure,)), (measure,))[measure]

    def episodes(self, measures: Sequence[str] = MEASURES) -> list[Record]:
        """Every episode that all seeds ran, its measures averaged over them."""
        by_seed = [{(r["scene_id"], r["episode_id"]): r for r in report.rows["agent"]} for report in self.reports]
        common = [key for key in by_seed[0] if all(key in other for other in by_seed)]
        return [
            {
                "scene_id": scene,
                "episode_id": episode,
                **{m: float(np.mean([rows[scene, episode][m] for rows in by_seed])) for m in measures},
            }
            for scene, episode in common
        ]

    def train_seconds(self) -> float | None:
        """Mean time of training, if every run has it."""
        seconds = [report.numbers.get("train_seconds") for report in self.reports]
        return float(np.mean([float(s) for s in seconds if s is not None])) if None not in seconds else None

    def versus(self, other: Repeats, measure: str) -> Versus:
        """Difference to another setting, paired by seeds and by episodes."""
        own, theirs = (dict(zip(r.seeds, r.values(measure), strict=True)) for r in (self, other))
        common = [seed for seed in own if seed in theirs]
        episodes = self.episodes((measure,)), other.episodes((measure,))
        means = [{s: row[measure] for s, row in by_scene(e, (measure,)).items()} for e in episodes]
        scenes = [s for s in means[0] if s in means[1]]
        return Versus(
            paired_difference([own[s] for s in common], [theirs[s] for s in common]),
            difference(*episodes, measure),
            signed_rank([means[0][s] for s in scenes], [means[1][s] for s in scenes]),
        )


def group_seeds(reports: Sequence[EvaluationReport]) -> list[Repeats]:
    """Runs whose settings differ in seeds alone, together, in the order of their first ones."""
    groups = alike([flat(report.settings) for report in reports])
    return [Repeats(str(reports[places[0]].path), tuple(reports[p] for p in places)) for places in groups]


def shown(measure: str, estimate: Estimate | Summary, signed: bool = False) -> str:
    """A mean and its interval as a person reads them; the mean alone where there is no interval."""
    form = f"{{:{'+' if signed else ''}.{DIGITS[measure]}f}}"
    mean, low, high = (form.format(value) for value in (estimate.mean, estimate.low, estimate.high))
    return mean if np.isnan(estimate.low) else f"{mean} [{low}, {high}]"


def shown_p(p: float) -> str:
    """A p-value as a person reads it; empty where there is none."""
    return "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def mean_heads(over_seeds: Sequence[str], over_scenes: Sequence[str]) -> list[str]:
    """Headings of `mean_cells`."""
    seeds, scenes = [f"{NAMES[m]} (seeds)" for m in over_seeds], [f"{NAMES[m]} (scenes)" for m in over_scenes]
    return ["seeds", *seeds, *scenes, "training (s)"]


def mean_cells(group: Repeats, over_seeds: Sequence[str], over_scenes: Sequence[str]) -> list[str]:
    """The seeds, means of measures with intervals over seeds and over scenes, and mean seconds of training."""
    seeds = [shown(m, group.over_seeds(m)) for m in over_seeds]
    scenes = [shown(m, group.over_scenes(m)) for m in over_scenes]
    seconds = group.train_seconds()
    return [", ".join(map(str, group.seeds)), *seeds, *scenes, "" if seconds is None else f"{seconds:.0f}"]


def versus_cells(group: Repeats, other: Repeats, measure: str) -> list[str]:
    """The difference from another setting: over seeds, p (t), over scenes, p (signed rank)."""
    versus = group.versus(other, measure)
    return [
        shown(measure, versus.seeds.estimate, signed=True) if versus.seeds.estimate.count else "",
        shown_p(versus.seeds.p),
        "" if versus.scenes is None else shown(measure, versus.scenes, signed=True),
        shown_p(versus.signed_rank),
    ]
