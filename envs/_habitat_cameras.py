"""Habitat-Lab's camera sensors, rendered by the embedded renderer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.renderer import Camera, Renderer

# Habitat-Lab's kinds of camera -> the renderer's sensor. Habitat's semantic sensor shows object ids.
RENDERED = {"COLOR": "rgb", "DEPTH": "depth", "SEMANTIC": "instance"}


@dataclass(frozen=True)
class View:
    """A pinhole camera of any aspect ratio on the agent.

    Attributes:
        height: Pixels.
        width: Pixels.
        hfov: Horizontal field of view in degrees.
        position: x, y, z in metres in the agent's frame.
        pitch: Tilt in radians, positive looks up.
        yaw: Rotation in radians, positive looks left.
    """

    height: int
    width: int
    hfov: float
    position: tuple[float, float, float]
    pitch: float
    yaw: float

    @property
    def camera(self) -> Camera:
        """The square camera of which this view is the middle: same focal length in pixels."""
        side = max(self.height, self.width)
        half_width = math.tan(math.radians(self.hfov) / 2) * side / self.width
        return Camera(side, 2 * math.degrees(math.atan(half_width)), self.position[1])

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """(S, S, ...) image of `camera` to (height, width, ...)."""
        top, left = (len(image) - self.height) // 2, (len(image) - self.width) // 2
        return image[top : top + self.height, left : left + self.width]


def view_of(config: Any) -> View:
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
    if (config.height - config.width) % 2:
        raise ValueError(f"{kind}: height and width must both be even or both odd, got {config.height}x{config.width}")
    pitch, yaw, roll = (float(angle) for angle in config.orientation)
    if roll:
        raise ValueError(f"the embedded simulator does not roll cameras; {kind} asks for orientation[2]={roll}")
    x, y, z = (float(v) for v in config.position)
    return View(int(config.height), int(config.width), float(config.hfov), (x, y, z), pitch, yaw)


def observe(
    renderer: Renderer, views: Mapping[str, tuple[View, str]], position: NDArray[np.float64], heading: float
) -> dict[str, NDArray[Any]]:
    """What an agent sees.

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
        x, _, z = view.position
        cos, sin = math.cos(heading), math.sin(heading)
        place = position + np.array([cos * x + sin * z, 0.0, -sin * x + cos * z])
        pitch = np.array([view.pitch])
        images = renderer.render([0], place[None], [heading + view.yaw], view.camera, wanted, pitch)
        for name, (other, kind) in views.items():
            if other == view:
                image = view.crop(images[kind][0])
                out[name] = image + 1 if kind == "instance" else image
    return out
