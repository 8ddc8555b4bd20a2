"""Navigation meshes written by `navmesh_files` after the published layout; none was written by habitat-sim itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from detour import inside, move_along_surface
from navmesh_files import WALK, save, strips, tile

from envs.navgrid.grid import NavGrid
from envs.navgrid.navmesh import read_navmesh

# An L: a corridor along x and one along z, 1 m wide, that share a square; 5 m each.
L = [(0, 1, 0, 1, 0.0), (1, 5, 0, 1, 0.0), (0, 1, 1, 5, 0.0)]


@pytest.mark.parametrize(("version", "wide"), [(1, False), (2, False), (2, True)])
def test_polygons_islands_and_agent_are_read(tmp_path, version, wide):
    verts, polys = strips([*L, (6, 9, 0, 2, 3.0), (10, 10.5, 0, 0.5, 0.0)])
    flags = [WALK, WALK, WALK, WALK, 0]
    mesh = read_navmesh(
        save(tmp_path / "a.navmesh", tile(verts, polys, flags=flags, wide=wide), version=version, wide=wide)
    )
    assert mesh.island.tolist() == [0, 0, 0, 1]
    assert mesh.areas == pytest.approx([9.0, 6.0])
    assert mesh.radii[1] == pytest.approx(math.hypot(1.5, 1.0), rel=0.05)
    assert (mesh.radius, mesh.height, mesh.climb, mesh.cell) == pytest.approx((0.1, 1.5, 0.2, 0.05))
    # The outline of the L has 8 sides, two of them halved by corners; the square has 4.
    outline = sum(np.linalg.norm(a - b) for a, b in mesh.border if a[1] == 0.0)
    assert outline == pytest.approx(20.0)


def test_detail_meshes_give_the_heights(tmp_path):
    verts, polys = strips([(0, 4, 0, 4, 0.0)])
    # A pyramid: a fifth corner in the middle, 0.4 m up.
    details = [([(2, 0.4, 2)], [(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)])]
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(verts, polys, details=details))))
    x = np.array([0.5, 1.0, 2.0, 3.5])
    found = grid.snap(np.stack([x, 0 * x, 0 * x + 2.0], axis=1))
    assert found[:, 1] == pytest.approx(0.4 - 0.2 * np.abs(x - 2.0), abs=0.01)


def test_walkable_is_what_lies_on_the_polygons(tmp_path):
    rng = np.random.default_rng(0)
    # Corners off the grid of voxels, one side at a slant.
    verts = [(0.013, 0, 0.027), (0.013, 0, 3.961), (2.5, 0, 3.1), (4.03, 0, 0.027)]
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(verts, [[0, 1, 2, 3]]))))
    points = rng.uniform([-0.5, 0, -0.5], [4.5, 0, 4.5], (4000, 3))
    outline = np.array(verts)[:, [0, 2]]
    inside = np.full(len(points), np.inf)
    for a, b in zip(outline, np.roll(outline, -1, 0), strict=True):
        along = (b - a) / np.linalg.norm(b - a)
        offset = points[:, [0, 2]] - a
        # Corners run clockwise seen from above: the inside is to the left of (x, z) with z down.
        inside = np.minimum(inside, offset[:, 0] * along[1] - offset[:, 1] * along[0])
    # habitat-sim accepts a centimetre; around convex corners the rounding of the distance field adds as much.
    assert grid.is_navigable(points[inside > 0.01]).all()
    assert not grid.is_navigable(points[inside < -0.025]).any()


@pytest.mark.parametrize("shift", [0.0, 0.017])
def test_geodesic_distance_bends_round_the_corner_of_the_polygons(tmp_path, shift):
    verts, polys = strips([(*np.add(r[:4], shift), 0.0) for r in L])
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(verts, polys))))
    a, b = np.array([4.5, 0, 0.2]) + np.array([shift, 0, shift]), np.array([0.3, 0, 4.6]) + np.array([shift, 0, shift])
    # The polygons are where the agent's centre can be: the exact way touches their inner corner, a point.
    corner = np.array([1.0, 0, 1.0]) + np.array([shift, 0, shift])
    exact = np.linalg.norm(a - corner) + np.linalg.norm(b - corner)
    there = grid.distance(grid.field(b), a[None])[0]
    back = grid.distance(grid.field(a), b[None])[0]
    assert there == pytest.approx(exact, rel=0.02)
    assert back == pytest.approx(there, rel=0.01)


def test_islands_stay_apart_however_near_and_small(tmp_path):
    # Two rooms 0.2 m apart, as a thin wall leaves them; a third of 0.3 m2; one above the other.
    rooms = [(0, 2, 0, 2, 0.0), (2.2, 4, 0, 2, 0.0), (5, 5.5, 0, 0.6, 0.0), (0, 2, 0, 2, 2.6)]
    verts, polys = strips(rooms)
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(verts, polys))))
    assert grid.island_areas == pytest.approx([4.0, 4.0, 3.6, 0.3])
    at = np.array([[1, 0, 1], [3, 0, 1], [5.2, 0, 0.3], [1, 2.6, 1]], float)
    islands = grid.island(at)
    assert len(set(islands.tolist())) == 4 and islands.min() == 0
    assert grid.distance(grid.field(at[1]), at[:1])[0] == np.inf
    now, collided = grid.step(np.array([[1.95, 0.0, 1.0]]), [-math.pi / 2], 0.25)
    assert collided[0] and now[0, 0] == pytest.approx(2.0, abs=0.02)
    assert grid.snap(np.array([[1.0, 2.0, 1.0]]))[0, 1] == pytest.approx(2.6)


def test_stairs_join_storeys(tmp_path):
    rects = [(0, 2, 0, 1, 0.0), (2, 6, 0, 1, 0.0, 2.4), (6, 8, 0, 1, 2.4)]
    verts, polys = strips(rects)
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(verts, polys))))
    assert len(grid.island_areas) == 1
    start, goal = np.array([0.5, 0.0, 0.5]), np.array([7.5, 2.4, 0.5])
    # habitat-sim's paths have points at bends only, not where the slope changes: their length is the straight one.
    exact = math.hypot(7.0, 2.4)
    assert grid.distance(grid.field(goal), start[None])[0] == pytest.approx(exact, rel=0.02)
    position = start[None]
    for _ in range(28):
        position, collided = grid.step(position, [-math.pi / 2], 0.25)
        assert not collided.any()
    assert position[0] == pytest.approx([7.5, 2.4, 0.5], abs=0.01)


def test_tiles_join_at_their_portals(tmp_path):
    left, right = strips([(0, 3, 0, 2, 0.0)]), strips([(3, 6, 0.5, 1.5, 0.0)])
    far = strips([(6, 8, 3, 4, 0.0)])
    # Edges: 0 along z at x0, 1 along x at z1, 2 along z at x1, 3 along x at z0.
    tiles = [
        tile(*left, portals=[(0, 2)]),
        tile(*right, portals=[(0, 0), (0, 2)], at=(1, 0)),
        tile(*far, portals=[(0, 0)], at=(2, 0)),
    ]
    mesh = read_navmesh(save(tmp_path / "a.navmesh", *tiles))
    assert mesh.island.tolist() == [0, 0, 1]
    grid = NavGrid.from_navmesh(mesh)
    assert grid.distance(grid.field([5.5, 0, 1.0]), [[0.5, 0, 1.0]])[0] == pytest.approx(5.0, rel=0.02)


def test_a_passage_as_wide_as_a_voxel_stays_open(tmp_path):
    verts, polys = strips([(0, 2, 0, 2, 0.0), (2, 2.4, 0.95, 1.0, 0.0), (2.4, 4, 0, 2, 0.0)])
    # The passage's ends lie on sides of the rooms: rooms with corners there.
    outline = [(0, 0, 0), (0, 0, 2), (2, 0, 2), (2, 0, 1.0), (2, 0, 0.95), (2, 0, 0)]
    other = [(2.4, 0, 0), (2.4, 0, 0.95), (2.4, 0, 1.0), (2.4, 0, 2), (4, 0, 2), (4, 0, 0)]
    verts = np.array([*outline, *other], np.float32)
    polys = [[0, 1, 2, 3, 4, 5], [4, 3, 8, 7], [6, 7, 8, 9, 10, 11]]
    mesh = read_navmesh(save(tmp_path / "a.navmesh", tile(verts, polys)))
    assert mesh.island.tolist() == [0, 0, 0]
    grid = NavGrid.from_navmesh(mesh)
    way = grid.distance(grid.field([3.5, 0, 0.975]), [[0.5, 0, 0.975]])[0]
    assert way == pytest.approx(3.0, rel=0.02)


def test_bad_files_give_one_clear_line(tmp_path):
    good = save(tmp_path / "good.navmesh", tile(*strips(L)))
    data = good.read_bytes()
    cases = {
        "magic number MSET": b"nothing" + data[7:],
        "version 3": data[:4] + b"\x03" + data[5:],
        "ends early": data[:-50],
        "magic number DNAV": data.replace(b"VAND", b"DNAV"),
    }
    for message, content in cases.items():
        bad = tmp_path / "bad.navmesh"
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=rf"bad\.navmesh.*{message}") as caught:
            read_navmesh(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no walkable polygon"):
        read_navmesh(save(tmp_path / "b.navmesh", tile(*strips(L), flags=[0, 0, 4])))
    with pytest.raises(ValueError, match=r"absent\.navmesh"):
        read_navmesh(tmp_path / "absent.navmesh")


def maze(seed, size=12, spacing=0.6):
    """A field of slanted quadrilaterals with a third of them missing: corners, polygons, outlines, neighbours."""
    rng = np.random.default_rng(seed)
    free = rng.random((size, size)) > 0.3
    shift = rng.uniform(-0.15, 0.15, (size + 1, size + 1, 2))
    numbers, polys = {}, []
    for i, j in np.argwhere(free).tolist():
        polys.append([numbers.setdefault(c, len(numbers)) for c in ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))])
    flat = np.array([spacing * np.array(c) + shift[c] for c in numbers])
    owner = {(p[k], p[(k + 1) % 4]): n for n, p in enumerate(polys) for k in range(4)}
    neighbours = [[owner.get((p[(k + 1) % 4], p[k]), -1) for k in range(4)] for p in polys]
    corners = np.stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]], axis=1)
    return corners, polys, [flat[p] for p in polys], neighbours


def test_steps_slide_and_collide_as_detour_and_habitat_sim_have_it(tmp_path):
    corners, polys, outlines, neighbours = maze(0)
    grid = NavGrid.from_navmesh(read_navmesh(save(tmp_path / "a.navmesh", tile(corners, polys))))
    rng = np.random.default_rng(1)
    apart, flags = [], []
    for _ in range(2500):
        polygon = int(rng.integers(len(polys)))
        start = rng.dirichlet(np.ones(4)) @ outlines[polygon]
        if not inside(start, outlines[polygon]):
            continue
        heading = rng.uniform(-math.pi, math.pi)
        end = start - 0.25 * np.array([math.sin(heading), math.cos(heading)])
        expected = move_along_surface(outlines, neighbours, polygon, start, end)
        now, collided = grid.step([[start[0], 0.0, start[1]]], [heading], 0.25)
        # habitat-sim: collided where the squared way made + 1e-5 is less than the squared way asked for.
        held = np.sum((expected - start) ** 2) + 1e-5 < np.sum((end - start) ** 2)
        apart.append(np.linalg.norm(now[0, [0, 2]] - expected))
        flags.append((held, bool(collided[0])))
    apart, (held, collided) = np.array(apart), np.array(flags).T
    assert held.sum() > 250
    assert np.median(apart) < 1e-9
    assert np.quantile(apart[held], 0.9) < 2e-3  # the tolerance of the border
    # Round corners Detour may jump to the end of the step where we walk up to them.
    assert np.quantile(apart, 0.98) < 0.02
    assert (held == collided).mean() > 0.98
