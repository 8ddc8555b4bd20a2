"""Safe reading of weight files (PyTorch with `weights_only=True`, safetensors), with one-line errors.

Nothing is ever unpickled but tensors and plain values (`weights_only`). A file that was cut off, a Git LFS pointer and
a web page that was saved under the name of weights are called what they are.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from configs.files import is_there, mistaken

# Where training scripts store the network's state dict; the first that a file has counts.
STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
INCOMPLETE = "it is incomplete: it ends early; copy, fetch or train it again"
PICKLED = "it holds pickled objects, which could run code; store its state_dict alone and load that"
# How PyTorch says that a file ends early, and that it holds what `weights_only` does not allow.
_ENDS_EARLY = ("unexpected eof", "central directory", "truncated", "ran out of input", "file might be corrupted")
_OBJECTS = ("unsupported global", "unsupported class", "global ", "trying to call reduce", "can only build tensor")


def read_torch(path: Path) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds anything else, or is damaged; the message is one line with the file's name.
    """
    if not is_there(path):
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with warnings.catch_warnings():
            # Of protocols of pickle that the reader may not know all of.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The reader fails in any way a broken file makes it; for the user it is one thing.
        raise ValueError(f"cannot read {path}: {_fault(path, error)}") from error


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that PyTorch does not read."""
    message = " ".join(str(error).split()).lower()
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if known := mistaken(path):
        return known
    if isinstance(error, EOFError) or any(word in message for word in _ENDS_EARLY) or (zipped and not _is_zip(path)):
        return INCOMPLETE
    if isinstance(error, UnpicklingError) and any(word in message for word in _OBJECTS):
        return PICKLED
    return f"it is no file of PyTorch weights, or damaged ({type(error).__name__})"


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a state dict in a file of `torch.save` or safetensors.

    It may lie bare in the file, under one of `STATES`, or as the only state dict under any key, as training scripts
    store it beside an optimiser's state. What `torch.compile` and data-parallel wrappers add to names is taken off.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else or several state dicts, or is damaged.
    """
    content = read_safetensors(path)[1] if path.suffix == ".safetensors" else read_torch(path)
    state = content
    if isinstance(content, Mapping) and not _is_state(content):
        state = _stored_state(path, content)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path} holds no state dict: it holds {_described(state)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path} holds no state dict: {name!r} is {_described(tensor)}")
    return unwrapped(state)


def _stored_state(path: Path, content: Mapping[Any, Any]) -> Any:
    """What a training script's checkpoint holds as the network's state; all of it if nothing looks like one."""
    for key in STATES:
        if isinstance(content.get(key), Mapping):
            return content[key]
    states = [key for key, value in content.items() if _is_state(value)]
    if len(states) > 1:
        raise ValueError(f"{path} holds several state dicts ({', '.join(map(str, states))}); store one of them alone")
    return content[states[0]] if states else content


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, Tensor) for one in value.values())


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what `torch.compile` and data-parallel wrappers put before its names."""
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.replace("_orig_mod.", "")
        while name.startswith("module."):
            name = name.removeprefix("module.")
        plain[name] = tensor
    return plain


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network its weights.

    Raises:
        ValueError: They are those of another, or not finite; the message says in a few words how they differ.
    """
    own = network.state_dict()
    # Constant buffers, such as masks of attention, may be infinite.
    learned = {name for name in own if "running_" in name} | {name for name, _ in network.named_parameters()}
    both = [name for name in own if name in state]
    for names, fault in (
        # PyTorch itself adds the counter, which files of its older versions lack.
        ([name for name in own if name not in state and not name.endswith("num_batches_tracked")], "missing"),
        ([name for name in state if name not in own], "unknown"),
        ([name for name in both if state[name].shape != own[name].shape], "of another shape"),
        ([name for name in both if own[name].is_floating_point() and not _is_real(state[name])], "of another type"),
        (
            [name for name in both if name in learned and _is_real(state[name]) and _not_finite(state[name])],
            "not finite",
        ),
    ):
        if names:
            more = f" and {len(names) - 1} others are" if len(names) > 1 else " is"
            raise ValueError(f"{names[0]}{more} {fault}")
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _is_real(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are taken over as they are, without rounding and without leaving parts out."""
    return tensor.is_floating_point() and not tensor.is_quantized and tensor.layout == torch.strided


def _not_finite(tensor: Tensor) -> bool:
    return not bool(tensor.isfinite().all())


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged; the message is one line with the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:
        message = " ".join(str(error).split())
        early = "not fully covered" in message or "header too small" in message
        reason = mistaken(path) or (INCOMPLETE if early else message)
        raise ValueError(f"{path} is not a readable safetensors file: {reason}") from error


def read_header(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The JSON object under ``spec`` in the metadata of a safetensors file.

    Raises:
        ValueError: There is none.
    """
    try:
        header = json.loads(metadata["spec"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its header describes no network ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header describes no network: it is {_described(header)}")
    return header


def _described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, list | tuple | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
