"""Networks of timm and torchvision as encoders without their classifier: pooled vectors or spatial maps."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adapt.encoders.fetching import fetching, never_unpickled
from configs.names import nearest


def _drop_classifier(network: nn.Module) -> None:
    """Replace the last linear layer of a torchvision classifier by the identity.

    Raises:
        ValueError: the classifier is not linear.
    """
    linear = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        kind = type(network).__name__
        raise ValueError(f"the classifier of torchvision's {kind} is not linear; take another network")
    parent, _, leaf = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())


# Inner maps of torchvision's models, from input to output; timm's say theirs.
_TORCHVISION_LAYERS = {
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "DenseNet": tuple(f"features.denseblock{i}" for i in range(1, 5)),
    "MobileNetV2": ("features.3", "features.6", "features.13", "features.18"),
    "Inception3": ("maxpool2", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
}


def _tokens_to_map(tokens: Tensor) -> Tensor:
    """A map (B,C,h,w) of the last square number of tokens (B,N,C); class tokens come first."""
    side = math.isqrt(tokens.shape[1])
    return tokens[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))


class _TimmMaps(nn.Module):
    """A network of timm whose output is its last map, before pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to (B,C,h,w)."""
        y: Tensor = self.forward_features(x)  # type: ignore[operator]
        if y.ndim == 3:
            return _tokens_to_map(y)
        channels = self.num_features
        return y if y.shape[1] == channels else y.permute(0, 3, 1, 2)


class _TorchvisionMaps(nn.Module):
    """A network of torchvision whose output is its last map, before pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to (B,C,h,w)."""
        for name in _BODIES[type(self).__name__]:
            x = self.get_submodule(name)(x)
        return F.relu(x) if type(self).__name__ == "DenseNet" else x


# What of a torchvision network comes before its last pooling, by class.
_BODIES = {
    "AlexNet": ("features",),
    "ConvNeXt": ("features",),
    "DenseNet": ("features",),
    "EfficientNet": ("features",),
    "MNASNet": ("layers",),
    "MobileNetV2": ("features",),
    "MobileNetV3": ("features",),
    "RegNet": ("stem", "trunk_output"),
    "ResNet": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "ShuffleNetV2": ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
    "SwinTransformer": ("features", "norm", "permute"),
    "VGG": ("features",),
}


def _without_pooling(network: nn.Module, maps: type[nn.Module]) -> nn.Module:
    """Make a network give its last map; a subclass of its own class, so that it can be copied."""
    kind = type(network)
    network.__class__ = type(kind.__name__, (maps, kind), {})
    return network


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


def build(library: str, model: str, maps: bool = False, **kwargs: Any) -> nn.Module:
    """Build `timm` or `torchvision` model `model` without its classifier.

    Args:
        library: `timm` or `torchvision`.
        model: the library's own name of the model.
        maps: give the last map (B,C,h,w) in place of the pooled vector (B,C).
        **kwargs: passed on; `pretrained=True` (timm) or `weights="DEFAULT"` (torchvision) download.

    Raises:
        ValueError: the library has no such model (the nearest is suggested), or it is not known where its maps are.
        FileNotFoundError: its weights are neither cached nor can be fetched.
    """
    if library == "timm":
        import timm

        if not timm.is_model(model):
            raise ValueError(f"timm has no model {model!r}{nearest(model, timm.list_models())}")
        with fetching(f"timm/{model}") if kwargs.get("pretrained") else never_unpickled():
            network = timm.create_model(model, num_classes=0, **kwargs)
        return _named(_without_pooling(network, _TimmMaps) if maps else network)
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise ValueError(f"torchvision has no model {model!r}{nearest(model, known)}")
    if model in ("inception_v3", "googlenet"):
        kwargs = {"init_weights": True, "aux_logits": False, **kwargs}
    with fetching(f"torchvision/{model}", hub=False) if kwargs.get("weights") else never_unpickled():
        network = torchvision.models.get_model(model, **kwargs)
    if maps and type(network).__name__ not in _BODIES:
        raise ValueError(f"it is not known where torchvision's {model} has its last map; take the same model of timm")
    _drop_classifier(network)
    if maps and type(network).__name__ in ("AlexNet", "VGG"):
        network.classifier = nn.Identity()  # its hidden layers read the pooled map
    return _named(_without_pooling(network, _TorchvisionMaps) if maps else network)


def _named(network: nn.Module) -> nn.Module:
    if names := _inner_layers(network):
        object.__setattr__(network, "layer_names", names)
    return network
