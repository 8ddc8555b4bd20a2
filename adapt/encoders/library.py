"""Networks of timm and torchvision as encoders: the classifier is removed, what remains gives a vector."""

from __future__ import annotations

from typing import Any

from torch import nn

from adapt.encoders.fetching import fetching, never_unpickled
from configs.names import nearest


def _drop_classifier(network: nn.Module) -> None:
    """Replace the last linear layer of a torchvision classifier by the identity."""
    name = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())


# Inner maps of torchvision's models, from input to output; timm's say theirs.
_TORCHVISION_LAYERS = {
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "DenseNet": tuple(f"features.denseblock{i}" for i in range(1, 5)),
    "MobileNetV2": ("features.3", "features.6", "features.13", "features.18"),
    "Inception3": ("maxpool2", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
}


def _inner_layers(network: nn.Module) -> tuple[str, ...]:
    """Four submodules whose outputs are the inner activations, or none if they are not known."""
    names = _TORCHVISION_LAYERS.get(type(network).__name__, ())
    if info := getattr(network, "feature_info", None):
        names = tuple(item["module"] for item in info)
    elif type(network).__name__ == "VGG":
        names = tuple(name for name, module in network.named_modules() if isinstance(module, nn.MaxPool2d))
    elif type(network).__name__ == "VisionTransformer":
        names = tuple(f"encoder.layers.{name}" for name, _ in network.get_submodule("encoder.layers").named_children())
    if names and names[0].startswith(("blocks.", "encoder.layers.")) and len(names) >= 8:
        # All blocks of a transformer have one size.
        return tuple(names[(i + 1) * len(names) // 4 - 1] for i in range(4))
    return names[-4:]


def build(library: str, model: str, **kwargs: Any) -> nn.Module:
    """Build `timm` or `torchvision` model `model` without its classifier.

    Args:
        library: `timm` or `torchvision`.
        model: the library's own name of the model.
        **kwargs: passed on; `pretrained=True` (timm) or `weights="DEFAULT"` (torchvision) download.

    Raises:
        ValueError: the library has no such model (the nearest is suggested).
        FileNotFoundError: its weights are neither cached nor can be fetched.
    """
    if library == "timm":
        import timm

        if not timm.is_model(model):
            raise ValueError(f"timm has no model {model!r}{nearest(model, timm.list_models())}")
        with fetching(f"timm/{model}") if kwargs.get("pretrained") else never_unpickled():
            return _named(timm.create_model(model, num_classes=0, **kwargs))
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise ValueError(f"torchvision has no model {model!r}{nearest(model, known)}")
    if model in ("inception_v3", "googlenet"):
        kwargs = {"init_weights": True, "aux_logits": False, **kwargs}
    with fetching(f"torchvision/{model}", hub=False) if kwargs.get("weights") else never_unpickled():
        network: nn.Module = torchvision.models.get_model(model, **kwargs)
    _drop_classifier(network)
    return _named(network)


def _named(network: nn.Module) -> nn.Module:
    if names := _inner_layers(network):
        object.__setattr__(network, "layer_names", names)
    return network
