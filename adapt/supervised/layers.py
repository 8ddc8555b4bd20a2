"""Relative change of each layer of the base by each task of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure

from adapt.core.base import Base
from adapt.core.deltas import DeltaMethod, as_layer, weighted_layers
from adapt.core.method import Method
from adapt.methods.piggyback import Mask, Piggyback
from adapt.methods.taps import TAPS
from adapt.supervised.page import png
from adapt.supervised.saved import saved_methods
from configs.writing import write_atomically

MEANINGS = {
    "taps": "layers that the task changes",
    "piggyback": "share of the weights that the mask removes",
}
RELATIVE = "size of the change, relative to that of the weights"


def changed_layers(method: Method) -> dict[str, float]:
    """Relative change of each layer by a task, in the base's order.

    Args:
        method: the task's method, one that changes weights.

    Returns:
        By layer: for TAPS 1 or 0; for Piggyback the share of weights with mask 0; for all others |W' - W| / |W|.

    Raises:
        ValueError: the method does not change the base's weights layer by layer.
    """
    if isinstance(method, TAPS):
        return {name: float(gate.active) for name, gate in method.gates().items()}
    if isinstance(method, Piggyback):
        masks = {as_layer(key): mask for key, mask in method.deltas.items() if isinstance(mask, Mask)}
        return {name: float((mask.mask() == 0).float().mean()) for name, mask in masks.items()}
    if not isinstance(method, DeltaMethod):
        raise ValueError(f"{method.name()} does not change the base layer by layer; give a run of taps or piggyback")
    with torch.no_grad():
        tensors = method.task_tensors()
    changes = {}
    for name, layer in weighted_layers(method.base.encoder).items():
        before, after = layer.weight.detach(), tensors[f"{name}.weight"]
        changes[name] = float((after - before).norm() / before.norm().clamp(min=1e-12))
    return changes


def share_of_parameters(method: Method, changes: Mapping[str, float]) -> float:
    """Sum of the layers' changes, weighted by their numbers of weights."""
    sizes = {name: layer.weight.numel() for name, layer in weighted_layers(method.base.encoder).items()}
    return sum(sizes[name] * change for name, change in changes.items()) / sum(sizes[name] for name in changes)


def run_changes(run: Path, base: Base) -> tuple[str, dict[str, dict[str, float]], dict[str, float]]:
    """The changes of all tasks of a finished run.

    Args:
        run: its folder.
        base: the base that it was trained on.

    Returns:
        The method's name, the changes by task and layer, and per task their mean weighted by the layers' sizes.

    Raises:
        FileNotFoundError: the run has not finished.
        ValueError: the base is another, or the method is not one that changes weights.
    """
    methods = saved_methods(run, base)
    changes = {task: changed_layers(method) for task, method in methods.items()}
    shares = {task: share_of_parameters(method, changes[task]) for task, method in methods.items()}
    return next(iter(methods.values())).name(), changes, shares


def draw(method: str, changes: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write a PNG: a row per task, a column per layer, dark where the task changes much.

    Raises:
        OSError: it cannot be written.
    """
    layers = list(next(iter(changes.values())))
    values = [[task[layer] for layer in layers] for task in changes.values()]
    largest = max(1e-9, *(value for row in values for value in row))
    figure = Figure(figsize=(2.5 + 0.18 * len(layers), 2.2 + 0.3 * len(changes)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=1 if method == "taps" else largest, edgecolors="0.85")
    axes.set_yticks([place + 0.5 for place in range(len(changes))], list(changes))
    axes.set_xticks([place + 0.5 for place in range(len(layers))], layers, rotation=90, fontsize=6)
    axes.invert_yaxis()
    axes.set_title(MEANINGS.get(method, RELATIVE), fontsize=9)
    if method != "taps":
        figure.colorbar(image, ax=axes)
    write_atomically(path, png(figure, 130))
