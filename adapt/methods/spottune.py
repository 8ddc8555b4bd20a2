"""SpotTune: a small network decides, per image and residual block, between the base's block and a tuned copy of it
(Guo et al., CVPR 2019; repository gyhui14/spottune).

x_l = (1 - p) block_l(x) + p block'_l(x), p in {0,1} per image and block. The policy network gives two logits per block;
training draws by the straight-through Gumbel softmax. Everything outside the blocks is trained, and so is the
normalisation of both branches.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.core.base import Base
from adapt.core.deltas import norm_layers
from adapt.core.method import Incompatible, Method, MethodConfig, NotMergeable, methods
from adapt.encoders.resnet26 import ResNet26
from adapt.modules.own_weights import OwnWeights
from adapt.modules.residual_blocks import replace_blocks, residual_blocks
from configs.settings import Positive

POLICY_SIZE = 72


@dataclass(frozen=True)
class SpotTuneConfig(MethodConfig):
    """Settings.

    Attributes:
        temperature: of the Gumbel softmax.
        width: multiplies the policy network's channels, 32 to 256.
        stochastic: draw at test too, as released; otherwise the likelier branch is taken.
        seed: of the policy network's weights.
    """

    temperature: Positive = 5.0
    width: Positive = 1.0
    stochastic: bool = False
    seed: int = 0


class _Routed(nn.Module):
    """A frozen block and its trained copy; `share` (B,), set before each pass, is the copy's share per image."""

    share: Tensor

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.frozen = block
        self.tuned = copy.deepcopy(block)

    def forward(self, x: Tensor) -> Tensor:
        tuned: Tensor = self.tuned(x)
        share = self.share.view(-1, *[1] * (tuned.ndim - 1))
        return (1 - share) * self.frozen(x) + share * tuned


class RoutingNetwork(nn.Module):
    """A ResNet with one block per stage: images (B,3,H,W) to logits (B,blocks,2); index 1 is the tuned copy.

    Departs: images larger than 72 pixels, the size that the paper uses, are reduced to it by averaging.
    """

    def __init__(self, blocks: int, width: float) -> None:
        super().__init__()
        self.blocks = blocks
        self.network = ResNet26(width)
        for name in ("layer1", "layer2", "layer3"):
            setattr(self.network, name, self.network.get_submodule(f"{name}.0"))
        self.head = nn.Linear(self.network.end_bn.num_features, 2 * blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (B,blocks,2)."""
        if max(x.shape[2:]) > POLICY_SIZE:
            x = F.adaptive_avg_pool2d(x, POLICY_SIZE)
        logits: Tensor = self.head(self.network(x))
        return logits.view(len(x), self.blocks, 2)


@methods.register("spottune")
class SpotTune(OwnWeights):
    """SpotTune: per image, a routing network chooses each residual block's frozen or fine-tuned copy."""

    Config = SpotTuneConfig
    config: SpotTuneConfig

    def __init__(self, base: Base, config: SpotTuneConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        if hasattr(base.encoder, "prepare"):
            raise Incompatible("the policy network of spottune reads images, and this base does not")
        names = list(residual_blocks(self.encoder))
        if not names:
            raise Incompatible("spottune routes around residual blocks, and this base has none")
        replace_blocks(self.encoder, lambda name, block: _Routed(block), names)
        self._routed = names
        self._frozen = self._freeze()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.policy = RoutingNetwork(len(names), config.width)

    def _freeze(self) -> set[str]:
        """Freeze the untuned blocks but their normalisation; names in this module's state dict."""
        frozen = set()
        for outer in self._routed:
            block = self.encoder.get_submodule(outer).frozen
            assert isinstance(block, nn.Module)
            norms = tuple(f"{name}." for name in norm_layers(block))
            for name, parameter in block.named_parameters():
                if not name.startswith(norms):
                    parameter.requires_grad_(False)
                    frozen.add(f"encoder.{outer}.frozen.{name}")
        return frozen

    @property
    def needs_base(self) -> bool:
        """True: the frozen blocks are the base's."""
        return True

    def shares(self, images: Tensor) -> Tensor:
        """The tuned copy's share per image and block, (B,blocks) of 0 and 1, for normalised images."""
        logits: Tensor = self.policy(images)
        if self.training or self.config.stochastic:
            return F.gumbel_softmax(logits, self.config.temperature, hard=True)[..., 1]
        return (logits[..., 1] > logits[..., 0]).to(images.dtype)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Ask the policy, then run the blended encoder, on uint8 images (B,3,H,W)."""
        assert image is not None
        x = self.base.normalise(image)
        for name, share in zip(self._routed, self.shares(x).unbind(1), strict=True):
            self.encoder.get_submodule(name).share = share
        output: Tensor = self.encoder(x)
        return output

    def merge(self) -> Base:
        """Raises `NotMergeable`."""
        raise NotMergeable("spottune chooses blocks per image, so no one network computes the same")

    def pack(self) -> dict[str, Tensor]:
        """All but the frozen weights, which are the base's."""
        return {name: tensor for name, tensor in super().pack().items() if name not in self._frozen}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        if clash := tensors.keys() ^ self.pack().keys():
            raise KeyError(f"missing or unexpected tensors: {', '.join(sorted(clash))}")
        self.load_state_dict({**self.state_dict(), **tensors})
