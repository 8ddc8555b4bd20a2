"""Points on the floor: look-up by position, clearance, line of sight, movement with sliding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.navgrid.heightfield import DoubleArray, FloatArray, IntArray, fused_kernel, kernel

# Height between a query and the floor that still counts, metres (habitat-sim's is_navigable).
LEVEL_TOLERANCE = 0.5
# How far a line of sight may cut into the margin around obstacles, in cells.
SIGHT_SLACK = 0.2


Stencil = tuple[int, int, int, int, float, float]


class Ground(NamedTuple):
    """The navigable floor: nodes at column centres, bilinear interpolation between them.

    A point is navigable where the interpolated clearance is at least `radius` and a node of an island is beside
    it.

    Attributes:
        start: (columns + 1,) int32; column c = iz * nx + ix holds the nodes start[c]:start[c + 1].
        column: (M,) int32 column of each node.
        height: (M,) float32 floor y.
        clear: (M,) float32 distance to the nearest wall or drop, metres.
        island: (M,) int32 island of each navigable node, -1 for the nodes just outside.
        near: (M, 4) int32 neighbours to -x, +x, -z, +z, or -1.
        x0: World x of the grid's corner.
        z0: World z of the grid's corner.
        cell: Cell size, metres.
        nx: Columns along x.
        nz: Columns along z.
        radius: Agent radius, metres.
        climb: Largest step in height, metres.
    """

    start: IntArray
    column: IntArray
    height: FloatArray
    clear: FloatArray
    island: IntArray
    near: IntArray
    x0: float
    z0: float
    cell: float
    nx: int
    nz: int
    radius: float
    climb: float


@kernel
def level(g: Ground, ix: int, iz: int, y: float, tolerance: float) -> int:
    """Node of column (ix, iz) nearest in height to y within `tolerance`, or -1."""
    if ix < 0 or iz < 0 or ix >= g.nx or iz >= g.nz:
        return -1
    c = iz * g.nx + ix
    best = -1
    for i in range(g.start[c], g.start[c + 1]):
        gap = abs(g.height[i] - y)
        if gap <= tolerance:
            best = i
            tolerance = gap
    return best


@kernel
def stencil(g: Ground, x: float, y: float, z: float, tolerance: float) -> Stencil:
    """The four nodes (-1 if none) around (x, z) at the floor level nearest to y, the fractions in x and z."""
    u = (x - g.x0) / g.cell - 0.5
    v = (z - g.z0) / g.cell - 0.5
    ix, iz = int(np.floor(u)), int(np.floor(v))
    a = level(g, ix, iz, y, tolerance)
    b = level(g, ix + 1, iz, y, tolerance)
    c = level(g, ix, iz + 1, y, tolerance)
    d = level(g, ix + 1, iz + 1, y, tolerance)
    best = np.inf
    ref = y
    for i in (a, b, c, d):
        if i >= 0 and abs(g.height[i] - y) < best:
            best = abs(g.height[i] - y)
            ref = np.float64(g.height[i])
    reach = 2.0 * g.climb + 1e-3
    a = a if a >= 0 and abs(g.height[a] - ref) <= reach else -1
    b = b if b >= 0 and abs(g.height[b] - ref) <= reach else -1
    c = c if c >= 0 and abs(g.height[c] - ref) <= reach else -1
    d = d if d >= 0 and abs(g.height[d] - ref) <= reach else -1
    return a, b, c, d, u - ix, v - iz


@kernel
def clear_at(g: Ground, s: Stencil) -> float:
    """Interpolated clearance of a stencil; nodes that are missing lie inside obstacles and count 0."""
    a, b, c, d, fx, fz = s
    total = 0.0
    if a >= 0:
        total += (1 - fx) * (1 - fz) * g.clear[a]
    if b >= 0:
        total += fx * (1 - fz) * g.clear[b]
    if c >= 0:
        total += (1 - fx) * fz * g.clear[c]
    if d >= 0:
        total += fx * fz * g.clear[d]
    return total


@kernel
def slope_at(g: Ground, s: Stencil) -> tuple[float, float]:
    """Gradient (x, z) of the interpolated clearance."""
    a, b, c, d, fx, fz = s
    ca = g.clear[a] if a >= 0 else 0.0
    cb = g.clear[b] if b >= 0 else 0.0
    cc = g.clear[c] if c >= 0 else 0.0
    cd = g.clear[d] if d >= 0 else 0.0
    dx = ((cb - ca) * (1 - fz) + (cd - cc) * fz) / g.cell
    dz = ((cc - ca) * (1 - fx) + (cd - cb) * fx) / g.cell
    return dx, dz


@kernel
def height_at(g: Ground, s: Stencil, y: float) -> float:
    """Interpolated floor height of a stencil, y where it is empty."""
    a, b, c, d, fx, fz = s
    total = weight = 0.0
    if a >= 0:
        w = (1 - fx) * (1 - fz) + 1e-9
        total, weight = total + w * g.height[a], weight + w
    if b >= 0:
        w = fx * (1 - fz) + 1e-9
        total, weight = total + w * g.height[b], weight + w
    if c >= 0:
        w = (1 - fx) * fz + 1e-9
        total, weight = total + w * g.height[c], weight + w
    if d >= 0:
        w = fx * fz + 1e-9
        total, weight = total + w * g.height[d], weight + w
    return total / weight if weight > 0.0 else y


@kernel
def island_at(g: Ground, s: Stencil) -> int:
    """Island of the nearest island node of a stencil, -1 if the point is not navigable."""
    if clear_at(g, s) < g.radius:
        return -1
    a, b, c, d, fx, fz = s
    best, label = -1.0, -1
    for i, w in ((a, (1 - fx) * (1 - fz)), (b, fx * (1 - fz)), (c, (1 - fx) * fz), (d, fx * fz)):
        if i >= 0 and g.island[i] >= 0 and w > best:
            best, label = w, g.island[i]
    return label


@kernel
def on_island(g: Ground, s: Stencil, island: int) -> bool:
    """Whether a stencil is navigable and beside a node of `island`."""
    if clear_at(g, s) < g.radius:
        return False
    a, b, c, d, _, _ = s
    for i in (a, b, c, d):
        if i >= 0 and g.island[i] == island:
            return True
    return False


@fused_kernel
def _interpolate(
    start: IntArray,
    height: FloatArray,
    clear: FloatArray,
    nx: int,
    nz: int,
    u: float,
    v: float,
    y: float,
    reach: float,
) -> tuple[float, float]:
    """Clearance and floor height at (u, v) in cells, as `clear_at` and `height_at` of a stencil, but fast.

    It is the innermost loop of all and takes plain arrays, because passing the whole ground costs more than the sum.
    """
    ix, iz = int(np.floor(u)), int(np.floor(v))
    if ix < 0 or iz < 0 or ix + 1 >= nx or iz + 1 >= nz:
        return 0.0, y
    total = level = weight = 0.0
    for k in range(4):
        i, j = k & 1, k >> 1
        c = (iz + j) * nx + ix + i
        w = (u - ix if i else 1.0 - u + ix) * (v - iz if j else 1.0 - v + iz)
        for node in range(start[c], start[c + 1]):
            if abs(height[node] - y) <= reach:
                total += w * clear[node]
                level += w * height[node]
                weight += w
    return total, (level / weight if weight > 0.0 else y)


@kernel
def sight(g: Ground, x: float, y: float, z: float, x1: float, y1: float, z1: float) -> tuple[float, float]:
    """Walk straight from (x, z) at floor height y to (x1, z1) at y1: share of the way that is free, floor y there.

    The share is 1 where the whole way is navigable and y1 is the floor's height at its end.
    """
    du, dv = (x1 - x) / g.cell, (z1 - z) / g.cell
    u0, v0 = (x - g.x0) / g.cell - 0.5, (z - g.z0) / g.cell - 0.5
    length = np.sqrt(du * du + dv * dv)
    least = g.radius / g.cell - SIGHT_SLACK
    reach = 2.0 * g.climb + 1e-3
    along = 0.0
    while along < length:
        u, v = u0 + du * along / length, v0 + dv * along / length
        total, at = _interpolate(g.start, g.height, g.clear, g.nx, g.nz, u, v, y, reach)
        room = total / g.cell - least
        if room < 0.0:
            return along / length, y
        y = at
        # The interpolated clearance changes by at most sqrt 2 per metre.
        along += max(0.7 * room, 0.5)
    return (1.0 if abs(y - y1) <= reach else 0.0), y


@kernel
def sees(g: Ground, x: float, y: float, z: float, x1: float, y1: float, z1: float) -> bool:
    """Whether the straight walk from (x, z) at floor height y to (x1, z1) at y1 stays on navigable floor."""
    return sight(g, x, y, z, x1, y1, z1)[0] == 1.0


@fused_kernel
def _slide(g: Ground, x: float, y: float, z: float, island: int) -> tuple[bool, float, float]:
    """Push (x, z) out of the margin of obstacles along the clearance gradient: found, x, z."""
    for _ in range(4):
        s = stencil(g, x, y, z, 2.0 * g.climb)
        lack = g.radius - clear_at(g, s)
        if lack <= 0.0:
            return on_island(g, s, island), x, z
        dx, dz = slope_at(g, s)
        steep = dx * dx + dz * dz
        if steep < 1e-2:
            return False, x, z
        x += (lack + 1e-5) * dx / steep
        z += (lack + 1e-5) * dz / steep
    s = stencil(g, x, y, z, 2.0 * g.climb)
    return on_island(g, s, island), x, z


@kernel
def move(
    g: Ground, x: float, y: float, z: float, dx: float, dz: float, sliding: bool
) -> tuple[float, float, float, bool]:
    """Walk from a navigable point by (dx, dz), sliding along obstacles: x, y, z, whether it was held back.

    Where a small step would leave the navigable floor it ends at its projection on the boundary, so that the part
    of the motion along a wall remains. Held back as in habitat-sim: moved^2 + 1e-5 < asked^2, heights included, so
    that a step up a slope is none.
    """
    s = stencil(g, x, y, z, LEVEL_TOLERANCE)
    island = island_at(g, s)
    length = np.sqrt(dx * dx + dz * dz)
    if island < 0 or length == 0.0:
        return x, y, z, length > 0.0
    y = height_at(g, s, y)
    start_x, start_y, start_z = x, y, z
    ux, uz = dx / length, dz / length
    done = 0.0
    straight = True
    while done < length:
        # The interpolated clearance changes by at most sqrt 2 per metre.
        stride = min(max(0.7 * (clear_at(g, s) - g.radius), 0.4 * g.cell), length - done)
        done = done + stride if done + stride < length - 1e-9 else length
        px, pz = x + ux * stride, z + uz * stride
        if straight:  # without rounding errors piling up
            px, pz = start_x + ux * done, start_z + uz * done
        s = stencil(g, px, y, pz, 2.0 * g.climb)
        if not on_island(g, s, island):
            straight = False
            found, px, pz = _slide(g, px, y, pz, island)
            if not sliding or not found or (px - x) * ux + (pz - z) * uz <= 1e-3 * stride:
                break
            s = stencil(g, px, y, pz, 2.0 * g.climb)
        x, z = px, pz
        y = height_at(g, s, y)
    moved = (x - start_x) ** 2 + (y - start_y) ** 2 + (z - start_z) ** 2
    return x, y, z, moved + 1e-5 < length * length


@kernel
def step_all(
    g: Ground, position: DoubleArray, heading: DoubleArray, distance: float, sliding: bool
) -> tuple[DoubleArray, NDArray[np.bool_]]:
    """`move` of N agents along their headings: positions (N, 3) float64, held back (N,) bool."""
    out = np.empty_like(position)
    hit = np.empty(len(position), np.bool_)
    for i in range(len(position)):
        x, y, z = position[i]
        dx, dz = -np.sin(heading[i]) * distance, -np.cos(heading[i]) * distance
        out[i, 0], out[i, 1], out[i, 2], hit[i] = move(g, x, y, z, dx, dz, sliding)
    return out, hit


@kernel
def island_all(g: Ground, position: DoubleArray) -> IntArray:
    """Island (N,) int32 of each position, -1 off the floor."""
    out = np.empty(len(position), np.int32)
    for i in range(len(position)):
        s = stencil(g, position[i, 0], position[i, 1], position[i, 2], LEVEL_TOLERANCE)
        out[i] = island_at(g, s)
    return out


@kernel
def clear_all(g: Ground, position: DoubleArray) -> DoubleArray:
    """Distance (N,) of each position to the nearest wall or drop, 0 off the floor."""
    out = np.empty(len(position))
    for i in range(len(position)):
        out[i] = clear_at(g, stencil(g, position[i, 0], position[i, 1], position[i, 2], LEVEL_TOLERANCE))
    return out


@kernel
def node_position(g: Ground, i: int) -> tuple[float, float, float]:
    """World position x, y, z of a node."""
    x = g.x0 + (g.column[i] % g.nx + 0.5) * g.cell
    z = g.z0 + (g.column[i] // g.nx + 0.5) * g.cell
    return x, np.float64(g.height[i]), z


@fused_kernel
def _nearest_in_column(g: Ground, c: int, x: float, y: float, z: float, island: int, least: float) -> tuple[float, int]:
    """Node of `island` (any if -1) in column c nearer than `least` (squared): squared distance, node or -1."""
    node = -1
    for i in range(g.start[c], g.start[c + 1]):
        if g.island[i] >= 0 and (island < 0 or g.island[i] == island):
            nx, ny, nz = node_position(g, i)
            gap = (nx - x) ** 2 + (ny - y) ** 2 + (nz - z) ** 2
            if gap < least:
                least, node = gap, i
    return least, node


@kernel
def nearest_node(g: Ground, x: float, y: float, z: float, island: int, reach: float) -> int:
    """Nearest node of `island` (any if -1) within `reach` metres, in rings around (x, z); -1 if none."""
    cx, cz = int(np.floor((x - g.x0) / g.cell)), int(np.floor((z - g.z0) / g.cell))
    best, node = reach * reach, -1
    for ring in range(int(reach / g.cell) + 2):
        if ring > 1 and ((ring - 1) * g.cell) ** 2 > best:
            break
        for jz in range(max(cz - ring, 0), min(cz + ring + 1, g.nz)):
            stride = 1 if abs(jz - cz) == ring else 2 * ring
            for jx in range(cx - ring, cx + ring + 1, max(stride, 1)):
                if 0 <= jx < g.nx:
                    gap, found = _nearest_in_column(g, jz * g.nx + jx, x, y, z, island, best)
                    if found >= 0:
                        best, node = gap, found
    return node


@fused_kernel
def snap(g: Ground, x: float, y: float, z: float, island: int, reach: float) -> tuple[float, float, float]:
    """Nearest navigable point to (x, y, z) on `island` (any if -1), NaN where none is within `reach` metres."""
    s = stencil(g, x, y, z, LEVEL_TOLERANCE)
    label = island_at(g, s)
    if label >= 0 and (island < 0 or label == island):
        return x, height_at(g, s, y), z
    i = nearest_node(g, x, y, z, island, reach)
    if i < 0:
        return np.nan, np.nan, np.nan
    # From the nearest node towards the point for as long as there is floor, at most one cell.
    px, py, pz = node_position(g, i)
    share = min(1.0, g.cell / max(np.sqrt((x - px) ** 2 + (z - pz) ** 2), 1e-9))
    for k in range(10, -1, -1):
        qx, qz = px + 0.1 * k * share * (x - px), pz + 0.1 * k * share * (z - pz)
        s = stencil(g, qx, py, qz, 2.0 * g.climb)
        if on_island(g, s, np.int64(g.island[i])):
            break
    return qx, height_at(g, s, py), qz


@kernel
def snap_all(g: Ground, position: DoubleArray, island: int, reach: float) -> DoubleArray:
    """`snap` for positions (N, 3)."""
    out = np.empty(position.shape)
    for n in range(len(position)):
        x, y, z = snap(g, position[n, 0], position[n, 1], position[n, 2], island, reach)
        out[n, 0], out[n, 1], out[n, 2] = x, y, z
    return out


def check_positions(position: ArrayLike) -> DoubleArray:
    """As (N, 3) float64, or a ValueError that says what was given."""
    array = np.ascontiguousarray(position, np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"positions have shape {array.shape}; give (N, 3): x, y, z in metres")
    return array
