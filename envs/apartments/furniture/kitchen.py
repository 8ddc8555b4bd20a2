"""Kitchen units and appliances."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.decor import bottle, bowl
from envs.apartments.furniture.piece import Look, Material, Piece, hue, material
from envs.apartments.furniture.shapes import ball, box, cushion, cylinder, lathe, rod, sheet, turned

UNIT = 0.6
WORKTOP = 0.9


def refrigerator(rng: np.random.Generator, look: Look) -> Piece:
    """Return a refrigerator with two doors and handles."""
    width, height = rng.uniform(0.6, 0.75), rng.uniform(1.65, 1.95)
    piece = Piece(width, 0.66, height)
    made_of = look.metal if rng.random() < 0.5 else material(rng, "ceramic", hue(rng, 0.5, 1.0))
    split = height * rng.uniform(0.35, 0.65)
    piece.add(box(width, height, 0.6), made_of, "refrigerator", z=0.3)
    for low, high in ((0.04, split), (split + 0.015, height - 0.01)):
        piece.add(box(width - 0.01, high - low, 0.05), made_of, "refrigerator", y=low, z=0.63)
        middle = (low + high) / 2
        handle = rod((-width * 0.4, middle - 0.18, 0.69), (-width * 0.4, middle + 0.18, 0.69), 0.014)
        piece.add(handle, look.metal, "refrigerator")
    return piece


def counter(rng: np.random.Generator, look: Look, units: int) -> Piece:
    """Return a run of kitchen units: sink and oven among base cabinets, appliances on the worktop, wall cabinets."""
    width, depth = units * UNIT, 0.62
    piece = Piece(width, depth, WORKTOP)
    front = look.white if rng.random() < 0.5 else (look.wood if rng.random() < 0.5 else look.dark)
    stone = material(rng, str(rng.choice(["marble", "stone", "wood"])), (0.9, 0.9, 0.9))
    order = [int(unit) for unit in rng.permutation(units)]
    sink_at, oven_at = order[0], order[1] if units > 1 else -1
    for unit in range(units):
        x = (unit - (units - 1) / 2) * UNIT
        if unit == oven_at:
            piece.put(_oven(rng, look), x)
        else:
            _base_unit(piece, front, look, x)
        if unit == sink_at:
            _sink(piece, look, x)
        else:
            piece.add(box(UNIT, 0.04, depth), stone, "cabinet", x=x, y=WORKTOP - 0.04, z=depth / 2)
    for unit in order[2:]:
        maker = (_microwave, _toaster, _kettle, _bottles, bowl)[int(rng.integers(5))]
        piece.put(maker(rng, look), (unit - (units - 1) / 2) * UNIT, WORKTOP, 0.12)
    if rng.random() < 0.75:
        _wall_units(rng, look, piece, front, units, oven_at)
    return piece


def _base_unit(piece: Piece, front: Material, look: Look, x: float) -> None:
    """Add a base cabinet with one door and a plinth."""
    piece.add(box(UNIT, 0.76, 0.56), front, "cabinet", x=x, y=0.1, z=0.29)
    piece.add(box(UNIT, 0.1, 0.5), look.dark, "cabinet", x=x, z=0.26)
    piece.add(box(UNIT - 0.02, 0.73, 0.02), front, "cabinet", x=x, y=0.115, z=0.58)
    piece.add(rod((x - 0.1, 0.76, 0.61), (x + 0.1, 0.76, 0.61), 0.01, 5), look.metal, "cabinet")


def _sink(piece: Piece, look: Look, x: float) -> None:
    """Add a steel basin in the worktop, with a tap."""
    rim = [(0.3, 0.0), (0.3, 0.045), (0.23, 0.045), (0.2, -0.1), (0.0, -0.11)]
    piece.add(lathe(rim, 12, 8.0, 1.03), look.metal, "sink", x=x, y=WORKTOP - 0.04, z=0.31)
    piece.add(rod((x, WORKTOP, 0.06), (x, WORKTOP + 0.28, 0.06), 0.015), look.metal, "sink")
    piece.add(rod((x, WORKTOP + 0.28, 0.06), (x, WORKTOP + 0.22, 0.26), 0.013), look.metal, "sink")


def _oven(rng: np.random.Generator, look: Look) -> Piece:
    """Return a stove: an oven with window and knobs under a hob."""
    piece = Piece(UNIT, 0.62, WORKTOP)
    piece.add(box(UNIT - 0.01, 0.86, 0.58), look.metal, "oven", z=0.3)
    glass = material(rng, "metal", (0.22, 0.22, 0.24))
    piece.add(sheet(0.46, 0.34), glass, "oven", y=0.24, z=0.592)
    piece.add(rod((-0.22, 0.64, 0.62), (0.22, 0.64, 0.62), 0.012), look.metal, "oven")
    for x in (-0.2, -0.07, 0.07, 0.2):
        piece.add(turned(cylinder(0.022, 0.03, 6), "x", np.pi / 2), glass, "oven", x=x, y=0.76, z=0.59)
    for x in (-0.14, 0.14):
        for z in (0.17, 0.43):
            piece.add(lathe([(0.085, 0.012), (0.0, 0.012)], 10), glass, "oven", x=x, y=WORKTOP, z=z)
    if rng.random() < 0.6:
        pot = [(0.1, 0.0), (0.1, 0.14), (0.03, 0.17), (0.0, 0.2)]
        piece.add(lathe(pot, 10), look.metal, "oven", x=0.14, y=WORKTOP + 0.012, z=0.17)
    return piece


def _microwave(rng: np.random.Generator, look: Look) -> Piece:
    """Return a microwave oven."""
    piece = Piece(0.48, 0.36, 0.28)
    piece.add(box(0.48, 0.28, 0.34), look.metal if rng.random() < 0.5 else look.white, "microwave", z=0.17)
    piece.add(sheet(0.3, 0.2), material(rng, "metal", (0.22, 0.22, 0.24)), "microwave", x=-0.06, y=0.04, z=0.343)
    piece.add(rod((0.13, 0.05, 0.36), (0.13, 0.23, 0.36), 0.01, 5), look.metal, "microwave")
    return piece


def _toaster(rng: np.random.Generator, look: Look) -> Piece:
    """Return a rounded toaster."""
    piece = Piece(0.3, 0.2, 0.2)
    body = material(rng, "metal", hue(rng, 0.8, 1.0))
    piece.add(cushion(0.3, 0.19, 0.18), body, "toaster", z=0.12)
    for z in (0.09, 0.15):
        piece.add(box(0.2, 0.006, 0.025), look.dark, "toaster", y=0.188, z=z)
    return piece


def _kettle(rng: np.random.Generator, look: Look) -> Piece:
    """Return a jug."""
    piece = Piece(0.2, 0.2, 0.24)
    rings = [(0.08, 0.0), (0.085, 0.05), (0.055, 0.2), (0.02, 0.23), (0.0, 0.24)]
    piece.add(lathe(rings, 10), material(rng, "ceramic", hue(rng, 0.7, 1.0)), "vase", z=0.12)
    piece.add(rod((0.06, 0.2, 0.12), (0.13, 0.08, 0.12), 0.012, 5), look.dark, "vase")
    return piece


def _bottles(rng: np.random.Generator, look: Look) -> Piece:
    """Return a group of bottles."""
    piece = Piece(0.3, 0.2, 0.3)
    for x in (-0.08, 0.05):
        piece.put(bottle(rng), x, 0.0, rng.uniform(0.0, 0.12))
    return piece


def _wall_units(rng: np.random.Generator, look: Look, piece: Piece, front: Material, units: int, oven_at: int) -> None:
    """Add wall cabinets above the worktop; a hood hangs over the oven."""
    height, y = rng.uniform(0.55, 0.7), 1.5
    for unit in range(units):
        x = (unit - (units - 1) / 2) * UNIT
        if unit == oven_at:
            hood = [(0.28, 0.0), (0.28, 0.08), (0.12, 0.24), (0.12, height), (0.0, height)]
            piece.add(lathe(hood, 8, 9.0, 0.8), look.metal, "oven", x=x, y=y + 0.05, z=0.24)
        elif rng.random() < 0.85:
            piece.add(box(UNIT, height, 0.32), front, "cabinet", x=x, y=y, z=0.16)
            piece.add(box(UNIT - 0.02, height - 0.02, 0.02), front, "cabinet", x=x, y=y + 0.01, z=0.33)
            piece.add(ball(0.014, 4), look.metal, "cabinet", x=x + 0.22, y=y + 0.05, z=0.345)


def island(rng: np.random.Generator, look: Look) -> Piece:
    """Return a free-standing worktop with bottles or a bowl."""
    width = rng.uniform(1.1, 1.7)
    piece = Piece(width, 0.8, WORKTOP)
    piece.add(box(width - 0.16, WORKTOP - 0.04, 0.6), look.wood, "cabinet", z=0.4)
    stone = material(rng, "marble", (0.95, 0.95, 0.95))
    piece.add(box(width, 0.04, 0.8), stone, "cabinet", y=WORKTOP - 0.04, z=0.4)
    for x in (-0.25, 0.25):
        piece.put((bowl if rng.random() < 0.5 else _bottles)(rng, look), x, WORKTOP, 0.25)
    return piece
