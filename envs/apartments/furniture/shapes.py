"""Primitive shapes that furniture is put together from, in metres, standing on y = 0 around the y axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shape:
    """Triangles, counter-clockwise seen from outside.

    Attributes:
        vertices: (V, 3) positions in metres.
        faces: (F, 3) int32 vertex indices.
        normals: (F, 3, 3) shading normals per corner; zero on thin sheets, which are lit alike on both sides.
        uv: (F, 3, 2) texture coordinates, v down; in metres, or in repetitions if `fitted`.
        fitted: Whether the texture is stretched over the shape instead of repeated by its real size.
    """

    vertices: Floats
    faces: NDArray[np.int32]
    normals: Floats
    uv: Floats
    fitted: bool = False


def _shared(shape: Shape) -> Shape:
    """The shape, read-only: of those of a home most are like another, and are made once."""
    for array in (shape.vertices, shape.normals, shape.uv):
        array.setflags(write=False)
    return shape


# Faces of a unit cube around the origin: outward axis, then the axes along u and v with their signs.
_SIDES = (
    (2, 1.0, 0, 1.0),
    (2, -1.0, 0, -1.0),
    (0, 1.0, 2, -1.0),
    (0, -1.0, 2, 1.0),
    (1, 1.0, 0, 1.0),
    (1, -1.0, 0, 1.0),
)


def _unit_box() -> tuple[Floats, NDArray[np.int32], Floats, NDArray[np.int64], Floats]:
    """Return vertices (24, 3), faces, normals, and the axes (24, 2) and signs (24, 2) of the coordinates behind uv."""
    vertices, faces, normals, axes, signs = [], [], [], [], []
    for index, (axis, out, u_axis, u_sign) in enumerate(_SIDES):
        v_axis = 3 - axis - u_axis
        v_sign = -1.0 if v_axis == 1 else out
        normal, right, down = np.zeros(3), np.zeros(3), np.zeros(3)
        normal[axis], right[u_axis], down[v_axis] = out, u_sign, v_sign
        vertices += [(normal + a * right + b * down) / 2.0 for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        faces += [(4 * index, 4 * index + 1, 4 * index + 2), (4 * index, 4 * index + 2, 4 * index + 3)]
        normals += [np.tile(normal, (3, 1))] * 2
        axes += [(u_axis, v_axis)] * 4
        signs += [(u_sign, v_sign)] * 4
    return (np.array(vertices), np.array(faces, np.int32), np.array(normals), np.array(axes), np.array(signs))


_BOX, _BOX_FACES, _BOX_NORMALS, _BOX_AXES, _BOX_SIGNS = _unit_box()
_BOX_ROWS = np.arange(len(_BOX))[:, None]


@lru_cache(maxsize=1024)
def box(width: float, height: float, depth: float) -> Shape:
    """Return a box of the given extents along x, y and z."""
    vertices = _BOX * (width, height, depth)
    uv = vertices[_BOX_ROWS, _BOX_AXES] * _BOX_SIGNS
    vertices[:, 1] += height / 2.0
    return _shared(Shape(vertices, _BOX_FACES, _BOX_NORMALS, uv[_BOX_FACES]))


def sheet(width: float, height: float) -> Shape:
    """Return an upright rectangle facing +z with a texture stretched over it."""
    vertices = np.array([(-0.5, 1.0, 0.0), (-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 1.0, 0.0)]) * (width, height, 1.0)
    faces = np.array([(0, 1, 2), (0, 2, 3)], np.int32)
    uv = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)])
    return Shape(vertices, faces, np.tile((0.0, 0.0, 1.0), (2, 3, 1)), uv[faces], fitted=True)


def lathe(
    profile: Sequence[tuple[float, float]], segments: int = 12, power: float = 2.0, stretch: float = 1.0
) -> Shape:
    """Return a surface of revolution, or a rounded box.

    Args:
        profile: Radius and height of each ring, from the bottom up along the outside; a radius of 0 closes it.
        segments: Sides around.
        power: Exponent of the rings as superellipses: 2 is round, larger is squarer.
        stretch: Extent along z relative to x.
    """
    return _lathe(tuple(profile), segments, power, stretch)


@lru_cache(maxsize=1024)
def _lathe(profile: tuple[tuple[float, float], ...], segments: int, power: float, stretch: float) -> Shape:
    across, along, outward = _ring(segments, power)
    if stretch != 1.0:
        along = along * stretch
        outward = outward * (1.0, 1.0 / stretch)
        outward /= np.hypot(outward[:, :1], outward[:, 1:])
    points = np.array(profile, np.float64)
    radius, height = points[:, 0], points[:, 1]
    vertices = np.empty((len(points), segments + 1, 3))
    np.multiply.outer(radius, across, out=vertices[..., 0])
    vertices[..., 1] = height[:, None]
    np.multiply.outer(radius, along, out=vertices[..., 2])
    step = points[1:] - points[:-1]
    length = np.hypot(step[:, 0], step[:, 1])
    # Outward slope of each band of the profile: its component away from the axis, and up.
    away, up = step[:, 1] / length, -step[:, 0] / length
    ring, side, band, faces = _bands(tuple(r > 0.0 for r, _ in profile), segments)
    normals = np.empty((*ring.shape, 3))
    direction = outward[side]
    normals[..., 0] = direction[..., 0] * away[band, None]
    normals[..., 1] = up[band, None]
    normals[..., 2] = direction[..., 1] * away[band, None]
    travelled = np.concatenate([[0.0], np.cumsum(length)])
    uv = np.empty((*ring.shape, 2))
    np.multiply(side, -2.0 * np.pi * radius.max() / segments, out=uv[..., 0])
    np.negative(travelled[ring], out=uv[..., 1])
    return _shared(Shape(vertices.reshape(-1, 3), faces, normals, uv))


@lru_cache(maxsize=256)
def _ring(segments: int, power: float) -> tuple[Floats, Floats, Floats]:
    """Return x and z of the points of a unit ring, (S + 1,) each with the first repeated, and (S + 1, 2) normals."""
    angle = (np.arange(segments + 1) % segments) * (2.0 * np.pi / segments) + np.pi / segments
    cosine, sine = np.cos(angle), np.sin(angle)
    across = np.sign(cosine) * np.abs(cosine) ** (2.0 / power)
    along = np.sign(sine) * np.abs(sine) ** (2.0 / power)
    steep = 2.0 - 2.0 / power
    outward = np.stack([np.sign(cosine) * np.abs(cosine) ** steep, np.sign(sine) * np.abs(sine) ** steep], -1)
    return across, along, outward / np.hypot(outward[:, :1], outward[:, 1:])


@lru_cache(maxsize=256)
def _bands(
    open_rings: tuple[bool, ...], segments: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Return the triangles between consecutive rings, without those that a closed ring makes degenerate.

    Returns:
        Ring and position along it of each corner, (F, 3) each; band (F,); vertex indices (F, 3).
    """
    wide = np.array(open_rings)
    band, side = (index.ravel() for index in np.indices((len(wide) - 1, segments)))
    upper, lower = wide[band + 1], wide[band]
    ring = np.stack([band, band + 1, band + 1, band], -1)
    at = np.stack([side, side, side + 1, side + 1], -1)
    ring = np.concatenate([ring[upper][:, :3], ring[lower][:, [0, 2, 3]]])
    at = np.concatenate([at[upper][:, :3], at[lower][:, [0, 2, 3]]])
    return ring, at, np.concatenate([band[upper], band[lower]]), (ring * (segments + 1) + at).astype(np.int32)


