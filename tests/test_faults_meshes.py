"""Meshes as users have them: lost textures, materials with options, other units, far away, on their side, broken."""

from __future__ import annotations

import gzip
import json
import logging
import re
import struct

import numpy as np
import pytest
from gltf_files import TRIANGLE, UV, Gltf, png, textured
from navmesh_files import save, strips, tile
from pictures_broken import huge_png
from shapes import box, floor, furnished, room, scene

from envs.navgrid.extent import check_grid_size
from envs.navgrid.grid import NavGrid
from envs.navgrid.navmesh import read_navmesh
from envs.pointnav.episodes import read_episodes
from envs.pointnav.scene_episodes import AgentConfig
from envs.scans.loading import load_scene
from envs.scans.materials import Texture, parse_texture
from envs.scans.mesh_files import SUFFIXES, MeshReader
from envs.scans.scene_datasets import SceneDataset
from envs.scans.source import ScanSettings, load_scan
from envs.scene import Sampler
from envs.sources.scans import Generation, scans

WALL = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
QUAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FACES = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
BODY = (0.1, 1.5, 0.2, 45.0)


def put_obj(folder, mtl, use="a", faces=FACES, head="mtllib m.mtl\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.mtl").write_text(mtl)
    (folder / "x.obj").write_text(f"{head}{QUAD}usemtl {use}\n{faces}")
    return folder / "x.obj"


def mesh_file(path, made, matrix=None, shift=(0.0, 0.0, 0.0)):
    """A scene's solid triangles as a mesh file, its coordinates multiplied by a matrix or number and shifted."""
    soup = made.vertices[made.faces].reshape(-1, 3).astype(np.float64)
    soup = soup @ (np.eye(3) if matrix is None else np.eye(3) * matrix if np.ndim(matrix) == 0 else matrix).T + shift
    if path.suffix == ".obj":
        lines = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in soup]
        lines += [f"f {i} {i + 1} {i + 2}" for i in range(1, len(soup), 3)]
        path.write_text("\n".join(lines) + "\n")
        return path
    file = Gltf()
    return file.alone(file.part(positions=soup.astype(np.float32), indices=np.arange(len(soup)))).save(path)


# -- materials and textures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("tex/wall.png", Texture("tex/wall.png")),
        ("-s 2 2 1 tex/wall.png", Texture("tex/wall.png", (2.0, 2.0))),
        ("-s 2 my wall.png", Texture("my wall.png", (2.0, 1.0))),
        ("-o 0.5 0.25 -s 3 4 -clamp on C:\\t\\a.png", Texture("C:\\t\\a.png", (3.0, 4.0), (0.5, 0.25), "clamp")),
        ("-blendu off -mm 0 1 -bm 1 -texres 512 -imfchan m -t 1 1 1 a  b.png", Texture("a  b.png")),
        ("-s 2 2 2.png", Texture("2.png", (2.0, 2.0))),
        ("-s 1 1 1 7", Texture("7")),
        ("-clamp", None),
        ("-s 1 1", Texture("1", (1.0, 1.0))),
        ("", None),
    ],
)
def test_options_of_map_kd_are_read(words, found):
    assert parse_texture(words) == found


def test_a_texture_with_options_is_found_and_scaled(tmp_path, caplog):
    """Formerly lost without a warning."""
    (tmp_path / "tex").mkdir()
    (tmp_path / "tex" / "wall.png").write_bytes(png(WALL))
    with caplog.at_level(logging.WARNING):
        made = load_scene(put_obj(tmp_path, "newmtl a\nKd 0.8 0.8 0.8\nmap_Kd -s 2 3 1 -o 0.5 0.25 tex/wall.png\n"))
    assert caplog.text == "" and len(made.textures) == 1 and (made.face_texture == 0).all()
    np.testing.assert_array_equal(made.textures[0], WALL)
    np.testing.assert_array_equal(made.corner_color, 204)
    # u * scale + offset, and v down the image.
    corner = made.vertices[made.faces][..., :2]
    np.testing.assert_allclose(made.corner_uv[..., 0], 2 * corner[..., 0] + 0.5, atol=1e-6)
    np.testing.assert_allclose(made.corner_uv[..., 1], 1 - (3 * corner[..., 1] + 0.25), atol=1e-6)
    clamped = load_scene(put_obj(tmp_path / "c", "newmtl a\nmap_Kd -clamp on ../tex/wall.png\n"))
    assert clamped.samplers == (Sampler("clamp", "clamp"),)


