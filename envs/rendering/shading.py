"""Compiled shading kernels of the CPU renderer, a block of pixels at a time.

A block's values lie in one flat array, `BLOCK` of each kind after one another. What must be looked up is looked up
into it; arithmetic is done in loops of its own, which become vector instructions because no two kinds overlap.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

# A face is one row of 16 words (one cache line): what a hit needs lies together, because hits are scattered.
# Floats and integers share the row; the kernel gets it as a float32 and as an int32 view of the same memory.
FACE_WORDS = 16
UV = 0  # 6 floats: u, v of the three corners
NORMAL = 6  # 3 floats: unit geometric normal
COLOR = 9  # 3 integers: r | g << 8 | b << 16 of each corner
TEXTURE = 12  # integer: row in the texture table, -1 for none
CLASS = 13  # integer: semantic class
INSTANCE = 14  # integer: object id
FLAGS = 15  # integer: ONE_SIDED, or-ed with the alpha (of 255) below which a texel is not there, << CUTOFF

ONE_SIDED = 1
CUTOFF = 8
# Third column of the texture table, beside offset, width and height: what lies beyond the edges, u + 4 v.
WRAPS = {"repeat": 0, "clamp": 1, "mirror": 2}
CLAMP, MIRROR = 1, 2

# Pixels that are shaded together.
BLOCK = 256
# What comes in, in words from the start of a block: row of the face (-1 for none), depth beyond the near plane, weights
# of the face's second and third corner, ray, place in the image (-1 for none).
FACE, DEPTH, SECOND, THIRD, RAY, PIXEL = (BLOCK * k for k in (0, 1, 2, 3, 4, 7))
# What is made of it: corners' colours and coordinates; the texture's row; the weights of the right and of the lower
# texels; places and then colours of the four texels; the pixel's colour.
COLORS, COORDINATES, ROW, OFFSET, WIDTH, HEIGHT, RIGHT, LOWER, TEXELS, PAINTED = (
    BLOCK * k for k in (8, 11, 17, 18, 19, 20, 21, 22, 23, 27)
)
BLOCK_WORDS = BLOCK * 28

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
BYTE = np.float32(1.0 / 255.0)


class Surfaces(NamedTuple):
    """Face rows and texels for the shading of hits.

    Attributes:
        faces: (F, 16) face rows as floats.
        face_ints: (F, 16) the same memory as integers.
        texels: (T,) all textures one after the other, r | g << 8 | b << 16 | alpha << 24.
        textures: (K, 4) int32 offset into `texels`, width, height, wraps; the last row is one white texel.
    """

    faces: NDArray[np.float32]
    face_ints: NDArray[np.int32]
    texels: NDArray[np.uint32]
    textures: NDArray[np.int32]


class Images(NamedTuple):
    """Outputs of N agents with P pixels each; those of no agents are skipped.

    Attributes:
        rgb: (N, P, 3).
        depth: (N, P).
        normal: (N, P, 3).
        semantic: (N, P).
        instance: (N, P).
        face: (N, P).
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]
    semantic: NDArray[np.int32]
    instance: NDArray[np.int32]
    face: NDArray[np.int32]


def _bits(source: types.Type, target: types.Type, kind: ir.Type) -> Any:
    """A compiled function that takes the bits of one type for another."""

    def bits(_: Any, value: Any) -> Any:
        return target(source), lambda _, builder, __, values: builder.bitcast(values[0], kind)

    return intrinsic(bits)


_as_int = _bits(types.float32, types.int32, ir.IntType(32))
_as_float = _bits(types.int32, types.float32, ir.FloatType())


