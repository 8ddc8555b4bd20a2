"""Compiled loops that render with packets of rays: rays made from the pose, traced and shaded while in the cache."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.rendering.embree import (
    ALIGNMENT,
    ARGUMENTS,
    DIRECTION,
    FAR,
    GEOMETRY,
    MASK,
    NORMAL,
    ORIGIN,
    PACKET_ROWS,
    PRIMITIVE,
    Bvh,
    EmbreeLibrary,
    U,
    V,
    intersect,
)
from envs.rendering.gathering import copy_words
from envs.rendering.layout import (
    BLOCK,
    BLOCK_WORDS,
    DEPTH,
    FACE,
    FLAGS,
    FOOTPRINT,
    PIXEL,
    RAY,
    ROW,
    SECOND,
    THIRD,
    ZERO,
    CameraRows,
    Images,
    Poses,
    Surfaces,
)
from envs.rendering.packing import traced_triangles
from envs.rendering.shading import shade_block, unseen
from envs.rendering.threads import map_threads
from envs.scene import Scene

# Pixels whose rays travel together, by their number: a tuple as long as there are rows, and one for columns. Lengths of
# tuples belong to their types, so that the compiler knows them.
TILES = {16: ((0,) * 4, (0,) * 4), 8: ((0,) * 2, (0,) * 4), 4: ((0,) * 2, (0,) * 2)}
Tile = tuple[tuple[int, ...], tuple[int, ...]]
# A ray goes on behind an unseen hit this much further, in metres and as a share of its depth.
SKIP, SKIP_SHARE = np.float32(1e-5), np.float32(1.0 + 1e-6)
# Unseen faces that a ray may pass; what lies behind more is not found.
MOST_UNSEEN = 64
FARTHEST = np.float32(1e37)


class BvhArrays(NamedTuple):
    """Acceleration structures of the scenes, as arrays.

    Attributes:
        handles: (S,) address of each scene's tree.
        first_face: (S,) its first row of faces.
        passable: (S,) 2 where rays may pass some faces from either side, 1 from the back only, 0 none.
        intersect: `embree.EmbreeLibrary.intersect`.
        arguments: Address of `embree.ARGUMENTS`.
    """

    handles: NDArray[np.int64]
    first_face: NDArray[np.int64]
    passable: NDArray[np.int64]
    intersect: int
    arguments: int


class PacketTracer:
    """Traces packets of rays through the scenes' trees, and shades what they meet."""

    def __init__(self, library: EmbreeLibrary, scenes: Sequence[Scene]) -> None:
        """Build the trees of the scenes."""
        self._made = map_threads(lambda scene: Bvh(library, traced_triangles(scene)), scenes)
        self._tile = TILES[library.lanes]
        # Addresses in the library stay valid as long as it is loaded.
        self._trees = BvhArrays(
            np.array([tree.handle for tree in self._made], np.int64),
            first_faces(scenes)[:-1],
            np.array([passable(scene) for scene in scenes]),
            library.intersect,
            ctypes.addressof(ARGUMENTS),
        )

    def render(
        self, agents: NDArray[np.int64], poses: Poses, view: CameraRows, surfaces: Surfaces, images: Images
    ) -> None:
        """Write the images of `agents`, which are rows of `poses` and `images`; `surfaces` are of the same scenes."""
        render_agents(agents, poses, view, self._tile, self._trees, surfaces, images)


