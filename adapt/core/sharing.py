"""Weights that a copy of an encoder would miss, or that a task would change at some of their places only.

Methods copy the encoder's structure and give each layer the task's weight by the layer's name. What the encoder reaches
by other ways, or computes, they would leave as it is without a word: such a base is refused.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# What nn.Module keeps by name, which `named_modules`, `named_parameters` and `named_buffers` find.
REGISTERED = ("_parameters", "_buffers", "_modules")


def unreachable(network: nn.Module) -> str:
    """Text that says what of a network its copies would not own, and why; empty if they own all of it."""
    known = {id(part) for part in (*network.modules(), *network.parameters(), *network.buffers())}
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return "it is compiled by TorchScript"
        if any(type(hook).__module__.startswith("torch.nn.utils.") for hook in module._forward_pre_hooks.values()):
            return f"weights of {name or 'the network'!r} are computed by a hook; use torch.nn.utils.parametrizations"
        for attribute, value in vars(module).items():
            if attribute in REGISTERED:
                continue
            reasons = (_strange(found, in_function, known) for found, in_function in _held(value, set()))
            if reason := next(filter(None, reasons), ""):
                return f"{'.'.join(filter(None, (name, attribute)))!r} {reason}"
    return ""


def _strange(found: nn.Module | Tensor, in_function: bool, known: set[int]) -> str:
    """What is wrong with a module or tensor that an attribute holds, given the ids of all that is registered."""
    if in_function and id(found) in known:
        return "is a function with a part of the network in it, which no copy takes along"
    if isinstance(found, nn.Module) and id(found) not in known and any(True for _ in found.parameters()):
        return "holds a network that is no registered part"
    return ""


def _held(value: Any, seen: set[int], in_function: bool = False) -> Iterator[tuple[nn.Module | Tensor, bool]]:
    """Modules and tensors in containers and functions, and whether a function holds them, which no copy takes apart."""
    if isinstance(value, nn.Module | Tensor):
        yield value, in_function
        return
    parts = _parts(value)
    if parts is None or id(value) in seen:
        return
    seen.add(id(value))
    for part in parts:
        yield from _held(part, seen, in_function or isinstance(value, FunctionType))


def _parts(value: Any) -> Iterable[Any] | None:
    """What a container, a function or a bound method holds; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return [*_cells(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return None


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def shared_elsewhere(network: nn.Module, layers: Iterable[nn.Module]) -> str:
    """Text that names a parameter or buffer of `layers` shared by a module outside of them; empty if there is none."""
    places: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    own = {id(layer) for layer in layers}
    for name, module in network.named_modules():
        for leaf, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and tensor.numel() and not tensor.is_meta:
                places[tensor.data_ptr()].append((".".join(filter(None, (name, leaf))), id(module) in own))
    for found in places.values():
        inside = [name for name, is_own in found if is_own]
        outside = [name for name, is_own in found if not is_own]
        if inside and outside:
            return f"that of {inside[0]!r} is used as {outside[0]!r}, too"
    return ""


def computed(layers: Mapping[str, nn.Module]) -> str:
    """Text that names a layer with computed parameters or without a weight; empty if there is none."""
    for name, layer in layers.items():
        if "/" in name:
            return f"the name of {name!r} has a slash"
        if parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
            return f"that of {name!r} is computed from others"
        if layer._parameters["weight"] is None and isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            return f"{name!r} has none"
    return ""
