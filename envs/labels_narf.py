"""Taskonomy's 3D keypoints: the NARF interest image of a depth map (Steder et al. 2011).

The response is high near places where the surface changes in several directions (corners, legs, chair backs)
and dips exactly on them. This follows the algorithm with two simplifications: neighbours count by their
distance instead of by growing a region, and the resolution pyramid keeps the nearest depth of each 2x2 block.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from envs.labels_geometry import valid

SUPPORT = 0.15  # Radius of the neighbourhood that counts, in metres.
LARGEST_SUPPORT = 20.0  # Pixels across the neighbourhood, above which a coarser level is used.
MINIMUM_CHANGE = 0.2
OPTIMAL_DISTANCE = 0.25  # Distance of best response to a surface change, as a fraction of SUPPORT.
BINS = 18  # Directions of surface change, mod 180 degrees.
PATCH = 2  # Planes and changes of normals are taken over 5x5 pixels.
JUMP = 0.05  # Gap between two surfaces, in metres, that makes a border.
SMALLEST_LEVEL = 8  # Pixels per side of the coarsest level.


def keypoints3d(depth: NDArray[np.float32], hfov: float) -> NDArray[np.uint16]:
    """3D keypoints.

    Args:
        depth: (S, S) float32 planar depth in metres, 0 where nothing is hit.
        hfov: Field of view in degrees.

    Returns:
        (S, S) uint16, floor(65536 * interest) with interest in [0, 1); 0 where nothing is hit and on the far
        side of depth jumps.
    """
    known = np.where(valid(depth), depth, np.float32(0.0))
    focal = len(depth) / (2.0 * math.tan(math.radians(hfov) / 2.0))
    return np.minimum(_interest(known, focal) * 65536.0, 65535.0).astype(np.uint16)


def _interest(depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
    """Interest in [0, 1) per pixel; pixels too near for this resolution take the next coarser level."""
    nearest = 2.0 * SUPPORT * focal / LARGEST_SUPPORT
    links, far_side, directions = _jumps(depth)
    clear = _clear(links)
    normals = _fit_normals(depth, links, clear, focal, nearest - 2.0 * SUPPORT)
    change, bins = _surface_change(depth, normals, links, clear, directions, nearest - SUPPORT)
    interest = _combine(depth, change, bins, focal, nearest)
    near = (depth > 0.0) & (depth < nearest)
    if near.any() and len(depth) >= 2 * SMALLEST_LEVEL:
        coarse = _interest(_half(depth), focal / 2.0)
        interest = np.where(near, _double(coarse, len(depth)), interest)
    return np.where((depth > 0.0) & ~far_side, interest, np.float32(0.0))


def _half(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest depth of every 2x2 block; an odd last row and column are dropped."""
    size = len(depth) // 2
    blocks = np.where(depth > 0.0, depth, np.inf)[: 2 * size, : 2 * size].reshape(size, 2, size, 2)
    least = blocks.min(axis=(1, 3))
    return np.where(np.isfinite(least), least, 0.0).astype(np.float32)


