"""Frames of a top-down map on which an agent's path grows, to stand beside what the agent saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from agents.reports.figures import AGENT, EXPERT, GOAL, floor_plan

GROUND = (26, 32, 39)
FINER = 2  # drawn at so many times the size, for smooth lines
MARGIN = 0.4  # metres around the floor


def draw_map_frames(arrays: Mapping[str, Any], size: int, frames: int) -> NDArray[np.uint8]:
    """The floor plan with the shortest path, the goal, and the agent's path so far.

    Args:
        arrays: As for `agents.reports.figures.draw_top_down`.
        size: Edge of the square picture, pixels.
        frames: How many; frame t shows the first t + 1 points of ``agent_path``.

    Returns:
        (frames, size, size, 3) uint8.
    """
    cell, origin = float(arrays["cell"]), np.asarray(arrays["origin"], np.float64)
    navigable = np.asarray(arrays["navigable"], bool)
    border = round(MARGIN / cell)
    picture = Image.fromarray(floor_plan(np.pad(navigable, border), cell))
    scale = FINER * size / max(picture.size)
    left, top = ((FINER * size - scale * edge) / 2 for edge in picture.size)
    canvas = Image.new("RGB", (FINER * size, FINER * size), GROUND)
    shown = picture.resize([max(1, round(scale * edge)) for edge in picture.size], Image.Resampling.NEAREST)
    canvas.paste(shown, (round(left), round(top)), shown)

    def place(points: Any) -> list[tuple[float, float]]:
        """Metres (x, z) to pixels of the canvas."""
        pixels = (np.atleast_2d(points) - origin + border * cell) / cell * scale + (left, top)
        return [(float(x), float(y)) for x, y in pixels]

    draw, width = ImageDraw.Draw(canvas), max(2, FINER * size // 80)
    if len(arrays["expert_path"]) > 1:
        draw.line(place(arrays["expert_path"]), fill=EXPERT, width=2 * width, joint="curve")
    (goal,) = place(arrays["goal"])
    _dot(draw, goal, 2.4 * width, GOAL)
    path = place(arrays["agent_path"])
    out = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        here = path[min(t, len(path) - 1)]
        if 0 < t < len(path):
            draw.line([path[t - 1], here], fill=AGENT, width=width)
        frame = canvas.copy()
        _dot(ImageDraw.Draw(frame), here, 2 * width, AGENT)
        out[t] = np.asarray(frame.reduce(FINER))
    return out


def _dot(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: str) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white", width=FINER)
