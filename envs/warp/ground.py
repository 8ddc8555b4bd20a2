"""Warp kernels: movement and geodesic distance on the walkable grids of all scenes.

The functions of `envs.navgrid.ground` and `envs.navgrid.follower` with the same names, in the same order of
operations and in double
precision, so that an agent here goes where it goes there. What they mean is said there.
"""

import warp as wp

from envs.warp.floor import (
    FAR,
    HALF,
    LEVEL_TOLERANCE,
    ONE,
    ZERO,
    DeviceFloor,
    SceneGrid,
    Stencil,
    clear_at,
    clear_of,
    height_at,
    island_at,
    node_x,
    node_z,
    on_island,
    real,
    stencil,
)
from envs.warp.launching import KERNEL_OPTIONS

wp.set_module_options(dict(KERNEL_OPTIONS))

NO_VERTEX = wp.constant(wp.uint16(65535))
SIGHT_SLACK = wp.constant(wp.float64(0.2))
SNAP_REACH = wp.constant(wp.float64(2.0))
PROJECTION = wp.constant(wp.float64(0.3))


@wp.struct
class PathTrees:
    """Shortest paths to the goals in use, one slot each (`envs.navgrid.geodesics.PathTree`), and the islands of the
    goals.
    """

    vertex: wp.array2d(dtype=wp.uint16)
    position: wp.array3d(dtype=wp.float64)
    cost: wp.array2d(dtype=wp.float64)
    island: wp.array(dtype=wp.int32)


@wp.struct
class Moved:
    """The end of a step."""

    x: wp.float64
    y: wp.float64
    z: wp.float64
    held: wp.bool


@wp.struct
class Slid:
    """A point moved out of obstacles, and whether it is on the floor."""

    found: wp.bool
    x: wp.float64
    z: wp.float64


@wp.func
def sees(
    f: DeviceFloor,
    p: SceneGrid,
    x: wp.float64,
    y: wp.float64,
    z: wp.float64,
    x1: wp.float64,
    y1: wp.float64,
    z1: wp.float64,
) -> bool:
    """Whether the straight walk from (x, z) at floor height y to (x1, z1) at y1 stays on navigable floor."""
    du = (x1 - x) / p.cell
    dv = (z1 - z) / p.cell
    u0 = (x - p.x0) / p.cell - HALF
    v0 = (z - p.z0) / p.cell - HALF
    length = wp.sqrt(du * du + dv * dv)
    least = p.radius / p.cell - SIGHT_SLACK
    reach = real(2.0) * p.climb + real(1.0e-3)
    along = real(0.0)
    at = real(y)
    while along < length:
        u = u0 + du * along / length
        v = v0 + dv * along / length
        ix = int(wp.floor(u))
        iz = int(wp.floor(v))
        clear = real(0.0)
        if ix >= 0 and iz >= 0 and ix + 1 < p.nx and iz + 1 < p.nz:
            height = real(0.0)
            weight = real(0.0)
            for k in range(4):
                i = k & 1
                j = k >> 1
                c = p.first_column + (iz + j) * p.nx + ix + i
                w = wp.where(i == 1, u - real(ix), ONE - u + real(ix)) * wp.where(
                    j == 1, v - real(iz), ONE - v + real(iz)
                )
                for node in range(f.start[c], f.start[c + 1]):
                    if wp.abs(real(f.height[node]) - at) <= reach:
                        clear = clear + w * real(f.clear[node])
                        height = height + w * real(f.height[node])
                        weight = weight + w
            if weight > ZERO:
                at = height / weight
        room = clear / p.cell - least
        if room < ZERO:
            return False
        along = along + wp.max(real(0.7) * room, HALF)
    return wp.abs(at - y1) <= reach


