"""Habitat-Lab's camera sensors, rendered by the embedded renderer: pinhole, equirectangular, fisheye; their noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.habitat.cube_maps import CubeMap, double_sphere_rays, equirectangular_rays
from envs.pointnav.noise import Noise, NoiseSettings
from envs.rendering.renderer import Camera, Renderer

# Habitat-Lab's kinds of camera -> the renderer's sensor. Habitat's semantic sensor shows object ids.
RENDERED = {"COLOR": "rgb", "DEPTH": "depth", "SEMANTIC": "instance"}


@dataclass(frozen=True)
class MountedCamera:
    """A camera on the agent.

    Attributes:
        camera: A pinhole camera; of others only the height counts.
        ahead: Metres that it is in front of the agent's middle.
        right: Metres that it is to the right of it.
        yaw: Radians that it is turned to the left.
        cube: Pixels of an equirectangular or fisheye camera; None: it is a pinhole.
    """

    camera: Camera
    ahead: float
    right: float
    yaw: float
    cube: CubeMap | None = None


def view_of(config: Any) -> MountedCamera:
    """The camera that a Habitat-Lab sensor config asks for.

    Raises:
        ValueError: It is none that the embedded renderer can draw; the message names the key.
    """
    kind = str(config.type)
    pitch, yaw, roll = (float(angle) for angle in config.orientation)
    if roll:
        raise ValueError(f"the embedded simulator does not roll cameras; {kind} asks for orientation[2]={roll}")
    x, y, z = (float(v) for v in config.position)
    rows, columns = int(config.height), int(config.width)
    if "Equirectangular" in kind or "Fisheye" in kind:
        lens = _lens(config) if "Fisheye" in kind else None
        return MountedCamera(Camera(height=y), -z, x, yaw, _cube_map(rows, columns, pitch, lens))
    if config.get("sensor_subtype", None) != "PINHOLE":
        raise ValueError(
            f"the embedded simulator draws pinhole, equirectangular and fisheye cameras only, not the sensor {kind}"
        )
    camera = Camera(rows, float(config.hfov), y, columns, math.degrees(pitch))
    return MountedCamera(camera, -z, x, yaw)


@dataclass(frozen=True)
class _Lens:
    """Arguments of `double_sphere_rays`."""

    focal_length: tuple[float, ...]
    alpha: float
    xi: float
    principal_point: tuple[float, ...] | None


def _lens(config: Any) -> _Lens:
    """The lens of a fisheye sensor config."""
    if config.sensor_model_type != "DOUBLE_SPHERE":
        raise ValueError(f"{config.type}: sensor_model_type={config.sensor_model_type} is unknown; use DOUBLE_SPHERE")
    lens = _Lens(
        tuple(float(v) for v in config.focal_length),
        float(config.alpha),
        float(config.xi),
        None if config.principal_point_offset is None else tuple(float(v) for v in config.principal_point_offset),
    )
    if min(lens.focal_length) <= 0 or not 0 <= lens.alpha <= 1:
        raise ValueError(f"{config.type}: focal_length must be positive and alpha between 0 and 1")
    return lens


@lru_cache(16)
def _cube_map(rows: int, columns: int, pitch: float, lens: _Lens | None) -> CubeMap:
    """The cube map of a fisheye, or of an equirectangular camera where there is no lens; sensors alike share it."""
    rays = equirectangular_rays(rows, columns) if lens is None else double_sphere_rays(rows, columns, **vars(lens))
    return CubeMap.of(rays, pitch)


def noise_of(config: Any) -> NoiseSettings:
    """The noise that a Habitat-Lab sensor config asks for; equirectangular and fisheye sensors have none.

    Raises:
        ValueError: It is of a model that the embedded simulator does not have.
    """
    model, kind = str(config.get("noise_model", "None")), str(config.type)
    if model == "None":
        return NoiseSettings()
    given = {key: float(value) for key, value in config.noise_model_kwargs.items()}
    if model == "GaussianNoiseModel" and "RGB" in kind and not given.get("mean", 0.0):
        return NoiseSettings(rgb=given.get("intensity_constant", 0.2) * given.get("sigma", 1.0))
    if model == "RedwoodDepthNoiseModel" and "Depth" in kind:
        return NoiseSettings(depth=given.get("noise_multiplier", 1.0))
    raise ValueError(
        "the embedded simulator knows GaussianNoiseModel of mean 0 for RGB and RedwoodDepthNoiseModel for depth; "
        f"{kind} asks for noise_model={model} with {given}"
    )


def observe(
    renderer: Renderer,
    views: Mapping[str, tuple[MountedCamera, str]],
    position: NDArray[np.float64],
    heading: float,
    noise: Mapping[str, Noise],
) -> dict[str, NDArray[Any]]:
    """Render an agent's camera sensors.

    Args:
        renderer: Renderer of one scene.
        views: Sensor name -> (camera, renderer's sensor).
        position: (3,) the agent's place on the floor.
        heading: Radians.
        noise: Sensor name -> its noise, where it has any.

    Returns:
        Per sensor name what habitat-sim gives: rgb (H, W, 3) uint8, depth (H, W) float32 metres, object ids (H, W)
        int32 from 1, 0 where there is nothing.
    """
    out: dict[str, NDArray[Any]] = {}
    for view in dict.fromkeys(view for view, _ in views.values()):
        wanted = sorted({kind for other, kind in views.values() if other == view})
        cos, sin = math.cos(heading), math.sin(heading)
        offset = np.array([cos * view.right - sin * view.ahead, 0.0, -sin * view.right - cos * view.ahead])
        place, facing = position + offset, heading + view.yaw
        if view.cube is None:
            images = {k: v[0] for k, v in renderer.render([0], place[None], [facing], view.camera, wanted).items()}
        else:
            images = view.cube.render(renderer, place, facing, view.camera, wanted)
        for name, (other, kind) in views.items():
            if other == view:
                out[name] = images[kind] + (kind == "instance")
    first = np.array([0])
    for name, source in noise.items():
        apply = source.rgb if views[name][1] == "rgb" else source.depth
        out[name] = apply(first, out[name][None])[0]
    return out
