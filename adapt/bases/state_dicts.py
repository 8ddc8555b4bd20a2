"""Bases from plain state dicts of networks of torchvision or timm: Places365's, your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.bases.published import read_released
from adapt.core.base import IMAGENET, Base, BaseSpec, Normalisation, bases
from adapt.encoders import build_encoder
from adapt.training.weight_files import fill, read_torch, unwrapped

LIBRARIES = ("timm/", "torchvision/")


@bases.register("file")
def file_base(name: str) -> Base:
    """The network whose state dict a file holds.

    Args:
        name: `<path>`, or `<encoder>:<path>`, where the encoder is `torchvision/<model>` or `timm/<model>`. Without one
            it is what the file names (`arch`, as the checkpoints of Places365), or the network of torchvision with the
            same names and shapes. The network may be a part of a larger one, such as a training module's `model.` or
            `model.backbone.`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no state dict, or it is not known of which network; or of another than named; or two
            parts of it are such networks.
    """
    encoder, path = _parts(name)
    if not path:
        raise ValueError("base=file needs the file of weights; add base.path=<file>")
    state = read_released(path)
    encoder = encoder or _said_by(path)
    if not encoder:
        state, encoder = _detected_part(path, state)
    if not encoder:
        raise ValueError(
            f"it is not known of which network {path} holds the weights; "
            f"say it by base=file base.encoder=torchvision/<model> (or timm/<model>) base.path={path}"
        )
    network = build_encoder(encoder)
    own = network.state_dict()
    if not own.keys() <= state.keys():
        state = _only(path, [part for part in _parts_of(state) if own.keys() <= part.keys()]) or state
    # Left out is the classifier, which the encoder has not.
    try:
        fill(network, {key: tensor for key, tensor in state.items() if key in own})
    except ValueError as error:
        raise ValueError(f"{path} does not hold the weights of {encoder}: {error}") from error
    return Base(network, BaseSpec(encoder, {}, _normalisation(network), task=Path(path).name.partition(".")[0]))


def _parts(name: str) -> tuple[str, str]:
    """Encoder, which may be empty, and path."""
    before, colon, after = name.partition(":")
    if colon and (not before or before.startswith(LIBRARIES)):
        return before, after
    return "", name


def _parts_of(state: dict[str, Tensor], depth: int = 2) -> Iterator[dict[str, Tensor]]:
    """A state dict, and those of the modules in it, down to some depth; names are relative to each."""
    yield state
    names = dict.fromkeys(name.partition(".")[0] for name in state if "." in name) if depth else {}
    for name in names:
        inside = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        yield from _parts_of(unwrapped(inside), depth - 1)


def _only(path: str, found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The only one of the parts of a file that fit, none if there is none.

    Raises:
        ValueError: there are several, such as a teacher and a student.
    """
    if len(found) > 1:
        raise ValueError(f"{path} holds {len(found)} networks of this kind; store the state dict of one of them alone")
    return found[0] if found else {}


def _detected_part(path: str, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The part of a state dict that is a network of torchvision, all of it if it can be, and that network's name."""
    parts = _parts_of(state)
    whole = next(parts)
    if encoder := _detected(whole):
        return whole, encoder
    found = [(part, encoder) for part in parts if (encoder := _detected(part))]
    _only(path, [part for part, _ in found])
    return found[0] if found else (state, "")


def _said_by(path: str) -> str:
    """The network that the file itself names, if it does."""
    content = {} if path.endswith(".safetensors") else read_torch(Path(path))
    arch = content.get("arch") if isinstance(content, Mapping) else None
    return f"torchvision/{arch}" if isinstance(arch, str) else ""


def _detected(state: Mapping[str, Tensor]) -> str:
    """The network of torchvision that has the same names and shapes but for its classifier, if there is one."""
    import torchvision

    for model in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(model)
        if _may_be(state, weights.DEFAULT.meta["num_params"]):
            if _fits(_outline(f"torchvision/{model}"), state):
                return f"torchvision/{model}"
    return ""


def _outline(encoder: str) -> nn.Module:
    """A network without storage, where it can be built so: RegNets compute their widths by tensors."""
    try:
        with torch.device("meta"):
            return build_encoder(encoder)
    except NotImplementedError:
        return build_encoder(encoder)


def _may_be(state: Mapping[str, Tensor], parameters: int) -> bool:
    """Whether weights may be those of a network with so many parameters, whose linear classifier has 1000 classes.

    Saves building every network that torchvision has.
    """
    sizes = [t.numel() for name, t in state.items() if not name.rpartition(".")[2].startswith(("running_", "num_"))]
    last = next((t for t in reversed(list(state.values())) if t.ndim == 2), None)
    rests = [parameters - sum(sizes)]
    if last is not None:
        rests.append(rests[0] + last.shape[0] * (last.shape[1] + 1))
    return any(rest > 0 and rest % 1000 == 0 for rest in rests)


def _fits(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether all tensors of a network are in a state dict, and no more than a weight and bias are left over."""
    own = network.state_dict()
    present = all(key in state and state[key].shape == tensor.shape for key, tensor in own.items())
    return present and len(state) - len(own) <= 2


def _normalisation(network: nn.Module) -> Normalisation:
    """What a network of timm says; ImageNet's mean and deviation for torchvision."""
    config = getattr(network, "pretrained_cfg", None)
    return Normalisation(tuple(config["mean"]), tuple(config["std"])) if config else IMAGENET
