"""Residual adapters: 1x1 convolutions beside or after each 3x3 convolution (Rebuffi et al., 2017 and 2018).

Parallel: z = f * x + a * x, where the 1x1 convolution `a` has the stride of f. Series: y = f * x and then
z = y + a * BN'(y), where BN' is a batch norm of the adapter. The normalisation that follows is the task's.
Adapters run beside the frozen network; `merge` folds them into its kernels, and so does evaluation without gradients,
because one convolution is faster than two.

`python -m adapt.compress` replaces each trained a by low-rank factors (`compress`), or those of all tasks by factors
that share their output side (`compress_jointly`), and trains on (CVPR 2018, section 3.2).

The paper trains the base with series adapters in place, and says that inserting them afterwards costs accuracy. Here
they are inserted into whatever base there is; one that was trained with them comes of `joint`, which trains all weights
of the base along with the adapters, from random ones too, and of `python -m adapt.export`, which writes what is shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import Delta, DeltaConfig, Layer, as_key, as_layer, require_network, weighted_layers
from adapt.core.method import Incompatible, Method, methods
from adapt.modules.adapters import Adapter
from adapt.modules.joint import JointDeltaMethod
from adapt.modules.placement import PLACEMENTS, every_second, place, spatial_convolutions
from adapt.modules.svd import factor_jointly
from configs.settings import OneOf, Range, Share

DROPOUTS = ("second", "first", "all")


@dataclass(frozen=True)
class ResidualAdapterConfig(DeltaConfig):
    """Settings.

    Attributes:
        kind: "parallel" or "series".
        placement: which 3x3 convolutions; see `adapt.modules.placement.place`.
        init: "he": normal of variance 2 / out, so that the task does not start as the base (released code);
            "zero": it does.
        dropout: probability of dropping a channel of an adapter's input in training.
        dropout_at: the adapters with dropout: the "second" of each block (paper), the "first" or "all".
        rank: if positive, each a (out, in) is the product of factors of rank K = rank * min(out, in).
        shared: whether the output factor is that of the earlier tasks, and frozen (joint SVD); such tasks come of
            `compress_jointly`, and cannot be trained from random adapters.
        joint: whether the base's weights are trained too, by all tasks together.
    """

    kind: Annotated[str, OneOf("parallel", "series")] = "parallel"
    placement: Annotated[str, OneOf(*PLACEMENTS)] = "all"
    init: Annotated[str, OneOf("he", "zero")] = "he"
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    dropout_at: Annotated[str, OneOf(*DROPOUTS)] = "second"
    rank: Share = 0.0
    shared: bool = False
    joint: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(self.rank > 0 or not self.shared, "shared", "false unless rank is positive")


@methods.register("residual_adapter")
class ResidualAdapter(JointDeltaMethod):
    """Adapters at the 3x3 convolutions; by default with the task's own normalisation."""

    Config = ResidualAdapterConfig
    config: ResidualAdapterConfig

    def __init__(
        self, base: Base, config: ResidualAdapterConfig, image_size: int, earlier: Sequence[Method] = ()
    ) -> None:
        network = require_network(base, self.name())
        names = spatial_convolutions(network)
        if not names:
            raise Incompatible("residual_adapter adapts 3x3 convolutions, and this base has none")
        self._chosen = place(base, names, config.placement, image_size)
        second = set(every_second(names)) - {next(iter(weighted_layers(network)))}
        self._dropped = {"all": set(names), "second": second, "first": set(names) - second}[config.dropout_at]
        sharing = [m for m in earlier if isinstance(m, ResidualAdapter) and m.config.shared]
        self._owners = dict(sharing[0].deltas) if config.shared and sharing else {}
        super().__init__(base, config, image_size, earlier)
        self._untrained = config.shared
        if config.joint:
            self.join(earlier, self.norm_tensors())
        self._tasks: list[ResidualAdapter] = next((m._tasks for m in earlier if isinstance(m, ResidualAdapter)), [])
        self._tasks.append(self)
        for key in self.deltas:
            layer = self.skeleton.get_submodule(as_layer(key))
            layer.register_forward_hook(partial(self._add, key))

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """An adapter where the placement asks for one."""
        if name not in self._chosen:
            return None
        dropout = self.config.dropout if name in self._dropped else 0.0
        series, zero = self.config.kind == "series", self.config.init == "zero"
        adapter = Adapter(cast(nn.Conv2d, layer), series, zero, dropout)
        if self.config.rank > 0:
            owner = cast("Adapter | None", self._owners.get(as_key(name)))
            adapter.factorise(self.config.rank, self.config.shared, owner)
        return adapter

    @property
    def _folds(self) -> bool:
        return not self.training and not torch.is_grad_enabled()

    def _add(self, key: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if self._folds else output + cast(Adapter, self.deltas[key]).branch(inputs[0], output)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the frozen encoder with adapters beside it, or folded into it, on uint8 images (B,3,H,W)."""
        if self._folds:
            return super().forward(image, features, layers)
        assert image is not None
        return self.run(image, {**self.shared_tensors(), **self.norm_tensors()})

    def begin_task(self, last: bool = False) -> None:
        """Refuse to train on beside shared factors that are those of random adapters.

        Raises:
            ValueError: they are.
        """
        if self._untrained:
            raise ValueError(
                "shared factors come of trained adapters: train with adapt.rank=0 adapt.shared=false, then "
                "python -m adapt.compress run=<that run> shared=true out=..."
            )

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        super().unpack(tensors)
        self._untrained = False

    def adapters(self) -> list[Adapter]:
        """The adapters, in the order of their layers."""
        return [cast(Adapter, delta) for delta in self.deltas.values()]

    def compress(self, rank: float) -> None:
        """Replace each a by its best approximation of rank K = rank * min(out, in), as two trained factors.

        Make the optimiser again afterwards: the parameters are others.

        Raises:
            ValueError: it is compressed already, or the rank is not in (0, 1].
        """
        self._check_compressible(rank)
        self.config = replace(self.config, rank=rank)
        for adapter in self.adapters():
            adapter.factorise(rank)

    def _check_compressible(self, rank: float) -> None:
        if not 0 < rank <= 1:
            raise ValueError(f"rank must be in (0, 1], the share of min(out, in) to keep, got {rank}")
        if self.config.rank > 0:
            raise ValueError("the adapters are compressed already; train and compress a new task instead")


def compress_jointly(methods: Sequence[ResidualAdapter], rank: float) -> None:
    """Replace the adapters of several tasks by factors of which the output side is shared and frozen.

    The first task owns and stores the shared factors. Make the optimisers again afterwards.

    Args:
        methods: the `ResidualAdapter` of each task, of one kind and placement, in the order in which the
            tasks were added.
        rank: K / min(out, in), in (0, 1].

    Raises:
        ValueError: a task is compressed already, they are in another order, other tasks of the base share factors
            already, or the rank is not in (0, 1].
    """
    for method in methods:
        method._check_compressible(rank)
    every = methods[0]._tasks
    if [method for method in every if method in methods] != list(methods):
        raise ValueError("give the tasks of one base in the order in which they were added")
    if any(method.config.shared for method in every):
        raise ValueError("other tasks share output factors already; compress all that shall share in one call")
    config = [replace(method.config, rank=rank, shared=True) for method in methods]
    for adapters in zip(*(method.adapters() for method in methods), strict=True):
        first = adapters[0]
        b, gs = factor_jointly([adapter.matrix() for adapter in adapters], first.rank(rank))
        for adapter, g in zip(adapters, gs, strict=True):
            adapter.set_factors(b, g, shared=True, owner=None if adapter is first else first)
    for method, changed in zip(methods, config, strict=True):
        method.config = changed
        method._untrained = False
