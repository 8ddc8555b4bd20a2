"""Limits on the extent of scenes, checked before a grid is allocated."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

# Columns of a grid, 145 x 145 m at 5 cm; and pieces into which its triangles are cut: a few GB and seconds at the most.
MOST_COLUMNS = 2**23
MOST_PIECES = 2**24
# A place that is higher than this, in metres, is hardly one, but for its unit.
CENTIMETRES, MILLIMETRES = 100.0, 1000.0
# Triangles further from the middle than so many times the median distance are stray; how many of all may be.
STRAY, MOST_STRAY = 20.0, 0.1
# No place reaches further, metres.
LARGEST = 1e6
# Columns around a scene.
BORDER = 6

_log = logging.getLogger(__name__)


def check_grid_size(triangles: NDArray[np.float64], cell: float, name: str) -> None:
    """Refuse triangles over which a grid would be too large, or that would be cut into too many pieces.

    Args:
        triangles: (F, 3, 3) corners in metres.
        cell: Grid spacing, metres.
        name: Of the scene, for messages.

    Raises:
        ValueError: They are too large, or not finite; the message gives the extent and a likely cause.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = triangles.max(axis=(0, 1)) - triangles.min(axis=(0, 1))
        columns = (size[0] / cell + BORDER) * (size[2] / cell + BORDER)
        edges = np.roll(triangles, -1, axis=1) - triangles
        area = 0.5 * np.abs(edges[:, 0, 0] * edges[:, 1, 2] - edges[:, 0, 2] * edges[:, 1, 0])
        pieces = (area / cell**2 + np.abs(edges[:, :, ::2]).sum(axis=(1, 2)) / cell + 1.0).sum()
    if not (columns <= MOST_COLUMNS and pieces <= MOST_PIECES):  # not finite is neither
        layers = f" with {area.sum() / (size[0] * size[2]):.0f} layers" if columns <= MOST_COLUMNS else ""
        raise ValueError(
            f"scene {name} is {metres(size)}{layers}, too large for a grid of {cell:g} m{likely_cause(triangles, size)}"
        )
    if unit := unit_of(size):
        _log.warning("scene %s is %s; in %s? %s", name, metres(size), unit[0], scaled_by(unit[1]))


def check_extent(corners: NDArray[np.float64], name: str) -> None:
    """Refuse implausibly large meshes before they are stored in single precision.

    Args:
        corners: (F, 3, 3) corners of triangles in metres.
        name: Of the scene, for messages.

    Raises:
        ValueError: It is, or a corner is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = corners.max(axis=(0, 1)) - corners.min(axis=(0, 1))
    if not (size <= LARGEST).all():
        raise ValueError(f"scene {name} is {metres(size)}, which is no place{likely_cause(corners, size)}")


def likely_cause(triangles: NDArray[np.float64], size: NDArray[np.float64]) -> str:
    """The likely cause of an implausible extent, as the end of a message; empty if none is known."""
    if not np.isfinite(size).all():
        return ""
    centre = triangles.mean(axis=1)
    away = np.abs(centre - np.median(centre, axis=0)).max(axis=1)
    stray = away > STRAY * max(float(np.median(away)), 1e-6)
    if 0 < stray.sum() <= MOST_STRAY * len(stray):
        rest = triangles[~stray]
        return (
            f"; all but {stray.sum()} of its {len(stray)} triangles lie within "
            f"{metres(rest.max(axis=(0, 1)) - rest.min(axis=(0, 1)))}: take away the stray ones"
        )
    unit = unit_of(size)
    return f"; in {unit[0]}? {scaled_by(unit[1])}" if unit else ""


def unit_of(size: NDArray[np.float64]) -> tuple[str, float] | None:
    """The unit that an extent (3,) suggests, and its metres; None where it looks like metres."""
    if size[1] > MILLIMETRES:
        return "millimetres", 0.001
    return ("centimetres", 0.01) if size[1] > CENTIMETRES else None


def scaled_by(factor: float) -> str:
    """The hint for a mesh in another unit."""
    scale = f'"scale": [{factor:g}, {factor:g}, {factor:g}]'
    return f'a NAME.stage_config.json beside it with {{"up": [0, 1, 0], "front": [0, 0, -1], {scale}}} makes it metres'


def metres(size: NDArray[np.float64]) -> str:
    """An extent (3,) in words: across the floor, and the height."""
    across, high, along = (f"{v:.3g}" if not 100 <= v < 1e7 else f"{v:,.0f}" for v in size)
    return f"{across} x {along} m and {high} m high"
