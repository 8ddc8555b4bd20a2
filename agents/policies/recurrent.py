"""Recurrent policies: one frame at a time through `NavigationExtractor`, and a memory cell (GRU or LSTM) behind it.

Imitation trains them on windows of consecutive frames: the state is carried in from `context` frames before the window,
which get no gradient (burn-in, Kapturowski et al. 2019), and gradients flow through the window (truncated
backpropagation). PPO trains them on sequences of its rollout (`agents.learners.recurrent`). Where an episode begins the
state is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from adapt import Adapted
from agents.policies.actor import gaussian_of
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
    """SB3's actor-critic with a memory cell between the extractor and the heads, of which there is one for both.

    It has the interface of sb3-contrib's recurrent policies. Without states each observation starts without memory.
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
        kwargs.update(net_arch=[], ortho_init=False, normalize_images=False)
        kwargs.update(self.extractor_settings(adapted, settings))
        super().__init__(*args, **kwargs)
        self.context = settings.context
        self.memory = self.Cell(self.features_dim, settings.memory)
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
        # SB3's own knows neither the memory nor these heads.
        rate = self.optimizer.defaults["lr"]
        self.optimizer = self.optimizer_class(self.parameters(), lr=rate, **self.optimizer_kwargs)  # type: ignore[call-arg]

    def extractor_settings(self, adapted: Adapted | None, settings: RecurrentConfig) -> dict[str, Any]:
        """SB3's arguments for the feature extractor of single frames."""
        arguments = {"adapted": adapted, "frames": 1, "hidden": settings.hidden, "bfloat16": settings.bfloat16}
        return {"features_extractor_class": NavigationExtractor, "features_extractor_kwargs": arguments}

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

    def new_actor(self) -> RecurrentActor:
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

    def empty_states(self, count: int) -> RNNStates:
        """`empty` as sb3-contrib's states: actor and critic share the memory."""
        return RNNStates(self.empty(count), self.empty(count))

    def forward(  # type: ignore[override]
        self,
        obs: dict[str, Tensor],
        lstm_states: RNNStates | None = None,
        episode_starts: Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """One step of N agents.

        Args:
            obs: Single frames.
            lstm_states: The memory before it.
            episode_starts: (N,) 1 where an episode begins.
            deterministic: Take the likeliest action.

        Returns:
            Actions (N,), values (N, 1), log-probabilities (N,) and the memory after it.
        """
        state = None if lstm_states is None else lstm_states.pi
        output, new = self._remembered(obs, state, episode_starts)
        chosen = self._get_action_dist_from_latent(output)
        actions = chosen.get_actions(deterministic=deterministic)
        return actions, self.value_net(output), chosen.log_prob(actions), RNNStates(new, new)

    def predict_values(  # type: ignore[override]
        self, obs: dict[str, Tensor], lstm_states: State | None = None, episode_starts: Tensor | None = None
    ) -> Tensor:
        """Values (N, 1) of single frames after the given memory."""
        return cast(Tensor, self.value_net(self._remembered(obs, lstm_states, episode_starts)[0]))

    def evaluate_actions(  # type: ignore[override]
        self,
        obs: dict[str, Tensor],
        actions: Tensor,
        lstm_states: RNNStates | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values (N, 1), log-probabilities (N,) and entropies (N,) of actions in sequences of equal length.

        Args:
            obs: N frames, sequence by sequence.
            actions: (N,) actions.
            lstm_states: The memory before the first frame of each sequence.
            episode_starts: (N,) 1 where an episode begins.
        """
        state = None if lstm_states is None else lstm_states.pi
        output, _ = self._remembered(obs, state, episode_starts)
        chosen = self._get_action_dist_from_latent(output)
        entropy = chosen.entropy()
        assert entropy is not None
        return self.value_net(output), chosen.log_prob(actions), entropy

    def _remembered(
        self, obs: dict[str, Tensor], state: State | None, episode_starts: Tensor | None
    ) -> tuple[Tensor, State]:
        """The memory's output (N, memory) for N frames in as many sequences as there are states, and the last state."""
        latent = self.extractor(obs)
        if state is None or episode_starts is None:
            return self._step(latent, self.empty(len(latent)))
        sequences = latent.unflatten(0, (len(state[0]), -1))
        begins = episode_starts.reshape(sequences.shape[:2]) > 0
        outputs = []
        for k, frame in enumerate(sequences.unbind(1)):
            output, state = self.advance(frame, state, begins[:, k])
            outputs.append(output)
        return torch.stack(outputs, dim=1).flatten(0, 1), state

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

    def logits(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """See `agents.policies.actor.Actor`."""
        return self._decide(observations, steps)

    def gaussian(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """See `agents.policies.actor.Actor`."""
        return gaussian_of(self._decide(observations, steps), self.policy.log_std.detach())

    @torch.no_grad()
    def _decide(self, observations: Observations, steps: NDArray[np.int64]) -> Tensor:
        """The actor's output (N, actions) for the next frame of every agent."""
        policy = self.policy
        policy.set_training_mode(False)
        frames = {key: torch.as_tensor(value, device=policy.device) for key, value in observations.items()}
        state = policy.empty(len(steps)) if self._state is None else self._state
        begins = torch.as_tensor(steps, device=policy.device) == 0
        output, self._state = policy.advance(policy.frames(frames), state, begins)
        return cast(Tensor, policy.action_net(output)).float()
