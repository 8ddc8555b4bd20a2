"""OBJ and PLY files as programs write them: relative indices, other encodings, colours of other types, cut-off text."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from gltf_files import UV, Gltf, png, textured
from PIL import Image

from envs.scans.images import decode_image
from envs.scans.loading import load_scene

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
MAPPED = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
CORNERS = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]]
RED = png(np.full((2, 2, 3), [200, 0, 0], np.uint8))


def read(folder, text, name="a.obj"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_scene(folder / name)


def corners(made):
    return made.vertices[made.faces].reshape(-1, 3).tolist()


@pytest.mark.parametrize(
    "text",
    [
        SQUARE + "f 1 2 3\nf 1 3 4\n",
        SQUARE + "f 1 2 3 4\n",
        SQUARE + "f -4 -3 -2 -1\n",
        # Relative to the vertices so far, not to all of the file.
        SQUARE + "f -4 -3 -2 -1\nv 9 9 9\nv 8 8 8\n",
        "\ufeff" + SQUARE + "f 1 2 3 4\n",
        (SQUARE + "f 1 2 3 4\n").replace("\n", "\r\n"),
        (SQUARE + "f 1 2 3 4\n").replace("\n", "\r"),
        (SQUARE + "f 1 2 3 4\n").replace(" ", "\t"),
        SQUARE + "f 1 2 \\\n3 4\n",
        (SQUARE + "f 1 2 3 4\n").encode("utf-16"),
        SQUARE + "vn 0 0 1\nf 1//1 2//1 3//1\nf 1 3 4\nl 1 2\np 1\nf 1 2\n",
        SQUARE + MAPPED + "f 1/1 2/2 3/3\nf 1 3 4\n",
        SQUARE.replace(" 0\n", " 0 1.0\n") + "f 1 2 3 4\n",
    ],
)
def test_an_obj_file_of_any_writer_is_read(tmp_path, text):
    assert corners(read(tmp_path, text)) == CORNERS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SQUARE + "f 0 1 2\n", r"line 5 is 'f 0 1 2': 0 names none of the 4 before it"),
        (SQUARE + "f -5 1 2\n", r"line 5 is 'f -5 1 2': -5 names none"),
        (SQUARE + "f 1 2 5\n", r"a face names number 5 of 4 vertices"),
        (SQUARE + MAPPED + "f 1/1 2/2 3/9\n", r"a face names number 9 of 4 texture coordinates"),
        (SQUARE.replace("1 1", "1,5 1") + "f 1 2 3\n", r"line 3 is 'v 1,5 1 0', with decimal commas"),
        (SQUARE + "v 1 2\nf 1 2 3\n", r"line 5 is 'v 1 2': a vertex is three numbers"),
    ],
)
def test_a_wrong_line_of_an_obj_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=rf"cannot read \S+a\.obj: {said}"):
        read(tmp_path, text)


@pytest.mark.parametrize(("written", "seen"), [("0.5 0.25 1", (128, 64, 255)), ("128 64 255", (128, 64, 255))])
def test_vertex_colours_of_an_obj_are_fractions_or_bytes(tmp_path, written, seen):
    made = read(tmp_path, SQUARE.replace("0\n", f"0 {written}\n", 3) + "f 1 2 3\n")
    assert (made.corner_color == seen).all()


def test_faces_that_lose_their_texture_are_counted(tmp_path, caplog):
    """Formerly one face without texture coordinates took the texture from all faces of its material, silently."""
    (tmp_path / "my tex.png").write_bytes(RED)
    (tmp_path / "my m.mtl").write_text('newmtl a\nmap_Kd "my tex.png"\n')
    with caplog.at_level(logging.WARNING):
        made = read(tmp_path, f'mtllib "my m.mtl"\n{SQUARE}{MAPPED}usemtl a\nf 1 2 3\nf 1/1 3/3 4/4\nf 1/1 2/2 3/3\n')
    assert sorted(made.face_texture.tolist()) == [-1, 0, 0] and made.textures[0][0, 0, 0] == 200
    assert "1 faces of material a have no texture coordinates" in caplog.text


def test_a_material_file_that_is_none_is_called_what_it_is(tmp_path, caplog):
    (tmp_path / "m.mtl").write_text("version https://git-lfs.github.com/spec/v1\n")
    with caplog.at_level(logging.WARNING):
        read(tmp_path, f"mtllib m.mtl\n{SQUARE}usemtl a\nf 1 2 3\n")
    assert "file m.mtl: it is a Git LFS pointer" in caplog.text


@pytest.mark.parametrize("lost", ["coordinates", "image"])
def test_a_texture_that_a_gltf_cannot_lay_is_warned_of(tmp_path, lost, caplog):
    file = Gltf()
    file.put("images", {"bufferView": file.view(RED), "mimeType": "image/png"}).put("materials", textured(0))
    file.put("textures", {} if lost == "image" else {"source": 0})
    with caplog.at_level(logging.WARNING):
        load_scene(file.alone(file.part(0, UV if lost == "image" else None)).save(tmp_path / "a.glb"))
    assert f"textured faces without {'an image' if lost == 'image' else 'texture coordinates 0'}" in caplog.text


def test_numbers_that_json_does_not_have_are_refused_in_a_gltf(tmp_path):
    """Formerly a colour of NaN was black."""
    file = Gltf().put("materials", {"pbrMetallicRoughness": {"baseColorFactor": [float("nan"), 1, 1, 1]}})
    with pytest.raises(ValueError, match="its JSON holds NaN"):
        load_scene(file.alone(file.part(0)).save(tmp_path / "a.glb"))


def test_colours_beyond_one_are_warned_of(tmp_path, caplog):
    file = Gltf()
    with caplog.at_level(logging.WARNING):
        load_scene(file.alone(file.part(color=np.full((3, 3), 128, np.float32))).save(tmp_path / "a.glb"))
    assert "colours that are not between 0 and 1" in caplog.text


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_texture_of_32_bits_is_refused(tmp_path, mode):
    """Formerly black."""
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).convert(mode).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="32 bits per pixel"):
        decode_image((tmp_path / "a.tiff").read_bytes(), 64)


def ply(kind="uchar", names=("red", "green", "blue"), faces=2, rows=("3 0 1 2", "3 0 2 3"), color="200 100 0"):
    header = ["ply", "format ascii 1.0", "element vertex 4", *(f"property float {n}" for n in "xyz")]
    header += [f"property {kind} {name}" for name in names]
    header += [f"element face {faces}", "property list uchar int vertex_indices", "end_header"]
    places = [line[2:] for line in SQUARE.strip().split("\n")]
    return "\n".join([*header, *(f"{place} {color}" for place in places), *rows, ""])


@pytest.mark.parametrize(
    ("kind", "names", "color"),
    [
        ("uchar", ("red", "green", "blue"), "200 100 0"),
        ("ushort", ("red", "green", "blue"), "51400 25700 0"),
        ("float", ("red", "green", "blue"), "0.7843 0.3922 0"),
        ("uchar", ("diffuse_red", "diffuse_green", "diffuse_blue"), "200 100 0"),
        ("uchar", ("r", "g", "b"), "200 100 0"),
    ],
)
def test_colours_of_a_ply_in_any_type_and_name(tmp_path, kind, names, color):
    assert (read(tmp_path, ply(kind, names, color=color), "a.ply").corner_color == (200, 100, 0)).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ply(faces=3), r"it ends early: it holds 2 of 3 elements 'face'"),
        (ply(rows=("3 0 1 2", "3 0 2 4")), r"a face names vertex 4 of 4"),
        (ply(faces=0, rows=()), r"it has no faces but points alone"),
    ],
)
def test_a_ply_that_is_not_whole_is_refused(tmp_path, text, said):
    """Formerly a file that was cut off lost its last faces, silently."""
    with pytest.raises(ValueError, match=rf"cannot read \S+a\.ply: {said}"):
        read(tmp_path, text, "a.ply")


@pytest.mark.parametrize("sign", ["<", ">"])
@pytest.mark.parametrize("lengths", [(3, 4), (4, 3, 3), (4, 3, 5)])
def test_polygons_of_different_numbers_of_corners_in_binary_are_refused(tmp_path, sign, lengths):
    """(4, 3, 5) was read as three quads of which two were made of counts and halves of others, silently."""
    name = {"<": "little", ">": "big"}[sign]
    head = f"ply\nformat binary_{name}_endian 1.0\nelement vertex 5\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {len(lengths)}\nproperty list uchar int vertex_indices\nend_header\n"
    data = np.zeros((5, 3), f"{sign}f4").tobytes()
    data += b"".join(bytes([n]) + np.arange(n, dtype=f"{sign}i4").tobytes() for n in lengths)
    (tmp_path / "a.ply").write_bytes(head.encode() + data)
    with pytest.raises(ValueError, match=r"vertex_indices of its faces are of different numbers .*triangles alone"):
        load_scene(tmp_path / "a.ply")


def test_elements_of_a_binary_ply_may_be_none_and_of_64_bits(tmp_path):
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz")
    head += "element face 1\nproperty int64 id\nproperty list uchar int vertex_indices\n"
    head += "element strip 0\nproperty list int int vertex_indices\nend_header\n"
    data = np.eye(3).tobytes() + bytes(8) + b"\x03" + np.arange(3, dtype="<i4").tobytes()
    assert corners(read(tmp_path, head.encode() + data, "a.ply")) == np.eye(3).tolist()


@pytest.mark.parametrize("color", ["red", "nan 0 0", "1e40 0 0", "spectral a.rfl"])
def test_a_colour_that_is_not_read_is_warned_of(tmp_path, color, caplog):
    """It was white without a word."""
    (tmp_path / "a.mtl").write_text(f"newmtl a\nKd {color}\n")
    (tmp_path / "a.obj").write_text("mtllib a.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert len(load_scene(tmp_path / "a.obj").faces) == 1
    (record,) = caplog.records
    assert f"the colour of material a is '{color}', which is not read" in record.getMessage()
