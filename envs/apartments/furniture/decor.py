"""Small things: lamps, plants, vases, bottles, books, pictures, clocks, mirrors, rugs, toys."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.piece import Look, Material, Piece, hue, material
from envs.apartments.furniture.shapes import ball, box, cylinder, flat, lathe, leaf, rod, sheet, turned

WARM = (1.0, 0.93, 0.78)


def vase(rng: np.random.Generator, look: Look) -> Piece:
    """Return a turned vase, sometimes with leaves."""
    height, radius = rng.uniform(0.18, 0.34), rng.uniform(0.05, 0.1)
    neck = rng.uniform(0.3, 0.75)
    belly = rng.uniform(0.3, 0.65) * height
    rings = [(radius * 0.6, 0.0), (radius, belly), (radius * neck, height * 0.88), (radius * neck * 1.25, height)]
    piece = Piece(2 * radius, 2 * radius, height)
    made_of = material(rng, "ceramic" if rng.random() < 0.7 else "marble", hue(rng, 0.9, 1.0))
    piece.add(lathe(rings, 9), made_of, "vase", z=radius)
    if rng.random() < 0.5:
        foliage = material(rng, "foliage", (0.95, 1.0, 0.9), 0.1)
        for _ in range(5):
            blade = turned(leaf(rng.uniform(0.2, 0.35), 0.07, rng.uniform(1.0, 1.5), 0.8), "y", rng.uniform(0, 6.28))
            piece.add(blade, foliage, "vase", y=height * 0.9, z=radius)
    return piece


def bowl(rng: np.random.Generator, look: Look) -> Piece:
    """Return a bowl."""
    radius, height = rng.uniform(0.08, 0.14), rng.uniform(0.05, 0.09)
    piece = Piece(2 * radius, 2 * radius, height)
    rings = [(radius * 0.45, 0.0), (radius, height), (radius * 0.85, height), (0.0, height * 0.4)]
    piece.add(lathe(rings, 9), material(rng, "ceramic", hue(rng, 0.6, 1.0)), "vase", z=radius)
    return piece


def bottle(rng: np.random.Generator) -> Piece:
    """Return a bottle."""
    height, radius = rng.uniform(0.22, 0.33), rng.uniform(0.032, 0.042)
    rings = [
        (radius, 0.0),
        (radius, height * 0.6),
        (radius * 0.35, height * 0.78),
        (radius * 0.35, height),
        (0.0, height),
    ]
    piece = Piece(2 * radius, 2 * radius, height)
    piece.add(lathe(rings, 7), material(rng, "ceramic", hue(rng, 1.0, 0.7)), "bottle", z=radius)
    return piece


def books(rng: np.random.Generator, lying: bool) -> Piece:
    """Return a pile of books or a short upright row."""
    count = int(rng.integers(2, 5))
    piece = Piece(0.24, 0.2, 0.05 * count)
    at = 0.0
    for _ in range(count):
        thick = rng.uniform(0.025, 0.05)
        cover = material(rng, "leather", hue(rng, 1.0, 0.8))
        if lying:
            volume = turned(box(rng.uniform(0.17, 0.24), thick, rng.uniform(0.13, 0.18)), "y", rng.uniform(-0.3, 0.3))
            piece.add(volume, cover, "book", y=at, z=0.1)
        else:
            piece.add(box(thick, rng.uniform(0.18, 0.26), 0.16), cover, "book", x=at - 0.08, z=0.1)
        at += thick
    return piece


def laptop(rng: np.random.Generator) -> Piece:
    """Return a screen: a monitor on a stand, or a laptop."""
    dark = material(rng, "metal", (0.4, 0.4, 0.42))
    picture = material(rng, "screen", vary=0.0, glow=0.7)
    if rng.random() < 0.5:
        piece = Piece(0.55, 0.2, 0.45)
        piece.add(cylinder(0.11, 0.02, 10), dark, "tv", z=0.1)
        piece.add(box(0.05, 0.2, 0.03), dark, "tv", z=0.09)
        piece.add(box(0.56, 0.34, 0.03), dark, "tv", y=0.12, z=0.1)
        piece.add(sheet(0.53, 0.31), picture, "tv", y=0.135, z=0.118)
    else:
        piece = Piece(0.34, 0.24, 0.24)
        piece.add(box(0.34, 0.018, 0.23), dark, "tv", z=0.14)
        piece.add(turned(box(0.34, 0.22, 0.012), "x", -0.25), dark, "tv", y=0.015, z=0.03)
        piece.add(turned(sheet(0.31, 0.2), "x", -0.25), picture, "tv", y=0.028, z=0.04)
    return piece


def television(rng: np.random.Generator) -> Piece:
    """Return a flat television to stand on something or to hang."""
    width = rng.uniform(0.9, 1.35)
    height = width * 0.58
    piece = Piece(width, 0.06, height)
    piece.add(box(width, height, 0.05), material(rng, "metal", (0.3, 0.3, 0.32)), "tv", z=0.03)
    picture = material(rng, "screen", vary=0.0, glow=0.8)
    piece.add(sheet(width - 0.05, height - 0.05), picture, "tv", y=0.025, z=0.058)
    return piece


def _shade(rng: np.random.Generator, radius: float, height: float) -> tuple[list[tuple[float, float]], Material]:
    """Return the profile of a lampshade, and its shining cloth."""
    top = radius * rng.uniform(0.5, 0.95)
    return [(radius, 0.0), (top, height), (0.0, height)], material(rng, "fabric", WARM, 0.04, glow=0.85)


def table_lamp(rng: np.random.Generator, look: Look) -> Piece:
    """Return a lamp with a turned foot and a shade."""
    foot, radius = rng.uniform(0.16, 0.26), rng.uniform(0.1, 0.15)
    piece = Piece(2 * radius, 2 * radius, foot + 0.2)
    belly = rng.uniform(0.04, 0.08)
    rings = [(0.06, 0.0), (belly, foot * 0.4), (0.015, foot * 0.9), (0.015, foot + 0.06)]
    piece.add(lathe(rings, 8), material(rng, "ceramic", hue(rng, 0.8, 1.0)), "lamp", z=radius)
    profile, cloth = _shade(rng, radius, rng.uniform(0.14, 0.2))
    piece.add(lathe(profile, 10), cloth, "lamp", y=foot, z=radius)
    piece.lights.append(((0.0, foot + 0.1, radius), 0.22))
    return piece


def floor_lamp(rng: np.random.Generator, look: Look) -> Piece:
    """Return a standing lamp, its shade above a pole or a tripod."""
    height, radius = rng.uniform(1.25, 1.55), rng.uniform(0.17, 0.24)
    piece = Piece(2 * radius, 2 * radius, height + 0.25)
    if rng.random() < 0.5:
        piece.add(cylinder(0.14, 0.03, 12), look.metal, "lamp", z=radius)
        piece.add(cylinder(0.014, height, 6), look.metal, "lamp", z=radius)
    else:
        for angle in (0.3, 2.4, 4.5):
            foot = (0.18 * float(np.sin(angle)), 0.0, radius + 0.18 * float(np.cos(angle)))
            piece.add(rod(foot, (0.0, height, radius), 0.016, 5), look.wood, "lamp")
    profile, cloth = _shade(rng, radius, rng.uniform(0.22, 0.32))
    piece.add(lathe(profile, 12), cloth, "lamp", y=height, z=radius)
    piece.lights.append(((0.0, height + 0.1, radius), 0.45))
    return piece


def pendant(rng: np.random.Generator, look: Look, ceiling: float) -> Piece:
    """Return a ceiling lamp reaching down from `ceiling`: a globe, a cone, or a flat disc."""
    style = int(rng.integers(3))
    drop = (rng.uniform(0.3, 0.45), rng.uniform(0.35, 0.5), 0.08)[style]
    piece = Piece(0.4, 0.4, ceiling)
    glass = material(rng, "ceramic", WARM, 0.03, glow=1.0)
    low = ceiling - drop
    if style == 0:
        piece.add(ball(0.13, 10), glass, "lamp", y=low)
    elif style == 1:
        piece.add(lathe([(0.22, 0.0), (0.05, 0.2), (0.0, 0.2)], 14), look.accent, "lamp", y=low)
        piece.add(ball(0.05, 6), glass, "lamp", y=low + 0.02)
    else:
        piece.add(lathe([(0.0, 0.0), (0.17, 0.02), (0.2, 0.08)], 16), glass, "lamp", y=low)
    if style < 2:
        piece.add(rod((0.0, low + 0.18, 0.0), (0.0, ceiling, 0.0), 0.008, 4), look.metal, "lamp")
    piece.lights.append(((0.0, min(low, ceiling - 0.25), 0.0), 1.0))
    centred = Piece(0.4, 0.4, ceiling)
    centred.put(piece, z=0.2)
    return centred


def plant(rng: np.random.Generator, look: Look) -> Piece:
    """Return a potted plant: a fan of leaves, or a little tree."""
    radius, pot = rng.uniform(0.13, 0.21), rng.uniform(0.22, 0.38)
    reach = rng.uniform(0.32, 0.55)
    tall = rng.random() < 0.4
    piece = Piece(2 * reach * 0.8, 2 * reach * 0.8, pot + (1.0 if tall else reach))
    middle = piece.depth / 2.0
    clay = material(rng, str(rng.choice(["ceramic", "stone", "wicker"])), hue(rng, 0.5, 0.95))
    piece.add(lathe([(radius * 0.7, 0.0), (radius, pot), (radius * 0.88, pot)], 10), clay, "potted plant", z=middle)
    soil = material(rng, "soil")
    piece.add(lathe([(radius * 0.9, pot - 0.04), (0.0, pot - 0.03)], 10), soil, "potted plant", z=middle)
    foliage = material(rng, "foliage", (0.92, 1.0, 0.85), 0.14)
    stem = pot + (rng.uniform(0.5, 0.9) if tall else 0.0)
    if tall:
        piece.add(cylinder(0.025, stem - pot + 0.1, 6), look.dark, "potted plant", y=pot - 0.05, z=middle)
        if rng.random() < 0.5:
            piece.add(ball(reach * 0.6, 10, 0.9), foliage, "potted plant", y=stem, z=middle)
            return piece
    for index in range(int(rng.integers(9, 15))):
        lift, droop = rng.uniform(0.7, 1.5), rng.uniform(0.5, 1.6)
        blade = leaf(reach * rng.uniform(0.8, 1.2), rng.uniform(0.06, 0.14), lift, droop)
        piece.add(
            turned(blade, "y", index * 2.4 + rng.uniform(-0.3, 0.3)), foliage, "potted plant", y=stem - 0.05, z=middle
        )
    return piece


def column(rng: np.random.Generator, made_of: Material, ceiling: float) -> Piece:
    """Return a round pillar."""
    radius = rng.uniform(0.12, 0.2)
    piece = Piece(2 * radius, 2 * radius, ceiling)
    levels = np.linspace(0.0, ceiling, 4)
    piece.add(lathe([(radius, float(y)) for y in levels], 16), made_of, "column", z=radius)
    return piece


def toys(rng: np.random.Generator, look: Look) -> Piece:
    """Return a few balls and blocks."""
    piece = Piece(0.7, 0.5, 0.3)
    for _ in range(int(rng.integers(3, 6))):
        made_of = material(rng, "fabric", hue(rng, 1.0, 1.0))
        size = rng.uniform(0.07, 0.14)
        x, z = rng.uniform(-0.25, 0.25), rng.uniform(0.12, 0.4)
        thing = ball(size, 10) if rng.random() < 0.6 else turned(box(size, size, size), "y", rng.uniform(0, 1.5))
        piece.add(thing, made_of, "toy", x=x, z=z)
    return piece


def basket(rng: np.random.Generator, look: Look) -> Piece:
    """Return a wicker basket or a waste bin."""
    radius, height = rng.uniform(0.14, 0.22), rng.uniform(0.28, 0.48)
    piece = Piece(2 * radius, 2 * radius, height)
    profile = [(0.0, 0.0), (radius * 0.8, 0.0), (radius, height), (radius * 0.92, height), (radius * 0.8, 0.1)]
    made_of = material(rng, "wicker") if rng.random() < 0.7 else look.metal
    piece.add(lathe(profile, 12), made_of, "basket", z=radius)
    return piece


def rug(rng: np.random.Generator, width: float, depth: float) -> Piece:
    """Return a rug, round if the sides are equal."""
    piece = Piece(width, depth, 0.012)
    made_of = material(rng, "rug", hue(rng, 0.3, 1.0), 0.05)
    if width == depth:
        disc = lathe([(width / 2, 0.0), (width / 2, 0.012), (0.0, 0.012)], 20)
        piece.add(flat(disc, width, depth), made_of, "rug", z=depth / 2)
    else:
        piece.add(flat(box(width, 0.012, depth), width, depth), made_of, "rug", z=depth / 2)
    return piece


def picture(rng: np.random.Generator, look: Look) -> Piece:
    """Return a framed picture."""
    width = rng.uniform(0.3, 1.0)
    height = width * rng.uniform(0.6, 1.4) if width < 0.65 else width * rng.uniform(0.55, 0.8)
    piece = Piece(width, 0.03, height)
    piece.add(box(width, height, 0.025), look.dark if rng.random() < 0.6 else look.metal, "picture", z=0.014)
    piece.add(
        sheet(width * 0.9, height - width * 0.1), material(rng, "picture", vary=0.0), "picture", y=width * 0.05, z=0.029
    )
    return piece


def clock(rng: np.random.Generator, look: Look) -> Piece:
    """Return a round wall clock."""
    radius = rng.uniform(0.13, 0.2)
    piece = Piece(2 * radius, 0.05, 2 * radius)
    rim = turned(cylinder(radius, 0.035, 12), "x", np.pi / 2.0)
    piece.add(rim, look.dark, "clock", y=radius)
    dial = flat(lathe([(radius * 0.93, 0.001), (0.0, 0.001)], 12), 2 * radius, 2 * radius)
    piece.add(turned(dial, "x", np.pi / 2.0), material(rng, "clock", vary=0.0), "clock", y=radius, z=0.036)
    return piece


def mirror(rng: np.random.Generator, look: Look) -> Piece:
    """Return a mirror; it shows a pale sky instead of a reflection."""
    width, height = rng.uniform(0.45, 0.8), rng.uniform(0.6, 0.9)
    piece = Piece(width, 0.03, height)
    piece.add(box(width, height, 0.02), look.wood, "mirror", z=0.011)
    piece.add(
        sheet(width - 0.06, height - 0.06), material(rng, "ceramic", (0.72, 0.8, 0.86)), "mirror", y=0.03, z=0.024
    )
    return piece
