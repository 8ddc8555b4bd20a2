"""Memory layout of the CPU renderer's kernels: rows of faces and textures, blocks of pixels, cameras."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

# A face is one row of 16 words (one cache line): what a hit needs lies together, because hits are scattered.
# Floats and integers share the row; the kernels get it as a float32 and as an int32 view of the same memory.
FACE_WORDS = 16
UV = 0  # 6 floats: u, v of the three corners
NORMAL = 6  # 3 floats: unit geometric normal
COLOR = 9  # 3 integers: r | g << 8 | b << 16 of each corner
TEXTURE = 12  # integer: row in the texture table, 0 for none
CLASS = 13  # integer: semantic class
INSTANCE = 14  # integer: object id
FLAGS = 15  # integer: ONE_SIDED, or-ed with the alpha (of 255) below which a texel is not there, << CUTOFF

ONE_SIDED = 1
CUTOFF = 8
# A texture, or a level of detail of one, is a row of 8 integers: first texel, width, height, what lies beyond the edges
# (u + 4 v), or-ed with `POINT` where the nearest texel counts; how many levels there are, or-ed with `ONE_LEVEL` and
# `SHARP`; the row of the first level as it is seen minified (this row is it magnified; others follow); two to spare.
START, ACROSS, DOWN, SAMPLER, LEVELS, MINIFIED = range(6)
WRAPS = {"repeat": 0, "clamp": 1, "mirror": 2}
CLAMP, MIRROR = 1, 2
POINT = 16
# `ONE_LEVEL`: the nearest level alone; `SHARP`: the magnified texture serves up to level 1/2.
COUNT, ONE_LEVEL, SHARP = 255, 256, 512
# For mipmaps, a row of 8 words says how many texels go by per metre on a face: a vector for each axis of its texture.
# Two integers are the texture's `LEVELS` and `MINIFIED`.
GRADIENT_WORDS = 8

# Pixels that are shaded together. A block has a row for each kind of value. Rows begin `ROW` words apart, which is no
# power of two: a cache has few places for addresses that differ by one.
BLOCK = 256
ROW = BLOCK + 16
# What comes in: face of the scene (-1 for none; `shade_block` makes it a row of `Surfaces`), depth beyond the near
# plane, weights of the face's second and third corner, ray, place in the image (-1 for none).
FACE, DEPTH, SECOND, THIRD, RAY, PIXEL = (ROW * k for k in (0, 1, 2, 3, 4, 7))
# What is looked up: the words of the face and of its texture, a row each.
OF_FACE, OF_TEXTURE = ROW * 8, ROW * 24
# Of a level of detail: weights of the right and of the lower texels; places and then colours of the four texels. The
# next level's, and its texture, are a `SAMPLE` further.
RIGHT, LOWER, TEXELS = (ROW * k for k in (32, 33, 34))
SAMPLE = ROW * 14
# Words of the face's gradients; coordinates u and v, share of the next level of detail, colour.
OF_GRADIENT, COORDINATE, SHARE, PAINTED = (ROW * k for k in (52, 60, 62, 63))
# How the ray changes from one pixel to the next, to the right and downwards.
FOOTPRINT = ROW * 64
BLOCK_WORDS = FOOTPRINT + 6

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


class Surfaces(NamedTuple):
    """Face rows, textures and texels for the shading of hits.

    Attributes:
        faces: (1 + F, 16) face rows as floats; the first is nothing: black, with normal 0 and labels -1.
        face_ints: (1 + F, 16) the same memory as integers.
        texels: (T,) all textures one after the other, r | g << 8 | b << 16 | alpha << 24.
        textures: (1 + K, 8) int32; the first is one white texel.
        gradients: (1 + F, 8) float32; (0, 8) where there are no mipmaps.
    """

    faces: NDArray[np.float32]
    face_ints: NDArray[np.int32]
    texels: NDArray[np.uint32]
    textures: NDArray[np.int32]
    gradients: NDArray[np.float32]


class CameraRows(NamedTuple):
    """A camera, as the loops read it.

    Attributes:
        rows: Pixels from top to bottom.
        columns: Pixels from left to right.
        half_width: tan(hfov / 2), half the width of the image plane at distance 1.
        height: Camera height above the floor, metres.
        near: Planar depth of the near plane, metres.
        far: Planar depth beyond which nothing is seen, metres.
        mipmaps: Whether textures are filtered by their levels of detail.
    """

    rows: int
    columns: int
    half_width: float
    height: float
    near: float
    far: float
    mipmaps: bool


class Poses(NamedTuple):
    """N agents.

    Attributes:
        scene: (N,) rows of `BvhArrays`.
        position: (N, 3) floor positions, metres.
        heading: (N,) radians, positive to the left.
        pitch: (N,) radians, positive upwards.
    """

    scene: NDArray[np.int64]
    position: NDArray[np.float64]
    heading: NDArray[np.float64]
    pitch: NDArray[np.float64]


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


as_int = _bits(types.float32, types.int32, ir.IntType(32))
as_float = _bits(types.int32, types.float32, ir.FloatType())
