"""TAPS, task adaptive parameter sharing: each layer decides whether to differ (Wallingford et al., CVPR 2022).

W_task = W + I(s) D with I = 1[s >= tau] (eq. 2), one scalar s and one D per layer; the gradient goes straight
through the indicator, dL/ds = <g, D>, and the penalty lambda / L * sum |s| (eq. 3) turns layers off. All
convolutions are gated, in a transformer all its linear layers and nothing else. What is stored is D of the
active layers and the normalisation; the head is outside.

`joint` trains several tasks at once ("standard"): all train the shared weights as well as their own D, s and
normalisation. The memory-efficient variant is a protocol, `protocol=two_stage`: one network is trained by all tasks
first and then is the frozen base of incremental TAPS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import Delta, DeltaConfig, Layer, as_layer, norm_layers, weighted_layers
from adapt.core.method import Incompatible, Method, methods
from adapt.modules.binary import straight_through
from adapt.modules.joint import JointDeltaMethod
from configs.settings import NotNegative, OneOf, Positive, Whole

JOINT = ("no", "standard")


@dataclass(frozen=True)
class TAPSConfig(DeltaConfig):
    """Settings.

    Attributes:
        sparsity: lambda.
        threshold: tau.
        score: s at the start; 0.15 in the released code, open in the paper.
        penalty_layers: what the penalty is divided by; 0 means the number of gated layers, as in the paper,
            while the released code has 52 for every network.
        penalty_from: training samples before the penalty begins; the released code waits three epochs.
        joint: "no" or "standard".
    """

    retired: ClassVar[Mapping[str, Any]] = {"stage_samples": 0}

    sparsity: NotNegative = 0.5
    threshold: Positive = 0.1
    score: float = 0.15
    penalty_layers: Whole = 0
    penalty_from: Whole = 0
    joint: Annotated[str, OneOf(*JOINT)] = "no"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(self.score >= self.threshold, "score", "at least the threshold")


class Gated(Delta):
    """W + I(s) D, active and without effect at the start."""

    def __init__(self, weight: Tensor, config: TAPSConfig) -> None:
        super().__init__()
        self.threshold, self.initial = config.threshold, config.score
        self.s = nn.Parameter(torch.tensor(config.score))
        self.d = nn.Parameter(torch.zeros_like(weight))

    @property
    def active(self) -> bool:
        """Whether the layer differs from the base's."""
        return bool(self.s >= self.threshold)

    def forward(self, weight: Tensor) -> Tensor:
        """Add D to a weight of any shape if the layer is active."""
        hard = (self.s.detach() >= self.threshold).to(weight.dtype)
        return torch.addcmul(weight, straight_through(hard, self.s), self.d)

    def pack(self) -> dict[str, Tensor]:
        """D if active, else nothing: whether it is there is the indicator."""
        return {"d": self.d.detach()} if self.active else {}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Set D and a score on the right side of the threshold."""
        with torch.no_grad():
            self.d.zero_()
            self.s.fill_(self.initial if "d" in tensors else 0.0)
            if "d" in tensors:
                self.load_state_dict({"s": self.s, "d": tensors["d"]})


@methods.register("taps")
class TAPS(JointDeltaMethod):
    """A gated difference for each layer; by default with the task's own normalisation."""

    Config = TAPSConfig
    config: TAPSConfig

    def __init__(self, base: Base, config: TAPSConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        if not self.deltas:
            raise Incompatible("taps gates convolutions and a transformer's linear layers; this base has none")
        if config.joint != "no":
            self.join(earlier, self.norm_tensors())

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """A gate, unless the layer is the patch embedding of a transformer."""
        linear = isinstance(layer, nn.Linear)
        return Gated(layer.weight, self.config) if linear or not _is_transformer(self.base.encoder) else None

    def penalty(self) -> Tensor:
        """The sparsity penalty lambda / L * sum |s|, a scalar."""
        # Reading the counter would wait for a GPU.
        if self.config.penalty_from > 0 and int(self.samples_seen) < self.config.penalty_from:
            return super().penalty()
        scores = torch.stack([gate.s for gate in self.gates().values()])
        return self.config.sparsity / (self.config.penalty_layers or len(scores)) * scores.abs().sum()

    def gates(self) -> dict[str, Gated]:
        """The gate of each gated layer, by the layer's name."""
        return {as_layer(k): gate for k, gate in self.deltas.items() if isinstance(gate, Gated)}

    def measures(self, head: int) -> dict[str, float]:
        """`parameter_share` and `layer_share`, the paper's "% params" and "% layers" as fractions."""
        active = [gate.active for gate in self.gates().values()]
        return {"parameter_share": self.parameter_share(head), "layer_share": sum(active) / len(active)}

    def parameter_share(self, head: int) -> float:
        """The paper's "% params" of a task as a fraction (Table 8; conventions found by reproducing it).

        Weights of active layers and scale and bias of all normalisations, over all weights, scales and
        biases of normalisations, and the head. Running statistics count nowhere.

        Args:
            head: parameters of the task's head.
        """
        network = self.base.encoder
        norms = sum(p.numel() for layer in norm_layers(network).values() for p in layer.parameters())
        weights = sum(layer.weight.numel() for layer in weighted_layers(network).values())
        active = sum(gate.d.numel() for gate in self.gates().values() if gate.active)
        return (active + norms) / (weights + norms + head)


def _is_transformer(network: nn.Module) -> bool:
    """Whether layer normalisations outnumber those of the other kinds, and linear layers convolutions."""
    norms, layers = norm_layers(network).values(), weighted_layers(network).values()
    return 2 * sum(isinstance(n, nn.LayerNorm) for n in norms) > len(norms) and 2 * sum(
        isinstance(layer, nn.Linear) for layer in layers
    ) > len(layers)
