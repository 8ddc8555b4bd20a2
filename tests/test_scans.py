from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import trimesh
from gltf_files import TRIANGLE, UV, Gltf, plain, png, textured
from houses import texture, write_house
from PIL import Image

from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.scans.loading import load_scene


def test_gltf_nodes_materials_and_colours(tmp_path):
    first = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    second = 255 - first[:2]
    (tmp_path / "wood floor.png").write_bytes(png(first))
    file = Gltf()
    file.put("images", {"uri": "wood%20floor.png"}, {"bufferView": file.view(png(second)), "mimeType": "image/png"})
    file.put("textures", {"source": 0}, {"source": 1})
    file.put("materials", textured(0, (1.0, 0.2, 0.6, 1.0)), textured(1), plain(0.2, 0.4, 0.6, 1.0), textured(0))
    half = np.array([[65535, 0, 0], [0, 65535, 0], [0, 0, 65535 // 5]], np.uint16)
    bytes4 = np.array([[255, 0, 51, 255]] * 3, np.uint8)
    file.put(
        "meshes",
        {"primitives": [file.part(0, UV), file.part(1, UV)]},
        {"primitives": [file.part(2, color=half)]},
        {"primitives": [file.part(3, UV, color=bytes4)]},
        {"primitives": [file.part()]},
    )
    turn = [0.0, np.sqrt(0.5), 0.0, np.sqrt(0.5)]
    file.put(
        "nodes",
        {"name": "root", "translation": [10, 0, 0], "children": [1, 2, 3, 4, 5]},
        {"name": "sofa", "mesh": 0, "rotation": turn, "scale": [2, 2, 2], "translation": [0, 0, 5]},
        {"name": "lamp", "mesh": 1},
        {"name": "rug", "mesh": 2},
        {"name": "rug", "mesh": 2, "translation": [0, 3, 0]},
        {"name": "bare", "mesh": 3},
    )
    scene = load_scene(file.save(tmp_path / "room.gltf"))

    assert scene.class_names == ("unknown",) and scene.solid.all() and len(scene.faces) == 6
    corner = scene.vertices[scene.faces]
    start = {tuple(c[0].round(4)): n for n, c in enumerate(corner)}
    # The sofa's two parts share a node: one object; turned by +90 degrees about Y, x becomes -z.
    sofa = np.flatnonzero((corner[:, 0] == corner[:, 0][start[(10, 0, 5)]]).all(1))
    np.testing.assert_allclose(corner[sofa[0]], [[10, 0, 5], [10, 0, 3], [10, 2, 5]], atol=1e-5)
    assert len(sofa) == 2 and len(set(scene.face_instance[sofa])) == 1
    rug = start[(10, 3, 0)]
    assert len(set(scene.face_instance)) == 5 == scene.face_instance.max() + 1

    assert len(scene.textures) == 2
    pictures = {scene.textures[scene.face_texture[n]].tobytes(): n for n in sofa}
    assert set(pictures) == {first.tobytes(), second.tobytes()}
    np.testing.assert_array_equal(scene.corner_color[pictures[first.tobytes()]], [[255, 51, 153]] * 3)
    np.testing.assert_array_equal(scene.corner_color[pictures[second.tobytes()]], 255)
    # glTF's v already runs down the image.
    np.testing.assert_allclose(scene.corner_uv[sofa[0]], UV, atol=1e-6)
    assert scene.textures[scene.face_texture[rug]].tobytes() == first.tobytes()
    np.testing.assert_array_equal(scene.corner_color[rug], [[255, 0, 51]] * 3)
    untextured = scene.corner_color[scene.face_texture == -1].reshape(-1, 9).tolist()
    assert sorted(untextured) == [[51, 0, 0, 0, 102, 0, 0, 0, 31], [255] * 9]


def test_missing_and_unreadable_textures_warn_and_fall_back(tmp_path, caplog):
    file = Gltf()
    file.put("images", {"uri": "lost.png"}, {"bufferView": file.view(b"no image"), "mimeType": "image/ktx2"})
    broken = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[:2000]
    file.put("images", {"bufferView": file.view(broken), "mimeType": "image/png"})
    file.put("textures", {"source": 0}, {"extensions": {"KHR_texture_basisu": {"source": 1}}}, {"source": 2})
    file.put("materials", *(textured(n, (0.2, 0.4, 0.6, 1.0)) for n in range(3)))
    file.put("meshes", {"primitives": [file.part(n, UV) for n in range(3)]})
    file.put("nodes", {"mesh": 0})
    with caplog.at_level(logging.WARNING, logger="envs.scans.loading"):
        scene = load_scene(file.save(tmp_path / "room.gltf"))
    assert scene.textures == () and (scene.face_texture == -1).all()
    np.testing.assert_array_equal(scene.corner_color, np.broadcast_to([51, 102, 153], (3, 3, 3)))
    warnings = [record.getMessage() for record in caplog.records if record.name == "envs.scans.loading"]
    assert len(warnings) == 3 and all("room.gltf" in line for line in warnings)
    for expected in ("lost.png is missing", "image 1 is broken or unknown", "image 2 is broken or unknown"):
        assert any(expected in line for line in warnings), warnings


def write_gltf(mesh, path):
    """Export as .gltf beside its buffers; trimesh's own writer of this format leaves the files open."""
    for name, content in trimesh.exchange.gltf.export_gltf(trimesh.Scene(mesh)).items():
        (path if name == "model.gltf" else path.parent / name).write_bytes(content)


def quad_mesh(image):
    """A unit square facing +Z whose picture stands upright, v counted upwards as trimesh does."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(image), diffuse=[255, 255, 255, 255])
    visual = trimesh.visual.TextureVisuals(uv=vertices[:, :2], material=material)
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


@pytest.mark.parametrize("suffix", ["glb", "gltf", "obj"])
def test_a_picture_on_the_wall_looks_like_its_file(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = tmp_path / f"wall.{suffix}"
    if suffix == "gltf":
        write_gltf(quad_mesh(image), path)
    else:
        quad_mesh(image).export(path)
    camera = Camera(size=8, height=0.5)
    seen = EmbreeRenderer([load_scene(path)]).render([0], [[0.5, 0, 0.5]], [0], camera)
    # Half a metre away with 90 degrees of view, the square fills the image: a pixel is a texel.
    np.testing.assert_allclose(seen["rgb"][0].astype(int), image, atol=1)
    np.testing.assert_allclose(seen["depth"], 0.5, atol=1e-5)


def test_ply_texture(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    (tmp_path / "skin.png").write_bytes(png(image))
    lines = ["ply", "format ascii 1.0", "comment TextureFile skin.png", "element vertex 4"]
    lines += [f"property float {name}" for name in ("x", "y", "z", "s", "t")]
    lines += ["element face 2", "property list uchar int vertex_indices", "end_header"]
    lines += ["0 0 0 0 0", "1 0 0 1 0", "1 1 0 1 1", "0 1 0 0 1", "3 0 1 2", "3 0 2 3", ""]
    (tmp_path / "wall.ply").write_text("\n".join(lines))
    scene = load_scene(tmp_path / "wall.ply")
    seen = EmbreeRenderer([scene]).render([0], [[0.5, 0, 0.5]], [0], Camera(size=8, height=0.5), ("rgb",))
    np.testing.assert_allclose(seen["rgb"][0].astype(int), image, atol=1)


@pytest.mark.parametrize("kind", ["vertex_colors", "face_colors"])
def test_ply_colours(tmp_path, kind):
    colors = np.array([[10, 20, 30, 255], [40, 50, 60, 255], [70, 80, 90, 255]], np.uint8)
    colors = colors if kind == "vertex_colors" else colors[:1]
    path = tmp_path / "scan.ply"
    trimesh.Trimesh(TRIANGLE, [[0, 1, 2]], process=False, **{kind: colors}).export(path)
    scene = load_scene(path)
    expected = colors[:, :3] if kind == "vertex_colors" else np.repeat(colors[:, :3], 3, 0)
    np.testing.assert_array_equal(scene.corner_color[0], expected)
    assert scene.textures == () and scene.face_texture[0] == -1


def test_obj_materials(tmp_path, caplog):
    (tmp_path / "m.mtl").write_text(
        "newmtl red\nKd 1 0 0\nnewmtl image\nmap_Kd maps\\lost.png\nKd 0 0.2 0\nnewmtl none\n"
    )
    text = "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 0 1\n"
    text += "usemtl red\nf 1/1 2/2 3/3\nusemtl image\nf 1/1 2/2 4/3\nusemtl none\nf 2/1 3/2 4/3\n"
    (tmp_path / "a.obj").write_text(text)
    with caplog.at_level(logging.WARNING, logger="envs.scans.loading"):
        scene = load_scene(tmp_path / "a.obj")
    assert sorted(map(tuple, scene.corner_color[:, 0])) == [(0, 51, 0), (255, 0, 0), (255, 255, 255)]
    assert "maps/lost.png is missing" in caplog.text


def test_large_textures_are_scaled_down_and_shared_ones_stored_once(tmp_path):
    image = np.full((64, 256, 3), 90, np.uint8)
    room = trimesh.Scene()
    mesh = quad_mesh(image)
    for n in range(3):
        room.add_geometry(mesh, node_name=f"n{n}", geom_name="wall", transform=np.eye(4) + n * np.eye(4, k=3))
    room.export(tmp_path / "room.glb")
    scene = load_scene(tmp_path / "room.glb", max_texture=128)
    assert [texture.shape for texture in scene.textures] == [(32, 128, 3)]
    assert (scene.textures[0] == 90).all()
    assert scene.face_instance.tolist() == [0, 0, 1, 1, 2, 2]
    assert [texture.shape for texture in load_scene(tmp_path / "room.glb").textures] == [(64, 256, 3)]


def test_z_up_is_turned_as_habitat_does(tmp_path):
    path = tmp_path / "scan.ply"
    points = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 10]])
    trimesh.Trimesh(points, [[0, 1, 2]], process=False).export(path)
    scene = load_scene(path, up="z")
    np.testing.assert_array_equal(scene.vertices[scene.faces[0]], [[1, 3, -2], [4, 6, -5], [7, 10, -8]])
    np.testing.assert_array_equal(load_scene(path).vertices, points)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("lost.glb", None, FileNotFoundError, "lost.glb does not exist"),
        ("scan.stl", b"solid", ValueError, r"ends in \.glb, \.gltf, \.obj, \.ply"),
        ("scan.glb", b"", ValueError, "cannot read .*scan.glb"),
        ("scan.glb", b"glTF and then nothing sensible at all", ValueError, "cannot read .*scan.glb"),
        ("scan.gltf", b"{", ValueError, "cannot read .*scan.gltf"),
        ("scan.gltf", b"{}", ValueError, "scan.gltf: it holds no triangles"),
        ("scan.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", ValueError, "scan.obj: it holds no triangles"),
        ("scan.obj", b"\x00\xff nothing", ValueError, "scan.obj"),
        ("scan.ply", b"ply\nformat ascii 1.0\nend_header\n", ValueError, "scan.ply"),
        ("scan.ply", b"mesh", ValueError, "cannot read .*scan.ply"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        load_scene(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_a_missing_buffer_give_one_clear_line(tmp_path):
    path = tmp_path / "scan.glb"
    trimesh.creation.box().export(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cannot read .*scan\.glb"):
        load_scene(path)
    gltf = tmp_path / "scan.gltf"
    write_gltf(trimesh.creation.box(), gltf)
    header = json.loads(gltf.read_text())
    header["buffers"][0]["uri"] = "lost.bin"
    gltf.write_text(json.dumps(header))
    with pytest.raises(ValueError, match=r"lost\.bin is missing"):
        load_scene(gltf)


@pytest.mark.parametrize(("settings", "message"), [({"up": "x"}, "up must be"), ({"max_texture": 0}, "max_texture")])
def test_bad_settings_say_what_is_wrong(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        load_scene(tmp_path / "scan.glb", **settings)


def test_a_house(tmp_path):
    scene = load_scene(write_house(tmp_path / "house.glb"))
    assert (len(scene.faces), scene.face_instance.max() + 1, len(scene.textures)) == (148, 14, 14)
    np.testing.assert_allclose(scene.vertices.min(0), [-0.1, 0, -0.1], atol=1e-6)
    np.testing.assert_allclose(scene.vertices.max(0), [9.1, 2.6, 5.1], atol=1e-6)
    renderer = EmbreeRenderer([scene])
    # Straight down in a free spot: the floor lies at height 0, seen at camera height.
    down = renderer.render([0], [[4.5, 0, 2.5]], [0], Camera(9, hfov=10), ("depth", "normal"), pitch=[-np.pi / 2])
    np.testing.assert_allclose(down["depth"], 1.25, atol=1e-5)
    np.testing.assert_allclose(down["normal"][..., 1], 1, atol=1e-6)
    # Over the table, and through the door on to the wall behind it.
    down = renderer.render([0], [[2.5, 0, 1.6]], [0], Camera(9, hfov=10), ("depth",), pitch=[-np.pi / 2])
    np.testing.assert_allclose(down["depth"], 0.5, atol=1e-5)
    seen = renderer.render([0], [[1.5, 0, 3.65]], [-np.pi / 2], Camera(129))
    assert seen["depth"][0, 64, 64] == pytest.approx(7.5, abs=1e-4)
    # In the middle the east wall, at the bottom the floor, left of the door the inner wall, each in its colour.
    for place, name in ((64, 64), "east"), ((128, 64), "floor"), ((60, 10), "inner, long"):
        shades = texture(name).reshape(-1, 3).astype(int)
        assert (shades.min(0) - 1 <= seen["rgb"][0][place]).all() and (seen["rgb"][0][place] <= shades.max(0) + 1).all()
    assert len(np.unique(seen["rgb"].reshape(-1, 3), axis=0)) > 300
