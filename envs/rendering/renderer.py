"""Batched renderer by ray casting: RGB, depth, normals and labels of many agents in many scenes."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.names import nearest
from configs.settings import NotNegative, Pixels, Positive, Range, Settings
from envs.rendering import embree, layout
from envs.rendering.packets import PacketTracer, first_faces
from envs.rendering.packing import pack_faces, pack_gradients
from envs.rendering.textures import add_levels, pack_textures
from envs.rendering.threads import map_threads, num_threads
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
BACKENDS = ("auto", "embree", "warp")
# Parts of a batch per thread: agents do not all take as long.
PARTS = 4


@dataclass(frozen=True)
class Camera(Settings):
    """A pinhole camera; the defaults are Habitat's, but for the size.

    Attributes:
        size: Pixels from top to bottom and, without `width`, from left to right.
        hfov: Horizontal field of view in degrees, in (0, 180); the vertical one follows, as pixels are square.
        height: Height above the agent's floor position in metres.
        width: Pixels from left to right, `size` when None.
        pitch: Tilt in degrees, positive looks up (`orientation: [pitch, 0, 0]` of a Habitat sensor, there in radians).
        near: Depth in metres before which nothing is seen.
        far: Depth in metres beyond which nothing is seen.
        mipmaps: Whether distant textures are filtered, trilinearly as in habitat-sim (OpenGL); else a pixel is the
            bilinear texel, however many texels it covers.
    """

    size: Pixels = 64
    hfov: Annotated[float, Range(0, 180, above=True, below=True)] = 90.0
    height: float = 1.25
    width: Pixels | None = None
    pitch: Annotated[float, Range(-90, 90)] = 0.0
    near: NotNegative = 0.01
    far: Positive = 1000.0
    mipmaps: bool = False

    @property
    def columns(self) -> int:
        """Pixels from left to right."""
        return self.size if self.width is None else self.width

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.require(self.near < self.far, "near", f"less than far={self.far}")


class Renderer(Protocol):
    """The interface of rendering backends; `EmbreeRenderer.render` describes arguments and results."""

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


class Tracer(Protocol):
    """The interface of ray tracers."""

    def render(
        self,
        agents: NDArray[np.int64],
        poses: layout.Poses,
        view: layout.CameraRows,
        surfaces: layout.Surfaces,
        images: layout.Images,
    ) -> None:
        """Write the images of `agents`, which are rows of `poses` and `images`."""
        ...


class EmbreeRenderer:
    """Renders on the CPU with Embree; unlit: a pixel is the bilinear texel times the corner colour.

    An image depends on its own agent alone: a batch equals its single images bit for bit, whatever the number of
    threads that share its agents (`envs.rendering.threads`). Calls may run in several threads at once.
    """

    def __init__(self, scenes: Sequence[Scene], packets: bool = True) -> None:
        """Build the ray-casting structures of `scenes`; arrays of textures shared by scenes are stored once.

        Args:
            scenes: The places that `scene_index` of `render` counts.
            packets: Whether to trace rays in packets; without, and where Embree's library cannot be called,
                embreex traces them one by one.

        Raises:
            ValueError: There is no scene.
        """
        if not scenes:
            raise ValueError("the renderer needs at least one scene")
        self._scenes = tuple(scenes)
        self._lock = threading.Lock()
        texels, textures, self._rows = pack_textures(self._scenes)
        first = first_faces(self._scenes)
        faces = np.zeros((first[-1], layout.FACE_WORDS), np.float32)
        faces.view(np.int32)[0, [layout.CLASS, layout.INSTANCE]] = -1
        for k, scene in enumerate(self._scenes):
            faces[first[k] : first[k + 1]] = pack_faces(scene, self._rows[k])
        gradients = np.empty((0, layout.GRADIENT_WORDS), np.float32)
        self._surfaces = layout.Surfaces(faces, faces.view(np.int32), texels, textures, gradients)
        self._filtered: layout.Surfaces | None = None
        library = embree.library() if packets else ""
        if isinstance(library, embree.EmbreeLibrary):
            self._tracer: Tracer = PacketTracer(library, self._scenes)
        else:
            # Compiling or loading its loops takes a while, and they are rarely needed.
            from envs.rendering.single_rays import SingleRayTracer

            self._tracer = SingleRayTracer(self._scenes)

    @property
    def texture_bytes(self) -> int:
        """Memory that the textures of all scenes take."""
        return self._surfaces.texels[1:].nbytes

    def _with_mipmaps(self) -> layout.Surfaces:
        """The surfaces with levels of detail, made when they are first asked for."""
        with self._lock:
            if self._filtered is None:
                texels, textures = add_levels(self._surfaces.texels, self._surfaces.textures)
                pairs = zip(self._scenes, self._rows, strict=True)
                nothing = np.zeros((1, layout.GRADIENT_WORDS), np.float32)
                gradients = np.concatenate([nothing, *(pack_gradients(scene, row, textures) for scene, row in pairs)])
                self._filtered = self._surfaces._replace(texels=texels, textures=textures, gradients=gradients)
            return self._filtered

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
        """Render the views of N agents.

        Args:
            scene_index: (N,) integers, the scene of each agent, in any order.
            position: (N, 3) floor positions under the agents, metres; the camera is `camera.height` above.
            heading: (N,) rotations about +Y in radians; 0 looks along -Z, positive turns left.
            camera: The camera of all agents; S x S is its size (rows x columns for one that is not square).
            sensors: Names out of `SENSORS`.
            pitch: (N,) tilts in radians, positive looks up, added to the camera's own; 0 when None.
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
        scene_index, position, heading, tilt = check_poses(len(self._scenes), scene_index, position, heading, pitch)
        count, pixels = len(scene_index), camera.size * camera.columns
        images = allocate(count, camera.size, sensors, out, camera.columns)
        flat = {name: image.reshape(count, pixels, *SENSORS[name][1]) for name, image in images.items()}
        absent = {name: np.empty((0, 0, *pixel), dtype) for name, (dtype, pixel) in SENSORS.items()}
        into = layout.Images(**(absent | flat))
        half_width = math.tan(math.radians(camera.hfov) / 2)
        # Integers would be compiled for once more.
        limits = float(camera.height), float(camera.near), float(camera.far)
        view = layout.CameraRows(camera.size, camera.columns, half_width, *limits, camera.mipmaps)
        surfaces = self._with_mipmaps() if camera.mipmaps and "rgb" in images else self._surfaces
        poses = layout.Poses(scene_index, position, heading, tilt + math.radians(camera.pitch))
        # What agents of one scene look up is still in the cache for the next.
        agents = np.argsort(scene_index, kind="stable")
        threads = num_threads()
        parts = np.array_split(agents, min(count, PARTS * threads if threads > 1 else 1) or 1)
        map_threads(lambda part: self._tracer.render(part, poses, view, surfaces, into), parts)
        return images


