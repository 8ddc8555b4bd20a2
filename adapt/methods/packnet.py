"""PackNet: tasks share one set of weights, each owning the ones that the tasks before it did not need (Mallya and
Lazebnik, CVPR 2018; repository arunmallya/packnet).

Every weight has an owner: 0 free, 1 the base, 2 the first task, and so on. Task k computes with the weights of owners
1..k and zero elsewhere; it trains its own only. When it ends, the smallest of its weights are freed for the next task
and the others re-trained together with the head. Biases and normalisation stay the base's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.cache import CachedUntilChanged
from adapt.core.deltas import Delta, DeltaConfig, DeltaMethod, Layer, Norm, as_key
from adapt.core.method import Incompatible, Loss, Method, methods
from adapt.modules.binary import pack_levels, unpack_levels
from adapt.training.finite import clip_finite
from configs.settings import OpenShare, Positive, Range, Whole

FREE, BASE, FIRST = 0, 1, 2


@dataclass(frozen=True)
class PackNetConfig(DeltaConfig):
    """Settings.

    Attributes:
        base_prune: share of the base's weights, per layer, that are freed for tasks; the smallest go first.
        prune: share of its own weights, per layer, that a task frees when it ends.
        retrain_epochs: passes over the batches given to `end_task`, in which the kept weights and the head are
            re-trained.
        retrain_rate: learning rate of that, by SGD with momentum 0.9.
        prune_last: whether the last of a sequence of tasks is pruned too, which leaves room for more.
    """

    norm: Norm = "frozen"
    base_prune: OpenShare = 0.5
    prune: Annotated[float, Range(0, 1, below=True)] = 0.75
    retrain_epochs: Whole = 10
    retrain_rate: Positive = 1e-4
    prune_last: bool = False


def smallest(values: Tensor, share: float) -> Tensor:
    """Indices of the round(share * n) entries of smallest magnitude of a flat tensor (n,).

    Departs: of the weights that tie with the last of them only the first are dropped, in the release all.
    """
    count, sizes = round(share * values.numel()), values.detach().abs()
    if not count:
        return torch.zeros(0, dtype=torch.int64, device=values.device)
    limit = sizes.kthvalue(count).values
    below = (sizes < limit).nonzero().squeeze(1)
    return torch.cat([below, (sizes == limit).nonzero().squeeze(1)[: count - len(below)]])


class Owned(Delta):
    """The weights of one layer that a task owns.

    Attributes:
        values: the weights claimed when the task was added, in the order of their positions; what is trained.
        claimed: where those are, bool of the weight's shape.
        kept: which of them the task still owns, bool of the shape of `values`.
        family: this layer's `Owned` of all tasks, in the order of the tasks.
    """

    costly = True
    values: nn.Parameter
    claimed: Tensor
    kept: Tensor

    def __init__(self, weight: Tensor, config: PackNetConfig, earlier: Owned | None) -> None:
        super().__init__()
        self.family: list[Owned] = earlier.family if earlier else []
        self.identity = FIRST + len(self.family)
        self.family.append(self)
        if not earlier:
            owner = torch.full(weight.shape, BASE, dtype=torch.uint8, device=weight.device)
            owner.view(-1)[smallest(weight.reshape(-1), config.base_prune)] = FREE
            self.register_buffer("first_owner", owner, persistent=False)
        if not (self.owner == self.identity).any():
            self.owner[self.owner == FREE] = self.identity
        self._earlier = CachedUntilChanged[Tensor]()
        self._hold(weight)

    @property
    def owner(self) -> Tensor:
        """Owner of each weight, uint8 of the weight's shape; one tensor for all tasks."""
        owner = self.family[0].first_owner
        assert isinstance(owner, Tensor)
        return owner

    def _hold(self, like: Tensor) -> None:
        """Make room for the weights that the owners give to the task."""
        claimed = self.owner == self.identity
        self.register_buffer("claimed", claimed, persistent=False)
        self.register_buffer("kept", claimed[claimed], persistent=False)
        self.values = nn.Parameter(torch.zeros(len(self.kept), dtype=like.dtype, device=like.device))

    def earlier(self, weight: Tensor) -> Tensor:
        """The weights of the base and of earlier tasks, zero elsewhere; cached until one of them changes."""

        def compute() -> Tensor:
            total = torch.where(self.owner == BASE, weight, torch.zeros_like(weight))
            for owned in self._before:
                total.masked_scatter_(self.owner == owned.identity, owned.values[owned.kept])
            return total

        return self._earlier.get([self.owner, *(owned.values for owned in self._before)], weight, compute)

    @property
    def _before(self) -> list[Owned]:
        return self.family[: self.identity - FIRST]

    def depends_on(self) -> list[Tensor]:
        """The task's weights and those of earlier tasks, and whose each is."""
        return [self.values, self.kept, self.owner, *(owned.values for owned in self._before)]

    def forward(self, weight: Tensor) -> Tensor:
        """Put the owned weights between the earlier ones."""
        return self.earlier(weight).masked_scatter(self.claimed, self.values * self.kept)

    def prune(self, share: float) -> None:
        """Free the share of smallest owned weights."""
        dropped = smallest(self.values, share)
        self.kept[dropped] = False
        self.owner.view(-1)[self.claimed.view(-1).nonzero().squeeze(1)[dropped]] = FREE

    def pack(self) -> dict[str, Tensor]:
        """The weights that the task still owns."""
        return {"values": self.values.detach()[self.kept]}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned, after the owners are back."""
        self._hold(self.values)
        self.load_state_dict(dict(tensors))


@methods.register("packnet")
class PackNet(DeltaMethod):
    """y = B(x; the weights of owners 1..k).

    Adding a task claims all free weights; an earlier task that has not ended is pruned then, without re-training. The
    weights that a task freed stay in its `trainable` without effect or gradient until it is loaded from its file.

    Departs: the base is pruned without re-training, which would need the base's own training data.
    """

    Config = PackNetConfig
    config: PackNetConfig
    pruned: Tensor

    def __init__(self, base: Base, config: PackNetConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        self._before = [m for m in earlier if isinstance(m, PackNet)]
        if self._before:
            self._before[-1].prune()
            self._before[-1].check_room()
        super().__init__(base, config, image_size, earlier)
        self.register_buffer("pruned", torch.zeros((), dtype=torch.uint8))
        self._last = False

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """The owned weights of the layer."""
        earlier = self._before[-1].deltas[as_key(name)] if self._before else None
        assert earlier is None or isinstance(earlier, Owned)
        return Owned(layer.weight.detach(), self.config, earlier)

    def _owned(self) -> dict[str, Owned]:
        return {key: delta for key, delta in self.deltas.items() if isinstance(delta, Owned)}

    def check_room(self) -> None:
        """Raise `Incompatible` unless a next task would have weights: free ones, or its own while it is loaded."""
        for owned in self._owned().values():
            if ((owned.owner == FREE) | (owned.owner == FIRST + len(owned.family))).any():
                return
        raise Incompatible("packnet has no free weights left for another task; give the tasks before a prune above 0")

    def prune(self) -> None:
        """Free the smallest of the task's weights; nothing the second time."""
        if not self.pruned:
            for owned in self._owned().values():
                owned.prune(self.config.prune)
            self.pruned.fill_(1)

    def begin_task(self, last: bool = False) -> None:
        """Note whether room must be left for another task."""
        self._last = last

    def end_task(self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, head: Sequence[nn.Parameter] = ()) -> None:
        """Prune, then re-train the kept weights and the head on the batches; an iterator serves for one epoch only.

        The last task keeps all of its weights.
        """
        if self._last and not self.config.prune_last:
            return
        self.prune()
        training = self.training
        self.train()
        try:
            self._retrain(batches, loss, [*self.trainable(), *(p for p in head if p.requires_grad)])
        finally:
            self.train(training)

    def _retrain(
        self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, parameters: Sequence[nn.Parameter]
    ) -> None:
        optimiser = torch.optim.SGD(parameters, lr=self.config.retrain_rate, momentum=0.9)
        for _ in range(self.config.retrain_epochs):
            for images, targets in batches:
                optimiser.zero_grad()
                value = loss(self(images, None, None), targets)
                gradients = torch.autograd.grad(value, parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                clip_finite("re-training after pruning", value, parameters)
                optimiser.step()
        optimiser.zero_grad()

    def pack(self) -> dict[str, Tensor]:
        """The task's values; with the first task also all owners, ceil(log2(T+1)) bits each for T tasks and base."""
        packed = {**super().pack(), "pruned": self.pruned}
        if not self._before:
            tasks = 1 + len(next(iter(self._owned().values())).family)
            packed["tasks"] = torch.tensor(tasks, dtype=torch.uint8)
            for key, owned in self._owned().items():
                packed[f"owners.{key}"] = pack_levels(owned.owner, tasks.bit_length())
        return packed

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        rest = dict(tensors)
        self.pruned.copy_(rest.pop("pruned"))
        if not self._before:
            bits = int(rest.pop("tasks")).bit_length()
            for key, owned in self._owned().items():
                owned.owner.copy_(unpack_levels(rest.pop(f"owners.{key}"), bits, owned.owner.shape))
        super().unpack(rest)
