"""Mesh files (.glb, .gltf, .obj, .ply) as triangles with textures and colours, each file once."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.files import mistaken
from envs.scans.gltf import Gltf, Primitive
from envs.scans.images import decode_image
from envs.scans.mesh import FileMesh, MeshCollector
from envs.scans.obj import read_obj
from envs.scans.ply import read_ply

GLTF_SUFFIXES = (".glb", ".gltf")
SUFFIXES = (*GLTF_SUFFIXES, ".obj", ".ply")

PACKED = {
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "compressed by gzip",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_log = logging.getLogger("envs.scans.loading")


class MeshReader:
    """Reads mesh files, each once."""

    def __init__(self, max_texture: int = 1024, materials: str = "gltf") -> None:
        """Prepare to read.

        Args:
            max_texture: Larger textures are scaled down to this many pixels on their longer side.
            materials: Of glTF files, one of `envs.scans.gltf.MATERIALS`.
        """
        if max_texture < 1:
            raise ValueError(f"max_texture must be at least 1 pixel, got {max_texture}")
        self.max_texture, self.materials = max_texture, materials
        self._read: dict[Path, FileMesh] = {}

    def read(self, path: Path) -> FileMesh:
        """Read a file, and warn of textures that cannot be read.

        Raises:
            ValueError: It is damaged, or holds no triangles; the message is one line.
        """
        # Not resolved: a link to a file of another name keeps its ending, and what lies beside it.
        path = path.absolute()
        if path not in self._read:
            parts = MeshCollector(path, self.max_texture)
            try:
                if path.suffix.lower() in GLTF_SUFFIXES:
                    _read_gltf(path, parts, self.materials)
                elif path.suffix.lower() in _READERS:
                    _READERS[path.suffix.lower()](path, parts)
                else:
                    raise ValueError(f"a mesh is a file that ends in {', '.join(SUFFIXES)}")
            except Exception as error:
                # Parsers fail in any way a broken file makes them; for the user it is one thing.
                raise ValueError(f"cannot read {path}: {_fault(path, error)}") from error
            if not any(len(faces) for faces in parts.faces):
                raise ValueError(f"cannot use {path}: {_other_file(path) or 'it holds no triangles'}")
            self._read[path] = parts.mesh()
        return self._read[path]


def _other_file(path: Path) -> str:
    """What a file is that has the ending of a mesh by mistake; empty if not known."""
    if known := mistaken(path):
        return known
    with path.open("rb") as file:
        start = file.read(4)
    return next((f"it is {what}; unpack it" for magic, what in PACKED.items() if start.startswith(magic)), "")


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that its parser does not read."""
    message = " ".join(str(error).split()) or type(error).__name__
    if known := _other_file(path):
        return known
    if not isinstance(error, ValueError | OSError):
        message = f"a part of it is missing or of another form ({type(error).__name__}: {message})"
    # Some messages say already what to do.
    return message if ";" in message else f"{message}; is it a complete {path.suffix} file?"


def _read_gltf(path: Path, parts: MeshCollector, materials: str) -> None:
    file = Gltf(path, materials)
    images: dict[tuple[int, bool], NDArray[np.uint8] | ValueError] = {}
    lost: set[str] = set()
    for part in file.primitives():
        material = part.material
        texture = -1
        if material.textured and (material.image is None or part.uv is None):
            lost.add("an image" if material.image is None else f"texture coordinates {material.coordinates}")
        elif material.image is not None:
            # Alpha is kept where it decides what is drawn.
            key = (material.image, material.cutoff is not None)
            pixels = partial(_gltf_image, file, key, images, parts.max_texture)
            texture = parts.texture_number((*key, material.sampler), pixels, material.sampler)
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
    for what in sorted(lost):
        _log.warning("%s: textured faces without %s get their base colour", path, what)
    for problem in file.problems():
        _log.warning("%s: %s", path, problem)


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
    """Pixels of an image of the file, one array for all its uses; its failure is logged once, too."""
    index, with_alpha = key
    if key not in images:
        try:
            pixels = decode_image(file.image(index), largest)
            images[key] = pixels if with_alpha else np.ascontiguousarray(pixels[..., :3])
        except FileNotFoundError as error:
            images[key] = ValueError(f"file {error}")
        except (ValueError, IndexError, KeyError) as error:
            images[key] = ValueError(f"texture {file.image_name(index)} is broken or unknown: {error}")
    image = images[key]
    if isinstance(image, ValueError):
        raise image
    return image


_READERS = {".obj": read_obj, ".ply": read_ply}
