"""Packing of textures into flat arrays, and their mipmaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.rendering.layout import ONE_LEVEL, POINT, SHARP, WRAPS
from envs.scene import DEFAULT_SAMPLER, Sampler, Scene

WHITE = 0xFFFFFFFF


def pack_textures(
    scenes: Sequence[Scene],
) -> tuple[NDArray[np.uint32], NDArray[np.int32], list[NDArray[np.int32]]]:
    """Lay all textures one after the other, each array once.

    Returns:
        Texels and textures of `layout.Surfaces`, without levels of detail: the last two words are their `SAMPLER` and
        how they are chosen, -1 for not at all. Then, per scene, the row of each of its textures.
    """
    offset_of: dict[int, int] = {}
    row_of: dict[tuple[int, Sampler], int] = {}
    packed = [np.full(1, WHITE, np.uint32)]
    table: list[tuple[int, ...]] = [(0, 1, 1, 0, 1, 0, 0, 0)]
    offset = 1
    rows = []
    for scene in scenes:
        samplers = scene.samplers or [DEFAULT_SAMPLER] * len(scene.textures)
        keys = [(id(texture), sampler) for texture, sampler in zip(scene.textures, samplers, strict=True)]
        for number, (texture, key) in enumerate(zip(scene.textures, keys, strict=True)):
            if id(texture) not in offset_of:
                packed.append(_pack_texture(scene.name, number, texture))
                offset_of[id(texture)] = offset
                offset += packed[-1].size
            if key not in row_of:
                row_of[key] = len(table)
                magnified, *minified = _sampler_words(key[1])
                place = offset_of[id(texture)], texture.shape[1], texture.shape[0]
                table.append((*place, magnified, 1, 0, *minified))
        rows.append(np.array([row_of[key] for key in keys], np.int32))
    return np.concatenate(packed), np.array(table, np.int32), rows


def _sampler_words(sampler: Sampler) -> tuple[int, int, int]:
    """`SAMPLER` of a texture where it is magnified and where not, and how levels of detail are chosen: -1 for none."""
    edges = WRAPS[sampler.along_u] + 4 * WRAPS[sampler.along_v]
    magnified, minified = (edges | POINT * (found == "nearest") for found in (sampler.magnified, sampler.minified))
    if sampler.mipmap == "none":
        return magnified, minified, -1
    # OpenGL 4.6, section 8.15: "to ensure that a minified texture does not appear sharper than a magnified texture".
    sharp = sampler.magnified == "linear" and sampler.minified == "nearest"
    return magnified, minified, ONE_LEVEL * (sampler.mipmap == "nearest") | SHARP * sharp


def _pack_texture(scene: str, number: int, texture: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the texels of an image, row by row."""
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] not in (3, 4) or not texture.size:
        raise ValueError(
            f"scene {scene}: texture {number} is {texture.dtype}{texture.shape}, expected uint8(h, w, 3) or (h, w, 4)"
        )
    rgba = np.full((*texture.shape[:2], 4), 255, np.uint8)
    rgba[..., : texture.shape[2]] = texture
    return rgba.view("<u4").astype(np.uint32, copy=False).ravel()


def add_levels(texels: NDArray[np.uint32], table: NDArray[np.int32]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Return `pack_textures`' texels and table with all levels of detail down to one texel, each behind the one before.

    A level has half as many texels along each axis, rounded down, each filtered linearly from the level before at its
    centre: the mean of four, where that is even (as OpenGL implementations make them in `glGenerateMipmap`).
    """
    parts: list[NDArray[np.uint32]] = []
    places: dict[int, list[tuple[int, int, int]]] = {}
    start = 0
    rows: list[tuple[int, ...]] = []
    added: list[tuple[int, ...]] = []
    for offset, width, height, magnified, _, _, minified, choice in table.tolist():
        if offset not in places:
            places[offset] = []
            for level in _levels(texels[offset : offset + width * height].reshape(height, width)):
                places[offset].append((start, level.shape[1], level.shape[0]))
                parts.append(level.ravel())
                start += level.size
        levels = places[offset][: 1 if choice < 0 else None]
        rows.append((*levels[0], magnified, len(levels) | max(choice, 0), len(table) + len(added), 0, 0))
        added += [(*level, minified, 1, 0, 0, 0) for level in levels]
    return np.concatenate(parts), np.array(rows + added, np.int32)


def _levels(level: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """Yield a texture (h, w) and its levels of detail."""
    yield level
    while level.size > 1:
        rgba = level.view(np.uint8).reshape(*level.shape, 4).astype(np.float32)
        level = (_halve(_halve(rgba, 0), 1) + 0.5).astype(np.uint8).view(np.uint32)[..., 0]
        yield level


def _halve(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Filter an image linearly at the centres of half as many texels along an axis."""
    size = image.shape[axis]
    if size == 1:
        return image
    at = (np.arange(size // 2) + 0.5) * size / (size // 2) - 0.5
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return image.take(low, axis) * (1 - share) + image.take(low + 1, axis) * share
