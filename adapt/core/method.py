"""The interface of adaptation methods, and their registry.

A method says how one task changes what the frozen base computes. It is a frozen dataclass of settings (a subclass of
`MethodConfig`) and a subclass of `Method` under `@methods.register("<name>")`, in `adapt/methods/<name>.py` or in
another distribution's module (`configs.registry`, docs/extending.md). There are three families, each with its helper:

- fusion (`features`, `side_tuning`): subclass `Method`, combine `features` with a network of your own;
- weight deltas (`bn`, `lora`): subclass `adapt.core.deltas.DeltaMethod`, give each layer a `Delta`;
- own weights (`fine_tune`, `scratch`): subclass `adapt.modules.own_weights.OwnWeights`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from configs.registry import Registry, modules_of
from configs.settings import Settings

Loss = Callable[[Tensor, Tensor], Tensor]
ConfigT = TypeVar("ConfigT", bound="MethodConfig")


class NotMergeable(ValueError):
    """The method cannot be folded into one plain network; the message says why."""


class Incompatible(ValueError):
    """The method makes no sense on this base; the message says why."""


@dataclass(frozen=True)
class MethodConfig(Settings):
    """Settings of a method; subclasses add fields, and rules between them in `__post_init__`."""

    retired: ClassVar[Mapping[str, Any]] = {}
    """Settings of earlier versions that saved tasks still name, each with the only value that is still read."""

    @classmethod
    def from_settings(cls: type[ConfigT], settings: Mapping[str, Any]) -> ConfigT:
        """See `configs.settings.Settings.from_settings`; retired settings are passed over."""
        current = {k: v for k, v in settings.items() if k not in cls.retired or v != cls.retired[k]}
        config: ConfigT = super().from_settings(current)
        return config


class Method(nn.Module):
    """One task's change of what the base computes. Its parameters and buffers are all that the task owns.

    Attributes:
        Config: the dataclass of settings.
        reads: what `forward` needs: any of "image", "features" (of the base), "layers" (inner maps of the
            base).
        joint_settings: settings without which tasks that are trained together would share nothing that is trained.
        one_network: whether all tasks with this method compute the same features, so that only heads tell them apart.
        layer_names: which submodules of the base "layers" means; empty means those that its encoder names.
        base: the frozen base; shared by all tasks and no part of this module, so its weights are in no state
            dict.
        config: the settings.
        image_size: height and width of the images, pixels.
        samples_seen: training samples so far, for schedules.
        restarts: how often training has begun anew from other weights, each time with a new optimiser.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    joint_settings: ClassVar[Mapping[str, Any]] = {}
    one_network: ClassVar[bool] = False
    reads: frozenset[str] = frozenset({"image"})
    layer_names: tuple[str, ...] = ()
    base: Base
    samples_seen: Tensor
    restarts: int = 0

    def __init__(self, base: Base, config: MethodConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        """Build for one task.

        Args:
            base: the frozen base.
            config: an instance of `Config`.
            image_size: height and width of the images, pixels.
            earlier: the tasks with this same method that were added before, oldest first, for methods that
                learn a sequence and share state.

        Raises:
            Incompatible: the method makes no sense on this base.
        """
        super().__init__()
        # nn.Module would register the base as a part of the task.
        object.__setattr__(self, "base", base)
        self.config = config
        self.image_size = image_size
        self.register_buffer("samples_seen", torch.zeros((), dtype=torch.int64))

    @classmethod
    def name(cls) -> str:
        """The name that users write."""
        return methods.name_of(cls)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Compute the task's features; whatever is not in `reads` may be None.

        Args:
            image: uint8 (B,3,H,W).
            features: float32 (B,C,h,w) or (B,C), the base's output.
            layers: the base's inner maps by name.

        Returns:
            Adapted features, float32 (B,C',h',w') or (B,C').
        """
        raise NotImplementedError

    def check_features(self, image: Tensor, features: Tensor) -> None:
        """Refuse features (B,C,h,w) or (B,C) that are not those of images (B,3,H,W) of the method's size.

        Where they are merged with others, some of another shape would be broadcast without a word.

        Raises:
            ValueError: the number of images or the shape per image differs.
        """
        shape = self.base.feature_shape(self.image_size)
        if tuple(features.shape) != (len(image), *shape):
            raise ValueError(
                f"{self.name()} was made for images of {self.image_size} pixels with features {shape} each; "
                f"got images {tuple(image.shape)} and features {tuple(features.shape)}"
            )

    @property
    def needs_base(self) -> bool:
        """Whether the trained task still needs the base's weights."""
        return True

    @property
    def gives_gradient(self) -> bool:
        """Whether a step now changes what `trainable` returns; not in a stage that trains the head alone."""
        return True

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that training may change, to be handed to the optimiser."""
        return [p for p in self.parameters() if p.requires_grad]

    def penalty(self) -> Tensor:
        """A regulariser to add to the task loss, a scalar; zero by default."""
        return torch.zeros((), device=self.samples_seen.device)

    def advance(self, samples: int) -> None:
        """Note that an optimiser step on `samples` samples was made; call it after each step."""
        self.samples_seen += samples

    def begin_task(self, last: bool = False) -> None:
        """Called once before the task is trained, for methods that learn a sequence of tasks.

        Args:
            last: whether no task will follow on the same base.
        """

    def end_task(self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, head: Sequence[nn.Parameter] = ()) -> None:
        """Called once after the task was trained, for methods that then measure or prune.

        Args:
            batches: pairs of uint8 images (B,3,H,W) and targets of the task.
            loss: maps adapted features and targets to the scalar task loss; it contains the head.
            head: the head's parameters, for methods that train on.
        """

    def measures(self, head: int) -> dict[str, float]:
        """Numbers about the trained task that reports show, by name; none by default.

        Args:
            head: parameters of the task's head.
        """
        return {}

    def merge(self) -> Base:
        """Fold the task into one plain frozen network that computes the same at the cost of the base.

        Raises:
            NotMergeable: the method has no such form.
        """
        raise NotMergeable(f"{self.name()} cannot be merged into one network: what it adds runs beside the base")

    def pack(self) -> dict[str, Tensor]:
        """Serialise the task in its compact form; `unpack` reads it.

        By default all parameters and buffers but the batch counters of batch norms, which nothing reads.
        """
        dropped = ("samples_seen", "num_batches_tracked")
        return {n: t.detach() for n, t in self.state_dict().items() if not n.endswith(dropped)}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned.

        Raises:
            RuntimeError: a tensor is missing, unexpected or of another shape.
        """
        self.load_state_dict({"samples_seen": self.samples_seen, **tensors})


methods: Registry[type[Method]] = Registry("method", "sidestep.methods", partial(modules_of, "adapt.methods"))
"""All methods by name."""


def list_methods() -> list[str]:
    """Names of all methods: the files of `adapt/methods`, and those of other distributions."""
    return methods.names()


def get_method(name: str) -> type[Method]:
    """Import the method of that name.

    Raises:
        ValueError: there is no such method; the nearest is suggested.
    """
    return methods.get(name)
