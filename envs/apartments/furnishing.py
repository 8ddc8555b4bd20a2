"""Furniture placement in rooms: doorways stay open and the floor stays connected."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from envs.apartments.building import RoomStyle, Wall, door_leaf, leaf_pose
from envs.apartments.floorplan import Cells, FloorPlan, connected, door_cells
from envs.apartments.furnishing_rules import PROGRAMS, Item, dining_set
from envs.apartments.furniture.decor import column, pendant, rug
from envs.apartments.furniture.kitchen import counter
from envs.apartments.furniture.piece import Piece
from envs.apartments.furniture.seating import curtain
from envs.apartments.mesh_builder import MeshBuilder

DOOR_ZONE = 0.85
TALL = 0.9
GAP = 0.02
SPACE_AROUND = {"middle": 0.45, "free": 0.05}


@dataclass
class Site:
    """An apartment that is being furnished.

    Attributes:
        plan: The floor plan.
        mesh: Where furniture goes.
        styles: One per room.
        walls: Wall surfaces without jambs, by room.
        ceiling: Height of the ceiling in metres.
        free: (R, C) bool, cells without wall or furniture.
        keep: (R, C) bool, cells in front of doorways, where nothing may stand.
        inside: By room, (R, C) bool.
        areas: By room, square metres.
        hung: By index into `walls[room]`: bool per cell along the wall, True where something tall or hung is.
    """

    plan: FloorPlan
    mesh: MeshBuilder
    styles: list[RoomStyle]
    walls: list[list[Wall]]
    ceiling: float
    free: NDArray[np.bool_] = field(init=False)
    keep: NDArray[np.bool_] = field(init=False)
    inside: list[NDArray[np.bool_]] = field(init=False)
    areas: list[float] = field(init=False)
    hung: list[list[NDArray[np.bool_]]] = field(init=False)

    def __post_init__(self) -> None:
        """Start with an empty apartment."""
        cell = self.plan.cell
        self.free = self.plan.walkable()
        self.keep = np.zeros_like(self.free)
        reach = int(np.ceil(DOOR_ZONE / cell))
        for door in self.plan.doorways:
            rows, columns = door_cells(door)
            if door.axis == 0:
                self.keep[max(0, rows.start - reach) : rows.stop + reach, columns] = True
            else:
                self.keep[rows, max(0, columns.start - reach) : columns.stop + reach] = True
        self.hung = [[self._windows(wall) for wall in walls] for walls in self.walls]
        self.inside = [self.plan.cells == room for room in range(self.plan.count)]
        self.areas = [float(inside.sum()) * cell**2 for inside in self.inside]
        self._parts = [self._part(room) for room in range(self.plan.count)]

    def _windows(self, wall: Wall) -> NDArray[np.bool_]:
        """Return the cells along a wall that windows take."""
        taken = np.zeros(wall.stop - wall.start, bool)
        for window in wall.windows:
            first = int((window.start - 0.3) / self.plan.cell) - wall.start
            taken[max(0, first) : int(np.ceil((window.stop + 0.3) / self.plan.cell)) - wall.start] = True
        return taken

    def put(self, piece: Piece, x: float, z: float, angle: float, room: int, y: float = 0.0) -> None:
        """Add a piece to the mesh."""
        self.mesh.place(piece, x, y, z, angle, room, self.styles[room].lamp)

    def block(self, cells: tuple[slice, slice], room: int) -> bool:
        """Mark cells as taken, unless that cuts off some place."""
        before = self.free[cells].copy()
        self.free[cells] = False
        if self._room_connected(room):
            return True
        self.free[cells] = before
        return False

    def _part(self, room: int) -> tuple[tuple[slice, slice], NDArray[np.bool_], Cells]:
        """The part of the plan with a room and its doorways: where it is, what belongs to them, the room's cells."""
        around = self.inside[room].copy()
        for door in self.plan.doorways:
            if room in door.rooms:
                around[door_cells(door)] = True
        rows, columns = np.flatnonzero(around.any(1)), np.flatnonzero(around.any(0))
        crop = slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2)
        inside = self.inside[room][crop]
        return crop, around[crop], self.plan.cells[crop] * inside - ~inside

    def _room_connected(self, room: int) -> bool:
        """Whether the room and its doorways are still one piece."""
        crop, around, cells = self._parts[room]
        return connected(self.free[crop] & around, self.plan.cell, cells)

    def against_wall(
        self, rng: np.random.Generator, piece: Piece, room: int, corner: bool = False, stands: bool = True
    ) -> bool:
        """Put a piece with its back to a wall; return whether there was room.

        Args:
            rng: Source of the choice.
            piece: The piece; a tall one avoids windows.
            room: Where.
            corner: Prefer the ends of walls.
            stands: Otherwise it hangs too high to stand in the way, and anything low may be below.
        """
        cell = self.plan.cell
        wide = int(np.ceil((piece.width + 2 * GAP) / cell))
        deep = int(np.ceil((piece.depth + GAP) / cell))
        options = []
        floor = self.free & ~self.keep & self.inside[room]
        for index, wall in enumerate(self.walls[room]):
            if stands:
                clear = floor[self.strip(wall, deep)].all(wall.axis)
            else:
                clear = np.ones(wall.stop - wall.start, bool)
            if not stands or piece.height > TALL:
                clear &= ~self.hung[room][index]
            if np.count_nonzero(clear) < wide:
                continue
            starts = np.flatnonzero(np.convolve(clear, np.ones(wide), "valid") > wide - 0.5)
            if len(starts):
                options.append((index, starts))
        for _ in range(3 if options else 0):
            index, starts = options[int(rng.integers(len(options)))]
            wall = self.walls[room][index]
            at = int(starts[0 if rng.random() < 0.5 else -1] if corner else rng.choice(starts))
            section = Wall(room, wall.axis, wall.at, wall.start + at, wall.start + at + wide, wall.sign, False)
            if stands and not self.block(self.strip(section, deep), room):
                continue
            if not stands or piece.height > TALL:
                self.hung[room][index][at : at + wide] = True
            x, z = wall.point(cell, (section.start + section.stop) / 2 * cell, GAP if stands else 0.0)
            self.put(piece, x, z, wall.angle, room, 0.0 if stands else hang_height(rng, piece))
            return True
        return False

    def strip(self, wall: Wall, deep: int) -> tuple[slice, slice]:
        """Return the cells in front of a wall."""
        off = slice(wall.at, wall.at + deep) if wall.sign > 0 else slice(max(0, wall.at - deep), wall.at)
        along = slice(wall.start, wall.stop)
        return (off, along) if wall.axis == 0 else (along, off)

    def in_middle(self, rng: np.random.Generator, piece: Piece, room: int, margin: float, solid: bool = True) -> bool:
        """Put a piece away from walls by `margin`, turned by quarter turns; return whether there was room."""
        cell = self.plan.cell
        quarter = int(rng.integers(4))
        size = (piece.depth, piece.width) if quarter % 2 == 0 else (piece.width, piece.depth)
        tall, wide = (int(np.ceil((side + 2 * margin) / cell)) for side in size)
        free = self.inside[room] & (self.free & ~self.keep if solid else True)
        total = np.pad(free.astype(np.int32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        if tall >= free.shape[0] or wide >= free.shape[1]:
            return False
        inside = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
        rows, columns = np.nonzero(inside == tall * wide)
        for _ in range(3 if len(rows) else 0):
            pick = int(rng.integers(len(rows)))
            row, column = int(rows[pick]), int(columns[pick])
            rim = int(margin / cell)
            cells = slice(row + rim, row + tall - rim), slice(column + rim, column + wide - rim)
            if solid and not self.block(cells, room):
                continue
            angle = quarter * np.pi / 2.0
            x = (column + wide / 2) * cell - np.sin(angle) * piece.depth / 2
            z = (row + tall / 2) * cell - np.cos(angle) * piece.depth / 2
            self.put(piece, float(x), float(z), angle, room)
            return True
        return False


def hang_height(rng: np.random.Generator, piece: Piece) -> float:
    """Return the height of the lower edge of something hung at eye level."""
    return float(np.clip(rng.uniform(1.45, 1.65) - piece.height / 2, 0.95, 1.9))


def furnish(rng: np.random.Generator, site: Site) -> None:
    """Hang doors, lamps and curtains, and furnish every room after its kind."""
    _hang_doors(rng, site)
    for room, style in enumerate(site.styles):
        _hang_lamps(rng, site, room)
        _hang_curtains(rng, site, room)
        if style.kind == "kitchen":
            _fit_kitchen(rng, site, room)
        if style.kind == "dining_room" or (style.kind in ("kitchen", "living_room") and rng.random() < 0.4):
            _seat_table(rng, site, room)
        _lay_rug(rng, site, room)
        for item in PROGRAMS[style.kind]:
            _follow(rng, site, room, item)


def _follow(rng: np.random.Generator, site: Site, room: int, item: Item) -> None:
    """Place as many pieces of one kind as its chance and the size of the room allow."""
    grows = item.chance >= 1.0 and item.where != "corner"
    expected = item.chance * (min(site.areas[room] / 14.0, 2.0) if grows else 1.0)
    for _ in range(int(expected) + int(rng.random() < expected % 1.0)):
        piece = item.maker(rng, site.styles[room].look)
        if item.where in SPACE_AROUND:
            site.in_middle(rng, piece, room, SPACE_AROUND[item.where])
        else:
            site.against_wall(rng, piece, room, corner=item.where == "corner", stands=item.where != "hang")


def _hang_doors(rng: np.random.Generator, site: Site) -> None:
    """Give some doorways an open leaf, where it finds room."""
    plan = site.plan
    for door in plan.doorways:
        width = (door.stop - door.start) * plan.cell
        if not door.lintel or width > 1.3 or rng.random() < 0.4:
            continue
        side, far, opened = int(rng.integers(2)), bool(rng.integers(2)), rng.uniform(1.6, 1.95)
        x, z, angle = leaf_pose(plan, door, side, far, opened)
        along = np.arange(0.06, width, plan.cell / 3)
        row = ((z - np.sin(angle) * along) / plan.cell).astype(int)
        column = ((x + np.cos(angle) * along) / plan.cell).astype(int)
        room = door.rooms[side]
        if not (plan.cells[row, column] == room).all() or not site.free[row, column].all():
            continue
        before = site.free.copy()
        site.free[row, column] = False
        if connected(site.free, plan.cell, plan.cells):
            site.put(door_leaf(rng, width, site.styles[room]), x, z, angle, room)
        else:
            site.free = before


def _hang_lamps(rng: np.random.Generator, site: Site, room: int) -> None:
    """Hang a lamp per 14 m2 (7 m2 in corridors), far from walls and from each other."""
    cell = site.plan.cell
    used = site.inside[room].any(1), site.inside[room].any(0)
    first_row, first_column = int(used[0].argmax()), int(used[1].argmax())
    inside = np.pad(site.inside[room][np.ix_(*used)], 1)
    score = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
    style = site.styles[room]
    piece = pendant(rng, style.look, site.ceiling)
    rows, columns = np.indices(score.shape)
    each = 7.0 if style.kind == "corridor" else 14.0
    for _ in range(max(1, round(site.areas[room] / each))):
        row, column = np.unravel_index(int(score.argmax()), score.shape)
        x, z = (first_column + column + 0.5) * cell, (first_row + row + 0.5) * cell - 0.2
        site.put(piece, float(x), float(z), 0.0, room)
        score = np.minimum(score, np.hypot(rows - row, columns - column) / 2.0)


def _hang_curtains(rng: np.random.Generator, site: Site, room: int) -> None:
    """Hang curtains at some windows; furniture keeps clear of them."""
    style = site.styles[room]
    if style.kind in ("bathroom", "kitchen", "pantry", "utility_room") or rng.random() < 0.4:
        return
    cell = site.plan.cell
    for wall in site.walls[room]:
        for window in wall.windows:
            width = window.stop - window.start
            ends = window.start - 0.25, window.stop + 0.25
            if ends[0] < wall.start * cell or ends[1] > wall.stop * cell:
                continue
            sides = [
                (int(ends[0] / cell), int(window.start / cell) + 2),
                (int(window.stop / cell) - 1, int(ends[1] / cell) + 1),
            ]
            strips = [site.strip(Wall(room, wall.axis, wall.at, a, b, wall.sign, False), 1) for a, b in sides]
            if all(site.free[strip].all() and not site.keep[strip].any() for strip in strips):
                x, z = wall.point(cell, (window.start + window.stop) / 2)
                site.put(
                    curtain(width, min(window.head + 0.15, site.ceiling - 0.05), style.look), x, z, wall.angle, room
                )
                for strip in strips:
                    site.block(strip, room)


def _fit_kitchen(rng: np.random.Generator, site: Site, room: int) -> None:
    """Put in the longest run of units that fits, and perhaps another."""
    look = site.styles[room].look
    for longest in (int(rng.integers(4, 7)), int(rng.integers(0, 4))):
        for units in range(longest, 1, -1):
            piece = counter(rng, look, units)
            if site.against_wall(rng, piece, room, corner=True):
                break


def _seat_table(rng: np.random.Generator, site: Site, room: int) -> None:
    """Put in a dining table with as many chairs as fit."""
    for seats in (6, 4, 2):
        if rng.random() < 0.7 and site.in_middle(rng, dining_set(rng, site.styles[room].look, seats), room, 0.3):
            return


def _lay_rug(rng: np.random.Generator, site: Site, room: int) -> None:
    """Lay a rug in dry rooms, and raise a pillar in some large ones."""
    style = site.styles[room]
    if style.kind in (
        "living_room",
        "bedroom",
        "home_office",
        "childs_room",
        "playroom",
        "television_room",
        "dining_room",
    ):
        if rng.random() < 0.7:
            width = rng.uniform(1.2, 2.2)
            depth = width if rng.random() < 0.3 else width * rng.uniform(0.6, 0.75)
            site.in_middle(rng, rug(rng, width, depth), room, 0.15, solid=False)
        if site.areas[room] > 22.0 and rng.random() < 0.35:
            site.in_middle(rng, column(rng, style.wall, site.ceiling), room, 0.5)
