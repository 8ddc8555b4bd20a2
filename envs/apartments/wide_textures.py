"""Textures for domain randomisation: noise, mosaics, dead leaves, gradients, patterns and plain colours."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.array_cache import ArrayCache, Arrays, code_version
from envs.apartments.patterns import SIZE, Field, blobs, checks, dots, image_of, lattice_noise, stripes, zigzag

Recipe = Callable[[np.random.Generator], Field]

_SEED = 20260117
_CODE = ("wide_textures.py", "patterns.py")
# Square roots of the eigenvalues of natural images' colours, brightness first, and their axes: grey, blue to yellow,
# green to red (Ruderman, Cronin and Chiao 1998, whose axes these are, rounded).
_SPREAD = np.array([0.25, 0.06, 0.02])
_AXES = np.array([[0.577, 0.577, 0.577], [-0.408, -0.408, 0.816], [0.707, -0.707, 0.0]])
_LINE = np.arange(SIZE) / SIZE
_ROW, _COLUMN = np.meshgrid(_LINE, _LINE, indexing="ij")


def _colors(rng: np.random.Generator, count: int) -> Field:
    """(count, 3) colours: with a photograph's statistics about one colour, or uniform ones."""
    if rng.random() < 0.6:
        strength = _strengths(rng, 0.5, 1.5)
        return np.asarray(
            np.clip(rng.uniform(0.2, 0.8, 3) + (rng.standard_normal((count, 3)) * strength) @ _AXES, 0, 1)
        )
    return rng.random((count, 3))


def _strengths(rng: np.random.Generator, low: float, high: float) -> Field:
    """(3,) standard deviations along `_AXES`, about as in photographs, times `low` to `high`."""
    return rng.uniform(low, high) * _SPREAD * np.array([1.0, rng.uniform(0.5, 3.0), rng.uniform(0.5, 5.0)])


def _noise(rng: np.random.Generator) -> Field:
    """Noise whose amplitude falls with a power of frequency, from white to cloudy, with a photograph's colours."""
    power = rng.uniform(0.0, 2.2)
    parts = np.stack([lattice_noise(rng, power) for _ in range(3)], axis=-1)
    strength = _strengths(rng, 0.4, 1.2)
    return np.asarray(rng.uniform(0.25, 0.75, 3) + (parts * strength) @ _AXES)


def _mosaic(rng: np.random.Generator) -> Field:
    """Square or oblong fields of random colours, with or without joints."""
    rows, columns = (int(n) for n in rng.choice([2, 4, 8, 16, 32], 2)) if rng.random() < 0.5 else (0, 0)
    if rows == 0:
        rows = columns = int(rng.choice([4, 8, 16, 32]))
    table = _colors(rng, rows * columns).reshape(rows, columns, 3)
    out = table[(_ROW * rows).astype(int), (_COLUMN * columns).astype(int)]
    if rng.random() < 0.4:
        joint = ((_ROW * rows) % 1.0 < 0.12) | ((_COLUMN * columns) % 1.0 < 0.12)
        out = np.where(joint[..., None], rng.random(3), out)
    return np.asarray(out)


def _stones(rng: np.random.Generator) -> Field:
    """Rounded cells of different brightness (a Voronoi diagram), tinted."""
    weight = blobs(rng, int(rng.integers(12, 60)))[..., None]
    low, high = _colors(rng, 2)
    return np.asarray(low * (1.0 - weight) + high * weight)


def _leaves(rng: np.random.Generator) -> Field:
    """Dead leaves: overlapping discs and squares whose sizes follow a power law, as edges in photographs do."""
    colors = _colors(rng, 220)
    out = np.broadcast_to(colors[0], (SIZE, SIZE, 3)).copy()
    for color in colors[1:]:
        radius = min(0.3, 0.015 * rng.random() ** -0.7)
        down, across = (np.abs((_LINE - rng.random() + 0.5) % 1.0 - 0.5) for _ in range(2))
        distance = np.maximum if rng.random() < 0.4 else np.hypot
        rows, columns = (np.flatnonzero(away < 1.01 * radius) for away in (down, across))
        window = np.ix_(rows, columns)
        inside = distance(down[rows, None], across[columns]) < radius
        out[window] = np.where(inside[..., None], color, out[window])
    return np.asarray(out)


