"""The Taskonomy ResNet-50 encoder and its decoders, key by key as released with Mid-Level Representations.

The encoder differs from torchvision's ResNet-50 (Side-Tuning, evkit/models/taskonomy_network.py): the stride
sits in the *last* block of a stage, only the first two stages have one, the pool rounds up, and a 3x3
convolution compresses 2048 channels to 8.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.encoders import encoders


class _Bottleneck(nn.Module):
    """1x1 - 3x3 (strided) - 1x1 with batch norm; `project` puts a 1x1 convolution on the shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int, project: bool) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        else:
            self.downsample = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _stage(inputs: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    layers = [_Bottleneck(inputs, planes, 1, project=True)]
    layers += [_Bottleneck(4 * planes, planes, 1, project=False) for _ in range(blocks - 2)]
    layers.append(_Bottleneck(4 * planes, planes, stride, project=False))
    return nn.Sequential(*layers)


@encoders.register("taskonomy")
class TaskonomyEncoder(nn.Module):
    """Taskonomy's ResNet-50: images (B,3,H,W) in [-1,1] to codes (B,8,H/16,W/16); 23,655,504 parameters.

    Args:
        normalize_outputs: standardise each output channel over its map; released decoders expect it off.
        final_act: apply batch norm and ReLU to the compressed code.
    """

    layer_names: ClassVar[tuple[str, ...]] = ("maxpool", "layer1", "layer2", "layer3", "layer4")
    output_layers: ClassVar[tuple[str, ...]] = ("compress_bn",)

    def __init__(self, normalize_outputs: bool = True, final_act: bool = True) -> None:
        super().__init__()
        self.final_act = final_act
        self.conv1 = nn.Conv2d(3, 64, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.layer1 = _stage(64, 64, 3, 2)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 1)
        self.layer4 = _stage(1024, 512, 3, 1)
        self.compress1 = nn.Conv2d(2048, 8, 3, 1, 1, bias=False)
        self.compress_bn = nn.BatchNorm2d(8)
        self.groupnorm = nn.GroupNorm(8, 8, affine=False) if normalize_outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B,3,H,W) in [-1,1] to codes (B,8,H/16,W/16)."""
        x = F.relu(self.bn1(self.conv1(F.pad(x, (3, 3, 3, 3)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.maxpool(x)))))
        x = self.compress1(x)
        if self.final_act:
            x = F.relu(self.compress_bn(x))
        y: Tensor = self.groupnorm(x)
        return y


class _Crop(nn.Module):
    """Drop the first row and column, which the asymmetric padding of a deconvolution added."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:, 1:]


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


def _deconv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ZeroPad2d((1, 0, 1, 0)),
        nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, bias=False),
        _Crop(),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2),
    )


class TaskonomyDecoder(nn.Module):
    """Codes (B,8,h,w), not normalised, to images (B,out_channels,16h,16w) in (-1,1)."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv2 = _conv(8, 1024)
        self.conv3 = _conv(1024, 1024)
        self.conv4 = _conv(1024, 512)
        self.conv5 = _conv(512, 256)
        self.conv6 = _conv(256, 256)
        self.conv7 = _conv(256, 128)
        self.deconv8 = _deconv(128, 64)
        self.conv9 = _conv(64, 64)
        self.deconv10 = _deconv(64, 32)
        self.conv11 = _conv(32, 32)
        self.deconv12 = _deconv(32, 16)
        self.conv13 = _conv(16, 32)
        self.deconv14 = _deconv(32, 16)
        self.decoder_output = nn.Sequential(nn.Conv2d(16, out_channels, 3, 1, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Map codes (B,8,h,w) to images (B,out_channels,16h,16w) in (-1,1)."""
        for layer in self.children():
            x = layer(x)
        return x


class TaskonomyMLPDecoder(nn.Module):
    """Codes (B,8,16,16), not normalised, to class scores (B,classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.fc0 = nn.Linear(2048, 2048, bias=False)
        self.bn0 = nn.BatchNorm1d(2048)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map codes (B,8,16,16) to scores (B,classes)."""
        # The weights were trained in TensorFlow, whose maps are flattened with the channel last.
        x = torch.flatten(x.permute(0, 2, 3, 1), 1)
        y: Tensor = self.fc2(self.dropout(F.relu(self.bn0(self.fc0(x)))))
        return y


class TransferConv3(nn.Module):
    """The transfer network in front of a readout: two 3x3 convolutions, plus the input if residual."""

    def __init__(self, channels: int = 8, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map group-normalised codes (B,channels,h,w) to the same shape."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return y + x if self.residual else y
