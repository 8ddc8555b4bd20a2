"""Side-Tuning: a small trained network beside the frozen base (Zhang et al., ECCV 2020).

R(x) = merge(B(x), S(x)), by default alpha B(x) + (1 - alpha) S(x) (eq. 1). The base's features are a
constant of the frame, so a caller who keeps them pays for the side network alone. The side's output is
average-pooled to the size of the base's where the two differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from adapt.core.base import Base, load_base
from adapt.core.deltas import require_network
from adapt.core.method import Incompatible, Method, MethodConfig, methods
from adapt.core.model import Adapted
from adapt.encoders import build_encoder, list_encoders
from adapt.modules.merges import MERGES, Alpha, DenseAlpha, blend, build_merge, group_normalise
from adapt.pretraining.distillation import match, to_shape
from configs.settings import Count, OneOf, OpenShare, Positive

INITS = ("random", "base", "distill", "low_energy")
ALPHAS = ("learned", "fixed", "curriculum")
LOW_ENERGY = 0.01
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class SideTuningConfig(MethodConfig):
    """Settings.

    Attributes:
        side: an encoder's name, or "base" for the base's own architecture.
        width: multiplies the hidden channels of an FCN side network; 1 is the paper's, for 256 pixels.
        init: initial side weights. "random": the encoder's default. "base": a copy of the base, which must
            have the same architecture. "distill": random until `distill` is called, which trains the side to
            give the base's features. "low_energy": random with the last layer scaled by 0.01, so that the
            side's output is close to zero; the paper reaches the same by distilling towards an output
            without effect. A file (*.safetensors): what `python -m adapt.distill` wrote for this side and width.
        merge: one of "alpha", "product", "sum", "mlp", "mlp2", "resmlp2", "film", "concat", or "side", which leaves the
            base out.
        alpha: the base's share at the start, in (0,1), for the alpha merge.
        alpha_mode: "learned", "fixed", or "curriculum": alpha = k / (k + N) after N samples (section 3.1).
        k: the curriculum's k, samples.
        dense: with a learned alpha merge, also add the side networks of all earlier tasks as they are; the weights
            are a softmax (tlkit/models/merge_operators.py; boosting if all tasks are one task).
        train_base: the task has a copy of the base, too, and trains both (footnote 8; the release's "finetune").
        normalise: standardise the merged features in 8 groups of channels before the readout, as the
            released code.
        seed: seed of random side weights.
    """

    side: str = "fcn5"
    width: Positive = 0.25
    init: str = "random"
    merge: Annotated[str, OneOf(*MERGES)] = "alpha"
    alpha: OpenShare = 0.5
    alpha_mode: Annotated[str, OneOf(*ALPHAS)] = "learned"
    k: Count = 10_000
    dense: bool = False
    train_base: bool = False
    normalise: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if "/" not in self.side:
            self.one_of("side", ["base", *list_encoders()])
        if not self.init.endswith(WEIGHTS):
            self.one_of("init", INITS)
        plain = self.merge == "alpha" and self.alpha_mode == "learned"
        self.require(plain or not self.dense, "dense", "false unless merge=alpha and alpha_mode=learned")
        self.require(not (self.dense and self.train_base), "train_base", "false where dense=true")

    def to_settings(self) -> dict[str, Any]:
        """The settings as plain values; a file of initial weights is not named, for its task holds its own."""
        settings = super().to_settings()
        return {**settings, "init": "random"} if self.init.endswith(WEIGHTS) else settings


@methods.register("side_tuning")
class SideTuning(Method):
    """y = merge(base(x), side(x)).

    Attributes:
        side: the side network, of images normalised as the base's.
        merge_operator: the merge; None for the curriculum, which has nothing of its own.
        own_base: the task's trained copy of the base's encoder, if it has one.
    """

    Config = SideTuningConfig
    reads = frozenset({"image", "features"})
    config: SideTuningConfig

    def __init__(self, base: Base, config: SideTuningConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self.shape = base.feature_shape(image_size)
        # A list, so that earlier tasks are no part of this one.
        self._earlier = [m for m in earlier if isinstance(m, SideTuning)] if config.dense else []
        self.own_base: nn.Module | None = None
        if config.train_base:
            self.own_base = copy.deepcopy(require_network(base, self.name())).requires_grad_().train()
            self.reads = frozenset({"image"})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.side = self._build_side()
            self.merge_operator = self._build_merge()
        channels = self.shape[0] * (2 if config.merge == "concat" else 1)
        self.norm = group_normalise(channels) if config.normalise else nn.Identity()
        self._check_shape()

    @property
    def needs_base(self) -> bool:
        """Whether the frozen base is run."""
        return self.own_base is None

    def _build_side(self) -> nn.Module:
        config, spec = self.config, self.base.spec
        if config.side == "base" and self.base.black_box:
            raise Incompatible("a black box has no architecture to repeat; name an encoder as side")
        if config.side != "base" and len(self.shape) not in (1, 3):
            raise Incompatible(f"side network {config.side!r} gives maps, the base {self.shape}; use side=base")
        if config.side != "base" and hasattr(self.base.encoder, "prepare"):
            raise Incompatible(f"side network {config.side!r} reads images, and this base does not; use side=base")
        if config.side != "base":
            side = build_encoder(config.side, **self._side_settings())
        elif config.init == "base" or not spec.encoder:
            side = copy.deepcopy(self.base.encoder)
        else:
            side = build_encoder(spec.encoder, **spec.kwargs)
        if config.init == "base":
            self._copy_base(side)
        if config.init == "low_energy":
            lower_energy(side)
        if config.init.endswith(WEIGHTS):
            self._copy_student(side)
        return side.requires_grad_().to(self.base.dtype).train()

    def _side_settings(self) -> dict[str, Any]:
        """The FCNs take the base's number of channels and a width; other encoders are what they are."""
        if not self.config.side.startswith("fcn"):
            return {}
        settings: dict[str, Any] = {"out_channels": self.shape[0], "width": self.config.width}
        if self.config.side == "fcn4":
            settings["pool"] = len(self.shape) == 1
        return settings

    def _copy_base(self, side: nn.Module) -> None:
        try:
            side.load_state_dict(self.base.encoder.state_dict())
        except RuntimeError as error:
            reason = f"init=base needs a side of the base's architecture, and {self.config.side!r} of width "
            raise Incompatible(f"{reason}{self.config.width} is not; use side=base") from error

    def _copy_student(self, side: nn.Module) -> None:
        student = load_base(self.config.init)
        try:
            side.load_state_dict(student.encoder.state_dict())
        except RuntimeError as error:
            holds = f"{student.spec.encoder} with {dict(student.spec.kwargs)}"
            raise Incompatible(
                f"init={self.config.init} holds {holds}, not a {self.config.side} of width {self.config.width}"
            ) from error

    def _build_merge(self) -> nn.Module | None:
        config = self.config
        if config.merge != "alpha":
            return build_merge(config.merge, self.shape)
        if config.dense:
            return DenseAlpha(len(self._earlier))
        if config.alpha_mode == "curriculum":
            return None
        return Alpha(config.alpha, learned=config.alpha_mode == "learned")

    def _check_shape(self) -> None:
        """Refuse a side network whose channels are not the base's."""
        image = self.base.example(self.image_size, self.image_size)
        self.side.eval()
        with torch.no_grad():
            parameter = next(self.side.parameters())
            shape = tuple(self.side_features(image.to(parameter.device)).shape[1:])
        self.side.train()
        if shape != self.shape:
            reason = f"side network {self.config.side!r} gives {shape} where the base gives {self.shape}"
            raise Incompatible(f"{reason}; choose a side with as many channels")

    def measures(self, head: int) -> dict[str, float]:
        """`alpha`, the base's share that was learned, where the merge has one."""
        merge = self.merge_operator
        return {"alpha": float(merge.share().detach())} if isinstance(merge, Alpha | DenseAlpha) else {}

    def side_features(self, image: Tensor) -> Tensor:
        """The side network's output for uint8 images (B,3,H,W), in the shape of the base's features."""
        return to_shape(self.side(self.base.normalise(image)), self.shape)

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Merge the base's features (B,C,h,w) or (B,C) with the side's of uint8 images (B,3,H,W)."""
        assert image is not None
        if self.own_base is not None:
            features = self.own_base(self.base.normalise(image))
        assert features is not None
        self.check_features(image, features)
        side = self.side_features(image)
        if self.merge_operator is None:
            merged = blend(self.config.k / (self.config.k + self.samples_seen), features, side)
        elif self._earlier:
            with torch.no_grad():
                earlier = [other.side_features(image) for other in self._earlier]
            merged = self.merge_operator(features, side, earlier)
        else:
            merged = self.merge_operator(features, side)
        output: Tensor = self.norm(merged)
        return output


def lower_energy(side: nn.Module) -> None:
    """Scale a side network's output by 0.01 through the weights of its last layers.

    Zero weights would do better on paper, but behind them a ReLU passes no gradient.

    Raises:
        Incompatible: the network does not say which layers scale its output.
    """
    names = getattr(side, "output_layers", ())
    if not names:
        raise Incompatible("this side network has no low-energy initialisation; distil it towards zero")
    with torch.no_grad():
        for name in names:
            for parameter in side.get_submodule(name).parameters():
                parameter.mul_(LOW_ENERGY)


def distill(
    adapted: Adapted,
    images: Tensor,
    steps: int,
    target: str = "base",
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Train the active task's side network, before the task itself, to give the base's features, or nothing.

    The loss is the mean squared error of the features; `python -m adapt.distill` also takes it behind a decoder, as
    the paper does.

    Args:
        adapted: its active task uses `side_tuning`.
        images: uint8 (N,3,H,W).
        steps: optimiser steps (Adam).
        target: "base" for the base's features, "zero" for a side without effect (low energy).
        batch_size: images per step.
        learning_rate: of Adam.
        seed: of the choice of images.

    Returns:
        The loss of each step.

    Raises:
        ValueError: the active task is no side-tuning, or the target is unknown.
    """
    method = adapted.method()
    if not isinstance(method, SideTuning):
        raise ValueError(f"distill trains a side network, and the active task uses {method.name()}")
    generator = torch.Generator().manual_seed(seed)
    device = method.samples_seen.device

    def batches() -> Iterator[Tensor]:
        while True:
            yield images[torch.randint(len(images), (batch_size,), generator=generator)].to(device)

    return list(
        match(method.side_features, method.base, method.side.parameters(), batches(), steps, learning_rate, target)
    )
