"""The policy on a stack of frames (``policy=stack``): no recurrence, as in Side-Tuning (section 4.3).

Goal, visited map and adapted image features of the last K frames, through `NavigationExtractor`, to an action
distribution and a value. SB3's `ActorCriticPolicy` holds it, so PPO and imitation train the same class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from adapt import Adapted
from agents.policies.actor import gaussian_of
from agents.policies.extractor import CODES, NavigationExtractor, orthogonal
from agents.policies.observations import DEPTH, EXPLORED, FEATURES, GOAL, MAP, RGB, STEP, Observations
from agents.policies.policy import OwnState, Units, policies
from configs.settings import NotEmpty, Range, Settings


@dataclass(frozen=True)
class StackConfig(Settings):
    """Settings of the policy on stacked frames.

    Attributes:
        frames: How many of the last frames it reads.
        hidden: Units of the fully connected layers (the paper, at 256 pixels: 1024, 512).
        bfloat16: Compute in bfloat16 where that loses nothing (autocast).
    """

    frames: Annotated[int, Range(1, 64)] = 4
    hidden: Annotated[tuple[Units, ...], NotEmpty()] = (256, 256)
    bfloat16: bool = True


@policies.register("stack")
class NavigationPolicy(OwnState, MultiInputActorCriticPolicy):
    """SB3's actor-critic on `NavigationExtractor`: linear actor and critic on the extractor's output."""

    Config: ClassVar[type[StackConfig]] = StackConfig

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
        orthogonal(self.action_net, 0.01)
        orthogonal(self.value_net, 1.0)

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """The setting `frames`."""
        return int(settings["frames"])

    @property
    def extractor(self) -> NavigationExtractor:
        """The one feature extractor that actor and critic share."""
        return cast(NavigationExtractor, self.features_extractor)

    @property
    def adapted(self) -> Adapted | None:
        """The adapted visual encoder; None for a blind policy."""
        return self.extractor.adapted

    @property
    def context(self) -> int:
        """Frames before a decision that it depends on."""
        return self.extractor.frames - 1

    def new_actor(self) -> FrameStack:
        """A new frame stack."""
        return FrameStack(self)

    def extract_features(  # type: ignore[override]
        self, obs: dict[str, Tensor], features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor:
        """The extractor's output for a batch of observations, which it takes as they are: SB3 makes floats of bytes."""
        return cast(Tensor, (features_extractor or self.features_extractor)(obs))

    def logits(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) unnormalised log-probabilities."""
        return cast(Tensor, self.action_net(latent))

    def gaussian(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, 2, actions), see `agents.policies.actor.Actor.gaussian`."""
        return gaussian_of(self.action_net(latent), self.log_std)

    def window_logits(self, batch: Mapping[str, NDArray[Any]], window: int) -> Tensor:
        """See `agents.policies.policy.SequencePolicy`; each frame is encoded once although up to K stacks hold it."""
        extractor, device = self.extractor, self.device
        k, width = extractor.frames, window + self.context
        rows = np.arange(window)[:, None] + np.arange(k)  # (window, K) frames of each stack, oldest first
        steps = batch[STEP][:, k - 1 :]
        valid = torch.as_tensor(steps[..., None] >= np.arange(k - 1, -1, -1), device=device).flatten(0, 1)

        def stacks(array: NDArray[Any]) -> Tensor:
            return torch.as_tensor(array[:, rows], device=device).flatten(0, 1)

        with torch.autocast(device.type, torch.bfloat16, enabled=extractor.use_bfloat16):
            codes = None
            if extractor.sees:
                keys = [key for key in (RGB, FEATURES, DEPTH) if key in batch]
                flat = extractor.encode({k: torch.as_tensor(batch[k], device=device).flatten(0, 1) for k in keys})
                per_window = flat.reshape(-1, width, *flat.shape[1:])
                codes = per_window[:, torch.as_tensor(rows, device=device)].flatten(0, 1)
            maps = None if extractor.map is None else stacked_maps(batch[MAP], valid)
            explored = None
            if extractor.explored is not None:
                explored = torch.as_tensor(batch[EXPLORED][:, k - 1 :], device=device).flatten(0, 1)
            return self.logits(extractor.fuse(codes, stacks(batch[GOAL]), valid.float(), maps, explored))


