"""Sampling of viewpoints with Taskonomy's camera statistics, or an agent's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.navgrid.grid import NavGrid
from envs.rendering.renderer import Camera, Renderer
from envs.taskonomy.dataset import Viewpoint

AGENT_HFOV = 90.0
AGENT_HEIGHT = 1.25
# Density of Taskonomy's field of view, per degree, at its ends; linear between them.
FOV_RANGE = (45.0, 75.0)
FOV_DENSITY = (0.024, 0.041)
# Taskonomy's camera pitch in degrees: broad, with bumps at -4 and +8, mean 0.24.
PITCH_LIMIT = 23.0
PITCH_PARTS = ((0.62, -5.0, 9.0), (0.38, 8.5, 7.0))  # (share, mean, standard deviation)
CAMERA_HEIGHTS = (1.2, 1.5)
SHORTEST = 1.0  # m from a camera to its point.
CANDIDATES = 64
ATTEMPTS = 50


def sample_agent(
    renderer: Renderer, scene_index: int, grid: NavGrid, rng: np.random.Generator, points: int, views: int
) -> list[Viewpoint]:
    """Level views with 90 degrees field of view, 1.25 m above random navigable places, in random directions.

    Args:
        renderer: Holds the scene.
        scene_index: The scene's index in the renderer.
        grid: The scene's walkable grid.
        rng: Source of randomness.
        points: Number of places.
        views: Directions at each place.

    Returns:
        points * views viewpoints, in order.
    """
    places = np.repeat(_stand(grid, rng, points), views, axis=0)
    places[:, 1] += AGENT_HEIGHT
    heading = rng.uniform(-math.pi, math.pi, points * views)
    pitch = np.zeros(points * views)
    distance, normal = _probe(renderer, scene_index, places, heading, pitch)
    return [
        Viewpoint(
            i // views,
            i % views,
            _triple(places[i]),
            float(heading[i]),
            0.0,
            AGENT_HFOV,
            float(distance[i]),
            _triple(normal[i]),
        )
        for i in range(points * views)
    ]


def sample_taskonomy(
    renderer: Renderer, scene_index: int, grid: NavGrid, rng: np.random.Generator, points: int, views: int
) -> list[Viewpoint]:
    """Views that fixate points from several places, with Taskonomy's fields of view and elevations.

    Fields of view are 45 to 75 degrees, elevations within 23 degrees, no roll. Of the cameras that see a
    point, far ones are preferred, as Taskonomy's mean distance (5.3 m) is beyond the middle of an
    apartment's rooms.

    Args:
        renderer: Holds the scene.
        scene_index: The scene's index in the renderer.
        grid: The scene's walkable grid.
        rng: Source of randomness.
        points: Number of points.
        views: Cameras per point.

    Returns:
        points * views viewpoints, in order.

    Raises:
        ValueError: Too few cameras see the same point.
    """
    viewpoints: list[Viewpoint] = []
    for point in range(points):
        for _ in range(ATTEMPTS):
            candidates = _fixate(renderer, scene_index, grid, rng, point, views)
            if len(candidates) == views:
                viewpoints += candidates
                break
        else:
            raise ValueError(
                f"no point of the scene is seen by {views} cameras {SHORTEST} m away; lower views_per_point"
            )
    return viewpoints


Sampler = Callable[[Renderer, int, NavGrid, np.random.Generator, int, int], list[Viewpoint]]
SAMPLERS: dict[str, Sampler] = {"taskonomy": sample_taskonomy, "agent": sample_agent}


def sample_fov(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count,) fields of view in degrees with Taskonomy's density."""
    low, high = FOV_RANGE
    slope = (FOV_DENSITY[1] - FOV_DENSITY[0]) / (high - low)
    # Inverse of the cumulative distribution a t + slope t^2 / 2.
    mass = rng.random(count) * (sum(FOV_DENSITY) / 2.0) * (high - low)
    return low + (np.sqrt(FOV_DENSITY[0] ** 2 + 2.0 * slope * mass) - FOV_DENSITY[0]) / slope


def sample_pitch(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count,) camera pitches in radians with Taskonomy's broad distribution between -23 and 23 degrees."""
    shares, means, deviations = np.array(PITCH_PARTS).T
    pitches = np.zeros(0)
    while len(pitches) < count:
        part = rng.choice(len(shares), 2 * count, p=shares)
        draws = rng.normal(means[part], deviations[part])
        pitches = np.concatenate([pitches, draws[np.abs(draws) <= PITCH_LIMIT]])
    return np.radians(pitches[:count])


def _fixate(
    renderer: Renderer, scene_index: int, grid: NavGrid, rng: np.random.Generator, point: int, views: int
) -> list[Viewpoint]:
    """Views of one random point; fewer than `views` where it is hidden from too many places."""
    places = _stand(grid, rng, CANDIDATES)
    places[:, 1] += rng.uniform(*CAMERA_HEIGHTS, CANDIDATES)
    heading, pitch = rng.uniform(-math.pi, math.pi, CANDIDATES), sample_pitch(rng, CANDIDATES)
    distance, _ = _probe(renderer, scene_index, places, heading, pitch)
    if (distance >= SHORTEST).sum() == 0:
        return []
    first = int(_choose(rng, np.where(distance >= SHORTEST, distance, 0.0), 1)[0])
    target = places[first] + distance[first] * _forward(heading[first], pitch[first])
    offset = target - places
    wanted = np.linalg.norm(offset, axis=1)
    heading = np.arctan2(-offset[:, 0], -offset[:, 2])
    pitch = np.arcsin(np.clip(offset[:, 1] / np.maximum(wanted, 1e-6), -1.0, 1.0))
    distance, normal = _probe(renderer, scene_index, places, heading, pitch)
    # The first camera sees its own point, whatever rounding says about the others.
    sees = (np.abs(distance - wanted) < 0.01) & (wanted >= SHORTEST) & (np.abs(pitch) <= math.radians(PITCH_LIMIT))
    sees[first] = False
    if not distance[first] or sees.sum() < views - 1:
        return []
    chosen = [first, *_choose(rng, np.where(sees, distance, 0.0), views - 1)]
    fov = sample_fov(rng, views)
    return [
        Viewpoint(
            point,
            view,
            _triple(places[i]),
            float(heading[i]),
            float(pitch[i]),
            float(fov[view]),
            float(distance[i]),
            _triple(normal[i]),
        )
        for view, i in enumerate(chosen)
    ]


def _stand(grid: NavGrid, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count, 3) places on the largest island."""
    return grid.sample(rng, count, island=int(np.argmax(grid.island_areas)))


def _choose(rng: np.random.Generator, weight: NDArray[np.float64], count: int) -> list[int]:
    """Distinct indices, drawn in proportion to their weights."""
    return [int(i) for i in rng.choice(len(weight), count, replace=False, p=weight / weight.sum())]


def _probe(
    renderer: Renderer,
    scene_index: int,
    location: NDArray[np.float64],
    heading: NDArray[np.float64],
    pitch: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance (N,) and normal (N, 3) of what N optical axes hit, 0 if nothing: one-pixel images."""
    index = np.full(len(location), scene_index)
    seen = renderer.render(index, location, heading, Camera(1, 60.0, 0.0), ("depth", "normal"), pitch)
    return seen["depth"][:, 0, 0], seen["normal"][:, 0, 0]


def _forward(heading: float, pitch: float) -> NDArray[np.float64]:
    return np.array([-math.sin(heading) * math.cos(pitch), math.sin(pitch), -math.cos(heading) * math.cos(pitch)])


def _triple(vector: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
