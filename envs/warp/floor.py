"""Warp kernels: lookup in the walkable grids of all scenes.

The functions of `envs.navgrid.ground` with the same names, in the same order of operations and in double precision.
What they
mean is said there.
"""

import warp as wp

from envs.warp.launching import KERNEL_OPTIONS

wp.set_module_options(dict(KERNEL_OPTIONS))

real = wp.float64

FAR = wp.constant(wp.float64(1.0e300))
LEVEL_TOLERANCE = wp.constant(wp.float64(0.5))
ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
HALF = wp.constant(wp.float64(0.5))


@wp.struct
class SceneGrid:
    """The grid of one scene: where its nodes and columns begin in `DeviceFloor`, its frame and its limits."""

    first_node: wp.int32
    first_column: wp.int32
    nx: wp.int32
    nz: wp.int32
    x0: wp.float64
    z0: wp.float64
    cell: wp.float64
    radius: wp.float64
    climb: wp.float64


@wp.struct
class DeviceFloor:
    """The nodes of all scenes one after the other; see `envs.navgrid.ground.Ground`.

    Each scene has one entry of `start` more than it has columns.
    """

    start: wp.array(dtype=wp.int32)
    column: wp.array(dtype=wp.int32)
    height: wp.array(dtype=wp.float32)
    clear: wp.array(dtype=wp.float32)
    island: wp.array(dtype=wp.int32)


@wp.struct
class Stencil:
    """The four nodes around a point and the fractions in x and z."""

    a: wp.int32
    b: wp.int32
    c: wp.int32
    d: wp.int32
    fx: wp.float64
    fz: wp.float64


@wp.func
def level(f: DeviceFloor, p: SceneGrid, ix: int, iz: int, y: wp.float64, tolerance: wp.float64) -> int:
    """Node of a column nearest in height to y within `tolerance`, or -1."""
    if ix < 0 or iz < 0 or ix >= p.nx or iz >= p.nz:
        return -1
    c = p.first_column + iz * p.nx + ix
    best = int(-1)
    least = real(tolerance)
    for i in range(f.start[c], f.start[c + 1]):
        gap = wp.abs(real(f.height[i]) - y)
        if gap <= least:
            best = i
            least = gap
    return best


@wp.func
def nearest_level(f: DeviceFloor, i: int, y: wp.float64, least: wp.float64, otherwise: wp.float64) -> wp.float64:
    """Height of node i if it is nearer to y than `least`."""
    if i >= 0:
        if wp.abs(real(f.height[i]) - y) < least:
            return real(f.height[i])
    return otherwise


@wp.func
def kept(f: DeviceFloor, i: int, height: wp.float64, reach: wp.float64) -> int:
    """Node i if it is within `reach` of a height."""
    if i >= 0:
        if wp.abs(real(f.height[i]) - height) <= reach:
            return i
    return -1


@wp.func
def stencil(
    f: DeviceFloor, p: SceneGrid, x: wp.float64, y: wp.float64, z: wp.float64, tolerance: wp.float64
) -> Stencil:
    """The four nodes around (x, z) at the floor level nearest to y."""
    u = (x - p.x0) / p.cell - HALF
    v = (z - p.z0) / p.cell - HALF
    ix = int(wp.floor(u))
    iz = int(wp.floor(v))
    a = level(f, p, ix, iz, y, tolerance)
    b = level(f, p, ix + 1, iz, y, tolerance)
    c = level(f, p, ix, iz + 1, y, tolerance)
    d = level(f, p, ix + 1, iz + 1, y, tolerance)
    # Without a node the reference is y itself, at a gap of nothing: only a first node may replace it.
    at = nearest_level(f, a, y, FAR, y)
    gap = wp.where(a >= 0, wp.abs(at - y), FAR)
    at = nearest_level(f, b, y, gap, at)
    gap = wp.where(b >= 0, wp.min(gap, wp.abs(at - y)), gap)
    at = nearest_level(f, c, y, gap, at)
    gap = wp.where(c >= 0, wp.min(gap, wp.abs(at - y)), gap)
    at = nearest_level(f, d, y, gap, at)
    reach = real(2.0) * p.climb + real(1.0e-3)
    s = Stencil()
    s.a = kept(f, a, at, reach)
    s.b = kept(f, b, at, reach)
    s.c = kept(f, c, at, reach)
    s.d = kept(f, d, at, reach)
    s.fx = u - real(ix)
    s.fz = v - real(iz)
    return s


