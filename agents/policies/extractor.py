"""Features of stacked frames: goal, visited map and adapted image codes through small convolutional networks.

The network of Side-Tuning (section 4.3 and its code's `TaskonomyFeaturesOnlyNet`) on any adapted base. With one frame
it is the feature extractor of a recurrent policy.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Adapted
from agents.policies.observations import FEATURES, GOAL, MAP, RGB, VALID

CODES = "codes"
GOAL_CHANNELS = 5
GROUPS = 8


def orthogonal(module: nn.Module, gain: float = math.sqrt(2)) -> nn.Module:
    """Orthogonal weights and zero biases in every conv and linear layer of `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def goal_channels(goal: Tensor, valid: Tensor) -> Tensor:
    """What the policy reads of a stack of goals.

    Departs: the paper feeds cosine, sine and metres. A unit of 5 m keeps the channels on one scale; nearness spreads
    out the last half metre, where stopping is decided; stillness tells an agent that something it cannot see holds it.

    Args:
        goal: (B, K, 2) polar goals (metres, radians), oldest first.
        valid: (B, K) 1 where the frame belongs to the episode, else 0.

    Returns:
        (B, K, 5): cosine, sine, distance / 5 m, nearness 1 / (1 + 5 distance), and stillness exp(-moved / 5 cm), where
        moved is how far the goal went in the agent's view since the frame before; all zero where not valid.
    """
    rho, phi = goal.unbind(-1)
    cos, sin = phi.cos(), phi.sin()
    seen = torch.stack([rho * cos, rho * sin], dim=-1)
    moved = (seen[:, 1:] - seen[:, :-1]).norm(dim=-1)
    still = F.pad(torch.exp(-moved / 0.05) * valid[:, :-1], (1, 0))
    return torch.stack([cos, sin, rho / 5.0, 1.0 / (1.0 + 5.0 * rho), still], dim=-1) * valid[..., None]


def _map_network(channels: int, size: int) -> nn.Sequential:
    """The paper's three convolutions for an 84-cell map; smaller strides and half the channels for a small one."""
    first, second, width = ((8, 4), (4, 2), 32) if size >= 64 else ((4, 2), (4, 2), 16)
    return nn.Sequential(
        nn.Conv2d(channels, width, *first),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, *second),
        nn.ReLU(),
        nn.Conv2d(2 * width, 32, 3),
        nn.ReLU(),
        nn.Flatten(),
    )


class _Penalised(torch.autograd.Function):
    """Passes a tensor on and adds a penalty to whatever loss is made of it: SB3's losses leave no place for one."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, penalty: Tensor) -> Tensor:
        ctx.kind = penalty.dtype
        return latent

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.ones((), dtype=ctx.kind, device=gradient.device)


class NavigationExtractor(BaseFeaturesExtractor):
    """Observation stack to one feature vector.

    Sizes follow the input: with a (8, 16, 16) code, an 84-cell map and four frames the convolutions are the paper's
    (code: 4x4 stride 2, 44 to 32 channels; map: 8x8/4, 4x4/2, 3x3). A code smaller than 8x8 keeps its size (3x3
    convolution). Departs: the goal stack also enters the first fully connected layer directly, since a tiled goal is
    worth little beside a 4x4 code.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        adapted: Adapted | None,
        frames: int,
        hidden: tuple[int, ...] = (1024, 512),
        bfloat16: bool = True,
    ) -> None:
        """Build for K = `frames` stacked frames; `adapted` None makes a blind policy; `bfloat16` asks for autocast."""
        super().__init__(observation_space, hidden[-1])
        self.frames, self.use_bfloat16 = frames, bfloat16
        self.adapted = adapted
        goal_width = frames * GOAL_CHANNELS
        width = 0
        if adapted is not None:
            channels, height, side = (*adapted.output_shape, 1, 1)[:3]
            self.groups = math.gcd(GROUPS, channels * frames)
            kernel, stride, padding = (4, 2, 0) if min(height, side) >= 8 else (3, 1, 1)
            first = nn.Conv2d(channels * frames + goal_width, 32, kernel, stride, padding)
            self.visual = nn.Sequential(first, nn.ReLU(), nn.Flatten())
            with torch.no_grad():
                width += self.visual(torch.zeros(1, channels * frames + goal_width, height, side)).shape[1]
        self.goal = cast(nn.Sequential, orthogonal(nn.Sequential(nn.Linear(goal_width, 64), nn.ReLU())))
        width += 64
        self.map: nn.Sequential | None = None
        if MAP in observation_space.spaces:
            shape = observation_space[MAP].shape
            assert shape is not None
            self.map = cast(nn.Sequential, orthogonal(_map_network(shape[0], shape[-1])))
            with torch.no_grad():
                width += self.map(torch.zeros(1, *shape)).shape[1]
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.head = cast(nn.Sequential, orthogonal(nn.Sequential(*layers)))

    def encode(self, rgb: Tensor | None, features: Tensor | None) -> Tensor:
        """Adapted codes of single frames: (n, 3, H, W) images and/or (n, C, h, w) base features to (n, C', h', w')."""
        assert self.adapted is not None
        # Where SB3 values a state by itself it makes floats of bytes first.
        image = None if rgb is None else rgb.to(torch.uint8)
        codes = self.adapted(image=image, features=None if features is None else features.float())
        return codes if codes.ndim == 4 else codes[..., None, None]

    def fuse(self, codes: Tensor | None, goal: Tensor, valid: Tensor, maps: Tensor | None) -> Tensor:
        """One feature vector per stack of K frames, oldest first.

        Args:
            codes: (B, K, C, h, w) adapted codes; None for a blind policy.
            goal: (B, K, 2) polar goals.
            valid: (B, K) 1 where the frame belongs to the episode, 0 before its start; such frames count as zeros.
            maps: (B, K*3, M, M) uint8 visited maps, zero before the start; None without a map.

        Returns:
            (B, hidden[-1]).
        """
        goals = goal_channels(goal, valid).flatten(1)
        parts = [self.goal(goals)]
        if codes is not None:
            stacked = (codes * valid[:, :, None, None, None].to(codes.dtype)).flatten(1, 2)
            stacked = F.group_norm(stacked, self.groups)
            tiled = goals[:, :, None, None].expand(-1, -1, *stacked.shape[2:]).to(stacked.dtype)
            parts.append(self.visual(torch.cat([stacked, tiled], dim=1)))
        if self.map is not None:
            assert maps is not None
            kind = torch.bfloat16 if self.use_bfloat16 else torch.float32
            parts.append(self.map(maps.to(kind).mul_(1 / 127.5).sub_(1.0)))
        return cast(Tensor, self.head(torch.cat([p.to(parts[0].dtype) for p in parts], dim=1)))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Stacked observations (`agents.policies.observations.stack_frames`) to (B, features_dim) float32."""
        count, k = observations[GOAL].shape[0], self.frames
        goal = observations[GOAL].reshape(count, k, 2)
        with torch.autocast(goal.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            codes = None
            if self.adapted is not None:
                rgb, features = observations.get(RGB), observations.get(FEATURES)
                flat = self.encode(
                    None if rgb is None else rgb.reshape(count * k, -1, *rgb.shape[2:]),
                    None if features is None else features.reshape(count * k, -1, *features.shape[2:]),
                )
                codes = flat.reshape(count, k, *flat.shape[1:])
            latent = self.fuse(codes, goal, observations[VALID], observations.get(MAP)).float()
        if self.adapted is not None and torch.is_grad_enabled():
            return cast(Tensor, _Penalised.apply(latent, self.adapted.penalty()))
        return latent