def compile_ahead() -> None:
    """Compile what `EmbreeRenderer.render` runs, or load it from the cache, without any scene of the caller's.

    For a process that waits while another gets its scenes ready: compiling takes tens of seconds the first time.
    """
    nothing = Scene(
        name="nothing",
        vertices=np.eye(3, dtype=np.float32),
        faces=np.arange(3, dtype=np.int32)[None],
        corner_uv=np.zeros((1, 3, 2), np.float32),
        corner_color=np.zeros((1, 3, 3), np.uint8),
        face_texture=np.full(1, -1, np.int32),
        textures=(),
        face_class=np.zeros(1, np.int32),
        face_instance=np.zeros(1, np.int32),
        class_names=("nothing",),
        solid=np.zeros(1, np.bool_),
    )
    EmbreeRenderer([nothing]).render(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0), Camera())


def make_renderer(scenes: Sequence[Scene], device: str = "cpu", backend: str = "auto") -> Renderer:
    """Return a renderer of `scenes`.

    Args:
        scenes: The places to render.
        device: ``"cpu"``, or ``"cuda"`` for Warp.
        backend: ``"embree"`` (CPU), ``"warp"`` (CUDA, or slowly on the CPU), or ``"auto"``: Warp on CUDA, else Embree.

    Raises:
        ValueError: There is no such backend for the device, or Warp is not installed.
    """
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"unknown render device {device!r}: choose 'cpu' or 'cuda'")
    if choose_backend(backend, device) == "embree":
        return EmbreeRenderer(scenes)
    from envs.warp.renderer import WarpRenderer

    return WarpRenderer(scenes, device)


def choose_backend(backend: str, device: str) -> str:
    """``embree`` or ``warp`` for a device; ``auto`` is Warp where the device is CUDA's and Warp is installed.

    Raises:
        ValueError: There is no such backend, or Warp was asked for and is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown renderer {backend!r}: choose from {', '.join(BACKENDS)}")
    on_cuda, installed = device.startswith("cuda"), find_spec("warp") is not None
    if backend == "auto":
        return "warp" if on_cuda and installed else "embree"
    if backend == "warp" and not installed:
        raise ValueError("the renderer 'warp' needs NVIDIA Warp: pip install -e '.[cuda]', or choose embree")
    return backend


def check_poses(
    scenes: int, scene_index: ArrayLike, position: ArrayLike, heading: ArrayLike, pitch: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return poses in `scenes` scenes as arrays of the shapes that `render` documents, or say what is wrong."""
    index = np.asarray(scene_index)
    if index.ndim != 1 or (index.size and not np.issubdtype(index.dtype, np.integer)):
        raise ValueError(f"scene_index must be integers of shape (N,), got {index.dtype}{index.shape}")
    count = len(index)
    if count and (index.min() < 0 or index.max() >= scenes):
        raise ValueError(f"scene_index must lie in 0..{scenes - 1}, got {index.min()}..{index.max()}")
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


def check_sensors(sensors: Sequence[str]) -> None:
    """Refuse a name that is not in `SENSORS`, with the nearest one that is."""
    for name in sensors:
        if name not in SENSORS:
            hint = nearest(name, SENSORS) or f"; choose from {', '.join(SENSORS)}"
            raise ValueError(f"unknown sensor {name!r}{hint}")


def allocate(
    count: int,
    size: int,
    sensors: Sequence[str],
    out: Mapping[str, NDArray[Any]] | None,
    columns: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Return the arrays to render into, those of `out` where given; images are square without `columns`."""
    images: dict[str, NDArray[Any]] = {}
    check_sensors(sensors)
    for name in sensors:
        dtype, pixel = SENSORS[name]
        shape = (count, size, size if columns is None else columns, *pixel)
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
