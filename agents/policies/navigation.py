"""The navigation policy of Side-Tuning (section 4.3 and its code's `TaskonomyFeaturesOnlyNet`) on any adapted base.

Goal, visited map and adapted image features of the last K frames, stacked, through small convolutions and fully
connected layers to an action distribution and a value; no recurrence. SB3's `ActorCriticPolicy` holds it, so PPO and
the imitation learners train the same class.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Adapted, Base
from agents.policies.observations import FEATURES, GOAL, MAP, RGB, VALID, Observations

CODES = "codes"
GOAL_CHANNELS = 5
GROUPS = 8


def _orthogonal(module: nn.Module, gain: float = math.sqrt(2)) -> nn.Module:
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
        self.goal = cast(nn.Sequential, _orthogonal(nn.Sequential(nn.Linear(goal_width, 64), nn.ReLU())))
        width += 64
        self.map: nn.Sequential | None = None
        if MAP in observation_space.spaces:
            shape = observation_space[MAP].shape
            assert shape is not None
            self.map = cast(nn.Sequential, _orthogonal(_map_network(shape[0], shape[-1])))
            with torch.no_grad():
                width += self.map(torch.zeros(1, *shape)).shape[1]
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.head = cast(nn.Sequential, _orthogonal(nn.Sequential(*layers)))

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


class NavigationPolicy(MultiInputActorCriticPolicy):
    """SB3's actor-critic on `NavigationExtractor`: linear actor and critic on the extractor's output."""

    def __init__(
        self, *args: Any, adapted: Adapted | None, frames: int, hidden: tuple[int, ...], bfloat16: bool, **kwargs: Any
    ) -> None:
        """As SB3's policy; `adapted`, `frames`, `hidden` and `bfloat16` go to the extractor."""
        kwargs.update(
            net_arch=[],
            # SB3's own initialisation would overwrite weights that the extractor brings along.
            ortho_init=False,
            # The base owns all normalisation of images.
            normalize_images=False,
            features_extractor_class=NavigationExtractor,
            features_extractor_kwargs={
                "adapted": adapted,
                "frames": frames,
                "hidden": tuple(hidden),
                "bfloat16": bfloat16,
            },
        )
        super().__init__(*args, **kwargs)
        _orthogonal(self.action_net, 0.01)
        _orthogonal(self.value_net, 1.0)

    @property
    def extractor(self) -> NavigationExtractor:
        """The one feature extractor that actor and critic share."""
        return cast(NavigationExtractor, self.features_extractor)

    def extract_features(  # type: ignore[override]
        self, obs: dict[str, Tensor], features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor:
        """The extractor's output for a batch of observations, which it takes as they are: SB3 makes floats of bytes."""
        return cast(Tensor, (features_extractor or self.features_extractor)(obs))

    def own_state(self) -> dict[str, Tensor]:
        """Parameters and buffers without the frozen base, each once: what a checkpoint holds."""
        frozen = tuple(f"{name}." for name, module in self.named_modules() if isinstance(module, Base))
        aliases = ("pi_features_extractor.", "vf_features_extractor.")
        return {k: v for k, v in self.state_dict().items() if not k.startswith((*frozen, *aliases))}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take over an `own_state`.

        Raises:
            ValueError: Its keys or shapes are those of another policy.
        """
        own = self.own_state()
        differs = [
            k for k in own.keys() | state.keys() if k not in own or k not in state or own[k].shape != state[k].shape
        ]
        if differs:
            raise ValueError(
                f"the checkpoint belongs to another policy: {min(differs)} differs ({len(differs)} tensors in all); "
                "use the config it was trained with"
            )
        with torch.no_grad():
            for key, tensor in own.items():
                tensor.copy_(state[key])

    def logits(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) unnormalised log-probabilities."""
        return cast(Tensor, self.action_net(latent))


class FrameStack:
    """The last K frames of N agents as adapted codes, so that acting encodes each frame once.

    While the weights are fixed this is exactly the policy on stacked observations
    (`agents.policies.observations.stack_frames`).
    """

    def __init__(self, policy: NavigationPolicy) -> None:
        """Start without history."""
        self.policy = policy
        self._history: dict[str, Tensor] = {}

    def probabilities(
        self, observations: Observations, steps: NDArray[np.int64], temperature: float = 1.0
    ) -> NDArray[np.float32]:
        """Action probabilities (N, actions) float32: `logits` divided by a temperature, through a softmax."""
        return tempered(self.logits(observations, steps), temperature)

    @torch.no_grad()
    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """Unnormalised log-probabilities of actions for the next frame of every agent; call it once per step.

        Args:
            observations: Single frames (`agents.policies.observations.PolicyObservations`), (N, ...).
            steps: (N,) each frame's place in its episode; earlier frames of other episodes do not count.

        Returns:
            (N, actions) float32.
        """
        policy, extractor = self.policy, self.policy.extractor
        policy.set_training_mode(False)
        k = extractor.frames
        frame = {key: torch.as_tensor(value, device=policy.device) for key, value in observations.items()}
        with torch.autocast(policy.device.type, torch.bfloat16, enabled=extractor.use_bfloat16):
            if extractor.adapted is not None:
                frame[CODES] = extractor.encode(frame.get(RGB), frame.get(FEATURES))
            stacks = {key: self._append(key, frame[key], k) for key in (CODES, GOAL, MAP) if key in frame}
            age = torch.arange(k - 1, -1, -1, device=policy.device)
            valid = torch.as_tensor(steps, device=policy.device)[:, None] >= age
            maps = stacks.get(MAP)
            if maps is not None:
                maps = (maps * valid[:, :, None, None, None].to(torch.uint8)).flatten(1, 2)
            return policy.logits(extractor.fuse(stacks.get(CODES), stacks[GOAL], valid.float(), maps)).float()

    def _append(self, key: str, frame: Tensor, k: int) -> Tensor:
        """(N, K, ...) newest frames of one kind, oldest first."""
        old = self._history.get(key)
        if old is None:
            old = torch.zeros((len(frame), k, *frame.shape[1:]), dtype=frame.dtype, device=frame.device)
        self._history[key] = torch.cat([old[:, 1:], frame[:, None]], dim=1)
        return self._history[key]


def tempered(logits: Tensor, temperature: float) -> NDArray[np.float32]:
    """Probabilities (N, A) float32 of `logits` (N, A) divided by a temperature."""
    return cast("NDArray[np.float32]", (logits / temperature).softmax(-1).cpu().numpy())


def sample_actions(probabilities: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
    """Actions (N,) int64 by inverse transform of `noise` (N,) uniform in [0, 1) through `probabilities` (N, A)."""
    cumulative = probabilities.cumsum(1)
    chosen = (noise[:, None] * cumulative[:, -1:] >= cumulative).sum(1)
    return np.minimum(chosen, probabilities.shape[1] - 1).astype(np.int64)
