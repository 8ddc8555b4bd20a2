"""Materials, and pieces of furniture assembled from shapes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from envs.apartments.furniture.shapes import Shape, turned
from envs.apartments.textures import texture_bank
from envs.scene import COCO_CLASSES

CLASS_NAMES = (
    "wall",
    "floor",
    "ceiling",
    "door",
    "window",
    *COCO_CLASSES,
    "cabinet",
    "shelf",
    "lamp",
    "rug",
    "picture",
    "curtain",
    "bathtub",
    "desk",
    "table",
    "mirror",
    "washing machine",
    "pillow",
    "towel",
    "toy",
    "basket",
    "column",
    "baseboard",
)
CLASS_INDEX = {name: index for index, name in enumerate(CLASS_NAMES)}

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """A texture and its colour.

    Attributes:
        texture: Index into the texture bank.
        tint: sRGB factor on the texture.
        side: Metres that one repetition spans on shapes that are not fitted.
        glow: 0 for surfaces that only reflect light, 1 for those that shine by themselves.
    """

    texture: int
    tint: Rgb = (1.0, 1.0, 1.0)
    side: float = 1.0
    glow: float = 0.0


def material(
    rng: np.random.Generator, group: str, tint: Rgb = (1.0, 1.0, 1.0), vary: float = 0.06, glow: float = 0.0
) -> Material:
    """Return a random texture of a group, its tint varied by up to `vary` per channel."""
    bank = texture_bank()
    choices = bank.groups[group]
    texture = choices[int(rng.integers(len(choices)))]
    red, green, blue = (
        min(max(c + d, 0.03), 1.0) for c, d in zip(tint, rng.uniform(-vary, vary, 3).tolist(), strict=True)
    )
    return Material(texture, (red, green, blue), bank.side[texture], glow)


@dataclass(frozen=True)
class Part:
    """A shape at its place in a piece; parts of equal `group` and `label` are one object.

    Attributes:
        shape: Its triangles.
        material: Their surface.
        label: Semantic class, one of `SEMANTIC_NAMES`.
        at: x, y, z that the shape is moved by, metres.
        group: Number of the object within the piece.
    """

    shape: Shape
    material: Material
    label: str
    at: tuple[float, float, float]
    group: int


@dataclass
class Piece:
    """A piece of furniture: x to its left and right, back against z = 0, front towards +z, standing on y = 0.

    Attributes:
        width: Extent along x in metres, centred.
        depth: Extent along z in metres.
        height: Extent along y in metres; pieces lower than a few centimetres are walked over.
        parts: What it is made of.
        lights: Position and strength of its lamps.
    """

    width: float
    depth: float
    height: float
    parts: list[Part] = field(default_factory=list)
    lights: list[tuple[tuple[float, float, float], float]] = field(default_factory=list)

    def add(self, shape: Shape, made_of: Material, label: str, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        """Add a shape of class `label`, moved by (x, y, z)."""
        self.parts.append(Part(shape, made_of, label, (x, y, z), 0))

    def put(self, other: Piece, x: float = 0.0, y: float = 0.0, z: float = 0.0, turn: float = 0.0) -> None:
        """Add another piece, the middle of its back edge at (x, y, z), turned about +Y by `turn` radians."""
        first = 1 + max((part.group for part in self.parts), default=0)
        cosine, sine = float(np.cos(turn)), float(np.sin(turn))

        def moved(at: tuple[float, float, float]) -> tuple[float, float, float]:
            return at[0] * cosine + at[2] * sine + x, at[1] + y, at[2] * cosine - at[0] * sine + z

        for part in other.parts:
            shape = turned(part.shape, "y", turn) if turn else part.shape
            self.parts.append(Part(shape, part.material, part.label, moved(part.at), first + part.group))
        self.lights += [(moved(at), strength) for at, strength in other.lights]


@dataclass(frozen=True)
class Look:
    """Style shared by the pieces of a room."""

    wood: Material
    dark: Material
    fabric: Material
    accent: Material
    metal: Material
    white: Material

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Draw the materials of a room."""
        return cls(
            wood=material(rng, "wood", (0.95, 0.92, 0.9), 0.05),
            dark=material(rng, "wood", (0.6, 0.56, 0.55), 0.2),
            fabric=material(rng, str(rng.choice(["fabric", "fabric", "leather"])), hue(rng, 0.5, 0.9), 0.03),
            accent=material(rng, "fabric", hue(rng, 0.7, 0.95), 0.03),
            metal=material(rng, "metal", vary=0.04),
            white=material(rng, "ceramic", (0.97, 0.97, 0.96), 0.03),
        )


def hue(rng: np.random.Generator, saturation: float, value: float, least: float = 0.6) -> Rgb:
    """Return a colour of random hue, of up to the given saturation, and of at least `least` of the given value."""
    strength = saturation * rng.random()
    wheel = 0.5 + 0.5 * np.cos(2.0 * np.pi * (rng.random() + np.array([0.0, 1 / 3, 2 / 3])))
    red, green, blue = value * rng.uniform(least, 1.0) * (1.0 - strength * (1.0 - wheel))
    return float(red), float(green), float(blue)
