"""Progressive networks: a side network per task that reads the inner maps of the frozen base and, if dense, of every
earlier task's side network (Rusu et al., 2016; as the baseline of Side-Tuning, tlkit/models/fusion.py).

An adapter (learned scale, 1x1 convolution, GroupNorm(2), ReLU, 1x1 convolution) turns each inner map into an addition
to what a convolution of the side network gives, before its normalisation. Where the maps differ in size, the adapter's
output is max-pooled and cropped, as released. No gradient goes to what is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.core.base import Base
from adapt.core.method import Incompatible, Method, MethodConfig, methods
from adapt.encoders.fcn import FCN4, FCN5
from adapt.modules.merges import adapter, build_merge, map_adapter, weighted_sum
from adapt.pretraining.distillation import to_shape
from configs.settings import OneOf, Positive

# The convolutions that read the base, as released.
READERS = {"fcn4": ("conv1", "conv2", "conv3", "conv5"), "fcn5": ("conv2", "conv3", "conv4", "conv5")}


@dataclass(frozen=True)
class ProgressiveConfig(MethodConfig):
    """Settings; the defaults are the paper's on Taskonomy. On CIFAR it is side=fcn4, merge=alpha, dense=false.

    Attributes:
        side: "fcn5" or "fcn4".
        width: multiplies the hidden channels of the side network; 1 is the paper's.
        dense: also read every earlier task's side network.
        merge: "mlp": adapter(base) + side, plus an adapter of each earlier side's output if dense; "alpha": weights
            that sum to 1, a softmax over base, earlier sides if dense, and side.
        layers: submodules of the base that are read; by default the last four that its encoder names.
        seed: of the initial weights.
    """

    side: Annotated[str, OneOf(*READERS)] = "fcn5"
    width: Positive = 1.0
    dense: bool = True
    merge: Annotated[str, OneOf("mlp", "alpha")] = "mlp"
    layers: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(len(self.layers) <= 4, "layers", "at most four names, one per reading convolution")


def as_map(tensor: Tensor) -> Tensor:
    """A map (B,C,h,w) of an inner activation: of tokens (B,N,C), whose class tokens come first, and vectors (B,C)."""
    if tensor.ndim == 3:
        side = math.isqrt(tensor.shape[1])
        return tensor[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return tensor[:, :, None, None] if tensor.ndim == 2 else tensor


def align(lateral: Tensor, height: int, width: int, short: int = 0) -> Tensor:
    """Resize an adapter's output (B,C,h,w) to a size, up to `short` missing pixels.

    A larger one is max-pooled by the nearest whole factor and cropped, as released. Departs: a smaller one is enlarged
    by repetition; in the papers' pairs of networks there is none.
    """
    factors = tuple(max(1, round(have / want)) for have, want in zip(lateral.shape[2:], (height, width), strict=True))
    if max(factors) > 1:
        lateral = F.max_pool2d(lateral, factors)
    lateral = lateral[:, :, :height, :width]
    if min(lateral.shape[2] - height, lateral.shape[3] - width) < -short:
        lateral = F.interpolate(lateral, (height, width))
    return lateral


class _Lateral(nn.Module):
    """What both side networks share: convolutions with additions. Adapters are named adapter1, ... as released."""

    readers: tuple[str, ...]
    names: tuple[str, ...]
    # The convolution whose map may be cropped by a pixel to the size of the base's, because only a mean follows.
    cropped = ""

    def add_adapters(self, inputs: Sequence[int], earlier: int) -> None:
        """Make the adapters of the base's maps with these channels, and those of earlier side networks."""
        self.readers = self.readers[len(self.readers) - len(inputs) :]
        for i, (reader, channels) in enumerate(zip(self.readers, inputs, strict=True)):
            self.add_module(f"adapter{i + 1}", map_adapter(channels, self._conv(reader).out_channels))
        self.dense = nn.ModuleList(nn.ModuleList(map(self._repeat, self.names[1:])) for _ in range(earlier))

    def _conv(self, name: str) -> nn.Conv2d:
        layer = self.get_submodule(f"{name}.0")
        assert isinstance(layer, nn.Conv2d)
        return layer

    def _repeat(self, name: str) -> nn.Sequential:
        """An adapter with the shape of a convolution, for the same input of an earlier side network."""
        conv = self._conv(name)
        kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
        assert isinstance(padding, int)
        return map_adapter(conv.in_channels, conv.out_channels, kernel, stride, padding)

    def run(self, x: Tensor, maps: Sequence[Tensor], earlier: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Compute all inner maps by name.

        Args:
            x: normalised images (B,3,H,W).
            maps: the base's inner maps, one per reading convolution.
            earlier: the inner maps of earlier side networks, one dictionary per task.
        """
        outputs: dict[str, Tensor] = {}
        for i, name in enumerate(self.names):
            stage = self.get_submodule(name)
            assert isinstance(stage, nn.Sequential)
            y = stage[0](x)
            for links, other in zip(self.dense, earlier, strict=True):
                if i:
                    assert isinstance(links, nn.ModuleList)
                    y = y + links[i - 1](other[self.names[i - 1]])
            if name in self.readers:
                j = self.readers.index(name)
                lateral = self.get_submodule(f"adapter{j + 1}")(maps[j])
                addition = align(lateral, y.shape[2], y.shape[3], int(name == self.cropped))
                y = y[:, :, : addition.shape[2], : addition.shape[3]] + addition
            x = outputs[name] = stage[1:](y)
        return outputs


class FCN5Progressive(_Lateral, FCN5):
    """FCN5 with laterals; with the Taskonomy ResNet-50 as base the released FCN5ProgressiveH, key by key."""

    readers = READERS["fcn5"]
    names = FCN5.layer_names

    def finish(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The network's output from its inner maps."""
        last = outputs["conv5"]
        return last + self.skip(outputs["conv2"])


class FCN4Progressive(_Lateral, FCN4):
    """FCN4 with laterals; with the CIFAR ResNet-44 as base the released FCN4ProgressiveH, key by key."""

    readers = READERS["fcn4"]
    names = FCN4.layer_names
    cropped = "conv5"

    def finish(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The network's output from its inner maps."""
        last = outputs["conv5"]
        return last.mean((2, 3)) if self.pool else last


class ProgressiveMerge(nn.Module):
    """Merge base, side and earlier sides of one shape per image; see `ProgressiveConfig.merge`."""

    def __init__(self, kind: str, shape: tuple[int, ...], earlier: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "alpha":
            self.alphas = nn.Parameter(torch.zeros(earlier + 2))
            return
        self.mlp = build_merge("mlp", shape)
        self.earlier = nn.ModuleList(adapter(shape) for _ in range(earlier))

    def forward(self, base: Tensor, side: Tensor, earlier: Sequence[Tensor]) -> Tensor:
        """Merge tensors of one shape, maps (B,C,h,w) or vectors (B,C)."""
        if self.kind == "alpha":
            return weighted_sum(self.alphas, (base, *earlier, side))
        merged: Tensor = self.mlp(base, side)
        for layers, output in zip(self.earlier, earlier, strict=True):
            merged = merged + layers(output)
        return merged


@methods.register("progressive")
class Progressive(Method):
    """y = merge(base(x), side(x, inner maps), earlier sides).

    Give every task its own optimiser over its own `trainable`; what it reads of earlier tasks stays as it is.
    Departs: the released alpha merge is a sigmoid of one number where nothing earlier is read, here the softmax of two.
    """

    Config = ProgressiveConfig
    reads = frozenset({"image", "features", "layers"})
    config: ProgressiveConfig
    side: FCN4Progressive | FCN5Progressive

    def __init__(self, base: Base, config: ProgressiveConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self._earlier = [m for m in earlier if isinstance(m, Progressive)] if config.dense else []
        self._own_layers = self._choose_layers()
        read = [name for m in (*self._earlier, self) for name in m._own_layers]
        self.layer_names = tuple(dict.fromkeys(read))
        self.shape = base.feature_shape(image_size)
        if hasattr(base.encoder, "prepare"):
            raise Incompatible("the side network of progressive reads images, and this base does not")
        if self.shape[0] % 2:
            raise Incompatible(f"progressive forms two groups of channels, and this base has {self.shape[0]}")
        self._check_sides()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.side = self._build_side()
            self.merge_operator = ProgressiveMerge(config.merge, self.shape, len(self._earlier))

    def _choose_layers(self) -> tuple[str, ...]:
        if self.base.black_box:
            raise Incompatible("progressive reads inner maps, and a black box has none; use features or side_tuning")
        try:
            names = self.base.layer_names(self.config.layers)
        except ValueError as error:
            raise Incompatible(f"progressive reads inner maps: {error}") from error
        return names[-len(READERS[self.config.side]) :]

    def _check_sides(self) -> None:
        for other in self._earlier:
            if (other.config.side, other.config.width) != (self.config.side, self.config.width):
                raise Incompatible("dense progressive tasks need side networks of one kind and width")

    def _build_side(self) -> FCN4Progressive | FCN5Progressive:
        try:
            shapes = self.base.layer_shapes(self.image_size, self._own_layers)
        except ValueError as error:
            raise Incompatible(f"progressive reads inner maps: {error}") from error
        channels = [as_map(torch.empty(1, *shapes[name])).shape[1] for name in self._own_layers]
        side: FCN4Progressive | FCN5Progressive
        if self.config.side == "fcn5":
            side = FCN5Progressive(self.config.width, self.shape[0])
        else:
            side = FCN4Progressive(self.config.width, self.shape[0], pool=len(self.shape) == 1)
        side.add_adapters(channels, len(self._earlier))
        return side

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the side networks of earlier tasks and this one on uint8 images (B,3,H,W), then merge."""
        assert image is not None
        assert features is not None
        self.check_features(image, features)
        assert layers is not None
        x = self.base.normalise(image)
        chain: list[dict[str, Tensor]] = []
        with torch.no_grad():
            for other in self._earlier:
                chain.append(other.inner_maps(x, layers, chain))
            outputs = [to_shape(m.side.finish(maps), self.shape) for m, maps in zip(self._earlier, chain, strict=True)]
        side = to_shape(self.side.finish(self.inner_maps(x, layers, chain)), self.shape)
        merged: Tensor = self.merge_operator(features, side, outputs)
        return merged

    def inner_maps(
        self, x: Tensor, layers: Mapping[str, Tensor], chain: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Run this task's side network, given the inner maps of the tasks before it."""
        maps = [as_map(layers[name]) for name in self._own_layers]
        return self.side.run(x, maps, chain[: len(self._earlier)])
