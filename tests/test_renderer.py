from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh
from triangle_scenes import box, many_scenes, quad, scene_of

from envs.rendering.packets import render_agents
from envs.rendering.renderer import SENSORS, Camera, EmbreeRenderer, compile_ahead, make_renderer

ALL = tuple(SENSORS)


def pinhole(position, heading, pitch, camera):
    """Camera centre, and a ray per pixel of length 1 along the optical axis, by rotation matrices."""
    rows, columns = camera.size, camera.columns
    focal = columns / (2 * math.tan(math.radians(camera.hfov) / 2))
    row, column = np.mgrid[0:rows, 0:columns] + 0.5
    rays = np.stack([(column - columns / 2) / focal, -(row - rows / 2) / focal, -np.ones((rows, columns))], -1)
    c, s = math.cos(heading), math.sin(heading)
    yaw = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    pitch = pitch + math.radians(camera.pitch)
    c, s = math.cos(pitch), math.sin(pitch)
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.add(position, [0, camera.height, 0]), rays @ (yaw @ tilt).T


def bilinear(image, u, v):
    """Texel centres at half-integers, repeating: the plain formula in double precision."""
    height, width = image.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    texel = lambda i, j: image[i % height, j % width].astype(np.float64)  # noqa: E731
    top = texel(y0, x0) * (1 - fx) + texel(y0, x0 + 1) * fx
    bottom = texel(y0 + 1, x0) * (1 - fx) + texel(y0 + 1, x0 + 1) * fx
    return top * (1 - fy) + bottom * fy


CAMERAS = [
    Camera(),
    Camera(size=33, hfov=60, height=0.4),
    Camera(size=24, width=40, hfov=79, height=0.88),
    Camera(size=40, width=24, hfov=50, pitch=-20.0, near=0.05),
]