@wp.func
def clear_of(f: DeviceFloor, i: int) -> wp.float64:
    """Clearance of a node, 0 where it is missing."""
    if i >= 0:
        return real(f.clear[i])
    return ZERO


@wp.func
def clear_at(f: DeviceFloor, s: Stencil) -> wp.float64:
    """Interpolated clearance of a stencil."""
    return (
        (ONE - s.fx) * (ONE - s.fz) * clear_of(f, s.a)
        + s.fx * (ONE - s.fz) * clear_of(f, s.b)
        + (ONE - s.fx) * s.fz * clear_of(f, s.c)
        + s.fx * s.fz * clear_of(f, s.d)
    )


@wp.func
def height_at(f: DeviceFloor, s: Stencil, y: wp.float64) -> wp.float64:
    """Interpolated floor height of a stencil, y where it is empty."""
    total = real(0.0)
    weight = real(0.0)
    tiny = real(1.0e-9)
    if s.a >= 0:
        w = (ONE - s.fx) * (ONE - s.fz) + tiny
        total = total + w * real(f.height[s.a])
        weight = weight + w
    if s.b >= 0:
        w = s.fx * (ONE - s.fz) + tiny
        total = total + w * real(f.height[s.b])
        weight = weight + w
    if s.c >= 0:
        w = (ONE - s.fx) * s.fz + tiny
        total = total + w * real(f.height[s.c])
        weight = weight + w
    if s.d >= 0:
        w = s.fx * s.fz + tiny
        total = total + w * real(f.height[s.d])
        weight = weight + w
    if weight > ZERO:
        return total / weight
    return y


@wp.func
def island_of(f: DeviceFloor, i: int) -> int:
    """Island of a node, -1 where it is missing."""
    if i >= 0:
        return f.island[i]
    return -1


@wp.func
def island_at(f: DeviceFloor, p: SceneGrid, s: Stencil) -> int:
    """Island of the nearest island node of a stencil, -1 if the point is not navigable."""
    if clear_at(f, s) < p.radius:
        return -1
    best = real(-1.0)
    label = int(-1)
    w = (ONE - s.fx) * (ONE - s.fz)
    if island_of(f, s.a) >= 0 and w > best:
        best = w
        label = island_of(f, s.a)
    w = s.fx * (ONE - s.fz)
    if island_of(f, s.b) >= 0 and w > best:
        best = w
        label = island_of(f, s.b)
    w = (ONE - s.fx) * s.fz
    if island_of(f, s.c) >= 0 and w > best:
        best = w
        label = island_of(f, s.c)
    w = s.fx * s.fz
    if island_of(f, s.d) >= 0 and w > best:
        label = island_of(f, s.d)
    return label


@wp.func
def on_island(f: DeviceFloor, p: SceneGrid, s: Stencil, island: int) -> bool:
    """Whether a stencil is navigable and beside a node of `island`, which is not -1."""
    if clear_at(f, s) < p.radius:
        return False
    return (
        island_of(f, s.a) == island
        or island_of(f, s.b) == island
        or island_of(f, s.c) == island
        or island_of(f, s.d) == island
    )


@wp.func
def node_x(f: DeviceFloor, p: SceneGrid, i: int) -> wp.float64:
    """World x of a node."""
    return p.x0 + (real(f.column[i] % p.nx) + HALF) * p.cell


@wp.func
def node_z(f: DeviceFloor, p: SceneGrid, i: int) -> wp.float64:
    """World z of a node."""
    return p.z0 + (real(f.column[i] / p.nx) + HALF) * p.cell