def cylinder(radius: float, height: float, segments: int = 10, top: float | None = None) -> Shape:
    """Return an upright cylinder, open below, or a truncated cone of radius `top` at its upper end."""
    top = radius if top is None else top
    return lathe([(radius, 0.0), (top, height), (0.0, height)], segments)


def ball(radius: float, segments: int = 10, flatten: float = 1.0) -> Shape:
    """Return a sphere standing on y = 0, or an ellipsoid of height 2 `radius` `flatten`."""
    angle = np.linspace(-np.pi / 2.0, np.pi / 2.0, segments // 2 + 1)
    height = (np.sin(angle) + 1.0) * radius * flatten
    between = zip(np.cos(angle[1:-1]) * radius, height[1:-1], strict=True)
    return lathe([(0.0, 0.0), *between, (0.0, float(height[-1]))], segments)


def cushion(width: float, height: float, depth: float) -> Shape:
    """Return a box with rounded edges, as upholstery and mattresses are."""
    soft = min(0.35 * height, 0.3 * min(width, depth), 0.08)
    half = width / 2.0
    rings = [
        (0.0, 0.0),
        (half - soft / 2, 0.0),
        (half, soft),
        (half, height - soft),
        (half - soft, height),
        (0.0, height),
    ]
    return lathe(rings, 8, power=12.0, stretch=depth / width)


_ALONG_LEAF, _HALF_LEAF = np.linspace(0.0, 1.0, 4), np.array([0.25, 1.0, 0.8])
_LEAF_FACES = np.array([(0, 1, 4), (0, 4, 3), (1, 2, 5), (1, 5, 4), (2, 6, 5)], np.int32)


def leaf(length: float, width: float, lift: float, droop: float) -> Shape:
    """Return a leaf growing from the origin along +z; it rises by `lift` radians and bends down by `droop`."""
    angle = lift - droop * _ALONG_LEAF
    spine = np.zeros((4, 2))
    np.cumsum(np.stack([np.sin(angle), np.cos(angle)], -1)[:-1] * length / 3.0, 0, out=spine[1:])
    half = width / 2.0 * _HALF_LEAF
    vertices = np.zeros((7, 3))
    vertices[:3, 0], vertices[3:6, 0] = -half, half
    vertices[:3, 1:], vertices[3:6, 1:], vertices[6, 1:] = spine[:3], spine[:3], spine[3]
    uv = np.empty((7, 2))
    uv[:, 0], uv[:3, 1], uv[3:6, 1], uv[6, 1] = vertices[:, 0], _ALONG_LEAF[:3], _ALONG_LEAF[:3], 1.0
    uv[:, 1] *= length
    return Shape(vertices, _LEAF_FACES, np.zeros((5, 3, 3)), uv[_LEAF_FACES])


def drape(width: float, height: float, folds: int, depth: float) -> Shape:
    """Return hanging cloth with folds, in the plane z = 0, gathered a little at its top."""
    count = 4 * folds + 1
    across = np.linspace(-0.5, 0.5, count) * width
    wave = np.sin(np.linspace(0.0, 2.0 * np.pi * folds, count)) * depth
    low = np.column_stack([across, np.zeros(count), wave])
    high = np.column_stack([across * 0.92, np.full(count, height), wave * 0.6])
    first = np.arange(count - 1)
    faces = np.concatenate(
        [
            np.column_stack([first, first + 1, first + 1 + count]),
            np.column_stack([first, first + 1 + count, first + count]),
        ]
    ).astype(np.int32)
    vertices = np.concatenate([low, high])
    uv = vertices[:, :2] * (1.0, -1.0)
    slope = np.column_stack([-np.gradient(wave, across), np.zeros(count), np.ones(count)])
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    return Shape(vertices, faces, np.concatenate([slope, slope])[faces], uv[faces])


def turned(shape: Shape, axis: str, angle: float) -> Shape:
    """Return the shape rotated about "x", "y" or "z" by `angle` radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    if axis == "x":
        transposed = np.array(((1.0, 0.0, 0.0), (0.0, cosine, sine), (0.0, -sine, cosine)))
    elif axis == "y":
        transposed = np.array(((cosine, 0.0, -sine), (0.0, 1.0, 0.0), (sine, 0.0, cosine)))
    else:
        transposed = np.array(((cosine, sine, 0.0), (-sine, cosine, 0.0), (0.0, 0.0, 1.0)))
    normals = (shape.normals.reshape(-1, 3) @ transposed).reshape(shape.normals.shape)
    return Shape(shape.vertices @ transposed, shape.faces, normals, shape.uv, shape.fitted)


def rod(start: Sequence[float], end: Sequence[float], radius: float, segments: int = 6) -> Shape:
    """Return a round bar between two points, open at its ends."""
    low, high = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = high - low
    length = float(np.linalg.norm(along))
    lean = float(np.arccos(np.clip(along[1] / length, -1.0, 1.0)))
    shape = turned(
        turned(lathe([(radius, 0.0), (radius, length)], segments), "x", lean),
        "y",
        float(np.arctan2(along[0], along[2])),
    )
    return Shape(shape.vertices + low, shape.faces, shape.normals, shape.uv)


def flat(shape: Shape, width: float, depth: float) -> Shape:
    """Return the shape with its texture stretched over its view from above."""
    corners = shape.vertices[shape.faces]
    return replace(shape, uv=corners[..., [0, 2]] / (width, depth) + 0.5, fitted=True)
