"""Labels against closed forms, and the rendered dataset."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from configs.label_pictures import colours, likeliest
from envs.apartments.generator import CLASS_NAMES, ROOM_KINDS
from envs.contact_sheets import NAMES, choose_views, sheet
from envs.navgrid.grid import NavGrid
from envs.render import Building, RenderSettings, find_buildings, render_building, render_dataset
from envs.rendering.renderer import make_renderer
from envs.scans.loading import load_scene
from envs.scene import Room
from envs.taskonomy import class_labels as classes
from envs.taskonomy import geometry_labels as geometry
from envs.taskonomy import image_labels as image
from envs.taskonomy.dataset import DOMAINS, RenderedView, Viewpoint, file_path, is_written, point_info
from envs.taskonomy.narf import keypoints3d
from envs.taskonomy.png import encode_png
from envs.taskonomy.viewpoints import SAMPLERS, sample_fov, sample_pitch

HFOV = 60.0


def plane(size: int, normal, offset: float, hfov: float = HFOV):
    """Depth and normals of the plane normal . P = -offset (camera frame, normal towards the camera)."""
    rays = geometry.pixel_rays(size, hfov).astype(np.float64)
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    depth = -offset / (rays @ normal)
    depth = np.where((depth > 0) & (depth < 100), depth, 0.0).astype(np.float32)
    return depth, np.broadcast_to(normal, (size, size, 3)).astype(np.float32) * (depth > 0)[..., None]


def nearest(*surfaces):
    """What of several surfaces is seen."""
    depths = np.stack([np.where(d > 0, d, np.inf) for d, _ in surfaces])
    first = depths.argmin(0)
    rows = np.indices(first.shape)
    depth = depths[(first, *rows)]
    normal = np.stack([n for _, n in surfaces])[(first, *rows)]
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32), normal


def farthest(*surfaces):
    """The inside of the intersection of several half-spaces' complements: a concave corner's mirror image."""
    depths = np.stack([np.where(d > 0, d, 0.0) for d, _ in surfaces])
    first = depths.argmax(0)
    rows = np.indices(first.shape)
    return depths[(first, *rows)], np.stack([n for _, n in surfaces])[(first, *rows)]


def sphere(size: int, radius: float, distance: float, inside: bool = False, axis=(1.0, 1.0, 1.0)):
    """A sphere on the optical axis; with a zero in `axis` a cylinder along that direction."""
    rays = geometry.pixel_rays(size, HFOV).astype(np.float64)
    across, centre = rays * axis, np.array([0.0, 0.0, distance])
    a, b, c = (across**2).sum(-1), across @ centre, distance**2 - radius**2
    root = b * b - a * c
    depth = np.where(root > 0, (b + (1 if inside else -1) * np.sqrt(np.maximum(root, 0))) / a, 0.0)
    normal = (across * depth[..., None] - centre) / radius * (-1 if inside else 1)
    return depth.astype(np.float32), (normal * (depth > 0)[..., None]).astype(np.float32)


# Depths, mask, normal, reshading.


def test_depth_of_a_facing_plane_is_constant_and_in_512ths_of_a_metre():
    depth, _ = plane(64, (0, 0, -1), 3.0)
    assert (geometry.depth_zbuffer(depth) == 1536).all()


def test_invalid_depth_is_65535_in_both_depths_and_zero_in_the_mask():
    depth = np.full((16, 16), 2.0, np.float32)
    depth[0, 0], depth[0, 1], depth[0, 2] = 0.0, 128.0, 90.0
    for code in (geometry.depth_zbuffer(depth), geometry.depth_euclidean(depth, HFOV)):
        assert (code == 65535).sum() == 2
        assert code[0, 0] == code[0, 1] == 65535
    mask = geometry.mask_valid(depth)
    assert mask.dtype == np.uint8 and (mask == 0).sum() == 2 and mask[0, 2] == 255


def test_euclidean_depth_is_planar_depth_times_the_length_of_the_ray():
    depth, _ = plane(512, (0, 0, -1), 4.0)
    ratio = geometry.depth_euclidean(depth, HFOV) / geometry.depth_zbuffer(depth)
    assert ratio[256, 256] == pytest.approx(1.0, abs=1e-3)
    corner = math.sqrt(1 + 2 * (math.tan(math.radians(30)) * 511 / 512) ** 2)
    assert ratio[0, 0] == pytest.approx(corner, abs=1e-3)
    assert corner == pytest.approx(1.291, abs=2e-3)


def test_euclidean_depth_inside_a_sphere_around_the_camera_is_constant():
    depth, _ = sphere(64, 5.0, 0.0, inside=True)
    assert (geometry.depth_euclidean(depth, HFOV) == 2560).all()


@pytest.mark.parametrize(
    ("normal", "expected"),
    [
        ((0, 0, -1), (128, 128, 0)),
        ((0, -1, 0), (128, 0, 128)),
        ((0, 1, 0), (128, 255, 128)),
        ((1, 0, 0), (255, 128, 128)),
        ((-1, 0, 0), (0, 128, 128)),
    ],
    ids=["wall ahead", "floor", "ceiling", "wall on the left", "wall on the right"],
)
def test_normal_colours(normal, expected):
    depth, normals = plane(32, normal, 1.0)
    assert {tuple(c) for c in geometry.normal(normals, depth)[depth > 0].tolist()} == {expected}


def test_normal_is_grey_where_nothing_is_hit_and_decodes_to_unit_length():
    depth, normals = sphere(64, 0.5, 2.0)
    code = geometry.normal(normals, depth)
    assert (code[depth == 0] == 128).all()
    assert abs(int(code[32, 32, 0]) - 127.5) <= 4 and code[32, 32, 2] <= 1
    length = np.linalg.norm(code[depth > 0] / 127.5 - 1.0, axis=1)
    assert 0.99 < length.min() and length.max() < 1.01


def test_camera_axes_turn_left_and_look_up():
    np.testing.assert_allclose(geometry.camera_axes(0.0, 0.0), [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-7)
    np.testing.assert_allclose(geometry.camera_axes(math.pi / 2, 0.0)[2], [-1, 0, 0], atol=1e-7)
    axes = geometry.camera_axes(0.7, 0.4)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(axes) == pytest.approx(1.0) and axes[2, 1] == pytest.approx(math.sin(0.4))


@pytest.mark.parametrize(("distance", "expected"), [(1.0, 255), (2.19, 255), (3.0, 192), (5.0, 99)])
def test_reshading_of_a_facing_wall(distance, expected):
    depth, normals = plane(512, (0, 0, -1), distance)
    code = geometry.reshading(depth, normals, HFOV)
    assert abs(int(code[256, 256, 0]) - expected) <= 1
    assert (code == code[..., :1]).all()


def test_reshading_fades_at_grazing_angles_and_is_13_where_nothing_is_hit():
    depth, normals = plane(512, (0, -1, 0.0), 0.02)
    code = geometry.reshading(depth, normals, HFOV)[..., 0]
    assert code[257, 256] < 5 < code[500, 256]
    assert (code[depth == 0] == geometry.LAMP_BACKGROUND).all()


# Edges and keypoints.


def grey(value: np.ndarray) -> np.ndarray:
    return np.repeat(np.floor(value * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)


def test_edge_texture_of_a_constant_is_zero_and_of_a_step_peaks_at_0183():
    assert not image.edge_texture(np.full((64, 64, 3), 77, np.uint8)).any()
    step = grey(np.broadcast_to(np.arange(512) >= 256, (512, 512)).astype(float))
    edges = image.edge_texture(step)
    assert edges[100:400].max() == pytest.approx(0.183 * 65535, rel=5e-3)
    assert not edges[0].any() and not edges[:, -1].any()


def test_gradient_of_a_ramp_is_root_two_times_its_slope():
    ramp = np.broadcast_to(0.01 * np.arange(32, dtype=np.float32), (32, 32)).copy()
    np.testing.assert_allclose(image.gradient_magnitude(ramp)[:, 1:-1], math.sqrt(2) * 0.01, rtol=1e-4)
    np.testing.assert_allclose(image.gradient_magnitude(image.smooth(ramp, 1.0))[:, 5:-5], 0.0141421, rtol=1e-3)


def test_edge_texture_means_the_same_at_every_size():
    step = {
        size: image.edge_texture(grey(np.broadcast_to(np.arange(size) >= size // 2, (size, size)).astype(float)))
        for size in (512, 128)
    }
    fine = step[512].reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert step[128][10:-10].max() == pytest.approx(fine[10:-10].max(), rel=0.15)


def test_edge_occlusion_of_a_depth_step():
    depth = np.full((64, 64), 3.0, np.float32)
    depth[:, :32] = 1.5
    edges = geometry.edge_occlusion(depth)
    assert abs(int(edges.max()) - 2078) <= 1
    assert not edges[:, :30].any() and not edges[:, 34:].any()
    assert not geometry.edge_occlusion(np.full((64, 64), 3.0, np.float32)).any()


def test_edge_occlusion_is_zero_beside_holes():
    depth = np.full((32, 32), 2.0, np.float32)
    depth[16, 16] = 0.0
    assert not geometry.edge_occlusion(depth).any()


def test_keypoints2d_of_a_flat_image_are_zero_and_scale_with_the_square_of_contrast():
    assert not image.keypoints2d(np.full((128, 128, 3), 200, np.uint8))[12:-12, 12:-12].any()
    x, y = np.meshgrid(*[np.arange(512) - 255.5] * 2)
    blob = x**2 + y**2 < 10**2
    strong, weak = (image.keypoints2d(grey(contrast * blob)) for contrast in (204 / 255, 102 / 255))
    peak = np.unravel_index(strong.argmax(), strong.shape)
    assert abs(peak[0] - 255) <= 2 and abs(peak[1] - 255) <= 2
    assert strong.max() / weak.max() == pytest.approx(4.0, rel=0.02)


def test_keypoints2d_of_a_blob_answer_most_at_its_own_scale():
    x, y = np.meshgrid(*[np.arange(257) - 128.0] * 2)
    integral = np.zeros((258, 258))
    integral[1:, 1:] = (x**2 + y**2 < 11**2).cumsum(0).cumsum(1)
    response = [image._hessian(integral, 128, 128, int(3 * sigma)) for sigma in image.KEYPOINT_SIGMAS]
    assert 7 < image.KEYPOINT_SIGMAS[int(np.argmax(response))] < 17


def test_keypoints2d_are_symmetric_boxes():
    """A point answers with the filter itself: width 9 has lobes of 3 by 5 pixels."""
    integral = np.zeros((32, 32))
    integral[16:, 16:] = 1.0
    response = np.array([[image._hessian(integral, i, j, 9) for j in range(31)] for i in range(31)]) * 9**4
    block = response[10:21, 10:21]
    np.testing.assert_allclose(block, block[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(block, block.T, atol=1e-12)
    assert block[5, 5] == pytest.approx(4.0) and block[4, 4] == pytest.approx(4.0 - 0.81)


def test_keypoints2d_inside_the_image_need_no_clamping():
    """The fast path of whole rows gives what the general one does."""
    rng = np.random.default_rng(0)
    integral = np.zeros((65, 65))
    integral[1:, 1:] = rng.random((64, 64)).cumsum(0).cumsum(1)
    widths = np.array([3, 9, 12])
    expected = [[max(0.0, *(image._hessian(integral, i, j, w) for w in widths)) for j in range(64)] for i in range(64)]
    assert np.array_equal(image._largest_hessian(integral, widths, 0), expected)


# Curvature.


@pytest.mark.parametrize("size", [64, 512])
def test_curvature_of_a_sphere(size):
    depth, normals = sphere(size, 0.5, 2.0)
    curvatures = geometry.curvature(depth, normals, HFOV)
    middle = depth > 0
    middle[[0, -1]] = False
    np.testing.assert_allclose(curvatures[size // 2, size // 2], 2.0, rtol=1e-4)
    assert geometry.principal_curvature(curvatures, depth)[size // 2, size // 2].tolist() == [135, 135, 0]
    assert np.abs(curvatures[middle] - 2.0).mean() < 0.05


def test_curvature_inside_a_sphere_is_negative_and_of_a_plane_zero():
    depth, normals = sphere(64, 2.0, 0.3, inside=True)
    np.testing.assert_allclose(geometry.curvature(depth, normals, HFOV), -0.5, atol=1e-3)
    depth, normals = plane(64, (0.3, -0.5, -0.8), 2.0)
    code = geometry.principal_curvature(geometry.curvature(depth, normals, HFOV), depth)
    assert {tuple(c) for c in code[depth > 0].tolist()} == {(127, 127, 0)}


def test_curvature_of_cylinders():
    depth, normals = sphere(256, 0.25, 1.5, axis=(1.0, 0.0, 1.0))
    np.testing.assert_allclose(geometry.curvature(depth, normals, HFOV)[128, 128], [4.0, 0.0], atol=1e-3)
    depth, normals = sphere(512, 0.03, 1.0, axis=(1.0, 0.0, 1.0))
    code = geometry.principal_curvature(geometry.curvature(depth, normals, HFOV), depth)
    assert code[256, 256].tolist() == [254, 127, 0]


@pytest.mark.parametrize("size", [256, 512])
def test_curvature_of_right_angles(size):
    sides = plane(size, (1, 0, -1), 1.5), plane(size, (-1, 0, -1), 1.5)
    convex, concave = farthest(*sides), nearest(*sides)
    code = geometry.principal_curvature(geometry.curvature(*convex, HFOV), convex[0])[size // 2]
    assert abs(int(code[size // 2, 0]) - 247) <= 15 and abs(int(code[size // 2, 1]) - 127) <= 2
    assert (code[: size // 2 - size // 16, 0] == 127).all()
    code = geometry.principal_curvature(geometry.curvature(*concave, HFOV), concave[0])[size // 2]
    assert abs(int(code[size // 2, 0]) - 7) <= 15 and abs(int(code[size // 2, 1]) - 127) <= 2


def test_curvature_does_not_reach_across_depth_jumps():
    front, back = plane(64, (0, 0, -1), 1.5), plane(64, (0, 0, -1), 3.0)
    depth, normals = back[0].copy(), back[1]
    depth[:, 20:40] = front[0][:, 20:40]
    assert not geometry.curvature(depth, normals, HFOV).any()
    depth[:, 30] = 0.0
    code = geometry.principal_curvature(geometry.curvature(depth, normals, HFOV), depth)
    assert not code[:, 30].any() and (code[depth > 0][:, :2] == 127).all()


# 3D keypoints.


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.3, -0.5, -0.8)])
def test_keypoints3d_of_a_plane_are_zero(normal):
    assert not keypoints3d(plane(128, normal, 2.0)[0], HFOV).any()


def test_keypoints3d_of_a_straight_edge_are_small_and_of_a_box_high_at_its_corners():
    edge, _ = nearest(plane(128, (1, 0, -1), 2.0), plane(128, (-1, 0, -1), 2.0))
    assert keypoints3d(edge, HFOV).max() < 0.15 * 65536
    rays = geometry.pixel_rays(128, HFOV)
    on_box = (np.abs(rays[..., 0]) * 2 < 0.4) & (np.abs(rays[..., 1]) * 2 < 0.3)
    box = np.where(on_box, 2.0, 4.0).astype(np.float32)
    points = keypoints3d(box, HFOV)
    assert points.max() > 0.4 * 65536
    rows, columns = np.nonzero(points > 0.2 * 65536)
    corner = np.argwhere(on_box)[[0, -1]]
    for at, ends in ((rows, corner[:, 0]), (columns, corner[:, 1])):
        assert (np.minimum(np.abs(at - ends[0]), np.abs(at - ends[1])) < 10).all()
    assert not points[box == 4.0].any()


def test_keypoints3d_uses_coarser_levels_for_near_surfaces():
    rays = geometry.pixel_rays(128, HFOV)
    box = np.where((np.abs(rays[..., 0]) < 0.2) & (np.abs(rays[..., 1]) < 0.2), 0.6, 1.2).astype(np.float32)
    assert keypoints3d(box, HFOV).max() > 0.3 * 65536


# Classes.


def test_semantic_labels_are_0_to_17_and_0_where_unknown():
    names = ("wall", "chair", "unknown", "couch")
    label = classes.segment_semantic(np.array([[0, 1], [2, 3], [-1, 0]], np.int32), names)
    assert label.tolist() == [[1, 3], [0, 4], [0, 1]] and label.dtype == np.uint8
    assert set(classes.SEMANTIC_OF_CLASS.values()) <= set(range(2, 18)) and len(classes.SEMANTIC_NAMES) == 18


def test_object_class_shares_probability_by_area():
    seen = np.array([[1, 1, 1, 0], [2, -1, -1, 0]], np.int32)
    label = classes.class_object(seen, ("wall", "bed", "tv"))
    bed, tv = classes.OBJECT_OF_CLASS["bed"], classes.OBJECT_OF_CLASS["tv"]
    assert label.sum() == pytest.approx(1.0, abs=1e-5) and label[bed] == pytest.approx(0.675 + 1e-4)
    assert label[tv] == pytest.approx(0.225 + 1e-4)
    assert -(label * np.log(label)).sum() > 1.0
    assert np.ptp(classes.class_object(seen, ("wall", "floor", "ceiling"))) == 0.0


def test_apartments_name_all_classes_and_rooms_that_labels_know():
    assert set(classes.SEMANTIC_OF_CLASS) <= set(CLASS_NAMES)
    assert set(classes.OBJECT_OF_CLASS) <= set(CLASS_NAMES)
    assert set(ROOM_KINDS) <= set(classes.SCENE_NAMES) and len(classes.SCENE_NAMES) == 63


def test_scene_class_is_the_room_that_the_camera_is_in():
    square = np.array([[0, 0], [2, 0], [2, 3], [0, 3]], np.float32)
    rooms = (Room("bedroom", square), Room("kitchen", square + np.float32([2, 0])), Room("cave", square - 9))
    for x, kind in ((1.0, "bedroom"), (3.5, "kitchen")):
        label = classes.class_scene((x, 1.2, 1.0), rooms)
        assert classes.SCENE_NAMES[int(label.argmax())] == kind and label.sum() == 1.0
    for outside in ((9.0, 1.2, 1.0), (-8.0, 1.2, -8.0)):
        assert classes.class_scene(outside, rooms).max() == pytest.approx(1 / 63)


# Views and files.


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 7, 3), np.uint8), ((9, 4), np.uint8), ((6, 6), np.uint16), ((1, 1), np.uint16)]
)
def test_png_files_hold_what_was_written(shape, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    picture = Image.open(io.BytesIO(encode_png(pixels)))
    assert picture.mode == {(3, 1): "RGB", (2, 1): "L", (2, 2): "I;16"}[len(shape), pixels.itemsize]
    assert np.array_equal(np.asarray(picture), pixels)


def test_png_refuses_what_it_cannot_hold():
    for wrong in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4, 2), np.uint8)):
        with pytest.raises(ValueError, match="PNG holds"):
            encode_png(wrong)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory) -> Path:
    """A room of 6 x 3 x 5 m, wound inwards, with a box and a ball in it."""
    room = trimesh.creation.box((6, 3, 5))
    room.invert()
    room.apply_translation((0, 1.5, 0))
    box = trimesh.creation.box((1, 0.8, 1))
    box.apply_translation((-1, 0.4, -1))
    ball = trimesh.creation.icosphere(2, 0.4)
    ball.apply_translation((1.5, 0.4, 1))
    for part, colour in ((room, (200, 190, 170)), (box, (120, 60, 40)), (ball, (40, 60, 160))):
        part.visual.vertex_colors = np.tile([*colour, 255], (len(part.vertices), 1)).astype(np.uint8)
    path = tmp_path_factory.mktemp("mesh") / "room.ply"
    trimesh.util.concatenate([room, box, ball]).export(path)
    return path


@pytest.fixture(scope="module")
def stage(mesh):
    scene = load_scene(mesh)
    return scene, make_renderer([scene]), NavGrid.build(scene)


def test_fov_and_pitch_have_taskonomys_statistics():
    rng = np.random.default_rng(0)
    fov, pitch = sample_fov(rng, 20000), np.degrees(sample_pitch(rng, 20000))
    assert fov.min() >= 45 and fov.max() <= 75 and fov.mean() == pytest.approx(61.4, abs=0.3)
    assert np.abs(pitch).max() <= 23 and pitch.mean() == pytest.approx(0.24, abs=0.5) and pitch.std() > 8


@pytest.mark.parametrize("mode", SAMPLERS)
def test_viewpoints_are_deterministic_and_fixate_their_points(stage, mode):
    _, renderer, grid = stage
    views = SAMPLERS[mode](renderer, 0, grid, np.random.default_rng(3), 5, 3)
    assert views == SAMPLERS[mode](renderer, 0, grid, np.random.default_rng(3), 5, 3)
    assert [(v.point, v.view) for v in views] == [(p, v) for p in range(5) for v in range(3)]
    for view in views:
        assert np.linalg.norm(view.normal) == pytest.approx(1.0, abs=1e-5)
        assert np.dot(view.normal, view.forward) < 0
        if mode == "agent":
            assert view.location[1] == pytest.approx(1.25, abs=0.02) and view.pitch == 0.0 and view.hfov == 90.0
    if mode == "taskonomy":
        points = np.array([np.add(v.location, v.distance * v.forward) for v in views]).reshape(5, 3, 3)
        assert np.abs(points - points[:, :1]).max() < 0.02


def test_point_info_puts_the_point_on_the_optical_axis():
    view = Viewpoint(2, 1, (1.0, 1.4, -2.0), 0.6, 0.2, 55.0, 3.0, (0.0, 1.0, 0.0))
    info = point_info(view, 128, "b")
    a, b, c = info["camera_rotation_final"]

    def turn(angle, i, j):
        matrix = np.eye(3)
        matrix[[i, j], [i, j]] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
        return matrix

    rotation = turn(c, 0, 1) @ turn(b, 2, 0) @ turn(a, 1, 2)
    local = rotation.T @ (np.array(info["point_location"]) - info["camera_location"])
    np.testing.assert_allclose(local, [0, 0, -3.0], atol=1e-5)
    w, *xyz = info["camera_rotation_final_quaternion"]
    skew = np.cross(np.eye(3), xyz)
    np.testing.assert_allclose(np.eye(3) + 2 * w * skew + 2 * skew @ skew, rotation, atol=1e-6)
    assert info["point_normal"] == [0.0, 0.0, 1.0] and info["field_of_view_rads"] == math.radians(55.0)


def test_dataset_has_all_labels_with_their_encodings_and_is_reused(mesh, tmp_path):
    settings = RenderSettings(size=64, views_per_scene=4, views_per_point=2)
    building = find_buildings(str(mesh))[0]
    assert building == Building("room", mesh=str(mesh))
    assert list(render_dataset([building], tmp_path, settings, tuple(DOMAINS), 1)) == [4]
    kinds = {
        "rgb normal reshading principal_curvature": ("RGB", (64, 64, 3)),
        "mask_valid segment_semantic": ("L", (64, 64)),
        "depth_zbuffer depth_euclidean edge_texture edge_occlusion keypoints2d keypoints3d": ("I;16", (64, 64)),
    }
    for names, (mode, shape) in kinds.items():
        for name in names.split():
            picture = Image.open(file_path(tmp_path, name, "room", 1, 0))
            assert picture.mode == mode and np.asarray(picture).shape == shape, name
    assert np.load(file_path(tmp_path, "class_scene", "room", 1, 1)).shape == (63,)
    info = json.loads(file_path(tmp_path, "point_info", "room", 1, 0).read_text())
    depth = np.asarray(Image.open(file_path(tmp_path, "depth_zbuffer", "room", 1, 0)))
    assert depth[31:33, 31:33].mean() / 512 == pytest.approx(info["camera_distance"], rel=0.05)

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    lost = file_path(tmp_path, "normal", "room", 0, 1)
    before = lost.read_bytes()
    lost.unlink()
    assert list(render_dataset([building], tmp_path, settings, tuple(DOMAINS), 1)) == [1]
    assert lost.read_bytes() == before
    del kept[lost]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    camera = file_path(tmp_path, "point_info", "room", 0, 0)
    camera.write_text(camera.read_text().replace("camera_location", "elsewhere"))
    lost = file_path(tmp_path, "normal", "room", 0, 0)
    lost.unlink()
    with pytest.raises(ValueError, match="another camera"):
        render_building(building, tmp_path, settings, tuple(DOMAINS))
    assert not lost.exists()
    with pytest.raises(ValueError, match="size=64"):
        list(render_dataset([building], tmp_path, RenderSettings(size=32, views_per_scene=4), ("rgb",), 1))


def test_labels_of_one_view_agree(stage):
    scene, renderer, grid = stage
    from envs.rendering.renderer import Camera

    view = SAMPLERS["taskonomy"](renderer, 0, grid, np.random.default_rng(1), 1, 1)[0]
    images = renderer.render(
        [0], [view.location], [view.heading], Camera(129, view.hfov, 0.0),
        ("rgb", "depth", "normal", "semantic"), [view.pitch],
    )  # fmt: skip
    rendered = RenderedView(scene, view, {name: array[0] for name, array in images.items()})
    assert rendered.depth[64, 64] == pytest.approx(view.distance, abs=1e-3)
    rays = geometry.pixel_rays(129, view.hfov)
    assert (np.einsum("ijk,ijk->ij", rays, rendered.normal) < 0).all()
    # Depth differences must lie in the surface that the normals describe.
    points = rays * rendered.depth[..., None]
    same = (np.abs(np.diff(rendered.normal, axis=1)).max(-1) < 1e-4) & (np.abs(np.diff(rendered.depth, axis=1)) < 0.05)
    along = np.einsum("ijk,ijk->ij", np.diff(points, axis=1), rendered.normal[:, 1:])
    assert np.abs(along[same]).max() < 2e-3
    with pytest.raises(ValueError, match="did you mean 'normal'"):
        rendered.label("normals")


def test_bad_settings_are_said_in_one_line(mesh):
    with pytest.raises(FileNotFoundError, match=r"absent\.glb"):
        find_buildings("absent.glb")
    with pytest.raises(ValueError, match=r"0 to 100"):
        find_buildings("val:2000")
    with pytest.raises(ValueError, match="taskonomy, agent"):
        RenderSettings(views="agents")
    with pytest.raises(ValueError, match="multiple"):
        RenderSettings(views_per_scene=10, views_per_point=4)
    assert [b.seed for b in find_buildings("val:2-4")] == [b.seed for b in find_buildings("val:4")][2:]


def test_kill_loses_at_most_the_current_file(mesh, tmp_path):
    command = [sys.executable, "-m", "envs.render", f"scenes={mesh}", f"out={tmp_path}", "size=32", "workers=1"]
    command += ["views_per_scene=200"]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while process.poll() is None and len(list(tmp_path.glob("point_info/room/*.json"))) < 3:
            time.sleep(0.05)
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    whole = [path for path in tmp_path.rglob("*.png") if not path.name.startswith(".")]
    for path in whole:
        Image.open(path).load()
    settings = RenderSettings(size=32, views_per_scene=200)
    done = sum(is_written(tmp_path, "room", p, v, tuple(DOMAINS)) for p, v in settings.keys())
    assert done >= 3
    (tmp_path / "rgb" / "room" / ".point_0_view_0_domain_rgb.png.1.partial").write_bytes(b"half")
    rendered = render_building(Building("room", mesh=str(mesh)), tmp_path, settings, tuple(DOMAINS))
    assert rendered == 200 - done
    assert not list(tmp_path.rglob(".*"))


def test_contact_sheets_show_every_label(mesh, tmp_path):
    settings = RenderSettings(size=32, views_per_scene=4, views_per_point=2)
    list(render_dataset([Building("room", mesh=str(mesh))], tmp_path, settings, tuple(DOMAINS), 1))
    views = choose_views(tmp_path, 3)
    assert len(set(views)) == 3 and views == choose_views(tmp_path, 3)
    for domain in (*DOMAINS, "denoising"):
        page = np.asarray(sheet(tmp_path, domain, views))
        assert page.shape[1] == 3 * 34 - 2 and page.shape[2] == 3
        assert np.array_equal(page[:32, 34:66], np.asarray(Image.open(file_path(tmp_path, "rgb", *views[1]))))
        if domain == "normal":
            assert np.array_equal(page[34:, :32], np.asarray(Image.open(file_path(tmp_path, domain, *views[0]))))
    depth = np.array([[512, 1024], [2048, 65535]], np.uint16)
    shown = colours("depth_zbuffer", depth)
    assert not shown[1, 1].any() and len({tuple(c) for c in shown.reshape(-1, 3).tolist()}) == 4
    # In the range of another: from its least on, its own colours stay.
    assert np.array_equal(colours("depth_zbuffer", depth[:1], like=depth), shown[:1])
    assert not np.array_equal(colours("depth_zbuffer", depth[:1]), shown[:1])
    kitchen = np.eye(63, dtype=np.float32)[classes.SCENE_NAMES.index("kitchen")]
    assert likeliest(kitchen, NAMES["class_scene"]) == ["kitchen 1.00"]
    assert likeliest(np.full(1000, 1e-3, np.float32), NAMES["class_object"]) == ["nothing to tell"]
    with pytest.raises(FileNotFoundError, match="wanted are 5"):
        choose_views(tmp_path, 5)
