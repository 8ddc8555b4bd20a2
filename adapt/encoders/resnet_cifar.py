"""ResNet-44 for 32x32 images, the iCIFAR base of Side-Tuning (tlkit/models/resnet_cifar.py)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from adapt.encoders import encoders


class _Shortcut(nn.Module):
    """Subsample and pad channels with zeros on both sides (option A)."""

    def __init__(self, stride: int, pad: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, pad

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the size changes, the shortcut subsamples and pads channels (option A)."""

    def __init__(self, inputs: int, planes: int, stride: int, final_act: bool = True) -> None:
        super().__init__()
        self.downsample = nn.Identity() if stride == 1 else _Shortcut(stride, (planes - inputs) // 2)
        self.final_act = final_act
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.bn1(self.conv1(x))))
        shortcut = self.downsample(x)
        if not self.final_act:
            return y + shortcut
        return F.relu(self.bn2(y) + shortcut)


@encoders.register("resnet44")
class ResNet44(nn.Module):
    """Images (B,3,H,W) to non-negative vectors (B,64), the mean of the last map; 657,936 parameters.

    Args:
        final_act: `False` leaves out the batch norm and the ReLU of the last block.
    """

    layer_names: ClassVar[tuple[str, ...]] = ("relu", "layer1", "layer2", "layer3")

    def __init__(self, final_act: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2, final_act)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, planes: int, stride: int, final_act: bool = True) -> nn.Sequential:
        blocks = [_BasicBlock(inputs, planes, stride)]
        blocks += [_BasicBlock(planes, planes, 1, final_act or i < 5) for i in range(6)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to vectors (B,64)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean((2, 3))
