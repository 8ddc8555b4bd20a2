"""Taskonomy datasets: labels of a rendered view, their files and how those are named.

A dataset is ``{root}/{domain}/{building}/point_{P}_view_{V}_domain_{domain}.png`` (``.npy`` for the two
classifications), with ``point_info`` (``.json``) for the cameras. P counts points of interest, V the views
that look at one. The inputs of autoencoding and denoising are ``rgb``.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.names import nearest
from configs.writing import sweep, write_atomically
from envs.rendering.renderer import Camera, Renderer
from envs.scene import Scene
from envs.taskonomy import class_labels as classes
from envs.taskonomy import geometry_labels as geometry
from envs.taskonomy import image_labels as image
from envs.taskonomy.narf import keypoints3d
from envs.taskonomy.png import encode_png

POINT_INFO = "point_info"
VIEW_SENSORS = ("rgb", "depth", "normal", "semantic")


@dataclass(frozen=True)
class Viewpoint:
    """A camera that looks at a point.

    Attributes:
        point: Index of the point of interest.
        view: Index of the view among those of the point.
        location: (3,) optical centre, metres, +Y up.
        heading: Rotation about +Y in radians; 0 looks along -Z, positive turns left.
        pitch: Elevation of the optical axis in radians.
        hfov: Field of view in degrees.
        distance: Metres to the point along the optical axis, 0 if the view hits nothing there.
        normal: (3,) unit normal at the point, facing the camera, 0 if nothing is hit.
    """

    point: int
    view: int
    location: tuple[float, float, float]
    heading: float
    pitch: float
    hfov: float
    distance: float
    normal: tuple[float, float, float]

    @property
    def forward(self) -> NDArray[np.float32]:
        """(3,) unit vector of the optical axis in world axes."""
        return np.asarray(geometry.camera_axes(self.heading, self.pitch)[2])


class RenderedView:
    """A rendered view (RGB, depth, normals, classes), from which labels are computed.

    Args:
        scene: Where the view was taken.
        viewpoint: The camera.
        images: The renderer's ``rgb`` (S, S, 3), ``depth`` (S, S), ``normal`` (S, S, 3) in world axes and
            ``semantic`` (S, S), as `envs.rendering.renderer` describes them.
    """

    def __init__(self, scene: Scene, viewpoint: Viewpoint, images: Mapping[str, NDArray[Any]]) -> None:
        self.scene = scene
        self.viewpoint = viewpoint
        self.rgb = images["rgb"]
        self.depth = images["depth"]
        self.semantic = images["semantic"]
        axes = geometry.camera_axes(viewpoint.heading, viewpoint.pitch)
        self.normal = images["normal"] @ axes.T

    @classmethod
    def render(cls, scene: Scene, renderer: Renderer, viewpoint: Viewpoint, size: int) -> RenderedView:
        """Render a view of `size` x `size` pixels; `scene` is the renderer's first."""
        camera, heading, pitch = Camera(size, viewpoint.hfov, 0.0), [viewpoint.heading], [viewpoint.pitch]
        images = renderer.render([0], [viewpoint.location], heading, camera, VIEW_SENSORS, pitch)
        return cls(scene, viewpoint, {name: pixels[0] for name, pixels in images.items()})

    def label(self, domain: str) -> NDArray[Any]:
        """The label image (S, S[, C]) or vector of a domain, as it is stored.

        Raises:
            ValueError: The domain does not exist.
        """
        check_domains([domain])
        return DOMAINS[domain](self)


def _curvature(view: RenderedView) -> NDArray[np.uint8]:
    curvatures = geometry.curvature(view.depth, view.normal, view.viewpoint.hfov)
    return geometry.principal_curvature(curvatures, view.depth)


DOMAINS: dict[str, Callable[[RenderedView], NDArray[Any]]] = {
    "rgb": lambda view: view.rgb,
    "mask_valid": lambda view: geometry.mask_valid(view.depth),
    "principal_curvature": _curvature,
    "segment_semantic": lambda view: classes.segment_semantic(view.semantic, view.scene.class_names),
    "reshading": lambda view: geometry.reshading(view.depth, view.normal, view.viewpoint.hfov),
    "keypoints3d": lambda view: keypoints3d(view.depth, view.viewpoint.hfov),
    "keypoints2d": lambda view: image.keypoints2d(view.rgb),
    "edge_texture": lambda view: image.edge_texture(view.rgb),
    "edge_occlusion": lambda view: geometry.edge_occlusion(view.depth),
    "depth_zbuffer": lambda view: geometry.depth_zbuffer(view.depth),
    "depth_euclidean": lambda view: geometry.depth_euclidean(view.depth, view.viewpoint.hfov),
    "normal": lambda view: geometry.normal(view.normal, view.depth),
    "class_object": lambda view: classes.class_object(view.semantic, view.scene.class_names),
    "class_scene": lambda view: classes.class_scene(view.viewpoint.location, view.scene.rooms),
}
VECTORS = ("class_object", "class_scene")
# Written beside every dataset: which labels are not what Taskonomy's own files hold.
SUBSTITUTES = {
    "rgb": "rendered, not photographed",
    "segment_semantic": "the scene's own classes, not predictions of FCIS; 0 only where the class is unknown",
    "class_object": "0.9 shared by area among visible objects' ImageNet categories, 0.1 uniform",
    "class_scene": "one-hot 63 Places categories from the room the camera stands in; no Places network",
    "keypoints3d": "NARF with distance instead of region growing",
    "principal_curvature": "from differences of rendered positions and normals, not APSS on the mesh",
}


