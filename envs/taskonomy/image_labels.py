"""Taskonomy labels computed from the picture alone: 2D edges and 2D keypoints.

Both are defined on 512-pixel images. At another size the filters shrink with the image, so a label means the
same angle of view at every size.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

TASKONOMY_SIZE = 512
EDGE_SIGMA = 3.0
KEYPOINT_SIGMAS = np.linspace(1.0, 30.0, 10)


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey value of an image.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) float32 in [0, 1] with the ITU-R 601 weights.
    """
    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255.0)
    return rgb.astype(np.float32) @ weights


def edge_texture(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """2D edges: Canny's gradient magnitude before non-maximum suppression and thresholds.

    Args:
        rgb: (S, S, 3) uint8.

    Returns:
        (S, S) uint16, 65535 times the gradient per pixel of a 512-pixel image; the outermost ring is 0.
    """
    scale = len(rgb) / TASKONOMY_SIZE
    magnitude = gradient_magnitude(smooth(luminance(rgb), EDGE_SIGMA * scale)) * np.float32(scale)
    magnitude[0] = magnitude[-1] = 0.0
    magnitude[:, 0] = magnitude[:, -1] = 0.0
    return to_uint16(magnitude)


def keypoints2d(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """2D keypoints: the SURF detector's response, the largest over ten scales, before suppression.

    The response is the determinant of the Hessian approximated by box filters on an integral image
    (Bay et al. 2006, section 3), for sigmas 1 to 30 pixels of a 512-pixel image.

    Args:
        rgb: (S, S, 3) uint8.

    Returns:
        (S, S) uint16, 65535 times the positive part of the response.
    """
    scale = len(rgb) / TASKONOMY_SIZE
    widths = (3.0 * KEYPOINT_SIGMAS * scale).astype(np.int64)
    if scale < 1.0:
        # Three equal lobes cancel on flat areas. The files' own widths do not, which only small filters make
        # visible.
        widths -= widths % 3
    grey = luminance(rgb).astype(np.float64)
    integral = np.zeros((len(rgb) + 1, len(rgb) + 1))
    np.cumsum(np.cumsum(grey, axis=0), axis=1, out=integral[1:, 1:])
    # Three boxes side by side need three pixels. Taskonomy's response lies one pixel up and left of what it
    # answers.
    return to_uint16(_largest_hessian(integral, np.unique(widths[widths >= 3]), int(scale)))


def to_uint16(value: NDArray[Any]) -> NDArray[np.uint16]:
    """round(65535 * value), for value in [0, 1]."""
    return (value * 65535.0 + 0.5).astype(np.uint16)


def smooth(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur that ignores what lies outside the image.

    Args:
        image: (H, W) float32.
        sigma: Standard deviation in pixels; the kernel ends at 4 sigma.

    Returns:
        (H, W) float32, the zero-padded blur divided by the same blur of ones.
    """
    radius = int(4.0 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return _blur((_blur(image, kernel.astype(np.float32))).T, kernel.astype(np.float32)).T.copy()


@numba.njit(cache=True)
def _blur(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted mean along the first axis over the part of the kernel inside the image."""
    height, width = image.shape
    radius = len(kernel) // 2
    out = np.zeros((height, width), np.float32)
    for i in range(height):
        total = np.float32(0.0)
        for k in range(max(0, i - radius), min(height, i + radius + 1)):
            weight = kernel[k - i + radius]
            total += weight
            for j in range(width):
                out[i, j] += weight * image[k, j]
        for j in range(width):
            out[i, j] /= total
    return out


@numba.njit(cache=True)
def gradient_magnitude(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sobel magnitude with kernels [1 2 1]/4 x [1 0 -1] and the root of the mean square of both directions.

    Args:
        image: (H, W) float32. A pixel whose 3x3 neighbourhood holds a NaN gets 0.

    Returns:
        (H, W) float32; the border repeats the nearest pixel.
    """
    height, width = image.shape
    out = np.zeros((height, width), np.float32)
    for i in range(height):
        a, b = max(i - 1, 0), min(i + 1, height - 1)
        for j in range(width):
            c, d = max(j - 1, 0), min(j + 1, width - 1)
            corners = image[a, c] - image[b, d]
            others = image[a, d] - image[b, c]
            vertical = corners + others + 2.0 * (image[a, j] - image[b, j])
            horizontal = corners - others + 2.0 * (image[i, c] - image[i, d])
            square = (vertical * vertical + horizontal * horizontal) / 32.0 + 0.0 * image[i, j]
            if square > 0.0:  # False for NaN.
                out[i, j] = np.sqrt(square)
    return out


@numba.njit(cache=True)
def _box(integral: NDArray[np.float64], top: int, left: int, height: int, width: int) -> float:
    """Sum over a box, at least 0; a box that starts above or left of the image is moved in, as in skimage."""
    last = len(integral) - 1
    r0, c0 = min(max(top, 1), last), min(max(left, 1), last)
    r1, c1 = min(r0 + height, last), min(c0 + width, last)
    total = integral[r1, c1] - integral[r0, c1] - integral[r1, c0] + integral[r0, c0]
    return max(total, 0.0)


@numba.njit(cache=True)
def _hessian(integral: NDArray[np.float64], i: int, j: int, width: int) -> float:
    """Determinant of the box-filtered Hessian at one pixel, for a filter `width` pixels wide."""
    third, half = width // 3, (width - 1) // 2
    lobe = 2 * third - 1
    mixed = (
        _box(integral, i + 1, j - third, third, third)
        + _box(integral, i - third, j + 1, third, third)
        - _box(integral, i - third, j - third, third, third)
        - _box(integral, i + 1, j + 1, third, third)
    )
    across = _box(integral, i - third + 1, j - half, lobe, width)
    across -= 3.0 * _box(integral, i - third + 1, j - third // 2, lobe, third)
    down = _box(integral, i - half, j - third + 1, width, lobe)
    down -= 3.0 * _box(integral, i - third // 2, j - third + 1, third, lobe)
    return (across * down - 0.81 * mixed * mixed) / float(width) ** 4


@numba.njit(cache=True)
def _inner(integral: Any, top: int, left: int, height: int, width: int) -> float:
    """`_box` of a box that lies inside the image."""
    total = (
        integral[top + height, left + width]
        - integral[top, left + width]
        - integral[top + height, left]
        + integral[top, left]
    )
    return total if total > 0.0 else 0.0


@numba.njit(cache=True)
def _hessian_row(integral: Any, i: int, start: int, stop: int, width: int, shift: int, best: Any) -> None:
    """Raise `best` to `_hessian` for the pixels of a row whose boxes lie inside: no branches, so it is vectorised."""
    third, half = width // 3, (width - 1) // 2
    lobe = 2 * third - 1
    area = float(width) ** 4
    for j in range(start, stop):
        mixed = (
            _inner(integral, i + 1, j - third, third, third)
            + _inner(integral, i - third, j + 1, third, third)
            - _inner(integral, i - third, j - third, third, third)
            - _inner(integral, i + 1, j + 1, third, third)
        )
        across = _inner(integral, i - third + 1, j - half, lobe, width)
        across -= 3.0 * _inner(integral, i - third + 1, j - third // 2, lobe, third)
        down = _inner(integral, i - half, j - third + 1, width, lobe)
        down -= 3.0 * _inner(integral, i - third // 2, j - third + 1, third, lobe)
        value = (across * down - 0.81 * mixed * mixed) / area
        best[j - shift] = value if value > best[j - shift] else best[j - shift]


@numba.njit(cache=True)
def _largest_hessian(integral: NDArray[np.float64], widths: NDArray[np.int64], shift: int) -> NDArray[np.float64]:
    """Pixelwise largest positive response over the filter widths, `shift` pixels down and right."""
    size = len(integral) - 1
    out = np.zeros((size, size))
    for width in widths:
        # All boxes of the pixels from `start` to before `stop` lie inside the image.
        start = min(width, size)
        stop = max(start, size - width)
        for i in range(shift, size + shift):
            row = out[i - shift]
            inside = start <= i < stop
            for j in range(shift, start if inside else size + shift):
                row[j - shift] = max(row[j - shift], _hessian(integral, i, j, width))
            if inside:
                _hessian_row(integral, i, start, stop, width, shift, row)
                for j in range(stop, size + shift):
                    row[j - shift] = max(row[j - shift], _hessian(integral, i, j, width))
    return out
