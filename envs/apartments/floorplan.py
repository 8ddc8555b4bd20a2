"""Random floor plans on a lattice: rooms, walls one cell thick, and doorways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OUTSIDE = -1
WALL = -2

DOOR_WIDTH = (0.88, 1.1)
ARCH_WIDTH = (1.3, 2.0)
MIN_SIDE = 1.9
MIN_AREA = 3.6
NARROW = 1.0
WALKWAY = 0.7
PASSAGE = 1.15
ROOM_COUNT = (3, 8)
FLOOR_AREA = (50.0, 150.0)

Cells = NDArray[np.int16]


@dataclass(frozen=True)
class Doorway:
    """An opening in a wall between two rooms.

    Attributes:
        rooms: The rooms on the lower and the higher side along `axis`.
        axis: 0 if one walks through along z (rows), 1 along x (columns).
        across: Row or column of the wall cells.
        start: First opened cell along the wall.
        stop: One past the last opened cell.
        lintel: Whether wall remains above; otherwise the opening reaches the ceiling.
    """

    rooms: tuple[int, int]
    axis: int
    across: int
    start: int
    stop: int
    lintel: bool


@dataclass(frozen=True)
class FloorPlan:
    """A floor plan.

    Attributes:
        cells: (R, C) int16 room index of each cell, `OUTSIDE` or `WALL`; doorways are `WALL` here. Row r spans z from
            r to r + 1 cells, column c spans x likewise.
        cell: Side of a cell, which is also the thickness of walls, in metres.
        corridors: Rooms that are corridors.
        doorways: Openings; every room is reached through them.
        count: Number of rooms.
    """

    cells: Cells
    cell: float
    corridors: tuple[int, ...]
    doorways: tuple[Doorway, ...]
    count: int

    def areas(self) -> NDArray[np.float64]:
        """Return the floor area of each room in square metres."""
        inside = self.cells[self.cells >= 0]
        return np.bincount(inside, minlength=self.count).astype(np.float64) * self.cell**2

    def walkable(self) -> NDArray[np.bool_]:
        """Return (R, C) bool, True in rooms and doorways."""
        free = self.cells >= 0
        for door in self.doorways:
            free[door_cells(door)] = True
        return free


def door_cells(door: Doorway) -> tuple[slice, slice]:
    """Return the rows and columns of a doorway's cells."""
    along, across = slice(door.start, door.stop), slice(door.across, door.across + 1)
    return (across, along) if door.axis == 0 else (along, across)


def draw_plan(rng: np.random.Generator) -> FloorPlan:
    """Draw floor plans until one has 3 to 8 rooms, 50 to 150 m2, and all rooms connected."""
    while True:
        plan = _try_plan(rng)
        if plan is not None:
            return plan


def _try_plan(rng: np.random.Generator) -> FloorPlan | None:
    """Draw one plan; None if it breaks a limit."""
    cell = rng.uniform(0.1, 0.14)
    rooms = int(rng.integers(4, 10))
    area = np.clip(rng.normal(28.0 + 11.0 * rooms, 14.0), 58.0, 160.0)
    aspect = np.exp(rng.uniform(-0.55, 0.55))
    shape = round(np.sqrt(area * aspect) / cell), round(np.sqrt(area / aspect) / cell)
    outline = _draw_outline(rng, shape)
    owner, corridors = _split(rng, outline, rooms, cell)
    owner, corridors = _tidy(owner, corridors, cell)
    count = int(owner.max()) + 1
    if not ROOM_COUNT[0] <= count <= ROOM_COUNT[1]:
        return None
    cells = _raise_walls(owner)
    _add_partitions(rng, cells, cell)
    inside = (cells >= 0).sum() * cell**2
    whole = all(ndimage.label(cells == room)[1] == 1 for room in range(count))
    if not whole or not FLOOR_AREA[0] <= inside <= FLOOR_AREA[1]:
        return None
    doorways = _open_doors(rng, cells, cell, count, corridors)
    if doorways is None:
        return None
    plan = FloorPlan(cells, cell, corridors, doorways, count)
    return plan if connected(plan.walkable(), cell, cells) else None


