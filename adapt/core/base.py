"""The frozen base: a fixed function from images to features, usually a pretrained encoder.

A `Base` owns all input normalisation (callers hand it uint8 images as they come from the renderer), is
identified by the sha256 of its weights, and is always in eval mode without gradients, whatever its owner's
`train()` asks for. `load_base` finds one by name; `save_base` writes one as a single self-describing file.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from adapt.encoders import build_encoder, encoders
from adapt.encoders.described import build_described, known_settings
from adapt.training.digests import tensors_sha256
from adapt.training.files import to_json
from adapt.training.finite import check_finite
from adapt.training.weight_files import fill, read_header, read_safetensors
from configs.errors import is_out_of_memory
from configs.files import visible
from configs.names import nearest
from configs.registry import Registry
from configs.writing import write_atomically

WIDEST = 64  # Largest width: times an encoder's usual channels.
PRETRAINED = Path(__file__).parents[1] / "pretrained"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Normalisation:
    """Per-channel (image / 255 - mean) / std; the default maps uint8 to [-1,1] as Taskonomy does."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        """Check that the two fit."""
        finite = all(math.isfinite(v) for v in (*self.mean, *self.std))
        if len(self.mean) != len(self.std) or not self.std or not finite or min(self.std) <= 0:
            raise ValueError(f"normalisation needs as many positive std as mean, got {self.mean} and {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """Turn uint8 images (B,C,H,W) into normalised images of the same shape, float32 (or autocast's bfloat16)."""
        if not isinstance(images, Tensor) or images.dtype != torch.uint8:
            got = f"{getattr(images, 'dtype', 'a')} {type(images).__name__}"
            raise ValueError(f"images must be a uint8 tensor in 0..255, got {got}; the base normalises them itself")
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"images must have shape (B,{len(self.mean)},H,W), got {tuple(images.shape)}")
        kind = images.device.type
        if self == Normalisation() and torch.is_autocast_enabled(kind):
            if torch.get_autocast_dtype(kind) == torch.bfloat16:
                # Bytes less 127.5 are exact in bfloat16, so that this rounds once, as casting the float32 result does.
                return images.to(torch.bfloat16).sub_(127.5).mul_(1 / 127.5)
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        # In place: normalising is a tenth of a small side network's training step.
        return images.float().sub_(255 * mean).mul_(1 / (255 * std))


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class BaseSpec:
    """Description of a base, enough to build its encoder again.

    Attributes:
        encoder: a name of `adapt.encoders.build_encoder`, or empty for a network that the caller built.
        kwargs: that encoder's settings.
        normalisation: what happens to the image first.
        task: what the weights were trained for.
        training: numbers of that training (losses, data, steps).
    """

    encoder: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = field(default_factory=Normalisation)
    task: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The spec as one JSON object."""
        return to_json(asdict(self), sort_keys=True)

    @classmethod
    def from_header(cls, values: Mapping[str, Any]) -> BaseSpec:
        """Take over the object that `to_json` wrote.

        Raises:
            ValueError: it is another.
        """
        try:
            given = dict(values)
            normalisation = {key: tuple(map(float, value)) for key, value in given.pop("normalisation").items()}
            spec = cls(normalisation=Normalisation(**normalisation), **given)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"its header describes no base ({type(error).__name__}: {error})") from error
        if not isinstance(spec.task, str) or not isinstance(spec.training, Mapping):
            raise ValueError("its header describes no base: task must be text, training an object")
        return spec


class NoFeatures(ValueError):
    """The network gives something else than one tensor of features per image; the message says what."""


def _check_network(encoder: Any) -> None:
    """Raise a ValueError unless something is a network whose weights are plain tensors."""
    if not isinstance(encoder, nn.Module):
        raise ValueError(f"a base is a network (torch.nn.Module), got {_called(encoder)}; BlackBoxBase takes functions")
    tensors = [*encoder.named_parameters(), *encoder.named_buffers()]
    if lazy := [name for name, tensor in tensors if is_lazy(tensor)]:
        raise ValueError(f"the network has no weights yet ({lazy[0]} is lazy); run it once on images before")
    if odd := [name for name, value in encoder.state_dict().items() if not isinstance(value, Tensor)]:
        raise ValueError(f"the network's state holds {odd[0]}, which is no tensor (is it quantised?); give a plain one")


def _called(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


class Base(nn.Module):
    """A frozen encoder with its input normalisation: uint8 images (B,3,H,W) in 0..255 to float32 features.

    Attributes:
        encoder: the network, of normalised float images; it has no parameters if the base is a black box.
        spec: how the base was made.
        calls: number of forward passes so far.
        frames_evaluated: number of images in them, so that "once per frame" can be checked.
    """

    def __init__(self, encoder: nn.Module, spec: BaseSpec | None = None) -> None:
        """Freeze a network; what data-parallel training wraps around it is taken off.

        Raises:
            ValueError: it is none, or has weights without shape yet or in a form that only its own layers read.
        """
        super().__init__()
        if isinstance(encoder, nn.DataParallel | DistributedDataParallel):
            encoder = encoder.module
        _check_network(encoder)
        self.encoder = encoder
        self.spec = spec or BaseSpec()
        self.calls = 0
        self.frames_evaluated = 0
        self._sha256: str | None = None
        self._shapes: dict[tuple[int, int], tuple[int, ...]] = {}
        self.train(False)

    @property
    def black_box(self) -> bool:
        """Whether the base is a callable without weights, which only fusion methods can adapt."""
        return False

    @property
    def sha256(self) -> str:
        """Hex digest over the names, types, shapes and bytes of all weights, and the normalisation."""
        if self._sha256 is None:
            self._sha256 = self._digest()
        return self._sha256

    def _digest(self) -> str:
        normalisation = json.dumps(asdict(self.spec.normalisation), sort_keys=True)
        return tensors_sha256(sorted(self.encoder.state_dict().items()), normalisation)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Base:
        """Convert the weights, which may then have another `sha256`."""
        self._sha256 = None
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Base:
        """Stay in eval mode and without gradients; `mode` is ignored because a base never trains."""
        super().train(False)
        self.requires_grad_(False)
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise uint8 images (B,3,H,W) to the encoder's input, float32 of the same shape.

        An encoder of something else than images checks its input in a method `prepare`. Images take the weights' type,
        unless autocast chooses one.
        """
        if prepare := getattr(self.encoder, "prepare", None):
            return cast(Tensor, prepare(images))
        normalised = self.spec.normalisation(images)
        return normalised if torch.is_autocast_enabled(images.device.type) else normalised.to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the encoder's weights; float32 unless someone converted it."""
        return next((p.dtype for p in self.encoder.parameters() if p.is_floating_point()), torch.float32)

    @contextmanager
    def normalised(self, normalisation: Normalisation | None) -> Iterator[None]:
        """Within this context images are normalised by a task's own statistics; None changes nothing."""
        before, _ = self.spec, self.sha256
        self.spec = replace(before, normalisation=normalisation) if normalisation else before
        try:
            yield
        finally:
            self.spec = before

    def _evaluate(self, images: Tensor) -> Tensor:
        return self._features(self.encoder(self.normalise(images)))

    def _features(self, output: Any) -> Tensor:
        """What the encoder gave, which must be one tensor of features per image.

        Raises:
            NoFeatures: it is something else.
        """
        if isinstance(output, Tensor) and output.is_floating_point() and 2 <= output.ndim <= 4:
            return _ordinary(output)
        given = f"{output.dtype}{tuple(output.shape)}" if isinstance(output, Tensor) else _called(output)
        raise NoFeatures(
            f"the base {self.spec.encoder or type(self.encoder).__name__} gives {given}, and features are one float "
            "tensor (B,C,h,w) or (B,C); give a network whose forward returns that"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (B,C,h,w), or (B,C) for encoders that pool, of uint8 images (B,3,H,W)."""
        self.calls += 1
        self.frames_evaluated += len(images)
        with torch.no_grad():
            return self._evaluate(images).float()

    def layers(self, images: Tensor, names: Sequence[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the features and the outputs of inner layers in one pass.

        Args:
            images: uint8 (B,3,H,W).
            names: submodules of the encoder; by default its `layer_names`.

        Returns:
            The features as from `forward`, and the output of each named submodule.

        Raises:
            ValueError: the base is a black box, or has no layer of that name.
        """
        chosen = self.layer_names(names)
        self.calls += 1
        self.frames_evaluated += len(images)
        with torch.no_grad():
            return self._evaluate_layers(images, chosen)

    def _evaluate_layers(self, images: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        outputs: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for name in names:
                hook = partial(_keep, outputs, name)
                handle = self.encoder.get_submodule(name).register_forward_hook(hook)
                stack.callback(handle.remove)
            features = self._evaluate(images).float()
        for name, output in outputs.items():
            if not isinstance(output, Tensor):
                raise NoFeatures(f"the base's layer {name!r} gives {_called(output)}, not one tensor")
            outputs[name] = _ordinary(output)
        if uncalled := [name for name in names if name not in outputs]:
            raise ValueError(f"the encoder computes without calling its layer {uncalled[0]!r}; name others")
        return features, outputs

    def layer_names(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The inner layers that `layers` returns for `names`, checked to exist."""
        chosen = tuple(names) or tuple(getattr(self.encoder, "layer_names", ()))
        known = dict(self.encoder.named_modules())
        if self.black_box or not chosen:
            raise ValueError("this base shows no inner layers; name submodules of its encoder, if it has one")
        for name in chosen:
            if name not in known:
                raise ValueError(f"the base has no layer {name!r}{nearest(name, known)}")
        return chosen

    def feature_shape(self, size: int | tuple[int, int]) -> tuple[int, ...]:
        """Shape of one image's features, (C,h,w) or (C,), for square images of `size` pixels or (H,W).

        Raises:
            ValueError: The encoder cannot look at images of this size.
        """
        height, width = (size, size) if isinstance(size, int) else size
        if (height, width) not in self._shapes:
            with (
                torch.no_grad(),
                fitting(f"the base {self.spec.encoder or type(self.encoder).__name__}", height, width),
            ):
                image = self.example(height, width)
                output = self._evaluate(image)
            if len(output) != len(image):
                raise NoFeatures(f"the base gives {tuple(output.shape)} for {len(image)} image: the first is no batch")
            self._shapes[height, width] = tuple(output.shape[1:])
        return self._shapes[height, width]

    def layer_shapes(self, size: int, names: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
        """Shapes of one image's inner maps, as `layers` gives them, for square images of `size` pixels."""
        with torch.no_grad():
            _, outputs = self._evaluate_layers(self.example(size, size), self.layer_names(names))
        return {name: tuple(output.shape[1:]) for name, output in outputs.items()}

    def example(self, height: int, width: int) -> Tensor:
        """A black image, uint8 (1,C,height,width), or what the encoder's own method `example` gives in its place."""
        device = next((p.device for p in self.encoder.parameters()), None)
        if own := getattr(self.encoder, "example", None):
            return cast(Tensor, own(height, width)).to(device)
        channels = len(self.spec.normalisation.mean)
        return torch.zeros(1, channels, height, width, dtype=torch.uint8, device=device)


@contextmanager
def fitting(what: str, height: int, width: int) -> Iterator[None]:
    """Say of a network that fails at the size of the images that it does.

    Raises:
        ValueError: A kernel is larger than its map, a group of a normalisation has one number, or the like.
    """
    try:
        yield
    except (ValueError, RuntimeError, AssertionError) as error:
        if type(error) not in (ValueError, RuntimeError, AssertionError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{what} cannot look at images of {height}x{width} pixels ({reason[:200]}); use others"
        ) from error


def _keep(outputs: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    outputs[name] = output


def _ordinary(output: Tensor) -> Tensor:
    """The output of a network that computes in inference mode as a tensor that gradients may pass by."""
    return output.clone() if output.is_inference() and not torch.is_inference_mode_enabled() else output


class _Callable(nn.Module):
    """Lets a plain function stand where an encoder stands."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        """Call the function with uint8 images (B,3,H,W)."""
        return self.function(images)


class BlackBoxBase(Base):
    """A base that is any function of the image: an oracle, a decision tree. Only fusion methods can adapt it.

    Args:
        function: maps uint8 images (B,3,H,W) to float features (B,C,h,w) or (B,C), without gradients.
        identity: names the function and its version; takes the place of weights in `sha256`.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], identity: str) -> None:
        super().__init__(_Callable(function), BaseSpec(task=identity))
        self._identity = identity

    @property
    def black_box(self) -> bool:
        """Always true."""
        return True

    def _digest(self) -> str:
        return hashlib.sha256(f"black box {self._identity}".encode()).hexdigest()

    def _evaluate(self, images: Tensor) -> Tensor:
        return self._features(self.encoder(images))


bases: Registry[Callable[[str], Base]] = Registry(
    "base",
    "sidestep.bases",
    {
        "bert": "adapt.bases.libraries",
        "efficientnet_lite0": "adapt.bases.package_index",
        "efficientnet_lite1": "adapt.bases.package_index",
        "efficientnet_lite2": "adapt.bases.package_index",
        "file": "adapt.bases.state_dicts",
        "mobilenet_v2": "adapt.bases.package_index",
        "released": "adapt.bases.published",
        "taskonomy": "adapt.bases.published",
        "timm": "adapt.bases.libraries",
        "torchvision": "adapt.bases.libraries",
    },
)
"""Sources of bases by name: functions of what stands after the slash in `<source>/<rest>`, empty without one."""


def random_base(encoder: str = "fcn5", seed: int = 42, **kwargs: Any) -> Base:
    """A base with the encoder's default initialisation under `seed`, the control for trained ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_encoder(encoder, **kwargs)
    return Base(network, BaseSpec(encoder, kwargs, task="random", training={"seed": seed}))


@bases.register("random")
def _random(rest: str) -> Base:
    """The base of `<encoder>` or `<encoder>:<width>`."""
    encoder, _, text = rest.rpartition(":")
    if not encoder:
        return random_base(rest or "fcn5")
    try:
        width = float(text)
    except ValueError:
        width = math.nan
    if not 0 < width <= WIDEST:
        raise ValueError(f"base random/{rest}: the width must be above 0 and at most {WIDEST}, got {text!r}")
    if "width" not in known_settings(encoder):
        raise ValueError(f"base random/{rest}: {encoder} has no width to set")
    try:
        return random_base(encoder, width=width)
    except TypeError as error:  # of a network of timm
        raise ValueError(f"base random/{rest}: {encoder} has no width to set") from error


def _embedded(name: str, rest: str) -> Base:
    if rest:
        raise ValueError(f"base {name!r} is one network; leave out {'/' + rest!r}")
    return _read_base(PRETRAINED / f"{name}.safetensors")


for _file in visible(PRETRAINED, "*.safetensors"):
    bases.register(_file.stem)(partial(_embedded, _file.stem))


def with_maps(base: Base) -> Base:
    """The same network without its last pooling, giving maps (B,C,h,w), where it is one of timm or torchvision.

    Any other base, and one that gives maps already, is returned as it is.
    """
    name, settings = base.spec.encoder, dict(base.spec.kwargs)
    if not name.startswith(("timm/", "torchvision/")) or settings.get("maps"):
        return base
    settings["maps"] = True
    encoder = build_encoder(name, **settings)
    state = base.encoder.state_dict()
    encoder.load_state_dict({key: state[key] for key in encoder.state_dict()})
    device = next((p.device for p in base.parameters()), None)
    unpooled = Base(encoder, replace(base.spec, kwargs=settings))
    return unpooled if device is None else unpooled.to(device)


def save_base(base: Base, path: str | Path, dtype: torch.dtype = torch.float16) -> str:
    """Write a base as one safetensors file, atomically; the spec goes into the file's header.

    Args:
        base: a base whose spec names its encoder.
        path: file to write, by custom `<name>.safetensors`.
        dtype: how floating tensors are stored; `load_base` gives them back as float32.

    Returns:
        The sha256 of the base that `load_base` will give, which differs from `base.sha256` if `dtype` rounds.

    Raises:
        ValueError: the spec names no encoder, so that the file could not be loaded again.
        NotFinite: a weight is NaN or infinite, or becomes so by rounding to `dtype`.
        OSError: the file could not be written; what was there before is undamaged.
    """
    if base.black_box or not base.spec.encoder:
        raise ValueError("only a base whose spec names its encoder can be saved; build it with adapt.encoders")
    tensors = {
        name: t.detach().cpu().to(dtype if t.is_floating_point() else t.dtype).contiguous()
        for name, t in base.encoder.state_dict().items()
    }
    check_finite(tensors, f"{path}: in {str(dtype).removeprefix('torch.')} the weight")
    data = save(tensors, metadata={"sidestep_base": str(FORMAT_VERSION), "spec": base.spec.to_json()})
    write_atomically(Path(path), data)
    rounded = Base(copy.deepcopy(base.encoder), base.spec)
    rounded.encoder.load_state_dict(_as_float32(tensors))
    return rounded.sha256


def list_bases() -> list[str]:
    """Names that `load_base` knows: the embedded files, `random`, the sources of others (`timm/<model>`, ...)."""
    return bases.names()


def load_base(name_or_path: str | Path) -> Base:
    """Load a frozen base.

    Args:
        name_or_path: an embedded file's name, such as `curvature`; a file of `save_base`; `<source>/<rest>`, where the
            source is registered in `bases`: `taskonomy/<task>` for a published encoder (`adapt.bases.published`),
            `timm/<model>` or `torchvision/<model>` with that library's ImageNet weights, `random/<encoder>` for an
            untrained network, `random/<encoder>:2.5` for one with so many times the channels, `bert/<name>` for a
            BERT of transformers, by its name or folder; `efficientnet_lite0`, `mobilenet_v2` and others of
            `adapt.bases.package_index`; `file:<path>` for a plain state dict of a network of torchvision or timm;
            `<encoder>:<file>` for a released file.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: an unknown name (the nearest is suggested), or a file that is not a base.
    """
    name = str(name_or_path)
    encoder, colon, _ = name.partition(":")
    if colon and encoder == "file":
        name = f"file/{name.removeprefix('file:')}"
    elif colon and encoder in encoders:
        name = f"released/{name}"
    elif name.endswith(".safetensors") or isinstance(name_or_path, Path):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no base at {name}: give the path of a file that save_base wrote")
        return _read_base(Path(name))
    source, _, rest = name.partition("/")
    if source not in bases:
        known = list_bases()
        raise ValueError(f"unknown base {name!r}{nearest(name, known)}; choose from {', '.join(known)} or a path")
    return bases.get(source)(rest)


def _read_base(path: Path) -> Base:
    metadata, tensors = read_safetensors(path)
    if metadata.get("sidestep_base") != str(FORMAT_VERSION):
        version = metadata.get("sidestep_base", "none")
        raise ValueError(f"{path} is not a base of format {FORMAT_VERSION} (found: {version})")
    try:
        spec = BaseSpec.from_header(read_header(metadata, path))
        encoder = build_described(spec.encoder, spec.kwargs, tensors)
    except ValueError as error:
        raise ValueError(f"cannot use {path}: {error}") from error
    try:
        fill(encoder, _as_float32(tensors))
    except ValueError as error:
        raise ValueError(f"{path} does not hold weights of {spec.encoder!r}: {error}") from error
    return Base(encoder, spec)


def _as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
