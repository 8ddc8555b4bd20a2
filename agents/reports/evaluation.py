"""HTML report of one evaluated run, and its table for the terminal.

Every number is computed from the records of single episodes; a report needs no network: pictures, film and styles lie
inside it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from adapt.supervised.page import template
from agents.evaluation.statistics import Record, by_detour, by_scene, difference, summarise
from agents.reports.figures import DARK, LIGHT, Curve, draw_curves, draw_top_down
from agents.reports.files import read_top_down
from agents.reports.page import NAMES, Cell, cell
from agents.reports.results import EvaluationReport, read_results
from configs.writing import write_atomically

# Learning curves to show, most telling first; other keys of metrics.jsonl are left to TensorBoard.
CURVES = {
    "success": "Success",
    "spl": "SPL",
    "nav_reward": "Reward per episode",
    "accuracy": "Agreement with the expert",
    "loss": "Loss",
    "beta": "Share of expert steps",
    "distance_to_goal": "Distance to goal (m)",
    "policy_gradient_loss": "Policy gradient loss",
    "value_loss": "Value loss",
    "entropy_loss": "Entropy loss",
}
RATES = ("success", "spl", "accuracy", "beta")
MOST_CURVES = 6
MOST_PATHS = 6
LABELS = {
    "blind": ("Blind", "trained the same way, without pictures"),
    "random": ("Random", "uniform actions"),
    "expert": ("Expert", "follows the shortest path"),
}
TERMINAL_WIDTH = 110


@dataclass(frozen=True)
class _Panel:
    """A learning curve, drawn for light and dark ground."""

    title: str
    series: tuple[str, ...]
    text: str
    light: str
    dark: str


@dataclass(frozen=True)
class _Path:
    """One episode seen from above."""

    image: str
    scene: str
    episode: str
    success: bool
    spl: float


def write_report(run: Path, split: str = "val") -> Path:
    """Write ``report.html`` into a run folder that was evaluated on `split`.

    What else is absent there (learning curve, film, paths, versions) is said so in the page.

    Returns:
        The file, replaced in one step.

    Raises:
        FileNotFoundError: There is no such run, or no evaluation of it.
        ValueError: A file in the run folder is damaged.
        OSError: The page could not be written; an older one is undamaged.
    """
    report = read_results(run, split)
    file = run / "report.html"
    write_atomically(file, render(report).encode())
    return file


def render(report: EvaluationReport) -> str:
    """The page as HTML."""
    agent = report.rows["agent"]
    summaries = {name: summarise(records) for name, records in report.rows.items()}
    task = report.task
    return template("report.html.j2", "agents.reports").render(
        report=report,
        title=report.path.resolve().name,
        headline=summaries["agent"],
        reached=sum(1 for r in agent if r["success"]),
        gain=_gain(report),
        columns=NAMES,
        rows=[
            (*_label(name, report.choices), len(report.rows[name]), [cell(m, of[m]) for m in NAMES])
            for name, of in summaries.items()
        ],
        uneven=len({len(records) for records in report.rows.values()}) > 1,
        bands=_bands(agent, report.rows.get("blind", [])),
        scenes=by_scene(agent),
        panels=_panels(report.metrics),
        paths=[_path(file) for file in report.top_downs[:MOST_PATHS]],
        video=_video(report.video),
        success_distance=task.get("success_distance", 0.2),
        max_steps=task.get("max_steps", 500),
        detour=report.geodesic == "detour",
        automatic_stop=task.get("variant") == "side_tuning",
        seconds=report.numbers.get("seconds"),
    )


def _label(name: str, choices: Mapping[str, str]) -> tuple[str, str]:
    """Name of a row, and what it is."""
    if name == "agent":
        return "Agent", ", ".join(choices[group] for group in ("adapt", "base", "algo") if group in choices)
    return LABELS.get(name, (name, ""))


def _bands(agent: Sequence[Record], blind: Sequence[Record]) -> list[tuple[str, str, int, list[Cell | None]]]:
    """Per band of detour ratio: name, hint, number of episodes, success and SPL, the blind one's success."""
    others = {band.lower: band.success for band in by_detour(blind)}
    table = []
    for band in by_detour(agent):
        cells: list[Cell | None] = [cell("success", band.success), cell("spl", band.spl)]
        if blind:
            cells.append(cell("success", others[band.lower]) if band.lower in others else None)
        table.append((*_band_name(band.lower, band.upper), band.success.episodes, cells))
    return table