def _draw_outline(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the footprint: a rectangle, or one with corners or a side cut away (L, T, U, Z)."""
    outline = np.ones(shape, bool)
    for corner in rng.permutation(4)[: rng.choice(3, p=(0.3, 0.45, 0.25))]:
        size = [round(side * rng.uniform(0.22, 0.48)) for side in shape]
        rows = slice(0, size[0]) if corner & 1 else slice(shape[0] - size[0], None)
        columns = slice(0, size[1]) if corner & 2 else slice(shape[1] - size[1], None)
        outline[rows, columns] = False
    if rng.random() < 0.2:
        side, depth = int(rng.integers(2)), rng.uniform(0.2, 0.4)
        start, width = rng.uniform(0.3, 0.45), rng.uniform(0.2, 0.3)
        turned = outline if side == 0 else outline.T
        turned[: round(turned.shape[0] * depth), round(turned.shape[1] * start) :][
            :, : round(turned.shape[1] * width)
        ] = False
        outline = turned if side == 0 else turned.T
    return outline


def _split(
    rng: np.random.Generator, outline: NDArray[np.bool_], rooms: int, cell: float
) -> tuple[Cells, tuple[int, ...]]:
    """Cut the outline into rooms by recursive splitting, with or without a corridor."""
    owner = np.full(outline.shape, OUTSIDE, np.int16)
    boxes = [(0, outline.shape[0], 0, outline.shape[1])]
    corridors: tuple[int, ...] = ()
    corridor = None
    if rooms >= 4 and rng.random() < 0.6:
        boxes, corridor = _cut_corridor(rng, outline, cell)
    while len(boxes) < rooms - (corridor is not None):
        size = np.array([outline[b[0] : b[1], b[2] : b[3]].sum() for b in boxes], float) ** 1.5
        box = boxes.pop(int(rng.choice(len(boxes), p=size / size.sum())))
        boxes.extend(_halve(rng, box, cell))
    for index, box in enumerate(boxes):
        owner[box[0] : box[1], box[2] : box[3]] = index
    if corridor is not None:
        owner[corridor] = len(boxes)
        corridors = (len(boxes),)
    owner[~outline] = OUTSIDE
    return owner, corridors


Box = tuple[int, int, int, int]


def _cut_corridor(
    rng: np.random.Generator, outline: NDArray[np.bool_], cell: float
) -> tuple[list[Box], tuple[slice, slice]]:
    """Return the boxes on both sides of a corridor, and the corridor; it may end before the outer wall."""
    rows, columns = outline.shape
    width = round(rng.uniform(1.15, 1.6) / cell)
    along_columns = bool(rng.random() < (0.75 if columns > rows else 0.25))
    across, along = (rows, columns) if along_columns else (columns, rows)
    at = round(across * rng.uniform(0.34, 0.62)) - width // 2
    start, stop = round(along * rng.choice([0.0, 0.15, 0.25])), round(along * rng.choice([1.0, 0.85, 0.75]))
    span, run = slice(at, at + width), slice(start, stop)
    # The strip's open ends fall to the second box, so that one room wraps around them.
    if along_columns:
        return [(0, at, 0, columns), (at, rows, 0, columns)], (span, run)
    return [(0, rows, 0, at), (0, rows, at, columns)], (run, span)


def _halve(rng: np.random.Generator, box: Box, cell: float) -> list[Box]:
    """Cut a box in two, mostly across its longer side; a box too small stays whole."""
    top, bottom, left, right = box
    height, width = bottom - top, right - left
    least = round(MIN_SIDE / cell)
    rows_first = rng.random() < (0.85 if height > width else 0.15)
    for by_rows in (rows_first, not rows_first):
        side = height if by_rows else width
        if side >= 2 * least:
            at = int(np.clip(round(side * rng.uniform(0.3, 0.7)), least, side - least))
            if by_rows:
                return [(top, top + at, left, right), (top + at, bottom, left, right)]
            return [(top, bottom, left, left + at), (top, bottom, left + at, right)]
    return [box]


def _tidy(owner: Cells, corridors: tuple[int, ...], cell: float) -> tuple[Cells, tuple[int, ...]]:
    """Give scraps too small or too narrow for a room to the neighbour with the longest common border, and renumber."""
    pieces = np.full_like(owner, OUTSIDE)
    count = 0
    hall: list[int] = []
    for room in range(int(owner.max()) + 1):
        wide = opened(owner == room, round(NARROW / cell))
        for part in (wide, (owner == room) & ~wide):
            labels, number = ndimage.label(part)
            pieces[labels > 0] = labels[labels > 0] + count - 1
            hall += range(count, count + number) if room in corridors else ()
            count += number
    for piece in range(count):
        mask = pieces == piece
        least = (1.1 if piece in hall else MIN_SIDE) / cell
        core = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard").max() * 2
        if mask.any() and (core < least or mask.sum() * cell**2 < MIN_AREA):
            ring = pieces[ndimage.binary_dilation(mask) & ~mask]
            ring = ring[ring >= 0]
            pieces[mask] = np.bincount(ring).argmax() if len(ring) else OUTSIDE
    kept = np.unique(pieces[pieces >= 0])
    renumbered = np.where(pieces >= 0, np.searchsorted(kept, pieces), OUTSIDE).astype(np.int16)
    return renumbered, tuple(int(np.searchsorted(kept, room)) for room in hall if room in kept)


def opened(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The union of all squares of `side` cells that lie within the mask: its morphological opening."""
    whole = _sums(mask, side) == side * side
    return _sums(np.pad(whole, side - 1), side) > 0


def _sums(mask: NDArray[np.bool_], side: int) -> NDArray[np.int32]:
    """Number of true cells in each square of `side` cells, by its first corner."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(mask, 0, np.int32), 1, out=total[1:, 1:])
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def _raise_walls(owner: Cells) -> Cells:
    """Turn every cell whose right, lower or diagonal neighbour belongs to another room into wall."""
    padded = np.pad(owner, 2, constant_values=OUTSIDE)
    cells = padded.copy()
    here = padded[:-1, :-1]
    wall = (here != padded[1:, :-1]) | (here != padded[:-1, 1:]) | (here != padded[1:, 1:])
    cells[:-1, :-1][wall] = WALL
    return cells


def _add_partitions(rng: np.random.Generator, cells: Cells, cell: float) -> None:
    """Let walls jut into some rooms, the more the larger, leaving `PASSAGE` to pass on all sides."""
    for room in range(int(cells.max()) + 1):
        area = (cells == room).sum() * cell**2
        for _ in range(2 * int(rng.random() < area / 48.0) + 2 * int(rng.random() < (area - 14.0) / 60.0)):
            _add_partition(rng, cells, room, cell)


def _add_partition(rng: np.random.Generator, cells: Cells, room: int, cell: float) -> None:
    """Let one wall jut into a room."""
    # A turned view of the lattice, so that the wall always juts downwards from above.
    view = np.rot90(cells, int(rng.integers(4)))
    inside = view == room
    columns = np.flatnonzero(inside.any(0))
    column = int(rng.choice(columns[len(columns) // 4 : -(len(columns) // 4)]))
    rows = np.flatnonzero(inside[:, column])
    free = len(rows) * cell - PASSAGE
    if free > 0.8:
        stretch = slice(rows[0], rows[0] + round(free * rng.uniform(0.5, 1.0) / cell))
        beside = round(PASSAGE / cell)
        if inside[stretch, max(0, column - beside) : column + beside + 1].all():
            view[stretch, column] = WALL


def connected(free: NDArray[np.bool_], cell: float, cells: Cells) -> bool:
    """Whether what is `WALKWAY` wide or wider is one piece but for slivers, and reaches into every room.

    Args:
        free: (R, C) bool, cells that hold no obstacle.
        cell: Side of a cell in metres.
        cells: (R, C) room index of each cell, negative where there is none.
    """
    centres = _roomy(free, cell)
    labels, count = ndimage.label(centres)
    if count == 0:
        return False
    size = np.bincount(labels.ravel())[1:]
    if (size.sum() - size.max()) * cell**2 > 0.1:
        return False
    reached = cells[labels == 1 + size.argmax()]
    rooms = int(cells.max()) + 1
    present = np.bincount(cells[cells >= 0], minlength=rooms) > 0
    return not (present & (np.bincount(reached[reached >= 0], minlength=rooms) == 0)).any()


def _roomy(free: NDArray[np.bool_], cell: float) -> NDArray[np.bool_]:
    """Cells whose centre is at least half a `WALKWAY` from all cells that are not free: an erosion by a disc."""
    widths = _disc(cell)
    reach = len(widths) - 1
    rows, columns = free.shape
    padded = np.ones((rows + 2 * reach, columns + 2 * reach), bool)
    padded[reach : reach + rows, reach : reach + columns] = free
    # Free to both sides by 0, 1, ... cells.
    along = [padded[:, reach : reach + columns]]
    for side in range(1, widths[0] + 1):
        left, right = reach - side, reach + side
        along.append(along[-1] & padded[:, left : left + columns] & padded[:, right : right + columns])
    roomy = along[widths[0]][reach : reach + rows].copy()
    for down in range(1, reach + 1):
        wide = along[widths[down]]
        roomy &= wide[reach - down : reach - down + rows]
        roomy &= wide[reach + down : reach + down + rows]
    return roomy


@lru_cache(maxsize=64)
def _disc(cell: float) -> tuple[int, ...]:
    """By row from its middle, the cells to either side that a disc of half a `WALKWAY` takes, seen from a centre."""
    side = np.arange(int(WALKWAY / cell) + 2)
    within = ~(np.sqrt(side[:, None] ** 2 + side**2) * cell - cell / 2.0 >= WALKWAY / 2.0)
    return tuple(int(row.sum()) - 1 for row in within if row.any())


@dataclass(frozen=True)
class _Border:
    """A straight stretch of wall between two rooms."""

    rooms: tuple[int, int]
    axis: int
    across: int
    start: int
    stop: int


def _borders(cells: Cells) -> list[_Border]:
    """Return all straight stretches of wall, one cell thick, with a room on either side."""
    found = []
    for axis in (0, 1):
        view = cells if axis == 0 else cells.T
        low, wall, high = view[:-2], view[1:-1], view[2:]
        both = (wall == WALL) & (low >= 0) & (high >= 0) & (low != high)
        key = np.where(both, low.astype(np.int32) * 64 + high, -1)
        for across in np.flatnonzero(both.any(1)):
            change = np.flatnonzero(np.diff(key[across], prepend=-1, append=-1))
            for start, stop in pairwise(change):
                pair = int(key[across, start])
                if pair >= 0:
                    found.append(_Border(divmod(pair, 64), axis, int(across) + 1, int(start), int(stop)))
    return found


def _open_doors(
    rng: np.random.Generator, cells: Cells, cell: float, count: int, corridors: tuple[int, ...]
) -> tuple[Doorway, ...] | None:
    """Open a random spanning tree of doorways and a few more that close loops; None if a room stays apart."""
    margin = 2
    fitting = [b for b in _borders(cells) if (b.stop - b.start - 2 * margin) * cell >= DOOR_WIDTH[0] + cell]
    rank = [rng.random() - 0.7 * bool(set(b.rooms) & set(corridors)) for b in fitting]
    group = list(range(count))
    linked: set[tuple[int, ...]] = set()
    doors = []
    for index in np.argsort(rank):
        border = fitting[index]
        pair = tuple(sorted(border.rooms))
        first, second = group[pair[0]], group[pair[1]]
        if first == second and (pair in linked or rng.random() > 0.12):
            continue
        linked.add(pair)
        group = [first if g == second else g for g in group]
        doors.append(_place_door(rng, border, cell, margin, bool(set(pair) & set(corridors))))
    return tuple(doors) if len(set(group)) == 1 else None


def _place_door(rng: np.random.Generator, border: _Border, cell: float, margin: int, corridor: bool) -> Doorway:
    """Choose width and position of a doorway, often near an end of the wall."""
    room = border.stop - border.start - 2 * margin
    arch = not corridor and rng.random() < 0.18
    width = rng.uniform(*(ARCH_WIDTH if arch else DOOR_WIDTH))
    width = min(int(np.ceil(width / cell)), room)
    slack = room - width
    offset = round(slack * rng.beta(0.35, 0.35))
    start = border.start + margin + offset
    return Doorway(border.rooms, border.axis, border.across, start, start + width, not arch or rng.random() < 0.5)


def outline_of(plan: FloorPlan, room: int) -> NDArray[np.float32]:
    """Return the (K, 2) outline of a room's floor in metres, columns x and z."""
    mask = np.pad(plan.cells == room, 1)
    # Boundary edges with the room on their right as x grows right and z grows down: lattice point to lattice point.
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for drow, dcolumn, tail, head in (
        (-1, 0, (0, 0), (0, 1)),
        (0, 1, (0, 1), (1, 1)),
        (1, 0, (1, 1), (1, 0)),
        (0, -1, (1, 0), (0, 0)),
    ):
        row, column = np.nonzero(mask & ~np.roll(mask, (-drow, -dcolumn), (0, 1)))
        starts, ends = (
            zip((row + at[0] - 1).tolist(), (column + at[1] - 1).tolist(), strict=True) for at in (tail, head)
        )
        for start, end in zip(starts, ends, strict=True):
            following.setdefault(start, []).append(end)
    start = min(following)
    point, corners, step = start, [], (0, 0)
    while True:
        # Where the room touches itself at a corner, a right turn stays on its own side.
        right = point[0] + step[1], point[1] - step[0]
        ahead = right if right in following[point] else following[point][0]
        turn = ahead[0] - point[0], ahead[1] - point[1]
        if turn != step:
            corners.append(point)
        point, step = ahead, turn
        if point == start:
            break
    return (np.array(corners, np.float32)[:, ::-1] * plan.cell).astype(np.float32)
