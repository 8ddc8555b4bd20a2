"""Recurrent policies: one frame at a time through `NavigationExtractor`, and a memory cell (GRU or LSTM) behind it.

Imitation trains them on windows of consecutive frames: the state is carried in from `context` frames before the window,
which get no gradient (burn-in, Kapturowski et al. 2019), and gradients flow through the window (truncated
backpropagation). Where an episode begins the state is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from adapt import Adapted
from agents.policies.extractor import NavigationExtractor, orthogonal
from agents.policies.observations import DEPTH, EXPLORED, FEATURES, GOAL, MAP, RGB, STEP, Observations
from agents.policies.policy import OwnState, Units
from configs.settings import NotEmpty, Range, Settings

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class RecurrentConfig(Settings):
    """Settings of a recurrent policy.

    Attributes:
        hidden: Units of the fully connected layers before the memory.
        memory: Units of the memory cell.
        context: Frames before a window from which imitation carries the state in, without gradients.
        bfloat16: Compute in bfloat16 where that loses nothing (autocast).
    """

    hidden: Annotated[tuple[Units, ...], NotEmpty()] = (256,)
    memory: Units = 256
    context: Annotated[int, Range(0, 4096)] = 12
    bfloat16: bool = True


class RecurrentPolicy(OwnState, MultiInputActorCriticPolicy):
    """SB3's actor-critic with a memory cell between the extractor and the heads; learned by imitation.

    Its `forward` for single observations starts every time from an empty memory: act through `actor`.
    """

    Config: ClassVar[type[RecurrentConfig]] = RecurrentConfig
    Cell: ClassVar[type[nn.GRUCell] | type[nn.LSTMCell]]

    def __init__(
        self,
        *args: Any,
        adapted: Adapted | None,
        hidden: tuple[int, ...],
        memory: int,
        context: int,
        bfloat16: bool,
        **kwargs: Any,
    ) -> None:
        """As SB3's policy; `adapted`, `hidden` and `bfloat16` go to the extractor."""
        settings = RecurrentConfig(tuple(hidden), memory, context, bfloat16)
        kwargs.update(
            net_arch=[],
            ortho_init=False,
            normalize_images=False,
            features_extractor_class=NavigationExtractor,
            features_extractor_kwargs={
                "adapted": adapted,
                "frames": 1,
                "hidden": settings.hidden,
                "bfloat16": settings.bfloat16,
            },
        )
        super().__init__(*args, **kwargs)
        self.context = settings.context
        self.memory = self.Cell(settings.hidden[-1], settings.memory)
        for name, weights in self.memory.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(weights)
            else:
                nn.init.zeros_(weights)
        heads = (
            nn.Linear(settings.memory, int(cast(nn.Linear, self.action_net).out_features)),
            nn.Linear(settings.memory, 1),
        )
        self.action_net, self.value_net = heads
        orthogonal(self.action_net, 0.01)
        orthogonal(self.value_net, 1.0)

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """One: the memory holds what was before."""
        return 1

    @property
    def extractor(self) -> NavigationExtractor:
        """The feature extractor of single frames."""
        return cast(NavigationExtractor, self.features_extractor)

    @property
    def adapted(self) -> Adapted | None:
        """The adapted visual encoder; None for a blind policy."""
        return self.extractor.adapted

    def actor(self) -> RecurrentActor:
        """A new actor with an empty memory."""
        return RecurrentActor(self)

    def extract_features(  # type: ignore[override]
        self, obs: dict[str, Tensor], features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor:
        """Memory's output (B, memory) after one frame that begins an episode."""
        latent = (features_extractor or self.features_extractor)(obs)
        return self._step(latent, self.empty(len(latent)))[0]

    def empty(self, count: int) -> State:
        """The state of `count` agents whose episodes begin."""
        zeros = torch.zeros((count, self.memory.hidden_size), device=self.device)
        return (zeros, zeros) if isinstance(self.memory, nn.LSTMCell) else (zeros,)

    def advance(self, latent: Tensor, state: State, begins: Tensor) -> tuple[Tensor, State]:
        """One step of the memory.

        Args:
            latent: (B, hidden[-1]) extractor output.
            state: The state before, each (B, memory).
            begins: (B,) bool, where an episode begins: the state before does not count there.

        Returns:
            The memory's output (B, memory) and the new state.
        """
        keep = (~begins)[:, None].float()
        return self._step(latent, tuple(part * keep for part in state))

    def _step(self, latent: Tensor, state: State) -> tuple[Tensor, State]:
        if isinstance(self.memory, nn.LSTMCell):
            new: State = self.memory(latent.float(), state)
        else:
            new = (self.memory(latent.float(), state[0]),)
        return new[0], new

    def frames(self, frames: Mapping[str, Tensor]) -> Tensor:
        """Extractor output (n, hidden[-1]) float32 of single frames (n, ...)."""
        extractor = self.extractor
        goal = frames[GOAL][:, None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=extractor.use_bfloat16):
            codes = extractor.encode(frames)[:, None] if extractor.sees else None
            valid = torch.ones(goal.shape[:2], device=goal.device)
            return extractor.fuse(codes, goal, valid, frames.get(MAP), frames.get(EXPLORED)).float()

    def window_logits(self, batch: Mapping[str, NDArray[Any]], window: int) -> Tensor:
        """See `agents.policies.policy.SequencePolicy`."""
        keys = [key for key in (GOAL, RGB, FEATURES, DEPTH, MAP, EXPLORED) if key in batch]
        steps = torch.as_tensor(batch[STEP], device=self.device)
        state = self.empty(len(steps))

        def latents(rows: slice) -> Tensor:
            chosen = {key: torch.as_tensor(batch[key][:, rows], device=self.device).flatten(0, 1) for key in keys}
            return self.frames(chosen).unflatten(0, (len(steps), -1))

        if self.context:
            with torch.no_grad():
                for k, latent in enumerate(latents(slice(0, self.context)).unbind(1)):
                    _, state = self.advance(latent, state, steps[:, k] == 0)
        outputs = []
        for k, latent in enumerate(latents(slice(self.context, self.context + window)).unbind(1)):
            output, state = self.advance(latent, state, steps[:, self.context + k] == 0)
            outputs.append(output)
        return cast(Tensor, self.action_net(torch.stack(outputs, dim=1).flatten(0, 1)))


class RecurrentActor:
    """The memory of N agents (`agents.policies.actor.Actor`)."""

    def __init__(self, policy: RecurrentPolicy) -> None:
        """Start with an empty memory."""
        self.policy = policy
        self._state: State | None = None

    @torch.no_grad()
    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """See `agents.policies.actor.Actor`."""
        policy = self.policy
        policy.set_training_mode(False)
        frames = {key: torch.as_tensor(value, device=policy.device) for key, value in observations.items()}
        state = policy.empty(len(steps)) if self._state is None else self._state
        begins = torch.as_tensor(steps, device=policy.device) == 0
        output, self._state = policy.advance(policy.frames(frames), state, begins)
        return cast(Tensor, policy.action_net(output)).float()