def _gradient(rng: np.random.Generator) -> Field:
    """A smooth change between colours, once or a few times per tile."""
    first, second, third = _colors(rng, 3)
    a = 0.5 + 0.5 * np.sin(2 * np.pi * (int(rng.integers(0, 3)) * _ROW + int(rng.integers(1, 3)) * _COLUMN))[..., None]
    b = 0.5 + 0.5 * np.sin(2 * np.pi * (int(rng.integers(1, 3)) * _ROW + rng.random()))[..., None]
    return np.asarray((first * (1 - a) + second * a) * (1 - b) + third * b)


def _pattern(rng: np.random.Generator) -> Field:
    """Stripes, dots, checks or chevrons in two colours of any contrast."""
    count = int(rng.integers(1, 13))
    kind = int(rng.integers(5))
    if kind == 0:
        weight = stripes(count, rng.uniform(0.2, 0.8))
    elif kind == 1:
        weight = stripes(count, rng.uniform(0.2, 0.8)).T
    elif kind == 2:
        weight = dots(count, rng.uniform(0.15, 0.4))
    elif kind == 3:
        weight = checks(max(1, count // 2), diagonal=bool(rng.integers(2)))
    else:
        weight = zigzag(count, rng.uniform(0.3, 0.7))
    low, high = _colors(rng, 2)
    return np.asarray(low * (1.0 - weight[..., None]) + high * weight[..., None])


def _plain(rng: np.random.Generator) -> Field:
    """One colour, perhaps with a little grain."""
    grain = rng.choice([0.0, 0.01, 0.04]) * rng.standard_normal((SIZE, SIZE, 1))
    return np.asarray(_colors(rng, 1)[0] + grain)


RECIPES: dict[str, Recipe] = {
    "noise": _noise,
    "mosaic": _mosaic,
    "stones": _stones,
    "leaves": _leaves,
    "gradient": _gradient,
    "pattern": _pattern,
    "plain": _plain,
}
# Textures of each kind in a bank.
COUNTS = {"noise": 20, "mosaic": 24, "stones": 8, "leaves": 12, "gradient": 12, "pattern": 24, "plain": 12}


@lru_cache(maxsize=8)
def wide_bank(number: int) -> dict[str, tuple[NDArray[np.uint8], ...]]:
    """Textures that tile, by kind; equal numbers give the same arrays, others others. They are kept on disk.

    Args:
        number: Which bank, at least 0.

    Returns:
        By kind (`RECIPES`) `COUNTS` arrays of (128, 128, 3) uint8 sRGB, read-only.
    """
    folder = Path(__file__).parent
    kept = ArrayCache("textures", code_version([folder / name for name in _CODE]))
    images = kept.get("wide", {"bank": number}, partial(_draw, number), _pack, _unpack)
    kept.trim()
    for image in images:
        image.setflags(write=False)
    ends = np.cumsum([COUNTS[kind] for kind in RECIPES])
    return {kind: images[end - COUNTS[kind] : end] for kind, end in zip(RECIPES, ends, strict=True)}


def _draw(bank: int) -> tuple[NDArray[np.uint8], ...]:
    """The textures of all kinds, in the order of `RECIPES`."""
    images: list[NDArray[np.uint8]] = []
    for kind, name in enumerate(RECIPES):
        rng = np.random.Generator(np.random.PCG64([_SEED, bank, kind]))
        images += [image_of(RECIPES[name](rng)) for _ in range(COUNTS[name])]
    return tuple(images)


def _pack(images: tuple[NDArray[np.uint8], ...]) -> Arrays:
    return {"images": np.stack(images)}


def _unpack(arrays: Arrays) -> tuple[NDArray[np.uint8], ...]:
    images = arrays["images"]
    if images.shape != (sum(COUNTS.values()), SIZE, SIZE, 3):
        raise ValueError("other textures than a bank has")
    return tuple(images)
