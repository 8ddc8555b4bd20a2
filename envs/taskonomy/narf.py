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

from envs.taskonomy.geometry_labels import valid
from envs.taskonomy.narf_surfaces import BINS, find_jumps, fit_normals, free_patches, patches_of, surface_change

SUPPORT = 0.15  # Radius of the neighbourhood that counts, in metres.
LARGEST_SUPPORT = 20.0  # Pixels across the neighbourhood, above which a coarser level is used.
OPTIMAL_DISTANCE = 0.25  # Distance of best response to a surface change, as a fraction of SUPPORT.
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
    links, far_side, directions = find_jumps(depth)
    free = free_patches(links)
    patches = patches_of(depth, links, free)
    normals = fit_normals(depth, free, patches, focal, nearest - 2.0 * SUPPORT)
    change, bins = surface_change(depth, normals, free, patches, directions, nearest - SUPPORT)
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
