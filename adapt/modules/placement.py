"""Placement of adapters in a network: all 3x3 convolutions, a depth range, or every second one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from adapt.core.base import Base
from adapt.core.deltas import weighted_layers
from adapt.core.method import Incompatible

PLACEMENTS = ("all", "early", "mid", "late", "half")


def spatial_convolutions(network: nn.Module) -> list[str]:
    """Names of the plain 3x3 convolutions, zero-padded, in the order of registration."""
    return [
        name
        for name, layer in weighted_layers(network).items()
        if type(layer) is nn.Conv2d
        and layer.kernel_size == (3, 3)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    ]


def every_second(names: Sequence[str]) -> list[str]:
    """Every second layer counted from the last: in a network of two-layer blocks the second of each block.

    A stem is one of them if it is among the names.
    """
    return list(reversed(list(reversed(names))[::2]))


def place(base: Base, names: Sequence[str], placement: str, image_size: int) -> list[str]:
    """Choose among layers.

    Args:
        base: the frozen base.
        names: layers of its encoder that give maps, in order.
        placement: "all"; "half": see `every_second`; "late", "mid", "early": the layers at the lowest
            resolution, at the second lowest, and at all higher ones but for the network's first layer. In a
            ResNet-26 these are its three stages (Residual Adapters, CVPR 2018, section 3.2).
        image_size: height and width of the images, pixels.

    Raises:
        Incompatible: there are no such layers.
    """
    try:
        shapes = base.layer_shapes(image_size, names) if names else {}
    except ValueError as error:
        raise Incompatible(f"adapters stand beside calls of layers: {error}") from error
    if placement == "all":
        return list(names)
    if placement == "half":
        return every_second(names)
    heights = {name: shape[-2] for name, shape in shapes.items()}
    order = sorted(set(heights.values()))
    stage = {"late": order[:1], "mid": order[1:2], "early": order[2:]}[placement]
    first = next(iter(weighted_layers(base.encoder)))
    chosen = [name for name in names if heights[name] in stage and (placement == "late" or name != first)]
    if not chosen:
        raise Incompatible(f"the base has no 3x3 convolutions that are {placement}; use placement=all")
    return chosen
