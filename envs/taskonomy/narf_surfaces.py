"""Surfaces in a depth map for `envs.taskonomy.narf`: where they end, their normals, and how much these change."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

BINS = 18  # Directions of surface change, mod 180 degrees.
MINIMUM_CHANGE = 0.2
PATCH = 2  # Planes and changes of normals are taken over 5x5 pixels.
JUMP = 0.05  # Gap between two surfaces, in metres, that makes a border.


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
def find_jumps(depth: NDArray[np.float32]) -> tuple[Any, Any, Any]:
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
def free_patches(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S, S) bool, where the 5x5 pixels about a pixel lie in the image, without a jump or hole among them."""
    size = links.shape[1]
    free = np.zeros((size, size), np.bool_)
    free[PATCH : size - PATCH, PATCH : size - PATCH] = True
    for axis in range(2):
        for i in range(size - axis):
            for j in range(size - 1 + axis):
                if not links[axis, i, j]:
                    for k in range(max(0, i - PATCH), min(size, i + PATCH + 1 + axis)):
                        free[k, max(0, j - PATCH) : j + PATCH + 2 - axis] = False
    return free


@numba.njit(cache=True)
def _mark_column(down: Any, m: int, out: Any) -> None:
    """Mark what can be reached in column m from the middle row, given the links downwards."""
    out[PATCH, m] = True
    for k in range(PATCH + 1, 2 * PATCH + 1):
        if not down[k - 1, m]:
            break
        out[k, m] = True
    for k in range(PATCH - 1, -1, -1):
        if not down[k, m]:
            break
        out[k, m] = True


@numba.njit(cache=True)
def _mark(right: Any, down: Any, out: Any) -> None:
    """Mark what can be reached from the middle of a patch along its row and then along a column."""
    for m in range(PATCH, 2 * PATCH + 1):
        if m > PATCH and not right[PATCH, m - 1]:
            break
        _mark_column(down, m, out)
    for m in range(PATCH - 1, -1, -1):
        if not right[PATCH, m]:
            break
        _mark_column(down, m, out)


@numba.njit(cache=True)
def patches_of(depth: Any, links: NDArray[np.bool_], free: Any) -> NDArray[np.bool_]:
    """Masks of the 5x5 pixels about each pixel that lie on its surface.

    Returns:
        (N, 5, 5) bool for the pixels that are not `free_patches`, row by row: what can be reached around one corner
        without a jump.
    """
    size, width = len(free), 2 * PATCH + 1
    padded = np.zeros((2, size + 2 * PATCH, size + 2 * PATCH), np.bool_)
    # One by one: for an assignment of slices the compiler also compiles how to say that shapes differ.
    for k in range(2):
        for i in range(size):
            for j in range(size):
                padded[k, i + PATCH, j + PATCH] = links[k, i, j]
    out = np.zeros((free.size - free.sum(), width, width), np.bool_)
    row = 0
    for i in range(size):
        for j in range(size):
            if free[i, j]:
                continue
            if depth[i, j] > 0.0:
                right, down = padded[0, i : i + width, j : j + width], padded[1, i : i + width, j : j + width]
                _mark(right, down, out[row])
                _mark(down.T, right.T, out[row].T)
            row += 1
    return out


@numba.njit(cache=True)
def _slopes_free(inverse: Any, i: int, j: int) -> tuple[float, float, float]:
    """Least-squares plane w = a dj + b di + c through all 5x5 inverse depths about a pixel: (a, b, c)."""
    w = xw = yw = 0.0
    for k in range(-PATCH, PATCH + 1):
        line = 0.0
        for m in range(-PATCH, PATCH + 1):
            value = inverse[i + k, j + m]
            line += value
            xw += m * value
        w += line
        yw += k * line
    return xw / 50.0, yw / 50.0, w / 25.0


@numba.njit(cache=True)
def _slopes(inverse: Any, patch: Any, i: int, j: int) -> tuple[float, float, float]:
    """`_slopes_free` through those of the pixels that lie on the same surface."""
    n = x = y = xx = xy = yy = w = xw = yw = 0.0
    for k in range(-PATCH, PATCH + 1):
        for m in range(-PATCH, PATCH + 1):
            if patch[k + PATCH, m + PATCH]:
                value = inverse[i + k, j + m]
                n, x, y, w = n + 1.0, x + m, y + k, w + value
                xx, xy, yy = xx + m * m, xy + m * k, yy + k * k
                xw, yw = xw + m * value, yw + k * value
    x, y, w = x / n, y / n, w / n
    xx, xy, yy = xx / n - x * x, xy / n - x * y, yy / n - y * y
    xw, yw = xw / n - x * w, yw / n - y * w
    det = xx * yy - xy * xy
    a, b = ((yy * xw - xy * yw) / det, (xx * yw - xy * xw) / det) if det > 1e-6 else (0.0, 0.0)
    return a, b, w - a * x - b * y


