"""Packing of textures into flat arrays, and their mipmaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.rendering.layout import WRAPS
from envs.scene import Scene

WHITE = 0xFFFFFFFF


def pack_textures(
    scenes: Sequence[Scene],
) -> tuple[NDArray[np.uint32], NDArray[np.int32], list[NDArray[np.int32]]]:
    """Lay all textures one after the other, each array once.

    Returns:
        Texels and textures of `layout.Surfaces`, without levels of detail; per scene, the row of each of its textures.
    """
    offset_of: dict[int, int] = {}
    row_of: dict[tuple[int, int], int] = {}
    packed = [np.full(1, WHITE, np.uint32)]
    table = [(0, 1, 1, 0, 1, 0, 0, 0)]
    offset = 1
    rows = []
    for scene in scenes:
        for number, texture in enumerate(scene.textures):
            if id(texture) not in offset_of:
                packed.append(_pack_texture(scene.name, number, texture))
                offset_of[id(texture)] = offset
                offset += packed[-1].size
            key = id(texture), _wrap_code(scene, number)
            if key not in row_of:
                row_of[key] = len(table)
                table.append((offset_of[id(texture)], texture.shape[1], texture.shape[0], key[1], 1, 0, 0, 0))
        keys = [(id(texture), _wrap_code(scene, number)) for number, texture in enumerate(scene.textures)]
        rows.append(np.array([row_of[key] for key in keys], np.int32))
    return np.concatenate(packed), np.array(table, np.int32), rows


def _wrap_code(scene: Scene, number: int) -> int:
    """What lies beyond the edges of a texture, as the kernels read it."""
    if not scene.wraps:
        return 0
    along_u, along_v = scene.wraps[number]
    return WRAPS[along_u] + 4 * WRAPS[along_v]


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
    for offset, width, height, wraps, *_ in table.tolist():
        if offset not in places:
            places[offset] = []
            for level in _levels(texels[offset : offset + width * height].reshape(height, width)):
                places[offset].append((start, level.shape[1], level.shape[0]))
                parts.append(level.ravel())
                start += level.size
        first, *others = places[offset]
        rows.append((*first, wraps, 1 + len(others), len(table) + len(added), 0, 0))
        added += [(*other, wraps, 1, 0, 0, 0) for other in others]
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
