"""A bank of procedural textures that tile, loaded once per process and shared by all apartments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.array_cache import ArrayCache, Arrays, code_version
from envs.apartments.patterns import (
    Color,
    Field,
    blobs,
    book_spines,
    bricks,
    checks,
    clock_face,
    dots,
    floral,
    herringbone,
    image_of,
    landscape,
    lattice_noise,
    painting,
    planks,
    rug,
    screen,
    sky,
    smooth_noise,
    stripes,
    tile_joints,
    tiles,
    veins,
    zigzag,
)

_SEED = 20200807


@dataclass(frozen=True)
class TextureBank:
    """Textures by group.

    Attributes:
        images: (128, 128, 3) uint8 sRGB arrays, read-only; they tile seamlessly unless the group is stretched to fit.
        side: Metres that one repetition of each texture spans.
        groups: Indices into `images` by group, such as ``"planks"`` or ``"picture"``.
    """

    images: tuple[NDArray[np.uint8], ...]
    side: tuple[float, ...]
    groups: dict[str, tuple[int, ...]]


Recipe = Callable[[np.random.Generator], Field]


def _mix(low: Color, high: Color, pattern: Callable[[np.random.Generator], NDArray[np.float64]]) -> Recipe:
    """Return a recipe that blends two colours by a pattern in [0, 1]."""

    def draw(rng: np.random.Generator) -> Field:
        weight = np.clip(pattern(rng), 0.0, 1.0)[..., None]
        return np.asarray(low) * (1.0 - weight) + np.asarray(high) * weight

    return draw


def _grain(rng: np.random.Generator, along: float = 14.0) -> NDArray[np.float64]:
    """Return wood grain running down the image."""
    return 0.5 + 0.28 * smooth_noise(rng, (2.0, along)) + 0.1 * smooth_noise(rng, (8.0, 40.0))


_RECIPES: tuple[tuple[str, float, Recipe], ...] = (
    ("plaster", 2.0, _mix((0.90, 0.90, 0.89), (1.0, 1.0, 1.0), lambda r: 0.5 + 0.22 * smooth_noise(r, (5, 5)))),
    ("plaster", 1.6, _mix((0.88, 0.88, 0.86), (1.0, 1.0, 0.98), lambda r: 0.5 + 0.25 * smooth_noise(r, (12, 12)))),
    ("plaster", 2.4, _mix((0.84, 0.84, 0.85), (1.0, 0.99, 0.97), lambda r: 0.5 + 0.25 * lattice_noise(r, 2.0))),
    ("plaster", 1.8, _mix((0.86, 0.86, 0.86), (1.0, 1.0, 1.0), lambda r: 0.6 + 0.3 * stripes(9, 0.6))),
    ("ceiling", 2.0, _mix((0.93, 0.93, 0.93), (1.0, 1.0, 1.0), lambda r: 0.5 + 0.2 * smooth_noise(r, (7, 7)))),
    ("ceiling", 1.8, _mix((0.82, 0.82, 0.82), (1.0, 1.0, 1.0), lambda r: 1.0 - tile_joints(3))),
    ("wallpaper", 0.9, _mix((0.78, 0.74, 0.66), (0.98, 0.96, 0.90), lambda r: stripes(6, 0.5))),
    ("wallpaper", 0.8, _mix((0.97, 0.96, 0.93), (0.62, 0.70, 0.74), lambda r: dots(5, 0.27))),
    ("wallpaper", 1.0, _mix((0.95, 0.92, 0.86), (0.66, 0.52, 0.42), lambda r: floral(r, 7))),
    ("wallpaper", 1.2, _mix((0.80, 0.87, 0.82), (0.40, 0.55, 0.47), lambda r: floral(r, 12))),
    ("wallpaper", 1.0, _mix((0.96, 0.96, 0.98), (0.55, 0.58, 0.66), lambda r: zigzag(4, 0.35))),
    ("wallpaper", 0.9, _mix((0.92, 0.88, 0.92), (0.66, 0.58, 0.68), lambda r: checks(4, diagonal=True))),
    ("brick", 1.2, lambda r: bricks(r, (0.62, 0.30, 0.22), (0.78, 0.74, 0.69))),
    ("brick", 1.3, lambda r: bricks(r, (0.88, 0.86, 0.83), (0.68, 0.66, 0.64))),
    ("planks", 1.5, lambda r: planks(r, (0.62, 0.44, 0.27), 8)),
    ("planks", 1.4, lambda r: planks(r, (0.80, 0.65, 0.46), 7)),
    ("planks", 1.6, lambda r: planks(r, (0.45, 0.29, 0.19), 8)),
    ("planks", 1.5, lambda r: planks(r, (0.72, 0.69, 0.64), 6)),
    ("planks", 1.2, lambda r: herringbone(r, (0.68, 0.48, 0.30))),
    ("planks", 1.2, lambda r: herringbone(r, (0.54, 0.38, 0.26))),
    ("wood", 1.0, _mix((0.50, 0.32, 0.18), (0.78, 0.56, 0.35), _grain)),
    ("wood", 1.0, _mix((0.72, 0.56, 0.38), (0.93, 0.79, 0.58), _grain)),
    ("wood", 1.2, _mix((0.28, 0.17, 0.11), (0.50, 0.33, 0.22), _grain)),
    ("wood", 0.9, _mix((0.80, 0.78, 0.74), (0.99, 0.98, 0.96), _grain)),
    ("tiles", 1.2, lambda r: tiles(r, 4, (0.90, 0.90, 0.88), (0.90, 0.90, 0.88))),
    ("tiles", 1.2, lambda r: tiles(r, 4, (0.93, 0.92, 0.90), (0.35, 0.37, 0.40))),
    ("tiles", 1.0, lambda r: tiles(r, 5, (0.60, 0.75, 0.80), (0.72, 0.84, 0.87))),
    ("tiles", 1.6, lambda r: tiles(r, 3, (0.76, 0.68, 0.58), (0.70, 0.61, 0.50))),
    ("tiles", 1.5, lambda r: tiles(r, 3, (0.66, 0.66, 0.67), (0.60, 0.60, 0.61))),
    ("marble", 1.6, lambda r: veins(r, (0.94, 0.93, 0.92), (0.52, 0.52, 0.55))),
    ("marble", 1.4, lambda r: veins(r, (0.26, 0.30, 0.29), (0.70, 0.72, 0.68))),
    ("stone", 1.4, _mix((0.50, 0.50, 0.50), (0.82, 0.81, 0.79), lambda r: 0.5 + 0.3 * lattice_noise(r, 1.6))),
    ("stone", 0.8, _mix((0.40, 0.39, 0.37), (0.92, 0.89, 0.84), lambda r: blobs(r, 90))),
    ("carpet", 0.9, _mix((0.62, 0.60, 0.57), (0.98, 0.96, 0.92), lambda r: 0.5 + 0.3 * smooth_noise(r, (14, 14)))),
    ("carpet", 1.1, _mix((0.50, 0.52, 0.58), (0.92, 0.94, 0.98), lambda r: 0.5 + 0.3 * lattice_noise(r, 1.2))),
    ("carpet", 1.0, _mix((0.70, 0.58, 0.50), (0.98, 0.90, 0.84), lambda r: checks(4))),
    ("fabric", 0.6, _mix((0.78, 0.78, 0.78), (1.0, 1.0, 1.0), lambda r: 0.5 + 0.3 * smooth_noise(r, (16, 16)))),
    ("fabric", 0.5, _mix((0.70, 0.70, 0.72), (1.0, 1.0, 1.0), lambda r: stripes(5, 0.4))),
    ("fabric", 0.6, _mix((0.58, 0.58, 0.58), (1.0, 1.0, 1.0), lambda r: (checks(3) + stripes(6, 0.5)) / 2.0)),
    ("fabric", 0.7, _mix((1.0, 1.0, 1.0), (0.60, 0.55, 0.60), lambda r: floral(r, 9))),
    ("fabric", 0.5, _mix((1.0, 1.0, 1.0), (0.62, 0.62, 0.66), lambda r: dots(4, 0.22))),
    ("fabric", 0.6, _mix((0.66, 0.66, 0.68), (1.0, 1.0, 1.0), lambda r: zigzag(4, 0.5))),
    ("leather", 0.8, _mix((0.70, 0.68, 0.66), (1.0, 0.99, 0.98), lambda r: blobs(r, 120))),
    ("wicker", 0.4, _mix((0.52, 0.38, 0.24), (0.88, 0.72, 0.50), lambda r: checks(8))),
    ("metal", 1.0, _mix((0.70, 0.71, 0.73), (0.94, 0.95, 0.97), lambda r: 0.5 + 0.3 * smooth_noise(r, (1, 22)))),
    ("metal", 1.0, _mix((0.30, 0.31, 0.33), (0.48, 0.49, 0.51), lambda r: 0.5 + 0.3 * smooth_noise(r, (22, 1)))),
    ("ceramic", 1.2, _mix((0.90, 0.91, 0.92), (1.0, 1.0, 1.0), lambda r: 0.5 + 0.3 * lattice_noise(r, 2.4))),
    ("foliage", 0.5, _mix((0.10, 0.26, 0.08), (0.46, 0.68, 0.26), lambda r: blobs(r, 60))),
    ("foliage", 0.4, _mix((0.16, 0.34, 0.18), (0.58, 0.76, 0.44), lambda r: stripes(6, 0.5) * 0.8)),
    ("soil", 0.3, _mix((0.16, 0.11, 0.07), (0.36, 0.26, 0.18), lambda r: blobs(r, 100))),
    ("rug", 1.0, lambda r: rug(r, (0.62, 0.16, 0.14), (0.90, 0.80, 0.60))),
    ("rug", 1.0, lambda r: rug(r, (0.16, 0.26, 0.44), (0.88, 0.86, 0.80))),
    ("rug", 1.0, lambda r: rug(r, (0.34, 0.42, 0.30), (0.92, 0.84, 0.66))),
    ("rug", 1.0, lambda r: rug(r, (0.20, 0.18, 0.20), (0.86, 0.60, 0.26))),
    ("book", 0.8, book_spines),
    ("book", 0.8, book_spines),
    ("book", 0.8, book_spines),
    ("picture", 1.0, painting),
    ("picture", 1.0, painting),
    ("picture", 1.0, painting),
    ("picture", 1.0, painting),
    ("picture", 1.0, landscape),
    ("picture", 1.0, landscape),
    ("picture", 1.0, landscape),
    ("sky", 1.0, lambda r: sky(r, buildings=True)),
    ("sky", 1.0, lambda r: sky(r, buildings=True)),
    ("sky", 1.0, lambda r: sky(r, buildings=False)),
    ("screen", 1.0, screen),
    ("screen", 1.0, landscape),
    ("clock", 1.0, clock_face),
)


@cache
def texture_bank() -> TextureBank:
    """Return the bank; the same object on every call, equal in every process. Its images are kept on disk."""
    folder = Path(__file__).parent
    kept = ArrayCache("textures", code_version([folder / "textures.py", folder / "patterns.py"]))
    images = kept.get("plain", {"seed": _SEED}, _draw, _pack, _unpack)
    groups: dict[str, tuple[int, ...]] = {}
    for index, (image, (group, _, _)) in enumerate(zip(images, _RECIPES, strict=True)):
        image.setflags(write=False)
        groups[group] = (*groups.get(group, ()), index)
    return TextureBank(images, tuple(side for _, side, _ in _RECIPES), groups)


def _draw() -> tuple[NDArray[np.uint8], ...]:
    drawn = [recipe(np.random.Generator(np.random.PCG64([_SEED, k]))) for k, (_, _, recipe) in enumerate(_RECIPES)]
    return tuple(map(image_of, drawn))


def _pack(images: tuple[NDArray[np.uint8], ...]) -> Arrays:
    return {str(k): image for k, image in enumerate(images)}


def _unpack(arrays: Arrays) -> tuple[NDArray[np.uint8], ...]:
    return tuple(arrays[str(k)] for k in range(len(_RECIPES)))