def test_several_materials_textures_and_material_files(tmp_path, caplog):
    for k, name in enumerate(("one", "two", "three")):
        (tmp_path / f"{name}.png").write_bytes(png(WALL + np.uint8(k)))
    first = "newmtl a\nmap_Kd -s 1 1 1 one.png\nmap_Ka two.png\nmap_Bump -bm 2 three.png\n"
    (tmp_path / "my first.mtl").write_text(first)
    (tmp_path / "b.mtl").write_bytes("newmtl b é\nmap_Kd TWO.PNG\n".encode("latin-1"))
    (tmp_path / "c.mtl").write_text("newmtl c\nKd 0 1 0\n\tmap_Kd\tthree.png\n")
    text = f"mtllib my first.mtl\nmtllib b.mtl c.mtl\n{QUAD}usemtl a\nf 1/1 2/2 3/3\nusemtl b é\nf 1/1 3/3 4/4\n"
    (tmp_path / "x.obj").write_bytes((text + "usemtl c\nf 1/1 2/2 4/4\n").encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        made = load_scene(tmp_path / "x.obj")
    assert caplog.text == ""
    faces = zip(made.face_texture, made.corner_color[:, 0], strict=True)
    seen = {made.textures[k][0, 0, 0] - WALL[0, 0, 0]: tuple(c) for k, c in faces}
    assert seen == {0: (255, 255, 255), 1: (255, 255, 255), 2: (0, 255, 0)}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("lfs.jpg", "texture lfs.jpg is broken or unknown: it is a Git LFS pointer"),
        ("page.png", "page.png is broken or unknown: it is a web page"),
        ("-s 2 2 2 gone.png", "file gone.png is missing; its faces get the base colour"),
        ("empty.png", "empty.png is broken or unknown: it is empty"),
        ("huge.png", "huge.png is broken or unknown: .*decompression bomb"),
        ("folder", "file folder is missing"),
    ],
)
def test_a_lost_texture_of_an_obj_is_warned_of(tmp_path, named, said, caplog):
    (tmp_path / "lfs.jpg").write_text(LFS)
    (tmp_path / "page.png").write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "huge.png").write_bytes(huge_png())
    (tmp_path / "folder").mkdir()
    with caplog.at_level(logging.WARNING):
        made = load_scene(put_obj(tmp_path, f"newmtl a\nKd 0.8 0.8 0.8\nmap_Kd {named}\n"))
    assert (made.corner_color == 204).all() and made.textures == ()
    (record,) = caplog.records
    assert re.search(said, record.getMessage()) and "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("head", "use", "said"),
    [
        ("mtllib gone.mtl\n", "a", "file gone.mtl is missing"),
        ("mtllib m.mtl\n", "b", "material b is not in its material file"),
        ("", "a", "material a is not in a material file, as it names none"),
    ],
)
def test_a_lost_material_of_an_obj_is_warned_of(tmp_path, head, use, said, caplog):
    with caplog.at_level(logging.WARNING):
        made = load_scene(put_obj(tmp_path, "newmtl a\nKd 0.8 0.8 0.8\n", use, head=head))
    assert said in caplog.text and (made.corner_color == 255).all()


def test_a_pointer_of_git_lfs_in_a_gltf_is_warned_of(tmp_path, caplog):
    (tmp_path / "wall.png").write_text(LFS)
    file = Gltf().put("images", {"uri": "wall.png"}).put("textures", {"source": 0}).put("materials", textured(0))
    with caplog.at_level(logging.WARNING):
        load_scene(file.alone(file.part(0, UV)).save(tmp_path / "a.gltf"))
    assert "wall.png is broken or unknown: it is a Git LFS pointer" in caplog.text


def ply(path, lines, header):
    path.write_text("\n".join(["ply", "format ascii 1.0", *header, "end_header", *lines, ""]))
    return path


