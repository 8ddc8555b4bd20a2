"""What agents see: RGB, depth, normals and labels of many agents in many scenes, by ray casting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import ArrayLike, NDArray

from envs import _shading
from envs.scene import Scene

# Sensor name -> (dtype, shape of one pixel).
SENSORS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "rgb": (np.uint8, (3,)),
    "depth": (np.float32, ()),
    "normal": (np.float32, (3,)),
    "semantic": (np.int32, ()),
    "instance": (np.int32, ()),
    "face": (np.int32, ()),
}
# Rays traced at once: bounds memory (about 60 bytes a ray) and keeps hits in the cache until they are shaded.
RAYS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Camera:
    """A square pinhole camera; the defaults are Habitat's, but for the size.

    Attributes:
        size: Pixels per side.
        hfov: Horizontal (and vertical) field of view in degrees, in (0, 180).
        height: Height above the agent's floor position in metres.
    """

    size: int = 64
    hfov: float = 90.0
    height: float = 1.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 1:
            raise ValueError(f"camera size must be at least 1 pixel, got {self.size}")
        if not 0.0 < self.hfov < 180.0:
            raise ValueError(f"camera hfov must lie between 0 and 180 degrees, got {self.hfov}")
        if not math.isfinite(self.height):
            raise ValueError(f"camera height must be finite, got {self.height}")


class Renderer(Protocol):
    """What every rendering backend offers; `EmbreeRenderer.render` describes arguments and results."""

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
        """Render one image per agent and sensor."""
        ...


class EmbreeRenderer:
    """Renders on one CPU core with Embree; unlit: a pixel is the bilinear texel times the corner colour.

    An image depends on its own agent alone: a batch equals its single images bit for bit.
    Calls may run in several threads at once.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        """Build the ray-casting structures of `scenes`; arrays of textures shared by scenes are stored once.

        Args:
            scenes: The places that `scene_index` of `render` counts.

        Raises:
            ValueError: There is no scene.
        """
        if not scenes:
            raise ValueError("the renderer needs at least one scene")
        self._scenes = tuple(scenes)
        self._texels, self._textures, rows = _pack_textures(self._scenes)
        self._faces = [_pack_faces(scene, row) for scene, row in zip(self._scenes, rows, strict=True)]
        self._trees = [build_tree(scene) for scene in self._scenes]

    @property
    def texture_bytes(self) -> int:
        """Memory that the textures of all scenes take."""
        return self._texels.nbytes

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
        """Render what N agents see.

        Args:
            scene_index: (N,) integers, the scene of each agent, in any order.
            position: (N, 3) floor positions under the agents, metres; the camera is `camera.height` above.
            heading: (N,) rotations about +Y in radians; 0 looks along -Z, positive turns left.
            camera: The camera of all agents; S is its size.
            sensors: Names out of `SENSORS`.
            pitch: (N,) camera tilts in radians, positive looks up; level when None.
            out: C-contiguous arrays to write into, by sensor name; what is missing is allocated.

        Returns:
            One array per sensor, in row order from the top left:
            rgb (N, S, S, 3) uint8, black where nothing is hit;
            depth (N, S, S) float32, metres along the optical axis, 0 where nothing is hit;
            normal (N, S, S, 3) float32, geometric unit normals in world axes, facing the camera, 0 where
            nothing is hit;
            semantic, instance, face (N, S, S) int32: class, object and face index, -1 where nothing is hit.

        Raises:
            ValueError: Shapes, dtypes, a sensor name or a scene index are wrong, or a pose is not finite.
        """
        scene_index, position, heading, tilt = self._check_poses(scene_index, position, heading, pitch)
        images = _allocate(len(scene_index), camera.size, sensors, out)
        for scene, agents in self._chunks(scene_index, camera.size**2):
            self._render_chunk(scene, agents, position[agents], heading[agents], tilt[agents], camera, images)
        return images

    def _check_poses(
        self, scene_index: ArrayLike, position: ArrayLike, heading: ArrayLike, pitch: ArrayLike | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the poses as arrays of the documented shapes, or say what is wrong with them."""
        index = np.asarray(scene_index)
        if index.ndim != 1 or (index.size and not np.issubdtype(index.dtype, np.integer)):
            raise ValueError(f"scene_index must be integers of shape (N,), got {index.dtype}{index.shape}")
        count = len(index)
        if count and (index.min() < 0 or index.max() >= len(self._scenes)):
            raise ValueError(
                f"scene_index must lie in 0..{len(self._scenes) - 1}, got {index.min()}..{index.max()}"
            )
        arrays = []
        poses = {
            "position": (position, (count, 3)),
            "heading": (heading, (count,)),
            "pitch": (pitch, (count,)),
        }
        for name, (value, shape) in poses.items():
            array = np.zeros(shape) if value is None else np.ascontiguousarray(value, dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                agent = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"{name} of agent {agent} is not finite: {array[agent]}")
            arrays.append(array)
        return index.astype(np.int64), arrays[0], arrays[1], arrays[2]

    @staticmethod
    def _chunks(scene_index: NDArray[np.int64], pixels: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield (scene, agents) so that the agents of a scene are traced together, within `RAYS_AT_ONCE`."""
        most = max(1, RAYS_AT_ONCE // pixels)
        for scene in np.unique(scene_index):
            agents = np.flatnonzero(scene_index == scene)
            for start in range(0, len(agents), most):
                yield int(scene), agents[start : start + most]

    def _render_chunk(
        self,
        scene: int,
        agents: NDArray[np.intp],
        position: NDArray[np.float64],
        heading: NDArray[np.float64],
        pitch: NDArray[np.float64],
        camera: Camera,
        images: dict[str, NDArray[Any]],
    ) -> None:
        """Render `agents`, all in one scene, into their rows of `images`."""
        rays = len(agents) * camera.size**2
        origins = np.empty((rays, 3), np.float32)
        directions = np.empty((rays, 3), np.float32)
        half_width = math.tan(math.radians(camera.hfov) / 2)
        _shading.make_rays(
            position, heading, pitch, camera.size, half_width, camera.height, origins, directions
        )
        hits = self._trees[scene].run(origins, directions, output=1)
        first, last = int(agents[0]), int(agents[-1])
        adjacent = last - first + 1 == len(agents)
        rows: slice | NDArray[np.intp] = slice(first, last + 1) if adjacent else agents
        # Agents that are neighbours in the batch are shaded in place, others through a copy.
        parts = {name: images[name][rows] for name in images}
        flat = []
        for name, (dtype, pixel) in SENSORS.items():
            part = parts.get(name)
            flat.append(np.empty((0, *pixel), dtype) if part is None else part.reshape(rays, *pixel))
        floats = self._faces[scene]
        _shading.shade(
            hits["primID"],
            hits["tfar"],
            hits["u"],
            hits["v"],
            directions,
            floats,
            floats.view(np.int32),
            self._texels,
            self._textures,
            *flat,
        )
        if not adjacent:
            for name, part in parts.items():
                images[name][rows] = part


def make_renderer(scenes: Sequence[Scene], device: str = "cpu") -> Renderer:
    """Return the renderer of `scenes` for a device.

    Args:
        scenes: The places to render.
        device: ``"cpu"`` (Embree).

    Raises:
        ValueError: There is no renderer for the device.
    """
    if device == "cpu":
        return EmbreeRenderer(scenes)
    if device.split(":")[0] == "cuda":
        raise ValueError(
            f"no renderer for device {device!r}: the extra 'cuda' does not hold one yet; "
            "render with device='cpu' (networks may still run on CUDA)"
        )
    raise ValueError(f"unknown render device {device!r}: choose 'cpu'")


def _allocate(
    count: int, size: int, sensors: Sequence[str], out: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """Return the arrays to render into, those of `out` where given."""
    images: dict[str, NDArray[Any]] = {}
    for name in sensors:
        if name not in SENSORS:
            near = get_close_matches(name, SENSORS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(SENSORS)}"
            raise ValueError(f"unknown sensor {name!r}: {hint}")
        dtype, pixel = SENSORS[name]
        shape = (count, size, size, *pixel)
        given = None if out is None else out.get(name)
        if given is None:
            images[name] = np.empty(shape, dtype)
        elif given.shape != shape or given.dtype != dtype or not given.flags.c_contiguous:
            raise ValueError(
                f"out[{name!r}] must be C-contiguous {np.dtype(dtype)}{shape}, got {given.dtype}{given.shape}"
            )
        else:
            images[name] = given
    return images


def _pack_textures(
    scenes: Sequence[Scene],
) -> tuple[NDArray[np.uint32], NDArray[np.int64], list[NDArray[np.int32]]]:
    """Lay all textures one after the other, each array once.

    Returns:
        (T,) texels as r | g << 8 | b << 16; (K, 3) offset, width and height of each texture; per scene, the
        row in that table of each of its textures.
    """
    row_of: dict[int, int] = {}
    packed: list[NDArray[np.uint32]] = []
    table: list[tuple[int, int, int]] = []
    offset = 0
    rows = []
    for scene in scenes:
        for number, texture in enumerate(scene.textures):
            if id(texture) in row_of:
                continue
            if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] != 3 or not texture.size:
                raise ValueError(
                    f"scene {scene.name}: texture {number} is {texture.dtype}{texture.shape}, "
                    "expected uint8(h, w, 3)"
                )
            rgba = np.zeros((*texture.shape[:2], 4), np.uint8)
            rgba[..., :3] = texture
            packed.append(rgba.view("<u4").astype(np.uint32, copy=False).ravel())
            row_of[id(texture)] = len(table)
            table.append((offset, texture.shape[1], texture.shape[0]))
            offset += packed[-1].size
        rows.append(np.array([row_of[id(texture)] for texture in scene.textures], np.int32))
    texels = np.concatenate(packed) if packed else np.empty(0, np.uint32)
    return texels, np.array(table, np.int64).reshape(-1, 3), rows


def _pack_faces(scene: Scene, texture_row: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the (F, 16) face rows that `_shading.shade` reads."""
    if not np.isfinite(scene.corner_uv).all():
        raise ValueError(f"scene {scene.name}: corner_uv holds NaN or infinity")
    floats = np.zeros((len(scene.faces), _shading.FACE_WORDS), np.float32)
    ints = floats.view(np.int32)
    floats[:, _shading.UV : _shading.UV + 6] = scene.corner_uv.reshape(-1, 6)
    corner = scene.vertices[scene.faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # A face without area has no direction, and no ray can hit it.
    floats[:, _shading.NORMAL : _shading.NORMAL + 3] = normal / np.where(length > 0, length, 1)
    color = scene.corner_color.astype(np.int32)
    ints[:, _shading.COLOR : _shading.COLOR + 3] = color[..., 0] | color[..., 1] << 8 | color[..., 2] << 16
    # The last entry serves index -1: no texture.
    ints[:, _shading.TEXTURE] = np.append(texture_row, np.int32(-1))[scene.face_texture]
    ints[:, _shading.CLASS] = scene.face_class
    ints[:, _shading.INSTANCE] = scene.face_instance
    return floats


def build_tree(scene: Scene) -> EmbreeScene:
    """Return the scene's bounding volume hierarchy, built."""
    # Without `robust`, rays can slip between two triangles that share an edge; it costs nothing measurable.
    tree = EmbreeScene(robust=True)
    TriangleMesh(tree, np.ascontiguousarray(scene.vertices[scene.faces]))
    # Embree builds at the first query: not in the first frame.
    tree.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    return tree
