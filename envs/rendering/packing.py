"""Packing of scenes into flat arrays for renderers: face rows, triangles, texture gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.rendering import layout
from envs.scene import Scene

# Two one-sided faces back to back are moved apart by this much to each side, metres.
APART = 2e-5


def pack_faces(scene: Scene, texture_row: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (F, 16) face rows of `layout`."""
    if not np.isfinite(scene.corner_uv).all():
        raise ValueError(f"scene {scene.name}: corner_uv holds NaN or infinity")
    floats = np.zeros((len(scene.faces), layout.FACE_WORDS), np.float32)
    ints = floats.view(np.int32)
    floats[:, layout.UV : layout.UV + 6] = scene.corner_uv.reshape(-1, 6)
    corner = scene.vertices[scene.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # A face without area has no direction, and no ray can hit it.
    floats[:, layout.NORMAL : layout.NORMAL + 3] = normal / np.where(length > 0, length, 1)
    color = scene.corner_color.astype(np.int32)
    ints[:, layout.COLOR : layout.COLOR + 3] = color[..., 0] | color[..., 1] << 8 | color[..., 2] << 16
    # The last entry serves index -1: no texture.
    ints[:, layout.TEXTURE] = np.append(texture_row, np.int32(0))[scene.face_texture]
    ints[:, layout.CLASS] = scene.face_class
    ints[:, layout.INSTANCE] = scene.face_instance
    if scene.one_sided is not None:
        ints[:, layout.FLAGS] |= np.where(scene.one_sided, layout.ONE_SIDED, 0).astype(np.int32)
    if scene.cutoff is not None:
        ints[:, layout.FLAGS] |= scene.cutoff.astype(np.int32) << layout.CUTOFF
    return floats


def pack_gradients(scene: Scene, texture_row: NDArray[np.int32], textures: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (F, 8) rows of `layout.Surfaces.gradients`."""
    corner, uv = scene.vertices[scene.faces].astype(np.float64), scene.corner_uv.astype(np.float64)
    row = np.append(texture_row, np.int32(0))[scene.face_texture]
    texels = uv * textures[row][:, None, [layout.ACROSS, layout.DOWN]]
    one, other = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    normal = np.cross(one, other)
    square = (normal**2).sum(1, keepdims=True)
    # The two vectors of the face's plane whose product with one side is 1 and with the other 0.
    square[square == 0] = np.inf
    duals = np.cross(other, normal) / square, np.cross(normal, one) / square
    change = texels[:, 1:] - texels[:, :1]
    rows = np.zeros((len(corner), layout.GRADIENT_WORDS), np.float32)
    for axis in range(2):
        rows[:, 3 * axis : 3 * axis + 3] = change[:, 0, axis, None] * duals[0] + change[:, 1, axis, None] * duals[1]
    rows.view(np.int32)[:, 6:] = textures[row][:, [layout.LEVELS, layout.MINIFIED]]
    return rows


def traced_triangles(scene: Scene) -> NDArray[np.float32]:
    """Return the (F, 3, 3) triangles to trace.

    Two one-sided faces back to back at one place (a sheet with a picture on either side) are moved apart by a hair's
    breadth: at equal depth a ray would meet either, and find the seen one or not by chance.
    """
    triangles = np.ascontiguousarray(scene.vertices[scene.faces])
    if scene.one_sided is None:
        return triangles
    which = np.flatnonzero(scene.one_sided)
    corner = np.round(triangles[which], 5)
    order = np.lexsort(np.moveaxis(corner, 2, 0)[::-1], axis=1)
    same = np.take_along_axis(corner, order[..., None], axis=1).reshape(len(which), 9)
    _, group, size = np.unique(same, axis=0, return_inverse=True, return_counts=True)
    twins = which[size[group.ravel()] > 1]
    flat = triangles[twins]
    normal = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    triangles[twins] += (APART * normal / np.where(length > 0, length, 1))[:, None]
    return triangles
