"""Detection of residual blocks by structure, for the methods that skip or duplicate them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from torch import nn

from adapt.core.method import Incompatible


def residual_blocks(network: nn.Module) -> dict[str, nn.Module | None]:
    """All residual blocks by name, from input to output, each with its shortcut.

    Known are the blocks of `adapt.encoders`, the ResNets, MobileNets and vision transformers of torchvision and timm,
    and any module with the members `norm1` and `norm2` of a transformer block.

    Returns:
        The module that maps a block's input to its output if the block's body is left out (parameter-free or a
        projection, part of the block); None for a block that cannot be left out because it has no shortcut.
    """
    blocks: dict[str, nn.Module | None] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in blocks)
        if not inside and (known := _shortcut(module)) is not None:
            blocks[name] = known[0]
    return blocks


def _shortcut(module: nn.Module) -> tuple[nn.Module | None] | None:
    """The shortcut in a tuple; None if the module is no residual block."""
    if hasattr(module, "downsample") and hasattr(module, "conv1"):
        projection = module.downsample
        return (projection if isinstance(projection, nn.Module) else nn.Identity(),)
    for flag in ("use_res_connect", "has_skip"):
        if hasattr(module, flag):
            return (nn.Identity() if getattr(module, flag) else None,)
    if isinstance(module, nn.TransformerEncoderLayer):
        # torch's TransformerEncoder reaches into its layers, so they cannot be replaced.
        return None
    transformer = any(hasattr(module, f"{norm}1") and hasattr(module, f"{norm}2") for norm in ("norm", "ln_"))
    if transformer and not hasattr(module, "conv1"):
        return (nn.Identity(),)
    return None


def replace_blocks(network: nn.Module, build: Callable[[str, nn.Module], nn.Module], names: list[str]) -> None:
    """Replace the named submodules of a network in place by what `build(name, module)` gives.

    Raises:
        Incompatible: one is registered under several names, of which only one would be replaced.
    """
    known = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for name in names:
        if known[id(network.get_submodule(name))] > 1:
            raise Incompatible(f"the residual block {name!r} of this base is registered under several names")
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, build(name, network.get_submodule(name)))
