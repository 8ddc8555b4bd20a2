"""Base class of weight-delta methods: task weights are a pure function of the frozen weights.

A task is W_task = f(W; theta) for each of the base's convolutions and linear layers, plus, if the settings
say so, the task's own normalisation parameters and statistics. The base is never edited: its structure is
copied without storage (the *skeleton*), and every forward pass runs the skeleton on the frozen tensors, the
task's weights and the task's statistics by `torch.func.functional_call`. Batch norm then updates the task's
own statistics, never the base's.

To add such a method, write in `adapt/methods/<name>.py` a `Delta` (one layer's theta, with
`forward(weight)`), a settings class from `DeltaConfig`, and a `DeltaMethod` whose `delta(name, layer)`
returns the `Delta` of each layer to adapt and None for the others. Merging, saving, counting and
normalisation come from here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from adapt.core.base import Base
from adapt.core.cache import CachedUntilChanged
from adapt.core.method import Incompatible, Method, MethodConfig
from adapt.core.sharing import computed, shared_elsewhere, unreachable
from configs.settings import OneOf

Layer: TypeAlias = _ConvNd | nn.Linear
NORMS = ("frozen", "trained", "affine", "statistics")
COUNTER = "num_batches_tracked"  # Of batch norm: how many batches it has seen.
Norm: TypeAlias = Annotated[str, OneOf(*NORMS)]


@dataclass(frozen=True)
class DeltaConfig(MethodConfig):
    """Settings of every weight-delta method.

    Attributes:
        norm: what the task owns of each normalisation layer. "frozen": nothing, the base's statistics are
            used; "trained": scale, bias and running statistics, initialised from the base; "affine": scale
            and bias, with the base's statistics; "statistics": running statistics only.
    """

    norm: Norm = "trained"


class Delta(nn.Module):
    """A task's trainable change of one layer: `forward` maps the frozen weight to the task's, of the same shape.

    Attributes:
        costly: whether `forward` takes long, as a product of matrices of the layer's size does. Without gradients its
            result is then cached until what it depends on changes; see `DeltaMethod.task_tensors`.
    """

    costly: ClassVar[bool] = False

    def forward(self, weight: Tensor) -> Tensor:
        """Compute the task's weight; `weight` is frozen, no gradient goes to it."""
        raise NotImplementedError

    def bias(self, bias: Tensor | None) -> Tensor | None:
        """Compute the task's bias from the frozen one, None where the layer has none; the same by default."""
        return bias

    def depends_on(self) -> list[Tensor]:
        """All tensors but the frozen ones that the task's weight and bias are computed from."""
        return [*self.parameters(), *self.buffers()]

    def pack(self) -> dict[str, Tensor]:
        """Serialise the layer's state in compact form; may be empty."""
        return packed_state(self)

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        self.load_state_dict(dict(tensors))


