"""The page of a study: its tables and figures, from the runs that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapt.supervised.page import Document
from adapt.training.seeds import Estimate
from agents.evaluation.statistics import Summary
from agents.reports.figures import DARK, LIGHT, Line, Theme, draw_bars, draw_lines
from agents.reports.page import KICKER, NAMES
from agents.reports.repeats import MEASURES, Repeats, mean_cells, mean_heads, versus_cells
from agents.reports.results import read_results
from agents.studies.plans import BASE, METHOD, SCRATCH, SIZE, STUDIES, TRAJECTORIES, Label, Study, StudySettings
from agents.studies.runner import jobs

PAGE = "study"
NOTE = (
    "Held-out apartments. Means over seeds with two 95% confidence intervals: Student's over seeds (where there are "
    "two or more), and a bootstrap over scenes, then episodes, whose outcomes are averaged over the seeds. "
)


def finished(settings: StudySettings) -> tuple[list[dict[str, Label]], list[Repeats]]:
    """Labels and evaluated runs of every variant that has any."""
    runs_by_variant: dict[str, tuple[dict[str, Label], list[Path]]] = {}
    for job in jobs(settings):
        if job.evaluated:
            runs_by_variant.setdefault(job.variant.name, (dict(job.variant.labels), []))[1].append(job.folder)
    labels = [own for own, _ in runs_by_variant.values()]
    groups = [Repeats(name, tuple(map(read_results, runs))) for name, (_, runs) in runs_by_variant.items()]
    return labels, groups


def write_page(settings: StudySettings, command: str) -> Path | None:
    """Write ``study.html``, ``study.md`` and the figures into the study's folder.

    Args:
        settings: Of the study.
        command: That makes the study.

    Returns:
        The page; None if no agent was evaluated yet.
    """
    labels, groups = finished(settings)
    if not groups:
        return None
    study = STUDIES[settings.name]
    missing = len(jobs(settings)) - sum(len(group.reports) for group in groups)
    document = Document(study.title, KICKER)
    document.paragraph(NOTE + (f"{missing} agents of this study are not there yet." if missing else ""))
    _add_figures(document, study, labels, groups)
    _add_means(document, study, labels, groups)
    _add_differences(document, labels, groups)
    document.heading("Commands")
    trainings = dict.fromkeys(str(r.trained.get("command", "")) for g in groups for r in g.reports)
    document.code("\n".join([command, *trainings]))
    return document.write(Path(settings.out), PAGE)


def _add_means(
    document: Document, study: Study, labels: Sequence[Mapping[str, Label]], groups: Sequence[Repeats]
) -> None:
    names = list(labels[0])
    head = [*names, *mean_heads(MEASURES, MEASURES)]
    published = study.published or {}
    if published:
        head += ["Reward, paper"]
    rows = []
    for own, group in zip(labels, groups, strict=True):
        row = [*(str(own[name]) for name in names), *mean_cells(group, MEASURES, MEASURES)]
        if published:
            printed = [published.get((str(own.get(METHOD)), base)) for base in _bases(own)]
            row += [", ".join(f"{reward:.1f}" for reward in dict.fromkeys(printed) if reward is not None)]
        rows.append(row)
    document.heading("Means")
    document.table(head, rows, len(names))


def _bases(own: Mapping[str, Label]) -> list[str]:
    """The columns of the paper that a row stands beside: from scratch both are one."""
    return [str(own[BASE])] if own.get(BASE) else ["curvature", "denoising"]


def _add_differences(document: Document, labels: Sequence[Mapping[str, Label]], groups: Sequence[Repeats]) -> None:
    """Differences from learning from scratch on as many trajectories."""
    pairs = list(zip(labels, groups, strict=True))
    scratch = {own.get(TRAJECTORIES): group for own, group in pairs if own.get(METHOD) == SCRATCH}
    rows = []
    for own, group in pairs:
        other = scratch.get(own.get(TRAJECTORIES))
        if other is None or other is group:
            continue
        row = [str(label) for label in own.values()]
        for measure in ("success", "spl"):
            row += versus_cells(group, other, measure)
        rows.append(row)
    if not rows:
        return
    head = list(labels[0])
    for measure in ("success", "spl"):
        head += [f"{NAMES[measure]} (seeds)", "p, t", "(scenes)", "p, signed rank"]
    document.heading("Difference from scratch")
    document.paragraph(
        "Paired by seed and by episode; p of Student's paired t test over seeds, of Wilcoxon's test over scenes."
    )
    document.table(head, rows, len(labels[0]))


def _add_figures(
    document: Document, study: Study, labels: Sequence[Mapping[str, Label]], groups: Sequence[Repeats]
) -> None:
    against = f" against {study.axis}" if study.axis else ""
    for measure in MEASURES:
        light, dark = (_draw(study, labels, groups, measure, theme) for theme in (LIGHT, DARK))
        document.figure(f"{PAGE}_{measure}", light, f"{NAMES[measure]}{against}, with 95% intervals", dark)


def _interval(group: Repeats, measure: str) -> Estimate | Summary:
    """Over seeds where there are several, else over scenes."""
    return group.over_seeds(measure) if len(group.reports) > 1 else group.over_scenes(measure)


def _draw(
    study: Study, labels: Sequence[Mapping[str, Label]], groups: Sequence[Repeats], measure: str, theme: Theme
) -> bytes:
    estimates = [_interval(group, measure) for group in groups]
    if study.axis != TRAJECTORIES:
        names = [" ".join(str(own[key]) for key in (SIZE, METHOD, BASE) if own.get(key)) for own in labels]
        return draw_bars(names, estimates, theme, NAMES[measure])
    lines: dict[str, list[tuple[float, Estimate | Summary]]] = {}
    for own, estimate in zip(labels, estimates, strict=True):
        name = " ".join(str(own[key]) for key in (METHOD, BASE) if own[key])
        lines.setdefault(name, []).append((float(own[TRAJECTORIES]), estimate))
    drawn = []
    for name, points in lines.items():
        places, values = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        drawn.append(Line(name, places, values))
    return draw_lines(drawn, theme, TRAJECTORIES, NAMES[measure])
