"""The shell of an apartment: floors, ceilings, walls with windows, doors, baseboards."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from envs.apartments.floorplan import OUTSIDE, Doorway, FloorPlan, door_cells
from envs.apartments.furniture.piece import Look, Material, Piece, hue, material
from envs.apartments.furniture.shapes import Shape, ball, box, sheet
from envs.apartments.mesh_builder import Light, MeshBuilder

Floats = NDArray[np.float64]

STEP = 0.85
LINTEL = 2.05
# Cells of doorways are marked by this plus the room on their lower side.
DOOR_MARK = 100


@dataclass(frozen=True)
class Window:
    """An opening for light in an outer wall.

    Attributes:
        start: Where it begins, metres along the wall's axis.
        stop: Where it ends.
        sill: Its lower edge, metres above the floor.
        head: Its upper edge.
    """

    start: float
    stop: float
    sill: float
    head: float


@dataclass
class Wall:
    """A straight wall surface as seen from one room.

    Attributes:
        room: The room in front.
        axis: 0 if it runs along x, 1 along z.
        at: Its z (axis 0) or x (axis 1) in cells.
        start: First cell along the axis.
        stop: One past the last cell.
        sign: Direction of its normal along the other axis.
        jamb: Whether it is the side of a doorway.
        windows: Its windows.
    """

    room: int
    axis: int
    at: int
    start: int
    stop: int
    sign: int
    jamb: bool
    windows: list[Window] = field(default_factory=list)

    @property
    def angle(self) -> float:
        """Rotation about +Y that turns +z into the normal, radians."""
        if self.axis == 0:
            return 0.0 if self.sign > 0 else np.pi
        return np.pi / 2.0 if self.sign > 0 else -np.pi / 2.0

    def point(self, cell: float, along: float, out: float = 0.0) -> tuple[float, float]:
        """Return x and z of a point `along` metres from the axis origin and `out` metres in front."""
        off = self.at * cell + self.sign * out
        return (along, off) if self.axis == 0 else (off, along)


@dataclass(frozen=True)
class RoomStyle:
    """Surfaces and light of a room.

    Attributes:
        kind: Its type, a Places365 category name.
        look: Materials of its furniture.
        wall: Material of its walls, but for those of `accent_axis`.
        accent: Material of those.
        accent_axis: 0 for walls along x, 1 for walls along z.
        floor: Material of the floor.
        ceiling: Material of the ceiling.
        base: Material of the skirting boards.
        lamp: (3,) linear RGB strength of its lamps.
    """

    kind: str
    look: Look
    wall: Material
    accent: Material
    accent_axis: int
    floor: Material
    ceiling: Material
    base: Material
    lamp: Floats


def draw_style(rng: np.random.Generator, kind: str) -> RoomStyle:
    """Draw the surfaces of a room of a kind."""
    wet = kind in ("bathroom", "utility_room", "kitchen", "pantry")
    wall_group = str(rng.choice(["tiles", "plaster"] if kind == "bathroom" else ["plaster", "plaster", "wallpaper"]))
    wall = material(rng, wall_group, hue(rng, 0.3, 1.0, 0.82) if wall_group == "plaster" else (0.97, 0.96, 0.95))
    accent_group = str(rng.choice(["brick", "wallpaper", "plaster", "wood"]))
    accent = material(rng, accent_group, hue(rng, 0.45, 1.0, 0.8)) if rng.random() < 0.3 else wall
    floors = ["tiles", "tiles", "marble", "stone"] if wet else ["planks", "planks", "planks", "carpet", "tiles"]
    warm = rng.uniform(0.0, 1.0)
    return RoomStyle(
        kind=kind,
        look=Look.draw(rng),
        wall=wall,
        accent=accent,
        accent_axis=int(rng.integers(2)),
        floor=material(rng, str(rng.choice(floors)), (0.92, 0.91, 0.9), 0.08),
        ceiling=material(rng, "ceiling", (0.97, 0.97, 0.97), 0.02),
        base=material(rng, "wood", (0.95, 0.95, 0.95)),
        lamp=np.array([1.0, 0.93 - 0.17 * warm, 0.88 - 0.4 * warm]) * rng.uniform(2.0, 3.2),
    )


def find_walls(plan: FloorPlan) -> list[Wall]:
    """Return every wall surface of a plan, jambs of doorways included."""
    region = plan.cells.copy()
    for door in plan.doorways:
        region[door_cells(door)] = DOOR_MARK + door.rooms[0]
    walls = []
    for axis in (0, 1):
        view = region if axis == 0 else region.T
        for sign in (1, -1):
            front, behind = (view[1:], view[:-1]) if sign > 0 else (view[:-1], view[1:])
            owner = np.where((front >= 0) & (behind < 0), front, -1)
            for line in np.flatnonzero((owner >= 0).any(1)):
                edges = np.flatnonzero(np.diff(owner[line], prepend=-1, append=-1))
                for start, stop in pairwise(edges):
                    room = int(owner[line, start])
                    if room >= 0:
                        jamb = room >= DOOR_MARK
                        room -= DOOR_MARK * jamb
                        walls.append(Wall(room, axis, int(line) + 1, int(start), int(stop), sign, jamb))
    return walls


def cut_windows(rng: np.random.Generator, plan: FloorPlan, walls: list[Wall], kinds: list[str], ceiling: float) -> None:
    """Give outer walls windows; corridors and store rooms have few."""
    for wall in walls:
        length = (wall.stop - wall.start) * plan.cell
        view = plan.cells if wall.axis == 0 else plan.cells.T
        beyond = view[wall.at - 2 if wall.sign > 0 else wall.at + 1, wall.start : wall.stop]
        kind = kinds[wall.room]
        chance = 0.3 if kind in ("corridor", "closet", "pantry", "utility_room") else 0.85
        if wall.jamb or length < 1.5 or (beyond != OUTSIDE).any():
            continue
        count = max(1, int(length / rng.uniform(2.4, 3.4)))
        low = rng.uniform(1.0, 1.3) if kind == "bathroom" else rng.choice([0.15, rng.uniform(0.75, 1.0)], p=(0.2, 0.8))
        head = min(rng.uniform(2.05, 2.3), ceiling - 0.15)
        for index in range(count):
            if rng.random() < chance:
                slot = length / count
                width = min(slot - 0.7, rng.uniform(0.5, 0.8) if kind == "bathroom" else rng.uniform(0.8, 1.7))
                start = wall.start * plan.cell + index * slot + (slot - width) * rng.uniform(0.3, 0.7)
                wall.windows.append(Window(start, start + width, float(low), head))


def lines(start: float, stop: float, more: list[float]) -> Floats:
    """Return sorted grid lines from `start` to `stop`, at most about `STEP` apart, that include `more`."""
    knots = sorted({start, stop, *more})
    found = []
    for low, high in pairwise(knots):
        parts = max(1, round((high - low) / STEP))
        found += [low + (high - low) * index / parts for index in range(parts)]
    return np.array([*found, stop])


def grid(first: Floats, second: Floats, keep: NDArray[np.bool_], flip: bool) -> tuple[Floats, NDArray[np.int32]]:
    """Return (V, 2) points of a grid and the (F, 3) faces of its kept fields; `flip` reverses the winding."""
    points = np.empty((len(first), len(second), 2))
    points[..., 0], points[..., 1] = first[:, None], second
    return points.reshape(-1, 2), _fields(keep.shape, keep.tobytes(), flip)


@lru_cache(maxsize=4096)
def _fields(shape: tuple[int, ...], keep: bytes, flip: bool) -> NDArray[np.int32]:
    """The faces of `grid`."""
    row, column = np.nonzero(np.frombuffer(keep, np.bool_).reshape(shape))
    at = row * (shape[1] + 1) + column
    below = at + shape[1] + 1
    faces = np.concatenate([np.stack([at, below, below + 1], -1), np.stack([at, below + 1, at + 1], -1)])
    faces = (faces[:, ::-1] if flip else faces).astype(np.int32)
    faces.setflags(write=False)
    return faces


def _facing(faces: NDArray[np.int32], axis: int, sign: float) -> Floats:
    """(F, 3, 3) normals that are all one axis."""
    normals = np.zeros((*faces.shape, 3))
    normals[..., axis] = sign
    return normals


def _upright(wall: Wall, cell: float, points: Floats, faces: NDArray[np.int32], out: Floats | float = 0.0) -> Shape:
    """Return a shape in the plane of a wall from (along, up) points."""
    across, ahead = (0, 2) if wall.axis == 0 else (2, 0)
    vertices = np.empty((len(points), 3))
    vertices[:, across], vertices[:, 1], vertices[:, ahead] = (
        points[:, 0],
        points[:, 1],
        wall.at * cell + wall.sign * out,
    )
    mirrored = wall.sign if wall.axis == 0 else -wall.sign
    uv = (points * (mirrored, -1.0))[faces]
    return Shape(vertices, faces, _facing(faces, ahead, wall.sign), uv)


def _reversed(wall: Wall) -> bool:
    """Whether (along, up) grids must be wound the other way to face the room."""
    return (wall.sign < 0) == (wall.axis == 0)


def build_walls(
    rng: np.random.Generator,
    mesh: MeshBuilder,
    plan: FloorPlan,
    walls: list[Wall],
    styles: list[RoomStyle],
    ceiling: float,
) -> None:
    """Add wall surfaces, baseboards and windows."""
    shell = [mesh.new_instance() for _ in styles]
    skirting = [mesh.new_instance() for _ in styles]
    under_lintel = {
        (door.axis, edge, door.across) for door in plan.doorways if door.lintel for edge in (door.start, door.stop)
    }
    for wall in walls:
        style = styles[wall.room]
        low_jamb = wall.jamb and (1 - wall.axis, wall.at, wall.start) in under_lintel
        top = LINTEL if low_jamb else ceiling
        along = lines(
            wall.start * plan.cell, wall.stop * plan.cell, [s for w in wall.windows for s in (w.start, w.stop)]
        )
        up = lines(0.0, top, [y for w in wall.windows for y in (w.sill, w.head)])
        keep = np.ones((len(along) - 1, len(up) - 1), bool)
        middle_along, middle_up = (along[1:] + along[:-1]) / 2, (up[1:] + up[:-1]) / 2
        for window in wall.windows:
            inside = (middle_along > window.start) & (middle_along < window.stop)
            keep &= ~(inside[:, None] & (middle_up > window.sill) & (middle_up < window.head))
            _build_window(rng, mesh, plan, wall, window, style)
        points, faces = grid(along, up, keep, _reversed(wall))
        surface = style.accent if wall.axis == style.accent_axis else style.wall
        mesh.add(_upright(wall, plan.cell, points, faces), surface, "wall", shell[wall.room], wall.room)
        if not wall.jamb and not any(w.sill < 0.12 for w in wall.windows):
            strip, faces = grid(along, np.array([0.0, 0.09]), np.ones((len(along) - 1, 1), bool), _reversed(wall))
            out = np.where(strip[:, 1] > 0, 0.004, 0.022)
            board = _upright(wall, plan.cell, strip, faces, out)
            mesh.add(board, style.base, "baseboard", skirting[wall.room], wall.room)


def _build_window(
    rng: np.random.Generator, mesh: MeshBuilder, plan: FloorPlan, wall: Wall, window: Window, style: RoomStyle
) -> None:
    """Add the reveal, frame, bars and bright view of a window, and its daylight."""
    width, height = window.stop - window.start, window.head - window.sill
    deep = plan.cell * 0.8
    piece = Piece(width, deep, height)
    frame = style.look.white
    for sign in (-1.0, 1.0):
        piece.add(box(0.05, height, deep + 0.02), frame, "window", x=sign * (width / 2 - 0.025), z=-deep / 2 + 0.01)
    piece.add(box(width, 0.05, deep + 0.02), frame, "window", y=height - 0.05, z=-deep / 2 + 0.01)
    piece.add(box(width + 0.1, 0.04, deep + 0.1), frame, "window", y=-0.005, z=-deep / 2 + 0.05)
    for index in range(1, max(2, round(width / 0.6))):
        x = (index / max(2, round(width / 0.6)) - 0.5) * width
        piece.add(box(0.045, height, 0.04), frame, "window", x=x, z=-deep + 0.03)
    if height > 1.5:
        piece.add(box(width, 0.045, 0.04), frame, "window", y=height * 0.68, z=-deep + 0.03)
    view = material(rng, "sky", (0.98, 0.98, 1.0), 0.02, glow=1.0)
    piece.add(sheet(width, height), view, "window", z=-deep)
    x, z = wall.point(plan.cell, (window.start + window.stop) / 2)
    mesh.place(piece, x, window.sill, z, wall.angle, wall.room, style.lamp)
    facing = np.array([np.sin(wall.angle), 0.0, np.cos(wall.angle)])
    centre = np.array([x, window.sill + height / 2, z]) - 0.3 * facing
    mesh.lights.append(Light(wall.room, centre, np.array([1.0, 1.08, 1.2]) * 1.7 * width * height, facing))


def build_floors(mesh: MeshBuilder, plan: FloorPlan, styles: list[RoomStyle], ceiling: float) -> None:
    """Add floors and ceilings; those of a doorway belong to the room on its lower side."""
    for room, style in enumerate(styles):
        below = plan.cells == room
        above = below.copy()
        for door in plan.doorways:
            if door.rooms[0] == room:
                below[door_cells(door)] = True
                above[door_cells(door)] = not door.lintel
        for mask, height, made_of, label in (
            (below, 0.0, style.floor, "floor"),
            (above, ceiling, style.ceiling, "ceiling"),
        ):
            shape = _level(mask, plan.cell, height, label == "floor")
            mesh.add(shape, made_of, label, mesh.new_instance(), room)


def _level(mask: NDArray[np.bool_], cell: float, height: float, upward: bool) -> Shape:
    """Return a horizontal surface that covers a mask of cells."""
    padded = np.pad(mask, 1)
    rows = np.flatnonzero((padded[1:] != padded[:-1]).any(1))
    columns = np.flatnonzero((padded[:, 1:] != padded[:, :-1]).any(0))
    first = lines(rows[0] * cell, rows[-1] * cell, list(rows * cell))
    second = lines(columns[0] * cell, columns[-1] * cell, list(columns * cell))
    middle_row = ((first[1:] + first[:-1]) / 2 / cell).astype(int)
    middle_column = ((second[1:] + second[:-1]) / 2 / cell).astype(int)
    points, faces = grid(first, second, mask[np.ix_(middle_row, middle_column)], not upward)
    vertices = np.empty((len(points), 3))
    vertices[:, 0], vertices[:, 1], vertices[:, 2] = points[:, 1], height, points[:, 0]
    return Shape(vertices, faces, _facing(faces, 1, 1.0 if upward else -1.0), points[:, ::-1][faces])


def build_lintels(mesh: MeshBuilder, plan: FloorPlan, styles: list[RoomStyle], ceiling: float) -> None:
    """Add the wall above doorways, and a casing around them."""
    for door in plan.doorways:
        if not door.lintel:
            continue
        start, stop = door.start * plan.cell, door.stop * plan.cell
        along, up = lines(start, stop, []), np.array([LINTEL, ceiling])
        instance = mesh.new_instance()
        for side, sign in enumerate((-1, 1)):
            room = door.rooms[side]
            style = styles[room]
            wall = Wall(room, door.axis, door.across + side, door.start, door.stop, sign, True)
            points, faces = grid(along, up, np.ones((len(along) - 1, 1), bool), _reversed(wall))
            surface = style.accent if wall.axis == style.accent_axis else style.wall
            mesh.add(_upright(wall, plan.cell, points, faces), surface, "wall", instance, room)
            _build_casing(mesh, plan, wall, style)
        mask = np.zeros(plan.cells.shape, bool)
        mask[door_cells(door)] = True
        soffit = _level(mask, plan.cell, LINTEL, False)
        mesh.add(soffit, styles[door.rooms[0]].wall, "wall", instance, door.rooms[0])


def _build_casing(mesh: MeshBuilder, plan: FloorPlan, wall: Wall, style: RoomStyle) -> None:
    """Add a casing around a doorway, on the side that `wall` faces."""
    width = (wall.stop - wall.start) * plan.cell
    piece = Piece(width, 0.02, LINTEL)
    for sign in (-1.0, 1.0):
        piece.add(box(0.07, LINTEL + 0.07, 0.03), style.base, "door", x=sign * (width / 2 + 0.035), z=0.012)
    piece.add(box(width, 0.07, 0.03), style.base, "door", y=LINTEL, z=0.012)
    x, z = wall.point(plan.cell, (wall.start + wall.stop) * plan.cell / 2)
    mesh.place(piece, x, 0.0, z, wall.angle, wall.room, style.lamp)


def door_leaf(rng: np.random.Generator, width: float, style: RoomStyle) -> Piece:
    """Return a door leaf that extends from its hinge at the origin along +x."""
    piece = Piece(width, 0.04, 2.0)
    piece.add(box(width - 0.03, LINTEL - 0.04, 0.035), style.base, "door", x=width / 2, y=0.01)
    panel = style.look.dark if rng.random() < 0.3 else style.base
    for z in (-0.02, 0.02):
        for y, height in ((0.2, 0.7), (1.05, 0.8)):
            piece.add(box(width - 0.28, height, 0.012), panel, "door", x=width / 2, y=y, z=z)
        piece.add(ball(0.03, 6), style.look.metal, "door", x=width - 0.09, y=0.98, z=z * 2.6)
    return piece


def leaf_pose(plan: FloorPlan, door: Doorway, side: int, far: bool, opened: float) -> tuple[float, float, float]:
    """Return x, z and rotation of a leaf hung at one end of a doorway, opened by `opened` radians into a room."""
    hinge = (door.stop if far else door.start) * plan.cell
    face = (door.across + side) * plan.cell
    shut, out = (-1.0 if far else 1.0), (1.0 if side else -1.0)
    along, off = shut * np.cos(opened), out * np.sin(opened)
    x, z, dx, dz = (hinge, face, along, off) if door.axis == 0 else (face, hinge, off, along)
    return x, z, float(np.arctan2(-dz, dx))