@wp.func
def slide(f: DeviceFloor, p: SceneGrid, x: wp.float64, y: wp.float64, z: wp.float64, island: int) -> Slid:
    """Push (x, z) out of the margin of obstacles along the clearance gradient."""
    out = Slid()
    out.found = False
    px = real(x)
    pz = real(z)
    tries = int(0)
    while tries < 4:
        s = stencil(f, p, px, y, pz, real(2.0) * p.climb)
        lack = p.radius - clear_at(f, s)
        if lack <= ZERO:
            out.found = on_island(f, p, s, island)
            out.x = px
            out.z = pz
            return out
        ca = clear_of(f, s.a)
        cb = clear_of(f, s.b)
        cc = clear_of(f, s.c)
        cd = clear_of(f, s.d)
        dx = ((cb - ca) * (ONE - s.fz) + (cd - cc) * s.fz) / p.cell
        dz = ((cc - ca) * (ONE - s.fx) + (cd - cb) * s.fx) / p.cell
        steep = dx * dx + dz * dz
        if steep < real(1.0e-2):
            out.x = px
            out.z = pz
            return out
        px = px + (lack + real(1.0e-5)) * dx / steep
        pz = pz + (lack + real(1.0e-5)) * dz / steep
        tries = tries + 1
    out.found = on_island(f, p, stencil(f, p, px, y, pz, real(2.0) * p.climb), island)
    out.x = px
    out.z = pz
    return out


@wp.func
def move(
    f: DeviceFloor,
    p: SceneGrid,
    start_x: wp.float64,
    start_y: wp.float64,
    start_z: wp.float64,
    dx: wp.float64,
    dz: wp.float64,
    sliding: bool,
) -> Moved:
    """Walk from a navigable point by (dx, dz), sliding along obstacles."""
    out = Moved()
    out.x = start_x
    out.y = start_y
    out.z = start_z
    s = stencil(f, p, start_x, start_y, start_z, LEVEL_TOLERANCE)
    island = island_at(f, p, s)
    length = wp.sqrt(dx * dx + dz * dz)
    out.held = length > ZERO
    if island < 0 or length == ZERO:
        return out
    x = real(start_x)
    z = real(start_z)
    y = real(height_at(f, s, start_y))
    floor_y = real(y)
    ux = dx / length
    uz = dz / length
    done = real(0.0)
    straight = bool(True)
    walking = bool(True)
    while walking and done < length:
        stride = wp.min(wp.max(real(0.7) * (clear_at(f, s) - p.radius), real(0.4) * p.cell), length - done)
        if done + stride < length - real(1.0e-9):
            done = done + stride
        else:
            done = real(length)
        px = x + ux * stride
        pz = z + uz * stride
        if straight:
            px = start_x + ux * done
            pz = start_z + uz * done
        s = stencil(f, p, px, y, pz, real(2.0) * p.climb)
        if not on_island(f, p, s, island):
            straight = False
            pushed = slide(f, p, px, y, pz, island)
            px = pushed.x
            pz = pushed.z
            ahead = (px - x) * ux + (pz - z) * uz
            if (not sliding) or (not pushed.found) or ahead <= real(1.0e-3) * stride:
                walking = False
            else:
                s = stencil(f, p, px, y, pz, real(2.0) * p.climb)
        if walking:
            x = real(px)
            z = real(pz)
            y = height_at(f, s, y)
    gone = (x - start_x) * (x - start_x) + (y - floor_y) * (y - floor_y) + (z - start_z) * (z - start_z)
    out.x = x
    out.y = y
    out.z = z
    out.held = gone + real(1.0e-5) < length * length
    return out


@wp.func
def norm(x: wp.float64, y: wp.float64, z: wp.float64) -> wp.float64:
    """Length of a vector."""
    return wp.sqrt(x * x + y * y + z * z)


@wp.func
def corner(s: Stencil, k: int) -> int:
    """The k-th node of a stencil."""
    if k == 0:
        return s.a
    if k == 1:
        return s.b
    if k == 2:
        return s.c
    return s.d


@wp.func
def next_vertex(p: SceneGrid, t: PathTrees, slot: int, i: int) -> int:
    """Next vertex of node i's path, -1 where there is none."""
    if i >= 0:
        if t.vertex[slot, i - p.first_node] != NO_VERTEX:
            return int(t.vertex[slot, i - p.first_node])
    return -1


@wp.func
def way_to_vertex(t: PathTrees, slot: int, v: int, x: wp.float64, y: wp.float64, z: wp.float64) -> wp.float64:
    """Metres to the goal from (x, y, z) straight to vertex v and on."""
    return t.cost[slot, v] + norm(t.position[slot, v, 0] - x, t.position[slot, v, 1] - y, t.position[slot, v, 2] - z)