def _double(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Bilinear upsampling by two, to (size, size)."""
    at = np.clip((np.arange(size) + 0.5) / 2.0 - 0.5, 0.0, len(image) - 1.0)
    low = np.minimum(at.astype(np.int64), len(image) - 2)
    part = (at - low).astype(np.float32)
    rows = image[low] * (1.0 - part)[:, None] + image[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1.0 - part) + rows[:, low + 1] * part)


@numba.njit(cache=True)
def _inverse(depth: NDArray[np.float32], i: int, j: int) -> float:
    """Inverse depth, 0 outside the image and where nothing is hit."""
    size = len(depth)
    if 0 <= i < size and 0 <= j < size and depth[i, j] > 0.0:
        return 1.0 / depth[i, j]
    return 0.0


@numba.njit(cache=True)
def _is_jump(before: float, p: float, q: float, after: float) -> bool:
    """Whether two neighbours lie on surfaces that do not meet, from four inverse depths in a row.

    The inverse depth of a plane is linear in the image: both sides are extended to each other, and where the
    lines cross between the pixels the surface only bends.
    """
    # A much steeper slope behind a pixel is another jump.
    steepest = 1.5 * abs(p - q)
    slope_p = p - before if before > 0.0 and abs(p - before) < steepest else 0.0
    slope_q = after - q if after > 0.0 and abs(after - q) < steepest else 0.0
    gap_q, gap_p = p + slope_p - q, p - (q - slope_q)
    return gap_p * gap_q > 0.0 and min(abs(gap_p), abs(gap_q)) > JUMP * p * q


@numba.njit(cache=True)
def _jumps(depth: NDArray[np.float32]) -> tuple[Any, Any, Any]:
    """Depth jumps.

    Returns:
        (2, S, S) bool, whether a pixel is joined to the one on its right and below; (S, S) bool, far sides
        of jumps; (S, S, 2) float32, on near sides the sum of the steps (right, down) towards farther
        surfaces.
    """
    size = len(depth)
    links = np.zeros((2, size, size), np.bool_)
    far_side = np.zeros((size, size), np.bool_)
    directions = np.zeros((size, size, 2), np.float32)
    for axis in range(2):
        di, dj = axis, 1 - axis
        for i in range(size - di):
            for j in range(size - dj):
                p, q = _inverse(depth, i, j), _inverse(depth, i + di, j + dj)
                if p == 0.0 or q == 0.0:
                    continue
                before = _inverse(depth, i - di, j - dj)
                after = _inverse(depth, i + 2 * di, j + 2 * dj)
                if not _is_jump(before, p, q, after):
                    links[axis, i, j] = True
                elif p > q:
                    directions[i, j, axis] += 1.0
                    far_side[i + di, j + dj] = True
                else:
                    directions[i + di, j + dj, axis] -= 1.0
                    far_side[i, j] = True
    return links, far_side, directions


@numba.njit(cache=True)
def _clear(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S, S) bool, where no jump or hole lies within the 5x5 pixels: saves looking for paths there."""
    size = links.shape[1]
    clear = np.ones((size, size), np.bool_)
    for axis in range(2):
        for i in range(size - axis):
            for j in range(size - 1 + axis):
                if not links[axis, i, j]:
                    for k in range(max(0, i - PATCH), min(size, i + PATCH + 1 + axis)):
                        clear[k, max(0, j - PATCH) : j + PATCH + 2 - axis] = False
    return clear


@numba.njit(cache=True)
def _joined(links: Any, axis: int, line: int, start: int, stop: int) -> bool:
    """Whether no jump lies between two pixels of a row (axis 0) or column (axis 1)."""
    for k in range(min(start, stop), max(start, stop)):
        if not (links[0, line, k] if axis == 0 else links[1, k, line]):
            return False
    return True


@numba.njit(cache=True)
def _connected(links: Any, i: int, j: int, k: int, m: int) -> bool:
    """Whether (k, m) can be reached from (i, j) around one corner without a jump."""
    if _joined(links, 0, i, j, m) and _joined(links, 1, m, i, k):
        return True
    return _joined(links, 1, j, i, k) and _joined(links, 0, k, j, m)


@numba.njit(cache=True)
def _fit_normals(
    depth: NDArray[np.float32], links: Any, clear: Any, focal: float, nearest: float
) -> NDArray[np.float32]:
    """(S, S, 3) float32 unit normals (x right, y down, z forward) of planes fitted to 5x5 pixels of one
    surface.

    The fit is linear least squares in inverse depth, w = a dj + b di + c. Pixels nearer than `nearest` get 0.
    """
    size = len(depth)
    out = np.zeros((size, size, 3), np.float32)
    centre = 0.5 * size - 0.5
    for i in range(size):
        for j in range(size):
            if depth[i, j] <= 0.0 or depth[i, j] < nearest:
                continue
            n = x = y = xx = xy = yy = w = xw = yw = 0.0
            for k in range(max(0, i - PATCH), min(size, i + PATCH + 1)):
                for m in range(max(0, j - PATCH), min(size, j + PATCH + 1)):
                    if depth[k, m] > 0.0 and (clear[i, j] or _connected(links, i, j, k, m)):
                        u, v, inverse = float(m - j), float(k - i), 1.0 / depth[k, m]
                        n, x, y, w = n + 1.0, x + u, y + v, w + inverse
                        xx, xy, yy = xx + u * u, xy + u * v, yy + v * v
                        xw, yw = xw + u * inverse, yw + v * inverse
            x, y, w = x / n, y / n, w / n
            xx, xy, yy = xx / n - x * x, xy / n - x * y, yy / n - y * y
            xw, yw = xw / n - x * w, yw / n - y * w
            det = xx * yy - xy * xy
            a, b = ((yy * xw - xy * yw) / det, (xx * yw - xy * xw) / det) if det > 1e-6 else (0.0, 0.0)
            # The plane a' x + b' y + c' z = 1 in camera coordinates.
            c = w - a * (x + j - centre) - b * (y + i - centre)
            a, b = a * focal, b * focal
            length = -math.sqrt(a * a + b * b + c * c)
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = a / length, b / length, c / length
    return out


@numba.njit(cache=True)
def _scatter(normals: Any, links: Any, clear: bool, i: int, j: int) -> tuple[float, float, float, float, float, float]:
    """Covariance (xx, xy, xz, yy, yz, zz) of unit normals of 5x5 pixels of one surface; zeros if small."""
    size = normals.shape[0]
    n = sx = sy = sz = xx = xy = xz = yy = yz = 0.0
    for k in range(max(0, i - PATCH), min(size, i + PATCH + 1)):
        for m in range(max(0, j - PATCH), min(size, j + PATCH + 1)):
            x, y, z = normals[k, m, 0], normals[k, m, 1], normals[k, m, 2]
            if z != 0.0 and (clear or _connected(links, i, j, k, m)):
                n, sx, sy, sz = n + 1.0, sx + x, sy + y, sz + z
                xx, xy, xz, yy, yz = xx + x * x, xy + x * y, xz + x * z, yy + y * y, yz + y * z
    sx, sy, sz = sx / n, sy / n, sz / n
    # The trace bounds the largest eigenvalue; it is 1 - |mean|^2 for unit vectors.
    if 1.0 - sx * sx - sy * sy - sz * sz < MINIMUM_CHANGE**2:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    cxx, cyy = xx / n - sx * sx, yy / n - sy * sy
    return cxx, xy / n - sx * sy, xz / n - sx * sz, cyy, yz / n - sy * sz, 1.0 - (xx + yy) / n - sz * sz


@numba.njit(cache=True)
def _main_axis(c: tuple[float, float, float, float, float, float]) -> tuple[float, float, float]:
    """Largest eigenvalue of a covariance and x, y of its eigenvector, by power iteration."""
    x, y, z = c[0], c[1], c[2]
    if c[3] >= c[0] and c[3] >= c[5]:
        x, y, z = c[1], c[3], c[4]
    elif c[5] >= c[0]:
        x, y, z = c[2], c[4], c[5]
    value = 0.0
    for _ in range(12):
        value = math.sqrt(x * x + y * y + z * z)
        if value == 0.0:
            return 0.0, 0.0, 0.0
        x, y, z = x / value, y / value, z / value
        x, y, z = (
            c[0] * x + c[1] * y + c[2] * z,
            c[1] * x + c[3] * y + c[4] * z,
            c[2] * x + c[4] * y + c[5] * z,
        )
    return math.sqrt(x * x + y * y + z * z), x, y


@numba.njit(cache=True)
def _surface_change(
    depth: NDArray[np.float32], normals: Any, links: Any, clear: Any, directions: Any, nearest: float
) -> tuple[Any, Any]:
    """Score of surface change in [0, 1] (0 below MINIMUM_CHANGE) and its direction's bin, (S, S) each."""
    size = len(depth)
    change = np.zeros((size, size), np.float32)
    bins = np.zeros((size, size), np.int64)
    for i in range(size):
        for j in range(size):
            if depth[i, j] <= 0.0 or depth[i, j] < nearest:
                continue
            x, y = float(directions[i, j, 0]), float(directions[i, j, 1])
            value = 1.0
            if x == 0.0 and y == 0.0:
                value, x, y = _main_axis(_scatter(normals, links, clear[i, j], i, j))
            if value >= MINIMUM_CHANGE**2:
                change[i, j] = min(1.0, math.sqrt(value))
                bins[i, j] = int((math.atan2(y, x) / math.pi % 1.0) * BINS) % BINS
    return change, bins


@numba.njit(cache=True)
def _spread(depth: NDArray[np.float32], change: Any, bins: Any, focal: float, nearest: float) -> tuple[Any, Any]:
    """Spread surface changes over their neighbourhoods.

    Returns:
        (S, S, BINS) float32 largest weighted change per direction; (S, S) float32 factor that dips on
        changes.
    """
    size = len(depth)
    histogram = np.zeros((size, size, BINS), np.float32)
    dip = np.ones((size, size), np.float32)
    centre = 0.5 * size - 0.5
    for i in range(size):
        for j in range(size):
            score, z = change[i, j], depth[i, j]
            if score <= 0.0 or z + SUPPORT < nearest:
                continue
            reach = int(SUPPORT * focal / max(z - SUPPORT, 0.5 * nearest, 1e-3)) + 1
            x, y = (j - centre) / focal * z, (i - centre) / focal * z
            for k in range(max(0, i - reach), min(size, i + reach + 1)):
                for m in range(max(0, j - reach), min(size, j + reach + 1)):
                    other = depth[k, m]
                    if other < nearest or abs(other - z) >= SUPPORT:
                        continue
                    dx, dy = (m - centre) / focal * other - x, (k - centre) / focal * other - y
                    square = (dx * dx + dy * dy + (other - z) ** 2) / (SUPPORT * SUPPORT)
                    if square >= 1.0:
                        continue
                    distance = math.sqrt(square)
                    weight = score if (k - i) ** 2 + (m - j) ** 2 < 4 else score * (1.0 - distance)
                    at = bins[i, j]
                    histogram[k, m, at] = max(histogram[k, m, at], weight)
                    factor = 1.0 - 0.5 * score * max(0.0, 1.0 - distance / OPTIMAL_DISTANCE)
                    dip[k, m] = min(dip[k, m], factor * factor)
    return histogram, dip


@numba.njit(cache=True)
def _combine(depth: NDArray[np.float32], change: Any, bins: Any, focal: float, nearest: float) -> NDArray[np.float32]:
    """Interest: the strongest pair of differing directions, damped on the changes themselves."""
    histogram, dip = _spread(depth, change, bins, focal, nearest)
    size = len(depth)
    out = np.zeros((size, size), np.float32)
    for i in range(size):
        for j in range(size):
            best = 0.0
            largest = 0.0
            for a in range(BINS):
                largest = max(largest, histogram[i, j, a])
            for a in range(BINS):
                first = histogram[i, j, a]
                if first * largest <= best:  # No product with it can be larger.
                    continue
                for b in range(BINS):
                    apart = abs(a - b) * 2.0 / BINS
                    angle = min(apart, 2.0 - apart)
                    best = max(best, first * histogram[i, j, b] * angle)
            out[i, j] = dip[i, j] * math.sqrt(best)
    return out
