"""Networks built from the header of a weight file: known settings and plain values only, no larger than its weights.

A header is another's text. A setting of timm may name a pickle to load or weights to fetch, and a width may ask for all
memory: so settings are checked against a list of known ones, and what building allocates against what the file holds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from adapt.encoders import build_encoder, encoders

# Settings that make the shape of a network of timm or torchvision, and fetch or load nothing.
LIBRARY_SETTINGS: Mapping[str, frozenset[str]] = {
    "timm": frozenset(
        "act_layer attn_drop_rate base_width block_args cardinality channels class_token cube_layers depth depths "
        "dim dims drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim embed_dims fc_norm "
        "final_norm global_pool growth_rate img_size in_chans init_values kernel_sizes layers layer_scale maps "
        "ls_init_value mlp_ratio mlp_ratios no_embed_class norm_layer num_features num_heads output_stride "
        "patch_size pool_size pos_drop_rate pos_embed pre_norm proj_drop_rate qk_norm qkv_bias reg_tokens "
        "stem_chs stem_size stem_type stem_width strict_img_size window_size width".split()
    ),
    "torchvision": frozenset(
        "aux_logits dropout groups image_size init_weights inverted_residual_setting maps memory_efficient norm_layer "
        "replace_stride_with_dilation reduced_tail round_nearest stochastic_depth_prob transform_input width_mult "
        "width_per_group zero_init_residual".split()
    ),
}
# Settings of encoders that are never taken from a file, whoever declares them.
NEVER = frozenset({"pretrained", "weights", "checkpoint_path", "cache_dir", "path", "file", "device", "dtype"})
LARGEST_NUMBER, LONGEST = 1e7, 256
# Building takes scratch memory and buffers beyond what is stored.
SHARE, SLACK_BYTES, CALLS_PER_TENSOR, SLACK_CALLS = 4, 64 * 2**20, 200, 5000


def build_described(name: Any, settings: Any, stored: Mapping[str, Tensor]) -> nn.Module:
    """Build the encoder that a file's header describes.

    Args:
        name: a name of `adapt.encoders.build_encoder`.
        settings: its settings.
        stored: the file's tensors; a network that needs much more memory is refused before it is allocated.

    Raises:
        ValueError: an unknown name or setting, a setting that is not a plain value, or a network that is too large.
    """
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        raise ValueError("it names no encoder with its settings")
    known = known_settings(name)
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"{key!r} is no setting of {name} that is taken from a file")
        if not _is_plain(value):
            raise ValueError(f"{key}={str(value)[:60]!r} is no plain value of a possible size")
    with limited(stored):
        try:
            return build_encoder(name, **settings)
        except ValueError:
            raise
        except Exception as error:
            # Libraries fail in any way impossible settings make them.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{name} cannot be built with its settings ({reason})") from error


def known_settings(name: str) -> frozenset[str]:
    """The settings of an encoder that may be taken from a file.

    Raises:
        ValueError: there is no such encoder.
    """
    library, slash, _ = name.partition("/")
    if slash and library in LIBRARY_SETTINGS:
        return LIBRARY_SETTINGS[library]
    encoder: Any = encoders.get(name)
    # An encoder that passes settings on says in SETTINGS which.
    own = getattr(encoder, "SETTINGS", None)
    named = (p.name for p in inspect.signature(encoder).parameters.values() if p.kind != p.VAR_KEYWORD)
    return frozenset(named if own is None else own) - NEVER


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is a number of a possible size, true or false, null, short text, or a short list of such."""
    if isinstance(value, list | tuple):
        return depth < 3 and len(value) <= LONGEST and all(_is_plain(v, depth + 1) for v in value)
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or (isinstance(value, bool | int | float) and abs(value) <= LARGEST_NUMBER)


@contextmanager
def limited(stored: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this context, refuse to allocate much more than what is stored.

    Raises:
        ValueError: It was tried; the message says how much.
    """
    size = sum(4 * tensor.numel() for tensor in stored.values())
    with _Allowance(size, SHARE * size + SLACK_BYTES, CALLS_PER_TENSOR * len(stored) + SLACK_CALLS):
        yield


class _Allowance(TorchDispatchMode):
    """Counts what is allocated, before it is, and calls of functions, and stops at a limit."""

    def __init__(self, stored: int, most_bytes: int, most_calls: int) -> None:
        super().__init__()
        self.stored, self.most_bytes, self.most_calls = stored, most_bytes, most_calls
        self.bytes = self.calls = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: skipping torch.compile would import the compiler, for seconds, and nothing here is compiled."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at the size that a function which makes a new tensor is asked for."""
        kwargs = kwargs or {}
        size = next((a for a in args[:2] if isinstance(a, list | tuple) and all(isinstance(v, int) for v in a)), None)
        if size is not None and not any(isinstance(a, Tensor) for a in args):
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self.bytes += math.prod(size) * dtype.itemsize
        self.calls += 1
        if self.bytes > self.most_bytes or self.calls > self.most_calls:
            raise ValueError(
                f"it describes a network of at least {self.bytes / 2**30:.2g} GiB, or of very many layers, and its "
                f"weights take {self.stored / 2**30:.2g} GiB"
            )
        return func(*args, **kwargs)
