"""Bases of timm, torchvision (ImageNet weights) and transformers (BERT)."""

from __future__ import annotations

from typing import Any

from adapt.bases.package_index import bert_folder
from adapt.core.base import IMAGENET, Base, BaseSpec, Normalisation, bases
from adapt.encoders import build_encoder


@bases.register("timm")
def timm_base(model: str) -> Base:
    """The timm model of that name with its pretrained weights and its own normalisation."""
    return _imagenet_base("timm", model, pretrained=True)


@bases.register("torchvision")
def torchvision_base(model: str) -> Base:
    """The torchvision model of that name with its default weights."""
    return _imagenet_base("torchvision", model, weights="DEFAULT")


def _imagenet_base(library: str, model: str, **weights: Any) -> Base:
    if not model:
        raise ValueError(f"base {library} needs a model of that library: base.name={library}/<model>")
    name = f"{library}/{model}"
    encoder = build_encoder(name, **weights)
    normalisation = IMAGENET
    if config := getattr(encoder, "pretrained_cfg", None):
        normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    return Base(encoder, BaseSpec(name, {}, normalisation, task="imagenet"))


@bases.register("bert")
def bert_base(name: str) -> Base:
    """A BERT of transformers by its name or folder, or `minilm`, which is data of a package."""
    # The spec's encoder must be untrained: not this name.
    encoder: Any = build_encoder("bert", pretrained=bert_folder(name))
    return Base(encoder, BaseSpec("bert", encoder.settings(), task="masked words"))
