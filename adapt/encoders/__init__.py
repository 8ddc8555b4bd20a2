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
from typing import Any

from torch import nn

from adapt.training.files import nearest

_ENCODERS = {
    "bert": ("adapt.encoders.bert", "BertEncoder"),
    "fcn3": ("adapt.encoders.fcn", "FCN3"),
    "fcn4": ("adapt.encoders.fcn", "FCN4"),
    "fcn5": ("adapt.encoders.fcn", "FCN5"),
    "fcn8": ("adapt.encoders.fcn", "FCN8"),
    "taskonomy": ("adapt.encoders.taskonomy", "TaskonomyEncoder"),
    "resnet44": ("adapt.encoders.resnet_cifar", "ResNet44"),
    "resnet26": ("adapt.encoders.resnet26", "ResNet26"),
    "wrn28_4": ("adapt.encoders.wrn", "WideResNet28x4"),
}


def list_encoders() -> list[str]:
    """Names of the encoders in this package; `timm/<model>` and `torchvision/<model>` name all others."""
    return sorted(_ENCODERS)


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
    if name not in _ENCODERS:
        choices = ", ".join(list_encoders())
        raise ValueError(f"unknown encoder {name!r}{nearest(name, _ENCODERS)}; choose from {choices}, timm/<model>")
    path, attribute = _ENCODERS[name]
    try:
        return getattr(importlib.import_module(path), attribute)(**kwargs)
    except TypeError as error:
        raise ValueError(f"encoder {name!r} does not take these settings: {error}") from error
