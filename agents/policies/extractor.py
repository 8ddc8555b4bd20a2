"""Features of stacked frames: goal, maps, depth and adapted image codes through small convolutional networks.

The network of Side-Tuning (section 4.3 and its code's `TaskonomyFeaturesOnlyNet`) on any adapted base. With one frame
it is the feature extractor of a recurrent policy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Adapted
from agents.policies.observations import DEPTH, EXPLORED, FEATURES, GOAL, MAP, RGB, VALID

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
    """Input features of a stack of goals.

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


DEPTH_CHANNELS = 8
# Fewer numbers would be normalised to little more than their order, and one to 0.
LEAST_IN_GROUP = 4


def _groups(channels: int, pixels: int) -> int:
    """Groups in which codes are normalised: as many as divide the channels, but no smaller ones."""
    groups = math.gcd(GROUPS, channels)
    while groups > 1 and channels // groups * pixels < LEAST_IN_GROUP:
        groups //= 2
    return groups


def _depth_network() -> nn.Sequential:
    """Depth images (n, 1, H, W) to codes (n, 8, H/16, W/16), as small as those of the frozen encoders."""
    widths = (1, 16, 32, 32, DEPTH_CHANNELS)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _AddPenalty(torch.autograd.Function):
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
        shapes = {key: space.shape or () for key, space in observation_space.spaces.items()}
        channels, height, side = (0, 1, 1) if adapted is None else (*adapted.output_shape, 1, 1)[:3]
        self.depth: nn.Sequential | None = None
        if DEPTH in shapes:
            self.depth = cast(nn.Sequential, orthogonal(_depth_network()))
            bounds = observation_space.spaces[DEPTH]
            assert isinstance(bounds, spaces.Box)
            self.depth_bounds = float(bounds.low.min()), float(bounds.high.max())
            if adapted is None:
                height, side = (math.ceil(n / 16) for n in shapes[DEPTH][-2:])
            self.code_size = height, side
            channels += DEPTH_CHANNELS
        if channels:
            self.groups = _groups(channels * frames, height * side)
            kernel, stride, padding = (4, 2, 0) if min(height, side) >= 8 else (3, 1, 1)
            first = nn.Conv2d(channels * frames + goal_width, 32, kernel, stride, padding)
            self.visual = nn.Sequential(first, nn.ReLU(), nn.Flatten())
            with torch.no_grad():
                width += self.visual(torch.zeros(1, channels * frames + goal_width, height, side)).shape[1]
        self.goal = cast(nn.Sequential, orthogonal(nn.Sequential(nn.Linear(goal_width, 64), nn.ReLU())))
        width += 64
        # Of the visited map all stacked ones are read; the explored map remembers by itself: the newest.
        self.map: nn.Sequential | None = None
        self.explored: nn.Sequential | None = None
        if MAP in shapes:
            self.map, added = self._map_branch(shapes[MAP][0], shapes[MAP][-1])
            width += added
        if EXPLORED in shapes:
            self.explored, added = self._map_branch(shapes[EXPLORED][0] // frames, shapes[EXPLORED][-1])
            width += added
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.head = cast(nn.Sequential, orthogonal(nn.Sequential(*layers)))

    @staticmethod
    def _map_branch(channels: int, size: int) -> tuple[nn.Sequential, int]:
        """A network for a map and the number of its features."""
        network = cast(nn.Sequential, orthogonal(_map_network(channels, size)))
        with torch.no_grad():
            return network, network(torch.zeros(1, channels, size, size)).shape[1]

    @property
    def sees(self) -> bool:
        """Whether frames have codes: adapted features of images, or depth."""
        return self.adapted is not None or self.depth is not None

    def encode(self, frames: Mapping[str, Tensor]) -> Tensor:
        """Codes of single frames.

        Args:
            frames: By key ``rgb`` (n, 3, H, W) images and/or ``features`` (n, C, h, w) of the base; ``depth``
                (n, 1, H, W).

        Returns:
            (n, C', h', w') adapted features, then the depth code's channels.
        """
        codes: list[Tensor] = []
        if self.adapted is not None:
            rgb, features = frames.get(RGB), frames.get(FEATURES)
            # Where SB3 values a state by itself it makes floats of bytes first.
            image = None if rgb is None else rgb.to(torch.uint8)
            adapted = self.adapted(image=image, features=None if features is None else features.float())
            codes.append(adapted if adapted.ndim == 4 else adapted[..., None, None])
        if self.depth is not None:
            code = self.depth(self._without_holes(frames[DEPTH].float()))
            codes.append(code if code.shape[2:] == self.code_size else F.adaptive_avg_pool2d(code, self.code_size))
        return codes[0] if len(codes) == 1 else torch.cat([code.to(codes[0].dtype) for code in codes], dim=1)

    def _without_holes(self, depth: Tensor) -> Tensor:
        """Depth images in which what hit nothing (a gap in a scan, the sky) is as far as the sensor reaches.

        Habitat's sensor gives the least depth there, which a network takes for a wall before the camera. Where
        ``env.task.min_depth`` is not 0, what is nearer than that is taken for a hole, too.
        """
        least, most = self.depth_bounds
        return depth.masked_fill(depth <= least, most)

    def fuse(
        self, codes: Tensor | None, goal: Tensor, valid: Tensor, maps: Tensor | None, explored: Tensor | None = None
    ) -> Tensor:
        """One feature vector per stack of K frames, oldest first.

        Args:
            codes: (B, K, C, h, w) codes of frames; None for a blind policy.
            goal: (B, K, 2) polar goals.
            valid: (B, K) 1 where the frame belongs to the episode, 0 before its start; such frames count as zeros.
            maps: (B, K*3, M, M) uint8 visited maps, zero before the start; None without a map.
            explored: (B, 2, E, E) uint8, the newest explored map; None without one.

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
        if self.explored is not None:
            assert explored is not None
            kind = torch.bfloat16 if self.use_bfloat16 else torch.float32
            parts.append(self.explored(explored.to(kind).mul_(1 / 255.0)))
        return cast(Tensor, self.head(torch.cat([p.to(parts[0].dtype) for p in parts], dim=1)))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Stacked observations (`agents.policies.observations.stack_frames`) to (B, features_dim) float32."""
        count, k = observations[GOAL].shape[0], self.frames
        goal = observations[GOAL].reshape(count, k, 2)
        with torch.autocast(goal.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            codes = None
            if self.sees:
                stacks = {key: observations[key] for key in (RGB, FEATURES, DEPTH) if key in observations}
                flat = self.encode({key: x.reshape(count * k, -1, *x.shape[2:]) for key, x in stacks.items()})
                codes = flat.reshape(count, k, *flat.shape[1:])
            explored = observations.get(EXPLORED)
            newest = None if explored is None else explored[:, -explored.shape[1] // k :]
            latent = self.fuse(codes, goal, observations[VALID], observations.get(MAP), newest).float()
        if self.adapted is not None and torch.is_grad_enabled():
            return cast(Tensor, _AddPenalty.apply(latent, self.adapted.penalty()))
        return latent
