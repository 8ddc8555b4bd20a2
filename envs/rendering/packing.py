"""Packing of scenes into flat arrays for renderers: texels, face rows, triangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.rendering import shading as _shading
from envs.scene import Scene

WHITE = 0xFFFFFFFF
# Two one-sided faces back to back are moved apart by this much to each side, metres.
APART = 2e-5


def pack_textures(
    scenes: Sequence[Scene],
) -> tuple[NDArray[np.uint32], NDArray[np.int64], list[NDArray[np.int32]]]:
    """Lay all textures one after the other, each array once.

    Returns:
        (T,) texels as r | g << 8 | b << 16 | alpha << 24; (K, 4) offset, width, height and wraps of each texture, of
        which the last, for faces without one, is one white texel; per scene, the row of each of its textures.
    """
    offset_of: dict[int, int] = {}
    row_of: dict[tuple[int, int], int] = {}
    packed: list[NDArray[np.uint32]] = []
    table: list[tuple[int, int, int, int]] = []
    offset = 0
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
                table.append((offset_of[id(texture)], texture.shape[1], texture.shape[0], key[1]))
        keys = [(id(texture), _wrap_code(scene, number)) for number, texture in enumerate(scene.textures)]
        rows.append(np.array([row_of[key] for key in keys], np.int32))
    texels = np.concatenate([*packed, np.full(1, WHITE, np.uint32)])
    return texels, np.array([*table, (offset, 1, 1, 0)], np.int64), rows


def _wrap_code(scene: Scene, number: int) -> int:
    """What lies beyond the edges of a texture, as the kernels read it."""
    if not scene.wraps:
        return 0
    along_u, along_v = scene.wraps[number]
    return _shading.WRAPS[along_u] + 4 * _shading.WRAPS[along_v]


def _pack_texture(scene: str, number: int, texture: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the texels of an image, row by row."""
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] not in (3, 4) or not texture.size:
        raise ValueError(
            f"scene {scene}: texture {number} is {texture.dtype}{texture.shape}, expected uint8(h, w, 3) or (h, w, 4)"
        )
    rgba = np.full((*texture.shape[:2], 4), 255, np.uint8)
    rgba[..., : texture.shape[2]] = texture
    return rgba.view("<u4").astype(np.uint32, copy=False).ravel()


def pack_faces(scene: Scene, texture_row: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (F, 16) face rows that `_shading.shade` reads."""
    if not np.isfinite(scene.corner_uv).all():
        raise ValueError(f"scene {scene.name}: corner_uv holds NaN or infinity")
    floats = np.zeros((len(scene.faces), _shading.FACE_WORDS), np.float32)
    ints = floats.view(np.int32)
    floats[:, _shading.UV : _shading.UV + 6] = scene.corner_uv.reshape(-1, 6)
    corner = scene.vertices[scene.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # A face without area has no direction, and no ray can hit it.
    floats[:, _shading.NORMAL : _shading.NORMAL + 3] = normal / np.where(length > 0, length, 1)
    color = scene.corner_color.astype(np.int32)
    ints[:, _shading.COLOR : _shading.COLOR + 3] = color[..., 0] | color[..., 1] << 8 | color[..., 2] << 16
    # The last entry serves index -1: no texture.
    ints[:, _shading.TEXTURE] = np.append(texture_row, np.int32(-1))[scene.face_texture]
    ints[:, _shading.CLASS] = scene.face_class
    ints[:, _shading.INSTANCE] = scene.face_instance
    if scene.one_sided is not None:
        ints[:, _shading.FLAGS] |= np.where(scene.one_sided, _shading.ONE_SIDED, 0).astype(np.int32)
    if scene.cutoff is not None:
        ints[:, _shading.FLAGS] |= scene.cutoff.astype(np.int32) << _shading.CUTOFF
    return floats


def traced_triangles(scene: Scene) -> NDArray[np.float32]:
    """Return the (F, 3, 3) triangles to trace.

    Two one-sided faces back to back at one place (a sheet with a picture on either side) are moved apart by a hair's
    breadth: at equal depth a ray would meet either, and find the seen one or not by chance.
    """
    triangles = np.ascontiguousarray(scene.vertices[scene.faces])
    if scene.one_sided is None:
        return triangles
    which = np.flatnonzero(scene.one_sided)
    corner = np.round(triangles[which], 5)
    order = np.lexsort(np.moveaxis(corner, 2, 0)[::-1], axis=1)
    same = np.take_along_axis(corner, order[..., None], axis=1).reshape(len(which), 9)
    _, group, size = np.unique(same, axis=0, return_inverse=True, return_counts=True)
    twins = which[size[group.ravel()] > 1]
    flat = triangles[twins]
    normal = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    triangles[twins] += (APART * normal / np.where(length > 0, length, 1))[:, None]
    return triangles
