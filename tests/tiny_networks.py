"""Three small networks, one of each kind that methods must cope with, identical in every process."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Base


class ConvNet(nn.Module):
    """Convolutions with bias and batch norm; gives maps (B,8,8,8) of 32x32 images."""

    layer_names = ("bn1", "bn2")

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class DepthwiseNet(nn.Module):
    """A depthwise-separable block as in MobileNet; gives vectors (B,16)."""

    layer_names = ("stem", "depthwise", "pointwise")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pointwise = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.stem(x))).mean((2, 3))


class TransformerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TransformerNet(nn.Module):
    """A patch embedding, a position embedding and two blocks; gives vectors (B,16)."""

    layer_names = ("blocks.0", "blocks.1")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.position = nn.Parameter(torch.randn(16, 16) * 0.1)
        self.blocks = nn.Sequential(TransformerBlock(16), TransformerBlock(16))
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.norm(self.blocks(x)).mean(1)


NETWORKS = {"conv": ConvNet, "depthwise": DepthwiseNet, "transformer": TransformerNet}
SIZE = 32


def make_base(kind: str) -> Base:
    """A base with weights and statistics that are not at their initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = NETWORKS[kind]()
        network.train()
        with torch.no_grad():
            for _ in range(3):
                network(torch.randn(16, 3, SIZE, SIZE))
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return Base(network)


def make_images(count: int = 6, seed: int = 0) -> Tensor:
    """Random uint8 images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def filled(network: nn.Module) -> nn.Module:
    """The network with weights and statistics that follow from their places alone, in every version of torch."""
    for place, (name, tensor) in enumerate(network.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        wave = torch.sin(torch.arange(1, tensor.numel() + 1, dtype=torch.float64) * (1 + 0.1 * place)).view(
            tensor.shape
        )
        if tensor.ndim > 1:
            tensor.copy_(1.4 * wave * math.sqrt(2 / tensor[0].numel()))
        elif name.endswith("running_var"):
            tensor.copy_(1 + wave / 2)
        else:
            tensor.copy_(name.endswith("weight") + wave / 4)
    return network.eval()
