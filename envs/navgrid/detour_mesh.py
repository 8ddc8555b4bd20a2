"""From the tiles of a file to Detour's polygons with their links, in the order in which `dtNavMesh` makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.detour import INTERNAL, Polygons
from envs.navgrid.navmesh_tiles import EXTERNAL, WALK, Tile, TileSet

# Detour's sides of a tile: 0 to +x, 2 to +z, 4 to -x, 6 to -z; the odd ones are corners.
STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
# Edges on the border between tiles meet within this, metres, and are shortened by as much at both ends.
SLACK = np.float32(0.01)
MOST_MEETING = 4
ELSEWHERE = -2
# Bit of Detour's flags of a detail triangle's edge k, shifted by 2 k: it is part of the polygon's outline.
RIM = 1

Link = tuple[int, int, int, int, int]


@dataclass
class _Placed:
    """A tile with the number of its first polygon among all, and its links so far."""

    tile: Tile
    first: int
    links: list[list[Link]]

    @property
    def place(self) -> tuple[int, int]:
        return int(self.tile.header["x"]), int(self.tile.header["y"])

    @property
    def full(self) -> bool:
        """Whether the tile has room for no more links."""
        return sum(map(len, self.links)) >= int(self.tile.header["links"])


def join(read: TileSet) -> Polygons:
    """Put the tiles of a file together as Detour does when it loads them.

    Raises:
        ValueError: A polygon or the tree of a tile refers to what is not there.
        IndexError: Likewise.
    """
    placed: list[_Placed] = []
    for tile in read.tiles:
        first = placed[-1].first + len(placed[-1].tile.polys) if placed else 0
        _check(tile)
        new = _Placed(tile, first, [_inner_links(tile, number, first) for number in range(len(tile.polys))])
        _connect(new, placed)
        placed.append(new)
    # Detour asks tiles row by row, of several in one place the last first.
    order = sorted(range(len(placed)), key=lambda k: (placed[k].place[1], placed[k].place[0], -k))
    return _flattened(placed, order, read)


def _check(tile: Tile) -> None:
    ground = tile.polys["area_and_type"] >> 6 == 0
    count = len(tile.polys)
    inner = tile.polys["neighbours"].astype(np.int64)
    if ((inner & EXTERNAL == 0) & (inner > count)).any() or (ground & (tile.polys["count"] < 3)).any():
        raise ValueError("a polygon has fewer than 3 corners, or a neighbour that is not there")
    if count and tile.polys["verts"].max() >= len(tile.verts):
        raise ValueError("a polygon has a corner that is not there")
    if len(tile.tree) and tile.tree["item"].max() >= count:
        raise ValueError("the tree of a tile has a polygon that is not there")


def _inner_links(tile: Tile, number: int, first: int) -> list[Link]:
    poly = tile.polys[number]
    if poly["area_and_type"] >> 6:
        return []
    codes = poly["neighbours"][: poly["count"]].astype(int)
    return [(first + code - 1, k, INTERNAL, 0, 0) for k, code in enumerate(codes) if code and not code & EXTERNAL]


def _connect(new: _Placed, placed: list[_Placed]) -> None:
    """Link a tile with those that are there: with layers in its own place, then side by side."""
    x, y = new.place
    for other in reversed(placed):
        if other.place == (x, y):
            _link_border(new, other, None)
            _link_border(other, new, None)
    for side, (dx, dy) in enumerate(STEPS):
        for other in reversed(placed):
            if other.place == (x + dx, y + dy):
                _link_border(new, other, side)
                _link_border(other, new, (side + 4) % 8)


def _link_border(here: _Placed, there: _Placed, side: int | None) -> None:
    """Links from one tile's border edges (on one side; None: on all) to the polygons that meet them."""
    for number, poly in enumerate(here.tile.polys):
        for k in range(poly["count"]):
            code = int(poly["neighbours"][k])
            way = code & 0xFF
            if not code & EXTERNAL or (side is not None and way != side) or way % 2:
                continue
            a, b = _edge(here.tile, number, k)
            for other, low, high in _meeting(a, b, there.tile, (way + 4) % 8):
                if here.full:
                    return
                here.links[number].insert(0, (there.first + other, k, way, *_share(a, b, low, high, way)))


