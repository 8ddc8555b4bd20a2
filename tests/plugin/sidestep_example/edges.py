"""A base without training: colours and edges of patches of 4 pixels."""

from __future__ import annotations

import torch
from torch import nn

from adapt.core.base import Base, BaseSpec


def edges(rest: str) -> Base:
    """Eight channels: mean colours, horizontal and vertical gradients of brightness, and their negatives.

    Args:
        rest: What stands after the slash in ``base.name=edges/...``.
    """
    if rest:
        raise ValueError(f"base edges has no variant {rest!r}")
    network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())
    ramp = torch.linspace(-1.0, 1.0, 4).expand(3, 4, 4) / 24
    kernels = [torch.eye(3)[c][:, None, None].expand(3, 4, 4) / 16 for c in range(3)]
    kernels += [ramp, ramp.transpose(1, 2), -ramp, -ramp.transpose(1, 2), torch.full((3, 4, 4), 1 / 48)]
    with torch.no_grad():
        network[0].weight.copy_(torch.stack(kernels))
        network[0].bias.zero_()
    return Base(network, BaseSpec(task="edges"))
