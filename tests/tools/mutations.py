"""Mutations of inputs: of bytes, of JSON-like values, of lines of text and of arrays; seeded, small and hostile."""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
from typing import Any

import numpy as np
import torch

Rng = np.random.Generator

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**24,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**63 - 1,
    10**9,
    10**20,
)
FLOATS = (0.0, -0.0, 1e-30, 0.5, -1.0, 1e6, 1e9, -1e9, 1e30, 3.4e38, 1e308, math.inf, -math.inf, math.nan)
TEXTS = (
    "",
    " ",
    "a",
    "0",
    "1e9",
    "nan",
    "null",
    "../../../../etc/passwd",
    "/etc/passwd",
    ".",
    "..",
    "/",
    "\0",
    "é",
    "\ud800",
    "x" * 300,
    "**",
    "**/*",
    "../**",
    "[",
    "a.glb",
    "a/b/c",
    "data:,",
    "${env.name}",
    "???",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    *INTEGERS,
    *FLOATS,
    *TEXTS,
    [],
    {},
    [[]],
    [None],
    [1, 2],
    [1, 2, 3],
    {"a": 1},
    [[1, 2, 3]] * 3,
    10**400,
)


def pick(rng: Rng, values: Any) -> Any:
    """One of several values."""
    return values[int(rng.integers(len(values)))]


def changed_bytes(rng: Rng, data: bytes, strength: int = 4) -> bytes:
    """Bytes after a few changes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, strength + 1))):
        _change_bytes(rng, out)
    return bytes(out)


def _change_bytes(rng: Rng, out: bytearray) -> None:
    kind = int(rng.integers(10))
    # Half of all changes hit the start, where headers are.
    limit = len(out) if rng.random() < 0.5 else min(len(out), 256)
    at = int(rng.integers(limit)) if limit else 0
    length = int(rng.integers(1, 1 + min(max(len(out), 1), 64)))
    if kind == 0 and out:
        out[at] ^= 1 << int(rng.integers(8))
    elif kind == 1 and out:
        out[at] = int(rng.integers(256))
    elif kind in (2, 3):
        number = int(pick(rng, INTEGERS)) % 2**64
        out[at : at + 4] = struct.pack("<Q", number)[: pick(rng, (1, 2, 4, 8))]
    elif kind == 4:
        out[at : at + 4] = struct.pack("<f", np.float32(np.clip(pick(rng, FLOATS), -3.4e38, 3.4e38)))
    elif kind == 5:
        del out[at : at + length]
    elif kind == 6:
        out[at:at] = out[at : at + length] * int(pick(rng, (1, 2, 50)))
    elif kind == 7:
        del out[int(rng.integers(len(out) + 1)) :]
    elif kind == 8:
        out += bytes(rng.integers(0, 256, length, np.uint8))
    else:
        out[at : at + length] = bytes(length)


def changed_value(rng: Rng, value: Any, strength: int = 3) -> Any:
    """A JSON-like value after a few changes somewhere in it."""
    for _ in range(int(rng.integers(1, strength + 1))):
        value = _change_value(rng, value)
    return value


def _change_value(rng: Rng, value: Any) -> Any:
    """A copy with one change at a random place."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = pick(rng, list(value))
        out = dict(value)
        kind = rng.random()
        if kind < 0.06:
            del out[key]
        elif kind < 0.09:
            out[pick(rng, TEXTS)] = out.pop(key)
        elif kind < 0.12:
            out[key] = value[pick(rng, list(value))]
        else:
            out[key] = _change_value(rng, value[key])
        return out
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        kind = rng.random()
        if kind < 0.06:
            return value[:at] + value[at + 1 :]
        if kind < 0.12:
            return value[:at] + [value[at]] * int(pick(rng, (2, 3, 1000))) + value[at + 1 :]
        return [*value[:at], _change_value(rng, value[at]), *value[at + 1 :]]
    return _change_leaf(rng, value)


