"""Textured meshes from files (Gibson, HM3D, MP3D, ReplicaCAD, one's own scan) as a `Scene`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.extent import LARGEST, check_extent
from envs.scans.axes import IDENTITY, UP_CHOICES, Stage, bare_stage
from envs.scans.mesh import FileMesh
from envs.scans.mesh_files import SUFFIXES, MeshReader
from envs.scene import Sampler, Scene

# Metres from the origin beyond which a scene is moved there: single precision is then coarser than 0.1 mm.
FAR = 1000.0
# Beyond this, double precision is coarser than 0.1 mm, too.
FARTHEST = 1e11

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


def load_scene(
    path: str | Path, *, max_texture: int = 1024, up: str = "auto", culling: bool = True, materials: str = "gltf"
) -> Scene:
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
            or ``"auto"`` (`envs.scans.axes.bare_stage`): the word of a ``.stage_config.json`` or ``.navmesh`` file
            of the
            same name, else y.
        culling: Whether faces of single-sided materials are seen from the front only, as glTF and Habitat have it.
            Without it, all are seen from both sides.
        materials: How glTF materials are read, one of `envs.scans.gltf.MATERIALS`: ``"gltf"`` as the standard says;
            ``"habitat"`` as habitat-sim draws them.

    Returns:
        The scene in metres, +Y up, named `path`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The suffix is unknown, the file cannot be read, or it holds no triangles.
    """
    path = Path(path)
    if up not in UP_CHOICES:
        raise ValueError(f"up must be one of {', '.join(map(repr, UP_CHOICES))}, got {up!r}")
    reader = MeshReader(max_texture=max_texture, materials=materials)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot read {path}: a scene is a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"scene file {path} does not exist")
    mesh = reader.read(path)
    stage: Stage = bare_stage(path, up, lambda: mesh.vertices[mesh.faces])
    if stage.asset != path:
        mesh = reader.read(stage.asset)
    return assemble(str(path), [(mesh, stage.matrix)], culling=culling)


def load_assets(
    name: str, assets: Sequence[Asset], *, max_texture: int = 1024, culling: bool = True, materials: str = "gltf"
) -> Scene:
    """Read several mesh files and put them together, each file and texture once.

    Args:
        name: Name of the scene.
        assets: The files and their places; the instances of one file are one object each.
        max_texture: As for `load_scene`.
        culling: As for `load_scene`.
        materials: As for `load_scene`.

    Raises:
        FileNotFoundError: A file is absent.
        ValueError: A file cannot be read, or none holds triangles.
    """
    reader = MeshReader(max_texture=max_texture, materials=materials)
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


def assemble(name: str, placed: Sequence[tuple[FileMesh, NDArray[np.float64]]], *, culling: bool = True) -> Scene:
    """Join meshes to a scene; one that lies further than `FAR` from the origin is moved there, by whole metres.

    Args:
        name: Name of the scene.
        placed: Meshes with their (4, 4) matrices to the world, in metres and +Y up; a matrix that mirrors keeps fronts.
        culling: Whether one-sided faces are kept one-sided.

    Raises:
        ValueError: A vertex is not finite, or the scene is larger than any place, or further away than any.
    """
    vertices, faces, texture, instance = [], [], [], []
    textures: list[NDArray[np.uint8]] = []
    samplers: list[Sampler] = []
    first: dict[int, int] = {}
    points = objects = 0
    for mesh, matrix in placed:
        if id(mesh) not in first:
            first[id(mesh)] = len(textures)
            textures += mesh.textures
            samplers += mesh.samplers
        vertices.append(mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3])
        wound = mesh.faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else mesh.faces
        faces.append(wound + points)
        texture.append(np.where(mesh.texture >= 0, mesh.texture + first[id(mesh)], -1))
        instance.append(mesh.instance + objects)
        points += len(mesh.vertices)
        objects += int(mesh.instance.max()) + 1
    corners, joined = np.concatenate(vertices), np.concatenate(faces)
    check_extent(corners[joined], name)
    origin = _far_origin(corners[joined])
    if not (away := np.abs(origin).max()) <= FARTHEST:
        raise ValueError(f"scene {name} lies {away:.3g} m from the origin, too far for exact places; move it there")
    if origin.any():
        at = ", ".join(f"{v:.0f}" for v in origin)
        _log.warning("%s lies at (%s), far from the origin, and is moved there", name, at)
    flipped = [np.linalg.det(matrix[:3, :3]) < 0 for _, matrix in placed]
    count = sum(len(mesh.faces) for mesh, _ in placed)
    one_sided = np.concatenate([mesh.one_sided for mesh, _ in placed]) & culling
    cutoff = np.concatenate([mesh.cutoff for mesh, _ in placed])
    return Scene(
        name=name,
        # Vertices of no triangle may lie anywhere.
        vertices=np.clip(corners - origin, -LARGEST, LARGEST).astype(np.float32),
        faces=joined.astype(np.int32),
        corner_uv=_joined([m.uv for m, _ in placed], flipped).astype(np.float32),
        corner_color=_joined([m.color for m, _ in placed], flipped),
        face_texture=np.concatenate(texture).astype(np.int32),
        textures=tuple(textures),
        face_class=np.zeros(count, np.int32),
        face_instance=np.concatenate(instance).astype(np.int32),
        class_names=("unknown",),
        solid=np.ones(count, np.bool_),
        samplers=tuple(samplers),
        one_sided=one_sided if one_sided.any() else None,
        cutoff=cutoff if cutoff.any() else None,
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
    )


def _far_origin(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) whole metres from the origin to a scene that is far from it, 0 if it is near or around it."""
    middle = np.median(corners.mean(axis=1), axis=0)
    size = corners.max(axis=(0, 1)) - corners.min(axis=(0, 1))
    return np.where(np.abs(middle).max() > max(FAR, float(size.max())), np.rint(middle), 0.0)


def _joined(corners: list[NDArray[Any]], flipped: list[bool]) -> NDArray[Any]:
    """Values per corner of several meshes, in the order of corners that mirrored meshes have."""
    return np.concatenate([c[:, ::-1] if turn else c for c, turn in zip(corners, flipped, strict=True)])
