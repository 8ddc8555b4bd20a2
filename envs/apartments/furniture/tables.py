"""Tables and desks."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.decor import books, bottle, bowl, laptop, table_lamp, vase
from envs.apartments.furniture.piece import Look, Piece
from envs.apartments.furniture.shapes import box, cylinder, lathe, rod


def dining_table(rng: np.random.Generator, look: Look) -> Piece:
    """Return a rectangular or round table, sometimes laid."""
    height = rng.uniform(0.72, 0.76)
    if rng.random() < 0.4:
        radius = rng.uniform(0.45, 0.62)
        piece = Piece(2 * radius, 2 * radius, height)
        piece.add(cylinder(radius, 0.035, 18), look.wood, "dining table", y=height - 0.035, z=radius)
        foot = [(0.0, 0.0), (0.28, 0.0), (0.26, 0.03), (0.06, 0.1), (0.05, height - 0.12), (0.14, height - 0.03)]
        piece.add(lathe(foot, 10), look.wood, "dining table", z=radius)
    else:
        piece = _plank_table(rng, look, (rng.uniform(1.1, 1.9), rng.uniform(0.75, 0.95), height), "dining table")
    if rng.random() < 0.6:
        piece.put(vase(rng, look), rng.uniform(-0.15, 0.15), height, piece.depth / 2.0 - 0.1)
    for _ in range(int(rng.integers(0, 3))):
        piece.put(
            bowl(rng, look), rng.uniform(-0.4, 0.4) * (piece.width - 0.3), height, rng.uniform(0.2, 0.6) * piece.depth
        )
    if rng.random() < 0.35:
        piece.put(bottle(rng), rng.uniform(-0.3, 0.3) * piece.width, height, piece.depth * rng.uniform(0.3, 0.6))
    return piece


def _plank_table(rng: np.random.Generator, look: Look, size: tuple[float, float, float], label: str) -> Piece:
    """Return a table with four legs: square, round or slanted."""
    width, depth, height = size
    piece = Piece(width, depth, height)
    piece.add(box(width, 0.035, depth), look.wood, label, y=height - 0.035, z=depth / 2.0)
    thick, style = rng.uniform(0.05, 0.08), int(rng.integers(3))
    made_of = look.metal if rng.random() < 0.3 else look.wood
    for side in (-1.0, 1.0):
        for end in (-1.0, 1.0):
            x, z = side * (width / 2 - 0.07), depth / 2 + end * (depth / 2 - 0.07)
            if style == 0:
                piece.add(box(thick, height - 0.035, thick), made_of, label, x=x, z=z)
            elif style == 1:
                piece.add(cylinder(thick * 0.35, height - 0.035, 8, thick * 0.6), made_of, label, x=x, z=z)
            else:
                piece.add(
                    rod((x, 0.0, z), (x * 0.82, height - 0.035, depth / 2 + (z - depth / 2) * 0.7), 0.025),
                    made_of,
                    label,
                )
    if style < 2:
        piece.add(box(width - 0.16, 0.08, depth - 0.16), look.wood, label, y=height - 0.115, z=depth / 2.0)
    return piece


def coffee_table(rng: np.random.Generator, look: Look) -> Piece:
    """Return a low table: rectangular, or a round drum."""
    height = rng.uniform(0.36, 0.46)
    if rng.random() < 0.45:
        radius = rng.uniform(0.3, 0.45)
        piece = Piece(2 * radius, 2 * radius, height)
        piece.add(cylinder(radius, 0.04, 16), look.wood, "table", y=height - 0.04, z=radius)
        piece.add(cylinder(radius * 0.8, height - 0.04, 14, radius * 0.5), look.dark, "table", z=radius)
    else:
        piece = _plank_table(rng, look, (rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.65), height), "table")
        piece.add(box(piece.width - 0.2, 0.02, piece.depth - 0.2), look.wood, "table", y=0.14, z=piece.depth / 2)
    middle = piece.depth / 2.0
    if rng.random() < 0.6:
        piece.put(books(rng, lying=True), rng.uniform(-0.15, 0.15), height, middle - 0.1)
    if rng.random() < 0.5:
        piece.put(vase(rng, look), rng.uniform(-0.25, 0.25), height, middle - 0.1)
    return piece


def side_table(rng: np.random.Generator, look: Look) -> Piece:
    """Return a small round table with a lamp or a vase."""
    radius, height = rng.uniform(0.2, 0.27), rng.uniform(0.45, 0.58)
    piece = Piece(2 * radius, 2 * radius, height)
    piece.add(cylinder(radius, 0.03, 14), look.dark, "table", y=height - 0.03, z=radius)
    for angle in (0.5, 2.6, 4.7):
        foot = (radius * 0.9 * float(np.sin(angle)), 0.0, radius + radius * 0.9 * float(np.cos(angle)))
        piece.add(
            rod(foot, (foot[0] * 0.3, height - 0.02, radius + (foot[2] - radius) * 0.3), 0.018, 5), look.dark, "table"
        )
    piece.put(table_lamp(rng, look) if rng.random() < 0.6 else vase(rng, look), 0.0, height, radius - 0.12)
    return piece


def desk(rng: np.random.Generator, look: Look) -> Piece:
    """Return a desk with drawers, a lamp, books and a screen or laptop."""
    width, depth, height = rng.uniform(1.1, 1.6), rng.uniform(0.58, 0.72), rng.uniform(0.72, 0.76)
    piece = Piece(width, depth, height)
    piece.add(box(width, 0.035, depth), look.wood, "desk", y=height - 0.035, z=depth / 2)
    sign = 1.0 if rng.random() < 0.5 else -1.0
    piece.add(box(0.4, height - 0.035, depth - 0.06), look.dark, "desk", x=sign * (width / 2 - 0.2), z=depth / 2)
    for level in (0.12, 0.32, 0.52):
        piece.add(box(0.34, 0.16, 0.02), look.wood, "desk", x=sign * (width / 2 - 0.2), y=level, z=depth - 0.02)
    for end in (0.06, depth - 0.06):
        piece.add(box(0.05, height - 0.035, 0.05), look.dark, "desk", x=-sign * (width / 2 - 0.05), z=end)
    piece.put(laptop(rng), -sign * 0.15, height, depth / 2 - 0.2)
    if rng.random() < 0.7:
        piece.put(table_lamp(rng, look), sign * (width / 2 - 0.2), height, 0.08)
    if rng.random() < 0.7:
        piece.put(books(rng, lying=rng.random() < 0.5), -sign * (width / 2 - 0.24), height, 0.08)
    return piece
