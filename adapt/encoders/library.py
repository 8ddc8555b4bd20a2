"""Networks of timm and torchvision as encoders: the classifier is removed, what remains gives a vector."""

from __future__ import annotations

from typing import Any

from torch import nn

from adapt.files import nearest


def _drop_classifier(network: nn.Module) -> None:
    """Replace the last linear layer of a torchvision classifier by the identity."""
    name = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())


def build(library: str, model: str, **kwargs: Any) -> nn.Module:
    """Build `timm` or `torchvision` model `model` without its classifier.

    Args:
        library: `timm` or `torchvision`.
        model: the library's own name of the model.
        **kwargs: passed on; `pretrained=True` (timm) or `weights="DEFAULT"` (torchvision) download.

    Raises:
        ValueError: the library has no such model (the nearest is suggested).
    """
    if library == "timm":
        import timm

        if not timm.is_model(model):
            raise ValueError(f"timm has no model {model!r}{nearest(model, timm.list_models())}")
        return timm.create_model(model, num_classes=0, **kwargs)
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise ValueError(f"torchvision has no model {model!r}{nearest(model, known)}")
    if model in ("inception_v3", "googlenet"):
        kwargs = {"init_weights": True, "aux_logits": False, **kwargs}
    network: nn.Module = torchvision.models.get_model(model, **kwargs)
    _drop_classifier(network)
    return network
