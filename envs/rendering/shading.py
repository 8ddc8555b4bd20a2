"""Compiled inner loops of the CPU renderer: pixels to rays, and ray hits to images."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
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

BYTE = np.float32(1.0 / 255.0)
# Pixels that are coloured together: what was gathered for them fits the first-level cache.
BLOCK = 512
WHITE = 0xFFFFFF


@njit(cache=True, nogil=True)
def make_rays(
    position: NDArray[np.float64],
    heading: NDArray[np.float64],
    pitch: NDArray[np.float64],
    rows: int,
    columns: int,
    half_width: float,
    height: float,
    near: float,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
) -> None:
    """Write one ray per pixel, row by row, for each agent.

    A direction has length 1 along the optical axis, so the distance parameter of a hit is its planar depth, less
    `near`, since rays start on the near plane.

    Args:
        position: (N, 3) floor positions, metres.
        heading: (N,) radians, positive to the left.
        pitch: (N,) radians, positive upwards.
        rows: Pixels from top to bottom.
        columns: Pixels from left to right.
        half_width: tan(hfov / 2), half the width of the image plane at distance 1.
        height: Camera height above the floor, metres.
        near: Planar depth of the near plane, metres.
        origins: (N * rows * columns, 3) output.
        directions: (N * rows * columns, 3) output.
    """
    ray = 0
    half_height = half_width * rows / columns
    for n in range(len(position)):
        sin_h, cos_h = math.sin(heading[n]), math.cos(heading[n])
        sin_p, cos_p = math.sin(pitch[n]), math.cos(pitch[n])
        x, y, z = position[n, 0], position[n, 1] + height, position[n, 2]
        for i in range(rows):
            up = half_height * (1.0 - (2 * i + 1) / rows)
            level = cos_p - up * sin_p
            rise = sin_p + up * cos_p
            for j in range(columns):
                right = half_width * ((2 * j + 1) / columns - 1.0)
                dx = -sin_h * level + cos_h * right
                dz = -cos_h * level - sin_h * right
                origins[ray, 0] = x + near * dx
                origins[ray, 1] = y + near * rise
                origins[ray, 2] = z + near * dz
                directions[ray, 0] = dx
                directions[ray, 1] = rise
                directions[ray, 2] = dz
                ray += 1


@njit(cache=True, nogil=True)
def _texel_pair_at_edge(coordinate: float, size: int, wrap: int) -> tuple[int, int, float]:
    """`_texel_pair` of a coordinate that does not repeat."""
    if wrap == MIRROR:
        coordinate = abs(coordinate - 2.0 * math.floor(0.5 * coordinate + 0.5))
    at = min(max(coordinate * size - 0.5, 0.0), size - 1.0)
    first = int(at)
    return first, min(first + 1, size - 1), at - first


@njit(cache=True, nogil=True, inline="always")
def _texel_pair(coordinate: float, size: int, wrap: int) -> tuple[int, int, float]:
    """Return the two neighbouring texels of a coordinate and the weight of the second."""
    if wrap != 0:
        return _texel_pair_at_edge(coordinate, size, wrap)
    at = (coordinate - math.floor(coordinate)) * size - 0.5
    low = math.floor(at)
    first = int(low)
    if first < 0:
        first += size
    second = first + 1
    if second >= size:
        second = 0
    return first, second, at - low


@njit(cache=True, nogil=True)
def shade(
    primitive: NDArray[np.int32],
    distance: NDArray[np.float32],
    barycentric_u: NDArray[np.float32],
    barycentric_v: NDArray[np.float32],
    directions: NDArray[np.float32],
    face_floats: NDArray[np.float32],
    face_ints: NDArray[np.int32],
    texels: NDArray[np.uint32],
    textures: NDArray[np.int64],
    near: float,
    far: float,
    rgb: NDArray[np.uint8],
    depth: NDArray[np.float32],
    normal: NDArray[np.float32],
    semantic: NDArray[np.int32],
    instance: NDArray[np.int32],
    face: NDArray[np.int32],
) -> None:
    """Turn R hits into images, in one pass; outputs of length 0 are skipped.

    Args:
        primitive: (R,) face index of each hit, -1 where the ray met nothing.
        distance: (R,) planar depth beyond the near plane.
        barycentric_u: (R,) weight of the face's second corner.
        barycentric_v: (R,) weight of the face's third corner.
        directions: (R, 3) ray directions.
        face_floats: (F, 16) face rows as floats.
        face_ints: (F, 16) the same memory as integers.
        texels: (T,) all textures one after the other, r | g << 8 | b << 16 | alpha << 24.
        textures: (K, 4) offset into `texels`, width, height, wraps.
        near: Planar depth of the near plane, metres.
        far: Planar depth beyond which nothing is seen, metres.
        rgb: (R, 3) output or empty.
        depth: (R,) output or empty.
        normal: (R, 3) output or empty.
        semantic: (R,) output or empty.
        instance: (R,) output or empty.
        face: (R,) output or empty.
    """
    if len(rgb):
        _shade_colors(
            primitive, distance, barycentric_u, barycentric_v, face_floats, face_ints, texels, textures, near, far, rgb
        )
    for k in range(len(primitive)):
        f = primitive[k]
        if distance[k] + near > far:
            f = -1
        if len(depth):
            depth[k] = 0.0 if f < 0 else distance[k] + near
        if len(normal):
            _write_normal(f, directions[k], face_floats, normal[k])
        if len(semantic):
            semantic[k] = -1 if f < 0 else face_ints[f, CLASS]
        if len(instance):
            instance[k] = -1 if f < 0 else face_ints[f, INSTANCE]
        if len(face):
            face[k] = f


@njit(cache=True, nogil=True, inline="always")
def _write_normal(
    f: int, direction: NDArray[np.float32], face_floats: NDArray[np.float32], normal: NDArray[np.float32]
) -> None:
    """Write the normal of face `f`, turned against the ray; 0 for a miss."""
    if f < 0:
        normal[0] = normal[1] = normal[2] = 0.0
        return
    x, y, z = face_floats[f, NORMAL], face_floats[f, NORMAL + 1], face_floats[f, NORMAL + 2]
    sign = -1.0 if x * direction[0] + y * direction[1] + z * direction[2] > 0.0 else 1.0
    normal[0] = sign * x
    normal[1] = sign * y
    normal[2] = sign * z


@njit(cache=True, nogil=True)
def _shade_colors(
    primitive: NDArray[np.int32],
    distance: NDArray[np.float32],
    barycentric_u: NDArray[np.float32],
    barycentric_v: NDArray[np.float32],
    face_floats: NDArray[np.float32],
    face_ints: NDArray[np.int32],
    texels: NDArray[np.uint32],
    textures: NDArray[np.int64],
    near: float,
    far: float,
    rgb: NDArray[np.uint8],
) -> None:
    """Write `shade`'s colours: look up a block of pixels one by one, then compute them all at once.

    Looking up is scattered; the arithmetic is not, and on its own the compiler makes vector instructions of it.
    """
    packed = np.empty((8, BLOCK), np.int32)
    weight = np.empty((2, BLOCK), np.float32)
    for start in range(0, len(primitive), BLOCK):
        stop = min(start + BLOCK, len(primitive))
        second, third = barycentric_u[start:stop], barycentric_v[start:stop]
        seen = np.where(distance[start:stop] + near > far, np.int32(-1), primitive[start:stop])
        _look_up(seen, second, third, face_floats, face_ints, texels, textures, packed, weight)
        _blend(
            second, third, packed[0], packed[1], packed[2], packed[3], packed[4], packed[5], packed[6],
            weight[0], weight[1], packed[7],
        )  # fmt: skip
        for k in range(stop - start):
            color = packed[7, k]
            rgb[start + k, 0] = color & 255
            rgb[start + k, 1] = color >> 8 & 255
            rgb[start + k, 2] = color >> 16 & 255


@njit(cache=True, nogil=True)
def _look_up(
    primitive: NDArray[np.int32],
    barycentric_u: NDArray[np.float32],
    barycentric_v: NDArray[np.float32],
    face_floats: NDArray[np.float32],
    face_ints: NDArray[np.int32],
    texels: NDArray[np.uint32],
    textures: NDArray[np.int64],
    packed: NDArray[np.int32],
    weight: NDArray[np.float32],
) -> None:
    """Gather what a block of pixels is made of.

    Args:
        primitive: (B,) faces, -1 for a miss.
        barycentric_u: (B,).
        barycentric_v: (B,).
        face_floats: (F, 16).
        face_ints: (F, 16).
        texels: (T,).
        textures: (K, 4).
        packed: Rows 0 to 2 become the corners' colours, 3 to 6 the texels top left, top right, bottom left and right.
        weight: Rows become the weights of the right and of the bottom texels.
    """
    for k in range(len(primitive)):
        f = primitive[k]
        weight[0, k] = weight[1, k] = 0.0
        if f < 0:
            packed[:7, k] = 0
            continue
        for corner in range(3):
            packed[corner, k] = face_ints[f, COLOR + corner]
        row = face_ints[f, TEXTURE]
        if row < 0:
            packed[3:7, k] = WHITE
            continue
        second, third = barycentric_u[k], barycentric_v[k]
        first = np.float32(1.0) - second - third
        u = first * face_floats[f, UV] + second * face_floats[f, UV + 2] + third * face_floats[f, UV + 4]
        v = first * face_floats[f, UV + 1] + second * face_floats[f, UV + 3] + third * face_floats[f, UV + 5]
        offset, width, wrap = textures[row, 0], textures[row, 1], textures[row, 3]
        left, right, weight[0, k] = _texel_pair(u, width, wrap & 3)
        top, bottom, weight[1, k] = _texel_pair(v, textures[row, 2], wrap >> 2)
        top = offset + top * width
        bottom = offset + bottom * width
        packed[3, k], packed[4, k] = texels[top + left], texels[top + right]
        packed[5, k], packed[6, k] = texels[bottom + left], texels[bottom + right]


@njit(cache=True, nogil=True)
def _blend(
    second: NDArray[np.float32],
    third: NDArray[np.float32],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    c: NDArray[np.int32],
    p: NDArray[np.int32],
    q: NDArray[np.int32],
    r: NDArray[np.int32],
    s: NDArray[np.int32],
    wx: NDArray[np.float32],
    wy: NDArray[np.float32],
    out: NDArray[np.int32],
) -> None:
    """Interpolated corner colours a, b, c times the bilinear texel of p, q, r, s, packed as r | g << 8 | b << 16."""
    one, half, byte = np.float32(1.0), np.float32(0.5), np.int32(255)
    for k in range(len(second)):
        y, z = second[k], third[k]
        x = one - y - z
        wp, wq = (one - wx[k]) * (one - wy[k]) * BYTE, wx[k] * (one - wy[k]) * BYTE
        wr, ws = (one - wx[k]) * wy[k] * BYTE, wx[k] * wy[k] * BYTE
        packed = np.int32(0)
        for channel in range(3):
            shift = np.int32(8 * channel)
            corner = (
                x * np.float32(a[k] >> shift & byte)
                + y * np.float32(b[k] >> shift & byte)
                + z * np.float32(c[k] >> shift & byte)
            )
            texel = (
                wp * np.float32(p[k] >> shift & byte)
                + wq * np.float32(q[k] >> shift & byte)
                + wr * np.float32(r[k] >> shift & byte)
                + ws * np.float32(s[k] >> shift & byte)
            )
            packed |= np.int32(corner * texel + half) << shift
        out[k] = packed


@njit(cache=True, nogil=True)
def find_unseen(
    primitive: NDArray[np.int32],
    barycentric_u: NDArray[np.float32],
    barycentric_v: NDArray[np.float32],
    directions: NDArray[np.float32],
    face_floats: NDArray[np.float32],
    face_ints: NDArray[np.int32],
    texels: NDArray[np.uint32],
    textures: NDArray[np.int64],
    unseen: NDArray[np.int32],
) -> int:
    """Find the hits that a ray passes: backs of one-sided faces, and texels below their face's alpha cutoff.

    Args:
        primitive: (R,) as for `shade`, with the next six arguments.
        barycentric_u: (R,).
        barycentric_v: (R,).
        directions: (R, 3).
        face_floats: (F, 16).
        face_ints: (F, 16).
        texels: (T,).
        textures: (K, 4).
        unseen: (R,) output, the numbers of these rays first.

    Returns:
        How many there are.
    """
    count = 0
    for k in range(len(primitive)):
        f = primitive[k]
        if f < 0:
            continue
        flags = face_ints[f, FLAGS]
        if flags == 0:
            continue
        passes = False
        if flags & ONE_SIDED:
            x, y, z = face_floats[f, NORMAL], face_floats[f, NORMAL + 1], face_floats[f, NORMAL + 2]
            passes = x * directions[k, 0] + y * directions[k, 1] + z * directions[k, 2] > 0.0
        cutoff = flags >> CUTOFF
        if cutoff > 0 and not passes:
            passes = _alpha(barycentric_u[k], barycentric_v[k], face_floats[f], face_ints[f], texels, textures) < cutoff
        if passes:
            unseen[count] = k
            count += 1
    return count


@njit(cache=True, nogil=True)
def _alpha(
    second: float,
    third: float,
    floats: NDArray[np.float32],
    ints: NDArray[np.int32],
    texels: NDArray[np.uint32],
    textures: NDArray[np.int64],
) -> float:
    """Bilinear alpha of a hit, 0 to 255."""
    row = ints[TEXTURE]
    if row < 0:
        return 255.0
    first = np.float32(1.0) - second - third
    u = first * floats[UV] + second * floats[UV + 2] + third * floats[UV + 4]
    v = first * floats[UV + 1] + second * floats[UV + 3] + third * floats[UV + 5]
    offset, width, wrap = textures[row, 0], textures[row, 1], textures[row, 3]
    left, right, wx = _texel_pair(u, width, wrap & 3)
    top, bottom, wy = _texel_pair(v, textures[row, 2], wrap >> 2)
    top = offset + top * width
    bottom = offset + bottom * width
    above = (1.0 - wx) * (texels[top + left] >> 24) + wx * (texels[top + right] >> 24)
    below = (1.0 - wx) * (texels[bottom + left] >> 24) + wx * (texels[bottom + right] >> 24)
    return (1.0 - wy) * above + wy * below