def test_several_textures_of_a_ply_go_to_the_faces_that_name_them(tmp_path, caplog):
    for k, name in enumerate(("one.png", "my two.png")):
        (tmp_path / name).write_bytes(png(WALL + np.uint8(k)))
    header = ["comment TextureFile one.png", "comment TextureFile my two.png", "element vertex 4"]
    header += [f"property float {name}" for name in "xyz"]
    header += ["element face 3", "property list uchar int vertex_indices", "property list uchar float texcoord"]
    corners = ["0 0 0", "1 0 0", "1 1 0", "0 1 0"]
    faces = ["3 0 1 2 6 0 0 1 0 1 1 {}", "3 0 2 3 6 0 0 1 1 0 1 {}", "3 0 1 3 6 0 0 1 0 0 1 {}"]
    numbered = [face.format(k) for face, k in zip(faces, (1, 0, 7), strict=True)]
    with caplog.at_level(logging.WARNING):
        made = load_scene(ply(tmp_path / "a.ply", corners + numbered, [*header, "property int texnumber"]))
    assert caplog.text == ""
    order = {tuple(map(tuple, c[:, :2])): t for c, t in zip(made.vertices[made.faces], made.face_texture, strict=True)}
    shown = [order[key] for key in (((0, 0), (1, 0), (1, 1)), ((0, 0), (1, 1), (0, 1)), ((0, 0), (1, 0), (0, 1)))]
    assert shown[2] == -1 and [made.textures[k][0, 0, 0] - WALL[0, 0, 0] for k in shown[:2]] == [1, 0]
    # Without numbers nobody knows which: the first, and a warning.
    with caplog.at_level(logging.WARNING):
        made = load_scene(ply(tmp_path / "b.ply", [*corners, *(f.format("") for f in faces)], header))
    assert "it names 2 textures, but not which faces have which; all get one.png" in caplog.text
    assert (made.face_texture == 0).all() and made.textures[0][0, 0, 0] == WALL[0, 0, 0]


def test_a_lost_texture_of_a_ply_is_warned_of(tmp_path, caplog):
    (tmp_path / "wall.png").write_text(LFS)
    header = ["comment TextureFile wall.png", "element vertex 3", *(f"property float {n}" for n in "xyzst")]
    header += ["element face 1", "property list uchar int vertex_indices"]
    lines = ["0 0 0 0 0", "1 0 0 1 0", "1 1 0 1 1", "3 0 1 2"]
    with caplog.at_level(logging.WARNING):
        load_scene(ply(tmp_path / "a.ply", lines, header))
    assert "texture wall.png is broken or unknown: it is a Git LFS pointer" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load_scene(ply(tmp_path / "b.ply", lines, [h.replace(" s", " q").replace(" t", " r") for h in header]))
    assert "it names wall.png, but has no texture coordinates" in caplog.text


