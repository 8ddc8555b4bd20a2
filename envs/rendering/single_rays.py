"""Fallback tracer by embreex's Python call, ray by ray, where its C library cannot be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numba import njit
from numpy.typing import NDArray

from envs.rendering.embree import DIRECTION, ORIGIN, PACKET_ROWS
from envs.rendering.layout import (
    BLOCK,
    BLOCK_WORDS,
    DEPTH,
    FACE,
    FLAGS,
    PIXEL,
    RAY,
    ROW,
    SECOND,
    THIRD,
    CameraRows,
    Images,
    Poses,
    Surfaces,
)
from envs.rendering.packets import (
    MOST_UNSEEN,
    SKIP,
    SKIP_SHARE,
    TILES,
    aligned,
    first_faces,
    lay_out,
    make_rays,
    passable,
    start_rows,
    write_footprint,
)
from envs.rendering.packing import traced_triangles
from envs.rendering.shading import shade_block, unseen
from envs.scene import Scene

Hits = dict[str, NDArray[Any]]
TILE = TILES[16]


def build_tree(triangles: NDArray[np.float32]) -> EmbreeScene:
    """The bounding volume hierarchy of (F, 3, 3) triangles, built."""
    # Without `robust`, rays can slip between two triangles that share an edge; it costs nothing measurable.
    tree = EmbreeScene(robust=True)
    TriangleMesh(tree, triangles)
    # Embree builds at the first query: not in the first frame.
    tree.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    return tree


class SingleRayTracer:
    """Traces rays one by one through the scenes' trees, an agent at a time, and shades what they meet."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        """Build the trees of the scenes."""
        self._trees = [build_tree(traced_triangles(scene)) for scene in scenes]
        self._first_face = first_faces(scenes)
        self._passable = [passable(scene) for scene in scenes]

    def render(
        self, agents: NDArray[np.int64], poses: Poses, view: CameraRows, surfaces: Surfaces, images: Images
    ) -> None:
        """Write the images of `agents`, which are rows of `poses` and `images`; `surfaces` are of the same scenes."""
        for n in agents:
            scene = poses.scene[n]
            tree, first_face = self._trees[scene], self._first_face[scene]
            origins, directions, pixels = list_rays(n, poses, view)
            hits: Hits = tree.run(origins, directions, output=1)
            if self._passable[scene]:
                _pass_unseen(hits, origins, directions, tree, first_face, surfaces)
            results = hits["primID"], hits["tfar"], hits["u"], hits["v"], directions, pixels
            _shade(n, *results, first_face, poses, view, surfaces, images)


def _pass_unseen(
    hits: Hits,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    tree: EmbreeScene,
    first_face: int,
    surfaces: Surfaces,
) -> None:
    """Trace on, behind the hits that rays pass, until all rays have met what they see."""
    rays = np.arange(len(origins))
    now = hits
    for _ in range(MOST_UNSEEN):
        rays = rays[_find_unseen(now["primID"], now["u"], now["v"], directions[rays], first_face, surfaces)]
        if not len(rays):
            return
        depth = hits["tfar"][rays] * SKIP_SHARE + SKIP
        now = tree.run(origins[rays] + depth[:, None] * directions[rays], directions[rays], output=1)
        for name in ("primID", "u", "v"):
            hits[name][rays] = now[name]
        hits["tfar"][rays] = depth + now["tfar"]
    hits["primID"][rays] = -1


@njit(cache=True, nogil=True)
def list_rays(
    n: int, poses: Poses, view: CameraRows
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Origins (R, 3), directions (R, 3) and places in the image (R,) of the rays of an agent."""
    tile = TILE
    lanes, pixels = len(tile[0]) * len(tile[1]), view.rows * view.columns
    origins, directions = np.empty((pixels, 3), np.float32), np.empty((pixels, 3), np.float32)
    places = np.empty(pixels, np.int32)
    packet = aligned(PACKET_ROWS * lanes)
    offsets, lines = lay_out(view, tile)
    ray = 0
    for i in range(0, view.rows, len(tile[0])):
        start_rows(n, i, poses, view, tile, lines, packet)
        for j in range(0, view.columns, len(tile[1])):
            make_rays(n, j // len(tile[1]), poses, view, tile, lines, packet)
            for k in range(lanes):
                if i + k // len(tile[1]) < view.rows and j + k % len(tile[1]) < view.columns:
                    for axis in range(3):
                        origins[ray, axis] = packet[(ORIGIN + axis) * lanes + k]
                        directions[ray, axis] = packet[(DIRECTION + axis) * lanes + k]
                    places[ray] = i * view.columns + j + offsets[k]
                    ray += 1
    return origins, directions, places


@njit(cache=True, nogil=True)
def _shade(
    n: int,
    primitive: NDArray[np.int32],
    distance: NDArray[np.float32],
    second: NDArray[np.float32],
    third: NDArray[np.float32],
    directions: NDArray[np.float32],
    pixels: NDArray[np.int32],
    first_face: int,
    poses: Poses,
    view: CameraRows,
    surfaces: Surfaces,
    images: Images,
) -> None:
    """Shade (R,) hits of agent `n`, a block at a time."""
    block = aligned(BLOCK_WORDS)
    ints = block.view(np.int32)
    write_footprint(n, poses, view, block)
    for start in range(0, len(primitive), BLOCK):
        count = min(BLOCK, len(primitive) - start)
        for k in range(count):
            ray = start + k
            ints[FACE + k] = primitive[ray]
            ints[PIXEL + k] = pixels[ray]
            block[DEPTH + k], block[SECOND + k], block[THIRD + k] = distance[ray], second[ray], third[ray]
            for axis in range(3):
                block[RAY + axis * ROW + k] = directions[ray, axis]
        shade_block(n, count, block, ints, first_face, view, surfaces, images)


@njit(cache=True, nogil=True)
def _find_unseen(
    primitive: NDArray[np.int32],
    second: NDArray[np.float32],
    third: NDArray[np.float32],
    directions: NDArray[np.float32],
    first_face: int,
    surfaces: Surfaces,
) -> NDArray[np.bool_]:
    """(R,) which hits rays pass."""
    found = np.zeros(len(primitive), np.bool_)
    for k in range(len(primitive)):
        face = first_face + primitive[k]
        if primitive[k] >= 0 and surfaces.face_ints[face, FLAGS] != 0:
            x, y, z = directions[k]
            found[k] = unseen(face, second[k], third[k], x, y, z, surfaces)
    return found