def packed_state(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """The state of a module, detached, without the batch counters of its normalisation; names begin with `prefix`."""
    return {n: t.detach() for n, t in module.state_dict(prefix=prefix).items() if not n.endswith(COUNTER)}


def load_packed_state(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Load what `packed_state` gave and take it out of `tensors`; raises RuntimeError if it does not fit."""
    counters = {name: tensor for name, tensor in module.state_dict().items() if name.endswith(COUNTER)}
    module.load_state_dict({**counters, **pop_prefixed(tensors, prefix)})


def pop_prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors whose names begin with `prefix` out of a dict; by name without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


class TaskNorm(nn.Module):
    """The task's own tensors of one normalisation layer, initialised from the base."""

    def __init__(self, layer: nn.Module, mode: str) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters(recurse=False):
            if mode in ("trained", "affine"):
                self.register_parameter(name, nn.Parameter(parameter.detach().clone()))
        for name, buffer in layer.named_buffers(recurse=False):
            if mode in ("trained", "statistics"):
                self.register_buffer(name, buffer.clone())

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The task's tensors in place of the base's, for the layer called `name`."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {f"{name}.{key}": tensor for key, tensor in own.items()}


def norm_tensors(norms: nn.ModuleDict) -> dict[str, Tensor]:
    """The tensors of `TaskNorm`s, stored by layer (`as_key`), by their names in the encoder."""
    tensors: dict[str, Tensor] = {}
    for key, norm in norms.items():
        assert isinstance(norm, TaskNorm)
        tensors.update(norm.tensors(as_layer(key)))
    return tensors


def weighted_layers(network: nn.Module) -> dict[str, Layer]:
    """All convolutions (not transposed ones) and linear layers by name, in the order of registration.

    The input projection of `nn.MultiheadAttention` is a loose parameter, not a linear layer, and stays the base's.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (_ConvNd, nn.Linear)) and not isinstance(module, _ConvTransposeNd)
    }


def is_depthwise(layer: Layer) -> bool:
    """Whether a layer is a depthwise convolution."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels > 1


def norm_layers(network: nn.Module) -> dict[str, nn.Module]:
    """All batch, group and layer normalisations that have parameters or statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm)) and module.state_dict()
    }


def require_network(base: Base, method: str) -> nn.Module:
    """The encoder of the base; raises `Incompatible` if it is a black box, or has weights that a copy would not own."""
    if base.black_box:
        raise Incompatible(f"{method} changes weights, and a black box has none; use features or side_tuning")
    if reason := unreachable(base.encoder):
        raise Incompatible(f"{method} changes weights in a copy of the base, but {reason}; use features or side_tuning")
    try:
        base.encoder.train()
    except Exception as error:  # whatever a network of others raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Incompatible(
            f"{method} trains a copy of the base, which refuses to train ({reason[:200]}); use features or side_tuning"
        ) from error
    finally:
        base.encoder.eval()
    return base.encoder


def check_places(network: nn.Module, method: str, norms: bool) -> None:
    """Check that a change of its layers' weights (and of its normalisations with `norms`) acts wherever they are used.

    Raises:
        Incompatible: A weight is computed from others, or used outside of such layers, too.
    """
    layers, normalisations = weighted_layers(network), norm_layers(network)
    reason = computed({**layers, **normalisations} if norms else layers)
    if reason := reason or shared_elsewhere(network, [*layers.values(), *normalisations.values()]):
        raise Incompatible(f"{method} changes weights, and {reason}; use features, side_tuning or fine_tune")


def put_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network copies of tensors as parameters and buffers, by name; places that shared one get one each."""
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        module, own = network.get_submodule(owner), tensor.detach().clone()
        setattr(module, leaf, own if leaf in module._buffers else nn.Parameter(own))


# By base and layer, the delta that was evaluated last with what it gave: so at most one copy of a base's weights is
# kept, however many tasks there are.
_CACHE: WeakKeyDictionary[Base, dict[str, tuple[Delta, CachedUntilChanged[tuple[Tensor, Tensor | None]]]]] = (
    WeakKeyDictionary()
)


def as_key(layer: str) -> str:
    """A layer's dotted name as the name of one submodule or tensor, which has no dots: "/" stands for them."""
    return layer.replace(".", "/")


def as_layer(key: str) -> str:
    """The inverse of `as_key`."""
    return key.replace("/", ".")


class DeltaMethod(Method):
    """A task whose weights are a pure function of the frozen weights; subclasses say which by `delta`.

    Attributes:
        deltas: the `Delta` of each adapted layer, by its name with "/" for ".".
        norms: the `TaskNorm` of each normalisation layer, likewise.
        skeleton: the encoder's structure without storage. Hooks may be registered on its submodules (bound
            methods or partials) by methods that also change activations.
    """

    Config: ClassVar[type[MethodConfig]] = DeltaConfig
    config: DeltaConfig
    skeleton: nn.Module

    def __init__(self, base: Base, config: DeltaConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        network = require_network(base, self.name())
        check_places(network, self.name(), config.norm != "frozen")
        self.deltas = nn.ModuleDict()
        for name, layer in weighted_layers(network).items():
            if (delta := self.delta(name, layer)) is not None:
                self.deltas[as_key(name)] = delta
        self.norms = nn.ModuleDict()
        if config.norm != "frozen":
            for name, module in norm_layers(network).items():
                norm = TaskNorm(module, config.norm)
                if norm.state_dict():
                    self.norms[as_key(name)] = norm
        if not self.deltas and not self.norms:
            raise Incompatible(f"{self.name()} finds no layer of this base to adapt with these settings")
        # Not a submodule: it owns nothing.
        object.__setattr__(self, "skeleton", copy.deepcopy(network).to("meta"))
        self.train()

    def delta(self, name: str, layer: Layer) -> Delta | None:
        """The trained part of one layer of the base, or None to leave the layer as it is."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> DeltaMethod:
        """Train or evaluate; batch norms whose statistics are the base's always evaluate."""
        super().train(mode)
        self.skeleton_train(mode)
        return self

    def skeleton_train(self, mode: bool) -> None:
        """Set the mode of the structure that `forward` runs."""
        self.skeleton.train(mode)
        own = self.own_tensors()
        for name, module in self.skeleton.named_modules():
            # In training mode they would write into the statistics, which are the base's.
            if isinstance(module, _BatchNorm) and f"{name}.running_mean" not in own:
                module.eval()

    def own_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers of the encoder, by name, that training may write into."""
        return self.norm_tensors()

    def shared_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers of the encoder before the task's change: those of the base, without gradients."""
        tensors: dict[str, Tensor] = {}
        # By module: one registered under two names would get the base's tensors back under the second, whereas layers
        # that share a weight are two modules and may differ in the task.
        for name, module in self.base.encoder.named_modules():
            prefix = f"{name}." if name else ""
            tensors |= {f"{prefix}{key}": p.detach() for key, p in module.named_parameters(recurse=False)}
            tensors |= {f"{prefix}{key}": b for key, b in module.named_buffers(recurse=False)}
        return tensors

    def norm_tensors(self) -> dict[str, Tensor]:
        """The task's own normalisation parameters and statistics, by their names in the encoder."""
        return norm_tensors(self.norms)

    def task_tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers of the encoder as this task sees them.

        Without gradients, what costly deltas give is computed once and kept until it would come out otherwise.
        """
        tensors = {**self.shared_tensors(), **self.norm_tensors()}
        # In their own precision also under autocast, so that merged and unmerged networks have the same weights.
        with torch.autocast(self.samples_seen.device.type, enabled=False):
            for key, delta in self.deltas.items():
                assert isinstance(delta, Delta)
                name = as_layer(key)
                weight, bias = self._evaluate(name, delta, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))
                tensors[f"{name}.weight"] = weight
                if bias is not None:
                    tensors[f"{name}.bias"] = bias
        return tensors

    def _evaluate(self, name: str, delta: Delta, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The task's weight and bias of one layer."""
        if torch.is_grad_enabled() or not delta.costly:
            return delta(weight), delta.bias(bias)
        layers = _CACHE.setdefault(self.base, {})
        if name not in layers or layers[name][0] is not delta:
            layers[name] = delta, CachedUntilChanged()
        return layers[name][1].get(delta.depends_on(), weight, lambda: (delta(weight), delta.bias(bias)))

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the encoder with the task's weights on uint8 images (B,3,H,W)."""
        assert image is not None
        return self.run(image, self.task_tensors())

    def run(self, image: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Run the skeleton on uint8 images (B,3,H,W) with these parameters and buffers."""
        # Layers that share a weight in the base may differ in the task.
        x = self.base.normalise(image)
        output: Tensor = functional_call(self.skeleton, tensors, (x,), tie_weights=False)
        return output

    def merge(self) -> Base:
        """Evaluate f once and return the plain network."""
        encoder = copy.deepcopy(self.base.encoder)
        spec = replace(self.base.spec, task=f"{self.base.spec.task} {self.name()}".strip())
        with torch.no_grad():
            tensors = self.task_tensors()
        for name in map(as_layer, self.deltas):
            if encoder.get_submodule(name).bias is None and f"{name}.bias" in tensors:
                # The encoder that the spec names has no such bias.
                spec = replace(spec, encoder="", kwargs={})
        put_tensors(encoder, tensors)
        return Base(encoder, spec)

    def pack(self) -> dict[str, Tensor]:
        """Serialise the task: each delta's own form, and the normalisation without its batch counter."""
        packed: dict[str, Tensor] = {}
        for key, delta in self.deltas.items():
            assert isinstance(delta, Delta)
            packed.update({f"deltas.{key}.{name}": tensor for name, tensor in delta.pack().items()})
        return {**packed, **packed_state(self.norms, "norms.")}

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        rest = dict(tensors)
        for key, delta in self.deltas.items():
            assert isinstance(delta, Delta)
            delta.unpack(pop_prefixed(rest, f"deltas.{key}."))
        load_packed_state(self.norms, rest, "norms.")
        if rest:
            raise KeyError(f"unexpected tensors: {', '.join(sorted(rest))}")