def test_materials_of_a_ply_colour_its_faces(tmp_path):
    header = ["element vertex 4", *(f"property float {n}" for n in "xyz"), "element face 2"]
    header += ["property list uchar int vertex_indices", "property int material_index", "element material 2"]
    header += [f"property uchar {kind}_{name}" for kind in ("ambient", "diffuse") for name in ("red", "green", "blue")]
    lines = ["0 0 0", "1 0 0", "1 1 0", "0 1 0", "3 0 1 2 1", "3 0 2 3 0", "0 0 0 255 0 0", "9 9 9 0 0 255"]
    made = load_scene(ply(tmp_path / "a.ply", lines, header))
    assert made.corner_color[:, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


# -- glTF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [{}, {"TEXCOORD_0": UV}, None])
def test_a_primitive_without_position_is_passed_over(tmp_path, attributes, caplog):
    """glTF 2.0, section 3.7.2.1; formerly the whole scan was refused."""
    file = Gltf()
    bare = {} if attributes is None else {"attributes": {k: file.accessor(v) for k, v in attributes.items()}}
    file.put("meshes", {"primitives": [file.part()]}, {"primitives": [bare, bare]})
    file.put("nodes", {"mesh": 0, "children": [1]}, {"mesh": 1})
    with caplog.at_level(logging.WARNING):
        made = load_scene(file.save(tmp_path / "a.glb"))
    assert len(made.faces) == 1 and "2 primitives without positions are passed over" in caplog.text
    alone = Gltf()
    alone.put("meshes", {"primitives": [bare if attributes is None else {"attributes": {}}]}).put("nodes", {"mesh": 0})
    with pytest.raises(ValueError, match="it holds no triangles"):
        load_scene(alone.save(tmp_path / "b.glb"))


def test_a_billion_vertices_are_refused_before_they_are_allocated(tmp_path):
    file = Gltf()
    part = file.part(indices=None)
    file.header["accessors"][0] = {"componentType": 5126, "type": "VEC3", "count": 10**9}
    with pytest.raises(ValueError, match=r"without data has 1,000,000,000 values") as caught:
        load_scene(file.alone(part).save(tmp_path / "a.glb"))
    assert "\n" not in str(caught.value)
    header = "ply\nformat {} 1.0\nelement vertex 1000000000\nproperty float x\nend_header\n"
    for name in ("ascii", "binary_little_endian"):
        (tmp_path / "a.ply").write_text(header.format(name))
        with pytest.raises(ValueError, match=r"announces 1,000,000,000 elements in \d+ bytes"):
            load_scene(tmp_path / "a.ply")
    crowd = Gltf()
    part = crowd.part(positions=np.tile(TRIANGLE, (700, 1)), indices=np.arange(2100))
    many = crowd.accessor(np.zeros((40_000, 3), np.float32))
    crowd.alone(part, extensions={"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": many}}})
    with pytest.raises(ValueError, match="40000 instances of 700 triangles are too many"):
        load_scene(crowd.save(tmp_path / "c.glb"))


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".obj", ".ply"])
@pytest.mark.parametrize(
    ("content", "said"), [(LFS, "it is a Git LFS pointer"), ("", "it is empty"), ("<html>", "it is a web page")]
)
def test_a_file_that_is_no_mesh_is_named(tmp_path, suffix, content, said):
    (tmp_path / f"a{suffix}").write_text(content)
    with pytest.raises(ValueError, match=rf"cannot (read|use) .*a\{suffix}: ({said}|it holds no triangles)") as caught:
        load_scene(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)


