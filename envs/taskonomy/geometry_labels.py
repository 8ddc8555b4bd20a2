"""Taskonomy labels computed from depth and normals: depths, mask, normal, reshading, 3D edges, curvature.

All take planar depth as the renderer gives it: (S, S) float32 metres along the optical axis, 0 where nothing
is hit. Normals are in the camera frame of Taskonomy's normal images: x right, y down, z forward.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from envs.taskonomy.image_labels import gradient_magnitude

INVALID = 65535
UNITS_PER_METRE = 512.0
OCCLUSION_LIMIT = 65036  # Depths of this many units count as holes for the 3D edges.
LAMP_GAIN = 1.6  # Lamp energy 2.5 x diffuse intensity 0.8 x diffuse colour 0.8.
LAMP_HALF_LIFE = 8.0  # m^2: the lamp has half its strength where d^2 is this.
LAMP_BACKGROUND = 13
CURVATURE_LIMIT = 1.0 / 0.03  # 1/m
# A 90-degree edge then reads 31 / m, as one rounded over 5 cm does.
CURVATURE_BASELINE = 0.0318  # m
# Inverse depths of two surfaces closer than this fraction count as one surface.
JUMP_TOLERANCE = 0.02


def pixel_rays(size: int, hfov: float) -> NDArray[np.float32]:
    """Rays through the pixel centres of a square pinhole camera.

    Args:
        size: Width and height in pixels.
        hfov: Field of view in degrees.

    Returns:
        (S, S, 3) float32 in the camera frame (x right, y down, z forward), with z = 1.
    """
    focal = size / (2.0 * math.tan(math.radians(hfov) / 2.0))
    line = ((np.arange(size) + 0.5 - size / 2.0) / focal).astype(np.float32)
    rays = np.ones((size, size, 3), np.float32)
    rays[..., 0] = line
    rays[..., 1] = line[:, None]
    return rays


def camera_axes(heading: float, pitch: float) -> NDArray[np.float32]:
    """Axes of a camera in world coordinates.

    Args:
        heading: Rotation about +Y in radians, 0 looks along -Z, positive turns left.
        pitch: Elevation of the optical axis in radians, positive looks up.

    Returns:
        (3, 3) float32, rows right, down and forward: `axes @ v` takes a world direction to the camera frame.
    """
    sin_h, cos_h, sin_p, cos_p = math.sin(heading), math.cos(heading), math.sin(pitch), math.cos(pitch)
    return np.array(
        [
            [cos_h, 0.0, -sin_h],
            [-sin_h * sin_p, -cos_p, -cos_h * sin_p],
            [-sin_h * cos_p, sin_p, -cos_h * cos_p],
        ],
        np.float32,
    )


def depth_zbuffer(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Planar depth.

    Args:
        depth: (S, S) float32 metres, 0 where nothing is hit.

    Returns:
        (S, S) uint16 in 1/512 m; 65535 where nothing is hit or beyond 128 m.
    """
    return _encode_depth(depth, depth > 0.0)


def depth_euclidean(depth: NDArray[np.float32], hfov: float) -> NDArray[np.uint16]:
    """Distance to the optical centre.

    Args:
        depth: (S, S) float32 planar depth in metres, 0 where nothing is hit.
        hfov: Field of view in degrees.

    Returns:
        (S, S) uint16 in 1/512 m; 65535 on exactly the invalid pixels of `depth_zbuffer`.
    """
    return _encode_depth(depth * ray_length(len(depth), hfov), valid(depth))


def ray_length(size: int, hfov: float) -> NDArray[np.float32]:
    """(S, S) float32 length of the `pixel_rays`: distance over planar depth."""
    rays = pixel_rays(size, hfov)
    return np.sqrt(np.einsum("ijk,ijk->ij", rays, rays))


