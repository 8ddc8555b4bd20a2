"""Pictures of a report as PNG bytes: learning curves and paths seen from above, on a transparent ground."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from scipy import ndimage

from adapt.supervised.page import png
from adapt.training.seeds import Estimate
from agents.evaluation.statistics import Summary

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008) and show on light and dark ground.
AGENT, EXPERT, GOAL, START = "#0072B2", "#E69F00", "#009E73", "#FFFFFF"
FLOOR, WALL, SCALE_BAR = (242, 239, 230, 255), (74, 84, 97, 255), "#8A94A0"
WALL_METRES = 0.25
LARGEST_CORE = 6.0  # square metres: a larger hole in the floor is no furniture but another room or a yard
SERIES = {"train": "#3B8FD1", "val": "#E0702A"}
SMOOTHED_FROM = 40
SIDE_BY_SIDE = 1.04  # factor between the places of lines at one number, so that intervals do not hide each other
# Of lines that are distinguished by name (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A94A0")


@dataclass(frozen=True)
class Theme:
    """Ink for text and lines of a figure."""

    ink: str
    faint: str


LIGHT = Theme("#3A434E", "#DDE2E8")
DARK = Theme("#C3CBD5", "#333C47")


@dataclass(frozen=True)
class Curve:
    """One line of a learning curve: its series (``train``, ``val``); steps, minutes and values, all (T,)."""

    series: str
    steps: NDArray[np.float64]
    minutes: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Means with their intervals.

    Attributes:
        name: For the legend.
        x: (N,) rising places.
        y: The N means.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Estimate | Summary]


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred running mean over 5% of a long series, fewer at its ends; short series as they are."""
    if len(values) < SMOOTHED_FROM:
        return values
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def draw_curves(curves: Sequence[Curve], theme: Theme, rate: bool = False) -> bytes:
    """Learning curves of one measure over steps (below) and minutes (above), as a PNG; a rate spans 0 to 1."""
    figure = Figure(figsize=(4.2, 2.7), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        colour = SERIES.get(curve.series, theme.ink)
        marks = "o" if len(curve.steps) < SMOOTHED_FROM else None
        if marks is None:
            axes.plot(curve.steps, curve.values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(curve.steps, smooth(curve.values), color=colour, linewidth=1.8, marker=marks, markersize=3.5)
    axes.margins(x=0.02)
    if rate:
        axes.set_ylim(-0.02, 1.02)
    _plain(axes, theme)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.set_xlabel("step", color=theme.ink, fontsize=9)
    _minutes_above(axes, max(curves, key=lambda c: len(c.steps)), theme)
    return png(figure, 150, transparent=True)


def draw_lines(lines: Sequence[Line], theme: Theme, x: str, y: str) -> bytes:
    """Means with intervals against a positive number, logarithmic, side by side where they meet, as a PNG."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    ticks = sorted({place for line in lines for place in line.x})
    for number, (colour, line) in enumerate(zip(itertools.cycle(COLOURS), lines, strict=False)):
        places = [place * SIDE_BY_SIDE ** (number - (len(lines) - 1) / 2) for place in line.x]
        means = [value.mean for value in line.y]
        axes.errorbar(places, means, _whiskers(line.y), color=colour, label=line.name, marker="o", capsize=3)
    _plain(axes, theme)
    axes.set_xscale("log")
    axes.set_xlim(ticks[0] / 1.5, ticks[-1] * 1.5)
    axes.set_xticks(ticks, [f"{place:,g}" for place in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x, color=theme.ink, fontsize=9)
    axes.set_ylabel(y, color=theme.ink, fontsize=9)
    axes.legend(fontsize=8, labelcolor=theme.ink, frameon=False)
    return png(figure, 150, transparent=True)


def draw_bars(names: Sequence[str], values: Sequence[Estimate | Summary], theme: Theme, x: str) -> bytes:
    """A bar with its interval for each name, as a PNG."""
    figure = Figure(figsize=(7.0, 0.9 + 0.28 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    means = [value.mean for value in values]
    axes.barh(places, means, xerr=_whiskers(values), color=AGENT, ecolor=theme.ink, capsize=2, height=0.65)
    _plain(axes, theme)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel(x, color=theme.ink, fontsize=9)
    return png(figure, 150, transparent=True)


def _whiskers(values: Sequence[Estimate | Summary]) -> NDArray[np.float64]:
    """(2, N) lengths of the intervals below and above the means; 0 where there is none."""
    lengths = np.array([[value.mean - value.low, value.high - value.mean] for value in values]).T
    return np.nan_to_num(np.maximum(lengths, 0.0))


def _plain(axes: Axes, theme: Theme) -> None:
    axes.grid(color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, labelsize=9, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(value: float, _: Any) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _minutes_above(axes: Axes, curve: Curve, theme: Theme) -> None:
    """A second x axis with the time at which a step was reached."""
    ticks = MaxNLocator(5).tick_values(curve.minutes[0], curve.minutes[-1])
    ticks = ticks[(ticks >= curve.minutes[0]) & (ticks <= curve.minutes[-1])]
    above = axes.secondary_xaxis("top")
    above.set_xticks(np.interp(ticks, curve.minutes, curve.steps), [f"{t:g}" for t in ticks])
    above.set_xlabel("minutes", color=theme.ink, fontsize=9)
    above.tick_params(colors=theme.ink, labelsize=9, length=0)
    above.spines["top"].set_visible(False)


def floor_plan(navigable: NDArray[np.bool_], cell: float) -> NDArray[np.uint8]:
    """(H, W, 4) uint8: floor light, walls and furniture dark, what lies outside transparent."""
    border = max(1, round(WALL_METRES / cell))
    near = ndimage.binary_dilation(navigable, iterations=border)
    gaps, count = ndimage.label(ndimage.binary_fill_holes(near) & ~near)
    small = np.bincount(gaps.ravel(), minlength=count + 1) * cell**2 < LARGEST_CORE
    inside = near | ((gaps > 0) & small[gaps])
    out = np.zeros((*navigable.shape, 4), np.uint8)
    out[inside] = WALL
    out[navigable] = FLOOR
    return out


def draw_top_down(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The agent's path and the expert's on the floor plan, north (-Z) up, as a PNG.

    Args:
        arrays: ``navigable`` (rows z, columns x) bool, ``origin`` (2,) of the corner of cell [0, 0], ``cell``,
            ``agent_path`` (T, 2), ``expert_path`` (K, 2), ``start`` (2,) and ``goal`` (2,): x and z in metres.
    """
    cell, (x, z) = float(arrays["cell"]), arrays["origin"]
    border = round(2 * WALL_METRES / cell)
    plan = floor_plan(np.pad(arrays["navigable"].astype(bool), border), cell)
    x, z = x - border * cell, z - border * cell
    height, width = plan.shape[0] * cell, plan.shape[1] * cell
    tall = 3.6 * min(max(height / width, 0.5), 1.0) + 0.2
    figure = Figure(figsize=(3.6, tall))
    axes = figure.add_axes((0.0, 0.2 / tall, 1.0, 1 - 0.2 / tall))
    axes.imshow(plan, extent=(x, x + width, z + height, z), interpolation="nearest")
    casing = [withStroke(linewidth=3.6, foreground="white")]
    expert, agent = arrays["expert_path"], arrays["agent_path"]
    axes.plot(expert[:, 0], expert[:, 1], color=EXPERT, linewidth=4.5, alpha=0.9, solid_capstyle="round")
    axes.plot(agent[:, 0], agent[:, 1], color=AGENT, linewidth=1.8, path_effects=casing, solid_joinstyle="round")
    axes.plot(*arrays["start"], "o", color=START, markeredgecolor=AGENT, markeredgewidth=2, markersize=9)
    axes.plot(*agent[-1], "o", color=AGENT, markeredgecolor="white", markeredgewidth=1, markersize=8)
    axes.plot(*arrays["goal"], "*", color=GOAL, markeredgecolor="white", markeredgewidth=1, markersize=17)
    axes.set_axis_off()
    _scale_bar(axes, x + border * cell, z + height, width)
    return png(figure, 140, transparent=True)


def _scale_bar(axes: Axes, left: float, bottom: float, width: float) -> None:
    """A bar of 1, 2 or 5 metres under the plan."""
    metres = max((m for m in (1, 2, 5) if m <= width / 4), default=1)
    axes.plot([left, left + metres], [bottom, bottom], color=SCALE_BAR, linewidth=2.5, clip_on=False)
    axes.text(left + metres + width / 50, bottom, f"{metres} m", color=SCALE_BAR, fontsize=9, va="center")
