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
    """Triangles that share a material, a class and an instance."""

    vertices: Floats
    faces: NDArray[np.int32]
    normals: Floats
    uv: Floats
    material: Material
    label: int
    instance: int
    room: int


@dataclass(frozen=True, eq=False)
class Triangles:
    """Everything collected, one row per face but for `vertices`."""

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
    _instances: int = 0

    def new_instance(self) -> int:
        """Return an unused object id."""
        self._instances += 1
        return self._instances - 1

    def add(self, shape: Shape, made_of: Material, label: str, instance: int, room: int) -> None:
        """Add a shape that is in world coordinates already."""
        uv = shape.uv if shape.fitted else shape.uv / made_of.side
        self._batches.append(
            _Batch(shape.vertices, shape.faces, shape.normals, uv, made_of, CLASS_INDEX[label], instance, room)
        )

    def place(self, piece: Piece, x: float, y: float, z: float, angle: float, room: int, lamp_color: Floats) -> None:
        """Add a piece with the middle of its back at (x, y, z), turned about +Y; each of its classes is an object."""
        if self.turn is not None:
            angle += self.turn(piece)
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        turn = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        origin = np.array([x, y, z])
        instances: dict[tuple[int, str], int] = {}
        for part in piece.parts:
            name = part.group, part.label
            if name not in instances:
                instances[name] = self.new_instance()
            shape = part.shape
            vertices = (shape.vertices + part.at) @ turn.T + origin
            world = Shape(vertices, shape.faces, shape.normals @ turn.T, shape.uv, shape.fitted)
            self.add(world, part.material, part.label, instances[name], room)
        for position, strength in piece.lights:
            at = turn @ np.asarray(position) + origin
            self.lights.append(Light(room, at, lamp_color * strength, np.zeros(3)))

    def triangles(self) -> Triangles:
        """Return everything added so far."""
        batches = self._batches
        start = np.cumsum([0] + [len(batch.vertices) for batch in batches[:-1]])
        count = [len(batch.faces) for batch in batches]

        def per_face(values: list[int] | list[float] | list[tuple[float, float, float]], kind: type) -> NDArray:  # type: ignore[type-arg]
            return np.repeat(np.array(values, kind), count, axis=0)

        return Triangles(
            vertices=np.concatenate([batch.vertices for batch in batches]),
            faces=np.concatenate([batch.faces for batch in batches])
            + per_face([int(at) for at in start], np.int32)[:, None],
            normals=np.concatenate([batch.normals for batch in batches]),
            uv=np.concatenate([batch.uv for batch in batches]),
            texture=per_face([batch.material.texture for batch in batches], np.int32),
            tint=per_face([batch.material.tint for batch in batches], np.float64),
            glow=per_face([batch.material.glow for batch in batches], np.float64),
            label=per_face([batch.label for batch in batches], np.int32),
            instance=per_face([batch.instance for batch in batches], np.int32),
            room=per_face([batch.room for batch in batches], np.int32),
        )