@njit(cache=True, nogil=True)
def shade_block(
    n: int,
    count: int,
    block: NDArray[np.float32],
    ints: NDArray[np.int32],
    first_face: int,
    near: float,
    far: float,
    surfaces: Surfaces,
    images: Images,
) -> None:
    """Write the pixels of a block into the images.

    Args:
        n: The agent.
        count: Pixels of the block, at most `BLOCK`.
        block: (`BLOCK_WORDS`,) the rows from `FACE` to `PIXEL` filled in.
        ints: (`BLOCK_WORDS`,) the same memory as integers.
        first_face: Row of the scene's first face.
        near: Planar depth of the near plane, metres.
        far: Planar depth beyond which nothing is seen, metres.
        surfaces: All scenes.
        images: The outputs.
    """
    for k in range(count):
        if block[DEPTH + k] + near > far:
            ints[FACE + k] = -1
    if len(images.rgb):
        _paint(count, block, ints, surfaces)
        _write_colors(count, ints, images.rgb[n])
    if len(images.depth):
        _write_depths(count, block, ints, near, images.depth[n])
    if len(images.normal):
        _write_normals(count, block, ints, surfaces.faces, images.normal[n])
    if len(images.semantic) + len(images.instance) + len(images.face):
        _write_labels(n, count, ints, first_face, surfaces.face_ints, images)


@njit(cache=True, nogil=True)
def _paint(count: int, block: NDArray[np.float32], ints: NDArray[np.int32], surfaces: Surfaces) -> None:
    """Find the colours of a block's pixels."""
    wraps = _look_up_faces(count, block, ints, surfaces)
    _place_texels(count, block)
    if wraps:
        _place_texels_at_edges(count, block, ints, surfaces.textures)
    for row in range(TEXELS, TEXELS + 4 * BLOCK, BLOCK):
        for k in range(row, row + count):
            ints[k] = surfaces.texels[np.uint32(ints[k])]
    _blend(count, block)


@njit(cache=True, nogil=True)
def _look_up_faces(count: int, block: NDArray[np.float32], ints: NDArray[np.int32], surfaces: Surfaces) -> int:
    """Fill in what the faces say, `COLORS` to `HEIGHT`; returns whether any texture does not repeat."""
    wraps = 0
    white = len(surfaces.textures) - 1
    for k in range(count):
        f = ints[FACE + k]
        row = white
        if f < 0:
            for corner in range(3):
                ints[COLORS + corner * BLOCK + k] = 0
        else:
            for corner in range(3):
                ints[COLORS + corner * BLOCK + k] = surfaces.face_ints[f, COLOR + corner]
            for axis in range(6):
                block[COORDINATES + axis * BLOCK + k] = surfaces.faces[f, UV + axis]
            if surfaces.face_ints[f, TEXTURE] >= 0:
                row = surfaces.face_ints[f, TEXTURE]
        ints[ROW + k] = row
        ints[OFFSET + k] = surfaces.textures[row, 0]
        ints[WIDTH + k] = surfaces.textures[row, 1]
        ints[HEIGHT + k] = surfaces.textures[row, 2]
        wraps |= surfaces.textures[row, 3]
    return wraps


@njit(cache=True, nogil=True, inline="always")
def _coordinate(block: NDArray[np.float32], k: int, axis: int) -> float:
    """The texture coordinate u (axis 0) or v (axis 1) of a pixel."""
    second, third = block[SECOND + k], block[THIRD + k]
    at = COORDINATES + axis * BLOCK + k
    return (ONE - second - third) * block[at] + second * block[at + 2 * BLOCK] + third * block[at + 4 * BLOCK]