def test_a_link_without_an_ending_is_read_by_its_own_name(tmp_path):
    """As caches of downloads lay files out."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    mesh_file(tmp_path / "real.glb", scene(room(0, 6, 0, 5))).rename(tmp_path / "blobs" / "3f2a")
    (tmp_path / "snapshot" / "a.glb").symlink_to(tmp_path / "blobs" / "3f2a")
    assert len(load_scene(tmp_path / "snapshot" / "a.glb").faces) == 50


# -- units, and far away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (100.0, r"is 620 x 520 m and 250 m high.*in centimetres\? .*0\.01"),
        (1000.0, r"is 6,200 x 5,200 m.*in millimetres\? .*0\.001"),
    ],
)
def test_a_scan_in_another_unit_is_refused_with_its_extent(tmp_path, scale, said):
    """Formerly a MemoryError after 80 s."""
    path = mesh_file(tmp_path / "a.glb", scene(room(0, 6, 0, 5)), scale)
    with pytest.raises(ValueError, match=said) as caught:
        load_scan(str(path), ScanSettings(), *BODY)
    assert "\n" not in str(caught.value)
    # What the message says to do.
    advice = str(caught.value).split("beside it with ")[1].split(" makes it metres")[0]
    (tmp_path / "a.stage_config.json").write_text(advice)
    made, grid = load_scan(str(path), ScanSettings(), *BODY)
    assert np.ptp(made.vertices, axis=0) == pytest.approx([6.2, 2.5, 5.2]) and grid.island_areas[0] > 20


def test_a_small_room_in_centimetres_is_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check_grid_size(np.array([[[0, 0, 0], [120.0, 0, 0], [0, 250.0, 100.0]]]), 0.05, "closet.glb")
    assert "scene closet.glb is 120 x 100 m and 250 m high; in centimetres?" in caplog.text


def test_a_stray_triangle_is_warned_of(tmp_path):
    stray = (np.array([[4e4, 0, 4e4], [4e4 + 1, 0, 4e4], [4e4, 0, 4e4 + 1]]), np.array([[0, 1, 2]]))
    path = mesh_file(tmp_path / "a.glb", scene([*room(0, 6, 0, 5), stray]))
    with pytest.raises(ValueError, match=r"all but 1 of its 51 triangles lie within 6\.2 x 5\.2 m.*stray") as caught:
        load_scan(str(path), ScanSettings(), *BODY)
    assert "is 40,001 x 40,001 m and 2.5 m high, too large" in str(caught.value)


@pytest.mark.parametrize("far", [1e9, 1e30, 3e38])
def test_huge_coordinates_are_refused(tmp_path, far):
    stray = (np.array([[far, 0, 0], [far, 1, 0], [far, 0, 1]]), np.array([[0, 1, 2]]))
    parts = [*room(0, 6, 0, 5), stray]
    with pytest.raises(ValueError, match="which is no place; all but 1 of its 51 triangles") as caught:
        load_scan(str(mesh_file(tmp_path / "a.glb", scene(parts))), ScanSettings(), *BODY)
    assert "\n" not in str(caught.value)


def test_many_layers_of_large_triangles_are_refused():
    sheet = np.array([[0, 0, 0], [100.0, 0, 0], [0, 0, 100.0]])
    with pytest.raises(ValueError, match=r"is 100 x 100 m and 5 m high with \d+ layers, too large"):
        check_grid_size(np.stack([sheet + np.array([0, k / 10, 0]) for k in range(51)]), 0.05, "pile")


def test_a_scan_far_from_the_origin_is_moved_before_it_is_rounded(tmp_path, caplog):
    """In UTM coordinates single precision is 0.5 m; formerly walls were torn apart."""
    shift = (454321.13, 112.13, 5412345.13)
    near = mesh_file(tmp_path / "near.obj", scene(furnished(0)))
    path = mesh_file(tmp_path / "far.obj", scene(furnished(0)), shift=shift)
    with caplog.at_level(logging.WARNING):
        made, grid = load_scan(str(path), ScanSettings(), *BODY)
    assert "lies at (454327, 113, 5412350), far from the origin, and is moved there" in caplog.text
    plain, expected = load_scan(str(near), ScanSettings(), *BODY)
    np.testing.assert_allclose(made.vertices + np.array(made.origin), plain.vertices + np.array(shift), atol=2e-4)
    assert grid.island_areas[0] == pytest.approx(expected.island_areas[0], rel=0.02) and plain.origin == (0, 0, 0)
    # Episodes are written in the file's own coordinates, and read back.
    few = Generation(goals=2, max_distance=8.0)
    (first,) = scans(str(path), str(tmp_path / "e"), "val", 6, 0, AgentConfig(0.1), generation=few)
    kept = read_episodes(tmp_path / "e" / "val" / "val.json.gz")
    assert all(454320 < e.start_position[0] < 454332 and 5412344 < e.goal_position[2] < 5412356 for e in kept)
    (again,) = scans(str(path), str(tmp_path / "e"), "val", 6, 0, AgentConfig(0.1), generation=few)
    starts = [np.array([e.start_position for e in place.episodes]) for place in (first, again)]
    np.testing.assert_allclose(*starts, atol=1e-6)
    assert np.abs(starts[0]).max() < 10


def test_a_navmesh_is_moved_with_its_scan(tmp_path):
    shift = np.array([20000.0, 0.0, 0.0])
    path = mesh_file(tmp_path / "a.obj", scene([floor(0, 10, 0, 6)]), shift=shift)
    save(tmp_path / "a.navmesh", tile(*strips([(20001, 20009, 1, 5, 0)])))
    made, grid = load_scan(str(path), ScanSettings(), *BODY)
    assert grid.is_navigable(np.array([[20005.0, 0, 3.0]]) - made.origin)[0]


# -- which way is up --------------------------------------------------------------------------------------------------

TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # (x, y, z) -> (x, -z, y)


PLACES = (room(0, 6, 0, 5), room(0, 5, 0, 9), furnished(3), [*room(0, 4, 0, 4), box(1, 2, 1, 2)])


@pytest.mark.parametrize("parts", PLACES)
def test_a_z_up_file_taken_as_y_up_is_warned_of(tmp_path, parts, caplog):
    """Formerly agents walked on walls, silently."""
    path = mesh_file(tmp_path / "a.glb", scene(parts), TO_Z_UP)
    with caplog.at_level(logging.WARNING):
        load_scene(path)
    (record,) = caplog.records
    said = record.getMessage()
    assert "a.glb may lie on its side" in said and "is walls. Set env.up=z, or env.up=y if it is right" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for up in ("y", "z"):
            load_scene(path, up=up)
        load_scene(mesh_file(tmp_path / "right.glb", scene(parts)))
        save(tmp_path / "a.navmesh", tile(*strips([(1, 3, -3, -1, 0)])))
        load_scene(path)
    assert caplog.text == ""


def test_corridors_and_closets_are_not_suspected(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        for k, size in enumerate(((10, 1.5), (1.5, 10), (2, 2))):
            load_scene(mesh_file(tmp_path / f"{k}.glb", scene(room(0, size[0], 0, size[1]))))
    assert caplog.text == ""


# -- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # After magic, version, count and 28 bytes of parameters: cell_size, cell_height, agent_height, agent_radius.
        ((40, struct.pack("<f", 0.0)), "cell 0 m is not between"),
        ((40, struct.pack("<f", float("nan"))), "cell nan m is not between"),
        ((52, struct.pack("<f", float("inf"))), "radius inf m is not between"),
        ((52, struct.pack("<f", -1.0)), "radius -1 m is not between"),
        ((8, struct.pack("<i", 2**31 - 1)), "cannot read"),
    ],
)
def test_a_navmesh_of_impossible_measures_is_refused(tmp_path, change, said):
    path = save(tmp_path / "a.navmesh", tile(*strips([(0, 4, 0, 4, 0)])))
    data = bytearray(path.read_bytes())
    at, value = change
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said) as caught:
        read_navmesh(path)
    assert "\n" not in str(caught.value)


def test_a_navmesh_that_reaches_too_far_is_refused(tmp_path):
    path = save(tmp_path / "a.navmesh", tile(*strips([(0, 4, 0, 4, 0), (9e5, 9e5 + 4, 0, 9e5, 0)])))
    with pytest.raises(ValueError, match=r"the navigation mesh is 900,004 x 900,000 m.*too large"):
        NavGrid.from_navmesh(read_navmesh(path))
    for content, said in ((LFS, "it is a Git LFS pointer"), ("", "it is empty")):
        path.write_text(content)
        with pytest.raises(ValueError, match=said):
            read_navmesh(path)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("stages", {"configs": [{"template_asset": 3}]}),
        ("stages", {"configs": [{"original_file": 3}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": 3}]}),
        ("stages", {"configs": 3}),
        ("stages", {"paths": {".glb": 3}}),
        ("stages", {"paths": {".glb": [3]}}),
        ("stages", {"paths": [1]}),
        ("stages", {"default_attributes": [1], "paths": {".glb": ["."]}}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"render_asset": 3}}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"scale": [1e9, 1e9, 1e9]}}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"scale": 10**400}}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"up": "y"}}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"up": [1e308, 1e308, 0]}}]}),
        ("stages", {"configs": [{"original_file": "a.glb", "attributes": {"nav_asset": [1]}}]}),
        ("stages", {"configs": [{"template_handle": 3, "attributes": {"render_asset": "a.glb"}}]}),
        ("scene_instances", {"configs": [{"template_handle": "a", "attributes": {"stage_instance": 3}}]}),
        ("scene_instances", {"configs": [{"template_handle": "a", "attributes": {"object_instances": [3]}}]}),
        ("scene_instances", {"configs": [{"template_handle": "a", "attributes": {"object_instances": 3}}]}),
        ("navmesh_instances", [1]),
    ],
)
def test_dataset_configs_of_wrong_types_are_one_line(tmp_path, section, value):
    mesh_file(tmp_path / "a.glb", scene(room(0, 6, 0, 5)))
    config = tmp_path / "x.scene_dataset_config.json"
    config.write_text(json.dumps({"stages": {"paths": {".glb": ["."]}}, section: value}))
    with pytest.raises(ValueError, match=r".") as caught:
        load_scan("a", ScanSettings(dataset=str(config)), *BODY)
        SceneDataset.open(config).compose("nothing like it")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("ending", SUFFIXES)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 3\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (gzip.compress(b"v 0 0 0\n", mtime=0), "compressed by gzip; unpack it"),
        (b"PK\3\4" + bytes(60), "a zip archive; unpack it"),
    ],
)
def test_a_mesh_that_is_none_is_called_what_it_is(tmp_path, ending, content, said):
    """OBJ files without a line that is one "held no triangles"."""
    file = tmp_path / f"a{ending}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\{ending}: .*{said}"):
        MeshReader().read(file)
