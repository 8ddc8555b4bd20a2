"""Mesh files (.glb, .gltf, .obj, .ply) as triangles with textures and colours, each file once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.visual.color import ColorVisuals
from trimesh.visual.texture import TextureVisuals

from envs.scans.gltf import Gltf, Primitive
from envs.scans.images import decode_image, shrink
from envs.scene import REPEAT, Wrap

GLTF_SUFFIXES = (".glb", ".gltf")
SUFFIXES = (*GLTF_SUFFIXES, ".obj", ".ply")

_log = logging.getLogger("envs.scans.loading")


@dataclass(eq=False)
class Mesh:
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
        wraps: Wrap of each texture.
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
    wraps: list[tuple[Wrap, Wrap]]


class MeshReader:
    """Reads mesh files, each once."""

    def __init__(self, max_texture: int = 1024) -> None:
        """Prepare to read.

        Args:
            max_texture: Larger textures are scaled down to this many pixels on their longer side.
        """
        if max_texture < 1:
            raise ValueError(f"max_texture must be at least 1 pixel, got {max_texture}")
        self.max_texture = max_texture
        self._read: dict[Path, Mesh] = {}

    def read(self, path: Path) -> Mesh:
        """Read a file, and warn of textures that cannot be read.

        Raises:
            ValueError: It is damaged, or holds no triangles; the message is one line.
        """
        path = path.resolve()
        if path not in self._read:
            parts = _Parts(path, self.max_texture)
            try:
                (_read_gltf if path.suffix.lower() in GLTF_SUFFIXES else _read_by_trimesh)(path, parts)
            except Exception as error:
                # Parsers fail in any way a broken file makes them; for the user it is one thing.
                reason = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(f"cannot read {path}: {reason}; is it a complete {path.suffix} file?") from error
            if not any(len(faces) for faces in parts.faces):
                raise ValueError(f"cannot use {path}: it holds no triangles")
            self._read[path] = parts.mesh()
        return self._read[path]


@dataclass
class _Parts:
    """The parts of a file, collected into the arrays of a `Mesh`."""

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
    wraps: list[tuple[Wrap, Wrap]] = field(default_factory=list)
    instances: dict[Any, int] = field(default_factory=dict)
    texture_of: dict[Any, int] = field(default_factory=dict)
    count: int = 0

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
        """Add triangles with (V, 2) texture coordinates and (V, 3) or (F, 3, 3) colours in [0, 1]."""
        whole = np.asarray(np.isfinite(vertices).all(axis=1), np.bool_)
        if not whole.all():
            kept = np.asarray(whole[faces].all(axis=1), np.bool_)
            _log.warning("%s: %d faces with corners that are not finite are left out", self.path, (~kept).sum())
            color = color[kept] if color.ndim == 3 else color
            vertices, faces = np.where(whole[:, None], vertices, 0.0), faces[kept]
        number = len(faces)
        self.vertices.append(vertices)
        self.faces.append(faces + self.count)
        self.count += len(vertices)
        textured = texture >= 0 and uv is not None
        self.uv.append(np.nan_to_num(uv[faces]) if textured and uv is not None else np.zeros((number, 3, 2)))
        corner = color if color.ndim == 3 else color[faces]
        self.color.append(np.rint(np.clip(corner, 0.0, 1.0) * 255.0).astype(np.uint8))
        self.texture.append(np.full(number, texture if textured else -1, np.int32))
        instance = self.instances.setdefault(node, len(self.instances))
        self.instance.append(np.full(number, instance, np.int32))
        self.one_sided.append(np.full(number, one_sided))
        self.cutoff.append(np.full(number, cutoff if textured else 0, np.uint8))

    def texture_number(self, key: Any, pixels: Callable[[], NDArray[np.uint8]], wrap: tuple[Wrap, Wrap]) -> int:
        """Number of the texture known by `key`, -1 if it cannot be read, of which a warning tells."""
        if key not in self.texture_of:
            try:
                self.textures.append(pixels())
                self.wraps.append(wrap)
                self.texture_of[key] = len(self.textures) - 1
            except (OSError, ValueError, SyntaxError) as error:
                _log.warning("%s: %s; its faces get the base colour", self.path, " ".join(str(error).split()))
                self.texture_of[key] = -1
        return self.texture_of[key]

    def mesh(self) -> Mesh:
        """Return all parts as one mesh."""
        return Mesh(
            vertices=np.concatenate(self.vertices),
            faces=np.concatenate(self.faces),
            uv=np.concatenate(self.uv),
            color=np.concatenate(self.color),
            texture=np.concatenate(self.texture),
            instance=np.concatenate(self.instance),
            one_sided=np.concatenate(self.one_sided),
            cutoff=np.concatenate(self.cutoff),
            textures=self.textures,
            wraps=self.wraps,
        )


# -- glTF -------------------------------------------------------------------------------------------------------------


def _read_gltf(path: Path, parts: _Parts) -> None:
    file = Gltf(path)
    images: dict[tuple[int, bool], NDArray[np.uint8] | ValueError] = {}
    for part in file.primitives():
        material = part.material
        texture = -1
        if material.image is not None and part.uv is not None:
            # Alpha is kept where it decides what is drawn.
            key = (material.image, material.cutoff is not None)
            pixels = partial(_gltf_image, file, key, images, parts.max_texture)
            texture = parts.texture_number((*key, material.wrap), pixels, material.wrap)
        color = np.ones((len(part.vertices), 3)) if part.color is None else part.color
        parts.add(
            part.vertices,
            part.faces,
            part.uv,
            color * material.factor[:3],
            texture=texture,
            node=part.node,
            one_sided=not material.double_sided,
            cutoff=_cutoff(part, texture),
        )


def _cutoff(part: Primitive, texture: int) -> int:
    """Alpha of the texture below which a pixel is not there, 0 to 255, given the factor on it."""
    material = part.material
    if material.cutoff is None or texture < 0:
        return 0
    alpha = material.factor[3]
    return 255 if alpha <= 0 else min(255, round(255.0 * material.cutoff / alpha))


def _gltf_image(
    file: Gltf, key: tuple[int, bool], images: dict[tuple[int, bool], NDArray[np.uint8] | ValueError], largest: int
) -> NDArray[np.uint8]:
    """Pixels of an image of the file, one array for all its uses; its failure is told once, too."""
    index, with_alpha = key
    if key not in images:
        try:
            pixels = decode_image(file.image(index), largest)
            images[key] = pixels if with_alpha else np.ascontiguousarray(pixels[..., :3])
        except FileNotFoundError as error:
            images[key] = ValueError(f"file {error}")
        except (ValueError, IndexError, KeyError) as error:
            images[key] = ValueError(f"texture {file.image_name(index)} is broken or unknown: {error}")
    found = images[key]
    if isinstance(found, ValueError):
        raise found
    return found


# -- .obj and .ply ----------------------------------------------------------------------------------------------------


class _Assets(trimesh.resolvers.FilePathResolver):
    """Finds the files that a mesh file refers to, and remembers those that are not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.folder = path.parent
        self.missing: list[str] = []

    def get(self, name: str) -> bytes:
        """Return the content of a file named relative to the mesh, or lying beside it."""
        plain = unquote(name.strip()).replace("\\", "/")
        for candidate in (name.strip(), plain, Path(plain).name):
            file = self.folder / candidate
            if file.is_file():
                return file.read_bytes()
        self.missing.append(plain)
        raise FileNotFoundError(f"{plain} is missing")


