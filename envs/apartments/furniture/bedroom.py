"""Beds."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.piece import Look, Piece, hue, material
from envs.apartments.furniture.shapes import box, cushion, cylinder, lathe


def bed(rng: np.random.Generator, look: Look) -> Piece:
    """Return a single or double bed with headboard, mattress, pillows and a blanket."""
    double = rng.random() < 0.7
    width = rng.uniform(1.4, 1.8) if double else rng.uniform(0.9, 1.1)
    depth, mattress = rng.uniform(2.0, 2.12), rng.uniform(0.17, 0.24)
    base = rng.uniform(0.24, 0.34)
    piece = Piece(width, depth, base + mattress)
    piece.add(box(width, 0.16, depth - 0.06), look.wood, "bed", y=base - 0.16, z=depth / 2 + 0.03)
    for sign in (-1.0, 1.0):
        for end in (0.1, depth - 0.08):
            piece.add(cylinder(0.03, base - 0.16, 6), look.dark, "bed", x=sign * (width / 2 - 0.08), z=end)
    _headboard(rng, look, piece, base + rng.uniform(0.55, 0.8))
    sheet_cloth = material(rng, "fabric", (0.97, 0.96, 0.95), 0.03)
    piece.add(cushion(width - 0.06, mattress, depth - 0.12), sheet_cloth, "bed", y=base, z=depth / 2 + 0.04)
    cover = rng.uniform(0.55, 0.72) * depth
    blanket = material(rng, "fabric", hue(rng, 0.8, 1.0))
    piece.add(cushion(width + 0.02, 0.16, cover), blanket, "bed", y=base + mattress - 0.12, z=depth - cover / 2)
    count = 2 if double else 1
    for index in range(count):
        x = (index - (count - 1) / 2) * width * 0.48
        pillow = cushion(min(0.66, width * 0.44 if double else 0.6), 0.15, 0.4)
        piece.add(pillow, sheet_cloth, "pillow", x=x, y=base + mattress - 0.01, z=0.34)
    return piece


def _headboard(rng: np.random.Generator, look: Look, piece: Piece, height: float) -> None:
    """Add a headboard: plain, upholstered, or of turned posts."""
    width, style = piece.width, int(rng.integers(3))
    if style == 0:
        piece.add(box(width + 0.06, height, 0.06), look.wood, "bed", z=0.03)
    elif style == 1:
        for x in np.linspace(-1, 1, 3) * width / 3:
            piece.add(box(width / 3 - 0.01, height - 0.2, 0.09), look.fabric, "bed", x=float(x), y=0.2, z=0.05)
    else:
        post = [(0.0, 0.0), (0.035, 0.0), (0.035, height), (0.05, height + 0.06), (0.0, height + 0.11)]
        for sign in (-1.0, 1.0):
            piece.add(lathe(post, 8), look.wood, "bed", x=sign * width / 2, z=0.04)
        for x in np.linspace(-0.4, 0.4, 5) * width:
            piece.add(cylinder(0.018, height - 0.3, 6), look.wood, "bed", x=float(x), y=0.25, z=0.04)
        piece.add(box(width, 0.09, 0.04), look.wood, "bed", y=height - 0.1, z=0.04)


def cot(rng: np.random.Generator, look: Look) -> Piece:
    """Return a child's bed with bars."""
    width, depth, height = 0.72, 1.35, rng.uniform(0.8, 0.95)
    piece = Piece(width, depth, height)
    cloth = material(rng, "fabric", hue(rng, 0.6, 1.0))
    piece.add(box(width, 0.08, depth), look.white, "bed", y=0.22, z=depth / 2)
    piece.add(cushion(width - 0.04, 0.14, depth - 0.04), cloth, "bed", y=0.3, z=depth / 2)
    for z in (0.02, depth - 0.02):
        piece.add(box(width, height - 0.1, 0.035), look.white, "bed", y=0.1, z=z)
    for sign in (-1.0, 1.0):
        piece.add(box(0.035, 0.05, depth), look.white, "bed", x=sign * (width / 2 - 0.02), y=height - 0.05, z=depth / 2)
        for z in np.linspace(0.15, depth - 0.15, 6):
            piece.add(cylinder(0.012, height - 0.3, 5), look.white, "bed", sign * (width / 2 - 0.02), 0.26, float(z))
    return piece
