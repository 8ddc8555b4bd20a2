"""Procedural apartments: determinism, limits, reachability, shapes and shared textures."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import ndimage

from envs.apartments import generator as apartments
from envs.apartments.floorplan import draw_plan, opened, outline_of
from envs.apartments.furniture import shapes
from envs.apartments.generator import CLASS_NAMES, ROOM_KINDS, split_seeds
from envs.apartments.textures import texture_bank
from envs.scene import Scene

SEEDS = tuple(range(20))


@cache
def generate(seed: int) -> Scene:
    return apartments.generate(seed)


def triangle_normals(scene: Scene) -> NDArray[np.float64]:
    corners = scene.vertices[scene.faces].astype(np.float64)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def room_area(polygon: NDArray[np.float32]) -> float:
    x, z = polygon.astype(np.float64).T
    return abs(float(np.dot(x, np.roll(z, -1)) - np.dot(z, np.roll(x, -1)))) / 2.0


def floor_share(scene: Scene, label: str) -> float:
    chosen = scene.face_class == CLASS_NAMES.index(label)
    return float(np.linalg.norm(triangle_normals(scene)[chosen], axis=1).sum() / 2.0)


@pytest.mark.parametrize("seed", [0, 7, 1042])
def test_equal_seeds_give_equal_arrays(seed: int) -> None:
    first, second = apartments.generate(seed), apartments.generate(seed)
    for item in fields(Scene):
        left, right = getattr(first, item.name), getattr(second, item.name)
        if isinstance(left, np.ndarray):
            assert left.tobytes() == right.tobytes(), item.name
    assert [room.kind for room in first.rooms] == [room.kind for room in second.rooms]


def test_seeds_give_different_plans() -> None:
    plans = {tuple((room.kind, room.polygon.tobytes()) for room in generate(seed).rooms) for seed in SEEDS}
    assert len(plans) == len(SEEDS)


def test_splits_are_disjoint_and_of_the_promised_size() -> None:
    train, val, test = (set(split_seeds(name)) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (1000, 100, 100)
    assert not train & val and not train & test and not val & test


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"unknown split 'trian': choose one of train, val, test; did you mean 'train'"
    ):
        split_seeds("trian")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        apartments.generate(-1)


@pytest.mark.parametrize("seed", SEEDS)
def test_size_rooms_and_labels(seed: int) -> None:
    scene = generate(seed)
    assert 3 <= len(scene.rooms) <= 8
    assert all(room.kind in ROOM_KINDS for room in scene.rooms)
    assert "living_room" in {room.kind for room in scene.rooms}
    area = sum(room_area(room.polygon) for room in scene.rooms)
    assert 50.0 <= area <= 150.0
    assert len(np.unique(scene.face_class)) >= 20
    assert 2.4 <= scene.vertices[:, 1].max() <= 3.0 + 1e-6
    # Slanted legs dip into the floor by their radius.
    assert -0.03 < scene.vertices[:, 1].min() <= 0.0
    assert len(scene.faces) < 20_000


@pytest.mark.parametrize("seed", SEEDS)
def test_floor_covers_the_rooms_and_their_doorways(seed: int) -> None:
    scene = generate(seed)
    rooms = sum(room_area(room.polygon) for room in scene.rooms)
    floor = floor_share(scene, "floor")
    # A doorway adds its width times the thickness of the wall.
    assert rooms < floor < rooms + 0.3 * 2 * len(scene.rooms)
    up = triangle_normals(scene)[:, 1]
    assert (up[scene.face_class == CLASS_NAMES.index("floor")] > 0.0).all()
    ceiling = scene.face_class == CLASS_NAMES.index("ceiling")
    assert (up[ceiling] < 0.0).all()
    assert not scene.solid[ceiling].any() and scene.solid[~ceiling].all()


def walkable(scene: Scene, cell: float, radius: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Label the free space of a body of 1.5 m height, from the triangles alone."""
    origin = scene.vertices[:, [0, 2]].min(0).astype(np.float64)
    extent = scene.vertices[:, [0, 2]].max(0) - origin
    shape = tuple(np.ceil(extent / cell).astype(int) + 1)
    floor, blocked = np.zeros(shape, bool), np.zeros(shape, bool)
    corners = scene.vertices[scene.faces].astype(np.float64)
    low = corners[..., 1].min(1)
    on_floor = scene.face_class == CLASS_NAMES.index("floor")
    obstacle = scene.solid & (corners[..., 1].max(1) > 0.2) & (low < 1.5)
    for chosen, target in ((on_floor, floor), (obstacle, blocked)):
        # Points on each triangle, dense enough to miss no cell.
        a, b, c = corners[chosen].transpose(1, 0, 2)
        steps = np.ceil(np.linalg.norm(np.stack([b - a, c - a]), axis=-1).max(0) / (0.7 * cell)).astype(int) + 1
        for count in np.unique(steps):
            u, v = np.meshgrid(np.linspace(0, 1, count + 1), np.linspace(0, 1, count + 1))
            inside = u + v <= 1.0 + 1e-9
            u, v = u[inside][:, None, None], v[inside][:, None, None]
            some = steps == count
            points = (a[some] * (1.0 - u - v) + b[some] * u + c[some] * v).reshape(-1, 3)
            points = points[points[:, 1] < 1.5]
            index = ((points[:, [0, 2]] - origin) / cell).astype(int)
            target[index[:, 0], index[:, 1]] = True
    clearance = ndimage.distance_transform_edt(floor & ~blocked) * cell
    return ndimage.label(clearance > radius)[0], origin


