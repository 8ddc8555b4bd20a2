"""Packets of rays against embreex's own call, ray by ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from triangle_scenes import box, many_scenes, quad, scene_of

from envs.rendering import embree
from envs.rendering.packets import TILES
from envs.rendering.renderer import SENSORS, Camera, EmbreeRenderer
from envs.rendering.threads import num_threads, set_num_threads
from envs.scene import Sampler, Scene

ALL = tuple(SENSORS)
CAMERAS = [
    Camera(64),
    Camera(size=33, hfov=60, height=0.4, pitch=-20.0, near=0.3),
    Camera(size=7, width=41, hfov=100, far=3.0),
    Camera(1),
]


def found() -> embree.EmbreeLibrary:
    library = embree.library()
    assert isinstance(library, embree.EmbreeLibrary), library
    return library


def pierced(scenes: list[Scene]) -> list[Scene]:
    """The same scenes with one-sided faces, cut-out textures, and textures that do not repeat."""
    rng = np.random.default_rng(8)
    made = []
    for k, scene in enumerate(scenes):
        count = len(scene.faces)
        textures = tuple(
            np.concatenate([t, rng.integers(0, 256, (*t.shape[:2], 1), dtype=np.uint8)], 2) for t in scene.textures
        )
        cutoff = rng.choice([0, 128], count).astype(np.uint8) if k else None
        samplers = Sampler("clamp", "mirror"), Sampler("repeat", "clamp", "nearest"), Sampler("mirror", "repeat")
        made.append(
            replace(scene, textures=textures, samplers=samplers, one_sided=rng.random(count) < 0.5, cutoff=cutoff)
        )
    return made


def views(scenes: list[Scene], count: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    index = rng.integers(0, len(scenes), count)
    return index, rng.uniform(-2, 2, (count, 3)), rng.uniform(-4, 4, count), rng.uniform(-1, 1, count)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Equal but where two faces are equally near, on edges."""
    differing = one["face"] != other["face"]
    assert differing.mean() < 1e-3
    for name in ALL:
        np.testing.assert_array_equal(one[name][~differing], other[name][~differing], err_msg=name)
    np.testing.assert_allclose(one["depth"][differing], other["depth"][differing], rtol=1e-5)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("passable", [False, True])
def test_packets_see_what_single_rays_see(passable: bool, camera: Camera) -> None:
    compare_with_single_rays(passable, camera)


@pytest.mark.slow  # each width is compiled for
@pytest.mark.parametrize("lanes", TILES)
def test_packets_of_any_width_see_what_single_rays_see(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = found()
    if lanes not in library.natives:
        pytest.skip(f"this processor does not trace {lanes} rays at a time")
    monkeypatch.setattr(embree, "library", lambda: replace(library, lanes=lanes))
    for camera in CAMERAS:
        compare_with_single_rays(False, camera)
        compare_with_single_rays(True, camera)


def compare_with_single_rays(passable: bool, camera: Camera) -> None:
    scenes = pierced(many_scenes(3)) if passable else many_scenes(3)
    index, position, heading, pitch = views(scenes)
    packets, single = (EmbreeRenderer(scenes, packets=packets) for packets in (True, False))
    seen = [r.render(index, position, heading, camera, ALL, pitch) for r in (packets, single)]
    assert_same(*seen)
    if camera.size > 1:
        assert len(np.unique(seen[0]["face"])) > 20


def test_images_do_not_depend_on_the_number_of_threads() -> None:
    scenes = pierced(many_scenes(3))
    pose = *views(scenes, 23)[:3], Camera(20), ALL
    images = []
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            images.append(EmbreeRenderer(scenes).render(*pose))
        with pytest.raises(ValueError, match="at least one thread, got 0"):
            set_num_threads(0)
        assert num_threads() == 5
    finally:
        set_num_threads(1)
    for name in ALL:
        np.testing.assert_array_equal(images[1][name], images[0][name])
        np.testing.assert_array_equal(images[2][name], images[0][name])


def test_a_ray_gives_up_behind_more_unseen_faces_than_it_may_pass() -> None:
    wall, sheet = box([-4, -1, -4], [4, 3, 4]), quad([1, -1, -1], [-2, 0, 0], [0, 4, 0])[0]
    for sheets, seen in ((63, True), (65, False)):
        backs = np.concatenate([sheet - [0, 0, 0.01 * k] for k in range(sheets)])
        scene = replace(scene_of(np.concatenate([wall, backs])), one_sided=np.arange(12 + len(backs)) >= 12)
        for packets in (True, False):
            images = EmbreeRenderer([scene], packets=packets).render([0], [[0, 0, 0]], [0], Camera(8, 40.0), ALL)
            assert (images["face"] >= 0).all() == seen
            np.testing.assert_allclose(images["depth"], 4.0 if seen else 0.0, atol=1e-4)


def test_without_a_library_rays_travel_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libembree4.so"
    broken.write_bytes(b"no library")
    for files, message in (([], "could be found"), ([broken], "libembree4.so cannot be called")):
        monkeypatch.setattr(embree, "library_files", lambda files=files: iter(files))
        embree.library.cache_clear()
        try:
            assert message in str(embree.library())
            images = EmbreeRenderer(many_scenes(1)).render([0], [[0, 0, 0]], [0], Camera(8))
        finally:
            embree.library.cache_clear()
        assert images["depth"].all()


def test_another_version_of_the_library_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    found()
    monkeypatch.setattr(embree, "_MAJOR", 5)
    embree.library.cache_clear()
    try:
        assert "it is Embree 4." in str(embree.library())
    finally:
        embree.library.cache_clear()
