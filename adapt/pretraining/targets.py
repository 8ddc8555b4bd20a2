"""Training targets of the Taskonomy tasks, computed once per view, and their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from adapt.pretraining.decoders import WIDTH
from adapt.pretraining.tasks import SCALINGS, Labels, TaskonomyTask
from configs.settings import Count, OneOf, Settings

# Classes rarer than this share of the labels count as if they were this frequent.
RAREST = 2e-4


@dataclass(frozen=True)
class TaskTraining(Settings):
    """Training settings of one task.

    Attributes:
        label_size: Pixels per side of the decoded labels.
        decoder_width: Channels of its light decoder.
        scaling: How label values become targets, out of `adapt.pretraining.tasks.SCALINGS`.
        balance: Power of a class's frequency by which its labels are divided in the loss: 0 for the task's own
            weights, 1 for classes that all count the same.
        every: The task is trained in every n-th step.
    """

    label_size: Count = 8
    decoder_width: int = WIDTH
    scaling: Annotated[str, OneOf(*SCALINGS)] = "side_tuning"
    balance: float = 0.0
    every: Count = 1


def class_weights(task: TaskonomyTask, labels: Labels, plan: TaskTraining) -> Tensor:
    """(classes,) float weights of a task's classes in the loss, with mean 1 over the given labels.

    Args:
        task: A segmentation or classification.
        labels: Stored labels of some hundred views.
        plan: How the task is trained.
    """
    target, _ = targets_of(task, labels, plan, None)
    classes = task.classes(plan.scaling)
    if task.kind == "classification":
        target = target.argmax(1)
    counts = torch.bincount(target[target >= 0].flatten(), minlength=classes).float()
    share = (counts / counts.sum()).clamp(min=RAREST)
    weight = share**-plan.balance
    return weight / (weight * counts / counts.sum()).sum()


def targets_of(
    task: TaskonomyTask, labels: Labels, plan: TaskTraining, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Targets and how much they count.

    Args:
        task: The task.
        labels: A batch of stored labels by domain.
        plan: How the task is trained.
        weights: (classes,) as `class_weights` gives them; None for ones.

    Returns:
        Images: (B,C,s,s) float and (B,1,s,s) float, 1 where the label is valid. Segmentations: (B,s,s) int64 classes
        and (B,s,s) float, 0 where the class is not learnt. Classifications: (B,classes) float and (B,) float.
    """
    if task.kind == "segmentation":
        target = task.class_target(labels, plan.scaling, plan.label_size)
        known = (target >= 0).float()
        return target, known if weights is None else known * weights[target.clamp(min=0)]
    if task.kind == "classification":
        target = task.target(labels, plan.scaling)
        known = (target.amax(1) > target.amin(1)).float()
        return target, known if weights is None else known * weights[target.argmax(1)]
    return task.image_target(labels, plan.scaling, plan.label_size)


def training_loss(task: TaskonomyTask, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean loss, a scalar, for outputs (B,C,s,s) or (B,classes) and what `targets_of` gives."""
    if task.kind == "segmentation":
        error = functional.cross_entropy(output, target.clamp(min=0), reduction="none")
    elif task.kind == "classification":
        error = functional.cross_entropy(output, target, reduction="none")
    else:
        difference = output - target
        error = (difference.abs() if task.kind == "l1" else difference * difference).mean(1, keepdim=True)
    return (weight * error).sum() / weight.sum().clamp(min=1e-6)


def mirrored(name: str, target: Tensor) -> Tensor:
    """A target of the picture mirrored left to right; of normals the x component changes sign."""
    if target.ndim < 3:
        return target
    flipped = target.flip(-1)
    if name == "normal":
        flipped = torch.cat([-flipped[:, :1], flipped[:, 1:]], dim=1)
    return flipped
