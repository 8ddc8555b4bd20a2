"""Joint training: weight deltas on a trunk that several tasks train together.

In joint training the tasks share a *trunk*: trainable copies of the base's weights, of which each task still
has its own delta and normalisation. The first task of a method owns the trunk and stores it; those added later
use it. Train with one optimiser over the parameters of all tasks and add up the tasks' losses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import DeltaConfig, DeltaMethod, as_key, load_packed_state, packed_state
from adapt.core.method import Incompatible, Method, NotMergeable


class Trunk(nn.Module):
    """Trainable copies of an encoder's parameters, and copies of its buffers, but for some that it leaves out.

    Args:
        network: the encoder.
        private: names of the parameters and buffers that the tasks do not share.
    """

    def __init__(self, network: nn.Module, private: Iterable[str]) -> None:
        super().__init__()
        left_out = set(private)
        self._keys: dict[str, str] = {}
        held: dict[Tensor, str] = {}
        for owner, module in network.named_modules():
            # Without duplicates within a module only: layers that share a weight share its copy.
            for leaf, tensor in [*module._parameters.items(), *module._buffers.items()]:
                name = f"{owner}.{leaf}" if owner else leaf
                if tensor is None or name in left_out:
                    continue
                if tensor not in held:
                    held[tensor] = as_key(name)
                    self._hold(held[tensor], tensor)
                self._keys[name] = held[tensor]

    def _hold(self, key: str, tensor: Tensor) -> None:
        copied = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(key, nn.Parameter(copied))
        else:
            self.register_buffer(key, copied)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by their names in the encoder, under each where layers share one."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: own[key] for name, key in self._keys.items()}


class JointDeltaMethod(DeltaMethod):
    """A `DeltaMethod` that may train a trunk; call `join` at the end of `__init__` to make it do so.

    Attributes:
        own_trunk: the trunk if this task owns it, else None.
        trunk: the trunk that this task uses, its own or that of an earlier task; None if there is none.
    """

    trunk: Trunk | None

    def __init__(self, base: Base, config: DeltaConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        object.__setattr__(self, "trunk", None)
        super().__init__(base, config, image_size, earlier)
        self.own_trunk: Trunk | None = None

    def join(self, earlier: Sequence[Method], private: Iterable[str]) -> None:
        """Share the trunk of the earlier tasks, or begin one without the `private` tensors.

        Raises:
            Incompatible: the trunk of the earlier tasks holds more or less than this task needs.
        """
        own = Trunk(self.base.encoder, private)
        trunks = (method.trunk for method in earlier if isinstance(method, JointDeltaMethod))
        shared = next((trunk for trunk in trunks if trunk is not None), None)
        if shared is None:
            shared = self.own_trunk = own
        elif shared.tensors().keys() != own.tensors().keys():
            raise Incompatible(
                f"joint tasks of {self.name()} need the same settings, and earlier ones share other layers"
            )
        # Not a submodule where another task owns it.
        object.__setattr__(self, "trunk", shared)
        self.train(self.training)

    @property
    def needs_base(self) -> bool:
        """Whether there is no trunk in its place."""
        return self.trunk is None

    def shared_base(self) -> Base:
        """The shared trunk with this task's normalisation and without its deltas, as a base.

        Raises:
            NotMergeable: there is no trunk: the tasks share the base itself.
        """
        if self.trunk is None:
            raise NotMergeable(f"these tasks of {self.name()} share the base as it is, and nothing else")
        encoder = copy.deepcopy(self.base.encoder)
        tensors = {**self.shared_tensors(), **self.norm_tensors()}
        encoder.load_state_dict({**encoder.state_dict(), **{name: t.detach() for name, t in tensors.items()}})
        return Base(encoder, replace(self.base.spec, task=f"{self.base.spec.task} {self.name()}".strip()))

    def own_tensors(self) -> dict[str, Tensor]:
        """The task's own normalisation and the trunk."""
        shared = {} if self.trunk is None else self.trunk.tensors()
        return {**shared, **super().own_tensors()}

    def shared_tensors(self) -> dict[str, Tensor]:
        """The base's tensors, replaced by the trunk's where there is one."""
        tensors = super().shared_tensors()
        return tensors if self.trunk is None else {**tensors, **self.trunk.tensors()}

    def trainable(self) -> list[nn.Parameter]:
        """The task's own parameters and those of the trunk that it uses."""
        shared = [] if self.trunk is None or self.own_trunk is not None else list(self.trunk.parameters())
        return super().trainable() + shared

    def pack(self) -> dict[str, Tensor]:
        """As `DeltaMethod.pack`; the owner of the trunk stores that too."""
        return {**super().pack(), **({} if self.own_trunk is None else packed_state(self.own_trunk, "trunk."))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        rest = dict(tensors)
        if self.own_trunk is not None:
            load_packed_state(self.own_trunk, rest, "trunk.")
        super().unpack(rest)