@wp.func
def way(
    f: DeviceFloor, p: SceneGrid, t: PathTrees, slot: int, x: wp.float64, y: wp.float64, z: wp.float64
) -> wp.float64:
    """Metres to a slot's goal (`envs.navgrid.follower.toward`), `FAR` where it cannot be reached."""
    s = stencil(f, p, x, y, z, LEVEL_TOLERANCE)
    best = real(FAR)
    found = int(-1)
    k = int(0)
    while k < 4:
        v = next_vertex(p, t, slot, corner(s, k))
        if v >= 0 and v != found:
            value = way_to_vertex(t, slot, v, x, y, z)
            if value < best:
                if sees(f, p, x, y, z, t.position[slot, v, 0], t.position[slot, v, 1], t.position[slot, v, 2]):
                    best = real(value)
                    found = int(v)
        k = k + 1
    if found >= 0:
        return best
    k = int(0)
    while k < 4:
        i = corner(s, k)
        v = next_vertex(p, t, slot, i)
        if v >= 0:
            nx = node_x(f, p, i)
            nz = node_z(f, p, i)
            ny = real(f.height[i])
            value = way_to_vertex(t, slot, v, nx, ny, nz) + norm(nx - x, ny - y, nz - z)
            if value < best:
                best = real(value)
        k = k + 1
    return best


@wp.func
def nearest_node(f: DeviceFloor, p: SceneGrid, x: wp.float64, y: wp.float64, z: wp.float64, island: int) -> int:
    """Nearest node of `island` within `SNAP_REACH`, in rings around (x, z); -1 if none."""
    cx = int(wp.floor((x - p.x0) / p.cell))
    cz = int(wp.floor((z - p.z0) / p.cell))
    best = real(SNAP_REACH * SNAP_REACH)
    node = int(-1)
    rings = int(SNAP_REACH / p.cell) + 2
    ring = int(0)
    while ring < rings:
        inner = real(ring - 1) * p.cell
        if ring > 1 and inner * inner > best:
            break
        for jz in range(wp.max(cz - ring, 0), wp.min(cz + ring + 1, p.nz)):
            for jx in range(wp.max(cx - ring, 0), wp.min(cx + ring + 1, p.nx)):
                if wp.max(wp.abs(jx - cx), wp.abs(jz - cz)) == ring:
                    c = p.first_column + jz * p.nx + jx
                    for i in range(f.start[c], f.start[c + 1]):
                        if f.island[i] == island:
                            gx = node_x(f, p, i) - x
                            gy = real(f.height[i]) - y
                            gz = node_z(f, p, i) - z
                            gap = gx * gx + gy * gy + gz * gz
                            if gap < best:
                                best = gap
                                node = i
        ring = ring + 1
    return node


@wp.func
def snap(f: DeviceFloor, p: SceneGrid, x: wp.float64, y: wp.float64, z: wp.float64, island: int) -> Moved:
    """Nearest navigable point on `island`; held where none is within `SNAP_REACH`."""
    out = Moved()
    out.x = x
    out.z = z
    s = stencil(f, p, x, y, z, LEVEL_TOLERANCE)
    out.y = height_at(f, s, y)
    if island_at(f, p, s) == island:
        return out
    i = nearest_node(f, p, x, y, z, island)
    if i < 0:
        out.held = True
        return out
    px = node_x(f, p, i)
    pz = node_z(f, p, i)
    py = real(f.height[i])
    apart = wp.sqrt((x - px) * (x - px) + (z - pz) * (z - pz))
    share = wp.min(ONE, p.cell / wp.max(apart, real(1.0e-9)))
    k = int(10)
    while k >= 0:
        part = real(0.1) * real(k) * share
        out.x = px + part * (x - px)
        out.z = pz + part * (z - pz)
        s = stencil(f, p, out.x, py, out.z, real(2.0) * p.climb)
        if on_island(f, p, s, island):
            break
        k = k - 1
    out.y = height_at(f, s, py)
    return out


@wp.func
def geodesic(
    f: DeviceFloor, p: SceneGrid, t: PathTrees, slot: int, x: wp.float64, y: wp.float64, z: wp.float64
) -> wp.float64:
    """Metres to a slot's goal from (x, y, z) or, just off its island, from there (`envs.navgrid.grid`)."""
    left = way(f, p, t, slot, x, y, z)
    if left < FAR:
        return left
    here = island_at(f, p, stencil(f, p, x, y, z, LEVEL_TOLERANCE))
    if here == -1 or here == t.island[slot]:
        at = snap(f, p, x, y, z, t.island[slot])
        if (not at.held) and norm(at.x - x, at.y - y, at.z - z) <= PROJECTION:
            return way(f, p, t, slot, at.x, at.y, at.z)
    return FAR
