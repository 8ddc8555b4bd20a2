"""Compiled texture sampling, as samplers say and with mipmaps where these are on, times corner colours.

A block's values lie in one flat array, `BLOCK` of each kind after one another (`envs.rendering.layout`). What must be
looked up is looked up into it; arithmetic is done in loops of its own, which become vector instructions because no two
kinds overlap.

Mipmaps follow OpenGL 4.6, sections 8.14 and 8.15: the scale factor rho of equation 8.7 with derivatives of the hit's
own face, and linear blending of the two nearest levels, unless the sampler says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.rendering.gathering import GROUP, gather_8
from envs.rendering.layout import (
    ACROSS,
    COLOR,
    COORDINATE,
    COUNT,
    DEPTH,
    DOWN,
    FACE,
    FOOTPRINT,
    HALF,
    LOWER,
    MIRROR,
    NORMAL,
    OF_FACE,
    OF_GRADIENT,
    OF_TEXTURE,
    ONE,
    ONE_LEVEL,
    PAINTED,
    POINT,
    RAY,
    RIGHT,
    ROW,
    SAMPLE,
    SAMPLER,
    SECOND,
    SHARE,
    SHARP,
    START,
    TEXELS,
    TEXTURE,
    THIRD,
    UV,
    ZERO,
    Surfaces,
    as_float,
    as_int,
)

# Rows of a block.
TEXTURE_ROW = OF_FACE + ROW * TEXTURE
COORDINATES, COLORS, FACE_NORMAL = (OF_FACE + ROW * word for word in (UV, COLOR, NORMAL))
OFFSET, WIDTH, HEIGHT, SAMPLERS = (OF_TEXTURE + ROW * word for word in (START, ACROSS, DOWN, SAMPLER))
BYTE = np.float32(1.0 / 255.0)
TINY, HUGE = np.float32(1e-12), np.float32(1e30)
# log2(1 + x) for x in [0, 1), least squares on Chebyshev points; it errs by less than 2e-5.
LOG2 = tuple(np.float32(c) for c in (1.4418359, -0.7083722, 0.4135551, -0.1912625, 0.0442437))


@njit(cache=True, nogil=True)
def paint(
    count: int, block: NDArray[np.float32], ints: NDArray[np.int32], near: float, mipmaps: bool, surfaces: Surfaces
) -> None:
    """Find the colours of a block's pixels.

    Args:
        count: Pixels of the block.
        block: What came in and `OF_FACE` are filled in, with mipmaps `FOOTPRINT`, too; `PAINTED` is written.
        ints: The same memory as integers.
        near: Planar depth of the near plane, metres.
        mipmaps: Whether to filter with them.
        surfaces: All scenes.
    """
    _interpolate(count, block)
    reduced = 0
    if mipmaps:
        _look_up(count, FACE, OF_GRADIENT, block, surfaces.gradients.ctypes.data)
        _choose_levels(count, np.float32(near), block)
        for k in range(count):
            reduced |= ints[SHARE + k]
    _look_up(count, TEXTURE_ROW, OF_TEXTURE, block, surfaces.textures.ctypes.data)
    samplers = 0
    for k in range(count):
        samplers |= ints[SAMPLERS + k]
    _sample(count, 0, samplers, block, ints, surfaces.texels)
    if reduced != 0:
        _find_next_level(count, block)
        _sample(count, SAMPLE, samplers, block, ints, surfaces.texels)
        _blend_levels(count, block)
    else:
        # Nothing lies between two levels of detail.
        _blend(count, block)


@njit(cache=True, nogil=True)
def _look_up(count: int, row: int, to: int, block: NDArray[np.float32], table: int) -> None:
    """Look up rows of 8 words, by the numbers in a row of the block, into the rows from `to` on."""
    start = block.ctypes.data
    for k in range(0, count, GROUP):
        gather_8(table, start + 4 * (row + k), start + 4 * (to + k), 4 * ROW)


@njit(cache=True, nogil=True)
def _interpolate(count: int, block: NDArray[np.float32]) -> None:
    """Fill in `COORDINATE`."""
    for k in range(count):
        second, third = block[SECOND + k], block[THIRD + k]
        weights = ONE - second - third, second, third
        block[COORDINATE + k] = _dot(block, COORDINATES + k, 2 * ROW, weights)
        block[COORDINATE + ROW + k] = _dot(block, COORDINATES + ROW + k, 2 * ROW, weights)


@njit(cache=True, nogil=True, inline="always")
def _dot(block: NDArray[np.float32], at: int, step: int, other: tuple[float, float, float]) -> float:
    """Product of a vector of the block, whose parts are `step` words apart, with another."""
    return other[0] * block[at] + other[1] * block[at + step] + other[2] * block[at + 2 * step]


@njit(cache=True, nogil=True, inline="always")
def _squared_speed(
    block: NDArray[np.float32], k: int, step: tuple[float, float, float], depth: float, facing: float
) -> float:
    """Square of the texels that go by from this pixel to a neighbour, whose ray differs by `step`.

    A ray d that changes by e meets the face's plane, of normal n, at depth t elsewhere by t (e - d (n e) / (n d)).
    """
    ray = block[RAY + k], block[RAY + ROW + k], block[RAY + 2 * ROW + k]
    slip = depth * _dot(block, FACE_NORMAL + k, ROW, step) / facing
    u, v = OF_GRADIENT + k, OF_GRADIENT + 3 * ROW + k
    along_u = depth * _dot(block, u, ROW, step) - slip * _dot(block, u, ROW, ray)
    along_v = depth * _dot(block, v, ROW, step) - slip * _dot(block, v, ROW, ray)
    return along_u * along_u + along_v * along_v


@njit(cache=True, nogil=True, error_model="numpy")
def _choose_levels(count: int, near: np.float32, block: NDArray[np.float32]) -> None:
    """Go from the textures' rows to those of their level of detail, the whole part of log2 rho; the rest is `SHARE`.

    Or to the nearest level, where the sampler says so.
    """
    right = block[FOOTPRINT], block[FOOTPRINT + 1], block[FOOTPRINT + 2]
    down = block[FOOTPRINT + 3], block[FOOTPRINT + 4], block[FOOTPRINT + 5]
    for k in range(count):
        ray = block[RAY + k], block[RAY + ROW + k], block[RAY + 2 * ROW + k]
        facing: Any = _dot(block, FACE_NORMAL + k, ROW, ray)
        facing = TINY if abs(facing) < TINY else facing
        depth = block[DEPTH + k] + near
        speeds = _squared_speed(block, k, right, depth, facing), _squared_speed(block, k, down, depth, facing)
        bits = as_int(min(max(speeds[0], speeds[1], ONE), HUGE))
        exponent = np.float32(np.int32(bits >> np.int32(23)) - np.int32(127))
        rest = as_float(np.int32(np.int32(bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))) - ONE
        log2: Any = LOG2[4]
        for power in range(3, -1, -1):
            log2 = LOG2[power] + rest * log2
        detail = HALF * (exponent + rest * log2)
        choice = as_int(block[OF_GRADIENT + 6 * ROW + k])
        one_level = np.int32(choice & np.int32(ONE_LEVEL)) != 0
        level = np.floor(detail + (HALF if one_level else ZERO))
        last = np.int32(np.int32(choice & np.int32(COUNT)) - 1)
        below = np.int32(min(np.int32(level), last))
        magnified = detail <= (HALF if np.int32(choice & np.int32(SHARP)) != 0 else ZERO)
        block[SHARE + k] = ZERO if one_level or magnified or below == last else detail - level
        texture = as_int(block[TEXTURE_ROW + k])
        first = as_int(block[OF_GRADIENT + 7 * ROW + k])
        block[TEXTURE_ROW + k] = as_float(texture if magnified else np.int32(first + below))


@njit(cache=True, nogil=True, inline="always")
def _sample(
    count: int, at: int, samplers: int, block: NDArray[np.float32], ints: NDArray[np.int32], texels: NDArray[np.uint32]
) -> None:
    """Look up the texels of the pixels' level of detail (`at` 0) or of the next (`SAMPLE`)."""
    _place_texels(count, at, block)
    if samplers != 0:
        _place_texels_by_samplers(count, at, block, ints)
    for row in range(at + TEXELS, at + TEXELS + 4 * ROW, ROW):
        for k in range(row, row + count):
            ints[k] = texels[np.uint32(ints[k])]


