"""First-order transfer from frozen encoders to tasks: equally trained readouts, compared with constant predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from adapt.core.base import load_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.readouts import ReadoutSettings, compute_codes, decode_and_score, fit_readout, make_decoder
from configs.files import read_json

# The tasks of Side-Tuning's lifelong benchmark, grouped by kin.
ITASKONOMY = (
    "curvature",
    "normal",
    "reshading",
    "depth_zbuffer",
    "depth_euclidean",
    "edge_occlusion",
    "keypoints3d",
    "keypoints2d",
    "edge_texture",
    "autoencoding",
    "segment_semantic",
    "class_object",
)
Gains = dict[str, dict[str, float]]


def transfer_matrix(
    bases: Sequence[str],
    tasks: Sequence[str],
    views: TaskonomyViews,
    held_out: TaskonomyViews,
    settings: ReadoutSettings,
    known: Mapping[str, Mapping[str, float]] | None = None,
) -> Gains:
    """Train and evaluate a readout for every pair.

    Args:
        bases: Names or files of bases.
        tasks: Names of tasks without noise.
        views: What readouts are trained on, with the labels of all tasks.
        held_out: Views to evaluate on.
        settings: The budget of each.
        known: Gains that need not be computed again.

    Returns:
        Per base and task 1 - loss / loss of the constant prediction.
    """
    labels, held_labels = (v.batch(np.arange(len(v))) for v in (views, held_out))
    gains: Gains = {}
    for name in bases:
        gains[name] = dict((known or {}).get(name, {}))
        if all(task in gains[name] for task in tasks):
            continue
        base = load_base(name).to(memory_format=torch.channels_last)
        codes, held_codes = (compute_codes(base, part["rgb"]) for part in (labels, held_labels))
        # In these units every readout learns equally fast: a channel's mean is 0 and its deviation 1.
        axes = (0, *range(2, codes.ndim))
        mean, deviation = codes.mean(axes, keepdim=True), codes.std(axes, keepdim=True).clamp(min=1e-6)
        codes, held_codes = (codes - mean) / deviation, (held_codes - mean) / deviation
        for task in tasks:
            decoder = make_decoder(task, base.feature_shape(views.size), views, settings)
            fit_readout(task, codes, labels, decoder, settings)
            scores = decode_and_score(task, decoder, held_codes, held_labels, settings.scaling)
            gains[name][task] = 1.0 - scores["loss"] / scores["constant"]
    return gains


def known_gains(path: Path, budget: Mapping[str, Any], sha256: Mapping[str, str]) -> tuple[Gains, dict[str, str]]:
    """The gains in a file that were made with this budget, and the sha256 of their bases.

    Those of a base that has other weights now than those in `sha256`, by name, are left out.
    """
    stored = read_json(path, ("budget", "sha256", "gains")) if path.exists() else {}
    if stored.get("budget") != budget:
        return {}, {}
    digests: dict[str, str] = stored["sha256"]
    valid = {name: row for name, row in stored["gains"].items() if sha256.get(name, digests[name]) == digests[name]}
    return valid, {name: digests[name] for name in valid}


def column_correlation(gains: Gains, first: str, second: str) -> float:
    """Task affinity: Pearson's correlation of two tasks' columns."""
    columns = np.array([[row[first], row[second]] for row in gains.values()])
    return float(np.corrcoef(columns.T)[0, 1])


def draw(gains: Gains, tasks: Sequence[str], path: Path) -> None:
    """Write the heat map: numbers are gains in percent, colours the share of the column's best."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    values: NDArray[np.float64] = np.array([[row[task] for task in tasks] for row in gains.values()])
    shares = values / np.maximum(values.max(axis=0), 1e-6)
    figure, axes = pyplot.subplots(figsize=(1.6 + 0.62 * len(tasks), 1.4 + 0.36 * len(gains)), dpi=100)
    axes.imshow(shares.clip(0.0, 1.0), cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color="w" if shares[i, j] < 0.6 else "k")
    axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right")
    axes.set_yticks(range(len(gains)), [Path(name).stem for name in gains])
    axes.set_xlabel("task of the readout")
    axes.set_ylabel("frozen base")
    axes.set_title("Loss taken away from the constant prediction, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pil_kwargs={"optimize": True})
    pyplot.close(figure)
