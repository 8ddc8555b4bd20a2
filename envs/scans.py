"""Textured meshes from files (Gibson, HM3D, MP3D, ReplicaCAD, one's own scan) as a `Scene`."""

from __future__ import annotations

import json
import logging
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

from envs.scene import Scene

SUFFIXES = (".glb", ".gltf", ".obj", ".ply")

_log = logging.getLogger(__name__)


def load_scene(path: str | Path, *, max_texture: int = 1024, up: str = "y") -> Scene:
    """Read a mesh file with its materials.

    Every triangle is drawn from both sides and opaque; textures repeat. The colour is texture x base colour
    factor x vertex colour, each taken as stored, without conversion between linear and sRGB, as Habitat draws
    scans; what a file leaves out counts as white. All faces are of class ``"unknown"``; each node of the file
    is one instance.

    Args:
        path: A .glb, .gltf, .obj or .ply file; files it refers to lie beside it.
        max_texture: Larger textures are scaled down to this many pixels on their longer side.
        up: Axis of the file that points up: ``"y"``, as glTF prescribes, or ``"z"``, as in MP3D, Gibson and
            many .obj and .ply scans. A Z-up mesh is turned as Habitat does: (x, y, z) becomes (x, z, -y).

    Returns:
        The scene in metres, +Y up, named `path`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The suffix is unknown, the file cannot be read, or it holds no triangles.
    """
    path = Path(path)
    if up not in ("y", "z"):
        raise ValueError(f"up must be 'y' or 'z', got {up!r}")
    if max_texture < 1:
        raise ValueError(f"max_texture must be at least 1 pixel, got {max_texture}")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot read {path}: a scene is a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"scene file {path} does not exist")
    file = _read(path)
    parts = _Parts(str(path), max_texture)
    for node in file.graph.nodes_geometry:
        transform, name = file.graph[node]
        mesh = file.geometry[name]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            parts.add(mesh, transform, _object_node(file, node))
    if not parts.faces:
        raise ValueError(f"cannot use {path}: it holds no triangles")
    return parts.scene(up)


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


def _read(path: Path) -> trimesh.Scene:
    """Parse the file, and warn of materials that could not be read."""
    assets = _Assets(path)
    try:
        textures = _declared_textures(path)
        # `process` would merge vertices and drop faces.
        file = trimesh.load_scene(str(path), resolver=assets, process=False)
    except Exception as error:
        # The parsers fail in any way a broken file makes them; for the user it is one thing.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot read {path}: {reason}; is it a complete {path.suffix} file?") from error
    for name in assets.missing:
        _log.warning("%s: file %s is missing; faces that need it get their base colour", path, name)
    images = {id(_material(mesh)[0]) for mesh in file.geometry.values() if _material(mesh)[0] is not None}
    unread = textures - len(images) - len(assets.missing)
    if unread > 0:
        _log.warning(
            "%s: %d of %d textures are broken or in a format that Pillow cannot read (KTX2/Basis, for one); "
            "their faces get the base colour",
            path,
            unread,
            textures,
        )
    return file


def _declared_textures(path: Path) -> int:
    """Count the base colour images that the materials in use of a glTF file name; 0 for other formats."""
    if path.suffix.lower() not in (".glb", ".gltf"):
        return 0
    with path.open("rb") as file:
        if path.suffix.lower() == ".glb":
            # 12 bytes of file header, then length and type of the JSON chunk.
            length = int.from_bytes(file.read(20)[12:16], "little")
            header = json.loads(file.read(length))
        else:
            header = json.load(file)
    parts = [part for mesh in header.get("meshes", ()) for part in mesh["primitives"]]
    used = {part["material"] for part in parts if "material" in part}
    images = set()
    for number in used:
        texture = header["materials"][number].get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if texture is not None:
            texture = header["textures"][texture["index"]]
            # A compressed texture names its image in an extension.
            sources = [
                texture.get("source"),
                *(e.get("source") for e in texture.get("extensions", {}).values()),
            ]
            images.add(next((source for source in sources if source is not None), None))
    return len(images - {None})


def _object_node(file: trimesh.Scene, node: str) -> str:
    """Return the node of the file that a geometry node belongs to.

    trimesh hangs the parts of a mesh of several materials below its node, as ``<node>_<6 characters>``.
    """
    parent = file.graph.transforms.parents.get(node)
    if parent is not None and node.startswith(f"{parent}_") and len(node) == len(parent) + 7:
        return parent
    return node


