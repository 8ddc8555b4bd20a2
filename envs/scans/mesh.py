"""The triangles of one mesh file with their textures and colours, and the parts from which they are collected."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.scans.assets import read_asset
from envs.scans.images import decode_image
from envs.scene import Sampler

# Vertices and triangles of a file: several times those of the largest scans.
MOST_CORNERS = 2**26

_log = logging.getLogger("envs.scans.loading")


@dataclass(eq=False)
class FileMesh:
    """The triangles of one file, in the file's own coordinates.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64, the front counter-clockwise.
        uv: (F, 3, 2) float64, v down the image.
        color: (F, 3, 3) uint8 factor on the texture.
        texture: (F,) int32 index into `textures`, -1 for none.
        instance: (F,) int32 object within the file, from 0 without gaps.
        one_sided: (F,) bool.
        cutoff: (F,) uint8 alpha below which a texel is not there.
        textures: (h, w, 3 or 4) uint8.
        samplers: Sampler of each texture.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64]
    color: NDArray[np.uint8]
    texture: NDArray[np.int32]
    instance: NDArray[np.int32]
    one_sided: NDArray[np.bool_]
    cutoff: NDArray[np.uint8]
    textures: list[NDArray[np.uint8]]
    samplers: list[Sampler]


@dataclass
class MeshCollector:
    """The parts of a file, collected into the arrays of a `FileMesh`."""

    path: Path
    max_texture: int
    vertices: list[NDArray[np.float64]] = field(default_factory=list)
    faces: list[NDArray[np.int64]] = field(default_factory=list)
    uv: list[NDArray[np.float64]] = field(default_factory=list)
    color: list[NDArray[np.uint8]] = field(default_factory=list)
    texture: list[NDArray[np.int32]] = field(default_factory=list)
    instance: list[NDArray[np.int32]] = field(default_factory=list)
    one_sided: list[NDArray[np.bool_]] = field(default_factory=list)
    cutoff: list[NDArray[np.uint8]] = field(default_factory=list)
    textures: list[NDArray[np.uint8]] = field(default_factory=list)
    samplers: list[Sampler] = field(default_factory=list)
    instances: dict[Any, int] = field(default_factory=dict)
    texture_of: dict[Any, int] = field(default_factory=dict)
    count: int = 0
    triangles: int = 0
    strange_colors: bool = False

    def add(
        self,
        vertices: NDArray[np.float64],
        faces: NDArray[np.int64],
        uv: NDArray[np.float64] | None,
        color: NDArray[np.float64],
        *,
        texture: int,
        node: Any,
        one_sided: bool = True,
        cutoff: int = 0,
    ) -> None:
        """Add triangles with (V, 2) texture coordinates and (V, 3) or (F, 3, 3) colours in [0, 1].

        Raises:
            ValueError: There would be too many.
        """
        check_faces(faces, len(vertices))
        self.triangles += len(faces)
        if max(self.count + len(vertices), self.triangles) > MOST_CORNERS:
            raise ValueError(f"it holds more than {MOST_CORNERS / 1e6:.0f} million vertices or triangles")
        whole = np.asarray(np.isfinite(vertices).all(axis=1), np.bool_)
        if not whole.all():
            finite = np.asarray(whole[faces].all(axis=1), np.bool_)
            _log.warning("%s: %d faces with corners that are not finite are left out", self.path, (~finite).sum())
            color = color[finite] if color.ndim == 3 else color
            vertices, faces = np.where(whole[:, None], vertices, 0.0), faces[finite]
        number = len(faces)
        self.vertices.append(vertices)
        self.faces.append(faces + self.count)
        self.count += len(vertices)
        textured = texture >= 0 and uv is not None
        self.uv.append(np.nan_to_num(uv[faces]) if textured and uv is not None else np.zeros((number, 3, 2)))
        corner = self._clipped(color if color.ndim == 3 else color[faces])
        self.color.append(np.rint(corner * 255.0).astype(np.uint8))
        self.texture.append(np.full(number, texture if textured else -1, np.int32))
        instance = self.instances.setdefault(node, len(self.instances))
        self.instance.append(np.full(number, instance, np.int32))
        self.one_sided.append(np.full(number, one_sided))
        self.cutoff.append(np.full(number, cutoff if textured else 0, np.uint8))

    def _clipped(self, color: NDArray[np.float64]) -> NDArray[np.float64]:
        """Colours in [0, 1]; one that is not a number counts as white. Others get a warning."""
        known = np.where(np.isnan(color), 1.0, color)
        clipped: NDArray[np.float64] = np.clip(known, 0.0, 1.0)
        if not self.strange_colors and not np.allclose(color, clipped, atol=0.01):
            self.strange_colors = True
            _log.warning("%s: it has colours that are not between 0 and 1, which are clipped", self.path)
        return clipped

    def file_texture(self, name: str, sampler: Sampler) -> int:
        """Number of a texture in a file of its own, -1 if it cannot be read, with a warning."""

        def pixels() -> NDArray[np.uint8]:
            try:
                return np.ascontiguousarray(decode_image(read_asset(self.path.parent, name), self.max_texture)[..., :3])
            except FileNotFoundError as error:
                raise ValueError(f"file {error}") from error
            except ValueError as error:
                raise ValueError(f"texture {name} is broken or unknown: {error}") from error

        return self.texture_number((name, sampler), pixels, sampler)

    def texture_number(self, key: Any, pixels: Callable[[], NDArray[np.uint8]], sampler: Sampler) -> int:
        """Number of the texture known by `key`, -1 if it cannot be read, with a warning."""
        if key not in self.texture_of:
            try:
                self.textures.append(pixels())
                self.samplers.append(sampler)
                self.texture_of[key] = len(self.textures) - 1
            except (OSError, ValueError, SyntaxError) as error:
                _log.warning("%s: %s; its faces get the base colour", self.path, " ".join(str(error).split()))
                self.texture_of[key] = -1
        return self.texture_of[key]

    def mesh(self) -> FileMesh:
        """Return all parts as one mesh."""
        return FileMesh(
            vertices=np.concatenate(self.vertices),
            faces=np.concatenate(self.faces),
            uv=np.concatenate(self.uv),
            color=np.concatenate(self.color),
            texture=np.concatenate(self.texture),
            instance=np.concatenate(self.instance),
            one_sided=np.concatenate(self.one_sided),
            cutoff=np.concatenate(self.cutoff),
            textures=self.textures,
            samplers=self.samplers,
        )


def check_faces(faces: NDArray[np.int64], count: int) -> None:
    """Raise a ValueError where faces name others than the `count` vertices that there are."""
    if wrong := faces[(faces < 0) | (faces >= count)].ravel().tolist():
        raise ValueError(f"a face names vertex {wrong[0]} of {count}, which count from 0")