@njit(cache=True, nogil=True)
def _place_texels(count: int, block: NDArray[np.float32]) -> None:
    """Find where the four texels of a pixel lie, and their weights, in textures that repeat."""
    for k in range(count):
        width, height, offset = _as_int(block[WIDTH + k]), _as_int(block[HEIGHT + k]), _as_int(block[OFFSET + k])
        u, v = _coordinate(block, k, 0), _coordinate(block, k, 1)
        x = (u - np.floor(u)) * np.float32(width) - HALF
        y = (v - np.floor(v)) * np.float32(height) - HALF
        low, high = np.floor(x), np.floor(y)
        block[RIGHT + k] = x - low
        block[LOWER + k] = y - high
        left, top = np.int32(low), np.int32(high)
        left = np.int32(left + width) if left < 0 else left
        top = np.int32(top + height) if top < 0 else top
        right, bottom = np.int32(left + 1), np.int32(top + 1)
        right = np.int32(0) if right >= width else right
        bottom = np.int32(0) if bottom >= height else bottom
        top = np.int32(offset + np.int32(top * width))
        bottom = np.int32(offset + np.int32(bottom * width))
        block[TEXELS + k] = _as_float(np.int32(top + left))
        block[TEXELS + BLOCK + k] = _as_float(np.int32(top + right))
        block[TEXELS + 2 * BLOCK + k] = _as_float(np.int32(bottom + left))
        block[TEXELS + 3 * BLOCK + k] = _as_float(np.int32(bottom + right))


@njit(cache=True, nogil=True)
def _place_texels_at_edges(
    count: int, block: NDArray[np.float32], ints: NDArray[np.int32], textures: NDArray[np.int32]
) -> None:
    """Do `_place_texels` again for the pixels whose textures do not repeat."""
    for k in range(count):
        offset, width, height, wrap = textures[ints[ROW + k]]
        if wrap != 0:
            left, right, block[RIGHT + k] = texel_pair(_coordinate(block, k, 0), width, wrap & 3)
            top, bottom, block[LOWER + k] = texel_pair(_coordinate(block, k, 1), height, wrap >> 2)
            ints[TEXELS + k], ints[TEXELS + BLOCK + k] = offset + top * width + left, offset + top * width + right
            ints[TEXELS + 2 * BLOCK + k] = offset + bottom * width + left
            ints[TEXELS + 3 * BLOCK + k] = offset + bottom * width + right


@njit(cache=True, nogil=True)
def texel_pair(coordinate: float, size: int, wrap: int) -> tuple[int, int, float]:
    """Return the two neighbouring texels of a coordinate and the weight of the second."""
    if wrap == 0:
        at = (coordinate - math.floor(coordinate)) * size - 0.5
        low = math.floor(at)
        first = low + size if low < 0 else low
        return first, 0 if first + 1 >= size else first + 1, at - low
    if wrap == MIRROR:
        coordinate = abs(coordinate - 2.0 * math.floor(0.5 * coordinate + 0.5))
    at = min(max(coordinate * size - 0.5, 0.0), size - 1.0)
    first = int(at)
    return first, min(first + 1, size - 1), at - first


@njit(cache=True, nogil=True, inline="always")
def _byte(packed: np.int32, shift: np.int32) -> np.float32:
    """One byte of r | g << 8 | b << 16."""
    return np.float32(np.int32(packed >> shift) & np.int32(255))


@njit(cache=True, nogil=True)
def _blend(count: int, block: NDArray[np.float32]) -> None:
    """Interpolated corner colours times the bilinear texel, packed as r | g << 8 | b << 16."""
    for k in range(count):
        a, b, c = (
            _as_int(block[COLORS + k]),
            _as_int(block[COLORS + BLOCK + k]),
            _as_int(block[COLORS + 2 * BLOCK + k]),
        )
        p, q = _as_int(block[TEXELS + k]), _as_int(block[TEXELS + BLOCK + k])
        r, s = _as_int(block[TEXELS + 2 * BLOCK + k]), _as_int(block[TEXELS + 3 * BLOCK + k])
        y, z, right, lower = block[SECOND + k], block[THIRD + k], block[RIGHT + k], block[LOWER + k]
        x = ONE - y - z
        wp, wq = (ONE - right) * (ONE - lower) * BYTE, right * (ONE - lower) * BYTE
        wr, ws = (ONE - right) * lower * BYTE, right * lower * BYTE
        painted = np.int32(0)
        for channel in range(3):
            shift = np.int32(8 * channel)
            corner = x * _byte(a, shift) + y * _byte(b, shift) + z * _byte(c, shift)
            texel = wp * _byte(p, shift) + wq * _byte(q, shift) + wr * _byte(r, shift) + ws * _byte(s, shift)
            painted = np.int32(painted | np.int32(np.int32(corner * texel + HALF) << shift))
        block[PAINTED + k] = _as_float(painted)


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
            depth[pixel] = ZERO if ints[FACE + k] < 0 else np.float32(block[DEPTH + k] + near)


