"""Apartments of other shapes: room heights, furniture that stands askew, clutter, rooms without right angles."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.apartments.furnishing import Site
from envs.apartments.furniture.piece import Piece, material
from envs.apartments.furniture.shapes import Shape, ball, box, cushion, cylinder, turned
from envs.scene import Room, Scene

_SALT = 7002
_GROUPS = ("wood", "fabric", "metal", "ceramic", "leather", "plaster", "rug", "book")
_LARGE = 0.25  # Pieces flatter than this, in metres, hang on walls and stay straight.


@dataclass(eq=False)
class Changes:
    """Randomised changes of an apartment's geometry.

    Attributes:
        rng: Source of angles and clutter.
        ceiling: Height of the rooms in metres.
        askew: Standard deviation of the angle of furniture, radians.
        clutter: Loose things per square metre.
        plane: (2, 2) linear map of the floor plane (x, z): rotation, shear and scales.
    """

    rng: np.random.Generator
    ceiling: float
    askew: float
    clutter: float
    plane: NDArray[np.float64]

    @classmethod
    def draw(cls, seed: int) -> Changes:
        """Draw the changes of an apartment."""
        rng = np.random.Generator(np.random.PCG64([_SALT, seed]))
        yaw, lean = rng.uniform(-np.pi, np.pi), rng.uniform(-0.25, 0.25)
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        plane = turn @ np.array([[1.0, lean], [0.0, 1.0]]) @ np.diag(np.exp(rng.uniform(-0.25, 0.35, 2)))
        return cls(
            rng=rng,
            ceiling=float(rng.uniform(2.2, 3.8)),
            askew=float(rng.choice([0.0, 0.1, 0.4])),
            clutter=float(rng.choice([0.0, 0.2, 0.6])),
            plane=plane,
        )

    def turn(self, piece: Piece) -> float:
        """Angle by which a piece stands askew, radians; 0 for what hangs on walls."""
        return float(self.rng.normal(0.0, self.askew)) if min(piece.depth, piece.width) > _LARGE else 0.0


def add_clutter(site: Site, changes: Changes) -> None:
    """Leave boxes, balls, cushions and cylinders of all sizes about, tilted, some of them in the air."""
    rng, cell = changes.rng, site.plan.cell
    rows, columns = np.nonzero(site.free & ~site.keep)
    for _ in range(int(changes.clutter * len(rows) * cell**2)):
        at = int(rng.integers(len(rows)))
        x, z = (columns[at] + rng.random()) * cell, (rows[at] + rng.random()) * cell
        shape = _loose_shape(rng)
        piece = Piece(0.1, 0.1, 0.1)
        piece.add(shape, material(rng, str(rng.choice(_GROUPS)), vary=0.3), "column")
        height = 0.0 if rng.random() < 0.6 else rng.uniform(0.0, 0.8) * site.ceiling
        room = int(site.plan.cells[rows[at], columns[at]])
        site.put(piece, float(x), float(z), rng.uniform(0.0, 2.0 * np.pi), room, float(height))


def _loose_shape(rng: np.random.Generator) -> Shape:
    """A convex thing of 8 cm to 90 cm."""
    a, b, c = 0.08 * np.exp(rng.uniform(0.0, 2.4, 3))
    kind = int(rng.integers(5))
    if kind <= 1:
        shape = box(a, b, c)
    elif kind == 2:
        shape = ball(a / 2.0, 12, float(rng.uniform(0.6, 1.2)))
    elif kind == 3:
        shape = cylinder(a / 2.0, b, 12, float(a / 2.0 * rng.uniform(0.3, 1.2)))
    else:
        shape = cushion(a, b, c)
    if rng.random() < 0.5:
        shape = turned(shape, str(rng.choice(["x", "z"])), float(rng.uniform(-0.8, 0.8)))
    return shape


def shear(scene: Scene, changes: Changes) -> Scene:
    """Map the floor plane of a scene linearly; heights stay."""
    vertices = scene.vertices.astype(np.float64)
    vertices[:, [0, 2]] = vertices[:, [0, 2]] @ changes.plane.T
    rooms = tuple(Room(room.kind, (room.polygon @ changes.plane.T).astype(np.float32)) for room in scene.rooms)
    return dataclasses.replace(scene, vertices=vertices.astype(np.float32), rooms=rooms)