@numba.njit(cache=True)
def fit_normals(
    depth: NDArray[np.float32], free: Any, patches: Any, focal: float, nearest: float
) -> NDArray[np.float32]:
    """(3, S, S) float32 unit normals (x right, y down, z forward) of planes fitted to 5x5 pixels of one
    surface.

    The fit is linear least squares in inverse depth. Pixels nearer than `nearest` get 0.
    """
    size = len(depth)
    out = np.zeros((3, size, size), np.float32)
    inverse = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if depth[i, j] > 0.0:
                inverse[i, j] = 1.0 / depth[i, j]
    centre = 0.5 * size - 0.5
    row = 0
    for i in range(size):
        for j in range(size):
            row += not free[i, j]
            if depth[i, j] <= 0.0 or depth[i, j] < nearest:
                continue
            if free[i, j]:
                a, b, c = _slopes_free(inverse, i, j)
            else:
                a, b, c = _slopes(inverse, patches[row - 1], i, j)
            # The plane a' x + b' y + c' z = 1 in camera coordinates.
            c += a * (centre - j) + b * (centre - i)
            a, b = a * focal, b * focal
            scale = -1.0 / math.sqrt(a * a + b * b + c * c)
            out[0, i, j], out[1, i, j], out[2, i, j] = a * scale, b * scale, c * scale
    return out


@numba.njit(cache=True)
def _sums(image: Any) -> Any:
    """(S, S) float32 sums over the 5x5 pixels about every pixel, 0 within two pixels of the border."""
    size = len(image)
    out = np.zeros((size, size), np.float32)
    line = np.zeros(size, np.float32)
    for i in range(PATCH, size - PATCH):
        for j in range(size):
            line[j] = image[i - PATCH, j]
        for k in range(1 - PATCH, PATCH + 1):
            for j in range(size):
                line[j] += image[i + k, j]
        for j in range(PATCH, size - PATCH):
            out[i, j] = line[j - 2] + line[j - 1] + line[j] + line[j + 1] + line[j + 2]
    return out


@numba.njit(cache=True)
def _scatter(normals: Any, patch: Any, i: int, j: int) -> tuple[float, float, float, float, float, float]:
    """Covariance (xx, xy, xz, yy, yz, zz) of the unit normals of the marked ones of 5x5 pixels."""
    n = sx = sy = sz = xx = xy = xz = yy = yz = 0.0
    for k in range(-PATCH, PATCH + 1):
        for m in range(-PATCH, PATCH + 1):
            if patch[k + PATCH, m + PATCH] and normals[2, i + k, j + m] != 0.0:
                x, y, z = normals[0, i + k, j + m], normals[1, i + k, j + m], normals[2, i + k, j + m]
                n, sx, sy, sz = n + 1.0, sx + x, sy + y, sz + z
                xx, xy, xz, yy, yz = xx + x * x, xy + x * y, xz + x * z, yy + y * y, yz + y * z
    sx, sy, sz = sx / n, sy / n, sz / n
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
def surface_change(
    depth: NDArray[np.float32], normals: Any, free: Any, patches: Any, directions: Any, nearest: float
) -> tuple[Any, Any]:
    """Score of surface change in [0, 1] (0 below MINIMUM_CHANGE) and its direction's bin, (S, S) each."""
    size = len(depth)
    change = np.zeros((size, size), np.float32)
    bins = np.zeros((size, size), np.int64)
    x_sum, y_sum, z_sum = _sums(normals[0]), _sums(normals[1]), _sums(normals[2])
    everything = np.ones((2 * PATCH + 1, 2 * PATCH + 1), np.bool_)
    flat = 625.0 * (1.0 - MINIMUM_CHANGE**2)
    row = 0
    for i in range(size):
        for j in range(size):
            row += not free[i, j]
            if depth[i, j] <= 0.0 or depth[i, j] < nearest:
                continue
            x, y = float(directions[i, j, 0]), float(directions[i, j, 1])
            value = 1.0
            if x == 0.0 and y == 0.0:
                # 1 - |mean normal|^2, the trace of the covariance, bounds its largest eigenvalue.
                if free[i, j] and x_sum[i, j] ** 2 + y_sum[i, j] ** 2 + z_sum[i, j] ** 2 > flat:
                    continue
                patch = everything if free[i, j] else patches[row - 1]
                value, x, y = _main_axis(_scatter(normals, patch, i, j))
            if value >= MINIMUM_CHANGE**2:
                change[i, j] = min(1.0, math.sqrt(value))
                bins[i, j] = int((math.atan2(y, x) / math.pi % 1.0) * BINS) % BINS
    return change, bins
