"""glTF 2.0 files (.gltf, .glb) as triangles with their materials, placed in the world.

Everything that decides how a surface looks without light is read: nodes, primitives of every triangle mode, quantised
and sparse accessors, morph targets at their weights, base colours, vertex colours, samplers, alpha and the extensions
in `EXTENSIONS`. Cameras, lights, animations and skins are not: a skinned mesh stays as it is modelled.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from configs.files import PEEK, mistaken
from envs.scans.assets import read_asset
from envs.scans.gltf_math import FAN, STRIP, TRIANGLES, node_matrix, normalised, texture_transform, triangles_of
from envs.scans.mesh import MOST_CORNERS
from envs.scene import DEFAULT_SAMPLER, Filter, Mipmap, Sampler, Wrap

EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_texture_avif",
        "EXT_texture_webp",
        "GOOGLE_texture_basis",
        "KHR_draco_mesh_compression",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_unlit",
        "KHR_mesh_quantization",
        "KHR_node_visibility",
        "KHR_texture_basisu",
        "KHR_texture_transform",
        "MSFT_texture_dds",
    }
)
# Extensions that change neither geometry nor unlit colour: required or not, they are passed over.
HARMLESS = (
    "KHR_materials_",
    "KHR_lights_",
    "EXT_lights_",
    "KHR_animation_",
    "KHR_audio",
    "KHR_interactivity",
    "KHR_node_hoverability",
    "KHR_node_selectability",
    "KHR_xmp",
    "MSFT_lod",
    "MSFT_packing_",
    "EXT_feature_metadata",
    "EXT_instance_features",
    "EXT_mesh_features",
    "EXT_structural_metadata",
    "FB_geometry_metadata",
    "OMI_",
)
# Compression that, where it is not required, stands beside the same data as they are.
WITH_PLAIN_COPY = ("EXT_meshopt_compression", "KHR_meshopt_compression")
_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
# glTF 2.0, section 5.26; what is not given there repeats and, the choice being ours, is linear as in habitat-sim.
_WRAPS: dict[Any, Wrap] = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
_MAGNIFIED: dict[Any, Filter] = {9728: "nearest", 9729: "linear"}
_MINIFIED: dict[Any, tuple[Filter, Mipmap]] = {
    9728: ("nearest", "none"),
    9729: ("linear", "none"),
    9984: ("nearest", "nearest"),
    9985: ("linear", "nearest"),
    9986: ("nearest", "linear"),
    9987: ("linear", "linear"),
}
# Values of an accessor without data, which are all zero; of use for few but sparse ones.
MOST_ZEROS = 2**24
SHOWN = 80  # characters of an address in a message
GLB_JSON, GLB_BINARY = 0x4E4F534A, 0x004E4942


# How materials are read: as the standard says, or as habitat-sim (0.3.3) draws them.
MATERIALS = ("gltf", "habitat")


@dataclass(frozen=True)
class GltfMaterial:
    """The unlit material of a primitive.

    Attributes:
        image: Index of the base colour image in the file, None where there is none.
        textured: Whether it names a texture.
        sampler: How the texture is looked up.
        factor: Base colour factor r, g, b, a, as stored.
        double_sided: Whether the back of a face is drawn.
        cutoff: Least alpha that is drawn (alpha mode MASK), None for opaque and blended materials.
        coordinates: Number n of the attribute TEXCOORD_n.
        transform: (2, 3) float64 affine map of texture coordinates (KHR_texture_transform).
    """

    image: int | None = None
    sampler: Sampler = DEFAULT_SAMPLER
    factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    double_sided: bool = False
    cutoff: float | None = None
    coordinates: int = 0
    transform: tuple[tuple[float, float, float], tuple[float, float, float]] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    textured: bool = False


@dataclass(frozen=True)
class Primitive:
    """Some triangles of one material at their place in the world.

    Attributes:
        node: Number of the node that holds them, one object each.
        vertices: (V, 3) float64.
        faces: (F, 3) int64, wound so that the front is counter-clockwise, mirrored nodes included.
        uv: (V, 2) float64 with v down the image, None without texture coordinates.
        color: (V, 3) float64 as stored, None without vertex colours.
        material: Its material.
    """

    node: int
    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64] | None
    color: NDArray[np.float64] | None
    material: GltfMaterial


class Gltf:
    """An open glTF file.

    Attributes:
        path: Where it came from.
        header: Its JSON.
        without_positions: Primitives that were passed over for want of positions (glTF 2.0, section 3.7.2.1).
        skinned: Nodes whose mesh a skin would move.
    """

    def __init__(self, path: Path, materials: str = "gltf") -> None:
        """Parse the file.

        Args:
            path: Where it is.
            materials: One of `MATERIALS`: as the standard says, or as habitat-sim draws them.

        Raises:
            ValueError: There are no such materials; the file is damaged, of version 1, or requires an extension that is
                not read.
        """
        if materials not in MATERIALS:
            raise ValueError(f"materials={materials}: choose from {', '.join(MATERIALS)}")
        self.path = path
        self._as_habitat = materials == "habitat"
        self._buffers: dict[int, bytes] = {}
        self.without_positions = self.skinned = 0
        self.header = self._open()
        version = str(self.header.get("asset", {}).get("version", "2.0"))
        if not version.startswith("2"):
            raise ValueError(f"it is glTF {version}; convert it to glTF 2.0")
        if unread := self._unread("extensionsRequired"):
            raise ValueError(
                f"it requires {', '.join(unread)}, which is not read here; "
                f"'gltf-transform copy' or 'gltfpack -noq' writes it without"
            )

    def primitives(self) -> Iterator[Primitive]:
        """Yield the triangles of the default scene (of all nodes where the file has no scene)."""
        for number, matrix in self._nodes():
            node = self._entry("nodes", number)
            if "mesh" not in node:
                continue
            self.skinned += "skin" in node
            mesh = self._entry("meshes", node["mesh"])
            weights = node.get("weights", mesh.get("weights", ()))
            for part in mesh["primitives"]:
                yield from self._primitive(number, part, [matrix @ m for m in self._copies(node)], weights)

    def problems(self) -> list[str]:
        """Contents that are not shown, once all primitives have been read: a line each."""
        found = []
        if unread := [name for name in self._unread("extensionsUsed") if name not in WITH_PLAIN_COPY]:
            found.append(f"it uses {', '.join(unread)}, which is not read here; what that changes is not shown")
        if len(self.header.get("scenes", ())) > 1 and "scene" not in self.header:
            found.append(f"it holds {len(self.header['scenes'])} scenes and names no default; the first is read")
        if self.skinned:
            found.append(f"{self.skinned} nodes are moved by skins, which are not read; they stay as modelled")
        if self.without_positions:
            found.append(f"{self.without_positions} primitives without positions are passed over")
        return found

    def _unread(self, key: str) -> list[str]:
        """Extensions that the file names and that are not read, though they may change what is seen."""
        names = self.header.get(key, [])
        if not isinstance(names, list):
            raise ValueError(f"its {key} is no list")
        return sorted({str(name) for name in names if not _is_read(str(name))})

    def _entry(self, kind: str, index: Any) -> dict[str, Any]:
        """The entry of a list of the file.

        Raises:
            ValueError: There is none of that number.
        """
        entries = self.header.get(kind, ())
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(entries):
            raise ValueError(f"it names {kind}[{index!r}], but has {len(entries)} {kind}")
        entry: dict[str, Any] = entries[index]
        return entry

    def image(self, index: int) -> bytes:
        """Return the encoded image number `index`.

        Raises:
            FileNotFoundError: It lies in a file that is absent.
        """
        image = self._entry("images", index)
        return self._view(image["bufferView"]) if "bufferView" in image else self._resource(image["uri"])

    def image_name(self, index: int) -> str:
        """Name of an image for messages."""
        image = self._entry("images", index)
        uri = image.get("uri", "")
        return image.get("name") or (f"image {index}" if not uri or uri.startswith("data:") else unquote(uri))

    # -- containers -----------------------------------------------------------------------------------------------

    def _open(self) -> dict[str, Any]:
        data = self.path.read_bytes()
        if data[:4] != b"glTF":
            header = json.loads(data, parse_constant=_not_finite)
        else:
            chunks = dict(_chunks(data))
            if GLB_JSON not in chunks:
                raise ValueError("it has no JSON chunk")
            header = json.loads(chunks[GLB_JSON], parse_constant=_not_finite)
            if GLB_BINARY in chunks and not _uri_of_first_buffer(header):
                self._buffers[0] = chunks[GLB_BINARY]
        if not isinstance(header, dict):
            raise ValueError("it holds no glTF object")
        return header

    def _resource(self, uri: str) -> bytes:
        """Content of a data URI, or of a file named relative to this one."""
        if uri[:5].lower() == "data:":
            about, _, data = uri.partition(",")
            content = unquote_to_bytes(data)
            return base64.b64decode(content) if about.lower().endswith(";base64") else content
        return read_asset(self.path.parent, uri)

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self._entry("buffers", index)
            if "uri" not in buffer:
                packed = [name for name in WITH_PLAIN_COPY if name in buffer.get("extensions", ())]
                raise ValueError(
                    f"it is compressed by {packed[0]}; 'gltf-transform copy' writes it without"
                    if packed
                    else f"buffer {index} has no content: neither a file nor the binary chunk of a .glb"
                )
            content = self._resource(buffer["uri"])
            if reason := mistaken(content[:PEEK]):
                raise ValueError(f"its buffer {buffer['uri'][:SHOWN]}: {reason}")
            self._buffers[index] = content
        return self._buffers[index]

    def _view(self, index: int) -> bytes:
        view = self._entry("bufferViews", index)
        start, length = view.get("byteOffset", 0), view["byteLength"]
        if start < 0 or length < 0:
            raise ValueError(f"bufferViews[{index}] begins at {start} and is {length} bytes long")
        data = self._buffer(view["buffer"])[start : start + length]
        if len(data) < length:
            raise ValueError(f"buffer {view['buffer']} ends early")
        return data

    # -- accessors ------------------------------------------------------------------------------------------------

    def _accessor(self, index: int, as_stored: bool = False) -> NDArray[Any]:
        """(count, width) values of an accessor; normalised integers come as float64 in [0, 1] or [-1, 1]."""
        accessor = self._entry("accessors", index)
        values = self._raw(accessor, accessor.get("bufferView"), accessor.get("byteOffset", 0), accessor["count"])
        sparse = accessor.get("sparse")
        if sparse:
            values = values.copy()
            where = sparse["indices"]
            rows = self._raw(
                {"componentType": where["componentType"], "type": "SCALAR"},
                where["bufferView"],
                where.get("byteOffset", 0),
                sparse["count"],
            )
            new = sparse["values"]
            values[rows[:, 0]] = self._raw(accessor, new["bufferView"], new.get("byteOffset", 0), sparse["count"])
        return normalised(values) if accessor.get("normalized") and not as_stored else values

    def _raw(self, accessor: Mapping[str, Any], view: int | None, offset: int, count: int) -> NDArray[Any]:
        dtype = np.dtype(_DTYPES[accessor["componentType"]]).newbyteorder("<")
        width = _WIDTHS[accessor["type"]]
        if view is None:
            if count > MOST_ZEROS:
                raise ValueError(f"an accessor without data has {count:,} values")
            return np.zeros((count, width), dtype)
        data = self._view(view)
        stride = self._entry("bufferViews", view).get("byteStride") or width * dtype.itemsize
        if stride < width * dtype.itemsize:
            raise ValueError(
                f"bufferViews[{view}] has a stride of {stride} bytes for elements of {width * dtype.itemsize}"
            )
        if count and offset + stride * (count - 1) + width * dtype.itemsize > len(data):
            raise ValueError("an accessor reaches beyond its buffer view")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))

    # -- nodes ----------------------------------------------------------------------------------------------------

    def _nodes(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield the nodes to draw, with their world matrices, parents first."""
        nodes = self.header.get("nodes", [])
        if self.header.get("scenes"):
            roots = self._entry("scenes", self.header.get("scene", 0)).get("nodes", [])
        else:
            roots = sorted(set(range(len(nodes))) - {c for node in nodes for c in node.get("children", ())})
        left = [(root, np.eye(4)) for root in reversed(roots)]
        seen: set[int] = set()
        while left:
            number, above = left.pop()
            if number in seen:
                raise ValueError(f"node {number} hangs below itself or below two nodes")
            seen.add(number)
            node = self._entry("nodes", number)
            if node.get("extensions", {}).get("KHR_node_visibility", {}).get("visible", True) is False:
                continue
            local = node_matrix(node)
            if not np.allclose(local[3], (0.0, 0.0, 0.0, 1.0)):
                raise ValueError(f"the matrix of node {number} does not end in 0, 0, 0, 1; is it written by rows?")
            matrix = above @ local
            yield number, matrix
            left += [(child, matrix) for child in reversed(node.get("children", ()))]

    def _copies(self, node: Mapping[str, Any]) -> list[NDArray[np.float64]]:
        """Local matrices of a node's instances (EXT_mesh_gpu_instancing); one identity without them."""
        given = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        parts = {name.lower(): self._accessor(number) for name, number in given.items() if name[0] != "_"}
        count = max((len(values) for values in parts.values()), default=0)
        each = [{name: values[i].tolist() for name, values in parts.items()} for i in range(count)]
        return [node_matrix(part) for part in each] or [np.eye(4)]

    # -- primitives -----------------------------------------------------------------------------------------------

    def _primitive(
        self,
        node: int,
        part: Mapping[str, Any],
        matrices: Sequence[NDArray[np.float64]],
        weights: Sequence[float],
    ) -> Iterator[Primitive]:
        mode = part.get("mode", TRIANGLES)
        if mode not in (TRIANGLES, STRIP, FAN):
            return  # points and lines have no surface
        material = self.material(part.get("material"))
        attributes, indices = self._attributes(part, material)
        if "POSITION" not in attributes:
            self.without_positions += 1
            return
        position = self._morphed(part, attributes["POSITION"].astype(np.float64), weights)
        faces = _faces(indices, len(position), mode)
        if len(faces) == 0:
            return
        uv = attributes.get(f"TEXCOORD_{material.coordinates}")
        if uv is None and self._as_habitat and material.image is not None:
            uv = np.zeros((len(position), 2))  # the texture's first texel everywhere
        if uv is not None:
            affine = np.array(material.transform)
            uv = np.nan_to_num(uv.astype(np.float64), posinf=0.0, neginf=0.0) @ affine[:, :2].T + affine[:, 2]
        color = attributes.get("COLOR_0")
        color = None if color is None else normalised(color)[:, :3]
        if len(matrices) * max(len(position), len(faces)) > MOST_CORNERS:
            raise ValueError(f"{len(matrices)} instances of {len(faces)} triangles are too many")
        for matrix in matrices:
            with np.errstate(invalid="ignore"):  # corners that are not finite are sorted out later
                placed = position @ matrix[:3, :3].T + matrix[:3, 3]
            # A mirror turns the winding around; glTF keeps the front in front.
            wound = faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else faces
            yield Primitive(node, placed, wound, uv, color, material)

    def _morphed(
        self, part: Mapping[str, Any], position: NDArray[np.float64], weights: Sequence[float]
    ) -> NDArray[np.float64]:
        """Positions moved by the morph targets at their weights (glTF 2.0, section 3.7.2.2)."""
        targets = part.get("targets", ())
        if weights and len(weights) != len(targets):
            raise ValueError(f"it gives {len(weights)} weights for {len(targets)} morph targets")
        for weight, target in zip(weights, targets, strict=False):
            if weight and "POSITION" in target:
                position = position + weight * self._accessor(target["POSITION"])
        return position

    def _attributes(
        self, part: Mapping[str, Any], material: GltfMaterial
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
        """The attributes that matter, by name, and the indices."""
        wanted = {"POSITION", "COLOR_0", f"TEXCOORD_{material.coordinates}"}
        compressed = part.get("extensions", {}).get("KHR_draco_mesh_compression")
        if compressed is not None:
            return self._draco(part, compressed, wanted)
        arrays = {name: self._accessor(i) for name, i in part.get("attributes", {}).items() if name in wanted}
        return arrays, self._accessor(part["indices"], as_stored=True) if "indices" in part else None

    def _draco(
        self, part: Mapping[str, Any], compressed: Mapping[str, Any], wanted: set[str]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """Decode a primitive of KHR_draco_mesh_compression."""
        try:
            import DracoPy
        except ImportError as error:
            raise ValueError("it is compressed with Draco; install DracoPy to read it") from error
        mesh = DracoPy.decode(self._view(compressed["bufferView"]))
        arrays = {}
        for name, unique in compressed["attributes"].items():
            if name in wanted:
                values = np.asarray(mesh.get_attribute_by_unique_id(unique)["data"])
                values = values.reshape(len(values), -1)
                scaled = self._entry("accessors", part["attributes"][name]).get("normalized")
                arrays[name] = normalised(values) if scaled else values
        return arrays, np.asarray(mesh.faces)

    def material(self, index: int | None) -> GltfMaterial:
        """The material number `index`, glTF's default for None."""
        if index is None:
            return GltfMaterial()
        raw = self._entry("materials", index)
        base = raw.get("pbrMetallicRoughness", {})
        reference, factor = base.get("baseColorTexture"), base.get("baseColorFactor")
        old = raw.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if old is not None:
            reference, factor = old.get("diffuseTexture", reference), old.get("diffuseFactor", factor)
        red, green, blue, alpha = (float(v) for v in factor or (1.0, 1.0, 1.0, 1.0))
        cutoff = float(raw.get("alphaCutoff", 0.5)) if raw.get("alphaMode") == "MASK" else None
        double_sided = bool(raw.get("doubleSided", False))
        image, sampler = (None, DEFAULT_SAMPLER) if reference is None else self._texture(reference["index"])
        change = {} if reference is None else reference.get("extensions", {}).get("KHR_texture_transform", {})
        coordinates = change.get("texCoord", reference.get("texCoord", 0) if reference else 0)
        if self._as_habitat:
            # habitat-sim culls all backs, reads the first coordinates only, and cuts nothing out where it draws unlit.
            double_sided, cutoff, coordinates = False, None, 0
        return GltfMaterial(
            image,
            sampler,
            (red, green, blue, alpha),
            double_sided,
            cutoff,
            coordinates,
            texture_transform(change),
            reference is not None,
        )

    def _texture(self, index: int) -> tuple[int | None, Sampler]:
        """Image and sampler of a texture."""
        texture = self._entry("textures", index)
        source = texture.get("source")
        if source is None:
            # A compressed image is named by its extension; a plain one beside it is preferred.
            sources = (extension.get("source") for extension in texture.get("extensions", {}).values())
            source = next((number for number in sources if number is not None), None)
        return source, _sampler(self._entry("samplers", texture["sampler"]) if "sampler" in texture else {})


def _faces(indices: NDArray[Any] | None, count: int, mode: int) -> NDArray[np.int64]:
    """(F, 3) faces of a primitive of `count` vertices.

    Raises:
        ValueError: An index names none of them.
    """
    if indices is None:
        indices = np.arange(count)
    if indices.dtype.kind not in "iu" or indices.min(initial=0) < 0:
        raise ValueError("the indices of a primitive are no whole numbers from 0")
    faces = triangles_of(indices.astype(np.int64).ravel(), mode)
    if faces.max(initial=-1) >= count:
        raise ValueError(f"an index points beyond the {count} vertices of its primitive")
    return faces


def _not_finite(word: str) -> float:
    """What JSON has no word for."""
    raise ValueError(f"its JSON holds {word}, which is no number")


def _uri_of_first_buffer(header: Any) -> bool:
    """Whether the first buffer is a file of its own, and not the binary chunk (glTF 2.0, section 4.4.3.3)."""
    buffers: Any = header.get("buffers") if isinstance(header, dict) else None
    return bool(buffers) and isinstance(buffers[0], dict) and bool(buffers[0].get("uri"))


def _is_read(extension: str) -> bool:
    return extension in EXTENSIONS or extension.startswith(HARMLESS)


def _sampler(given: Mapping[str, Any]) -> Sampler:
    along_u, along_v = (_WRAPS.get(given.get(key), "repeat") for key in ("wrapS", "wrapT"))
    magnified = _MAGNIFIED.get(given.get("magFilter"), "linear")
    return Sampler(along_u, along_v, magnified, *_MINIFIED.get(given.get("minFilter"), ("linear", "linear")))


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the chunks of a .glb file, the first of each type last."""
    version, total = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8))
    if version != 2:
        raise ValueError(f"it is binary glTF of version {version}; convert it to version 2")
    if total > len(data):
        raise ValueError(f"it ends after {len(data)} of {total} bytes")
    chunks: list[tuple[int, bytes]] = []
    at = 12
    while at + 8 <= total:
        length, kind = (int.from_bytes(data[i : i + 4], "little") for i in (at, at + 4))
        if at + 8 + length > total:
            raise ValueError("a chunk reaches beyond the end of the file")
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length
    yield from reversed(chunks)