def valid(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(S, S) bool, where `depth_zbuffer` holds a depth."""
    return (depth > 0.0) & (depth * UNITS_PER_METRE < INVALID - 0.5)


def mask_valid(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S) uint8, 255 where `depth_zbuffer` holds a depth, else 0."""
    return np.where(valid(depth), np.uint8(255), np.uint8(0))


def normal(camera_normal: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Surface normals.

    Args:
        camera_normal: (S, S, 3) float32 unit normals facing the camera, x right, y down, z forward.
        depth: (S, S) float32 metres, 0 where nothing is hit.

    Returns:
        (S, S, 3) uint8, round(127.5 (n + 1)); 128 where nothing is hit.
    """
    code = (127.5 * camera_normal + np.float32(128.0)).clip(0.0, 255.0).astype(np.uint8)
    return np.where(valid(depth)[..., None], code, np.uint8(128))


def reshading(depth: NDArray[np.float32], camera_normal: NDArray[np.float32], hfov: float) -> NDArray[np.uint8]:
    """Lambertian shading by a point light at the camera, with Blender's inverse-square falloff.

    I = 255 min(1, 1.6 cos(t) 8 / (8 + d^2)), d the distance and t the angle between normal and ray.

    Args:
        depth: (S, S) float32 planar depth in metres, 0 where nothing is hit.
        camera_normal: (S, S, 3) float32 unit normals facing the camera, x right, y down, z forward.
        hfov: Field of view in degrees.

    Returns:
        (S, S, 3) uint8 with three equal channels; 13 where nothing is hit.
    """
    rays = pixel_rays(len(depth), hfov)
    length = np.sqrt(np.einsum("ijk,ijk->ij", rays, rays))
    cosine = np.maximum(0.0, -np.einsum("ijk,ijk->ij", rays, camera_normal) / length)
    light = LAMP_GAIN * cosine * LAMP_HALF_LIFE / (LAMP_HALF_LIFE + (depth * length) ** 2)
    code = (255.0 * np.minimum(1.0, light) + 0.5).astype(np.uint8)
    code[~valid(depth)] = LAMP_BACKGROUND
    return np.repeat(code[..., None], 3, axis=2)


def edge_occlusion(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """3D edges: Sobel magnitude of the square root of depth over 128 m, unsmoothed.

    Args:
        depth: (S, S) float32 metres, 0 where nothing is hit.

    Returns:
        (S, S) uint16, 65535 times the magnitude; 0 beside holes and at the border.
    """
    units = depth_zbuffer(depth)
    root = np.sqrt(units.astype(np.float32) / np.float32(65536.0))
    root[units >= OCCLUSION_LIMIT] = np.nan
    magnitude = gradient_magnitude(root)
    magnitude[0] = magnitude[-1] = 0.0
    magnitude[:, 0] = magnitude[:, -1] = 0.0
    return (magnitude * 65535.0 + 0.5).astype(np.uint16)


def curvature(depth: NDArray[np.float32], camera_normal: NDArray[np.float32], hfov: float) -> NDArray[np.float32]:
    """Principal curvatures of the visible surface, from differences of position and normal.

    The shape operator S = dN dP^-1 comes from the differences between the pixels left and right and above
    and below; it is symmetrised and its eigenvalues are ordered by magnitude. It is exact on spheres and
    cylinders at any distance between those pixels. They lie at least 3 cm away (at least one pixel), so that
    the edges of flat-faced meshes read as if rounded over 5 cm instead of as infinite. Differences never
    reach across a depth jump.

    Args:
        depth: (S, S) float32 planar depth in metres, 0 where nothing is hit.
        camera_normal: (S, S, 3) float32 unit normals facing the camera, x right, y down, z forward.
        hfov: Field of view in degrees.

    Returns:
        (S, S, 2) float32 in 1/m, the one of larger magnitude first; positive = convex; 0 where nothing is
        hit.
    """
    size = len(depth)
    focal = size / (2.0 * math.tan(math.radians(hfov) / 2.0))
    points = pixel_rays(size, hfov) * depth[..., None]
    return _curvature(points, np.ascontiguousarray(camera_normal, np.float32), focal * CURVATURE_BASELINE)


def principal_curvature(curvatures: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode principal curvatures.

    Args:
        curvatures: (S, S, 2) float32 in 1/m, as `curvature` gives them.
        depth: (S, S) float32 metres, 0 where nothing is hit.

    Returns:
        (S, S, 3) uint8: round(127 + 3.81 k) with k cut to +-33.3 / m in the first two channels, 0 in the
        third; (0, 0, 0) where nothing is hit.
    """
    cut = curvatures.clip(-CURVATURE_LIMIT, CURVATURE_LIMIT)
    code = np.zeros((*depth.shape, 3), np.uint8)
    code[..., :2] = ((cut / CURVATURE_LIMIT + 1.0) / 2.0 * 254.0 + 0.5).astype(np.uint8)
    code[~valid(depth)] = 0
    return code


def _encode_depth(metres: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.uint16]:
    units = np.minimum(metres * UNITS_PER_METRE + 0.5, INVALID)
    return np.where(known, units, INVALID).astype(np.uint16)


@numba.njit(cache=True)
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def _at(field: Any, pixel: Any) -> Any:
    return field[pixel[0], pixel[1], 0], field[pixel[0], pixel[1], 1], field[pixel[0], pixel[1], 2]


@numba.njit(cache=True)
def _difference(field: Any, a: Any, b: Any) -> Any:
    p, q = _at(field, a), _at(field, b)
    return p[0] - q[0], p[1] - q[1], p[2] - q[2]


@numba.njit(cache=True)
def _same_normal(normals: Any, a: tuple[int, int], b: tuple[int, int]) -> bool:
    n, m = _at(normals, a), _at(normals, b)
    return n[0] == m[0] and n[1] == m[1] and n[2] == m[2]


@numba.njit(cache=True)
def _same_surface(points: Any, normals: Any, a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether the surface goes on from pixel a to pixel b without a jump.

    The inverse depth of a plane is linear in the image. Where a surface bends, the tangent planes of both
    pixels cross between them; across a jump they do not. Nearly equal depths count as one surface.
    """
    p, q, n = _at(points, a), _at(points, b), _at(normals, a)
    if p[2] <= 0.0 or q[2] <= 0.0:
        return False
    at_p = _dot(n, p)
    if _same_normal(normals, a, b):
        # What follows, for parallel planes; most pixels of rooms need no more.
        at_q = _dot(n, q)
        return at_p < 0.0 and at_q < 0.0 and abs(at_p - at_q) < JUMP_TOLERANCE * max(-at_p, -at_q)
    m = _at(normals, b)
    at_q = _dot(m, q)
    if at_p >= 0.0 or at_q >= 0.0:
        return False
    # Relative inverse-depth gap between the planes at both pixels, seen from p and from q.
    gap_p = 1.0 - _dot(m, p) / at_q
    gap_q = _dot(n, q) / at_p - 1.0
    return gap_p * gap_q <= 0.0 or min(abs(gap_p), abs(gap_q)) < JUMP_TOLERANCE


@numba.njit(cache=True)
def _neighbour(
    points: Any, normals: Any, at: tuple[int, int], direction: tuple[int, int], step: int
) -> tuple[int, int]:
    """Farthest pixel within `step` in a direction that lies on the same surface, else the pixel itself."""
    size = len(points)
    while step > 0:
        i, j = at[0] + step * direction[0], at[1] + step * direction[1]
        if 0 <= i < size and 0 <= j < size and _same_surface(points, normals, at, (i, j)):
            return i, j
        step //= 2
    return at


@numba.njit(cache=True)
def _step(points: Any, normals: Any, at: tuple[int, int], axis: int, reach: float) -> int:
    """Pixels along an axis (0 right, 1 down) that make the half baseline on the tangent plane, at least 1."""
    p, n = _at(points, at), _at(normals, at)
    facing = _dot(n, p)
    if facing >= 0.0:
        return 1
    slope = n[axis] / facing
    # Squared length of a pixel on the plane, over (depth / focal)^2.
    stretch = 1.0 - 2.0 * slope * p[axis] + slope * slope * _dot(p, p)
    return max(1, int(reach / (p[2] * math.sqrt(max(stretch, 1e-6))) + 0.5))


@numba.njit(cache=True)
def _mean_normal(normals: Any, a: Any, b: Any, c: Any, d: Any) -> tuple[float, float, float]:
    p, q, r, s = _at(normals, a), _at(normals, b), _at(normals, c), _at(normals, d)
    x, y, z = p[0] + q[0] + r[0] + s[0], p[1] + q[1] + r[1] + s[1], p[2] + q[2] + r[2] + s[2]
    length = math.sqrt(x * x + y * y + z * z) + 1e-9
    return x / length, y / length, z / length


@numba.njit(cache=True)
def _principal(p1: Any, n1: Any, p2: Any, n2: Any, n: Any) -> tuple[float, float]:
    """Eigenvalues of the symmetrised shape operator, from two differences of position and normal."""
    # A tangent basis: e1 along the first difference, e2 = n x e1.
    along = _dot(p1, n)
    e1 = (p1[0] - along * n[0], p1[1] - along * n[1], p1[2] - along * n[2])
    length = math.sqrt(_dot(e1, e1))
    if length < 1e-6:
        return 0.0, 0.0
    e1 = (e1[0] / length, e1[1] / length, e1[2] / length)
    e2 = (n[1] * e1[2] - n[2] * e1[1], n[2] * e1[0] - n[0] * e1[2], n[0] * e1[1] - n[1] * e1[0])
    a, b, d = length, _dot(p2, e1), _dot(p2, e2)
    if abs(d) < 1e-3 * math.sqrt(_dot(p2, p2)) + 1e-6:
        return 0.0, 0.0
    s11, s21 = _dot(n1, e1) / a, _dot(n1, e2) / a
    s12, s22 = (_dot(n2, e1) - s11 * b) / d, (_dot(n2, e2) - s21 * b) / d
    mean, off = 0.5 * (s11 + s22), 0.5 * (s12 + s21)
    spread = math.sqrt((0.5 * (s11 - s22)) ** 2 + off * off)
    return (mean + spread, mean - spread) if mean >= 0.0 else (mean - spread, mean + spread)


@numba.njit(cache=True)
def _curvature(points: NDArray[np.float32], normals: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Principal curvatures; `reach` is the half baseline in pixels times depth."""
    size = len(points)
    out = np.zeros((size, size, 2), np.float32)
    for i in range(size):
        for j in range(size):
            if points[i, j, 2] <= 0.0:
                continue
            here = (i, j)
            across = _step(points, normals, here, 0, reach)
            left = _neighbour(points, normals, here, (0, -1), across)
            right = _neighbour(points, normals, here, (0, 1), across)
            down = _step(points, normals, here, 1, reach)
            above = _neighbour(points, normals, here, (-1, 0), down)
            below = _neighbour(points, normals, here, (1, 0), down)
            if left[1] == right[1] or above[0] == below[0]:
                continue
            if _same_normal(normals, left, right) and _same_normal(normals, above, below):
                continue
            k1, k2 = _principal(
                _difference(points, right, left),
                _difference(normals, right, left),
                _difference(points, below, above),
                _difference(normals, below, above),
                _mean_normal(normals, left, right, above, below),
            )
            out[i, j, 0] = k1
            out[i, j, 1] = k2
    return out
