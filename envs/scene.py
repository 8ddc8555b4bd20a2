"""The `Scene`: a textured, labelled triangle mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Wrap = Literal["repeat", "mirror", "clamp"]
Filter = Literal["linear", "nearest"]
Mipmap = Literal["linear", "nearest", "none"]
# The kinds of indoor object of COCO that Taskonomy labels, in the order of its labels 2 to 17.
COCO_CLASSES = (
    "bottle",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
)


class Sampler(NamedTuple):
    """Sampler of a texture: wrap modes and filters as in OpenGL (version 4.6, sections 8.14 and 8.15).

    Attributes:
        along_u: What lies beyond its left and right edge.
        along_v: What lies beyond its upper and lower edge.
        magnified: The texels of a pixel that sees less than one; of all pixels where mipmaps are off.
        minified: The texels, of one level of detail, of the other pixels.
        mipmap: The levels of detail of these: the two around, the nearest one, or only the texture itself.
    """

    along_u: Wrap = "repeat"
    along_v: Wrap = "repeat"
    magnified: Filter = "linear"
    minified: Filter = "linear"
    mipmap: Mipmap = "linear"


DEFAULT_SAMPLER = Sampler()


@dataclass(frozen=True)
class Room:
    """A room of a scene.

    Attributes:
        kind: Room type, a Places365 category name such as ``"bedroom"``.
        polygon: (K, 2) float32 floor outline in metres, columns x and z.
    """

    kind: str
    polygon: NDArray[np.float32]


# What a scene has of each face: shape behind the number of faces, and type; some may be None.
PER_FACE: Mapping[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "faces": ((3,), np.int32),
    "corner_uv": ((3, 2), np.float32),
    "corner_color": ((3, 3), np.uint8),
    "face_texture": ((), np.int32),
    "face_class": ((), np.int32),
    "face_instance": ((), np.int32),
    "solid": ((), np.bool_),
    "one_sided": ((), np.bool_),
    "cutoff": ((), np.uint8),
}
OPTIONAL = ("one_sided", "cutoff")


@dataclass(frozen=True, eq=False)
class Scene:
    """A static triangle mesh in metres, +Y up (the axes of glTF and Habitat), with what the sensors need.

    Attributes:
        name: Identifier, unique within a run (a seed or a file path).
        vertices: (V, 3) float32 positions.
        faces: (F, 3) int32 vertex indices; both sides of a face are visible unless `one_sided` says otherwise.
        corner_uv: (F, 3, 2) float32 texture coordinates, u to the right and v *down* the image.
        corner_color: (F, 3, 3) uint8 RGB factor on the texture at each corner (255 = 1.0): base colour, vertex
            colour and baked light in one.
        face_texture: (F,) int32 index into `textures`, -1 where the face has none.
        textures: (h, w, 3) uint8 sRGB images, or (h, w, 4) with alpha, row 0 at v = 0. Scenes may share arrays: equal
            `id` is stored once.
        face_class: (F,) int32 index into `class_names`.
        face_instance: (F,) int32 object id within the scene.
        class_names: Semantic class names.
        solid: (F,) bool, False where a face neither carries nor stops an agent (ceilings).
        rooms: Rooms, where they are known.
        samplers: How each texture is looked up; by `DEFAULT_SAMPLER` when empty.
        one_sided: (F,) bool, True where a face is seen only from the side from which its corners run counter-clockwise;
            None when all are seen from both.
        cutoff: (F,) uint8, a pixel of the face whose alpha (of 255) is lower is not there; None when all are opaque.
        origin: Where the scene's origin is in the world of its files, metres; not 0 only for scans that lie so far away
            that single precision would tear them.
    """

    name: str
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    corner_uv: NDArray[np.float32]
    corner_color: NDArray[np.uint8]
    face_texture: NDArray[np.int32]
    textures: tuple[NDArray[np.uint8], ...]
    face_class: NDArray[np.int32]
    face_instance: NDArray[np.int32]
    class_names: tuple[str, ...]
    solid: NDArray[np.bool_]
    rooms: tuple[Room, ...] = field(default=())
    samplers: tuple[Sampler, ...] = field(default=())
    one_sided: NDArray[np.bool_] | None = None
    cutoff: NDArray[np.uint8] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Check shapes, dtypes and index ranges."""
        count = len(self.faces)
        expected: dict[str, tuple[tuple[int, ...], type[np.generic]]]
        expected = {"vertices": ((len(self.vertices), 3), np.float32)}
        expected |= {name: ((count, *PER_FACE[name][0]), PER_FACE[name][1]) for name in self._per_face()}
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"scene {self.name}: {name} is {array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape}"
                )
        if count == 0:
            raise ValueError(f"scene {self.name}: the mesh has no triangles")
        if self.samplers and len(self.samplers) != len(self.textures):
            raise ValueError(f"scene {self.name}: {len(self.samplers)} samplers for {len(self.textures)} textures")
        if not np.isfinite(self.vertices).all():
            raise ValueError(f"scene {self.name}: vertices hold NaN or infinity")
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise ValueError(f"scene {self.name}: faces point outside the {len(self.vertices)} vertices")
        if self.face_texture.max() >= len(self.textures):
            raise ValueError(f"scene {self.name}: face_texture points outside the {len(self.textures)} textures")
        if self.face_class.min() < 0 or self.face_class.max() >= len(self.class_names):
            raise ValueError(f"scene {self.name}: face_class points outside the {len(self.class_names)} classes")

    def _per_face(self) -> list[str]:
        """Names of the arrays of `PER_FACE` that this scene has."""
        return [name for name in PER_FACE if name not in OPTIONAL or getattr(self, name) is not None]

    def with_faces(self, kept: NDArray[np.bool_]) -> Scene:
        """The scene with those of its faces alone for which `kept`, (F,), is True; all vertices stay."""
        return replace(self, **{name: getattr(self, name)[kept] for name in self._per_face()})
