"""Light decoders: from an encoder's code to label images or class scores, for pretraining and distillation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from adapt.encoders.taskonomy import TaskonomyDecoder, TaskonomyMLPDecoder
from adapt.files import nearest


class LightDecoder(nn.Module):
    """Doubles a code to the image's size by convolutions to four times the channels and pixel shuffling.

    Args:
        code_shape: (C, h, w) of the code.
        out_channels: Channels of the label image.
        size: Pixels per side of the label image, h times a power of two.
        width: Channels at the code's size; every doubling halves them, down to 16.

    Raises:
        ValueError: The size is not h times a power of two.
    """

    def __init__(self, code_shape: Sequence[int], out_channels: int, size: int, width: int = 128) -> None:
        super().__init__()
        inputs, height, _ = code_shape
        doublings = (size // height).bit_length() - 1
        if height << doublings != size or doublings < 1:
            raise ValueError(f"a code of {height} pixels cannot be doubled to an image of {size} pixels")
        layers = [*_conv(inputs, width), *_conv(width, width)]
        channels = width
        for _ in range(doublings - 1):
            fewer = max(16, channels // 2)
            layers += [*_conv(channels, 4 * fewer), nn.PixelShuffle(2)]
            channels = fewer
        layers += [nn.Conv2d(channels, 4 * out_channels, 3, 1, 1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        """Map codes (B,C,h,w) to label images (B,out_channels,size,size)."""
        out: Tensor = self.layers(code)
        return out


class LightClassifier(nn.Module):
    """One hidden layer on the flattened code (B,C,h,w), to scores (B,classes)."""

    def __init__(self, code_shape: Sequence[int], classes: int, hidden: int = 256) -> None:
        super().__init__()
        inputs = code_shape[0] * code_shape[1] * code_shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, code: Tensor) -> Tensor:
        """Map codes (B,C,h,w) to scores (B,classes)."""
        out: Tensor = self.layers(code)
        return out


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)]


def build_decoder(name: str, code_shape: Sequence[int], out_channels: int, size: int, classifier: bool) -> nn.Module:
    """Build a decoder with random weights.

    Args:
        name: ``light``, sized to the image, or ``taskonomy``, the published layout for codes of 8x16x16.
        code_shape: (C, h, w) of the code.
        out_channels: Channels of the label image, or classes.
        size: Pixels per side of the image.
        classifier: Whether the label is one vector per image.

    Raises:
        ValueError: The name is unknown or the code does not fit.
    """
    if name == "light":
        return LightClassifier(code_shape, out_channels) if classifier else LightDecoder(code_shape, out_channels, size)
    if name != "taskonomy":
        raise ValueError(f"unknown decoder {name!r}{nearest(name, ('light', 'taskonomy'))}")
    if tuple(code_shape) != (8, 16, 16):
        raise ValueError(f"decoder=taskonomy reads codes of 8x16x16, this encoder gives {tuple(code_shape)}")
    return TaskonomyMLPDecoder(out_channels) if classifier else TaskonomyDecoder(out_channels)
