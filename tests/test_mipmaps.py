"""Samplers and levels of detail against OpenGL's rules in double precision (version 4.6, sections 8.14 and 8.15)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from triangle_scenes import many_scenes, quad, scene_of

from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.rendering.textures import add_levels, pack_textures
from envs.scene import Sampler

CORNER, ACROSS, DOWN = np.array([-3.0, 1.9, -1.5]), np.array([7.0, 0.2, -9.0]), np.array([0.3, -2.4, -0.2])
SCALE, OFFSET = np.array([9.0, 1.5]), np.array([-1.3, 7.1])
POSE = np.array([0.1, 0.0, 0.2]), 0.1, 0.05


def levels_of(image):
    """A texture's levels of detail as images."""
    texels, table, rows = pack_textures([scene_of(quad(CORNER, ACROSS, DOWN)[0], texture=[0, 0], textures=[image])])
    texels, table = add_levels(texels, table)
    count, minified = table[rows[0][0], 4:6]
    return [
        texels[start : start + width * height].view(np.uint8).reshape(height, width, 4)[..., :3]
        for start, width, height in table[minified : minified + count, :3]
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


def texel(image, row, column, sampler):
    """Texels (..., 3) of whole numbers that may lie beyond the edges (table 8.20)."""
    beyond = {
        "repeat": lambda i, size: i % size,
        "clamp": lambda i, size: np.clip(i, 0, size - 1),
        "mirror": lambda i, size: np.minimum(i % (2 * size), 2 * size - 1 - i % (2 * size)),
    }
    height, width = image.shape[:2]
    return image[beyond[sampler.along_v](row, height), beyond[sampler.along_u](column, width)].astype(np.float64)


def looked_up(image, uv, sampler, how):
    """Colours (..., 3) of an image by `how`, linear or nearest, and whether these are certain in single precision."""
    x, y = uv[..., 0] * image.shape[1], uv[..., 1] * image.shape[0]
    if how == "nearest":
        certain = np.minimum(np.abs(x - np.rint(x)), np.abs(y - np.rint(y))) > 1e-3
        return texel(image, np.floor(y).astype(int), np.floor(x).astype(int), sampler), certain
    x0, y0 = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    fx, fy = (x - 0.5 - x0)[..., None], (y - 0.5 - y0)[..., None]
    top, bottom = (
        texel(image, row, x0, sampler) * (1 - fx) + texel(image, row, x0 + 1, sampler) * fx for row in (y0, y0 + 1)
    )
    return top * (1 - fy) + bottom * fy, np.ones(x.shape, bool)


def filtered(image, uv, detail, sampler):
    """Colours (..., 3) at levels of detail (...), and whether these are certain in single precision."""
    levels = levels_of(image)[: 1 if sampler.mipmap == "none" else None]
    colors, certain = zip(*(looked_up(level, uv, sampler, sampler.minified) for level in levels), strict=True)
    pick = lambda made, which: np.take_along_axis(np.stack(made), which[None, ..., None], 0)[0]  # noqa: E731
    low = np.minimum(np.floor(detail), len(levels) - 1).astype(int)
    high = np.minimum(low + 1, len(levels) - 1)
    share = (detail - np.floor(detail))[..., None]
    if sampler.mipmap == "nearest":
        low = high = np.minimum(np.ceil(detail + 0.5) - 1, len(levels) - 1).astype(int)
    sure = np.stack(certain)[..., None]
    color, known = pick(colors, low) * (1 - share) + pick(colors, high) * share, pick(sure, low) & pick(sure, high)
    sharp = (sampler.magnified, sampler.minified) == ("linear", "nearest") and sampler.mipmap != "none"
    limit = 0.5 if sharp else 0.0
    near, close = looked_up(image, uv, sampler, sampler.magnified)
    close &= (detail == 0) | (detail > 1e-3)
    magnified = (detail <= limit)[..., None]
    known = np.where(magnified, close[..., None], known)[..., 0]
    if sharp or sampler.mipmap == "nearest":
        known &= np.abs(detail - np.floor(detail) - 0.5) > 1e-3
    return np.where(magnified, near, color), known


SAMPLERS = [
    Sampler(),
    Sampler("mirror", "clamp"),
    Sampler("clamp", "mirror", "nearest", "linear", "nearest"),
    Sampler("repeat", "repeat", "linear", "nearest", "nearest"),
    Sampler("mirror", "repeat", "linear", "nearest", "linear"),
    Sampler("repeat", "clamp", "nearest", "nearest", "linear"),
    Sampler("repeat", "repeat", "linear", "linear", "none"),
    Sampler("clamp", "repeat", "nearest", "linear", "none"),
    Sampler("mirror", "mirror", "nearest", "nearest", "none"),
    Sampler("repeat", "mirror", "linear", "nearest", "none"),
]


def view_of(scene, camera, packets=True):
    """What a camera at `POSE` sees."""
    position, heading, pitch = POSE
    renderer = EmbreeRenderer([scene], packets=packets)
    return renderer.render([0], [position], [heading], camera, ("rgb", "face"), pitch=[pitch])


@pytest.mark.parametrize("packets", [True, False])
@pytest.mark.parametrize("shape", [(32, 128), (48, 20)])
@pytest.mark.parametrize("sampler", SAMPLERS, ids="-".join)
def test_pixels_are_the_texels_at_opengl_s_level(sampler, shape, packets):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    triangles, st = quad(CORNER, ACROSS, DOWN)
    scene = scene_of(triangles, uv=st * SCALE + OFFSET, texture=[0, 0], textures=[image])
    scene = replace(scene, samplers=(sampler,))
    camera = Camera(size=90, width=70, hfov=80, mipmaps=True)
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
    assert inside.sum() > 1000 and len(np.unique(np.floor(detail[inside]))) >= 4
    for mipmaps, (expected, certain) in {
        True: filtered(image, uv, detail, sampler),
        False: looked_up(image, uv, sampler, sampler.magnified),
    }.items():
        seen = view_of(scene, replace(camera, mipmaps=mipmaps), packets)
        assert (seen["face"][0][inside] >= 0).all()
        assert (certain & inside).sum() > 0.9 * inside.sum()
        # Half a level is rounding; the rest is single precision.
        assert np.abs(seen["rgb"][0] - expected)[certain & inside].max() < 0.56


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
