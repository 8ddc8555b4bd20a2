"""PLY files by trimesh; their colours, materials and textures are found, read and laid on the faces here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.visual.color import ColorVisuals
from trimesh.visual.texture import TextureVisuals

from envs.scans.mesh import MeshCollector, check_faces
from envs.scans.obj import upright
from envs.scene import DEFAULT_SAMPLER

_log = logging.getLogger("envs.scans.loading")
# NumPy's types by PLY's names.
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8", "float16": "f2", "int64": "i8", "uint64": "u8"},
}
# Names that exporters give the colours of vertices.
COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))


@dataclass(frozen=True)
class _PlyHeader:
    """What trimesh leaves out of a PLY file.

    Attributes:
        textures: Files of all its textures.
        elements: How many it announces of each element.
        properties: The words after ``property``, by element.
        order: NumPy's sign of its byte order; empty for text.
        length: Bytes of the header.
    """

    textures: tuple[str, ...]
    elements: dict[str, int]
    properties: dict[str, list[list[str]]]
    order: str
    length: int


def read_ply(path: Path, parts: MeshCollector) -> None:
    """Read a PLY file with vertex or face colours, materials (``material_index``), or textures (``texnumber``)."""
    header = _ply_header(path)
    count, size = sum(header.elements.values()), path.stat().st_size
    if count > size:
        raise ValueError(f"it ends early: it announces {count:,} elements in {size:,} bytes")
    if not header.elements.get("face"):
        kind = "triangle strips, which are not read" if header.elements.get("tristrips") else "points alone"
        raise ValueError(f"it has no faces but {kind}; convert it to a mesh of triangles")
    _check_uniform(path, header)
    file = trimesh.load_scene(str(path), file_type="ply", skip_materials=True, process=False)
    for part, mesh, vertices in _meshes(file):
        faces = np.asarray(mesh.faces, np.int64)
        raw = mesh.metadata.get("_ply_raw", {})
        _check_complete(raw)
        check_faces(faces, len(vertices))
        color = _vertex_color(mesh) * _material_color(raw, len(faces))
        uv = getattr(mesh.visual, "uv", None)
        if uv is None or not header.textures:
            if header.textures:
                _log.warning("%s: it names %s, but has no texture coordinates", path, header.textures[0])
            parts.add(vertices, faces, None, color, texture=-1, node=part)
            continue
        uv, number = upright(np.asarray(uv, np.float64)), _face_property(raw, "texnumber", len(faces))
        if number is None and len(header.textures) > 1:
            _log.warning("%s: it names %d textures, but not which faces have which; all get %s", path,
                         len(header.textures), header.textures[0])  # fmt: skip
        number = np.zeros(len(faces), np.int64) if number is None else number
        for which in np.unique(number):
            known = 0 <= which < len(header.textures)
            texture = parts.file_texture(header.textures[which], DEFAULT_SAMPLER) if known else -1
            chosen = number == which
            parts.add(vertices, faces[chosen], uv, color[chosen], texture=texture, node=part)


def _ply_header(path: Path) -> _PlyHeader:
    textures: list[str] = []
    elements: dict[str, int] = {}
    properties: dict[str, list[list[str]]] = {}
    order = ""
    with path.open("rb") as stream:
        for line in iter(partial(stream.readline, 4096), b""):
            fields = line.decode("utf-8", "replace").split(None, 2)
            if fields[:1] == ["end_header"]:
                return _PlyHeader(tuple(textures), elements, properties, order, stream.tell())
            if fields[:1] == ["format"]:
                order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(fields[1], "")
            elif len(fields) == 3 and fields[0] == "element":
                elements[fields[1]] = int(fields[2])
                properties[fields[1]] = []
            elif fields[:1] == ["property"] and properties:
                properties[list(properties)[-1]].append(line.decode("utf-8", "replace").split()[1:])
            elif len(fields) == 3 and fields[0] == "comment" and fields[1].lower() == "texturefile":
                textures.append(fields[2].strip())
    raise ValueError("its header does not end")


def _check_uniform(path: Path, header: _PlyHeader) -> None:
    """Refuse a binary file whose lists differ in length: trimesh takes all to be as long as the first.

    Raises:
        ValueError: They do, such as faces of three and of four corners.
    """
    place = header.length
    for name, count in header.elements.items() if header.order else ():
        if not count:  # the bytes that follow are not its own
            continue
        lists = []
        fields: list[tuple[str, Any]] = []
        with path.open("rb") as stream:
            first = place
            for number, (kind, *rest) in enumerate(header.properties[name]):
                if kind == "list":
                    long = np.dtype(header.order + _TYPES[rest[0]])
                    stream.seek(first)
                    items = int(np.frombuffer(stream.read(long.itemsize), long)[0])
                    lists.append((f"count {number}", rest[2]))
                    fields.append((f"count {number}", long))
                    kind = f"V{items * np.dtype(_TYPES[rest[1]]).itemsize}"
                    first += long.itemsize
                else:
                    kind = _TYPES[kind]
                fields.append((f"{number}", kind))
                first += np.dtype(kind).itemsize
        record = np.dtype(fields)
        if lists:
            there = max(0, min(count, (path.stat().st_size - place) // record.itemsize))
            table = np.fromfile(path, record, there, offset=place)
            for field_name, of in lists:
                if len(different := np.unique(table[field_name])) > 1:
                    few = " and ".join(map(str, different[:2]))
                    raise ValueError(
                        f"the {of} of its {name}s are of different numbers ({few}); save it with triangles alone"
                    )
        place += count * record.itemsize


def _check_complete(raw: Any) -> None:
    """Refuse a text file that was cut off: trimesh takes the lines that there are."""
    for element in ("vertex", "face"):
        announced = int(raw.get(element, {}).get("length", 0)) if isinstance(raw, dict) else 0
        data = raw[element].get("data") if announced else ()
        columns = list(data.values()) if isinstance(data, dict) else [data]
        if (found := min(map(len, columns), default=0)) < announced:
            raise ValueError(f"it ends early: it holds {found:,} of {announced:,} elements '{element}'")


def _meshes(file: trimesh.Scene) -> list[tuple[str, trimesh.Trimesh, NDArray[np.float64]]]:
    """Name, mesh and placed vertices of the parts of a scene that have faces."""
    meshes = []
    for node in file.graph.nodes_geometry:
        transform, part = file.graph[node]
        mesh = file.geometry[part]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            meshes.append((str(part), mesh, mesh.vertices @ transform[:3, :3].T + transform[:3, 3]))
    return meshes


def _vertex_color(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """Return the (F, 3, 3) colour factor in [0, 1] of the faces' corners, white where the mesh has none."""
    visual = mesh.visual
    colors = _other_color(mesh)
    if colors is not None:
        colors = colors[mesh.faces]
    elif isinstance(visual, ColorVisuals) and visual.kind == "face":
        colors = np.repeat(visual.face_colors[:, None], 3, axis=1)
    elif isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        colors = visual.vertex_colors[mesh.faces]
    elif isinstance(visual, TextureVisuals) and "color" in visual.vertex_attributes:
        colors = np.asarray(visual.vertex_attributes["color"])[mesh.faces]
    if colors is None:
        return np.ones((len(mesh.faces), 3, 3))
    full = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
    return np.clip(colors[..., :3] / full, 0.0, 1.0)