def _band_name(lower: float, upper: float) -> tuple[str, str]:
    """Name of a band of detour ratios, and what it feels like."""
    if lower <= 1.0:
        return f"below {upper:g}", "nearly straight"
    return (f"{lower:g} or more", "a long way round") if upper == float("inf") else (f"{lower:g} to {upper:g}", "")


def _gain(report: EvaluationReport) -> Cell | None:
    """How much success the agent owes to seeing: the paired difference to the blind one."""
    if "blind" not in report.rows:
        return None
    gain = difference(report.rows["agent"], report.rows["blind"], "success")
    return None if gain is None else cell("success", gain)


# -- pictures ---------------------------------------------------------------------------------------------------


def _data(kind: str, content: bytes) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def _video(file: Path | None) -> tuple[str, Markup] | None:
    """MIME type and data address of the film."""
    if file is None:
        return None
    kind = "video/mp4" if file.suffix == ".mp4" else "image/gif"
    return kind, _data(kind, file.read_bytes())


def _curves(metrics: Sequence[Mapping[str, float]], measure: str) -> list[Curve]:
    """All series of one measure (``train/success`` and ``val/success``) with at least two points."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for line in metrics:
        for key, value in line.items():
            series, _, name = key.rpartition("/")
            if name == measure:
                curves.setdefault(series, []).append((line["step"], line.get("seconds", 0.0) / 60, value))
    return [Curve(s, *np.array(points, np.float64).T) for s, points in curves.items() if len(points) > 1]


def _panels(metrics: Sequence[Mapping[str, float]]) -> list[_Panel]:
    panels: list[_Panel] = []
    for measure, title in CURVES.items():
        curves = _curves(metrics, measure)
        if curves and len(panels) < MOST_CURVES:
            text = f"{title} over steps and minutes; at the end " + ", ".join(
                f"{c.series or 'train'} {c.values[-1]:.3g}" for c in curves
            )
            images = [_data("image/png", draw_curves(curves, theme, measure in RATES)) for theme in (LIGHT, DARK)]
            panels.append(_Panel(title, tuple(c.series for c in curves), text, *images))
    return panels


def _path(file: Path) -> _Path:
    """Draw one ``topdown_*.npz``.

    Raises:
        ValueError: The file is damaged.
    """
    arrays = read_top_down(file)
    image = _data("image/png", draw_top_down(arrays))
    scene, episode = str(arrays["scene_id"]), str(arrays["episode_id"])
    return _Path(image, scene, episode, bool(arrays["success"]), float(arrays["spl"]))


# -- the terminal -----------------------------------------------------------------------------------------------


def terminal_table(rows: Mapping[str, Sequence[Record]]) -> str:
    """Table of means with 95% confidence intervals, one line per row, as text to print.

    Args:
        rows: Records per episode by row name (``agent``, ``blind``, ...).
    """
    measures = ("success", "spl", "soft_spl", "distance_to_goal", "nav_reward")
    table = Table(caption="mean [95% confidence interval, scenes resampled]", caption_justify="left")
    table.add_column("")
    for measure in measures:
        table.add_column(NAMES[measure], justify="right")
    table.add_column("Episodes", justify="right")
    for name, records in rows.items():
        summaries = summarise(records, measures)
        cells = [cell(m, summaries[m]) for m in measures]
        table.add_row(
            _label(name, {})[0], *(f"{c.mean}\n[dim]\\[{c.low}, {c.high}][/]" for c in cells), str(len(records))
        )
    console = Console(width=TERMINAL_WIDTH, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
