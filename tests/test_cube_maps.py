"""Equirectangular and fisheye cameras: directions of rays in closed form, and pictures of a room of known measures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from rooms import scene

from envs.habitat.cube_maps import CubeMap, double_sphere_rays, equirectangular_rays
from envs.rendering.renderer import Camera, EmbreeRenderer

GOPRO = {"focal_length": (364.84, 364.86), "alpha": 0.57, "xi": -0.27}
PLACE, HEIGHT = np.array([1.5, 0.0, 2.75]), 1.25
# Inner faces of the walls of a room of 4 x 4 m, and its floor; it has no ceiling.
LOW, HIGH = np.array([0.05, 0.0, 0.05]), np.array([3.95, 2.5, 3.95])


def axial_depth(rays: NDArray[np.float64], heading: float, pitch: float) -> NDArray[np.float64]:
    """Depth in the room along the axis of the cube's face, 0 above the walls; rays are those of the camera."""
    cos, sin = math.cos(pitch), math.sin(pitch)
    x, y, z = rays[..., 0], rays[..., 1] * cos - rays[..., 2] * sin, rays[..., 1] * sin + rays[..., 2] * cos
    cos, sin = math.cos(heading), math.sin(heading)
    world = np.stack([x * cos + z * sin, y, z * cos - x * sin], axis=-1)
    eye = PLACE + np.array([0.0, HEIGHT, 0.0])
    with np.errstate(divide="ignore"):
        reach = np.where(world > 0, (HIGH - eye) / world, (LOW - eye) / world)
    reach[..., 1] = np.where(world[..., 1] < 0, reach[..., 1], np.inf)
    length = reach.min(axis=-1)
    outside = eye[1] + length * world[..., 1] > HIGH[1]
    return np.where(outside, 0.0, length * np.abs(rays).max(axis=-1))


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (5, 7)])
def test_equirectangular_rays_are_those_of_longitude_and_latitude(rows: int, columns: int) -> None:
    rays = equirectangular_rays(rows, columns)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0)
    # As OpenGL counts pixels, from the lower left; longitudes begin behind the camera.
    for row in range(rows):
        for column in range(columns):
            phi, theta = 2 * math.pi * (column + 0.5) / columns, math.pi * (rows - row - 0.5) / rows
            expected = [-math.sin(phi) * math.sin(theta), -math.cos(theta), math.cos(phi) * math.sin(theta)]
            np.testing.assert_allclose(rays[row, column], expected, atol=1e-12)
    ahead = rays.reshape(-1, 3)[np.argmin(rays[..., 2])]
    assert ahead[2] < -0.95 and abs(ahead[1]) <= math.sin(math.pi / rows)


@pytest.mark.parametrize("lens", [GOPRO, {"focal_length": (60.0, 80.0), "alpha": 0.4, "xi": 0.3}])
def test_fisheye_rays_project_to_their_pixels(lens: dict[str, object]) -> None:
    rays = double_sphere_rays(40, 64, principal_point=(30.5, 19.0), **lens)  # type: ignore[arg-type]
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0)
    (fx, fy), alpha, xi = lens["focal_length"], lens["alpha"], lens["xi"]  # type: ignore[misc]
    # The model's projection, of rays in its own axes: z ahead.
    x, y, z = rays[..., 0], rays[..., 1], -rays[..., 2]
    inner = xi + z
    depth = alpha * np.sqrt(x**2 + y**2 + inner**2) + (1 - alpha) * inner
    across, above = fx * x / depth + 30.5, fy * y / depth + 19.0
    np.testing.assert_allclose(across, np.tile(np.arange(64) + 0.5, (40, 1)), atol=1e-9)
    np.testing.assert_allclose(above, np.tile(40 - np.arange(40)[:, None] - 0.5, (1, 64)), atol=1e-9)


