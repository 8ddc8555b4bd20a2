"""Fine-tuning: the task trains a copy of the base: all of it, its last layers, or all after a first stage; or all tasks
train one copy in turn, which forgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import weighted_layers
from adapt.core.method import Method, MethodConfig, methods
from adapt.modules.shared_weights import SharedWeights
from configs.settings import Whole


@dataclass(frozen=True)
class FineTuneConfig(MethodConfig):
    """Settings.

    Attributes:
        last: train only this many last convolutions and linear layers, in the order in which the encoder
            registers them, with the normalisations after the first of them; 0 trains everything.
        stage_samples: stage-wise training: the copy stays frozen, and only the head trains, until this many
            training samples were seen (Side-Tuning section 3.1: alpha = 1 first, then 0); 0 trains it from
            the start.
        shared: all tasks train one copy, the "fine-tune" of the incremental benchmarks; `False` gives each task its
            own, their "independent".
    """

    last: Whole = 0
    stage_samples: Whole = 0
    shared: bool = False


@methods.register("fine_tune")
class FineTune(SharedWeights):
    """y = B_task(x), where B_task starts as the base, or where the task before left it if it is shared."""

    Config = FineTuneConfig
    joint_settings: ClassVar[Mapping[str, Any]] = {"shared": True}
    config: FineTuneConfig

    def __init__(self, base: Base, config: FineTuneConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        self._frozen: list[str] = []
        sharing = [m for m in earlier if isinstance(m, FineTune) and m.config.shared] if config.shared else []
        super().__init__(base, config, image_size, sharing)
        layers = list(weighted_layers(self.encoder))
        config.require(config.last <= len(layers), "last", f"at most {len(layers)}, the base's layers")
        if config.last:
            names = [name for name, module in self.encoder.named_modules() if _owns(module)]
            self._frozen = names[: names.index(layers[-config.last])]
            for name in self._frozen:
                for parameter in self.encoder.get_submodule(name).parameters(recurse=False):
                    parameter.requires_grad_(False)
        self.train()

    @property
    def needs_base(self) -> bool:
        """Whether layers are left frozen."""
        return bool(self._frozen)

    @property
    def gives_gradient(self) -> bool:
        """Whether the first stage is over."""
        return not self._first_stage

    @property
    def _first_stage(self) -> bool:
        return int(self.samples_seen) < self.config.stage_samples

    def train(self, mode: bool = True) -> FineTune:
        """Train or evaluate; frozen layers always evaluate, so that their statistics stay."""
        super().train(mode)
        if self._first_stage:
            self.encoder.eval()
        for name in self._frozen:
            self.encoder.get_submodule(name).eval()
        return self

    def advance(self, samples: int) -> None:
        """Count samples; the second stage begins when there are enough."""
        super().advance(samples)
        self.train(self.training)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the copy on uint8 images (B,3,H,W); without gradients in the first stage."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._first_stage):
            return super().forward(image, features, layers)

    def pack(self) -> dict[str, Tensor]:
        """Only what may differ from the base."""
        return {n: t for n, t in super().pack().items() if self._owner(n) not in self._frozen}

    @staticmethod
    def _owner(tensor: str) -> str:
        return tensor.removeprefix("encoder.").rpartition(".")[0]


def _owns(module: nn.Module) -> bool:
    """Whether the module itself, not a submodule, has parameters or statistics."""
    return bool(list(module.parameters(recurse=False)) or list(module.buffers(recurse=False)))
