"""Sanitary ware."""

from __future__ import annotations

import numpy as np

from envs.apartments.furniture.piece import Look, Piece, hue, material
from envs.apartments.furniture.shapes import ball, box, cushion, cylinder, lathe, rod, sheet, turned


def toilet(rng: np.random.Generator, look: Look) -> Piece:
    """Return a toilet with bowl, seat, lid and cistern."""
    depth, bowl = rng.uniform(0.64, 0.72), rng.uniform(0.38, 0.43)
    piece = Piece(0.4, depth, 0.8)
    rings = [(0.12, 0.0), (0.11, 0.15), (0.18, bowl - 0.03), (0.19, bowl), (0.14, bowl), (0.07, bowl - 0.18)]
    piece.add(lathe(rings, 12, stretch=1.25), look.white, "toilet", z=depth - 0.25)
    seat = [(0.19, bowl), (0.195, bowl + 0.025), (0.125, bowl + 0.025), (0.125, bowl)]
    piece.add(lathe(seat, 12, stretch=1.25), look.white, "toilet", z=depth - 0.25)
    lid = turned(cylinder(0.185, 0.025, 14), "x", np.pi / 2 - 0.15)
    piece.add(lid, look.white, "toilet", y=bowl + 0.2, z=0.19)
    piece.add(cushion(0.38, 0.36, 0.17), look.white, "toilet", y=bowl, z=0.09)
    piece.add(box(0.2, bowl, 0.2), look.white, "toilet", z=0.12)
    piece.add(ball(0.025, 6, 0.5), look.metal, "toilet", y=bowl + 0.36, z=0.09)
    return piece


def _tap(piece: Piece, look: Look, x: float, y: float, z: float) -> None:
    """Add a bent tap."""
    piece.add(rod((x, y, z), (x, y + 0.2, z), 0.014, 5), look.metal, "sink")
    piece.add(rod((x, y + 0.2, z), (x, y + 0.17, z + 0.14), 0.012), look.metal, "sink")
    piece.add(rod((x - 0.06, y + 0.06, z), (x + 0.06, y + 0.06, z), 0.011, 5), look.metal, "sink")


def washbasin(rng: np.random.Generator, look: Look) -> Piece:
    """Return a basin on a pedestal or a cabinet, with a tap."""
    width, height = rng.uniform(0.5, 0.7), rng.uniform(0.8, 0.88)
    piece = Piece(width, 0.46, height)
    radius = width / 2
    if rng.random() < 0.5:
        foot = [(0.11, 0.0), (0.07, 0.12), (0.08, height - 0.2), (0.13, height - 0.12)]
        piece.add(lathe(foot, 10), look.white, "sink", z=0.2)
    else:
        piece.add(box(width - 0.06, height - 0.26, 0.4), look.wood, "cabinet", y=0.1, z=0.21)
        piece.add(box(0.01, height - 0.3, 0.015), look.dark, "cabinet", y=0.12, z=0.415)
    bowl = [(0.0, 0.0), (radius * 0.6, 0.0), (radius, 0.16), (radius * 0.88, 0.16), (radius * 0.5, 0.05), (0.0, 0.04)]
    power = 2.0 if rng.random() < 0.5 else 5.0
    piece.add(lathe(bowl, 12, power, 0.45 / width), look.white, "sink", y=height - 0.16, z=0.23)
    _tap(piece, look, 0.0, height, 0.05)
    return piece


def bathtub(rng: np.random.Generator, look: Look) -> Piece:
    """Return a tub with rounded inside: free-standing or with an apron."""
    width, depth, height = rng.uniform(1.5, 1.75), rng.uniform(0.7, 0.8), rng.uniform(0.52, 0.6)
    piece = Piece(width, depth, height)
    half = width / 2
    inner = [(half - 0.07, height), (half - 0.16, height * 0.4), (half - 0.26, 0.14), (0.0, 0.12)]
    if rng.random() < 0.5:
        rings = [(half - 0.18, 0.0), (half - 0.06, height * 0.5), (half, height), *inner]
        piece.add(lathe(rings, 20, 3.0, depth / width), look.white, "bathtub", z=depth / 2)
    else:
        rings = [(half, 0.0), (half, height), *inner]
        piece.add(lathe(rings, 20, 9.0, depth / width), look.white, "bathtub", z=depth / 2)
    piece.add(rod((0.0, height, 0.04), (0.0, height + 0.1, 0.16), 0.02), look.metal, "bathtub")
    return piece


def shower(rng: np.random.Generator, look: Look) -> Piece:
    """Return a shower tray with a rail and a drawn curtain."""
    size = rng.uniform(0.8, 0.95)
    piece = Piece(size, size, 2.0)
    piece.add(cushion(size, 0.12, size), look.white, "bathtub", z=size / 2)
    piece.add(rod((0.0, 0.9, 0.04), (0.0, 2.0, 0.04), 0.012), look.metal, "bathtub")
    piece.add(turned(cylinder(0.03, 0.08, 8, 0.09), "x", 2.4), look.metal, "bathtub", y=2.0, z=0.1)
    screen = material(rng, "ceramic", (0.78, 0.88, 0.9), 0.05)
    for sign in (-1.0, 1.0):
        piece.add(box(0.015, 1.8, size), screen, "bathtub", x=sign * (size / 2 - 0.01), y=0.12, z=size / 2)
    return piece


def towels(rng: np.random.Generator, look: Look) -> Piece:
    """Return a rail with a towel, to hang on a wall."""
    piece = Piece(0.6, 0.1, 0.6)
    piece.add(rod((-0.3, 0.58, 0.06), (0.3, 0.58, 0.06), 0.012), look.metal, "towel")
    cloth = material(rng, "fabric", hue(rng, 0.8, 1.0))
    piece.add(box(rng.uniform(0.3, 0.5), 0.52, 0.035), cloth, "towel", y=0.07, z=0.06)
    return piece


def washing_machine(rng: np.random.Generator, look: Look) -> Piece:
    """Return a front loader with a round door."""
    piece = Piece(0.6, 0.6, 0.85)
    piece.add(box(0.6, 0.85, 0.56), look.white, "washing machine", z=0.28)
    piece.add(turned(cylinder(0.2, 0.035, 16), "x", np.pi / 2), look.metal, "washing machine", y=0.4, z=0.56)
    glass = material(rng, "metal", (0.35, 0.4, 0.5))
    piece.add(turned(cylinder(0.15, 0.02, 14, 0.1), "x", np.pi / 2), glass, "washing machine", y=0.4, z=0.595)
    panel = material(rng, "metal", (0.6, 0.6, 0.62))
    piece.add(sheet(0.5, 0.1), panel, "washing machine", y=0.72, z=0.563)
    piece.add(turned(cylinder(0.03, 0.03, 8), "x", np.pi / 2), look.metal, "washing machine", x=0.18, y=0.77, z=0.56)
    return piece