def first_faces(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """(S + 1,) rows of `Surfaces.faces` at which scenes begin, and their end; the first row is nothing."""
    return 1 + np.cumsum([0, *(len(scene.faces) for scene in scenes)])


def passable(scene: Scene) -> int:
    """2 where rays may pass some faces of a scene from either side, 1 where from the back only, 0 where none."""
    if scene.cutoff is not None and scene.cutoff.any():
        return 2
    return int(scene.one_sided is not None and scene.one_sided.any())


@njit(cache=True, nogil=True)
def render_agents(
    agents: NDArray[np.int64],
    poses: Poses,
    view: CameraRows,
    tile: Tile,
    trees: BvhArrays,
    surfaces: Surfaces,
    images: Images,
) -> None:
    """Render the images of some agents, one after the other; those of a scene are best neighbours.

    Args:
        agents: Which, rows of `poses` and images.
        poses: All agents.
        view: The camera of all.
        tile: Of `TILES`, the library's.
        trees: All scenes.
        surfaces: All scenes.
        images: Of all agents.
    """
    lanes = len(tile[0]) * len(tile[1])
    packet, block, valid = aligned(PACKET_ROWS * lanes), aligned(BLOCK_WORDS), aligned(lanes).view(np.int32)
    packet_ints, ints = packet.view(np.int32), block.view(np.int32)
    for k in range(lanes):
        packet_ints[MASK * lanes + k] = -1
    offsets, lines = lay_out(view, tile)
    down, across = _cut(view, tile)
    for n in agents:
        scene = poses.scene[n]
        first_face = trees.first_face[scene]
        write_footprint(n, poses, view, block)
        # A plain 0 would be a type of its own, for which the shading would be compiled once more.
        filled: Any = np.int64(0)
        for t in range(down * across):
            i, j = t // across * len(tile[0]), t % across * len(tile[1])
            if j == 0:
                start_rows(n, i, poses, view, tile, lines, packet)
            make_rays(n, t % across, poses, view, tile, lines, packet)
            _clear_hits(tile, packet, packet_ints)
            _mark_valid(view.rows - i, view.columns - j, tile, valid)
            intersect(trees.intersect, valid.ctypes.data, trees.handles[scene], packet.ctypes.data, trees.arguments)
            if trees.passable[scene] != 0:
                _pass_unseen(scene, tile, trees, surfaces, packet, packet_ints, valid)
            _store(filled, tile, packet, block)
            _place(filled, i * view.columns + j, valid, offsets, ints)
            filled += lanes
            if filled == BLOCK or t == down * across - 1:
                shade_block(n, filled, block, ints, first_face, view, surfaces, images)
                filled = np.int64(0)


@njit(cache=True, nogil=True)
def aligned(words: int) -> NDArray[np.float32]:
    """Zeros that begin at a multiple of `ALIGNMENT` bytes."""
    made = np.zeros(words + ALIGNMENT // 4, np.float32)
    start = -made.ctypes.data % ALIGNMENT // 4
    return made[start : start + words]


@njit(cache=True, nogil=True)
def _cut(view: CameraRows, tile: Tile) -> tuple[int, int]:
    """How many tiles an image is high and wide."""
    return (view.rows + len(tile[0]) - 1) // len(tile[0]), (view.columns + len(tile[1]) - 1) // len(tile[1])


@njit(cache=True, nogil=True)
def lay_out(view: CameraRows, tile: Tile) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Pixel positions of a packet in its tile, and the horizontal slopes of its rays.

    Returns:
        (lanes,) places from the tile's first pixel; (3 + tiles, lanes) flat, the first three rows to be filled by
        `start_rows`.
    """
    lanes = len(tile[0]) * len(tile[1])
    _, across = _cut(view, tile)
    offsets, lines = np.empty(lanes, np.int32), np.empty((3 + across) * lanes)
    for k in range(lanes):
        row, column = k // len(tile[1]), k % len(tile[1])
        offsets[k] = row * view.columns + column
        for t in range(across):
            right = view.half_width * ((2 * (t * len(tile[1]) + column) + 1) / view.columns - 1.0)
            lines[(3 + t) * lanes + k] = right
    return offsets, lines


@njit(cache=True, nogil=True)
def start_rows(
    n: int, i: int, poses: Poses, view: CameraRows, tile: Tile, lines: NDArray[np.float64], packet: NDArray[np.float32]
) -> None:
    """Prepare the rays of the pixels from row `i` on.

    A direction has length 1 along the optical axis, so that the parameter of a hit is its planar depth, less `near`,
    since rays start on the near plane.
    """
    lanes = len(tile[0]) * len(tile[1])
    sin_h, cos_h = math.sin(poses.heading[n]), math.cos(poses.heading[n])
    sin_p, cos_p = math.sin(poses.pitch[n]), math.cos(poses.pitch[n])
    y = poses.position[n, 1] + view.height
    half_height = view.half_width * view.rows / view.columns
    for k in range(lanes):
        up = half_height * (1.0 - (2 * (i + k // len(tile[1])) + 1) / view.rows)
        level = cos_p - up * sin_p
        rise = sin_p + up * cos_p
        lines[k] = -sin_h * level
        lines[lanes + k] = -cos_h * level
        packet[(ORIGIN + 1) * lanes + k] = y + view.near * rise
        packet[(DIRECTION + 1) * lanes + k] = rise
    lines[2 * lanes], lines[2 * lanes + 1] = sin_h, cos_h


@njit(cache=True, nogil=True)
def write_footprint(n: int, poses: Poses, view: CameraRows, block: NDArray[np.float32]) -> None:
    """Write how a ray differs from its neighbours' to the right and below to a block."""
    sin_h, cos_h = math.sin(poses.heading[n]), math.cos(poses.heading[n])
    sin_p, cos_p = math.sin(poses.pitch[n]), math.cos(poses.pitch[n])
    pixel = 2.0 * view.half_width / view.columns
    right, down = (cos_h, 0.0, -sin_h), (-sin_h * sin_p, -cos_p, -cos_h * sin_p)
    for axis in range(3):
        block[FOOTPRINT + axis] = pixel * right[axis]
        block[FOOTPRINT + 3 + axis] = pixel * down[axis]


@njit(cache=True, nogil=True)
def make_rays(
    n: int, t: int, poses: Poses, view: CameraRows, tile: Tile, lines: NDArray[np.float64], packet: NDArray[np.float32]
) -> None:
    """Write the rays of the `t`-th tile of the rows that `start_rows` began."""
    lanes = len(tile[0]) * len(tile[1])
    x, z, near = poses.position[n, 0], poses.position[n, 2], view.near
    sin_h, cos_h = lines[2 * lanes], lines[2 * lanes + 1]
    for k in range(lanes):
        right = lines[(3 + t) * lanes + k]
        dx = lines[k] + cos_h * right
        dz = lines[lanes + k] - sin_h * right
        packet[DIRECTION * lanes + k] = dx
        packet[(DIRECTION + 2) * lanes + k] = dz
        packet[ORIGIN * lanes + k] = x + near * dx
        packet[(ORIGIN + 2) * lanes + k] = z + near * dz


@njit(cache=True, nogil=True)
def _clear_hits(tile: Tile, packet: NDArray[np.float32], ints: NDArray[np.int32]) -> None:
    lanes = len(tile[0]) * len(tile[1])
    for k in range(lanes):
        packet[FAR * lanes + k] = FARTHEST
    for k in range(lanes):
        ints[PRIMITIVE * lanes + k] = ints[GEOMETRY * lanes + k] = -1


@njit(cache=True, nogil=True)
def _mark_valid(rows: int, columns: int, tile: Tile, valid: NDArray[np.int32]) -> None:
    """Have those rays of a tile traced that belong to the image, of which `rows` and `columns` are left."""
    for k in range(len(tile[0]) * len(tile[1])):
        valid[k] = -1 if k // len(tile[1]) < rows and k % len(tile[1]) < columns else 0


@njit(cache=True, nogil=True)
def _store(filled: int, tile: Tile, packet: NDArray[np.float32], block: NDArray[np.float32]) -> None:
    """Add what a packet found to the `filled` pixels of a block."""
    lanes = len(tile[0]) * len(tile[1])
    to, source = block.ctypes.data + 4 * filled, packet.ctypes.data
    copy_words(to + 4 * FACE, source + 4 * PRIMITIVE * lanes, lanes)
    copy_words(to + 4 * DEPTH, source + 4 * FAR * lanes, lanes)
    copy_words(to + 4 * SECOND, source + 4 * U * lanes, lanes)
    copy_words(to + 4 * THIRD, source + 4 * V * lanes, lanes)
    for axis in range(3):
        copy_words(to + 4 * (RAY + axis * ROW), source + 4 * (DIRECTION + axis) * lanes, lanes)


@njit(cache=True, nogil=True)
def _place(
    filled: int, place: int, valid: NDArray[np.int32], offsets: NDArray[np.int32], ints: NDArray[np.int32]
) -> None:
    """Say where in the image the pixels of a tile at `place` lie."""
    first = np.int32(place)
    for k in range(len(valid)):
        ints[PIXEL + filled + k] = np.int32(first + offsets[k]) if valid[k] != 0 else np.int32(-1)


@njit(cache=True, nogil=True)
def _meets_backs(tile: Tile, packet: NDArray[np.float32]) -> bool:
    """Whether any ray may have met the back of a face (the normal of a miss is what it was before)."""
    lanes = len(tile[0]) * len(tile[1])
    backs = 0
    for k in range(lanes):
        along = packet[NORMAL * lanes + k] * packet[DIRECTION * lanes + k]
        along += packet[(NORMAL + 1) * lanes + k] * packet[(DIRECTION + 1) * lanes + k]
        along += packet[(NORMAL + 2) * lanes + k] * packet[(DIRECTION + 2) * lanes + k]
        backs += 1 if along > ZERO else 0
    return backs > 0


@njit(cache=True, nogil=True)
def _pass_unseen(
    scene: int,
    tile: Tile,
    trees: BvhArrays,
    surfaces: Surfaces,
    packet: NDArray[np.float32],
    ints: NDArray[np.int32],
    valid: NDArray[np.int32],
) -> None:
    """Trace on, behind the hits that rays pass, until all rays have met what they see."""
    if trees.passable[scene] == 1 and not _meets_backs(tile, packet):
        return
    lanes = len(tile[0]) * len(tile[1])
    going, origin, passed = aligned(lanes).view(np.int32), aligned(3 * lanes), aligned(lanes)
    for k in range(lanes):
        going[k] = valid[k]
    for k in range(3 * lanes):
        origin[k] = packet[k]
    for _ in range(MOST_UNSEEN):
        count = 0
        for k in range(lanes):
            if going[k] and _is_unseen(k, trees.first_face[scene], lanes, surfaces, packet, ints):
                count += 1
                passed[k] = (passed[k] + packet[FAR * lanes + k]) * SKIP_SHARE + SKIP
                _go_on(k, lanes, passed[k], origin, packet, ints)
            else:
                going[k] = 0
        if count == 0:
            break
        intersect(trees.intersect, going.ctypes.data, trees.handles[scene], packet.ctypes.data, trees.arguments)
    for k in range(lanes):
        packet[FAR * lanes + k] += passed[k]
        ints[PRIMITIVE * lanes + k] |= going[k]
    for k in range(3 * lanes):
        packet[k] = origin[k]


@njit(cache=True, nogil=True)
def _go_on(
    k: int,
    lanes: int,
    passed: float,
    origin: NDArray[np.float32],
    packet: NDArray[np.float32],
    ints: NDArray[np.int32],
) -> None:
    """Prepare a ray that has passed a face to be traced from there."""
    for axis in range(3):
        at = axis * lanes + k
        packet[ORIGIN * lanes + at] = origin[at] + passed * packet[DIRECTION * lanes + at]
    packet[FAR * lanes + k] = FARTHEST
    ints[PRIMITIVE * lanes + k] = ints[GEOMETRY * lanes + k] = -1


@njit(cache=True, nogil=True)
def _is_unseen(
    k: int, first_face: int, lanes: int, surfaces: Surfaces, packet: NDArray[np.float32], ints: NDArray[np.int32]
) -> bool:
    face = ints[PRIMITIVE * lanes + k]
    if face < 0 or surfaces.face_ints[first_face + face, FLAGS] == 0:
        return False
    x, y, z = packet[DIRECTION * lanes + k], packet[(DIRECTION + 1) * lanes + k], packet[(DIRECTION + 2) * lanes + k]
    return unseen(first_face + face, packet[U * lanes + k], packet[V * lanes + k], x, y, z, surfaces)