@pytest.mark.parametrize("seed", SEEDS)
def test_every_room_is_reached(seed: int) -> None:
    scene, cell = generate(seed), 0.05
    labels, origin = walkable(scene, cell, radius=0.3)
    size = np.bincount(labels.ravel())
    size[0] = 0
    reached = labels == size.argmax()
    assert size.max() > 0.9 * size.sum()
    columns, rows = np.nonzero(reached)
    points = np.column_stack([columns, rows]) * cell + cell / 2 + origin
    for room in scene.rooms:
        inside = Outline(room.polygon).contains_points(points).sum() * cell**2
        assert inside > 0.1 * room_area(room.polygon), room.kind


@pytest.mark.parametrize("seed", SEEDS)
def test_triangles_are_proper_and_not_all_boxes(seed: int) -> None:
    scene = generate(seed)
    normal = triangle_normals(scene)
    length = np.linalg.norm(normal, axis=1)
    assert length.min() > 1e-8
    slanted = np.abs(normal / length[:, None]).max(1) < 0.99
    assert slanted.mean() > 0.2
    furniture = scene.face_class >= CLASS_NAMES.index("bottle")
    assert len(np.unique(scene.face_class[slanted & furniture])) >= 6


def test_outlines_agree_with_the_cells_of_the_plan() -> None:
    for seed in range(60):
        plan = draw_plan(np.random.Generator(np.random.PCG64(seed)))
        outlines = [room_area(outline_of(plan, room)) for room in range(plan.count)]
        whole = [ndimage.binary_fill_holes(plan.cells == room).sum() * plan.cell**2 for room in range(plan.count)]
        np.testing.assert_allclose(outlines, whole, rtol=1e-4, err_msg=f"seed {seed}")


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_opening_by_squares_is_that_of_scipy(side: int) -> None:
    rng = np.random.default_rng(side)
    mask = ndimage.binary_dilation(rng.random((40, 31)) < 0.02, np.ones((9, 7)))
    np.testing.assert_array_equal(opened(mask, side), ndimage.binary_opening(mask, np.ones((side, side))))


def test_objects_are_of_one_class() -> None:
    scene = generate(3)
    pairs = np.unique(np.column_stack([scene.face_instance, scene.face_class]), axis=0)
    assert len(pairs) == len(np.unique(scene.face_instance))


def test_textures_are_shared_and_scenes_small() -> None:
    first, second = generate(0), generate(1)
    assert len(first.textures) >= 40
    assert all(a is b for a, b in zip(first.textures, second.textures, strict=True))
    assert all(image.shape == (128, 128, 3) and image.dtype == np.uint8 for image in first.textures)
    own = sum(value.nbytes for value in vars(first).values() if isinstance(value, np.ndarray))
    assert own < 4 * 2**20
    assert (first.face_texture >= 0).all()


def test_texture_bank_is_one_read_only_object() -> None:
    bank = texture_bank()
    assert texture_bank() is bank
    assert sorted(index for group in bank.groups.values() for index in group) == list(range(len(bank.images)))
    with pytest.raises(ValueError, match="read-only"):
        bank.images[0][0, 0, 0] = 1


def test_walls_textures_have_their_real_size() -> None:
    """A wall's texture moves by the same number of metres as the wall itself: no stretching."""
    scene, bank = generate(2), texture_bank()
    wall = scene.face_class == CLASS_NAMES.index("wall")
    corners = scene.vertices[scene.faces[wall]].astype(np.float64)
    side = np.array(bank.side)[scene.face_texture[wall]]
    metres = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    across = np.linalg.norm((scene.corner_uv[wall, 1] - scene.corner_uv[wall, 0]), axis=1) * side
    np.testing.assert_allclose(across, metres, rtol=1e-3, atol=1e-4)


def test_light_falls_off_with_distance_and_stays_in_range() -> None:
    scene = generate(4)
    colors = scene.corner_color[scene.face_class == CLASS_NAMES.index("floor")].astype(float).mean(-1)
    assert colors.max() - colors.min() > 20.0
    assert 60.0 < scene.corner_color.mean() < 230.0


@pytest.mark.parametrize(
    "shape",
    [
        shapes.box(1.0, 2.0, 3.0),
        shapes.cylinder(0.5, 1.0),
        shapes.cylinder(0.5, 1.0, 8, top=0.2),
        shapes.ball(0.5),
        shapes.cushion(1.0, 0.3, 0.6),
        shapes.cushion(0.12, 0.5, 0.9),
        shapes.rod((0.0, 0.0, 0.0), (1.0, 2.0, 0.5), 0.05),
        shapes.turned(shapes.box(1.0, 1.0, 1.0), "z", 0.7),
    ],
)
def test_convex_shapes_face_outwards(shape: shapes.Shape) -> None:
    corners = shape.vertices[shape.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = ((corners.mean(1) - shape.vertices.mean(0)) * normal).sum(-1)
    assert (outward > 0.0).all()
    assert (np.einsum("fi,fci->fc", normal, shape.normals) > 0.0).all()
    np.testing.assert_allclose(np.linalg.norm(shape.normals, axis=-1), 1.0, atol=1e-9)


def test_lathe_volume_matches_the_closed_form() -> None:
    """A finely turned ball has the volume of a sphere, by the divergence theorem."""
    shape = shapes.ball(0.5, segments=96)
    corners = shape.vertices[shape.faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0
    assert volume == pytest.approx(4.0 / 3.0 * np.pi * 0.5**3, rel=5e-3)