def _other_color(mesh: trimesh.Trimesh) -> NDArray[Any] | None:
    """(V, 3) colours of vertices in a type or under names that trimesh does not take; None where there are none."""
    raw = mesh.metadata.get("_ply_raw", {})
    for names in COLORS:
        columns = [_column(raw, "vertex", name) for name in names]
        found = [column for column in columns if column is not None and len(column) == len(mesh.vertices)]
        if len(found) == len(names) and (names != COLORS[0] or found[0].dtype != np.uint8):
            return np.stack(found, axis=1)
    return None


def _face_property(raw: Any, name: str, count: int) -> NDArray[np.int64] | None:
    """(count,) a whole number of each face of a PLY file, None where there is none that fits."""
    values = _column(raw, "face", name)
    if values is None or len(values) == 0:
        return None
    if 2 * len(values) == count:  # each of them a quad, whose second halves follow all first ones
        values = np.tile(values, 2)
    return values.astype(np.int64) if len(values) == count else None


def _material_color(raw: Any, count: int) -> NDArray[np.float64]:
    """(count, 1, 3) diffuse colours of the materials of a PLY file's faces, white where it has none."""
    number = _face_property(raw, "material_index", count)
    columns = [_column(raw, "material", f"diffuse_{name}") for name in ("red", "green", "blue")]
    if number is None or any(column is None for column in columns):
        return np.ones((count, 1, 3))
    given = np.stack([np.asarray(column) for column in columns], axis=1)
    table = np.clip(given / (255.0 if given.dtype.kind in "iu" else 1.0), 0.0, 1.0)
    known = (number >= 0) & (number < len(table))
    return np.where(known[:, None], table[np.where(known, number, 0)], 1.0)[:, None]


def _column(raw: Any, element: str, name: str) -> NDArray[Any] | None:
    """(N,) values of one property of an element of a PLY file as trimesh keeps it, None where there is none."""
    data = raw.get(element, {}).get("data") if isinstance(raw, dict) else None
    known = data if isinstance(data, dict) else getattr(getattr(data, "dtype", None), "names", None) or ()
    if data is None or name not in known:
        return None
    values = np.asarray(data[name])
    return values.ravel() if values.ndim <= 2 and values.dtype.kind in "iuf" else None
