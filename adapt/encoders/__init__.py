"""Networks that turn an image into features: those of the papers, and any network of timm or torchvision.

Every encoder takes float images (B,3,H,W), already normalised by its `adapt.core.base.Base`, at any size its
strides allow, and returns float maps (B,C,h,w) or vectors (B,C). State-dict keys are as the authors released
them.

An encoder may name, for the methods that look inside a network:
- `layer_names`: submodules whose outputs are its inner activations, from input to output;
- `output_layers`: submodules whose weight and bias scale the output linearly (low-energy initialisation).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from configs.registry import Registry

encoders: Registry[Callable[..., nn.Module]] = Registry(
    "encoder",
    "sidestep.encoders",
    {
        "bert": "adapt.encoders.bert",
        "fcn3": "adapt.encoders.fcn",
        "fcn4": "adapt.encoders.fcn",
        "fcn5": "adapt.encoders.fcn",
        "fcn8": "adapt.encoders.fcn",
        "taskonomy": "adapt.encoders.taskonomy",
        "resnet44": "adapt.encoders.resnet_cifar",
        "resnet26": "adapt.encoders.resnet26",
        "wrn28_4": "adapt.encoders.wrn",
    },
)
"""All encoders by name but those of timm and torchvision."""


def list_encoders() -> list[str]:
    """Names of the encoders of this package and other distributions; `timm/<model>` and `torchvision/<model>` name all
    others.
    """
    return encoders.names()


def build_encoder(name: str, **kwargs: Any) -> nn.Module:
    """Build an encoder with its default random initialisation.

    Args:
        name: one of `list_encoders()`, or `timm/<model>` or `torchvision/<model>` (classifier removed).
        **kwargs: settings of that encoder.

    Raises:
        ValueError: the name is unknown (the nearest is suggested) or a setting does not fit.
    """
    library, _, model = name.partition("/")
    if model and library in ("timm", "torchvision"):
        module = importlib.import_module("adapt.encoders.library")
        return module.build(library, model, **kwargs)
    encoder = encoders.get(name)
    try:
        return encoder(**kwargs)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"encoder {name!r} does not take these settings: {error}") from error
