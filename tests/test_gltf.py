from __future__ import annotations

import base64
import io
import itertools
import json
import logging
import math
import struct
import textwrap
from urllib.parse import quote_from_bytes

import DracoPy
import numpy as np
import pytest
from gltf_files import TRIANGLE, UV, Gltf, plain, png, quad, textured
from PIL import Image

from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.scans.gltf import MATERIALS
from envs.scans.loading import load_scene
from envs.scene import Sampler

# 8 x 8 pixels, four flat blocks: red, green / blue, white. Encoded with basisu 2.10.
KTX2 = {
    "etc1s": (
        "q0tUWCAyMLsNChoKAAAAAAEAAAAIAAAACAAAAAAAAAAAAAAAAQAAAAEAAAABAAAAaAAAACwAAACUAAAAJAAAALgAAAAAAAAAjwAAAAAAAABHAQAAAAAA"
        "AAIAAAAAAAAAAAAAAAAAAAAsAAAAAAAAAAIAKACjAQIAAwMAAAgAAAAAAAAAAAA/AAAAAAAAAAAA/////x8AAABLVFh3cml0ZXIAQmFzaXMgVW5pdmVy"
        "c2FsIDIuMTAAAAQAAgAxAAAACQAAAC0AAAAAAAAAAAAAAAAAAAACAAAAAAAAAAAAAAAfQNSAAQAAAMjmBUHDAEwEAAAAAAAgATqAqAEDAAAAkGiCDxwA"
        "EQACAAAAIE0geEodrKqqqlJVVVUFAMFEAAAAAAAA8l+NAJgBAAAAAABAwggwIUAAAAAABJFTCgAmAAAAAAAAEEAAhAE="
    ),
    "uastc": (
        "q0tUWCAyMLsNChoKAAAAAAEAAAAIAAAACAAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAaAAAACwAAACUAAAALAAAAAAAAAAAAAAAAAAAAAAAAADAAAAAAAAA"
        "AEAAAAAAAAAAQAAAAAAAAAAsAAAAAAAAAAIAKACmAQIAAwMAABAAAAAAAAAAAAB/AAAAAAAAAAAA/////x8AAABLVFh3cml0ZXIAQmFzaXMgVW5pdmVy"
        "c2FsIDIuMTAAAAQAAAB/fwAAF9nD499cIQAAAAAAAAAAANcD2ePfDCsAAAAAAAAAAADXwwP53wxhAQAAAAAAAAAAl5ub+x9zzgEAAAAAAAAAAA=="
    ),
}
BLOCKS = np.kron(np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 220]]]), np.ones((4, 4, 1)))


def corners(scene):
    return scene.vertices[scene.faces]


def looks(path, size=8, **settings):
    """What a camera sees before which a unit square of the file fills the picture."""
    camera = Camera(size=size, height=0.5)
    return (
        EmbreeRenderer([load_scene(path, **settings)]).render([0], [[0.5, 0, 0.5]], [0], camera)["rgb"][0].astype(int)
    )


def picture_on_wall(image, material=None, **texture):
    """A unit square with the picture."""
    file = Gltf()
    file.put("images", {"bufferView": file.view(png(image)), "mimeType": "image/png"})
    file.put("textures", {"source": 0, **texture}).put("materials", material or textured())
    return file


