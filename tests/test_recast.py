"""Navigation meshes that the system's Recast makes: Debian's librecast1, which need not be installed."""

from __future__ import annotations

import numpy as np
import pytest
from houses import write_house
from shapes import box, floor, room, scene

from envs.navgrid import recast
from envs.navgrid.detour_floor import DetourFloor
from envs.navgrid.navmesh import navmesh_of, read_navmesh
from envs.navmesh import write_navmesh
from envs.scans.source import ScanSettings, load_scan

needs_recast = pytest.mark.skipif(not recast.available(), reason="needs librecast1 (Debian, Ubuntu)")
BODY = {"radius": 0.1, "height": 1.5, "climb": 0.2, "max_slope": 45.0}


def soup(parts):
    made = scene(parts)
    return made.vertices[made.faces]


@needs_recast
def test_a_room_is_eroded_by_the_radius():
    mesh = navmesh_of(recast.build(soup(room(0, 6, 0, 4)), "room", recast.Agent(radius=0.2)))
    # Recast erodes whole voxels of 5 cm.
    assert mesh.areas == pytest.approx([5.6 * 3.6], rel=0.05)
    assert (mesh.radius, mesh.height, mesh.climb, mesh.cell) == pytest.approx((0.2, 1.5, 0.2, 0.05))
    ground = DetourFloor(mesh)
    there, back = [[0.5, 0.0, 0.5]], [5.5, 0.0, 3.5]
    assert ground.distance(there, back)[0] == pytest.approx(np.hypot(5.0, 3.0), rel=0.01)
    assert not ground.is_navigable([[0.1, 0.0, 2.0]])[0]


@needs_recast
def test_a_scan_is_walked_on_as_on_the_file_that_is_written_of_it(tmp_path):
    path = tmp_path / "house.glb"
    write_house(path)
    _, made = load_scan(str(path), ScanSettings(navmesh="recast", geodesic="detour", up="y"), **BODY)
    said = write_navmesh(str(path), tmp_path / "house.navmesh", ScanSettings(up="y"), recast.Agent())
    assert "islands of" in said
    _, read = load_scan(str(path), ScanSettings(navmesh="match", geodesic="detour", up="y"), **BODY)
    assert made.geodesic == read.geodesic == "detour"
    assert read.island_areas == pytest.approx(made.island_areas, abs=0)
    start, goal = [[0.5, 0.0, 0.5]], [8.0, 0.0, 4.5]
    way = made.distance(made.field(goal), start)[0]
    assert way == read.distance(read.field(goal), start)[0]
    assert np.linalg.norm(np.subtract(goal, start[0])) < way < 12.0
    with pytest.raises(FileExistsError, match="is there already"):
        write_navmesh(str(path), tmp_path / "house.navmesh", ScanSettings(up="y"), recast.Agent())
    assert read_navmesh(tmp_path / "house.navmesh").areas.sum() == pytest.approx(made.island_areas.sum())


@needs_recast
def test_a_scene_without_floor_is_one_line():
    with pytest.raises(ValueError, match=r"scene wall: Recast finds no floor for an agent of radius 0\.1 m"):
        recast.build(soup([box(0, 2, 0, 0.1, 2.0)]), "wall", recast.Agent())
    steep = soup([floor(0, 2, 0, 2)])[:, :, [1, 0, 2]]
    with pytest.raises(ValueError, match="scene wall: Recast could not lay voxels over it"):
        recast.build(steep, "wall", recast.Agent())


def test_without_recast_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(recast, "find_library", lambda name: None)
    recast._library.cache_clear()
    try:
        with pytest.raises(ImportError, match="libRecast is not installed; install Debian's or Ubuntu's librecast1"):
            recast.build(soup(room(0, 3, 0, 3)), "room", recast.Agent())
    finally:
        recast._library.cache_clear()
    with pytest.raises(ValueError, match=r"must end in \.navmesh"):
        write_navmesh("a.glb", tmp_path / "a.bin", ScanSettings(), recast.Agent())