def _change_leaf(rng: Rng, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _change_tensor(rng, value)
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        factor = pick(rng, (-1, 0, 2, 10, 1000, 1e6, 1e12, 0.001))
        changed = value * factor
        return int(changed) if isinstance(value, int) and abs(changed) < 1e300 and rng.random() < 0.8 else changed
    if isinstance(value, str) and value and rng.random() < 0.4:
        at = int(rng.integers(len(value)))
        return value[:at] + pick(rng, ("", "/", ".", "..", "a", "\0", "%00", " ")) + value[at + 1 :]
    return pick(rng, VALUES)


def _change_tensor(rng: Rng, value: torch.Tensor) -> Any:
    return pick(
        rng,
        (
            None,
            [1.0, 2.0],
            "text",
            3,
            torch.zeros(3),
            torch.zeros(0),
            value.flatten(),
            value.flatten()[:1],
            value.to(torch.complex64),
            value.bool(),
            value.double(),
            torch.full_like(value, math.nan) if value.is_floating_point() else torch.ones_like(value),
            {"a": value},
        ),
    )


def changed_text(rng: Rng, text: str, strength: int = 4) -> str:
    """Text after a few changes of lines and words."""
    lines = text.split("\n")
    for _ in range(int(rng.integers(1, strength + 1))):
        if not lines:
            break
        at, kind = int(rng.integers(len(lines))), int(rng.integers(8))
        words = lines[at].split(" ")
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines[at:at] = [lines[at]] * int(pick(rng, (1, 2, 500)))
        elif kind == 2:
            lines.insert(at, pick(rng, TEXTS))
        elif kind == 3:
            lines[at], lines[-1] = lines[-1], lines[at]
        elif kind == 4:
            del lines[at:]
        else:
            word = int(rng.integers(len(words)))
            words[word] = str(pick(rng, (*INTEGERS, *FLOATS, *TEXTS, "1/2/3/4", "1//", "-1/-1", "1e400", words[0])))
            lines[at] = " ".join(words)
    return "\n".join(lines)


def changed_array(rng: Rng, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array of another type or shape, or with hostile values."""
    kind = int(rng.integers(9))
    if kind == 0:
        kind = pick(rng, ("f8", "f2", "i8", "u1", "c8", "U5", "S3", "?"))
        return array.astype(kind if array.dtype.kind in "biuf" else pick(rng, ("U5", "S3")))
    if kind == 1:
        return array.reshape(-1)
    if kind == 2:
        return array[..., None]
    if kind == 3:
        return array[: int(rng.integers(len(array) + 1))] if array.ndim else array
    if kind == 4:
        return np.array(pick(rng, (0, -1, 10**9, math.nan, "text", b"bytes")))
    if kind == 5:
        return np.concatenate([array, array]) if array.ndim else array
    if kind == 6 and array.dtype.kind in "iuf" and array.size:
        out = array.copy().reshape(-1)
        with np.errstate(all="ignore"):
            out[int(rng.integers(out.size))] = np.array(pick(rng, (-1, 255, 2**31 - 1, 10**9)), "i8").astype(out.dtype)
        return out.reshape(array.shape)
    if kind == 7:
        return array.astype(np.float64) * 1e9 if array.dtype.kind in "iuf" else array
    return np.array([], pick(rng, ("f8", "i8", "U1")))


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (self.file,)


def hostile_pickles(file: str) -> list[bytes]:
    """Pickles that make a folder when they run: bare, as files of PyTorch old and new, as arrays of NumPy."""
    canary = Canary(file)
    found = [pickle.dumps({"a": canary}, protocol) for protocol in (0, 2, 4)]
    for content in (canary, {"state_dict": {"a": canary}}, {"policy": canary, "base_sha256": "", "step": 1}):
        for new in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=new)
            found.append(stream.getvalue())
    array = np.array([canary], dtype=object)
    for save in (lambda s: np.save(s, array, allow_pickle=True), lambda s: np.savez(s, x=array, y=array)):
        stream = io.BytesIO()
        save(stream)
        found.append(stream.getvalue())
    return found
