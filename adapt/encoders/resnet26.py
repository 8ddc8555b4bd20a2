"""ResNet-26 of Residual Adapters and the Visual Decathlon (also "WideResNet-28" in TAPS)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.encoders import encoders


class _Shortcut(nn.Module):
    """Average 2x2 and append as many zero channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2, ceil_mode=True)
        return torch.cat([x, torch.zeros_like(x)], 1)


class _BasicBlock(nn.Module):
    """conv - BN - ReLU - conv - BN, plus the input; a strided block averages 2x2 and appends zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.downsample = _Shortcut() if stride > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


# Names in github.com/srebuffi/residual_adapters, of the first task where there are several.
_RELEASED = (
    (r"pre_layers_conv\.conv\.(.*)", r"conv1.\1"),
    (r"pre_layers_conv\.bns\.0\.(.*)", r"bn1.\1"),
    (r"(layer\d\.\d)\.conv1\.conv\.(.*)", r"\1.conv1.\2"),
    (r"(layer\d\.\d)\.conv1\.bns\.0\.(.*)", r"\1.bn1.\2"),
    (r"(layer\d\.\d)\.conv2\.1\.conv\.(.*)", r"\1.conv2.\2"),
    (r"(layer\d\.\d)\.conv2\.1\.bns\.0\.(.*)", r"\1.bn2.\2"),
    (r"end_bns\.0\.0\.(.*)", r"end_bn.\1"),
)


def from_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the released ResNet-26, without adapters and heads, under this module's names.

    One that has these names already is given back as it is.
    """
    if "pre_layers_conv.conv.weight" not in state:
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        for pattern, own in _RELEASED:
            if match := re.fullmatch(pattern, name):
                renamed[match.expand(own)] = tensor
    return renamed


@encoders.register("resnet26")
class ResNet26(nn.Module):
    """Images (B,3,H,W) to vectors (B,256*width); 5,814,688 parameters at width 1, a head 257 per class.

    The stem has no ReLU and no pool; each of the three stages halves the map; a last BN and ReLU follow.
    """

    layer_names: ClassVar[tuple[str, ...]] = ("bn1", "layer1", "layer2", "layer3")

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem = round(32 * width)
        if stem < 1:
            raise ValueError(f"width multiplies the stem's 32 channels and must leave one or more, got {width}")
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = self._stage(stem)
        self.layer2 = self._stage(2 * stem)
        self.layer3 = self._stage(4 * stem)
        self.end_bn = nn.BatchNorm2d(8 * stem)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @staticmethod
    def _stage(inputs: int) -> nn.Sequential:
        return nn.Sequential(
            _BasicBlock(inputs, 2 * inputs, 2), *(_BasicBlock(2 * inputs, 2 * inputs, 1) for _ in range(3))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to vectors (B,256*width)."""
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return F.relu(self.end_bn(x)).mean((2, 3))
