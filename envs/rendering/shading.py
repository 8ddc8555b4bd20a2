"""Compiled shading kernels of the CPU renderer: blocks of pixels, and the visibility of one-sided and cut-out faces."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.rendering.gathering import GROUP, gather_16
from envs.rendering.layout import (
    ACROSS,
    CLASS,
    CUTOFF,
    DEPTH,
    DOWN,
    FACE,
    FLAGS,
    INSTANCE,
    NORMAL,
    OF_FACE,
    ONE,
    ONE_SIDED,
    PAINTED,
    PIXEL,
    POINT,
    RAY,
    ROW,
    SAMPLER,
    START,
    TEXTURE,
    UV,
    ZERO,
    CameraRows,
    Images,
    Surfaces,
    as_float,
    as_int,
)
from envs.rendering.texturing import paint, texel_pair


@njit(cache=True, nogil=True)
def shade_block(
    n: int,
    count: int,
    block: NDArray[np.float32],
    ints: NDArray[np.int32],
    first_face: int,
    view: CameraRows,
    surfaces: Surfaces,
    images: Images,
) -> None:
    """Write the pixels of a block into the images.

    Args:
        n: The agent.
        count: Pixels of the block, at most `BLOCK`.
        block: (`BLOCK_WORDS`,) the rows from `FACE` to `PIXEL` filled in, and `FOOTPRINT`.
        ints: (`BLOCK_WORDS`,) the same memory as integers.
        first_face: Row of the scene's first face.
        view: The camera.
        surfaces: All scenes.
        images: The outputs.
    """
    first = np.int32(first_face)
    for k in range(count):
        found = as_int(block[FACE + k])
        beyond = block[DEPTH + k] + view.near > view.far
        block[FACE + k] = as_float(np.int32(0) if found < 0 or beyond else np.int32(found + first))
    if len(images.rgb) + len(images.normal) + len(images.semantic) + len(images.instance):
        table, start = surfaces.faces.ctypes.data, block.ctypes.data
        for k in range(0, count, GROUP):
            gather_16(table, start + 4 * (FACE + k), start + 4 * (OF_FACE + k), 4 * ROW)
    if len(images.rgb):
        paint(count, block, ints, view.near, view.mipmaps, surfaces)
        _write_colors(count, ints, images.rgb[n])
    if len(images.depth):
        _write_depths(count, block, ints, view.near, images.depth[n])
    if len(images.normal):
        _write_normals(count, block, ints, images.normal[n])
    if len(images.semantic) + len(images.instance) + len(images.face):
        _write_labels(n, count, ints, first_face, images)


@njit(cache=True, nogil=True)
def _write_colors(count: int, ints: NDArray[np.int32], rgb: NDArray[np.uint8]) -> None:
    for k in range(count):
        pixel = ints[PIXEL + k]
        if pixel >= 0:
            painted = ints[PAINTED + k]
            rgb[pixel, 0] = painted & 255
            rgb[pixel, 1] = painted >> 8 & 255
            rgb[pixel, 2] = painted >> 16 & 255


@njit(cache=True, nogil=True)
def _write_depths(
    count: int, block: NDArray[np.float32], ints: NDArray[np.int32], near: float, depth: NDArray[np.float32]
) -> None:
    for k in range(count):
        pixel = ints[PIXEL + k]
        if pixel >= 0:
            depth[pixel] = ZERO if ints[FACE + k] == 0 else np.float32(block[DEPTH + k] + near)


@njit(cache=True, nogil=True)
def _write_normals(
    count: int, block: NDArray[np.float32], ints: NDArray[np.int32], normal: NDArray[np.float32]
) -> None:
    """Write the faces' normals, turned against the ray."""
    for k in range(count):
        pixel, at = ints[PIXEL + k], OF_FACE + NORMAL * ROW + k
        if pixel >= 0:
            x, y, z = block[at], block[at + ROW], block[at + 2 * ROW]
            along = x * block[RAY + k] + y * block[RAY + ROW + k] + z * block[RAY + 2 * ROW + k]
            sign = -ONE if along > ZERO else ONE
            normal[pixel, 0], normal[pixel, 1], normal[pixel, 2] = sign * x, sign * y, sign * z


@njit(cache=True, nogil=True)
def _write_labels(n: int, count: int, ints: NDArray[np.int32], first_face: int, images: Images) -> None:
    for k in range(count):
        pixel, f = ints[PIXEL + k], ints[FACE + k]
        if pixel < 0:
            continue
        if len(images.semantic):
            images.semantic[n, pixel] = ints[OF_FACE + CLASS * ROW + k]
        if len(images.instance):
            images.instance[n, pixel] = ints[OF_FACE + INSTANCE * ROW + k]
        if len(images.face):
            images.face[n, pixel] = -1 if f == 0 else f - first_face


@njit(cache=True, nogil=True)
def unseen(f: int, second: float, third: float, x: float, y: float, z: float, surfaces: Surfaces) -> bool:
    """Whether a ray along (x, y, z) passes a hit: the back of a one-sided face, or a texel below its face's cutoff."""
    flags = surfaces.face_ints[f, FLAGS]
    if flags & ONE_SIDED:
        normal = surfaces.faces[f, NORMAL : NORMAL + 3]
        if normal[0] * x + normal[1] * y + normal[2] * z > 0.0:
            return True
    cutoff = flags >> CUTOFF
    return cutoff > 0 and _alpha(f, second, third, surfaces) < cutoff


@njit(cache=True, nogil=True)
def _alpha(f: int, second: float, third: float, surfaces: Surfaces) -> float:
    """Alpha of a hit's magnified texture, 0 to 255."""
    row = surfaces.face_ints[f, TEXTURE]
    uv, first = surfaces.faces[f], ONE - second - third
    u = first * uv[UV] + second * uv[UV + 2] + third * uv[UV + 4]
    v = first * uv[UV + 1] + second * uv[UV + 3] + third * uv[UV + 5]
    texture = surfaces.textures[row]
    offset, width, height, sampler = texture[START], texture[ACROSS], texture[DOWN], texture[SAMPLER]
    left, right, wx = texel_pair(u, width, sampler & 3, sampler & POINT != 0)
    top, bottom, wy = texel_pair(v, height, sampler >> 2 & 3, sampler & POINT != 0)
    top = offset + top * width
    bottom = offset + bottom * width
    texels = surfaces.texels
    above = (1.0 - wx) * (texels[top + left] >> 24) + wx * (texels[top + right] >> 24)
    below = (1.0 - wx) * (texels[bottom + left] >> 24) + wx * (texels[bottom + right] >> 24)
    return (1.0 - wy) * above + wy * below
