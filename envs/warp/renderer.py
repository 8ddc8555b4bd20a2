"""Rendering with Warp: all scenes resident on one device, all agents in one launch, images shared with torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import warp as wp
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from envs.rendering.packing import pack_faces, pack_gradients, traced_triangles
from envs.rendering.renderer import (
    SENSORS,
    Camera,
    allocate,
    check_poses,
    check_sensors,
)
from envs.rendering.textures import add_levels, pack_textures
from envs.scene import Scene
from envs.warp import shading
from envs.warp.launching import device_name, finish_uploads, launch

_TORCH: dict[Any, torch.dtype] = {np.uint8: torch.uint8, np.float32: torch.float32, np.int32: torch.int32}


class WarpRenderer:
    """The images of `envs.rendering.renderer.EmbreeRenderer`, traced and shaded by one kernel on a CUDA device or
    the CPU.

    Depths are Embree's to 1e-4 m and colours to 2 levels, but for pixels on the edge between two faces.

    Attributes:
        device: ``cpu`` or ``cuda:<number>``.
    """

    def __init__(self, scenes: Sequence[Scene], device: str = "cuda") -> None:
        """Copy the scenes to the device and build their trees.

        Args:
            scenes: The places that `scene_index` counts; arrays of textures shared by scenes are stored once.
            device: Torch's name of the device.

        Raises:
            ValueError: There is no scene, no such device, or more faces or texels than 32 bits can count.
        """
        if not scenes:
            raise ValueError("the renderer needs at least one scene")
        self.device = device_name(device)
        self._scenes = tuple(scenes)
        texels, textures, self._rows = pack_textures(self._scenes)
        self._textures = texels, textures
        counts = [len(scene.faces) for scene in self._scenes]
        if max(len(texels), sum(counts) * 16) >= 2**31:
            raise ValueError(
                f"{len(texels)} texels and {sum(counts)} faces are too many for one renderer; use fewer scenes"
            )
        faces = np.concatenate([pack_faces(s, row) for s, row in zip(self._scenes, self._rows, strict=True)])
        # Warp reads a tree's own points; they must outlive it.
        self._trees = [self._build(scene) for scene in self._scenes]
        floats = wp.array(faces, dtype=wp.float32, device=self.device)
        self._resident = shading.DeviceScenes()
        self._resident.meshes = wp.array([tree.id for tree in self._trees], dtype=wp.uint64, device=self.device)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
        self._resident.first_face = wp.array(first, dtype=wp.int32, device=self.device)
        self._resident.face_floats = floats
        self._resident.face_ints = floats.view(wp.int32)
        self._resident.texels = wp.array(texels, dtype=wp.uint32, device=self.device)
        self._resident.textures = wp.array(textures, dtype=wp.int32, device=self.device)
        self._filtered: shading.DeviceScenes | None = None
        self._nothing = {
            name: wp.empty((0, 3) if pixel else 0, dtype=getattr(wp, np.dtype(kind).name), device=self.device)
            for name, (kind, pixel) in SENSORS.items()
        }
        finish_uploads(self.device)

    def _build(self, scene: Scene) -> wp.Mesh:
        vertices, faces = scene.vertices, scene.faces.ravel()
        if scene.one_sided is not None:
            vertices, faces = traced_triangles(scene).reshape(-1, 3), np.arange(len(faces), dtype=np.int32)
        points = wp.array(vertices, dtype=wp.vec3, device=self.device)
        return wp.Mesh(points, wp.array(faces, dtype=wp.int32, device=self.device), bvh_constructor="sah")

    @property
    def resident_bytes(self) -> int:
        """Device memory of vertices, faces and textures; the trees come on top, about 64 bytes a face."""
        own = [self._resident.face_floats, self._resident.texels]
        if self._filtered is not None:
            own += [self._filtered.gradient_floats, self._filtered.texels]
        meshes = sum(array.capacity for tree in self._trees for array in (tree.points, tree.indices))
        return sum(array.capacity for array in own) + meshes

    def _with_mipmaps(self) -> shading.DeviceScenes:
        """The scenes with levels of detail, copied to the device when they are first asked for."""
        if self._filtered is None:
            texels, textures = add_levels(*self._textures)
            pairs = zip(self._scenes, self._rows, strict=True)
            gradients = np.concatenate([pack_gradients(scene, row, textures) for scene, row in pairs])
            filtered, own = shading.DeviceScenes(), self._resident
            filtered.meshes, filtered.first_face = own.meshes, own.first_face
            filtered.face_floats, filtered.face_ints = own.face_floats, own.face_ints
            filtered.texels = wp.array(texels, dtype=wp.uint32, device=self.device)
            filtered.textures = wp.array(textures, dtype=wp.int32, device=self.device)
            filtered.gradient_floats = wp.array(gradients, dtype=wp.float32, device=self.device)
            filtered.gradient_ints = filtered.gradient_floats.view(wp.int32)
            finish_uploads(self.device)
            self._filtered = filtered
        return self._filtered

    def render_tensors(
        self,
        scene_index: Tensor,
        position: Tensor,
        heading: Tensor,
        camera: Camera,
        sensors: Sequence[str] = ("rgb", "depth"),
        pitch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Render N agents into tensors on the device.

        Arguments and results are those of `envs.rendering.renderer.EmbreeRenderer.render`, as tensors on this
        renderer's device;
        scene indices (int64) and poses (float64) are trusted.
        """
        check_sensors(sensors)
        count, size = len(scene_index), (camera.size, camera.columns)
        rays = count * size[0] * size[1]
        images, target = {}, shading.DeviceImages()
        for name, (kind, pixel) in SENSORS.items():
            array = self._nothing[name]
            if name in sensors:
                images[name] = torch.empty((count, *size, *pixel), dtype=_TORCH[kind], device=self.device)
                array = wp.from_torch(images[name].view(rays, *pixel))
            setattr(target, name, array)
        if count:
            view = self.view(scene_index, position, heading, camera, pitch)
            scenes = self._with_mipmaps() if camera.mipmaps and "rgb" in sensors else self._resident
            launch(shading.trace_and_shade, rays, [scenes, view, target], self.device)
        return images

    def view(
        self, scene_index: Tensor, position: Tensor, heading: Tensor, camera: Camera, pitch: Tensor | None = None
    ) -> shading.DeviceCameras:
        """The cameras as the kernels read them."""
        tilt = torch.zeros_like(heading) if pitch is None else pitch
        tilt = tilt + math.radians(camera.pitch)
        x, y, z = position.unbind(1)
        columns = [x, y + camera.height, z, heading.sin(), heading.cos(), tilt.sin(), tilt.cos()]
        view = shading.DeviceCameras()
        view.scene = wp.from_torch(scene_index)
        view.camera = wp.from_torch(torch.stack(columns, 1).float())
        view.rows, view.columns = camera.size, camera.columns
        view.near, view.far = camera.near, camera.far
        view.mipmaps = int(camera.mipmaps)
        view.half_width = math.tan(math.radians(camera.hfov) / 2)
        return view

    def trace(self, view: shading.DeviceCameras, depth: Tensor) -> None:
        """Cast the rays of `view` and write their bare parameters into (N * S * S,) float32 `depth`."""
        launch(shading.trace, len(depth), [self._resident, view, wp.from_torch(depth)], self.device)

    def render(
        self,
        scene_index: ArrayLike,
        position: ArrayLike,
        heading: ArrayLike,
        camera: Camera,
        sensors: Sequence[str] = ("rgb", "depth"),
        pitch: ArrayLike | None = None,
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Render N agents into host memory, as `envs.rendering.renderer.EmbreeRenderer.render`."""
        poses = check_poses(len(self._scenes), scene_index, position, heading, pitch)
        images = allocate(len(poses[0]), camera.size, sensors, out, camera.columns)
        index, place, turn, tilt = (torch.as_tensor(pose, device=self.device) for pose in poses)
        for name, image in self.render_tensors(index, place, turn, camera, sensors, tilt).items():
            images[name][...] = image.cpu().numpy()
        return images
