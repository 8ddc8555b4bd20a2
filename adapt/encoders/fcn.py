"""The fully convolutional student networks of Side-Tuning: FCN3, FCN4, FCN5 and FCN8.

Each block is Conv(no bias) - GroupNorm(2) - ReLU under the indices 0/1/2, so that released state dicts load
as they are (Side-Tuning, tlkit/models/student_models.py). FCN5 and FCN8 reduce the image 16-fold: 64x64 gives
8x4x4, 256x256 gives 8x16x16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from adapt.encoders import encoders


def _scaled(channels: int, width: float) -> int:
    """Channels times width, even because GroupNorm forms two groups, at least two."""
    return max(2, 2 * round(channels * width / 2))


def _block(inputs: int, outputs: int, kernel: int, stride: int, padding: int, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)]
    if norm:
        layers.append(nn.GroupNorm(2, outputs))
    layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class _FCN(nn.Module):
    """What the family shares: the checks of its settings and the optional last normalisation."""

    _last: ClassVar[Sequence[str]]

    def __init__(
        self,
        width: float = 1.0,
        out_channels: int = 8,
        final_act: bool = True,
        normalize_outputs: bool = False,
    ) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(f"width multiplies the hidden channels and must be positive, got {width}")
        if out_channels < 2 or out_channels % 2:
            raise ValueError(f"out_channels must be even (two GroupNorm groups), got {out_channels}")
        self.final_act = final_act
        self.normalize_outputs = normalize_outputs
        self._build(width, out_channels)
        self.groupnorm = nn.GroupNorm(2, out_channels) if normalize_outputs else nn.Identity()

    def _build(self, width: float, out_channels: int) -> None:
        """Make the blocks, in the order in which the release draws their weights."""
        raise NotImplementedError

    @property
    def output_layers(self) -> tuple[str, ...]:
        """Submodules whose weight and bias scale the output linearly."""
        if self.normalize_outputs:
            return ("groupnorm",)
        named = dict(self.named_modules())
        raw = {self._last[0]} if not self.final_act else set()
        return tuple(f"{n}.1" if f"{n}.2" in named and n not in raw else f"{n}.0" for n in self._last)

    def _finish(self, last: nn.Sequential, x: Tensor) -> Tensor:
        y: Tensor = last(x) if self.final_act else last[0](x)
        return y


@encoders.register("fcn3")
class FCN3(_FCN):
    """Three convolutions: k8 s4 p1, k3 s2 p2, k3 s2 p0; the last has no GroupNorm."""

    layer_names: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3")
    _last = ("conv3",)

    def _build(self, width: float, out_channels: int) -> None:
        c1, c2 = _scaled(64, width), _scaled(256, width)
        self.conv1 = _block(3, c1, 8, 4, 1)
        self.conv2 = _block(c1, c2, 3, 2, 2)
        self.conv3 = _block(c2, out_channels, 3, 2, 0, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to features (B,out_channels,h,w), h about H/16."""
        y: Tensor = self.groupnorm(self._finish(self.conv3, self.conv2(self.conv1(x))))
        return y


@encoders.register("fcn4")
class FCN4(_FCN):
    """The iCIFAR side network; 25,904 parameters at width 1. As in the release no layer is named conv4.

    `pool` averages the last map into a vector (B,64), which the release calls FCN4Reshaped.
    """

    layer_names: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3", "conv5")
    _last = ("conv5",)

    def __init__(self, width: float = 1.0, out_channels: int = 64, final_act: bool = True, pool: bool = True) -> None:
        super().__init__(width, out_channels, final_act)
        self.pool = pool

    def _build(self, width: float, out_channels: int) -> None:
        c1, c3 = _scaled(16, width), _scaled(32, width)
        self.conv1 = _block(3, c1, 3, 1, 1)
        self.conv2 = _block(c1, c1, 3, 2, 0)
        self.conv3 = _block(c1, c3, 3, 2, 0)
        self.conv5 = _block(c3, out_channels, 3, 1, 0, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to (B,out_channels), or without pooling to (B,out_channels,h,w)."""
        y = self._finish(self.conv5, self.conv3(self.conv2(self.conv1(x))))
        return y.mean((2, 3)) if self.pool else y


@encoders.register("fcn5")
class FCN5(_FCN):
    """The base and side network of the paper's navigation runs; 921,376 parameters at width 1."""

    layer_names: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "conv3", "conv4", "conv5")
    _last = ("conv5", "skip")

    def _build(self, width: float, out_channels: int) -> None:
        c1, c2, c4 = _scaled(64, width), _scaled(256, width), _scaled(64, width)
        self.conv1 = _block(3, c1, 8, 4, 2)
        self.conv2 = _block(c1, c2, 3, 2, 1)
        self.conv3 = _block(c2, c2, 3, 2, 1)
        self.conv4 = _block(c2, c4, 3, 1, 1)
        self.conv5 = _block(c4, out_channels, 3, 1, 1)
        self.skip = _block(c2, out_channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to features (B,out_channels,H/16,W/16)."""
        x = self.conv2(self.conv1(x))
        y: Tensor = self.groupnorm(self._finish(self.conv5, self.conv4(self.conv3(x))) + self.skip(x))
        return y


@encoders.register("fcn8")
class FCN8(_FCN):
    """The side network of the paper's equal-budget control; 3,361,440 parameters at width 1."""

    layer_names: ClassVar[tuple[str, ...]] = tuple(f"conv{i}" for i in range(1, 9))
    _last = ("conv8", "skip3")

    def _build(self, width: float, out_channels: int) -> None:
        c1, c2, c3 = _scaled(64, width), _scaled(128, width), _scaled(256, width)
        self.conv1 = _block(3, c1, 8, 4, 2)
        self.conv2 = _block(c1, c2, 3, 2, 1)
        self.conv3 = _block(c2, c3, 3, 2, 1)
        self.conv4 = _block(c3, c3, 3, 1, 1)
        self.conv5 = _block(c3, c3, 3, 1, 1)
        self.conv6 = _block(c3, c3, 3, 1, 1)
        self.conv7 = _block(c3, c2, 3, 1, 1)
        self.conv8 = _block(c2, out_channels, 3, 1, 1)
        self.skip1 = _block(c2, c3, 3, 2, 1)
        self.skip2 = _block(c3, c3, 3, 1, 1)
        self.skip3 = _block(c3, out_channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to features (B,out_channels,H/16,W/16)."""
        x = self.conv2(self.conv1(x))
        x = self.conv4(self.conv3(x)) + self.skip1(x)
        x = self.conv6(self.conv5(x)) + self.skip2(x)
        y: Tensor = self.groupnorm(self._finish(self.conv8, self.conv7(x)) + self.skip3(x))
        return y
