"""Primitive shapes that furniture is put together from, in metres, standing on y = 0 around the y axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def box(width: float, height: float, depth: float) -> Shape:
    """Return a box of the given extents along x, y and z."""
    vertices = _BOX * (width, height, depth)
    uv = np.take_along_axis(vertices, _BOX_AXES, 1) * _BOX_SIGNS
    vertices[:, 1] += height / 2.0
    return Shape(vertices, _BOX_FACES, _BOX_NORMALS, uv[_BOX_FACES])


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
    angle = (np.arange(segments + 1) % segments) * (2.0 * np.pi / segments) + np.pi / segments
    cosine, sine = np.cos(angle), np.sin(angle)
    across = np.sign(cosine) * np.abs(cosine) ** (2.0 / power)
    along = np.sign(sine) * np.abs(sine) ** (2.0 / power) * stretch
    radius, height = np.array(profile, np.float64).T
    rings = len(radius)
    ring = np.stack([across, np.ones(segments + 1), along], -1)
    scale = np.stack([radius, height, radius], -1)
    vertices = (scale[:, None] * ring).reshape(-1, 3)
    # Outward slope of each band of the profile, and outward direction of each ring vertex.
    steps = np.stack([np.diff(height), -np.diff(radius)], -1)
    length = np.hypot(*steps.T)
    slope = steps / length[:, None]
    outward = np.stack([np.sign(cosine) * np.abs(cosine) ** (2 - 2 / power), np.sign(sine) * np.abs(sine) ** (2 - 2 / power) / stretch], -1)
    outward /= np.hypot(*outward.T)[:, None]
    band, side = (index.ravel() for index in np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij"))
    corners = np.stack([(band, side), (band + 1, side), (band + 1, side + 1), (band, side + 1)], -1)  # (2, B, 4)
    keep_first = radius[band + 1] > 0.0
    keep_second = radius[band] > 0.0
    triangles = np.concatenate(
        [corners[:, keep_first][:, :, [0, 1, 2]], corners[:, keep_second][:, :, [0, 2, 3]]], axis=1
    )
    bands = np.concatenate([band[keep_first], band[keep_second]])
    direction = outward[triangles[1]]
    normals = np.empty((*triangles.shape[1:], 3))
    normals[..., [0, 2]] = direction * slope[bands, None, :1]
    normals[..., 1] = slope[bands, None, 1]
    travelled = np.concatenate([[0.0], np.cumsum(length)])
    around = np.arange(segments + 1) * (2.0 * np.pi * radius.max() / segments)
    uv = np.stack([-around[triangles[1]], -travelled[triangles[0]]], -1)
    faces = (triangles[0] * (segments + 1) + triangles[1]).astype(np.int32)
    return Shape(vertices, faces, normals, uv)


def cylinder(radius: float, height: float, segments: int = 10, top: float | None = None) -> Shape:
    """Return an upright closed cylinder, or a truncated cone of radius `top` at its upper end."""
    top = radius if top is None else top
    return lathe([(0.0, 0.0), (radius, 0.0), (top, height), (0.0, height)], segments)


def ball(radius: float, segments: int = 10, flatten: float = 1.0) -> Shape:
    """Return a sphere standing on y = 0, or an ellipsoid of height 2 `radius` `flatten`."""
    angle = np.linspace(-np.pi / 2.0, np.pi / 2.0, segments // 2 + 1)
    ring = np.cos(angle) * radius
    ring[[0, -1]] = 0.0
    return lathe(list(zip(ring, (np.sin(angle) + 1.0) * radius * flatten, strict=True)), segments)


def cushion(width: float, height: float, depth: float, segments: int = 16) -> Shape:
    """Return a box with rounded edges, as upholstery and mattresses are."""
    soft = min(0.35 * height, 0.08)
    half = width / 2.0
    rings = [(0.0, 0.0), (half - soft / 2, 0.0), (half, soft), (half, height - soft), (half - soft, height), (0.0, height)]
    return lathe(rings, segments, power=7.0, stretch=depth / width)


def leaf(length: float, width: float, lift: float, droop: float) -> Shape:
    """Return a leaf growing from the origin along +z; it rises by `lift` radians and bends down by `droop`."""
    along = np.linspace(0.0, 1.0, 4)
    angle = lift - droop * along
    step = np.stack([np.sin(angle), np.cos(angle)], -1)[:-1] * length / 3.0
    spine = np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)])
    half = width / 2.0 * np.array([0.25, 1.0, 0.8])
    left = np.column_stack([-half, spine[:3]])
    right = np.column_stack([half, spine[:3]])
    tip = np.array([[0.0, spine[3, 0], spine[3, 1]]])
    vertices = np.concatenate([left, right, tip])
    faces = np.array([(0, 1, 4), (0, 4, 3), (1, 2, 5), (1, 5, 4), (2, 6, 5)], np.int32)
    uv = np.column_stack([vertices[:, 0], np.append(np.tile(along[:3], 2), 1.0) * length])
    return Shape(vertices, faces, np.zeros((5, 3, 3)), uv[faces])


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
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return replace(shape, vertices=shape.vertices @ matrix.T, normals=shape.normals @ matrix.T)


def rod(start: Sequence[float], end: Sequence[float], radius: float, segments: int = 6) -> Shape:
    """Return a round bar between two points."""
    low, high = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = high - low
    length = float(np.linalg.norm(along))
    lean = float(np.arccos(np.clip(along[1] / length, -1.0, 1.0)))
    shape = turned(turned(cylinder(radius, length, segments), "x", lean), "y", float(np.arctan2(along[0], along[2])))
    return replace(shape, vertices=shape.vertices + low)


def flat(shape: Shape, width: float, depth: float) -> Shape:
    """Return the shape with its texture stretched over its view from above."""
    corners = shape.vertices[shape.faces]
    return replace(shape, uv=corners[..., [0, 2]] / (width, depth) + 0.5, fitted=True)
