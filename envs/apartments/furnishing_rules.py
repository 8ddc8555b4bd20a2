"""Furniture placement rules per room type."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from envs.apartments.furniture import bathroom, bedroom, decor, kitchen, seating, storage, tables
from envs.apartments.furniture.piece import Look, Piece

Maker = Callable[[np.random.Generator, Look], Piece]


class Item(NamedTuple):
    """A line of a program.

    Attributes:
        maker: Makes the piece.
        where: "wall", "corner", "middle" (with space around), "free" (anywhere) or "hang" (on a wall).
        chance: Expected number; from 1 upwards it grows with the size of the room.
    """

    maker: Maker
    where: str
    chance: float


def _television(rng: np.random.Generator, look: Look) -> Piece:
    """Return a television to hang on a wall."""
    return decor.television(rng)


def dining_set(rng: np.random.Generator, look: Look, seats: int) -> Piece:
    """Return a table with chairs pushed in more or less."""
    table = tables.dining_table(rng, look)
    style = int(rng.integers(2**31))
    reach = 0.42
    group = Piece(table.width, table.depth + 2 * reach, table.height)
    group.put(table, 0.0, 0.0, reach)
    middle = group.depth / 2.0
    per_side = max(1, min(seats // 2, int(table.width / 0.5)))
    seat = seating.chair(np.random.Generator(np.random.PCG64(style)), look)
    for side in (1.0, -1.0):
        for index in range(per_side):
            x = (index - (per_side - 1) / 2.0) * table.width / per_side + rng.uniform(-0.04, 0.04)
            tucked = rng.uniform(0.0, 0.12)
            turn = (np.pi if side > 0 else 0.0) + rng.uniform(-0.25, 0.25)
            group.put(seat, x, 0.0, middle + side * (group.depth / 2 - tucked), turn)
    return group


PROGRAMS: dict[str, tuple[Item, ...]] = {
    "living_room": (
        Item(seating.sofa, "wall", 1.0),
        Item(storage.tv_stand, "wall", 0.85),
        Item(tables.coffee_table, "middle", 0.75),
        Item(storage.bookshelf, "wall", 0.7),
        Item(seating.armchair, "free", 0.8),
        Item(storage.cabinet, "wall", 0.5),
        Item(decor.plant, "corner", 1.3),
        Item(decor.floor_lamp, "corner", 0.7),
        Item(tables.side_table, "corner", 0.5),
        Item(seating.stool, "free", 0.4),
        Item(decor.clock, "hang", 0.4),
        Item(decor.picture, "hang", 2.0),
    ),
    "television_room": (
        Item(storage.tv_stand, "wall", 1.0),
        Item(seating.sofa, "wall", 1.0),
        Item(seating.armchair, "free", 1.0),
        Item(tables.coffee_table, "middle", 0.5),
        Item(decor.floor_lamp, "corner", 0.7),
        Item(storage.bookshelf, "wall", 0.5),
        Item(decor.picture, "hang", 1.5),
    ),
    "bedroom": (
        Item(bedroom.bed, "wall", 0.98),
        Item(storage.nightstand, "wall", 0.9),
        Item(storage.wardrobe, "wall", 0.9),
        Item(storage.cabinet, "wall", 0.5),
        Item(tables.desk, "wall", 0.3),
        Item(seating.armchair, "free", 0.3),
        Item(decor.plant, "corner", 0.5),
        Item(decor.floor_lamp, "corner", 0.3),
        Item(decor.basket, "corner", 0.3),
        Item(decor.mirror, "hang", 0.4),
        Item(decor.clock, "hang", 0.2),
        Item(decor.picture, "hang", 1.2),
    ),
    "childs_room": (
        Item(bedroom.cot, "wall", 0.9),
        Item(tables.desk, "wall", 0.6),
        Item(storage.bookshelf, "wall", 0.7),
        Item(storage.wardrobe, "wall", 0.5),
        Item(decor.toys, "free", 1.5),
        Item(seating.stool, "free", 0.8),
        Item(decor.basket, "corner", 0.6),
        Item(decor.clock, "hang", 0.3),
        Item(decor.picture, "hang", 1.5),
    ),
    "home_office": (
        Item(tables.desk, "wall", 1.2),
        Item(seating.office_chair, "free", 1.0),
        Item(storage.bookshelf, "wall", 1.5),
        Item(storage.cabinet, "wall", 0.5),
        Item(seating.sofa, "wall", 0.3),
        Item(decor.plant, "corner", 0.7),
        Item(decor.floor_lamp, "corner", 0.4),
        Item(decor.basket, "corner", 0.5),
        Item(decor.clock, "hang", 0.4),
        Item(decor.picture, "hang", 1.0),
    ),
    "kitchen": (
        Item(kitchen.refrigerator, "corner", 0.98),
        Item(kitchen.island, "middle", 0.5),
        Item(decor.basket, "corner", 0.4),
        Item(decor.plant, "corner", 0.3),
        Item(seating.stool, "free", 0.5),
        Item(decor.clock, "hang", 0.5),
        Item(decor.picture, "hang", 0.6),
    ),
    "dining_room": (
        Item(storage.cabinet, "wall", 0.9),
        Item(storage.bookshelf, "wall", 0.3),
        Item(decor.plant, "corner", 0.9),
        Item(decor.floor_lamp, "corner", 0.4),
        Item(decor.clock, "hang", 0.4),
        Item(decor.mirror, "hang", 0.3),
        Item(decor.picture, "hang", 1.5),
    ),
    "bathroom": (
        Item(bathroom.toilet, "wall", 0.98),
        Item(bathroom.washbasin, "wall", 0.98),
        Item(bathroom.bathtub, "corner", 0.7),
        Item(bathroom.shower, "corner", 0.5),
        Item(bathroom.washing_machine, "corner", 0.3),
        Item(decor.basket, "corner", 0.5),
        Item(decor.mirror, "hang", 0.9),
        Item(bathroom.towels, "hang", 0.9),
        Item(decor.plant, "corner", 0.2),
    ),
    "playroom": (
        Item(decor.toys, "free", 2.5),
        Item(storage.bookshelf, "wall", 0.8),
        Item(seating.stool, "free", 1.2),
        Item(tables.coffee_table, "middle", 0.6),
        Item(seating.armchair, "free", 0.5),
        Item(decor.basket, "corner", 0.9),
        Item(_television, "hang", 0.4),
        Item(decor.picture, "hang", 1.5),
    ),
    "closet": (
        Item(storage.wardrobe, "wall", 1.2),
        Item(storage.storage_rack, "wall", 0.6),
        Item(decor.basket, "corner", 0.7),
        Item(decor.mirror, "hang", 0.6),
    ),
    "pantry": (
        Item(storage.storage_rack, "wall", 1.8),
        Item(kitchen.refrigerator, "corner", 0.3),
        Item(decor.basket, "corner", 0.8),
    ),
    "utility_room": (
        Item(bathroom.washing_machine, "wall", 1.2),
        Item(bathroom.washbasin, "wall", 0.6),
        Item(storage.storage_rack, "wall", 0.8),
        Item(decor.basket, "corner", 1.0),
        Item(decor.clock, "hang", 0.2),
    ),
    "corridor": (
        Item(storage.plant_shelf, "wall", 0.2),
        Item(storage.bookshelf, "wall", 0.2),
        Item(decor.plant, "corner", 0.3),
        Item(decor.mirror, "hang", 0.3),
        Item(decor.picture, "hang", 1.3),
        Item(decor.clock, "hang", 0.2),
    ),
}
