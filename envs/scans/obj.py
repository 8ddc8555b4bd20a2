"""Wavefront OBJ files as triangles with the materials that they name.

Source: the OBJ format of Wavefront's Advanced Visualizer, https://paulbourke.net/dataformats/obj/. Read are vertices
with their colours, texture coordinates, faces and materials; lines, points, curves and normals are passed over.
"""

from __future__ import annotations

import logging
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.scans.materials import ObjMaterial, decoded, lines_of, read_materials
from envs.scans.mesh import MeshCollector
from envs.scene import Sampler

_log = logging.getLogger("envs.scans.loading")
SHOWN = 60  # characters of a line that is shown in a message


@dataclass
class ObjFile:
    """The content of an OBJ file.

    Attributes:
        positions: x, y, z of all vertices, flat.
        colors: r, g, b of all vertices, flat; NaN where a vertex has none.
        coordinates: u, v of all texture coordinates, flat; v upwards.
        corners: By material, the vertices of its triangles, flat, from 0.
        mapped: By material, the texture coordinates of the same corners, from 0; -1 for none.
    """

    positions: array[float] = field(default_factory=lambda: array("d"))
    colors: array[float] = field(default_factory=lambda: array("d"))
    coordinates: array[float] = field(default_factory=lambda: array("d"))
    corners: dict[str, array[int]] = field(default_factory=dict)
    mapped: dict[str, array[int]] = field(default_factory=dict)


def read_obj(path: Path, parts: MeshCollector) -> None:
    """Read an OBJ file with the materials that it names.

    Raises:
        ValueError: A line is no OBJ, or a face names what is not there.
    """
    library = read_materials(path)
    for problem in library.problems:
        _log.warning("%s: %s; faces that need it get their base colour", path, problem)
    file = parse(decoded(path.read_bytes()))
    vertices = np.array(file.positions, np.float64).reshape(-1, 3)
    colors = _fractions(np.array(file.colors, np.float64).reshape(-1, 3))
    uv = np.array(file.coordinates, np.float64).reshape(-1, 2)
    for name, corners in file.corners.items():
        faces = np.array(corners, np.int64).reshape(-1, 3)
        mapped = np.array(file.mapped[name], np.int64).reshape(-1, 3)
        _check(faces, len(vertices), "vertices")
        _check(mapped, len(uv), "texture coordinates", least=-1)
        material = library.materials.get(name, ObjMaterial())
        color = colors[faces] * np.array(material.color)
        whole = (mapped >= 0).all(axis=1)
        if material.texture is None:
            parts.add(*_compact(vertices, faces), None, color, texture=-1, node=name)
            continue
        if not whole.all():
            _log.warning("%s: %d faces of material %s have no texture coordinates; they get its base colour",
                         path, (~whole).sum(), name)  # fmt: skip
            parts.add(*_compact(vertices, faces[~whole]), None, color[~whole], texture=-1, node=name)
        if whole.any():
            map_kd = material.texture
            texture = parts.file_texture(map_kd.file, Sampler(map_kd.wrap, map_kd.wrap))
            pairs = np.stack([faces[whole], mapped[whole]], axis=-1).reshape(-1, 2)
            unique, number = np.unique(pairs, axis=0, return_inverse=True)
            placed = upright(uv[unique[:, 1]] * map_kd.scale + map_kd.offset)
            parts.add(vertices[unique[:, 0]], number.reshape(-1, 3), placed, color[whole], texture=texture, node=name)


def upright(uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Texture coordinates with v down the image, of ones with v upwards."""
    return uv * [1.0, -1.0] + [0.0, 1.0]


def parse(text: str) -> ObjFile:
    """Parse the text of an OBJ file; polygons become fans of triangles.

    Raises:
        ValueError: A line is none of an OBJ file; the message gives its number and text.
    """
    file, material = ObjFile(), ""
    for number, line in enumerate(lines_of(text), 1):
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        try:
            if key == "v":
                _vertex(file, rest.split())
            elif key == "vt":
                u, v, *_ = [*map(float, rest.split()), 0.0]
                file.coordinates.extend((u, v))
            elif key == "f":
                _face(file, material, rest.split())
            elif key == "usemtl":
                material = " ".join(rest.split())
        except ValueError as error:
            comma = ", with decimal commas" if key in ("v", "vt") and "," in rest else ""
            raise ValueError(f"line {number} is {line.strip()[:SHOWN]!r}{comma}: {error}") from error
    return file


def _vertex(file: ObjFile, words: list[str]) -> None:
    """x, y, z, then nothing, a weight, a colour, or both."""
    if len(words) < 3:
        raise ValueError("a vertex is three numbers")
    values = [float(word) for word in words]
    file.positions.extend(values[:3])
    file.colors.extend(values[-3:] if len(values) in (6, 7) else (np.nan,) * 3)


def _face(file: ObjFile, material: str, words: list[str]) -> None:
    """A polygon of corners ``vertex``, ``vertex/texture``, ``vertex//normal`` or ``vertex/texture/normal``."""
    if len(words) < 3:
        return  # of no area
    vertices, mapped = len(file.positions) // 3, len(file.coordinates) // 2
    polygon, places = [], []
    for word in words:
        corner, _, more = word.partition("/")
        texture = more.partition("/")[0]
        polygon.append(_index(corner, vertices))
        places.append(_index(texture, mapped) if texture else -1)
    corners = file.corners.setdefault(material, array("q"))
    coordinates = file.mapped.setdefault(material, array("q"))
    for k in range(1, len(words) - 1):
        corners.extend((polygon[0], polygon[k], polygon[k + 1]))
        coordinates.extend((places[0], places[k], places[k + 1]))


def _index(word: str, count: int) -> int:
    """A number from 0 of one that counts from 1, or, if negative, backwards from the last of `count` so far."""
    number = int(word)
    if number == 0 or number < -count:
        raise ValueError(f"{number} names none of the {count} before it; indices count from 1, or from -1 backwards")
    return number - 1 if number > 0 else count + number


def _check(indices: NDArray[np.int64], count: int, what: str, least: int = 0) -> None:
    if indices.size and not (least <= indices.min() and indices.max() < count):
        raise ValueError(f"a face names number {indices.max() + 1} of {count} {what}")


def _fractions(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(V, 3) colours in [0, 1], of ones in 0..1 or 0..255; white where there is none."""
    largest = float(np.nanmax(colors)) if np.isfinite(colors).any() else 0.0
    return np.where(np.isnan(colors), 1.0, colors / (255.0 if largest > 1.0 else 1.0))


def _compact(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The vertices that faces use, and the faces by their new numbers."""
    used, number = np.unique(faces, return_inverse=True)
    return vertices[used], number.reshape(-1, 3)
