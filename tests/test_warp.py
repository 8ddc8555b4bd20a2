"""The Warp backend on Warp's CPU device, where the code that CUDA runs is the same; on CUDA under the marker `gpu`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from extras import REASONS
from rooms import scene, simple_place, wall

from envs.rendering.renderer import SENSORS, Camera, EmbreeRenderer, choose_backend, make_renderer
from envs.scene import Sampler, Scene

pytest.importorskip("warp", reason=REASONS["warp"])

from envs.warp.renderer import WarpRenderer

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CAMERAS = [Camera(size=32), Camera(size=30, width=44, hfov=70.0, pitch=-12.0, near=0.3, far=3.0, mipmaps=True)]


def odd_scene() -> Scene:
    """A room whose walls are one-sided, partly cut out by alpha, under textures that mirror and clamp."""
    made = scene(4.0, 4.0, [wall(0.0, 2.0, 2.5, 2.0)], "odd")
    rng = np.random.default_rng(2)
    texture = rng.integers(0, 255, (8, 16, 4), dtype=np.uint8)
    count = len(made.faces)
    return dataclasses.replace(
        made,
        textures=(texture, made.textures[0]),
        samplers=(Sampler("mirror", "clamp"), Sampler("repeat", "mirror", "nearest", "linear", "nearest")),
        face_texture=rng.integers(-1, 2, count).astype(np.int32),
        one_sided=np.arange(count) % 3 == 0,
        cutoff=np.where(np.arange(count) % 2 == 0, 128, 0).astype(np.uint8),
    )


def images(device: str, camera: Camera) -> tuple[dict, dict]:
    place = simple_place()
    scenes = [place.scene, odd_scene(), scene(4.0, 4.0, name="plain")]
    rng = np.random.default_rng(0)
    count = 24
    index = rng.integers(0, len(scenes), count)
    poses = (
        place.grid.sample(rng, count),
        rng.uniform(-4, 4, count),
        camera,
        list(SENSORS),
        rng.uniform(-0.5, 0.5, count),
    )
    return WarpRenderer(scenes, device).render(index, *poses), EmbreeRenderer(scenes).render(index, *poses)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("camera", CAMERAS, ids=["square", "wide"])
def test_same_images_as_embree(device: str, camera: Camera) -> None:
    warp, embree = images(device, camera)
    same = warp["face"] == embree["face"]
    assert same.mean() > 0.995  # the others lie on an edge between two faces
    assert len(np.unique(embree["face"])) > 20
    assert np.abs(warp["depth"] - embree["depth"])[same].max() < 1e-4
    assert np.abs(warp["rgb"].astype(int) - embree["rgb"])[same].max() <= 2
    assert np.abs(warp["normal"] - embree["normal"])[same].max() < 1e-6
    for name in ("semantic", "instance"):
        assert np.array_equal(warp[name][same], embree[name][same])
    if camera.far < 10:
        assert (embree["face"] < 0).any()
    for name in SENSORS:
        assert warp[name].dtype == embree[name].dtype
        assert warp[name].shape == embree[name].shape


@pytest.mark.parametrize("device", DEVICES)
def test_images_are_tensors_of_the_device_and_depend_on_their_own_agent_alone(device: str) -> None:
    place = simple_place()
    renderer = WarpRenderer([place.scene, odd_scene()], device)
    rng = np.random.default_rng(1)
    index = torch.tensor([0, 1, 1, 0], device=device)
    position = torch.as_tensor(place.grid.sample(rng, 4), device=device)
    heading = torch.as_tensor(rng.uniform(-3, 3, 4), device=device)
    whole = renderer.render_tensors(index, position, heading, CAMERAS[0])
    assert all(image.device.type == device for image in whole.values())
    for n in range(4):
        rows = slice(n, n + 1)
        alone = renderer.render_tensors(index[rows], position[rows], heading[rows], CAMERAS[0])
        assert all(torch.equal(alone[name][0], whole[name][n]) for name in whole)
    assert renderer.render_tensors(index[:0], position[:0], heading[:0], CAMERAS[0])["rgb"].shape == (0, 32, 32, 3)


@pytest.mark.parametrize("device", DEVICES)
def test_bare_rays_find_the_depth_of_the_images(device: str) -> None:
    place = simple_place()
    renderer = WarpRenderer([place.scene], device)
    position = torch.as_tensor(place.grid.sample(np.random.default_rng(3), 3), device=device)
    heading, index = (
        torch.zeros(3, dtype=torch.float64, device=device),
        torch.zeros(3, dtype=torch.int64, device=device),
    )
    depth = torch.empty(3 * 32 * 32, device=device)
    renderer.trace(renderer.view(index, position, heading, CAMERAS[0]), depth)
    image = renderer.render_tensors(index, position, heading, CAMERAS[0], ["depth"])["depth"].flatten()
    seen = image > 0
    assert torch.allclose(depth[seen] + CAMERAS[0].near, image[seen])


def test_backend_follows_the_device() -> None:
    assert choose_backend("auto", "cpu") == "embree"
    assert choose_backend("auto", "cuda:0") == "warp"
    assert choose_backend("embree", "cuda") == "embree"
    assert isinstance(make_renderer([scene(3, 3)], "cpu", "warp"), WarpRenderer)
    with pytest.raises(ValueError, match="at least one scene"):
        WarpRenderer([], "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no such CUDA device here"):
            WarpRenderer([scene(3, 3)], "cuda")