@njit(cache=True, nogil=True)
def _write_normals(
    count: int,
    block: NDArray[np.float32],
    ints: NDArray[np.int32],
    faces: NDArray[np.float32],
    normal: NDArray[np.float32],
) -> None:
    """Write the faces' normals, turned against the ray; 0 for a miss."""
    for k in range(count):
        f, pixel = ints[FACE + k], ints[PIXEL + k]
        if pixel < 0:
            continue
        x, y, z = block[RAY + k], block[RAY + BLOCK + k], block[RAY + 2 * BLOCK + k]
        sign = ZERO if f < 0 else -ONE if leaves(f, x, y, z, faces) else ONE
        for axis in range(3):
            normal[pixel, axis] = sign * faces[max(f, 0), NORMAL + axis]


@njit(cache=True, nogil=True, inline="always")
def leaves(f: int, x: float, y: float, z: float, faces: NDArray[np.float32]) -> bool:
    """Whether a ray along (x, y, z) meets the back of a face."""
    return faces[f, NORMAL] * x + faces[f, NORMAL + 1] * y + faces[f, NORMAL + 2] * z > 0.0


@njit(cache=True, nogil=True)
def _write_labels(
    n: int, count: int, ints: NDArray[np.int32], first_face: int, face_ints: NDArray[np.int32], images: Images
) -> None:
    for k in range(count):
        f, pixel = ints[FACE + k], ints[PIXEL + k]
        if pixel < 0:
            continue
        if len(images.semantic):
            images.semantic[n, pixel] = -1 if f < 0 else face_ints[f, CLASS]
        if len(images.instance):
            images.instance[n, pixel] = -1 if f < 0 else face_ints[f, INSTANCE]
        if len(images.face):
            images.face[n, pixel] = -1 if f < 0 else f - first_face


@njit(cache=True, nogil=True)
def unseen(f: int, second: float, third: float, x: float, y: float, z: float, surfaces: Surfaces) -> bool:
    """Whether a ray along (x, y, z) passes a hit: the back of a one-sided face, or a texel below its face's cutoff."""
    flags = surfaces.face_ints[f, FLAGS]
    if flags & ONE_SIDED and leaves(f, x, y, z, surfaces.faces):
        return True
    cutoff = flags >> CUTOFF
    return cutoff > 0 and _alpha(f, second, third, surfaces) < cutoff


@njit(cache=True, nogil=True)
def _alpha(f: int, second: float, third: float, surfaces: Surfaces) -> float:
    """Bilinear alpha of a hit, 0 to 255."""
    row = surfaces.face_ints[f, TEXTURE]
    if row < 0:
        return 255.0
    uv, first = surfaces.faces[f], ONE - second - third
    u = first * uv[UV] + second * uv[UV + 2] + third * uv[UV + 4]
    v = first * uv[UV + 1] + second * uv[UV + 3] + third * uv[UV + 5]
    offset, width, height, wrap = surfaces.textures[row]
    left, right, wx = texel_pair(u, width, wrap & 3)
    top, bottom, wy = texel_pair(v, height, wrap >> 2)
    top = offset + top * width
    bottom = offset + bottom * width
    texels = surfaces.texels
    above = (1.0 - wx) * (texels[top + left] >> 24) + wx * (texels[top + right] >> 24)
    below = (1.0 - wx) * (texels[bottom + left] >> 24) + wx * (texels[bottom + right] >> 24)
    return (1.0 - wy) * above + wy * below