def test_matrices_nest_and_mirrors_keep_the_front(tmp_path):
    scale, turn = np.diag([2.0, 3.0, -1.0, 1.0]), np.eye(4)
    turn[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    shift = np.eye(4)
    shift[:3, 3] = [5, 6, 7]
    file = Gltf()
    file.put("meshes", {"primitives": [file.part()]})
    file.put(
        "nodes",
        {"matrix": (shift @ turn).T.ravel().tolist(), "children": [1]},
        {"scale": [2, 3, -1], "children": [2]},
        {"mesh": 0, "translation": [1, 0, 0]},
    )
    scene = load_scene(file.save(tmp_path / "a.gltf"))
    world = shift @ turn @ scale
    expected = (TRIANGLE + np.array([1, 0, 0])) @ world[:3, :3].T + world[:3, 3]
    found = corners(scene)[0]
    assert {tuple(v) for v in found.round(5).tolist()} == {tuple(v) for v in expected.round(5).tolist()}
    normal = np.cross(found[1] - found[0], found[2] - found[0])
    # The front of the triangle looked along +Z; inverse transpose of the matrix, as for all normals.
    np.testing.assert_allclose(
        normal / np.linalg.norm(normal), np.linalg.inv(world[:3, :3]).T @ [0, 0, 1] / 1.0, atol=1e-6
    )


@pytest.mark.parametrize("mode", [4, 5, 6])
@pytest.mark.parametrize("indexed", [np.uint8, np.uint16, np.uint32, None])
def test_every_triangle_mode_with_every_kind_of_index(tmp_path, mode, indexed):
    # A fan, a strip and a list over the same square: two triangles that face +Z.
    order = {4: [0, 1, 2, 0, 2, 3], 5: [0, 1, 3, 2], 6: [0, 1, 2, 3]}[mode]
    positions = quad()[0]
    file = Gltf()
    if indexed is None:
        file.alone(file.part(positions=positions[order], indices=None, mode=mode))
    else:
        file.alone(file.part(positions=positions, indices=np.array(order, indexed), mode=mode))
    scene = load_scene(file.save(tmp_path / "a.glb"))
    found = corners(scene)
    normal = np.cross(found[:, 1] - found[:, 0], found[:, 2] - found[:, 0])
    np.testing.assert_allclose(normal, [[0, 0, 1]] * 2, atol=1e-6)
    assert {tuple(v) for v in found.reshape(-1, 3).tolist()} == {tuple(v) for v in positions.tolist()}


def test_lines_and_points_are_passed_over(tmp_path):
    file = Gltf()
    file.alone(file.part(mode=1, indices=[0, 1]), file.part(mode=0), file.part())
    assert len(load_scene(file.save(tmp_path / "a.gltf")).faces) == 1


def test_quantised_strided_and_sparse_accessors(tmp_path):
    file = Gltf()
    file.header["extensionsRequired"] = ["KHR_mesh_quantization"]
    file.put("images", {"bufferView": file.view(png(np.zeros((2, 2, 3), np.uint8)))}).put("textures", {"source": 0})
    file.put("materials", textured())
    part = file.part(
        0,
        uv=np.array([[0, 0], [65535, 16384], [32768, 65535]], np.uint16),
        positions=np.array([[0, 0, 0], [100, 0, 0], [0, 50, 0]], np.int16),
    )
    # Positions and colours in one view, one after the other for each vertex.
    rows = b"".join(v.tobytes() + bytes([10 * i, 20, 30, 255]) for i, v in enumerate(TRIANGLE))
    view = file.view(rows, byteStride=16)
    mixed = file.part()
    for name, offset, kind, component in (("POSITION", 0, "VEC3", 5126), ("COLOR_0", 12, "VEC4", 5121)):
        entry = {"bufferView": view, "byteOffset": offset, "type": kind, "componentType": component, "count": 3}
        file.header["accessors"].append(entry | {"normalized": component == 5121})
        mixed["attributes"][name] = len(file.header["accessors"]) - 1
    sparse = {
        "count": 1,
        "indices": {"bufferView": file.view(np.array([2], np.uint16).tobytes()), "componentType": 5123},
    }
    sparse["values"] = {"bufferView": file.view(np.array([[0, 9, 0]], np.float32).tobytes())}
    changed = file.part()
    file.header["accessors"][changed["attributes"]["POSITION"]]["sparse"] = sparse
    file.alone(part, mixed, changed, scale=[0.01, 0.01, 0.01])
    scene = load_scene(file.save(tmp_path / "a.glb"))
    np.testing.assert_allclose(corners(scene)[0], [[0, 0, 0], [1, 0, 0], [0, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(scene.corner_uv[0], [[0, 0], [1, 0.25], [0.5, 1]], atol=1e-4)
    np.testing.assert_array_equal(scene.corner_color[1], [[0, 20, 30], [10, 20, 30], [20, 20, 30]])
    np.testing.assert_allclose(corners(scene)[2], 0.01 * np.array([[0, 0, 0], [1, 0, 0], [0, 9, 0]]), atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
def test_vertex_colours_of_every_kind(tmp_path, dtype):
    full = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    color = (np.array([[1, 0, 0, 1], [0, 0.2, 0, 1], [0, 0, 0.6, 1]]) * full).astype(dtype)
    file = Gltf()
    file.alone(file.part(0, color=color)).put("materials", plain(1.0, 0.5, 1.0, 1.0))
    scene = load_scene(file.save(tmp_path / "a.gltf"))
    np.testing.assert_allclose(scene.corner_color[0].astype(int), [[255, 0, 0], [0, 26, 0], [0, 0, 153]], atol=1)


@pytest.mark.parametrize(("wrap", "name"), [(10497, "repeat"), (33071, "clamp"), (33648, "mirror")])
def test_wrap_modes_beyond_the_edges(tmp_path, wrap, name):
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = picture_on_wall(image, sampler=0).put("samplers", {"wrapS": wrap, "wrapT": 33071})
    positions, uv, indices = quad()
    # The picture takes the middle third of the width.
    file.alone(file.part(0, uv=(uv * [3, 1] - [1, 0]).astype(np.float32), positions=positions, indices=indices))
    seen = looks(file.save(tmp_path / "a.glb"), 12)[1::3]
    middle = {"repeat": image, "clamp": image, "mirror": image}[name]
    left = {"repeat": image, "clamp": image[:, [0] * 4], "mirror": image[:, ::-1]}[name]
    right = {"repeat": image, "clamp": image[:, [3] * 4], "mirror": image[:, ::-1]}[name]
    # 12 columns over 3 pictures of 4: each sees a texel's centre; of the rows, every third does.
    rows = np.concatenate([left, middle, right], axis=1).astype(int)
    np.testing.assert_allclose(seen, rows, atol=1)


FILTERS = {
    (): ("linear", "linear", "linear"),
    (9728, 9728): ("nearest", "nearest", "none"),
    (9729, 9729): ("linear", "linear", "none"),
    (9728, 9984): ("nearest", "nearest", "nearest"),
    (9729, 9985): ("linear", "linear", "nearest"),
    (9728, 9986): ("nearest", "nearest", "linear"),
    (9729, 9987): ("linear", "linear", "linear"),
}


@pytest.mark.parametrize("codes", FILTERS)
@pytest.mark.parametrize("materials", MATERIALS)
def test_filters_of_samplers(tmp_path, codes, materials):
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    sampler = dict(zip(("magFilter", "minFilter"), codes, strict=False))
    file = picture_on_wall(image, sampler=0).put("samplers", sampler)
    positions, uv, indices = quad()
    file.alone(file.part(0, uv=uv, positions=positions, indices=indices)).save(tmp_path / "a.glb")
    assert load_scene(tmp_path / "a.glb", materials=materials).samplers == (
        Sampler("repeat", "repeat", *FILTERS[codes]),
    )
    if codes and codes[0] == 9728:
        # Four pixels see each texel, none of them a mixture.
        np.testing.assert_array_equal(looks(tmp_path / "a.glb", 16), image.repeat(4, 0).repeat(4, 1))


def test_texture_transform_and_second_coordinates(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[1, 6] = 255
    angle = 0.3
    change = {"offset": [0.25, -0.5], "rotation": angle, "scale": [2.0, 0.5], "texCoord": 1}
    file = picture_on_wall(image, textured(0, extensions={"KHR_texture_transform": change}))
    file.alone(file.part(0, uv=np.zeros((3, 2), np.float32), TEXCOORD_1=UV))
    scene = load_scene(file.save(tmp_path / "a.glb"))
    c, s = math.cos(angle), math.sin(angle)
    # The extension's own text: translation x rotation x scale, counter-clockwise for v pointing down.
    u, v = 2.0 * UV[:, 0], 0.5 * UV[:, 1]
    expected = np.stack([c * u + s * v + 0.25, -s * u + c * v - 0.5], axis=1)
    np.testing.assert_allclose(scene.corner_uv[0], expected, atol=1e-6)


def test_single_sided_faces_are_seen_from_the_front_only(tmp_path):
    positions, _, indices = quad()
    near, far = positions + np.float32([0, 0, 0]), positions * 3 + np.float32([-1, -1, -2])
    file = Gltf()
    file.put("materials", plain(1, 0, 0, 1), plain(0, 1, 0, 1) | {"doubleSided": True}, plain(0, 0, 1, 1))
    backwards = indices[::-1]
    file.alone(
        file.part(0, positions=near, indices=backwards),  # faces away: passed through
        file.part(1, positions=near + np.float32([0, 0, -0.5]), indices=backwards),  # double-sided: seen
        file.part(2, positions=far, indices=indices),
    )
    path = file.save(tmp_path / "a.glb")
    scene = load_scene(path)
    camera = Camera(size=9, hfov=40, height=0.5)
    pose = ([0], [[0.5, 0, 1.0]], [0], camera)
    seen = EmbreeRenderer([scene]).render(*pose, ("rgb", "depth"))
    np.testing.assert_array_equal(seen["rgb"][0, 4, 4], [0, 255, 0])
    np.testing.assert_allclose(seen["depth"][0, 4, 4], 1.5, atol=1e-4)
    both = EmbreeRenderer([load_scene(path, culling=False)]).render(*pose, ("rgb", "depth"))
    np.testing.assert_array_equal(both["rgb"][0, 4, 4], [255, 0, 0])
    np.testing.assert_allclose(both["depth"][0, 4, 4], 1.0, atol=1e-4)
    # From the other side the first square shows its front.
    behind = EmbreeRenderer([scene]).render([0], [[0.5, 0, -0.3]], [math.pi], camera, ("rgb",))
    np.testing.assert_array_equal(behind["rgb"][0, 4, 4], [255, 0, 0])


def test_two_single_sided_faces_back_to_back_are_a_sheet_with_two_pictures(tmp_path):
    positions, _, indices = quad()
    file = Gltf().put("materials", plain(1, 0, 0, 1), plain(0, 0, 1, 1))
    other = [[1, 0, 2], [2, 0, 3]]
    file.alone(
        file.part(0, positions=positions, indices=indices),
        file.part(1, positions=positions, indices=[*other[0], *other[1]]),
    )
    renderer = EmbreeRenderer([load_scene(file.save(tmp_path / "a.glb"))])
    camera = Camera(size=32, hfov=40, height=0.5)
    seen = renderer.render([0, 0], [[0.5, 0, 1.0], [0.5, 0, -1.0]], [0, math.pi], camera)
    assert (seen["rgb"][0] == [255, 0, 0]).all() and (seen["rgb"][1] == [0, 0, 255]).all()
    np.testing.assert_allclose(seen["depth"], 1.0, atol=1e-4)


def test_masked_texels_are_holes_and_blended_ones_are_not(tmp_path):
    positions, uv, indices = quad()
    image = np.full((8, 8, 4), 255, np.uint8)
    image[:, :4, 3] = 100  # the left half is mostly transparent
    for cutoff, hole in ((0.5, True), (0.3, False), (None, False)):
        how = {"alphaMode": "BLEND"} if cutoff is None else {"alphaMode": "MASK", "alphaCutoff": cutoff}
        file = picture_on_wall(image, textured() | how).put("materials", plain(1, 0, 0, 1))
        file.alone(
            file.part(0, uv=uv, positions=positions, indices=indices),
            file.part(1, positions=positions * 4 - np.float32([1.5, 1.5, 1]), indices=indices),
        )
        path = file.save(tmp_path / "a.glb")
        seen = looks(path)
        assert (seen[:, 4:] == 255).all()
        assert (seen[:, :4] == ([255, 0, 0] if hole else [255, 255, 255])).all()


def test_materials_as_habitat_sim_draws_them(tmp_path):
    positions, uv, indices = quad()
    image = np.full((8, 8, 4), 255, np.uint8)
    image[..., 3] = 10
    file = picture_on_wall(image, textured(0, texCoord=1) | {"alphaMode": "MASK", "doubleSided": True})
    other = np.full_like(uv, 0.25)
    file.alone(
        file.part(0, uv=uv, positions=positions, indices=indices, TEXCOORD_1=other),
        file.part(0, positions=positions + np.float32([2, 0, 0]), indices=indices),
    )
    path = file.save(tmp_path / "a.glb")
    standard, habitat = load_scene(path), load_scene(path, materials="habitat")
    # The standard: second coordinates, both sides, a hole; without coordinates no texture.
    np.testing.assert_allclose(standard.corner_uv[:2], 0.25)
    assert standard.one_sided is None and standard.cutoff.tolist() == [128, 128, 0, 0]
    assert standard.face_texture.tolist() == [0, 0, -1, -1]
    # habitat-sim: first coordinates, the front only, no hole; without coordinates the first texel.
    np.testing.assert_allclose(habitat.corner_uv[:2], uv[np.reshape(indices, (2, 3))])
    np.testing.assert_allclose(habitat.corner_uv[2:], 0.0)
    assert habitat.one_sided.all() and habitat.cutoff is None
    assert (habitat.face_texture >= 0).all()
    with pytest.raises(ValueError, match="materials=obj: choose from gltf, habitat"):
        load_scene(path, materials="obj")


@pytest.mark.parametrize("codec", ["etc1s", "uastc"])
def test_basis_universal_textures(tmp_path, codec):
    positions, uv, indices = quad()
    file = Gltf()
    file.header["extensionsRequired"] = ["KHR_texture_basisu"]
    file.put("images", {"bufferView": file.view(base64.b64decode(KTX2[codec])), "mimeType": "image/ktx2"})
    file.put("textures", {"extensions": {"KHR_texture_basisu": {"source": 0}}}).put("materials", textured())
    file.alone(file.part(0, uv=uv, positions=positions, indices=indices))
    np.testing.assert_allclose(looks(file.save(tmp_path / "room.basis.glb")), BLOCKS, atol=3)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("place", ["embedded", "data uri", "beside"])
def test_images_of_every_kind_and_place(tmp_path, kind, place):
    image = np.kron(
        np.array([[[250, 10, 20], [10, 240, 10]], [[0, 0, 200], [99, 99, 99]]], np.uint8), np.ones((8, 8, 1), np.uint8)
    )
    stream = io.BytesIO()
    options = {"jpeg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}, "png": {}}[kind]
    Image.fromarray(image).save(stream, kind, **options)
    data = stream.getvalue()
    positions, uv, indices = quad()
    file = Gltf()
    if place == "embedded":
        file.put("images", {"bufferView": file.view(data), "mimeType": f"image/{kind}"})
    elif place == "data uri":
        file.put("images", {"uri": f"data:image/{kind};base64," + base64.b64encode(data).decode()})
    else:
        (tmp_path / f"the skin.{kind}").write_bytes(data)
        file.put("images", {"uri": f"the%20skin.{kind}"})
    texture = {"extensions": {"EXT_texture_webp": {"source": 0}}} if kind == "webp" else {"source": 0}
    file.put("textures", texture).put("materials", textured())
    file.alone(file.part(0, uv=uv, positions=positions, indices=indices))
    np.testing.assert_allclose(looks(file.save(tmp_path / "a.gltf"), 16), image, atol=8 if kind == "jpeg" else 1)


def test_draco_compressed_meshes(tmp_path):

    positions, uv, indices = quad()
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = DracoPy.encode(
        positions,
        np.array(indices).reshape(-1, 3),
        quantization_bits=16,
        tex_coord=uv.astype(np.float64),
        preserve_order=True,
    )
    decoded = DracoPy.decode(data)
    unique = {attribute["attribute_type"]: attribute["unique_id"] for attribute in decoded.attributes}
    file = picture_on_wall(image)
    file.header["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    part = file.part(0, uv=uv, positions=positions, indices=indices)
    for accessor in file.header["accessors"]:
        del accessor["bufferView"]  # all data are in the compressed part
    kinds = DracoPy.AttributeType
    attributes = {"POSITION": unique[kinds.POSITION], "TEXCOORD_0": unique[kinds.TEX_COORD]}
    part["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": file.view(data), "attributes": attributes}}
    np.testing.assert_allclose(looks(file.alone(part).save(tmp_path / "a.glb")), image, atol=2)


def test_instances_of_a_node(tmp_path):
    file = Gltf()
    file.put("meshes", {"primitives": [file.part()]})
    moves = file.accessor(np.array([[0, 0, 0], [0, 0, 5]], np.float32))
    file.put("nodes", {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": moves}}}})
    assert sorted(corners(load_scene(file.save(tmp_path / "a.gltf")))[:, 0, 2].tolist()) == [0, 5]


def test_a_file_without_scenes_shows_all_roots(tmp_path):
    file = Gltf()
    del file.header["scenes"], file.header["scene"]
    file.put("meshes", {"primitives": [file.part()]})
    file.put("nodes", {"children": [1]}, {"mesh": 0}, {"mesh": 0, "translation": [9, 0, 0]})
    assert len(load_scene(file.save(tmp_path / "a.gltf")).faces) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "requires EXT_meshopt_compression.*gltfpack"),
        ({"asset": {"version": "1.0"}}, "glTF 1.0"),
        ({"nodes": [{"children": [0]}]}, "node 0 hangs below itself"),
        ({"accessors": []}, "is it a complete"),
    ],
)
def test_what_is_not_read_is_told_in_one_line(tmp_path, change, message):
    file = Gltf()
    file.alone(file.part())
    path = file.save(tmp_path / "a.gltf")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"a\.gltf.*{message}") as caught:
        load_scene(path)
    assert "\n" not in str(caught.value)


def test_an_index_beyond_the_vertices_is_told(tmp_path):
    file = Gltf()
    file.alone(file.part(indices=[0, 1, 7]))
    with pytest.raises(ValueError, match="points beyond the 3 vertices"):
        load_scene(file.save(tmp_path / "a.gltf"))


def test_a_broken_basis_texture_warns_and_falls_back(tmp_path, caplog):
    file = Gltf()
    file.put(
        "images", {"bufferView": file.view(base64.b64decode(KTX2["uastc"])[:100])}, {"bufferView": file.view(b"sB?")}
    )
    file.put("textures", {"source": 0}, {"source": 1}).put("materials", textured(0, (0.2, 0.4, 0.6, 1.0)), textured(1))
    file.alone(*(file.part(n, UV) for n in range(2)))
    with caplog.at_level(logging.WARNING, logger="envs.scans.loading"):
        scene = load_scene(file.save(tmp_path / "a.gltf"))
    assert scene.textures == () and scene.corner_color[0, 0].tolist() == [51, 102, 153]
    assert sum("Basis Universal data cannot be read" in r.getMessage() for r in caplog.records) == 2


def test_grey_and_palette_images_with_sixteen_bits(tmp_path):
    positions, uv, indices = quad()
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    palette = Image.fromarray(np.tile(np.arange(8, dtype=np.uint8), (8, 1)), "P")
    palette.putpalette(list(itertools.chain.from_iterable((30 * i, 255 - 30 * i, 7) for i in range(8))))
    for picture, expected in (
        (Image.fromarray(grey), np.repeat((grey >> 8)[..., None], 3, axis=2)),
        (palette, np.tile([[30 * i, 255 - 30 * i, 7] for i in range(8)], (8, 1, 1))),
    ):
        stream = io.BytesIO()
        picture.save(stream, "png")
        file = Gltf().put("textures", {"source": 0}).put("materials", textured())
        file.put("images", {"bufferView": file.view(stream.getvalue())})
        file.alone(file.part(0, uv=uv, positions=positions, indices=indices))
        np.testing.assert_allclose(looks(file.save(tmp_path / "a.glb")), expected, atol=1)


def test_corners_that_are_not_finite_take_only_their_faces_with_them(tmp_path, caplog):
    positions, uv, indices = quad()
    positions[3] = np.nan
    uv[1] = np.inf
    file = picture_on_wall(np.zeros((2, 2, 3), np.uint8))
    file.alone(file.part(0, uv=uv, positions=positions, indices=indices))
    with caplog.at_level(logging.WARNING, logger="envs.scans.loading"):
        scene = load_scene(file.save(tmp_path / "a.glb"))
    assert len(scene.faces) == 1 and "1 faces with corners that are not finite" in caplog.text
    EmbreeRenderer([scene])


# -- what other programs write ---------------------------------------------------------------------------------------


def one():
    """A file with one triangle."""
    file = Gltf()
    return file.alone(file.part())


def morphed(*weights, node=None):
    """A triangle with two morph targets, which move it by 2 m along z and by 3 m along x."""
    file = Gltf()
    part = file.part()
    moves = (np.array([[0, 0, 2]] * 3, np.float32), np.array([[3, 0, 0]] * 3, np.float32))
    part["targets"] = [{"POSITION": file.accessor(move, normalized=False)} for move in moves] if weights else []
    file.alone(part)
    file.header["meshes"][0]["weights"] = list(weights)
    file.header["nodes"][0] |= {} if node is None else {"weights": node}
    return file


@pytest.mark.parametrize(
    ("file", "moved"),
    [
        (morphed(0.0, 0.0), (0, 0, 0)),
        (morphed(0.5, -1.0), (-3, 0, 1)),
        (morphed(0.5, -1.0, node=[1.0, 0.0]), (0, 0, 2)),
    ],
)
def test_morph_targets_stand_at_their_weights(tmp_path, file, moved):
    """Formerly all weights counted as 0."""
    scene = load_scene(file.save(tmp_path / "a.glb"))
    assert np.allclose(scene.vertices[scene.faces[0]], TRIANGLE + moved)


@pytest.mark.parametrize("suffix", [".gltf", ".glb"])
def test_a_first_buffer_of_its_own_is_not_the_binary_chunk(tmp_path, suffix):
    """And data URIs may be plain, with percent signs, or base64 with line breaks; plain ones were read as base64."""
    file = one()
    plain = "data:application/octet-stream," + quote_from_bytes(file.blob)
    lines = "DATA:;Base64," + "%0A".join(textwrap.wrap(base64.b64encode(file.blob).decode(), 20))
    (tmp_path / "my data.bin").write_bytes(file.blob)
    for uri in (plain, lines, "my%20data.bin", "my data.bin", ".\\My%20Data.BIN"):
        header = json.dumps(file.header | {"buffers": [{"byteLength": len(file.blob), "uri": uri}]}).encode()
        header += b" " * (-len(header) % 4)
        chunks = struct.pack("<II", len(header), 0x4E4F534A) + header + struct.pack("<II", 400, 0x004E4942) + bytes(400)
        whole = b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks
        (tmp_path / f"a{suffix}").write_bytes(whole if suffix == ".glb" else header)
        scene = load_scene(tmp_path / f"a{suffix}")
        assert np.allclose(scene.vertices[scene.faces[0]], TRIANGLE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scene": -1}, r"names scenes\[-1\], but has 1"),
        ({"scene": True}, r"names scenes\[True\]"),
        ({"scene": 7}, r"names scenes\[7\]"),
        ({"scenes": [{"nodes": [-1]}]}, r"names nodes\[-1\]"),
        ({"nodes": [{"mesh": -1}]}, r"names meshes\[-1\]"),
        ({"nodes": [{"children": [-1]}]}, r"names nodes\[-1\]"),
        ({"nodes": [{"mesh": 0, "matrix": [1, 0, 0, 5, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}]}, "written by rows"),
        ({"nodes": [{"mesh": 0, "translation": [1e17, 0, 0]}]}, "too far for exact places"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": -1}}]}]}, r"names accessors\[-1\]"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": -1}]}]}, r"names materials\[-1\]"),
        ({"bufferViews": [{"buffer": -1, "byteLength": 36}]}, r"names buffers\[-1\]"),
        ({"bufferViews": [{"buffer": 0, "byteOffset": -12, "byteLength": 12}]}, "begins at -12"),
        ({"bufferViews": [{"buffer": 0, "byteStride": 4, "byteLength": 36}]}, "a stride of 4 bytes for elements of 12"),
        ({"extensionsUsed": "KHR_x"}, "extensionsUsed is no list"),
    ],
)
def test_numbers_that_name_nothing_are_refused(tmp_path, change, said):
    """Negative ones counted backwards from the last, silently."""
    file = Gltf()
    file.alone({"attributes": {"POSITION": file.accessor(TRIANGLE)}})
    file.header |= change
    with pytest.raises(ValueError, match=said):
        load_scene(file.save(tmp_path / "a.gltf"))