def test_a_fisheye_without_spheres_is_a_pinhole_and_sees_no_further_than_its_circle() -> None:
    rays = double_sphere_rays(9, 9, (4.5, 4.5), alpha=0.0, xi=0.0)
    across = (np.arange(9) + 0.5 - 4.5) / 4.5
    np.testing.assert_allclose(rays[..., 0] / -rays[..., 2], np.tile(across, (9, 1)), atol=1e-12)
    np.testing.assert_allclose(rays[..., 1] / -rays[..., 2], np.tile(-across[:, None], (1, 9)), atol=1e-12)
    wide = double_sphere_rays(64, 64, (20.0, 20.0), alpha=0.7, xi=0.1)
    radius = np.hypot(*np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5)) / 20.0
    np.testing.assert_array_equal(np.isfinite(wide).all(axis=-1), radius**2 <= 1 / (2 * 0.7 - 1))


@pytest.mark.parametrize("pitch", [0.0, -0.4])
@pytest.mark.parametrize("kind", ["equirectangular", "fisheye"])
def test_depth_is_that_along_the_axis_of_a_face(kind: str, pitch: float) -> None:
    rays = (
        equirectangular_rays(128, 256)
        if kind == "equirectangular"
        else double_sphere_rays(128, 128, (36.0, 36.0), 0.57, -0.27)
    )
    renderer, heading = EmbreeRenderer([scene(4.0, 4.0)]), 0.7
    seen = CubeMap.of(rays, pitch).render(renderer, PLACE, heading, Camera(height=HEIGHT), ("depth", "instance"))
    expected = axial_depth(rays, heading, pitch)
    assert seen["depth"].shape == rays.shape[:2] and seen["depth"].dtype == np.float32
    # A pixel has the depth of the nearest texel, up to half of one away; edges of walls lie between texels.
    off = np.abs(seen["depth"] - expected) / np.maximum(expected, 0.5)
    assert np.median(off) < 0.01 and np.quantile(off, 0.97) < 0.05
    assert ((seen["instance"] < 0) == (seen["depth"] == 0)).all()


def test_faces_meet_without_a_seam_and_the_middle_is_a_pinhole() -> None:
    renderer, heading = EmbreeRenderer([scene(4.0, 4.0)]), 0.3
    camera = Camera(200, 90.0, HEIGHT)
    view = CubeMap.of(double_sphere_rays(200, 200, (100.0, 100.0), 0.0, 0.0))
    seen = view.render(renderer, PLACE, heading, camera, ("rgb", "depth"))
    pinhole = renderer.render([0], PLACE[None], [heading], camera, ("rgb", "depth"))
    assert np.abs(seen["rgb"].astype(int) - pinhole["rgb"][0]).max() <= 1
    np.testing.assert_allclose(seen["depth"], pinhole["depth"][0], atol=1e-5)
    # The same directions through a cube that is turned by half a face, where every wall has one colour.
    plain = EmbreeRenderer([replace(scene(4.0, 4.0), textures=(np.full((2, 2, 3), 255, np.uint8),))])
    around, turned = (
        CubeMap.of(equirectangular_rays(128, 256)).render(plain, PLACE, heading + turn, camera, ("rgb",))["rgb"]
        for turn in (0.0, math.pi / 4)
    )
    off = np.abs(np.roll(around, 32, axis=1).astype(int) - turned).max(axis=-1)
    assert np.mean(off > 1) < 0.05


def test_what_a_fisheye_does_not_see_is_black_and_nothing() -> None:
    rays = double_sphere_rays(64, 64, (12.0, 12.0), alpha=0.7, xi=0.1)
    camera = Camera(height=HEIGHT)
    seen = CubeMap.of(rays).render(EmbreeRenderer([scene(4.0, 4.0)]), PLACE, 0.0, camera, ("rgb", "depth", "instance"))
    blind = np.isnan(rays).any(axis=-1)
    assert blind[0, 0] and not blind[32, 32]
    assert not seen["rgb"][blind].any() and not seen["depth"][blind].any() and (seen["instance"][blind] == -1).all()
