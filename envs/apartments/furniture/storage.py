"""Shelves, cabinets, wardrobes and what stands on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs.apartments.furniture.decor import basket, bottle, bowl, plant, table_lamp, television, vase
from envs.apartments.furniture.piece import Look, Piece, material
from envs.apartments.furniture.shapes import ball, box, cylinder, sheet


def bookshelf(rng: np.random.Generator, look: Look) -> Piece:
    """Return an open shelf with books, vases and gaps."""
    width, depth = rng.uniform(0.7, 1.3), rng.uniform(0.26, 0.34)
    levels = int(rng.integers(3, 6))
    pitch = rng.uniform(0.32, 0.38)
    height = levels * pitch + 0.06
    piece = Piece(width, depth, height)
    for sign in (-1.0, 1.0):
        piece.add(box(0.025, height, depth), look.wood, "shelf", x=sign * (width / 2 - 0.0125), z=depth / 2)
    piece.add(box(width - 0.05, height, 0.012), look.dark, "shelf", z=0.007)
    for level in range(levels + 1):
        y = level * pitch + 0.03
        piece.add(box(width - 0.05, 0.025, depth - 0.02), look.wood, "shelf", y=y, z=depth / 2)
        if level < levels:
            _fill(rng, look, piece, y + 0.025, pitch - 0.03)
    return piece


def _fill(rng: np.random.Generator, look: Look, piece: Piece, y: float, height: float) -> None:
    """Put a row of books, or something else, on one level."""
    inner = piece.width - 0.06
    if rng.random() < 0.75:
        length = inner * rng.uniform(0.35, 0.98)
        sign = 1.0 if rng.random() < 0.5 else -1.0
        x = sign * (inner - length) / 2
        depth = piece.depth * 0.62
        back = material(rng, "book", vary=0.0)
        piece.add(box(length, height * 0.7, depth), look.dark, "book", x=x, y=y, z=depth / 2 + 0.02)
        row = sheet(length, height * 0.86)
        spines = replace(row, uv=row.uv * (length / back.side, 1.0))
        piece.add(spines, back, "book", x=x, y=y, z=depth + 0.022)
    elif rng.random() < 0.6:
        piece.put(bowl(rng, look), rng.uniform(-0.25, 0.25) * inner, y, 0.04)


def cabinet(rng: np.random.Generator, look: Look) -> Piece:
    """Return a sideboard with doors or drawers, legs, and decoration on top."""
    width, depth, height = rng.uniform(0.8, 1.7), rng.uniform(0.38, 0.48), rng.uniform(0.7, 0.95)
    piece = _carcass(rng, look, (width, depth, height), round(width / 0.45), 0.12 if rng.random() < 0.5 else 0.03)
    x = rng.uniform(-0.35, 0.35) * width
    for thing in (vase, table_lamp, bowl):
        if rng.random() < 0.4:
            piece.put(thing(rng, look), x, height, depth / 2 - 0.12)
            x = -x + 0.15 * float(np.sign(x)) * rng.random()
    return piece


def wardrobe(rng: np.random.Generator, look: Look) -> Piece:
    """Return a wardrobe to about two metres."""
    width, depth, height = rng.uniform(0.9, 1.8), rng.uniform(0.55, 0.62), rng.uniform(1.9, 2.2)
    return _carcass(rng, look, (width, depth, height), max(2, round(width / 0.5)), 0.05)


def _carcass(rng: np.random.Generator, look: Look, size: tuple[float, float, float], doors: int, foot: float) -> Piece:
    """Return a closed cabinet with `doors` fronts, each a door or a stack of drawers."""
    width, depth, height = size
    piece = Piece(width, depth, height)
    piece.add(box(width, height - foot, depth - 0.02), look.wood, "cabinet", y=foot, z=depth / 2 - 0.01)
    for sign in (-1.0, 1.0):
        for end in (0.06, depth - 0.08):
            piece.add(cylinder(0.02, foot, 6, 0.03), look.dark, "cabinet", x=sign * (width / 2 - 0.07), z=end)
    front = look.dark if rng.random() < 0.4 else look.wood
    each = (width - 0.03) / doors
    drawers = rng.random() < 0.4 and height < 1.2
    rows = 3 if drawers else 1
    tall = (height - foot - 0.04) / rows
    for column in range(doors):
        for row in range(rows):
            x, y = (column - (doors - 1) / 2) * each, foot + 0.02 + row * tall
            piece.add(box(each - 0.015, tall - 0.015, 0.02), front, "cabinet", x=x, y=y, z=depth - 0.01)
            knob = (0.0 if drawers else each * 0.38 * (1 if column % 2 == 0 else -1), tall / 2)
            piece.add(ball(0.014, 4), look.metal, "cabinet", x=x + knob[0], y=y + knob[1], z=depth + 0.01)
    return piece


def nightstand(rng: np.random.Generator, look: Look) -> Piece:
    """Return a bedside cabinet with a lamp."""
    piece = _carcass(rng, look, (rng.uniform(0.38, 0.5), 0.4, rng.uniform(0.45, 0.58)), 1, 0.1)
    if rng.random() < 0.8:
        piece.put(table_lamp(rng, look), 0.0, piece.height, 0.06)
    return piece


def tv_stand(rng: np.random.Generator, look: Look) -> Piece:
    """Return a low board with a television."""
    screen = television(rng)
    width = screen.width + rng.uniform(0.1, 0.5)
    piece = _carcass(rng, look, (width, 0.4, rng.uniform(0.4, 0.55)), round(width / 0.5), 0.08)
    piece.put(screen, 0.0, piece.height + 0.02, 0.12)
    piece.add(box(0.4, 0.025, 0.18), look.dark, "tv", y=piece.height, z=0.16)
    return piece


def storage_rack(rng: np.random.Generator, look: Look) -> Piece:
    """Return a metal rack with boxes, baskets and bottles, for store rooms."""
    width, depth, height = rng.uniform(0.8, 1.2), 0.4, rng.uniform(1.5, 1.9)
    piece = Piece(width, depth, height)
    for sign in (-1.0, 1.0):
        for end in (0.02, depth - 0.02):
            piece.add(box(0.03, height, 0.03), look.metal, "shelf", x=sign * (width / 2 - 0.015), z=end)
    for y in np.linspace(0.12, height - 0.05, 4):
        piece.add(box(width, 0.02, depth), look.metal, "shelf", y=float(y), z=depth / 2)
        kind = int(rng.integers(4))
        if kind == 0 and y < height - 0.2:
            piece.put(basket(rng, look), rng.uniform(-0.2, 0.2), float(y) + 0.02, 0.0)
        elif kind == 1:
            for x in np.arange(-0.3, 0.31, 0.15):
                piece.put(bottle(rng), float(x), float(y) + 0.02, rng.uniform(0.1, 0.2))
        elif kind == 2 and y < height - 0.2:
            crate = material(rng, "wood", (0.9, 0.8, 0.65), 0.1)
            piece.add(box(0.4, 0.26, 0.3), crate, "basket", x=rng.uniform(-0.15, 0.15), y=float(y) + 0.02, z=depth / 2)
    return piece


def plant_shelf(rng: np.random.Generator, look: Look) -> Piece:
    """Return a low bench with a plant on it."""
    piece = Piece(0.8, 0.5, 0.35)
    piece.add(box(0.8, 0.03, 0.36), look.wood, "shelf", y=0.32, z=0.25)
    for sign in (-1.0, 1.0):
        piece.add(box(0.03, 0.32, 0.34), look.wood, "shelf", x=sign * 0.36, z=0.25)
    piece.put(plant(rng, look), 0.0, 0.35, -0.1)
    return piece