@pytest.mark.parametrize(("indices", "kind"), [(np.int16([0, 1, -1]), 5122), (np.float32([0, 1, 2]), 5126)])
def test_indices_of_other_types_are_refused(tmp_path, indices, kind):
    file = Gltf()
    part = file.part(indices=None)
    entry = {"bufferView": file.view(indices.tobytes()), "componentType": kind, "type": "SCALAR", "count": 3}
    file.header["accessors"].append(entry)
    with pytest.raises(ValueError, match="no whole numbers from 0"):
        load_scene(file.alone(part | {"indices": len(file.header["accessors"]) - 1}).save(tmp_path / "a.glb"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extensionsUsed": ["CESIUM_RTC", "KHR_materials_ior"]}, "uses CESIUM_RTC, which is not read here"),
        ({"scene": None, "scenes": [{"nodes": [0]}, {"nodes": []}]}, "holds 2 scenes and names no default"),
        ({"nodes": [{"mesh": 0, "skin": 0}], "skins": [{"joints": [0]}]}, "1 nodes are moved by skins"),
        ({"extensionsUsed": ["EXT_meshopt_compression", "KHR_materials_ior"]}, None),
    ],
)
def test_what_is_not_shown_is_warned_of(tmp_path, change, said, caplog):
    file = one()
    file.header = {key: value for key, value in (file.header | change).items() if value is not None}
    assert len(load_scene(file.save(tmp_path / "a.glb")).faces) == 1
    assert [said in record.getMessage() for record in caplog.records] == ([True] if said else [])