@njit(cache=True, nogil=True)
def _find_next_level(count: int, block: NDArray[np.float32]) -> None:
    """Fill in the next `SAMPLE`'s `OFFSET`, `WIDTH` and `HEIGHT`: half as large, and right behind."""
    for k in range(count):
        offset = as_int(block[OFFSET + k])
        width, height = as_int(block[WIDTH + k]), as_int(block[HEIGHT + k])
        area = np.int32(width * height)
        block[SAMPLE + OFFSET + k] = as_float(np.int32(offset + (area if area > 1 else 0)))
        block[SAMPLE + WIDTH + k] = as_float(np.int32(max(width >> 1, 1)))
        block[SAMPLE + HEIGHT + k] = as_float(np.int32(max(height >> 1, 1)))


@njit(cache=True, nogil=True, inline="always")
def _place_texels(count: int, at: int, block: NDArray[np.float32]) -> None:
    """Find where the four texels of a pixel lie, and their weights, in textures that repeat and are linear."""
    for k in range(count):
        u, v = block[COORDINATE + k], block[COORDINATE + ROW + k]
        offset = as_int(block[at + OFFSET + k])
        width, height = as_int(block[at + WIDTH + k]), as_int(block[at + HEIGHT + k])
        x = (u - np.floor(u)) * np.float32(width) - HALF
        y = (v - np.floor(v)) * np.float32(height) - HALF
        low, high = np.floor(x), np.floor(y)
        block[at + RIGHT + k] = x - low
        block[at + LOWER + k] = y - high
        left, top = np.int32(low), np.int32(high)
        left = np.int32(left + width) if left < 0 else left
        top = np.int32(top + height) if top < 0 else top
        right, bottom = np.int32(left + 1), np.int32(top + 1)
        right = np.int32(0) if right >= width else right
        bottom = np.int32(0) if bottom >= height else bottom
        top = np.int32(offset + np.int32(top * width))
        bottom = np.int32(offset + np.int32(bottom * width))
        block[at + TEXELS + k] = as_float(np.int32(top + left))
        block[at + TEXELS + ROW + k] = as_float(np.int32(top + right))
        block[at + TEXELS + 2 * ROW + k] = as_float(np.int32(bottom + left))
        block[at + TEXELS + 3 * ROW + k] = as_float(np.int32(bottom + right))