def check_domains(domains: Sequence[str]) -> None:
    """Check that all names exist.

    Raises:
        ValueError: One does not; the nearest is suggested.
    """
    for name in domains:
        if name not in DOMAINS:
            hint = nearest(name, DOMAINS) or f"; choose from {', '.join(DOMAINS)}"
            raise ValueError(f"there is no label domain {name!r}{hint}")


def file_path(root: Path, domain: str, building: str, point: int, view: int) -> Path:
    """Path of a view's label in a dataset."""
    suffix = ".npy" if domain in VECTORS else ".json" if domain == POINT_INFO else ".png"
    return root / domain / building / f"point_{point}_view_{view}_domain_{domain}{suffix}"


def write_view(root: Path, building: str, view: RenderedView, domains: Sequence[str]) -> None:
    """Write the labels of a view that are missing, each file atomically, and its ``point_info`` last.

    Raises:
        ValueError: The view that is there was taken by another camera, so that the labels would not fit together.
        OSError: A file could not be written; whole files stay.
    """
    at = (building, view.viewpoint.point, view.viewpoint.view)
    text = json.dumps(point_info(view.viewpoint, len(view.rgb), building), indent=1).encode()
    camera = file_path(root, POINT_INFO, *at)
    if camera.exists() and camera.read_bytes() != text:
        raise ValueError(f"{camera} is of another camera: the scene has changed since; choose another out=")
    for domain in domains:
        path = file_path(root, domain, *at)
        if not path.exists():
            write_atomically(path, encode(view.label(domain)), lasting=False)
    write_atomically(camera, text, lasting=False)


def is_written(root: Path, building: str, point: int, view: int, domains: Sequence[str]) -> bool:
    """Whether all these labels of a view are there."""
    return all(file_path(root, domain, building, point, view).exists() for domain in (*domains, POINT_INFO))


def encode(label: NDArray[Any]) -> bytes:
    """Content of a label's file: PNG of a uint8 or uint16 image, ``.npy`` of a vector."""
    if label.ndim > 1:
        return encode_png(label)
    stream = io.BytesIO()
    np.save(stream, label)
    return stream.getvalue()


def sweep_building(root: Path, building: str, domains: Sequence[str]) -> None:
    """Remove what a killed process left half-written of these labels of a building."""
    for domain in (*domains, POINT_INFO):
        sweep(root / domain / building)


def point_info(viewpoint: Viewpoint, size: int, building: str) -> dict[str, Any]:
    """Camera of a view with Taskonomy's field names and conventions.

    The world is +Z up here: (x, y, z) of a scene is (x, -z, y). The rotation is R = Rz(c) Ry(b) Rx(a) from
    camera (x right, y up, looking along -z) to world, for ``camera_rotation_final`` = (a, b, c).
    """
    rotation = [math.pi / 2.0 + viewpoint.pitch, 0.0, viewpoint.heading]
    hit = viewpoint.distance > 0.0
    location = np.asarray(viewpoint.location)
    target = location + viewpoint.distance * viewpoint.forward
    cosine = -float(np.dot(viewpoint.forward, viewpoint.normal))
    name = f"{viewpoint.point}_{viewpoint.view}"
    return {
        "building": building,
        "camera_uuid": f"{building}_{name}",
        "point_uuid": f"{building}_{viewpoint.point}",
        "view_id": viewpoint.view,
        "camera_location": _z_up(location),
        "camera_rotation_original": rotation,
        "camera_rotation_from_original_to_final": [0.0, 0.0, 0.0],
        "camera_rotation_final": rotation,
        "camera_rotation_final_quaternion": _quaternion(rotation[0], rotation[2]),
        "field_of_view_rads": math.radians(viewpoint.hfov),
        "resolution": size,
        "point_location": _z_up(target) if hit else None,
        "point_normal": _z_up(np.asarray(viewpoint.normal)) if hit else None,
        "camera_distance": viewpoint.distance if hit else None,
        "obliqueness_angle": math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) if hit else None,
    }


def _z_up(vector: NDArray[Any]) -> list[float]:
    return [float(vector[0]), -float(vector[2]), float(vector[1])]


def _quaternion(tilt: float, turn: float) -> list[float]:
    """(w, x, y, z) of Rz(turn) Rx(tilt)."""
    a, c = tilt / 2.0, turn / 2.0
    return [
        math.cos(c) * math.cos(a),
        math.cos(c) * math.sin(a),
        math.sin(c) * math.sin(a),
        math.sin(c) * math.cos(a),
    ]
