"""From the polygons of a navigation mesh to the walkable grid: nodes at column centres, signed distance to the border.

A node inside the polygons keeps the agent's radius plus its distance to the border, one just outside the radius less
its distance to the polygons. So the interpolated clearance meets the radius on the border itself, and all that works on
grids made from triangles works on these.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from envs.navgrid import clearance as _clearance
from envs.navgrid import heightfield as _heightfield
from envs.navgrid.extent import MOST_COLUMNS, metres
from envs.navgrid.ground import Ground
from envs.navgrid.heightfield import DoubleArray, FloatArray, IntArray, kernel
from envs.navgrid.navmesh import NavMesh

# Cells around the polygons that interpolation and sliding read.
MARGIN = 3
# Distances to the border are exact up to here, metres; farther nodes keep this.
REACH = 1.5
# Surfaces less apart in height than this are one floor, metres.
STOREY = 0.5
# A point this far off the polygons is on them, metres: single precision of the file, and points that lie on the border.
TOLERANCE = 1e-3
FINER = (1.0, 0.5, 0.25)
# Columns that all triangles and border edges together may look at, a few seconds' work.
MOST_VISITS = 2**29

_log = logging.getLogger(__name__)


def ground_of(mesh: NavMesh, name: str) -> tuple[Ground, NDArray[np.float64], NDArray[np.float64]]:
    """Lay a grid over a navigation mesh.

    Args:
        mesh: The polygons.
        name: For messages.

    Returns:
        The ground, aligned with the voxels that the mesh was made of; the areas in m2 of its islands, which are those
        of the polygons, largest first; their radii in metres.
    """
    areas = mesh.areas
    order = np.argsort(-areas, kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    island = rank[mesh.island[mesh.polygon]]
    for share in FINER:
        ground = _lay(mesh, island, share * mesh.cell)
        split = _split_islands(ground, len(order))
        if len(split) == 0:
            break
    else:
        _log.warning("%s: narrow passages of islands %s are lost on the grid", name, split[:5].tolist())
    return ground, areas[order], mesh.radii[order]


def _lay(mesh: NavMesh, island: NDArray[np.int32], cell: float) -> Ground:
    corners = mesh.triangles.reshape(-1, 3)
    low = mesh.low.copy()
    # Whole cells below the lowest corner, so that nodes lie at the centres of the voxels.
    for k in (0, 2):
        low[k] -= cell * (np.ceil((low[k] - corners[:, k].min()) / cell) + MARGIN + 1)
    _check_size(mesh, low, cell)
    size = np.ceil((corners.max(axis=0) - low) / cell).astype(int) + MARGIN + 2
    nx, nz = int(size[0]), int(size[2])
    triangles = mesh.triangles.copy()
    triangles[..., 0] -= low[0]
    triangles[..., 2] -= low[2]
    column, height, apart, owner = _near_nodes(triangles, island, cell, nx, nz)
    order = np.lexsort((apart, column))
    column, height, label, outside = _levels(column[order], height[order], apart[order], owner[order])
    start = np.zeros(nx * nz + 1, np.int32)
    np.cumsum(np.bincount(column, minlength=nx * nz), out=start[1:])
    border = mesh.border.copy()
    border[..., 0] -= low[0]
    border[..., 2] -= low[2]
    inside = _border_distance(border, start, height, outside, cell, nx, nz)
    signed = np.where(outside > 0.0, -outside, inside) + TOLERANCE
    clear = np.maximum(mesh.radius + signed, 0.0).astype(np.float32)
    label = np.where(clear >= np.float32(mesh.radius), label, -1).astype(np.int32)
    near = _heightfield.link(start, column, height, nx, nz, max(mesh.climb, cell))
    return Ground(
        start, column, height, clear, label, near,
        float(low[0]), float(low[2]), float(cell), nx, nz, float(mesh.radius), float(max(mesh.climb, cell)),
    )  # fmt: skip


def _check_size(mesh: NavMesh, low: NDArray[np.float64], cell: float) -> None:
    """Refuse a grid of too many columns, or triangles and edges that would each visit too many of them.

    Raises:
        ValueError: It is.
    """
    corners = mesh.triangles.reshape(-1, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(corners.max(axis=0) - low, corners.max(axis=0) - corners.min(axis=0))
        visits = [
            ((ends.max(axis=1) - ends.min(axis=1))[:, ::2] / cell + 2.0 * reach / cell + 2.0).prod(axis=1).sum()
            for ends, reach in ((mesh.triangles, MARGIN * cell), (mesh.border, REACH))
        ]
    if not (size[0] * size[2] / cell**2 <= MOST_COLUMNS and sum(visits) <= MOST_VISITS):
        raise ValueError(
            f"the navigation mesh is {metres(size)} with {len(mesh.triangles)} triangles, "
            f"too large for a grid of {cell:g} m"
        )


def _split_islands(ground: Ground, count: int) -> NDArray[np.int64]:
    """Islands whose nodes are not connected on the grid, or that have no node."""
    parts = _clearance.components(ground.island, ground.near)
    pairs = np.unique(np.stack([ground.island, parts])[:, ground.island >= 0], axis=1)
    return np.flatnonzero(np.bincount(pairs[0], minlength=count) > 1)


@kernel
def _nearest_on_segment(px: float, pz: float, ax: float, az: float, bx: float, bz: float) -> tuple[float, float]:
    """Squared distance from (px, pz) to a segment, and the share of the way from its first end to the nearest point."""
    dx, dz = bx - ax, bz - az
    length = dx * dx + dz * dz
    t = 0.0
    if length > 0.0:
        t = min(max(((px - ax) * dx + (pz - az) * dz) / length, 0.0), 1.0)
    qx, qz = ax + t * dx - px, az + t * dz - pz
    return qx * qx + qz * qz, t


@kernel
def _nearest_on_triangle(tri: DoubleArray, px: float, pz: float) -> tuple[float, float]:
    """Distance from (px, pz) to a triangle seen from above, 0 inside, and the height of the nearest point."""
    ax, az, bx, bz, cx, cz = tri[0, 0], tri[0, 2], tri[1, 0], tri[1, 2], tri[2, 0], tri[2, 2]
    det = (bx - ax) * (cz - az) - (cx - ax) * (bz - az)
    if abs(det) > 1e-12:
        u = ((px - ax) * (cz - az) - (cx - ax) * (pz - az)) / det
        v = ((bx - ax) * (pz - az) - (px - ax) * (bz - az)) / det
        if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
            return 0.0, tri[0, 1] + u * (tri[1, 1] - tri[0, 1]) + v * (tri[2, 1] - tri[0, 1])
    best, height = np.inf, 0.0
    for k in range(3):
        m = (k + 1) % 3
        gap, t = _nearest_on_segment(px, pz, tri[k, 0], tri[k, 2], tri[m, 0], tri[m, 2])
        if gap < best:
            best, height = gap, tri[k, 1] + t * (tri[m, 1] - tri[k, 1])
    return np.sqrt(best), height


@kernel
def _near_nodes(
    triangles: DoubleArray, island: IntArray, cell: float, nx: int, nz: int
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Columns whose centre lies on or near a triangle: column, height, distance (0 inside) and island of each find."""
    capacity = 4 * nx * nz + 1024
    column = np.empty(capacity, np.int32)
    height, apart = np.empty(capacity, np.float32), np.empty(capacity, np.float32)
    owner = np.empty(capacity, np.int32)
    count = 0
    reach = MARGIN * cell
    for f in range(len(triangles)):
        tri = triangles[f]
        x_low = max(int(np.floor((tri[:, 0].min() - reach) / cell)), 0)
        x_high = min(int(np.floor((tri[:, 0].max() + reach) / cell)), nx - 1)
        z_low = max(int(np.floor((tri[:, 2].min() - reach) / cell)), 0)
        z_high = min(int(np.floor((tri[:, 2].max() + reach) / cell)), nz - 1)
        for iz in range(z_low, z_high + 1):
            if count + x_high - x_low + 1 > capacity:
                capacity = 2 * capacity + nx
                column = np.concatenate((column, np.empty(capacity - len(column), np.int32)))
                height = np.concatenate((height, np.empty(capacity - len(height), np.float32)))
                apart = np.concatenate((apart, np.empty(capacity - len(apart), np.float32)))
                owner = np.concatenate((owner, np.empty(capacity - len(owner), np.int32)))
            for ix in range(x_low, x_high + 1):
                gap, y = _nearest_on_triangle(tri, (ix + 0.5) * cell, (iz + 0.5) * cell)
                if gap <= reach:
                    column[count], height[count], apart[count], owner[count] = iz * nx + ix, y, gap, island[f]
                    count += 1
    return column[:count], height[:count], apart[:count], owner[:count]