@pytest.mark.parametrize("camera", CAMERAS)
def test_depth_normals_and_faces_of_a_box_room_are_the_closed_form(camera):
    low, high = np.array([-2.0, 0.0, -4.0]), np.array([3.0, 2.8, 1.5])
    renderer = EmbreeRenderer([scene_of(box(low, high))])
    rng = np.random.default_rng(0)
    position = rng.uniform([-1.8, 0, -3.8], [2.8, 0.5, 1.3], (12, 3))
    heading, pitch = rng.uniform(-7, 7, 12), rng.uniform(-1, 1, 12)
    seen = renderer.render(np.zeros(12, int), position, heading, camera, ALL, pitch=pitch)
    for n in range(12):
        eye, rays = pinhole(position[n], heading[n], pitch[n], camera)
        with np.errstate(divide="ignore"):
            hits = np.where(rays > 0, (high - eye) / rays, (low - eye) / rays)
        axis = hits.argmin(-1)
        np.testing.assert_allclose(seen["depth"][n], hits.min(-1), rtol=0, atol=1e-4)
        ordered = np.sort(hits, axis=-1)
        inside = ordered[..., 1] - ordered[..., 0] > 1e-3
        sign = np.sign(np.take_along_axis(rays, axis[..., None], -1))[..., 0]
        np.testing.assert_allclose(seen["normal"][n][inside], (-sign[..., None] * np.eye(3)[axis])[inside], atol=1e-6)
        side = 2 * axis + (sign > 0)
        np.testing.assert_array_equal((seen["face"][n] // 2)[inside], side[inside])
        np.testing.assert_array_equal(seen["instance"][n], seen["face"][n] // 2 + 10)


def test_rgb_is_the_bilinear_texel_times_the_corner_colour():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (13, 7, 3), dtype=np.uint8)
    other = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    corner, across, down = (
        np.array([-1.5, 2.5, -2.0]),
        np.array([3.0, 0.3, -0.5]),
        np.array([0.2, -2.4, -0.4]),
    )
    triangles, st = quad(corner, across, down)
    # Colours must be affine over the quad for the two triangles to agree with one formula.
    color = np.rint(250 - 100 * st[..., :1] * [1, 0.5, 0] - 120 * st[..., 1:] * [0, 0.5, 1])
    scale, offset = np.array([2.5, -3.25]), np.array([-1.3, 7.1])
    scene = scene_of(triangles, uv=st * scale + offset, color=color, texture=[1, 1], textures=[other, image])
    camera = Camera(size=96, hfov=75)
    seen = EmbreeRenderer([scene]).render([0], [[0.1, 0, 0.2]], [0.1], camera, ("rgb", "face"), pitch=[0.05])

    eye, rays = pinhole([0.1, 0, 0.2], 0.1, 0.05, camera)
    # eye + t ray = corner + s across + r down
    system = np.stack([rays, *np.broadcast_arrays(-across, -down, rays)[:2]], -1)
    solution = np.linalg.solve(system, np.broadcast_to((corner - eye)[:, None], (*rays.shape, 1)))[..., 0]
    s, t = solution[..., 1], solution[..., 2]
    inside = (np.minimum(s, t) > 1e-4) & (np.maximum(s, t) < 1 - 1e-4)
    outside = (np.minimum(s, t) < -1e-4) | (np.maximum(s, t) > 1 + 1e-4)
    assert inside.sum() > 2000 and outside.sum() > 500
    factor = 250 - 100 * s[..., None] * [1, 0.5, 0] - 120 * t[..., None] * [0, 0.5, 1]
    expected = bilinear(image, s * scale[0] + offset[0], t * scale[1] + offset[1]) * factor / 255
    error = np.abs(seen["rgb"][0].astype(float) - expected)[inside]
    # Half a level is rounding; the rest is single precision.
    assert error.max() < 0.52
    assert not seen["rgb"][0][outside].any()
    assert (seen["face"][0][outside] == -1).all()


def test_a_wide_camera_sees_more_to_the_sides_and_less_above():
    walls = box([-3, -1.75, -3], [3, 4.25, 3])
    renderer = EmbreeRenderer([scene_of(walls, classes=np.repeat([0, 1, 2, 3, 4, 5], 2))])
    # 100 degrees wide and 12 x 30 pixels: 51 degrees high.
    seen = renderer.render([0], [[0, 0, 0]], [0], Camera(12, 100.0, width=30), ("semantic", "rgb"))
    assert seen["semantic"].shape == (1, 12, 30) and seen["rgb"].shape == (1, 12, 30, 3)
    row = seen["semantic"][0, 6]
    assert (row[0], row[15], row[-1]) == (0, 4, 1)
    assert set(seen["semantic"][0, :, 15]) == {4}
    tall = renderer.render([0], [[0, 0, 0]], [0], Camera(30, 51.0, width=12), ("semantic",))["semantic"][0]
    assert (tall[0, 6], tall[15, 6], tall[-1, 6]) == (3, 4, 2)


def test_nothing_is_seen_before_the_near_and_beyond_the_far_plane():
    planes = [quad([-50, 50, -z], [100, 0, 0], [0, -100, 0])[0] for z in (0.3, 2.0, 9.0)]
    renderer = EmbreeRenderer([scene_of(np.concatenate(planes))])
    for near, far, depth in ((0.01, 1000, 0.3), (0.31, 1000, 2.0), (2.5, 8.9, 0.0), (2.5, 9.1, 9.0), (0.01, 0.2, 0.0)):
        camera = Camera(size=9, height=0, near=near, far=far)
        seen = renderer.render([0], [[0, 0, 0]], [0], camera, ALL)
        # The planes are perpendicular to the optical axis: planar depth is one number all over.
        np.testing.assert_allclose(seen["depth"], depth, atol=1e-4)
        assert ((seen["face"] >= 0) == (depth > 0)).all()
        assert ((seen["rgb"] > 0).all(-1) == (depth > 0)).all()


def test_depth_is_planar_to_a_millimetre_ten_metres_away():
    corner, across, down = np.array([-16.0, 14.0, -6.0]), np.array([36.0, 4.0, -12.0]), np.array([1.0, -32.0, -6.0])
    renderer = EmbreeRenderer([scene_of(quad(corner, across, down)[0])])
    camera = Camera(size=64, hfov=60)
    pose = np.array([1.2, 0.0, 3.4]), 0.2, 0.1
    seen = renderer.render([0], [pose[0]], [pose[1]], camera, ("depth",), pitch=[pose[2]])["depth"][0]
    eye, rays = pinhole(*pose, camera)
    normal = np.cross(across, down)
    np.testing.assert_allclose(seen, (corner - eye) @ normal / (rays @ normal), rtol=0, atol=1e-3)
    assert 14 < seen.min() < 16 < seen.max() < 25


def test_texture_is_upright_and_not_mirrored():
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    image = np.array([[red, green], [blue, white]], np.uint8)
    triangles, st = quad([-2, 3.25, -2], [4, 0, 0], [0, -4, 0])
    scene = scene_of(triangles, uv=st, texture=[0, 0], textures=[image])
    rgb = EmbreeRenderer([scene]).render([0], [[0, 0, 0]], [0], Camera(size=4))["rgb"][0]
    np.testing.assert_array_equal(rgb[[0, 0, 3, 3], [0, 3, 0, 3]] > 128, np.array([red, green, blue, white]) > 128)


def test_heading_turns_left_and_pitch_looks_up():
    walls = box([-3, -1.75, -3], [3, 4.25, 3])
    scene = scene_of(walls, classes=np.repeat([0, 1, 2, 3, 4, 5], 2))
    renderer = EmbreeRenderer([scene])
    heading = [0, math.pi / 2, math.pi, -math.pi / 2, 0, 0]
    pitch = [0, 0, 0, 0, 1.5, -1.5]
    position = np.zeros((6, 3))
    semantic = renderer.render([0] * 6, position, heading, Camera(1), ("semantic",), pitch=pitch)["semantic"]
    # -Z ahead, -X to the left, +Z behind, +X to the right, ceiling, floor.
    np.testing.assert_array_equal(semantic.ravel(), [4, 0, 5, 1, 3, 2])
    wide = renderer.render([0], [[0, 0, 0]], [0], Camera(9, hfov=120), ("semantic",))["semantic"][0]
    assert [wide[4, 0], wide[4, 8], wide[0, 4], wide[8, 4], wide[4, 4]] == [0, 1, 3, 2, 4]


def test_nothing_hit_is_black_zero_and_minus_one():
    triangles, _ = quad([-1, 0, 5], [2, 0, 0], [0, 2, 0])
    seen = EmbreeRenderer([scene_of(triangles)]).render([0], [[0, 0, 0]], [0], Camera(8), ALL)
    for name, empty in {
        "rgb": 0,
        "depth": 0,
        "normal": 0,
        "semantic": -1,
        "instance": -1,
        "face": -1,
    }.items():
        assert (seen[name] == empty).all(), name
    assert {name: image.dtype for name, image in seen.items()} == {n: np.dtype(d) for n, (d, _) in SENSORS.items()}


def test_no_ray_slips_through_a_closed_surface():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=3.0)
    renderer = EmbreeRenderer([scene_of(sphere.triangles)])
    seen = renderer.render([0] * 6, np.zeros((6, 3)), np.arange(6), Camera(96, height=0), ("depth", "face"))
    assert (seen["face"] >= 0).all()
    _, rays = pinhole([0, 0, 0], 0, 0, Camera(96, height=0))
    distance = seen["depth"] * np.linalg.norm(rays, axis=-1)
    assert distance.max() <= 3.0001 and distance.min() > 2.98


def test_a_batch_equals_its_single_images_bit_for_bit():
    scenes = many_scenes()
    renderer = EmbreeRenderer(scenes)
    rng = np.random.default_rng(4)
    # Scenes interleaved, one scene unused.
    index = rng.choice([3, 0, 1, 4], 70)
    position, heading = rng.uniform(-2, 2, (70, 3)), rng.uniform(-4, 4, 70)
    batch = renderer.render(index, position, heading, Camera(64), ALL)
    again = EmbreeRenderer(scenes).render(index, position, heading, Camera(64), ALL)
    for name in ALL:
        np.testing.assert_array_equal(batch[name], again[name])
    for n in (0, 1, 33, 69):
        alone = EmbreeRenderer([scenes[index[n]]]).render([0], position[n : n + 1], heading[n : n + 1], Camera(64), ALL)
        for name in ALL:
            np.testing.assert_array_equal(alone[name][0], batch[name][n])


def test_out_is_written_and_returned():
    renderer = EmbreeRenderer(many_scenes(2))
    pose = ([1, 0, 1], np.zeros((3, 3)), [0, 1, 2], Camera(16))
    fresh = renderer.render(*pose)
    out = {"rgb": np.full((3, 16, 16, 3), 77, np.uint8)}
    seen = renderer.render(*pose, out=out)
    assert seen["rgb"] is out["rgb"]
    for name in ("rgb", "depth"):
        np.testing.assert_array_equal(seen[name], fresh[name])


def test_no_agents_give_empty_images():
    seen = EmbreeRenderer(many_scenes(1)).render([], np.zeros((0, 3)), [], Camera(16), ALL)
    assert {name: image.shape[:3] for name, image in seen.items()} == dict.fromkeys(ALL, (0, 16, 16))


def test_what_is_compiled_ahead_is_what_renders():
    compile_ahead()
    ahead = list(render_agents.signatures)
    EmbreeRenderer(many_scenes(2)).render([1, 0, 1], np.zeros((3, 3)), np.zeros(3), Camera(16, mipmaps=True), ALL)
    EmbreeRenderer(many_scenes(1)).render([0], np.zeros((1, 3)), [0.0], Camera(16))
    assert ahead and render_agents.signatures == ahead


def test_a_texture_shared_by_scenes_is_stored_once():
    assert EmbreeRenderer(many_scenes(4)).texture_bytes == 3 * 16 * 16 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene_index": [0, 2]}, "scene_index must lie in 0..1"),
        ({"scene_index": [0, -1]}, "scene_index must lie in 0..1"),
        ({"scene_index": [0.0, 1.0]}, "scene_index must be integers"),
        ({"position": np.zeros((3, 3))}, r"position must have shape \(2, 3\)"),
        ({"position": [[0, 0, 0], [0, np.nan, 0]]}, "position of agent 1 is not finite"),
        ({"heading": [0.0]}, r"heading must have shape \(2,\)"),
        ({"pitch": [0.0, np.inf]}, "pitch of agent 1 is not finite"),
        ({"sensors": ("rbg",)}, "unknown sensor 'rbg'; did you mean 'rgb'"),
        ({"out": {"rgb": np.zeros((2, 16, 16, 3), np.float32)}}, "must be C-contiguous uint8"),
    ],
)
def test_bad_calls_say_what_is_wrong(change, message):
    renderer = EmbreeRenderer(many_scenes(2))
    good = {"scene_index": [0, 1], "position": np.zeros((2, 3)), "heading": [0, 0], "camera": Camera(16)}
    with pytest.raises(ValueError, match=message):
        renderer.render(**(good | change))


def test_bad_scenes_cameras_and_devices_say_what_is_wrong():
    with pytest.raises(ValueError, match="at least one scene"):
        EmbreeRenderer([])
    triangles, st = quad([0, 0, 0], [1, 0, 0], [0, 1, 0])
    with pytest.raises(ValueError, match="texture 0 is float64"):
        EmbreeRenderer([scene_of(triangles, texture=[0, 0], textures=[np.zeros((4, 4, 3))])])
    with pytest.raises(ValueError, match="corner_uv holds NaN"):
        EmbreeRenderer([scene_of(triangles, uv=st * np.nan)])
    bads = [{"size": 0}, {"hfov": 180}, {"height": math.nan}, {"width": 0}, {"pitch": 91}, {"near": -1}, {"near": 2000}]
    for bad in bads:
        with pytest.raises(ValueError, match=next(iter(bad))):
            Camera(**bad)
    scenes = [scene_of(triangles)]
    assert isinstance(make_renderer(scenes), EmbreeRenderer)
    with pytest.raises(ValueError, match="unknown renderer 'opengl'"):
        make_renderer(scenes, "cpu", "opengl")
    with pytest.raises(ValueError, match="unknown render device 'tpu'"):
        make_renderer(scenes, "tpu")
