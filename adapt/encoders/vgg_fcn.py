"""FCN-32s of VGG: its classifier's hidden layers as convolutions (Long, Shelhamer & Darrell, CVPR 2015)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

STRIDE = 32
PADDING = 100  # Of the first convolution, so that images of any size have an output.
CROP = 19  # Where the image begins in the upsampled output.


class VGGFCN(nn.Module):
    """Images (B,3,H,W) of any size to maps (B,4096,h,w), 32 pixels apart, with the weights of a VGG.

    The first convolution is padded by 100, pooling rounds up, `fc6` becomes a 7x7 and `fc7` a 1x1 convolution, each
    with ReLU and dropout; so ReLU and dropout of the VGG's classifier are kept.

    Args:
        vgg: a VGG of torchvision, or any network with `features` (3x3 convolutions and pooling) and `classifier`
            whose first two linear layers read maps of `side` x `side` pixels.
        side: 7 for VGG.

    Raises:
        ValueError: it is no such network.
    """

    def __init__(self, vgg: nn.Module, side: int = 7) -> None:
        super().__init__()
        linear = hidden_layers(vgg)
        if len(linear) < 2:
            raise ValueError("FCN-32s needs a VGG with its two hidden linear layers, such as base=vgg16")
        features = vgg.features
        assert isinstance(features, nn.Sequential)
        self.features = copy.deepcopy(features)
        first = self.features[0]
        if not isinstance(first, nn.Conv2d):
            raise ValueError(f"the first layer of a VGG is a convolution, this one is a {type(first).__name__}")
        first.padding = (PADDING, PADDING)
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        self.fc6 = _as_convolution(linear[0], side)
        self.fc7 = _as_convolution(linear[1], 1)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to (B,4096,h,w)."""
        x = self.dropout(self.relu(self.fc6(self.features(x))))
        output: Tensor = self.dropout(self.relu(self.fc7(x)))
        return output


def hidden_layers(network: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network's `classifier`, if it is laid out as a VGG; two or more are a VGG's."""
    features, classifier = getattr(network, "features", None), getattr(network, "classifier", None)
    if not isinstance(features, nn.Sequential) or not isinstance(classifier, nn.Sequential):
        return []
    return [layer for layer in classifier if isinstance(layer, nn.Linear)]


def _as_convolution(layer: nn.Linear, side: int) -> nn.Conv2d:
    """The convolution that computes a linear layer at every place of a map."""
    convolution = nn.Conv2d(layer.in_features // side**2, layer.out_features, side)
    weights = {"weight": layer.weight.detach().view_as(convolution.weight), "bias": layer.bias.detach()}
    convolution.load_state_dict(weights)
    return convolution