def _material(mesh: Any) -> tuple[Image.Image | None, NDArray[np.uint8]]:
    """Return the texture (or None) and the (3,) uint8 base colour of a mesh."""
    image, factor = None, None
    material = getattr(mesh.visual, "material", None)
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        image, factor = material.baseColorTexture, material.baseColorFactor
    elif isinstance(material, trimesh.visual.material.SimpleMaterial):
        # Without Kd, trimesh fills in grey.
        image, factor = material.image, material.diffuse if "kd" in material.kwargs else None
    white = np.full(3, 255, np.uint8)
    return image, white if factor is None else np.asarray(factor, np.uint8)[:3]


def _vertex_color(mesh: trimesh.Trimesh) -> NDArray[np.float64] | None:
    """Return the (F, 3, 3) colour factor in [0, 1] of the faces' corners, or None where the mesh has none."""
    visual = mesh.visual
    colors: NDArray[Any] | None = None
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        colors = np.repeat(visual.face_colors[:, None], 3, axis=1)
    elif isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        colors = visual.vertex_colors[mesh.faces]
    elif isinstance(visual, TextureVisuals) and "color" in visual.vertex_attributes:
        colors = np.asarray(visual.vertex_attributes["color"])[mesh.faces]
    if colors is None:
        return None
    full = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
    return np.clip(colors[..., :3] / full, 0.0, 1.0)


@dataclass
class _Parts:
    """The meshes of a file, collected into the arrays of a `Scene`."""

    name: str
    max_texture: int
    vertices: list[NDArray[np.float64]] = field(default_factory=list)
    faces: list[NDArray[np.int64]] = field(default_factory=list)
    uv: list[NDArray[np.float64]] = field(default_factory=list)
    color: list[NDArray[np.uint8]] = field(default_factory=list)
    texture: list[NDArray[np.int32]] = field(default_factory=list)
    instance: list[NDArray[np.int32]] = field(default_factory=list)
    textures: list[NDArray[np.uint8]] = field(default_factory=list)
    instances: dict[str, int] = field(default_factory=dict)
    texture_of: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def add(self, mesh: trimesh.Trimesh, transform: NDArray[np.float64], node: str) -> None:
        """Add a mesh at its place in the world, as a part of object `node`."""
        faces = np.asarray(mesh.faces)
        self.vertices.append(mesh.vertices @ transform[:3, :3].T + transform[:3, 3])
        self.faces.append(faces + self.count)
        self.count += len(mesh.vertices)
        image, base = _material(mesh)
        uv = getattr(mesh.visual, "uv", None)
        texture = -1 if image is None or uv is None else self._texture(image)
        corner_uv = np.zeros((len(faces), 3, 2))
        if texture >= 0:
            corner_uv = np.asarray(uv, np.float64)[faces]
            # trimesh counts v upwards whatever the format.
            corner_uv[..., 1] = 1.0 - corner_uv[..., 1]
        self.uv.append(corner_uv)
        shade = _vertex_color(mesh)
        factor = np.ones((len(faces), 3, 3)) if shade is None else shade
        self.color.append(np.rint(factor * base).astype(np.uint8))
        self.texture.append(np.full(len(faces), texture, np.int32))
        instance = self.instances.setdefault(node, len(self.instances))
        self.instance.append(np.full(len(faces), instance, np.int32))

    def _texture(self, image: Image.Image) -> int:
        """Return the number of the image's texture, -1 if its data are broken."""
        if id(image) not in self.texture_of:
            try:
                picture = image.convert("RGB")
            except (OSError, SyntaxError, ValueError) as error:
                _log.warning("%s: a texture is broken (%s); its faces get the base colour", self.name, error)
                self.texture_of[id(image)] = -1
                return -1
            picture.thumbnail((self.max_texture, self.max_texture), Image.Resampling.LANCZOS)
            self.texture_of[id(image)] = len(self.textures)
            self.textures.append(np.array(picture))
        return self.texture_of[id(image)]

    def scene(self, up: str) -> Scene:
        """Return all parts as one scene."""
        vertices = np.concatenate(self.vertices)
        if up == "z":
            vertices = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], axis=1)
        faces = np.concatenate(self.faces).astype(np.int32)
        return Scene(
            name=self.name,
            vertices=vertices.astype(np.float32),
            faces=faces,
            corner_uv=np.concatenate(self.uv).astype(np.float32),
            corner_color=np.concatenate(self.color),
            face_texture=np.concatenate(self.texture),
            textures=tuple(self.textures),
            face_class=np.zeros(len(faces), np.int32),
            face_instance=np.concatenate(self.instance),
            class_names=("unknown",),
            solid=np.ones(len(faces), np.bool_),
        )