def _read_by_trimesh(path: Path, parts: _Parts) -> None:
    assets = _Assets(path)
    # `process` would merge vertices and drop faces.
    file = trimesh.load_scene(str(path), resolver=assets, process=False)
    for name in assets.missing:
        _log.warning("%s: file %s is missing; faces that need it get their base colour", path, name)
    for node in file.graph.nodes_geometry:
        transform, part = file.graph[node]
        mesh = file.geometry[part]
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        image, base = _material(mesh)
        uv = getattr(mesh.visual, "uv", None)
        texture = -1
        if image is not None and uv is not None:
            texture = parts.texture_number(id(image), partial(_pixels, image, parts.max_texture), (REPEAT, REPEAT))
            # trimesh counts v upwards whatever the format.
            uv = np.asarray(uv, np.float64) * [1.0, -1.0] + [0.0, 1.0]
        vertices = mesh.vertices @ transform[:3, :3].T + transform[:3, 3]
        faces = np.asarray(mesh.faces, np.int64)
        parts.add(vertices, faces, uv, _vertex_color(mesh) * base, texture=texture, node=part)


def _pixels(image: Image.Image, largest: int) -> NDArray[np.uint8]:
    return shrink(image.convert("RGB"), largest)


def _material(mesh: Any) -> tuple[Image.Image | None, NDArray[np.float64]]:
    """Return the texture (or None) and the (3,) base colour of a mesh in [0, 1]."""
    image, factor = None, None
    material = getattr(mesh.visual, "material", None)
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        image, factor = material.baseColorTexture, material.baseColorFactor
    elif isinstance(material, trimesh.visual.material.SimpleMaterial):
        # Without Kd, trimesh fills in grey.
        image, factor = material.image, material.diffuse if "kd" in material.kwargs else None
    return image, np.ones(3) if factor is None else np.asarray(factor, np.float64)[:3] / 255.0


def _vertex_color(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """Return the (F, 3, 3) colour factor in [0, 1] of the faces' corners, white where the mesh has none."""
    visual = mesh.visual
    colors: NDArray[Any] | None = None
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        colors = np.repeat(visual.face_colors[:, None], 3, axis=1)
    elif isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        colors = visual.vertex_colors[mesh.faces]
    elif isinstance(visual, TextureVisuals) and "color" in visual.vertex_attributes:
        colors = np.asarray(visual.vertex_attributes["color"])[mesh.faces]
    if colors is None:
        return np.ones((len(mesh.faces), 3, 3))
    full = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
    return np.clip(colors[..., :3] / full, 0.0, 1.0)
