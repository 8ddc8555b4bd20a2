"""The interface of policies, and their registry (``policy.name``).

A `Policy` is a network of Stable-Baselines3's kind that learners train; it gives an `agents.policies.actor.Actor`,
which acts with it. One that can learn from frames in their order (`SequencePolicy`) can also be trained by imitation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt import Adapted, Base
from adapt.training.state import check_like
from agents.policies.actor import Actor
from configs.registry import Registry, modules_of
from configs.settings import Range, Settings


@runtime_checkable
class Policy(Protocol):
    """A network from observations to actions; SB3's policies have most of it.

    A subclass of SB3's `BasePolicy` whose constructor takes ``(observation_space, action_space, lr_schedule, *,
    adapted, **settings)``: `adapted` is the `adapt.Adapted` that the policy sees through, None for a blind one, and
    `settings` are the fields of `Config`.

    Attributes:
        Config: Dataclass of the settings.
        adapted: What the policy sees through.
        squash_output: Whether continuous actions are the hyperbolic tangent of a Gaussian (SB3's own attribute).
    """

    Config: ClassVar[type[Settings]]

    @property
    def squash_output(self) -> bool:
        """Whether continuous actions are the hyperbolic tangent of a Gaussian (SB3's own attribute)."""

    @classmethod
    def stacked_frames(cls, settings: Mapping[str, Any]) -> int:
        """The number of frames stacked into one observation for reinforcement learning."""

    @property
    def adapted(self) -> Adapted | None:
        """The adapted visual encoder; None for a blind policy."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters, those of the frozen base included."""

    def set_training_mode(self, mode: bool) -> None:
        """Whether dropout and the like are on."""

    def own_state(self) -> dict[str, Tensor]:
        """The weights in checkpoints; see `OwnState`."""

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over an `own_state`; raises a ValueError for that of another policy."""

    def new_actor(self) -> Actor:
        """A new actor without memory that uses the weights as they are whenever it acts."""


@runtime_checkable
class SequencePolicy(Policy, Protocol):
    """A policy that can be trained on windows of consecutive frames.

    Attributes:
        context: Frames before a window that its first decision depends on.
    """

    @property
    def context(self) -> int:
        """Frames before a window that its first decision depends on."""

    def window_logits(self, batch: Mapping[str, NDArray[Any]], window: int) -> Tensor:
        """Action logits of labelled frames.

        Args:
            batch: Single frames (`agents.policies.observations.PolicyObservations`) by key, (W, context + window, ...),
                oldest first, and ``step``, each frame's place in its episode; frames of earlier episodes do not count.
            window: How many of the last frames of each row are decided.

        Returns:
            (W * window, actions) unnormalised log-probabilities, row by row.
        """


Units = Annotated[int, Range(1, 65_536)]
HELPERS = (
    "actor",
    "actor_critic",
    "device_observations",
    "epsilon_greedy",
    "extractor",
    "observations",
    "off_policy",
    "policy",
    "predicted_depth",
    "recurrent",
)

policies: Registry[type[Policy]] = Registry(
    "policy",
    "sidestep.policies",
    partial(
        modules_of,
        "agents.policies",
        but=HELPERS,
    ),
)
"""All policies by name."""


class OwnState(nn.Module):
    """Mixin: a policy's weights without those of the frozen base, each tensor once."""

    def own_state(self) -> dict[str, Tensor]:
        """The weights in checkpoints: parameters and buffers without the frozen base."""
        modules = self.named_modules(remove_duplicate=False)
        frozen = tuple(f"{name}." for name, module in modules if isinstance(module, Base))
        # SB3 knows a shared feature extractor by three names.
        aliases = ("pi_features_extractor.", "vf_features_extractor.")
        return {k: v for k, v in self.state_dict().items() if not k.startswith((*frozen, *aliases))}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over an `own_state`.

        Raises:
            Damaged: Its keys or shapes are those of another policy, or it holds something else than tensors.
        """
        own = self.own_state()
        check_like(state, own, "policy")
        with torch.no_grad():
            for key, tensor in own.items():
                tensor.copy_(state[key])


def trainable(policy: Policy) -> list[nn.Parameter]:
    """The parameters that training may change."""
    return [p for p in policy.parameters() if p.requires_grad]
