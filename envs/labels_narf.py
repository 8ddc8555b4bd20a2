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
    free = _free(links)
    patches = _patches(depth, links, free)
    normals = _fit_normals(depth, free, patches, focal, nearest - 2.0 * SUPPORT)
    change, bins = _surface_change(depth, normals, free, patches, directions, nearest - SUPPORT)
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
def _free(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
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
def _patches(depth: Any, links: NDArray[np.bool_], free: Any) -> NDArray[np.bool_]:
    """Which of the 5x5 pixels about a pixel lie on its surface.

    Returns:
        (N, 5, 5) bool for the pixels that are not `_free`, row by row: what can be reached around one corner
        without a jump.
    """
    size, width = len(free), 2 * PATCH + 1
    padded = np.zeros((2, size + 2 * PATCH, size + 2 * PATCH), np.bool_)
    padded[:, PATCH : size + PATCH, PATCH : size + PATCH] = links
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
def _fit_normals(
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
        line[:] = image[i - PATCH]
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
def _surface_change(
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


@numba.njit(cache=True, fastmath=True)
def _spread_row(other: Any, rays: Any, at: Any, score: Any, peak: Any, dip: Any) -> None:
    """Spread one surface change over a row of pixels: no branches, so that it is vectorised.

    Args:
        other: (W,) float32 depths; infinite where nothing counts.
        rays: (W,) float32 x over depth.
        at: (x, y, z of the change, and y over depth of the row), all divided by SUPPORT but the last.
        score: The change.
        peak: (W,) float32 largest weighted change of this direction, updated.
        dip: (W,) float32 factor, updated.
    """
    x, y, z, slope = at
    for m in range(len(other)):
        near = other[m] * np.float32(1.0 / SUPPORT)
        dx, dy, dz = near * rays[m] - x, near * slope - y, near - z
        square = dx * dx + dy * dy + dz * dz
        distance = np.sqrt(square if square < np.float32(1.0) else np.float32(1.0))
        weight = score * (np.float32(1.0) - distance)
        peak[m] = weight if weight > peak[m] else peak[m]
        inside = np.float32(1.0) - distance * np.float32(1.0 / OPTIMAL_DISTANCE)
        factor = np.float32(1.0) - np.float32(0.5) * score * (inside if inside > np.float32(0.0) else np.float32(0.0))
        factor *= factor
        dip[m] = factor if factor < dip[m] else dip[m]


@numba.njit(cache=True)
def _fill_beside(known: Any, rays: Any, i: int, j: int, z: Any, score: Any, peak: Any) -> None:
    """Pixels right beside a change at depth z get it undiminished, if they lie within the support."""
    size = len(known)
    for k in range(max(0, i - 1), min(size, i + 2)):
        for m in range(max(0, j - 1), min(size, j + 2)):
            other = known[k, m]
            dx, dy = rays[m] * other - rays[j] * z, rays[k] * other - rays[i] * z
            if dx * dx + dy * dy + (other - z) ** 2 < SUPPORT * SUPPORT:
                peak[k, m] = max(peak[k, m], score)


@numba.njit(cache=True)
def _spread(depth: NDArray[np.float32], change: Any, bins: Any, focal: float, nearest: float) -> tuple[Any, Any]:
    """Spread surface changes over their neighbourhoods.

    Returns:
        (BINS, S, S) float32 largest weighted change per direction; (S, S) float32 factor that dips on
        changes.
    """
    size = len(depth)
    histogram = np.zeros((BINS, size, size), np.float32)
    dip = np.ones((size, size), np.float32)
    # Far away stands for what does not count: too near for this level, or nothing hit.
    known = np.where((depth >= nearest) & (depth > 0.0), depth, np.float32(1e6))
    rays = ((np.arange(size) - (0.5 * size - 0.5)) / focal).astype(np.float32)
    unit = np.float32(1.0 / SUPPORT)
    for i in range(size):
        for j in range(size):
            score, z = change[i, j], depth[i, j]
            if score <= 0.0 or z + SUPPORT < nearest:
                continue
            reach = int(SUPPORT * focal / max(z - SUPPORT, 0.5 * nearest, 1e-3)) + 1
            left, right = max(0, j - reach), min(size, j + reach + 1)
            peak = histogram[bins[i, j]]
            x, y = rays[j] * z * unit, rays[i] * z * unit
            for k in range(max(0, i - reach), min(size, i + reach + 1)):
                at = (x, y, z * unit, rays[k])
                _spread_row(known[k, left:right], rays[left:right], at, score, peak[k, left:right], dip[k, left:right])
            _fill_beside(known, rays, i, j, z, score, peak)
    return histogram, dip


@numba.njit(cache=True, fastmath=True)
def _largest_products(first: Any, second: Any, angle: Any, best: Any) -> None:
    """Raise `best` to first * second * angle, over a row of pixels."""
    for j in range(len(best)):
        product = first[j] * second[j] * angle
        best[j] = product if product > best[j] else best[j]


@numba.njit(cache=True)
def _combine(depth: NDArray[np.float32], change: Any, bins: Any, focal: float, nearest: float) -> NDArray[np.float32]:
    """Interest: the strongest pair of differing directions, damped on the changes themselves."""
    histogram, dip = _spread(depth, change, bins, focal, nearest)
    size = len(depth)
    out = np.zeros((size, size), np.float32)
    for i in range(size):
        used = [a for a in range(BINS) if histogram[a, i].any()]
        for a in used:
            for b in used:
                if b < a:
                    apart = (a - b) * 2.0 / BINS
                    angle = np.float32(min(apart, 2.0 - apart))
                    _largest_products(histogram[a, i], histogram[b, i], angle, out[i])
        out[i] = dip[i] * np.sqrt(out[i])
    return out