def stacked_maps(maps: NDArray[np.uint8], valid: Tensor) -> Tensor:
    """The stacks of visited maps in windows of frames, channels last in memory: twice as fast to convolve.

    Args:
        maps: (n, window + K - 1, C, M, M) maps of single frames.
        valid: (n * window, K) bool on the policy's device, whether a frame belongs to the episode; others count as 0.

    Returns:
        (n * window, K * C, M, M) uint8 on the device of `valid`, oldest frame first.
    """
    k = valid.shape[1]
    views = np.lib.stride_tricks.sliding_window_view(maps, k, axis=1)  # (n, window, C, M, M, K)
    last = torch.from_numpy(np.ascontiguousarray(views.transpose(0, 1, 3, 4, 5, 2))).flatten(0, 1).to(valid.device)
    if not valid.all():
        last = last * valid[:, None, None, :, None].to(torch.uint8)
    return last.flatten(3).permute(0, 3, 1, 2)


class StackedPolicy(Protocol):
    """A policy that `FrameStack` acts with; it also has `logits` or `gaussian`."""

    @property
    def extractor(self) -> NavigationExtractor:
        """Feature extractor of stacked frames."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def set_training_mode(self, mode: bool) -> None:
        """Whether dropout and the like are on."""


class DiscretePolicy(StackedPolicy, Protocol):
    """One of discrete actions."""

    def logits(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, actions) unnormalised log-probabilities."""


class ContinuousPolicy(StackedPolicy, Protocol):
    """One of continuous actions."""

    def gaussian(self, latent: Tensor) -> Tensor:
        """(B, features_dim) extractor output to (B, 2, actions), see `agents.policies.actor.Actor.gaussian`."""


class FrameStack:
    """The last K frames of N agents as adapted codes, so that acting encodes each frame once.

    While the weights are fixed this is exactly the policy on stacked observations
    (`agents.policies.observations.stack_frames`).
    """

    def __init__(self, policy: StackedPolicy) -> None:
        """Start without history."""
        self.policy = policy
        self._history: dict[str, Tensor] = {}

    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """See `agents.policies.actor.Actor`; frames before an episode's start count as zeros."""
        return self._decide(observations, steps, cast(DiscretePolicy, self.policy).logits)

    def gaussian(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """See `agents.policies.actor.Actor`; frames before an episode's start count as zeros."""
        return self._decide(observations, steps, cast(ContinuousPolicy, self.policy).gaussian)

    @torch.no_grad()
    def _decide(self, observations: Observations, steps: NDArray[np.int64], head: Callable[[Tensor], Tensor]) -> Tensor:
        """The output of `head` on the features of the newest stacks."""
        policy, extractor = self.policy, self.policy.extractor
        policy.set_training_mode(False)
        k = extractor.frames
        frame = {key: torch.as_tensor(value, device=policy.device) for key, value in observations.items()}
        with torch.autocast(policy.device.type, torch.bfloat16, enabled=extractor.use_bfloat16):
            if extractor.sees:
                frame[CODES] = extractor.encode(frame)
            stacks = {key: self._append(key, frame[key], k) for key in (CODES, GOAL, MAP) if key in frame}
            age = torch.arange(k - 1, -1, -1, device=policy.device)
            valid = torch.as_tensor(steps, device=policy.device)[:, None] >= age
            maps = stacks.get(MAP)
            if maps is not None:
                maps = (maps * valid[:, :, None, None, None].to(torch.uint8)).flatten(1, 2)
            newest = frame.get(EXPLORED)
            return head(extractor.fuse(stacks.get(CODES), stacks[GOAL], valid.float(), maps, newest)).float()

    def _append(self, key: str, frame: Tensor, k: int) -> Tensor:
        """(N, K, ...) newest frames of one kind, oldest first."""
        old = self._history.get(key)
        if old is None:
            old = torch.zeros((len(frame), k, *frame.shape[1:]), dtype=frame.dtype, device=frame.device)
        self._history[key] = torch.cat([old[:, 1:], frame[:, None]], dim=1)
        return self._history[key]
