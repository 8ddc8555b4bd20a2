"""Habitat-Lab's camera sensors, rendered by the embedded renderer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.rendering.renderer import Camera, Renderer

# Habitat-Lab's kinds of camera -> the renderer's sensor. Habitat's semantic sensor shows object ids.
RENDERED = {"COLOR": "rgb", "DEPTH": "depth", "SEMANTIC": "instance"}


@dataclass(frozen=True)
class MountedCamera:
    """A camera on the agent.

    Attributes:
        camera: The camera.
        ahead: Metres that it is in front of the agent's middle.
        right: Metres that it is to the right of it.
        yaw: Radians that it is turned to the left.
    """

    camera: Camera
    ahead: float
    right: float
    yaw: float


def view_of(config: Any) -> MountedCamera:
    """The camera that a Habitat-Lab sensor config asks for.

    Raises:
        ValueError: It is none that the embedded renderer can draw; the message names the key.
    """
    kind = str(config.type)
    if config.get("sensor_subtype", None) != "PINHOLE":
        raise ValueError(f"the embedded simulator draws pinhole cameras only, not the sensor {kind}")
    if config.noise_model != "None":
        raise ValueError(
            f"the embedded simulator has no sensor noise; {kind} asks for noise_model={config.noise_model}"
        )
    pitch, yaw, roll = (float(angle) for angle in config.orientation)
    if roll:
        raise ValueError(f"the embedded simulator does not roll cameras; {kind} asks for orientation[2]={roll}")
    x, y, z = (float(v) for v in config.position)
    camera = Camera(int(config.height), float(config.hfov), y, int(config.width), math.degrees(pitch))
    return MountedCamera(camera, -z, x, yaw)


def observe(
    renderer: Renderer, views: Mapping[str, tuple[MountedCamera, str]], position: NDArray[np.float64], heading: float
) -> dict[str, NDArray[Any]]:
    """Render an agent's camera sensors.

    Args:
        renderer: Renderer of one scene.
        views: Sensor name -> (camera, renderer's sensor).
        position: (3,) the agent's place on the floor.
        heading: Radians.

    Returns:
        Per sensor name what habitat-sim gives: rgb (H, W, 3) uint8, depth (H, W) float32 metres, object ids (H, W)
        int32 from 1, 0 where there is nothing.
    """
    out: dict[str, NDArray[Any]] = {}
    for view in dict.fromkeys(view for view, _ in views.values()):
        wanted = sorted({kind for other, kind in views.values() if other == view})
        cos, sin = math.cos(heading), math.sin(heading)
        offset = np.array([cos * view.right - sin * view.ahead, 0.0, -sin * view.right - cos * view.ahead])
        images = renderer.render([0], (position + offset)[None], [heading + view.yaw], view.camera, wanted)
        for name, (other, kind) in views.items():
            if other == view:
                out[name] = images[kind][0] + (kind == "instance")
    return out