@kernel
def _levels(
    column: IntArray, height: FloatArray, apart: FloatArray, owner: IntArray
) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """Of finds ordered by column and distance, the nearest of each storey: column, height, island, distance."""
    keep = np.empty(len(column), np.int64)
    count = first = 0
    for i in range(len(column)):
        if i == 0 or column[i] != column[i - 1]:
            first = count
        new = True
        for k in range(first, count):
            if abs(height[keep[k]] - height[i]) < STOREY:
                new = False
        if new:
            keep[count] = i
            count += 1
    # Levels of a column ascend.
    chosen = keep[:count]
    for k in range(1, count):
        m = k
        while m > 0 and column[chosen[m - 1]] == column[chosen[m]] and height[chosen[m - 1]] > height[chosen[m]]:
            chosen[m - 1], chosen[m] = chosen[m], chosen[m - 1]
            m -= 1
    return column[chosen], height[chosen], owner[chosen], apart[chosen]


@kernel
def _border_distance(
    border: DoubleArray, start: IntArray, height: FloatArray, outside: FloatArray, cell: float, nx: int, nz: int
) -> DoubleArray:
    """Distance (M,) in metres from the nodes inside the polygons to the nearest border edge, at most `REACH`."""
    out = np.full(len(height), REACH * REACH)
    for e in range(len(border)):
        a, b = border[e, 0], border[e, 1]
        x_low = max(int(np.floor((min(a[0], b[0]) - REACH) / cell)), 0)
        x_high = min(int(np.floor((max(a[0], b[0]) + REACH) / cell)), nx - 1)
        z_low = max(int(np.floor((min(a[2], b[2]) - REACH) / cell)), 0)
        z_high = min(int(np.floor((max(a[2], b[2]) + REACH) / cell)), nz - 1)
        for iz in range(z_low, z_high + 1):
            for ix in range(x_low, x_high + 1):
                gap, t = _nearest_on_segment((ix + 0.5) * cell, (iz + 0.5) * cell, a[0], a[2], b[0], b[2])
                y = a[1] + t * (b[1] - a[1])
                c = iz * nx + ix
                for i in range(start[c], start[c + 1]):
                    # On a slope of 45 degrees the floor may have risen by the distance.
                    if outside[i] == 0.0 and gap < out[i] and abs(height[i] - y) <= STOREY + np.sqrt(gap):
                        out[i] = gap
    return np.sqrt(out)
