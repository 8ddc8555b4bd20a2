"""WRN-28-4, the 64x64 ImageNet backbone of DAN, Piggyback and WTPB on the Visual Decathlon."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from adapt.encoders import encoders


class _BasicBlock(nn.Module):
    """conv - BN - ReLU - conv - BN plus a shortcut: 1x1 convolution with BN where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


@encoders.register("wrn28_4")
class WideResNet28x4(nn.Module):
    """Images (B,3,H,W) to vectors (B,256): stem of 16 channels, three halving stages of four blocks."""

    layer_names: ClassVar[tuple[str, ...]] = ("relu", "layer1", "layer2", "layer3")

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 64)
        self.layer2 = self._stage(64, 128)
        self.layer3 = self._stage(128, 256)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @staticmethod
    def _stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(_BasicBlock(inputs, outputs, 2), *(_BasicBlock(outputs, outputs, 1) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) to vectors (B,256)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean((2, 3))
