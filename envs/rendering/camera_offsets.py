"""Per-scene camera randomisation: height, pitch and field of view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.rendering.renderer import Camera, Renderer, allocate


@dataclass(frozen=True)
class CameraOffset:
    """A camera's differences to the configured one.

    Attributes:
        height: Metres added to its height.
        pitch: Radians added to its pitch, positive looks up.
        hfov: Degrees added to its horizontal field of view.
    """

    height: float = 0.0
    pitch: float = 0.0
    hfov: float = 0.0


def render_with_offsets(
    renderer: Renderer,
    scene_index: NDArray[np.int64],
    position: NDArray[np.float64],
    heading: NDArray[np.float64],
    camera: Camera,
    sensors: Sequence[str],
    offsets: Sequence[CameraOffset | None],
) -> dict[str, NDArray[Any]]:
    """Render agents, each with the camera of its scene.

    Args:
        renderer: Holds the scenes.
        scene_index: (N,) scene of each agent.
        position: (N, 3) floor positions, metres.
        heading: (N,) radians.
        camera: The standard camera.
        sensors: Names as for `Renderer.render`.
        offsets: One per scene; None for the standard camera.

    Returns:
        What `Renderer.render` returns; without any offset exactly that.
    """
    own = [offsets[scene] or CameraOffset() for scene in scene_index]
    if not any(offset is not None for offset in offsets):
        return renderer.render(scene_index, position, heading, camera, sensors)
    images = allocate(len(scene_index), camera.size, sensors, None, camera.columns)
    hfov = np.array([offset.hfov for offset in own])
    lifted = position + np.array([(0.0, offset.height, 0.0) for offset in own]).reshape(-1, 3)
    pitch = np.array([offset.pitch for offset in own])
    for wider in np.unique(hfov):
        rows = np.flatnonzero(hfov == wider)
        seen = renderer.render(
            scene_index[rows],
            lifted[rows],
            heading[rows],
            replace(camera, hfov=camera.hfov + float(wider)),
            sensors,
            pitch[rows],
        )
        for name, pixels in seen.items():
            images[name][rows] = pixels
    return images
