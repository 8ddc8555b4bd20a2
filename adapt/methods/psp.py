"""Parameter superposition: all tasks in one set of weights, separated by fixed random signs (Cheung et al.,
NeurIPS 2019; as the baseline of Side-Tuning, tlkit/models/superposition.py).

W_task = W * c_task, where c_task in {-1,+1}^(inputs * k * k) is drawn once per layer and the same for every output
channel. W is trained by all tasks. The first layer has no context, as in the release.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from adapt.core.base import Base
from adapt.core.deltas import (
    TaskNorm,
    as_key,
    as_layer,
    check_places,
    norm_layers,
    norm_tensors,
    put_tensors,
    weighted_layers,
)
from adapt.core.method import Incompatible, Method, MethodConfig, methods
from adapt.core.sharing import shared_elsewhere
from adapt.modules.binary import pack_levels, unpack_levels
from adapt.modules.shared_weights import SharedWeights
from configs.settings import OneOf


@dataclass(frozen=True)
class PSPConfig(MethodConfig):
    """Settings.

    Attributes:
        start: "base": the shared weights start as the base's times the first context, so that the first task starts
            as the base; "plain": they start as the base's, which the first context then scrambles, as released for
            networks that were not pretrained with contexts.
        statistics: batch norm at test: "task": running statistics of the task; "batch": those of the batch, as
            released, so that an image's features depend on the images beside it.
        seed: of the contexts; the n-th task draws from seed + n.
    """

    start: Annotated[str, OneOf("base", "plain")] = "base"
    statistics: Annotated[str, OneOf("task", "batch")] = "task"
    seed: int = 0


@methods.register("psp")
class PSP(SharedWeights):
    """y = B(x; W * c_task).

    Attributes:
        contexts: by layer ("/" for "."), the signs, float of the weight's shape without the output channels.
        norms: by layer, the task's own running statistics.
    """

    Config = PSPConfig
    config: PSPConfig

    def __init__(self, base: Base, config: PSPConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        if any(isinstance(m, PSP) and m.config.statistics != config.statistics for m in earlier):
            raise Incompatible("psp tasks share one network and need the same statistics")
        check_places(base.encoder, self.name(), config.statistics == "task")
        for layer in weighted_layers(base.encoder).values():
            if reason := shared_elsewhere(base.encoder, [layer]):
                raise Incompatible(f"psp gives each layer's weight signs of its own, and {reason}")
        generator = torch.Generator().manual_seed(config.seed + self.position)
        self.contexts = nn.Module()
        for name, layer in list(weighted_layers(self.encoder).items())[1:]:
            signs = torch.randint(0, 2, layer.weight.shape[1:], generator=generator).mul_(2).sub_(1)
            self.contexts.register_buffer(as_key(name), signs.to(layer.weight), persistent=False)
        if config.start == "base" and not self.position:
            with torch.no_grad():
                for name, weight in self._weights().items():
                    self.encoder.get_parameter(name).copy_(weight)
        self.norms = nn.ModuleDict()
        if config.statistics == "task":
            for name, module in norm_layers(base.encoder).items():
                if (norm := TaskNorm(module, "statistics")).state_dict():
                    self.norms[as_key(name)] = norm

    def prepared(self, network: nn.Module) -> nn.Module:
        """Without running statistics if the batch's are used."""
        for module in network.modules():
            if self.config.statistics == "batch" and isinstance(module, _BatchNorm):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None
        return network

    def _weights(self) -> dict[str, Tensor]:
        """The task's weights of all layers with a context."""
        shared = dict(self.encoder.named_parameters(remove_duplicate=False))
        return {f"{as_layer(key)}.weight": shared[f"{as_layer(key)}.weight"] * c for key, c in self._signs().items()}

    def _signs(self) -> dict[str, Tensor]:
        return dict(self.contexts.named_buffers())

    def task_tensors(self) -> dict[str, Tensor]:
        """The task's tensors: shared weights times the task's context, and its statistics."""
        return {**self._weights(), **norm_tensors(self.norms)}

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the shared encoder with the task's signs on uint8 images (B,3,H,W)."""
        assert image is not None
        x = self.base.normalise(image)
        # Tied, a module that is registered twice would keep the task's tensors instead of its own.
        output: Tensor = functional_call(self.encoder, self.task_tensors(), (x,), tie_weights=False)
        return output

    def merge(self) -> Base:
        """The shared encoder with the task's signs multiplied in."""
        encoder = copy.deepcopy(self.encoder)
        with torch.no_grad():
            put_tensors(encoder, self.task_tensors())
        spec = replace(self.base.spec, task=f"{self.base.spec.task} psp".strip())
        # Without running statistics it is no longer the encoder that the spec names.
        return Base(encoder, spec if self.config.statistics == "task" else replace(spec, encoder="", kwargs={}))

    def stored(self, name: str) -> bool:
        """All but the running statistics of the shared network, which no task uses."""
        return super().stored(name) and not name.endswith(tuple(self._unused()))

    def _unused(self) -> list[str]:
        return [f"encoder.{as_layer(key)}.running_{kind}" for key in self.norms for kind in ("mean", "var")]

    def pack(self) -> dict[str, Tensor]:
        """Also the contexts, one bit per sign."""
        return {**super().pack(), **{f"contexts.{key}": pack_levels(c > 0, 1) for key, c in self._signs().items()}}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        for key, signs in self._signs().items():
            signs.copy_(unpack_levels(tensors[f"contexts.{key}"], 1, signs.shape) * 2.0 - 1)
        super().unpack(tensors)
