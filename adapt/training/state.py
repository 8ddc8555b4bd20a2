"""Validation of checkpoints before they are loaded: keys, types, shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What Adam keeps of each parameter.
ADAM = ("step", "exp_avg", "exp_avg_sq")
# Settings of an optimiser that change how its step is computed, not what it is.
IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")


class Damaged(ValueError):
    """Content that this program does not write; the message is the key where it was found, and what is there."""


@contextlib.contextmanager
def reading(file: Path | None) -> Iterator[None]:
    """Name the file in which something `Damaged` was found."""
    try:
        yield
    except Damaged as error:
        raise ValueError(
            f"{file}: the checkpoint is damaged or of another version: {error}; restore what was changed, "
            "its config.yaml too, or move it away to fall back to the one before"
        ) from error


def entry_of(state: Any, key: str, kind: type | tuple[type, ...] = Mapping, prefix: str = "") -> Any:
    """The value under a key of a mapping, checked for its type.

    Raises:
        Damaged: `state` is no mapping, lacks the key, or holds something of another type there.
    """
    if not isinstance(state, Mapping):
        raise Damaged(f"{prefix.rstrip('.') or 'all of it'} is {_described(state)}")
    if key not in state:
        raise Damaged(f"{prefix}{key} is missing")
    value = state[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):  # a bool is an int
        raise Damaged(f"{prefix}{key} is {_described(value)}")
    return value


def check_like(found: Any, wanted: Any, key: str) -> None:
    """Check that tensors, numbers and what holds them are as in `wanted`: same keys, lengths and shapes.

    Raises:
        Damaged: Something differs in kind; values do not count.
    """
    if isinstance(wanted, Tensor):
        _check_tensor(found, wanted, key)
    elif isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            raise Damaged(f"{key} is {_described(found)}")
        if different := sorted(map(str, found.keys() ^ wanted.keys())):
            raise Damaged(f"{key}.{different[0]} is {'unknown' if different[0] in map(str, found) else 'missing'}")
        for name, value in wanted.items():
            check_like(found[name], value, f"{key}.{name}")
    elif isinstance(wanted, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            raise Damaged(f"{key} is {_described(found)}")
        for i, value in enumerate(wanted):
            check_like(found[i], value, f"{key}.{i}")
    elif not _same_kind(found, wanted):
        raise Damaged(f"{key} is {_described(found)}")


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, key: str = "optimizer") -> None:
    """Give an optimiser back its state; settings that another version of torch knows may be absent or more.

    How its step is computed (`IMPLEMENTATION`) stays as it is.

    Raises:
        Damaged: It is not the state of such an optimiser of these parameters.
    """
    fresh = optimizer.state_dict()
    groups = entry_of(state, "param_groups", list, f"{key}.")
    if len(groups) != len(fresh["param_groups"]):
        raise Damaged(f"{key}.param_groups is {_described(groups)}")
    for i, (stored, wanted) in enumerate(zip(groups, fresh["param_groups"], strict=True)):
        here = f"{key}.param_groups.{i}"
        for name in ("params", "lr"):
            entry_of(stored, name, (list, int, float), f"{here}.")
        common = [name for name in wanted if name in stored and name not in IMPLEMENTATION]
        check_like({name: stored[name] for name in common}, {name: wanted[name] for name in common}, here)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entry in entry_of(state, "state", Mapping, f"{key}.").items():
        here = f"{key}.state.{index}"
        if not isinstance(index, int) or not 0 <= index < len(parameters) or not isinstance(entry, Mapping):
            raise Damaged(f"{here} is {_described(entry)}")
        for name in ADAM if isinstance(optimizer, torch.optim.Adam) else ():
            entry_of(entry, name, Tensor, f"{here}.")
        for name, value in entry.items():
            if not isinstance(value, Tensor) or value.shape not in ((), parameters[index].shape):
                raise Damaged(f"{here}.{name} is {_described(value)}")
    own = [{name: group[name] for name in IMPLEMENTATION if name in group} for group in fresh["param_groups"]]
    groups = [{**stored, **kept} for stored, kept in zip(groups, own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})


def _check_tensor(found: Any, wanted: Tensor, key: str) -> None:
    same = isinstance(found, Tensor) and found.shape == wanted.shape
    if not same or found.is_floating_point() != wanted.is_floating_point():
        raise Damaged(f"{key} is {_described(found)} instead of {_described(wanted)}")


def _same_kind(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(found, bool):
        return isinstance(found, bool) and isinstance(wanted, bool)
    if isinstance(wanted, float):
        return isinstance(found, int | float)
    return isinstance(found, type(wanted))


def _described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, list | tuple | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
