"""Chairs, armchairs, sofas and stools."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.piece import Look, Piece
from envs.apartments.furniture.shapes import box, cushion, cylinder, drape, lathe, rod, turned


def _four_legs(piece: Piece, width: float, depth: float, height: float, look: Look, label: str, splay: float) -> None:
    """Add legs at the corners of a rectangle centred on the piece."""
    middle = piece.depth / 2.0
    for side in (-0.5, 0.5):
        for end in (-0.5, 0.5):
            foot = (side * (width + splay), 0.0, middle + end * (depth + splay))
            piece.add(rod(foot, (side * width, height, middle + end * depth), 0.022, 5), look.wood, label)


def chair(rng: np.random.Generator, look: Look) -> Piece:
    """Return a dining chair with a slatted, closed or round back."""
    width, seat = rng.uniform(0.4, 0.48), rng.uniform(0.43, 0.47)
    back = rng.uniform(0.38, 0.55)
    piece = Piece(width, width + 0.04, seat + back)
    _four_legs(piece, width - 0.08, width - 0.08, seat - 0.02, look, "chair", rng.uniform(0.0, 0.05))
    style = int(rng.integers(3))
    if style == 0:
        piece.add(cylinder(width / 2.0, 0.04, 12), look.wood, "chair", y=seat - 0.03, z=piece.depth / 2.0)
    else:
        piece.add(box(width, 0.04, width), look.wood, "chair", y=seat - 0.04, z=piece.depth / 2.0)
    if style == 1:
        piece.add(cushion(width * 0.92, 0.06, width * 0.92), look.accent, "chair", y=seat, z=piece.depth / 2.0)
    lean = -rng.uniform(0.05, 0.2)
    if style == 2:
        for offset in np.linspace(-0.4, 0.4, 4) * width:
            piece.add(turned(box(0.03, back, 0.025), "x", lean), look.wood, "chair", x=float(offset), y=seat, z=0.08)
        height, shift = back * np.cos(lean), back * np.sin(lean)
        piece.add(box(width, 0.08, 0.03), look.wood, "chair", y=seat + height - 0.08, z=0.08 + shift)
    else:
        made_of = look.accent if style == 1 else look.wood
        piece.add(turned(box(width * 0.92, back, 0.035), "x", lean), made_of, "chair", y=seat, z=0.08)
    return piece


def office_chair(rng: np.random.Generator, look: Look) -> Piece:
    """Return a swivel chair on a star base."""
    piece = Piece(0.58, 0.58, 0.98)
    for angle in np.arange(5) * (2.0 * np.pi / 5.0):
        end = (0.26 * float(np.sin(angle)), 0.05, 0.29 + 0.26 * float(np.cos(angle)))
        piece.add(rod((0.0, 0.1, 0.29), end, 0.025, 5), look.metal, "chair")
    piece.add(cylinder(0.03, 0.36, 6), look.metal, "chair", y=0.08, z=0.29)
    piece.add(cushion(0.48, 0.09, 0.46), look.fabric, "chair", y=0.42, z=0.29)
    back = rng.uniform(0.42, 0.55)
    piece.add(
        turned(cushion(0.44, 0.07, back), "x", np.pi / 2.0 - 0.15), look.fabric, "chair", y=0.55 + back / 2.0, z=0.06
    )
    return piece


def stool(rng: np.random.Generator, look: Look) -> Piece:
    """Return a round stool or an upholstered pouf."""
    radius = rng.uniform(0.17, 0.24)
    height = rng.uniform(0.38, 0.5)
    piece = Piece(2 * radius, 2 * radius, height)
    if rng.random() < 0.5:
        _four_legs(piece, radius, radius, height - 0.03, look, "chair", 0.06)
        piece.add(cylinder(radius, 0.04, 12), look.dark, "chair", y=height - 0.04, z=radius)
    else:
        profile = [(0.0, 0.0), (radius * 0.85, 0.0), (radius, height * 0.5), (radius * 0.85, height), (0.0, height)]
        piece.add(lathe(profile, 12), look.accent, "chair", z=radius)
    return piece


def sofa(rng: np.random.Generator, look: Look, seats: int | None = None) -> Piece:
    """Return a sofa with arms, cushions and sometimes a chaise."""
    seats = int(rng.integers(2, 4)) if seats is None else seats
    each, arm = rng.uniform(0.58, 0.72), rng.uniform(0.12, 0.22)
    width, depth = seats * each + 2 * arm, rng.uniform(0.82, 0.95)
    seat, back, side = rng.uniform(0.38, 0.45), rng.uniform(0.72, 0.9), rng.uniform(0.52, 0.64)
    piece = Piece(width, depth, back)
    piece.add(box(width - 0.04, seat - 0.2, depth - 0.06), look.fabric, "couch", y=0.06, z=depth / 2.0)
    piece.add(turned(box(width - 2 * arm, back - 0.2, 0.18), "x", -0.12), look.fabric, "couch", y=0.2, z=0.19)
    for sign in (-1.0, 1.0):
        x = sign * (width - arm) / 2.0
        if look.fabric.side > 0.55:
            piece.add(cushion(arm, side - 0.06, depth), look.fabric, "couch", x=x, y=0.06, z=depth / 2.0)
        else:
            piece.add(box(arm, side - 0.06, depth), look.fabric, "couch", x=x, y=0.06, z=depth / 2.0)
    for index in range(seats):
        x = (index - (seats - 1) / 2.0) * each
        piece.add(cushion(each - 0.02, 0.17, depth - 0.3), look.fabric, "couch", x=x, y=seat - 0.14, z=depth / 2 + 0.13)
        if rng.random() < 0.6:
            pillow = turned(cushion(0.4, 0.14, 0.38), "x", np.pi / 2.0 - 0.35)
            piece.add(pillow, look.accent, "pillow", x=x + rng.uniform(-0.08, 0.08), y=seat + 0.2, z=0.3)
    for sign in (-1.0, 1.0):
        for end in (0.08, depth - 0.08):
            piece.add(cylinder(0.025, 0.07, 6), look.dark, "couch", x=sign * (width / 2 - 0.08), z=end)
    return piece


def armchair(rng: np.random.Generator, look: Look) -> Piece:
    """Return a one-seat sofa or a round tub chair."""
    if rng.random() < 0.6:
        return sofa(rng, look, seats=1)
    radius = rng.uniform(0.38, 0.44)
    piece = Piece(2 * radius, 2 * radius, 0.78)
    seat = [(0.0, 0.1), (radius * 0.8, 0.1), (radius * 0.9, 0.3), (radius * 0.84, 0.42), (0.0, 0.42)]
    piece.add(lathe(seat, 14), look.accent, "chair", z=radius)
    for angle in np.linspace(-2.0, 2.0, 9):
        x, z = float(np.sin(angle)) * radius * 0.9, radius - float(np.cos(angle)) * radius * 0.9
        slab = turned(box(radius * 0.47, 0.62 + 0.1 * float(np.cos(angle)), 0.08), "y", -float(angle))
        piece.add(slab, look.accent, "chair", x=x, y=0.08, z=z)
    return piece


def curtain(width: float, height: float, look: Look) -> Piece:
    """Return a pair of curtains drawn aside on a rod; `width` is that of the window."""
    piece = Piece(width + 0.5, 0.12, height)
    piece.add(rod((-piece.width / 2, height, 0.07), (piece.width / 2, height, 0.07), 0.014), look.metal, "curtain")
    for sign in (-1.0, 1.0):
        piece.add(drape(0.36, height - 0.06, 3, 0.035), look.accent, "curtain", sign * (width / 2 + 0.06), 0.05, 0.07)
    return piece