def _edge(tile: Tile, number: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    corners = tile.corners(number)
    return corners[k], corners[(k + 1) % len(corners)]


def _slab(a: NDArray[np.float32], b: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(2, 2) ends of an edge on a border: along it and height, ascending."""
    along = 2 if side in (0, 4) else 0
    ends = (a, b) if a[along] < b[along] else (b, a)
    return np.array([[e[along], e[1]] for e in ends], np.float32)


def _meeting(
    a: NDArray[np.float32], b: NDArray[np.float32], tile: Tile, side: int
) -> list[tuple[int, np.float32, np.float32]]:
    """Polygons of a tile whose edges on a side overlap with the edge a-b, and from where to where."""
    mine, across = _slab(a, b, side), 0 if side in (0, 4) else 2
    meeting: list[tuple[int, np.float32, np.float32]] = []
    for number, poly in enumerate(tile.polys):
        for k in range(poly["count"]):
            if int(poly["neighbours"][k]) != EXTERNAL | side:
                continue
            c, d = _edge(tile, number, k)
            other = _slab(c, d, side)
            if abs(a[across] - c[across]) > SLACK or not _overlap(mine, other, np.float32(tile.header["climb"])):
                continue
            if len(meeting) < MOST_MEETING:
                meeting.append((number, max(mine[0, 0], other[0, 0]), min(mine[1, 0], other[1, 0])))
            break
    return meeting


def _overlap(mine: NDArray[np.float32], other: NDArray[np.float32], climb: np.float32) -> bool:
    """Whether two edges on a border overlap along it, within two climbs in height at an end, or cross."""
    low, high = max(mine[0, 0], other[0, 0]) + SLACK, min(mine[1, 0], other[1, 0]) - SLACK
    if low > high:
        return False
    gaps = []
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = [(s[1, 1] - s[0, 1]) / (s[1, 0] - s[0, 0]) for s in (mine, other)]
        for at in (low, high):
            heights = [slope * at + (s[0, 1] - slope * s[0, 0]) for slope, s in zip(slopes, (mine, other), strict=True)]
            gaps.append(heights[1] - heights[0])
    least = (climb * np.float32(2.0)) ** 2
    return bool(gaps[0] * gaps[1] < 0 or gaps[0] ** 2 <= least or gaps[1] ** 2 <= least)


def _share(
    a: NDArray[np.float32], b: NDArray[np.float32], low: np.float32, high: np.float32, side: int
) -> tuple[int, int]:
    """The part of the edge a-b from `low` to `high` along the border, in 255ths."""
    along = 2 if side in (0, 4) else 0
    ends = sorted((v - a[along]) / (b[along] - a[along]) for v in (low, high))
    first, last = (int(np.floor(np.clip(v, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5))) for v in ends)
    return first, last


def _flattened(placed: list[_Placed], order: list[int], read: TileSet) -> Polygons:
    tiles = [p.tile for p in placed]
    polys = np.concatenate([tile.polys for tile in tiles])
    points, corner, beyond, triangles, triangle_count = [], [], [], [], []
    base = 0
    for part in placed:
        tile = part.tile
        points += [tile.verts, tile.detail_verts]
        corner.append(tile.polys["verts"].astype(np.int32) + base)
        codes = tile.polys["neighbours"].astype(np.int32)
        inner = np.where(codes == 0, -1, codes - 1 + part.first)
        beyond.append(np.where(codes & EXTERNAL, ELSEWHERE, inner))
        for number in range(len(tile.polys)):
            detail = _detail(tile, number, base)
            triangles.append(detail)
            triangle_count.append(len(detail))
        base += len(tile.verts) + len(tile.detail_verts)
    links = [link for part in placed for those in part.links for link in those]
    link_count = [len(those) for part in placed for those in part.links]
    place = {k: n for n, k in enumerate(order)}
    chosen = [placed[k] for k in order]
    trees = [_tree(part) for part in chosen]
    link = np.array(links, np.int32).reshape(-1, 5)
    passes = ((polys["flags"] & WALK) != 0) & (polys["area_and_type"] >> 6 == 0)
    link_start = _starts(link_count)
    return Polygons(
        points=np.concatenate(points).astype(np.float32),
        corner=np.concatenate(corner).astype(np.int32),
        corners=polys["count"].astype(np.int32),
        walkable=np.concatenate([tile.walkable for tile in tiles]),
        beyond=np.concatenate(beyond).astype(np.int32),
        island=_islands(link_start, link, passes),
        link_start=link_start,
        link=link,
        triangle_start=_starts(triangle_count),
        triangle=np.concatenate(triangles).astype(np.int32).reshape(-1, 4),
        tile=np.repeat([place[k] for k in range(len(placed))], [len(t.polys) for t in tiles]).astype(np.int32),
        tile_place=np.array([part.place for part in chosen], np.int32),
        tile_box=np.array([[part.tile.header["low"], part.tile.header["high"]] for part in chosen], np.float32),
        tile_scale=np.array([part.tile.header["quant"] for part in chosen], np.float32),
        tile_climb=np.array([part.tile.header["climb"] for part in chosen], np.float32),
        tree_start=_starts([len(boxes) for boxes, _ in trees]),
        tree_box=np.concatenate([boxes for boxes, _ in trees]).astype(np.int32),
        tree_item=np.concatenate([items for _, items in trees]).astype(np.int32),
        origin=read.origin[[0, 2]],
        tile_size=read.size,
    )


def _starts(counts: list[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _detail(tile: Tile, number: int, base: int) -> NDArray[np.int64]:
    """(t, 4) detail triangles of a polygon by points of all tiles, with flags that mark its outline."""
    fan = tile.fan(number).copy()
    count = int(tile.polys[number]["count"])
    if not (fan[:, 3] & 0b010101).any():
        # Meshes of before these flags: an edge between corners that follow each other is one of the outline.
        for k in range(3):
            a, b = fan[:, k], fan[:, (k + 1) % 3]
            step = (b - a) % count
            rim = (a < count) & (b < count) & ((step == 1) | (step == count - 1))
            fan[:, 3] |= np.where(rim, RIM << (2 * k), 0)
    own = int(tile.details[number]["vert_base"]) if number < len(tile.details) else 0
    numbers = np.concatenate(
        [tile.polys[number]["verts"][:count], len(tile.verts) + own + np.arange(len(tile.own_corners(number)))]
    ).astype(np.int64)
    return np.concatenate([numbers[fan[:, :3]] + base, fan[:, 3:]], axis=1)


def _tree(part: _Placed) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Boxes and items of a tile's tree; where it has none, one leaf for each polygon that is everywhere."""
    tree = part.tile.tree
    if len(tree):
        items = tree["item"].astype(np.int32)
        return tree["box"].astype(np.int32), np.where(items >= 0, items + part.first, items)
    count = len(part.tile.polys)
    boxes = np.tile(np.array([0, 0, 0, 0xFFFF, 0xFFFF, 0xFFFF], np.int32), (count, 1))
    return boxes, np.arange(part.first, part.first + count, dtype=np.int32)


def _islands(start: NDArray[np.int32], link: NDArray[np.int32], passes: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(P,) polygons reached from each other by links through what passes, numbered by their first."""
    island = np.full(len(passes), -1, np.int32)
    count = 0
    for seed in range(len(passes)):
        if island[seed] >= 0:
            continue
        island[seed] = count
        stack = [seed]
        while stack:
            here = stack.pop()
            for there in link[start[here] : start[here + 1], 0]:
                if passes[there] and island[there] < 0:
                    island[there] = count
                    stack.append(int(there))
        count += 1
    return island