def test_hidden_nodes_are_not_drawn(tmp_path):
    file = one().put("nodes", {"mesh": 0, "children": [2]}, {"mesh": 0})
    file.header["scenes"] = [{"nodes": [0, 1]}]
    assert len(load_scene(file.save(tmp_path / "a.glb")).faces) == 3
    file.header["nodes"][1]["extensions"] = {"KHR_node_visibility": {"visible": False}}
    assert len(load_scene(file.save(tmp_path / "a.glb")).faces) == 1


@pytest.mark.parametrize(
    ("buffer", "said"),
    [
        ({}, "buffer 0 has no content"),
        ({"extensions": {"EXT_meshopt_compression": {"fallback": True}}}, "compressed by EXT_meshopt_compression"),
        ({"uri": "a%20b.bin"}, "a b.bin is missing"),
        ({"uri": "pointer.bin"}, r"its buffer pointer\.bin: it is a Git LFS pointer"),
    ],
)
def test_buffers_without_content_are_named(tmp_path, buffer, said):
    (tmp_path / "pointer.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0")
    (tmp_path / "a.gltf").write_text(json.dumps(one().header | {"buffers": [{"byteLength": 48, **buffer}]}))
    with pytest.raises(ValueError, match=said):
        load_scene(tmp_path / "a.gltf")
