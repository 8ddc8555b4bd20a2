"""Base class of methods whose tasks all train one copy of the base: `ewc`, `psp`, `adashare`.

The task that was added first with such a method makes the copy and stores it; every later one refers to it and stores
only what is its own. So training a later task may change what an earlier one computes: how to limit that is what these
methods differ in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.method import Method, MethodConfig
from adapt.modules.own_weights import OwnWeights


class SharedWeights(OwnWeights):
    """A trainable copy of the base's encoder that all tasks with this method share.

    Attributes:
        position: 0 for the first task with this method, 1 for the second, and so on.
    """

    def __init__(self, base: Base, config: MethodConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        self.position = len(earlier)
        # A tuple, because nn.Module takes no submodules before its constructor ran.
        self._common = tuple(m.encoder for m in earlier[:1] if isinstance(m, SharedWeights))
        super().__init__(base, config, image_size, earlier)

    def initial(self, network: nn.Module) -> nn.Module:
        """The copy that the earlier tasks train, or a new one."""
        return self._common[0] if self._common else self.prepared(copy.deepcopy(network))

    def prepared(self, network: nn.Module) -> nn.Module:
        """Hook of the first task on the base's copy; by default the copy itself."""
        return network

    def stored(self, name: str) -> bool:
        """Whether the tensor of the state dict called `name` is stored with this task."""
        return not self.position or not name.startswith("encoder.")

    def pack(self) -> dict[str, Tensor]:
        """The shared network if this is the first task, and what is the task's own."""
        return {n: t for n, t in super().pack().items() if self.stored(n)}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        own = self.pack()
        if clash := tensors.keys() ^ own.keys():
            raise KeyError(f"missing or unexpected tensors: {', '.join(sorted(clash))}")
        state = self.state_dict()
        self.load_state_dict({**state, **{name: tensor for name, tensor in tensors.items() if name in state}})
