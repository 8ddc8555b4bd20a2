"""Short training runs on random images, for the tests of methods."""

from __future__ import annotations

import torch
from tiny_networks import SIZE, make_images
from torch import Tensor, nn

from adapt import Adapted, Base
from adapt.core.base import random_base

LABELS = torch.arange(6) % 3


def residual_base() -> Base:
    """A narrow ResNet-26 whose statistics are not at their initial values."""
    base = random_base("resnet26", seed=3, width=0.25)
    base.encoder.train()
    with torch.no_grad():
        base.encoder(torch.randn(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    base.encoder.eval()
    return base


def task_loss(features: Tensor, labels: Tensor) -> Tensor:
    pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
    return nn.functional.cross_entropy(pooled[:, :3], labels)


def train(adapted: Adapted, steps: int = 3, **options: float) -> None:
    """Train the active task with momentum and decay, which would move anything that is frozen by zero gradients."""
    torch.manual_seed(0)
    adapted.train()
    optimiser = torch.optim.SGD(adapted.parameters(), lr=0.05, momentum=0.9, weight_decay=options.get("decay", 0.1))
    for _ in range(steps):
        optimiser.zero_grad()
        (task_loss(adapted(make_images()), LABELS) + adapted.penalty()).backward()
        optimiser.step()
        adapted.advance(len(LABELS))
    adapted.eval()


def output(adapted: Adapted, task: str) -> Tensor:
    with torch.no_grad():
        return adapted(make_images(), task=task)