@njit(cache=True, nogil=True)
def _place_texels_by_samplers(count: int, at: int, block: NDArray[np.float32], ints: NDArray[np.int32]) -> None:
    """Do `_place_texels` again for the pixels whose textures have other samplers."""
    for k in range(count):
        sampler = ints[SAMPLERS + k]
        if sampler != 0:
            offset, width, height = ints[at + OFFSET + k], ints[at + WIDTH + k], ints[at + HEIGHT + k]
            point = sampler & POINT != 0
            left, right, block[at + RIGHT + k] = texel_pair(block[COORDINATE + k], width, sampler & 3, point)
            top, bottom, block[at + LOWER + k] = texel_pair(
                block[COORDINATE + ROW + k], height, sampler >> 2 & 3, point
            )
            first = at + TEXELS + k
            ints[first], ints[first + ROW] = offset + top * width + left, offset + top * width + right
            first += 2 * ROW
            ints[first], ints[first + ROW] = offset + bottom * width + left, offset + bottom * width + right


@njit(cache=True, nogil=True)
def texel_pair(coordinate: float, size: int, wrap: int, point: bool) -> tuple[int, int, float]:
    """Return the two neighbouring texels of a coordinate, or twice the nearest, and the weight of the second."""
    first, second, weight = _neighbours(coordinate, size, wrap)
    if point:
        nearest = second if weight >= 0.5 else first
        return nearest, nearest, 0.0
    return first, second, weight


@njit(cache=True, nogil=True, inline="always")
def _neighbours(coordinate: float, size: int, wrap: int) -> tuple[int, int, float]:
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
def _byte(block: NDArray[np.float32], at: int, shift: np.int32) -> np.float32:
    """One byte of an integer r | g << 8 | b << 16 as a number."""
    return np.float32(np.int32(as_int(block[at]) >> shift) & np.int32(255))


@njit(cache=True, nogil=True, inline="always")
def _corner_color(block: NDArray[np.float32], k: int, shift: np.int32) -> float:
    """A channel of the interpolated corner colours, 0 to 255."""
    second, third = block[SECOND + k], block[THIRD + k]
    return (
        (ONE - second - third) * _byte(block, COLORS + k, shift)
        + second * _byte(block, COLORS + ROW + k, shift)
        + third * _byte(block, COLORS + 2 * ROW + k, shift)
    )


@njit(cache=True, nogil=True, inline="always")
def _texture_color(block: NDArray[np.float32], k: int, shift: np.int32) -> float:
    """A channel of the bilinear texel, 0 to 1."""
    right, lower = block[RIGHT + k], block[LOWER + k]
    return (
        (ONE - right) * (ONE - lower) * BYTE * _byte(block, TEXELS + k, shift)
        + right * (ONE - lower) * BYTE * _byte(block, TEXELS + ROW + k, shift)
        + (ONE - right) * lower * BYTE * _byte(block, TEXELS + 2 * ROW + k, shift)
        + right * lower * BYTE * _byte(block, TEXELS + 3 * ROW + k, shift)
    )


@njit(cache=True, nogil=True)
def _blend(count: int, block: NDArray[np.float32]) -> None:
    """Interpolated corner colours times the bilinear texel, packed as r | g << 8 | b << 16."""
    for k in range(count):
        painted = np.int32(0)
        for channel in range(3):
            shift = np.int32(8 * channel)
            color = _corner_color(block, k, shift) * _texture_color(block, k, shift)
            painted = np.int32(painted | np.int32(np.int32(color + HALF) << shift))
        block[PAINTED + k] = as_float(painted)


@njit(cache=True, nogil=True)
def _blend_levels(count: int, block: NDArray[np.float32]) -> None:
    """`_blend` of the texels of two levels of detail."""
    for k in range(count):
        painted, share = np.int32(0), block[SHARE + k]
        for channel in range(3):
            shift = np.int32(8 * channel)
            near, far = _texture_color(block, k, shift), _texture_color(block, SAMPLE + k, shift)
            color = _corner_color(block, k, shift) * ((ONE - share) * near + share * far)
            painted = np.int32(painted | np.int32(np.int32(color + HALF) << shift))
        block[PAINTED + k] = as_float(painted)
