"""Levels of detail against OpenGL's rule in double precision (version 4.6, section 8.14)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from triangle_scenes import many_scenes, quad, scene_of

from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.rendering.textures import add_levels, pack_textures

CORNER, ACROSS, DOWN = np.array([-3.0, 1.9, -1.5]), np.array([7.0, 0.2, -9.0]), np.array([0.3, -2.4, -0.2])
SCALE, OFFSET = np.array([9.0, 1.5]), np.array([-1.3, 7.1])
POSE = np.array([0.1, 0.0, 0.2]), 0.1, 0.05


def levels_of(image):
    """A texture's levels of detail as images."""
    texels, table, rows = pack_textures([scene_of(quad(CORNER, ACROSS, DOWN)[0], texture=[0, 0], textures=[image])])
    texels, table = add_levels(texels, table)
    first, count = rows[0][0], table[rows[0][0], 4]
    numbers = [first, *range(table[first, 5], table[first, 5] + count - 1)]
    return [
        texels[start : start + width * height].view(np.uint8).reshape(height, width, 4)[..., :3]
        for start, width, height in table[numbers, :3]
    ]


def test_levels_halve_to_one_texel_and_average_four():
    image = np.random.default_rng(0).integers(0, 256, (16, 64, 3), dtype=np.uint8)
    made = levels_of(image)
    assert [level.shape[:2] for level in made] == [(16, 64), (8, 32), (4, 16), (2, 8), (1, 4), (1, 2), (1, 1)]
    for level, finer in zip(made[1:4], made, strict=False):
        mean = finer.reshape(level.shape[0], 2, level.shape[1], 2, 3).mean((1, 3))
        assert np.abs(level - mean).max() <= 0.5
    odd = levels_of(image[:5, :7])
    assert [level.shape[:2] for level in odd] == [(5, 7), (2, 3), (1, 1)]
    # Three texels of seven: the centres of the new ones lie at 2/3, 3 and 16/3.
    column = image[:5, :7].astype(float)
    wide = np.stack([column[:, 0] / 3 + column[:, 1] * 2 / 3, column[:, 3], column[:, 5] * 2 / 3 + column[:, 6] / 3], 1)
    tall = np.stack([wide[0] / 4 + wide[1] * 3 / 4, wide[3] * 3 / 4 + wide[4] / 4])
    assert np.abs(odd[1] - tall).max() <= 0.5001


def test_levels_are_those_of_the_texture_where_it_is_constant():
    grey = np.full((24, 24, 3), 77, np.uint8)
    assert all((level == 77).all() for level in levels_of(grey))


def surface_coordinates(rows, columns, camera):
    """(u, v) where the rays of any pixels, also fractional ones, meet the plane of the quad; (s, t) along it."""
    position, heading, pitch = POSE
    focal = camera.columns / (2 * math.tan(math.radians(camera.hfov) / 2))
    x, y = (columns + 0.5 - camera.columns / 2) / focal, -(rows + 0.5 - camera.size / 2) / focal
    rays = np.stack([x, y, -np.ones_like(x)], -1)
    c, s = math.cos(heading), math.sin(heading)
    yaw = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = math.cos(pitch), math.sin(pitch)
    rays = rays @ (yaw @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])).T
    eye = np.add(position, [0, camera.height, 0])
    system = np.stack([rays, *np.broadcast_arrays(-ACROSS, -DOWN, rays)[:2]], -1)
    _, s, t = np.moveaxis(
        np.linalg.solve(system, np.broadcast_to((CORNER - eye)[:, None], (*rays.shape, 1)))[..., 0], -1, 0
    )
    return np.stack([s, t], -1), np.stack([s, t], -1) * SCALE + OFFSET


def bilinear(image, uv):
    height, width = image.shape[:2]
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    texel = lambda i, j: image[i % height, j % width].astype(np.float64)  # noqa: E731
    top = texel(y0, x0) * (1 - fx) + texel(y0, x0 + 1) * fx
    return top * (1 - fy) + (texel(y0 + 1, x0) * (1 - fx) + texel(y0 + 1, x0 + 1) * fx) * fy


@pytest.mark.parametrize("packets", [True, False])
@pytest.mark.parametrize("shape", [(32, 128), (48, 20)])
def test_pixels_are_the_trilinear_texel_at_opengl_s_level(shape, packets):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    triangles, st = quad(CORNER, ACROSS, DOWN)
    scene = scene_of(triangles, uv=st * SCALE + OFFSET, texture=[0, 0], textures=[image])
    camera = Camera(size=90, width=70, hfov=80, mipmaps=True)
    renderer = EmbreeRenderer([scene], packets=packets)
    position, heading, pitch = POSE
    seen = renderer.render([0], [position], [heading], camera, ("rgb", "face"), pitch=[pitch])
    row, column = np.mgrid[0 : camera.size, 0 : camera.columns].astype(float)
    inside, uv = surface_coordinates(row, column, camera)
    inside = (inside > 1e-3).all(-1) & (inside < 1 - 1e-3).all(-1)
    step, texels = 1e-4, np.array(shape[::-1])
    rho = np.maximum(
        *(
            np.linalg.norm((surface_coordinates(row + i, column + j, camera)[1] - uv) / step * texels, axis=-1)
            for i, j in ((step, 0), (0, step))
        )
    )
    detail = np.log2(np.maximum(rho, 1))
    made = levels_of(image)
    filtered = np.stack([bilinear(level, uv) for level in made])
    low = np.minimum(np.floor(detail).astype(int), len(made) - 1)
    high = np.minimum(low + 1, len(made) - 1)
    pick = lambda which: np.take_along_axis(filtered, which[None, ..., None], 0)[0]  # noqa: E731
    share = (detail - np.floor(detail))[..., None]
    expected = pick(low) * (1 - share) + pick(high) * share
    assert inside.sum() > 1000 and len(np.unique(low[inside])) >= 4
    assert (seen["face"][0][inside] >= 0).all()
    # Half a level is rounding; the rest is single precision.
    assert np.abs(seen["rgb"][0][inside] - expected[inside]).max() < 0.56


def test_only_colours_change_and_blocks_of_enlarged_textures_do_not():
    rng = np.random.default_rng(4)
    scene = many_scenes(1)[0]
    scene = replace(scene, textures=tuple(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in scene.textures))
    renderer = EmbreeRenderer([scene])
    pose = [0], [[0.0, 0.0, 0.0]], [0.3]
    plain, filtered = (renderer.render(*pose, Camera(64, mipmaps=m), ("rgb", "depth", "face")) for m in (False, True))
    np.testing.assert_array_equal(plain["depth"], filtered["depth"])
    np.testing.assert_array_equal(plain["face"], filtered["face"])
    assert (plain["rgb"] != filtered["rgb"]).mean() > 0.03
    # Seen from close, every texture is enlarged.
    close = [0], [[0.0, 0.0, -3.98]], [0.0], Camera(32, hfov=2)
    images = [renderer.render(*close[:3], replace(close[3], mipmaps=m))["rgb"] for m in (False, True)]
    np.testing.assert_array_equal(*images)
