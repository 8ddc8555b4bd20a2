"""Textured meshes from files (Gibson, HM3D, MP3D, ReplicaCAD, one's own scan) as a `Scene`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.visual.color import ColorVisuals
from trimesh.visual.texture import TextureVisuals

from envs._frames import IDENTITY, UP_CHOICES, Stage, bare_stage
from envs._gltf import Gltf, Primitive
from envs._images import decode_image, shrink
from envs.scene import REPEAT, Scene, Wrap

GLTF_SUFFIXES = (".glb", ".gltf")
SUFFIXES = (*GLTF_SUFFIXES, ".obj", ".ply")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asset:
    """A mesh file at its place in a scene.

    Attributes:
        path: The file.
        matrix: (4, 4) float64 from the file's coordinates to the world's.
        name: Name of the object, for messages.
        centred: Whether the matrix is to be applied after the bounding box's centre has been moved to the origin;
            `local` then comes first.
        local: (4, 4) float64 applied before the bounding box is taken.
    """

    path: Path
    matrix: NDArray[np.float64]
    name: str = ""
    centred: bool = False
    local: NDArray[np.float64] = field(default_factory=lambda: IDENTITY)


def load_scene(path: str | Path, *, max_texture: int = 1024, up: str = "auto", culling: bool = True) -> Scene:
    """Read a mesh file with its materials.

    The colour is texture x base colour factor x vertex colour, each taken as stored, without light and without
    conversion between linear and sRGB, as Habitat draws scans; what a file leaves out counts as white. Texels of
    materials with alpha mode MASK are cut out; blended materials are drawn opaque. All faces are of class
    ``"unknown"``; each node of the file is one instance.

    Args:
        path: A .glb, .gltf, .obj or .ply file; files it refers to lie beside it.
        max_texture: Larger textures are scaled down to this many pixels on their longer side.
        up: Axis of the file that points up: ``"y"``, as glTF prescribes; ``"z"``, as in Habitat's own scans (MP3D,
            Gibson, HM3D), turned as Habitat does: (x, y, z) becomes (x, z, -y); ``"habitat"``, what habitat-sim does;
            or ``"auto"`` (`envs._frames.bare_stage`): the word of a ``.stage_config.json`` or ``.navmesh`` file of the
            same name, else y.
        culling: Whether faces of single-sided materials are seen from the front only, as glTF and Habitat have it.
            Without it, all are seen from both sides.

    Returns:
        The scene in metres, +Y up, named `path`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The suffix is unknown, the file cannot be read, or it holds no triangles.
    """
    path = Path(path)
    if up not in UP_CHOICES:
        raise ValueError(f"up must be one of {', '.join(map(repr, UP_CHOICES))}, got {up!r}")
    reader = MeshReader(max_texture=max_texture)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot read {path}: a scene is a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"scene file {path} does not exist")
    mesh = reader.read(path)
    stage: Stage = bare_stage(path, up, lambda: (mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)))
    if stage.asset != path:
        mesh = reader.read(stage.asset)
    return assemble(str(path), [(mesh, stage.matrix)], culling=culling)


def load_assets(name: str, assets: Sequence[Asset], *, max_texture: int = 1024, culling: bool = True) -> Scene:
    """Read several mesh files and put them together, each file and texture once.

    Args:
        name: Name of the scene.
        assets: The files and their places; the instances of one file are one object each.
        max_texture: As for `load_scene`.
        culling: As for `load_scene`.

    Raises:
        FileNotFoundError: A file is absent.
        ValueError: A file cannot be read, or none holds triangles.
    """
    reader = MeshReader(max_texture=max_texture)
    placed = []
    for asset in assets:
        if asset.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"cannot read {asset.path}: a mesh is a file that ends in {', '.join(SUFFIXES)}")
        if not asset.path.is_file():
            raise FileNotFoundError(f"mesh {asset.path} of scene {name} does not exist")
        mesh = reader.read(asset.path)
        matrix = asset.matrix @ asset.local
        if asset.centred:
            corner = mesh.vertices @ asset.local[:3, :3].T + asset.local[:3, 3]
            back = np.eye(4)
            back[:3, 3] = -0.5 * (corner.min(axis=0) + corner.max(axis=0))
            matrix = asset.matrix @ back @ asset.local
        placed.append((mesh, matrix))
    return assemble(name, placed, culling=culling)


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


def assemble(name: str, placed: Sequence[tuple[Mesh, NDArray[np.float64]]], *, culling: bool = True) -> Scene:
    """Join meshes to a scene.

    Args:
        name: Name of the scene.
        placed: Meshes with their (4, 4) matrices to the world, in metres and +Y up; a matrix that mirrors keeps fronts.
        culling: Whether one-sided faces are kept one-sided.

    Raises:
        ValueError: A vertex is not finite.
    """
    vertices, faces, texture, instance = [], [], [], []
    textures: list[NDArray[np.uint8]] = []
    wraps: list[tuple[Wrap, Wrap]] = []
    first: dict[int, int] = {}
    points = objects = 0
    for mesh, matrix in placed:
        if id(mesh) not in first:
            first[id(mesh)] = len(textures)
            textures += mesh.textures
            wraps += mesh.wraps
        vertices.append(mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3])
        wound = mesh.faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else mesh.faces
        faces.append(wound + points)
        texture.append(np.where(mesh.texture >= 0, mesh.texture + first[id(mesh)], -1))
        instance.append(mesh.instance + objects)
        points += len(mesh.vertices)
        objects += int(mesh.instance.max()) + 1
    flipped = [np.linalg.det(matrix[:3, :3]) < 0 for _, matrix in placed]
    count = sum(len(mesh.faces) for mesh, _ in placed)
    one_sided = np.concatenate([mesh.one_sided for mesh, _ in placed]) & culling
    cutoff = np.concatenate([mesh.cutoff for mesh, _ in placed])
    return Scene(
        name=name,
        vertices=np.concatenate(vertices).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        corner_uv=_joined([m.uv for m, _ in placed], flipped).astype(np.float32),
        corner_color=_joined([m.color for m, _ in placed], flipped),
        face_texture=np.concatenate(texture).astype(np.int32),
        textures=tuple(textures),
        face_class=np.zeros(count, np.int32),
        face_instance=np.concatenate(instance).astype(np.int32),
        class_names=("unknown",),
        solid=np.ones(count, np.bool_),
        wraps=tuple(wraps) if any(wrap != (REPEAT, REPEAT) for wrap in wraps) else (),
        one_sided=one_sided if one_sided.any() else None,
        cutoff=cutoff if cutoff.any() else None,
    )


def _joined(corners: list[NDArray[Any]], flipped: list[bool]) -> NDArray[Any]:
    """Values per corner of several meshes, in the order of corners that mirrored meshes have."""
    return np.concatenate([c[:, ::-1] if turn else c for c, turn in zip(corners, flipped, strict=True)])


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
            if not parts.faces:
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
        number = len(faces)
        self.vertices.append(vertices)
        self.faces.append(faces + self.count)
        self.count += len(vertices)
        textured = texture >= 0 and uv is not None
        self.uv.append(uv[faces] if textured and uv is not None else np.zeros((number, 3, 2)))
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
            texture = parts.texture_number(
                (*key, material.wrap), lambda key=key: _gltf_image(file, key, images, parts.max_texture), material.wrap
            )
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
        transform, name = file.graph[node]
        mesh = file.geometry[name]
        if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
            continue
        image, base = _material(mesh)
        uv = getattr(mesh.visual, "uv", None)
        texture = -1
        if image is not None and uv is not None:
            texture = parts.texture_number(
                id(image), lambda image=image: shrink(image.convert("RGB"), parts.max_texture), (REPEAT, REPEAT)
            )
            # trimesh counts v upwards whatever the format.
            uv = np.asarray(uv, np.float64) * [1.0, -1.0] + [0.0, 1.0]
        vertices = mesh.vertices @ transform[:3, :3].T + transform[:3, 3]
        faces = np.asarray(mesh.faces, np.int64)
        parts.add(vertices, faces, uv, _vertex_color(mesh) * base, texture=texture, node=name)


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
