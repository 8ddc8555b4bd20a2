"""Collects textured, labelled triangles and turns them into the arrays of a `Scene`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envs.apartments.furniture.piece import CLASS_INDEX, Material, Piece
from envs.apartments.furniture.shapes import Shape

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """A lamp or a window.

    Attributes:
        room: The room it lights.
        position: (3,) metres.
        color: (3,) linear RGB strength.
        facing: (3,) direction into which a window shines, zero for lamps.
    """

    room: int
    position: Floats
    color: Floats
    facing: Floats


@dataclass
class _Batch:
    """Triangles that share a material, a class and an instance; `vertices` and `normals` are kept apart."""

    corners: int
    faces: NDArray[np.int32]
    uv: Floats
    fitted: bool
    material: Material
    label: int
    instance: int
    room: int


@dataclass(frozen=True, eq=False)
class Triangles:
    """Everything collected, one row per face but for `vertices`.

    Attributes:
        vertices: (V, 3) metres.
        faces: (F, 3) rows of `vertices`, the front counter-clockwise.
        normals: (F, 3, 3) shading normals per corner; zero on thin sheets, which are lit alike on both sides.
        uv: (F, 3, 2) texture coordinates; 1 is one repetition.
        texture: (F,) index into the texture bank.
        tint: (F, 3) RGB factor on the texture, in [0, 1].
        glow: (F,) 0 for surfaces that only reflect light, 1 for those that shine by themselves.
        label: (F,) index into `SEMANTIC_NAMES`.
        instance: (F,) object id.
        room: (F,) the room whose light falls on it.
    """

    vertices: Floats
    faces: NDArray[np.int32]
    normals: Floats
    uv: Floats
    texture: NDArray[np.int32]
    tint: Floats
    glow: Floats
    label: NDArray[np.int32]
    instance: NDArray[np.int32]
    room: NDArray[np.int32]


@dataclass
class MeshBuilder:
    """Grows triangle by triangle; `triangles` returns the whole.

    Attributes:
        lights: Lamps and windows.
        turn: Gives an angle by which a placed piece stands askew, radians; None for straight ones.
    """

    turn: Callable[[Piece], float] | None = None
    lights: list[Light] = field(default_factory=list)
    _batches: list[_Batch] = field(default_factory=list)
    _vertices: list[Floats] = field(default_factory=list)
    _normals: list[Floats] = field(default_factory=list)
    _instances: int = 0

    def new_instance(self) -> int:
        """Return an unused object id."""
        self._instances += 1
        return self._instances - 1

    def add(self, shape: Shape, made_of: Material, label: str, instance: int, room: int) -> None:
        """Add a shape that is in world coordinates already."""
        self._vertices.append(shape.vertices)
        self._normals.append(shape.normals)
        self._append(shape, made_of, label, instance, room)

    def _append(self, shape: Shape, made_of: Material, label: str, instance: int, room: int) -> None:
        corners, number = len(shape.vertices), CLASS_INDEX[label]
        self._batches.append(_Batch(corners, shape.faces, shape.uv, shape.fitted, made_of, number, instance, room))

    def place(self, piece: Piece, x: float, y: float, z: float, angle: float, room: int, lamp_color: Floats) -> None:
        """Add a piece with the middle of its back at (x, y, z), turned about +Y; each of its classes is an object."""
        if self.turn is not None:
            angle += self.turn(piece)
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        origin = np.array([x, y, z])
        shapes = [part.shape for part in piece.parts]
        moved = np.repeat([part.at for part in piece.parts], [len(shape.vertices) for shape in shapes], axis=0)
        self._vertices.append((np.concatenate([shape.vertices for shape in shapes]) + moved) @ turn.T + origin)
        normals = np.concatenate([shape.normals for shape in shapes])
        self._normals.append((normals.reshape(-1, 3) @ turn.T).reshape(normals.shape))
        instances: dict[tuple[int, str], int] = {}
        for part in piece.parts:
            name = part.group, part.label
            if name not in instances:
                instances[name] = self.new_instance()
            self._append(part.shape, part.material, part.label, instances[name], room)
        for position, strength in piece.lights:
            at = turn @ np.asarray(position) + origin
            self.lights.append(Light(room, at, lamp_color * strength, np.zeros(3)))

    def triangles(self) -> Triangles:
        """Return everything added so far."""
        batches = self._batches
        start = np.cumsum([0] + [batch.corners for batch in batches[:-1]])
        count = [len(batch.faces) for batch in batches]

        def per_face(values: list[int] | list[float] | list[tuple[float, float, float]], kind: type) -> NDArray:  # type: ignore[type-arg]
            return np.repeat(np.array(values, kind), count, axis=0)

        side = per_face([1.0 if batch.fitted else batch.material.side for batch in batches], np.float64)
        return Triangles(
            vertices=np.concatenate(self._vertices),
            faces=np.concatenate([batch.faces for batch in batches])
            + per_face([int(at) for at in start], np.int32)[:, None],
            normals=np.concatenate(self._normals),
            uv=np.concatenate([batch.uv for batch in batches]) / side[:, None, None],
            texture=per_face([batch.material.texture for batch in batches], np.int32),
            tint=per_face([batch.material.tint for batch in batches], np.float64),
            glow=per_face([batch.material.glow for batch in batches], np.float64),
            label=per_face([batch.label for batch in batches], np.int32),
            instance=per_face([batch.instance for batch in batches], np.int32),
            room=per_face([batch.room for batch in batches], np.int32),
        )
