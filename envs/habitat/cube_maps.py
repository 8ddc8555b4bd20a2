"""Equirectangular and fisheye cameras, which habitat-sim draws from the six faces of a cube map.

A face has as many texels as the shorter side of the picture. Colours are bilinear between the texels of a face, depths
and labels those of the nearest one; a depth is that along the axis of its face, not along the ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.rendering.renderer import Camera, Renderer

# Heading and pitch of the faces, radians: ahead, left, back, right, up, down.
FACES = np.array([(0, 0), (0.5, 0), (1, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]) * math.pi
# Texels around a face, rendered so that colours at its rim need no other face.
MARGIN = 1


def equirectangular_rays(rows: int, columns: int) -> NDArray[np.float64]:
    """Unit vectors (rows, columns, 3) of the pixels of an equirectangular picture.

    Axes of the camera: x to the right, y up, z backwards. Longitude runs from -180 to 180 degrees over the columns,
    0 ahead, and latitude from 90 to -90 over the rows.
    """
    longitude = (2.0 * (np.arange(columns) + 0.5) / columns - 1.0) * math.pi
    latitude = (0.5 - (np.arange(rows) + 0.5) / rows) * math.pi
    across, down = np.meshgrid(longitude, latitude)
    return np.stack([np.sin(across) * np.cos(down), np.sin(down), -np.cos(across) * np.cos(down)], axis=-1)


def double_sphere_rays(
    rows: int,
    columns: int,
    focal_length: Sequence[float],
    alpha: float,
    xi: float,
    principal_point: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Unit vectors (rows, columns, 3) of a fisheye's pixels by the double sphere model; NaN where it sees nothing.

    Usenko, Demmel and Cremers 2018 (arXiv 1807.08957), its unprojection. Axes as of `equirectangular_rays`.

    Args:
        rows: Pixels from top to bottom.
        columns: Pixels from left to right.
        focal_length: fx and fy in pixels.
        alpha: Blends sphere and pinhole, in [0, 1].
        xi: Distance of the spheres' centres.
        principal_point: Pixels from the left and from the bottom; None: (rows / 2, columns / 2), as in habitat-sim,
            which is the middle of square pictures.
    """
    right, bottom = (rows / 2, columns / 2) if principal_point is None else principal_point
    x, y = np.meshgrid(np.arange(columns) + 0.5 - right, rows - np.arange(rows) - 0.5 - bottom)
    x, y = x / focal_length[0], y / focal_length[1]
    squared = x**2 + y**2
    with np.errstate(invalid="ignore"):
        z = (1.0 - alpha**2 * squared) / (alpha * np.sqrt(1.0 - (2.0 * alpha - 1.0) * squared) + 1.0 - alpha)
        scale = (z * xi + np.sqrt(z**2 + (1.0 - xi**2) * squared)) / (z**2 + squared)
        rays = np.stack([scale * x, scale * y, xi - scale * z], axis=-1)
        return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class CubeMap:
    """Sampling grid of a cube map: pixels of a picture on the faces of a cube around the camera.

    Attributes:
        size: Texels per side of a face.
        seen: (H, W) bool, False where the camera sees nothing.
        face: (H, W) index into `FACES`.
        row: (H, W) float64 place on the face in texels from its top.
        column: (H, W) float64 from its left.
        stretch: (H, W) float32, by which a depth along the axis of a face of this cube is multiplied to be that of a
            cube which is tilted with the camera.
    """

    size: int
    seen: NDArray[np.bool_]
    face: NDArray[np.int64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    stretch: NDArray[np.float32]

    @classmethod
    def of(cls, rays: NDArray[np.float64], pitch: float = 0.0) -> CubeMap:
        """The cube map for rays (H, W, 3) in the axes of a camera that looks up by `pitch` radians."""
        seen = np.asarray(np.isfinite(rays).all(axis=-1))
        own = np.where(seen[..., None], rays, [0.0, 0.0, -1.0])
        cos, sin = math.cos(pitch), math.sin(pitch)
        level = own @ np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
        ahead, right, up = _axes()
        face = (level @ ahead.T).argmax(axis=-1)
        depth = np.take_along_axis(level @ ahead.T, face[..., None], -1)[..., 0]
        across = np.take_along_axis(level @ right.T, face[..., None], -1)[..., 0] / depth
        above = np.take_along_axis(level @ up.T, face[..., None], -1)[..., 0] / depth
        size = min(rays.shape[:2])
        stretch = np.abs(own).max(axis=-1) / np.abs(level).max(axis=-1)
        return cls(size, seen, face, (1.0 - above) / 2 * size, (1.0 + across) / 2 * size, stretch.astype(np.float32))

    def render(
        self,
        renderer: Renderer,
        position: NDArray[np.float64],
        heading: float,
        camera: Camera,
        sensors: Sequence[str],
    ) -> dict[str, NDArray[Any]]:
        """Pictures of an agent's camera.

        Args:
            renderer: Renderer of one scene.
            position: (3,) the floor under the camera.
            heading: Radians.
            camera: Its height; size, field of view and pitch do not count.
            sensors: Names of the renderer's sensors.

        Returns:
            One (H, W, ...) array per sensor, as `Renderer.render` fills it; where nothing is seen as where nothing is
            hit.
        """
        across = self.size + 2 * MARGIN
        hfov = math.degrees(2.0 * math.atan(across / self.size))
        lens = Camera(across, hfov, camera.height, near=camera.near, far=camera.far, mipmaps=camera.mipmaps)
        where, places = [0] * len(FACES), np.repeat(position[None], len(FACES), axis=0)
        faces = renderer.render(where, places, heading + FACES[:, 0], lens, sensors, FACES[:, 1])
        return {name: self._look_up(name, texels) for name, texels in faces.items()}

    def _look_up(self, name: str, texels: NDArray[Any]) -> NDArray[Any]:
        """The pixels (H, W, ...) of a sensor from its faces (6, n, n, ...)."""
        pixels: NDArray[Any] = self._bilinear(texels) if name == "rgb" else self._nearest(texels)
        if name == "depth":
            pixels = pixels * self.stretch
        pixels[~self.seen] = -1 if np.issubdtype(pixels.dtype, np.signedinteger) else 0
        return pixels

    def _nearest(self, texels: NDArray[Any]) -> NDArray[Any]:
        """The nearest texel of every pixel."""
        row, column = (np.clip(place.astype(np.int64), 0, self.size - 1) + MARGIN for place in (self.row, self.column))
        return np.asarray(texels[self.face, row, column])

    def _bilinear(self, texels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Colours (H, W, 3) between the four nearest texels."""
        row, column = self.row + MARGIN - 0.5, self.column + MARGIN - 0.5
        top, left = (np.clip(np.floor(place).astype(np.int64), 0, self.size) for place in (row, column))
        down, across = (row - top)[..., None], (column - left)[..., None]
        upper, lower = (
            texels[self.face, r, left] * (1 - across) + texels[self.face, r, left + 1] * across for r in (top, top + 1)
        )
        return np.asarray((upper * (1 - down) + lower * down).round(), np.uint8)


def _axes() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions (6, 3) in which the faces look, and of their right and upper sides."""
    heading, pitch = FACES.T
    ahead = np.stack([-np.sin(heading) * np.cos(pitch), np.sin(pitch), -np.cos(heading) * np.cos(pitch)], axis=1)
    right = np.stack([np.cos(heading), np.zeros_like(heading), -np.sin(heading)], axis=1)
    return ahead, right, np.cross(right, ahead)
