"""Bakes light into vertex colours: lamps and daylight of each room, ambient light, darker corners."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from envs.apartments.floorplan import FloorPlan
from envs.apartments.mesh_builder import Light, Triangles

Floats = NDArray[np.float64]


def bake(triangles: Triangles, lights: list[Light], plan: FloorPlan, ceiling: float) -> NDArray[np.uint8]:
    """Return the colour of every face corner: tint times Lambert irradiance, as sRGB.

    A lamp lights all surfaces of its own room that face it, and nothing else; there are no cast shadows.

    Returns:
        (F, 3, 3) uint8.
    """
    corners = triangles.vertices[triangles.faces]
    ambient = _ambient(lights, plan)
    light = ambient[triangles.room][:, None] * (0.86 + 0.14 * triangles.normals[..., 1:2])
    light = light * _openness(corners, triangles.normals, plan, ceiling)[..., None]
    order = np.argsort(triangles.room, kind="stable")
    bounds = np.searchsorted(triangles.room[order], np.arange(plan.count + 1))
    for room in range(plan.count):
        rows = order[bounds[room] : bounds[room + 1]]
        own, places, normals = light[rows], corners[rows], triangles.normals[rows]
        thin = np.logical_not(normals.any(axis=-1))
        for lamp in lights:
            if lamp.room == room:
                own += _direct(lamp, places, normals, thin)
        light[rows] = own
    glow = triangles.glow[:, None, None]
    shade = np.clip(light, 0.0, 1.0) ** (1.0 / 2.2) * (1.0 - glow) + glow
    return (np.clip(triangles.tint[:, None] * shade, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _ambient(lights: list[Light], plan: FloorPlan) -> Floats:
    """Return (rooms, 3) light that arrives from everywhere: some of all lamp light, spread over the floor area."""
    total = np.full((plan.count, 3), 0.6)
    for lamp in lights:
        total[lamp.room] += lamp.color
    return 0.13 + 0.55 * total / (plan.areas()[:, None] + 6.0)


def _direct(lamp: Light, corners: Floats, normals: Floats, thin: NDArray[np.bool_]) -> Floats:
    """Return (F, 3, 3) irradiance from one lamp; `thin` sheets, without a normal, get what arrives aslant."""
    to_lamp = lamp.position - corners
    square = np.einsum("fci,fci->fc", to_lamp, to_lamp)
    away = 1.0 / np.sqrt(square + 1e-6)
    incidence = np.einsum("fci,fci->fc", to_lamp, normals) * away
    received = np.where(thin, 0.55, np.maximum(incidence, 0.0)) / (square + 0.5)
    if lamp.facing.any():
        received = received * np.maximum(-(to_lamp @ lamp.facing) * away, 0.0)
    return received[..., None] * lamp.color


def _openness(corners: Floats, normals: Floats, plan: FloorPlan, ceiling: float) -> Floats:
    """Return (F, 3) factors on ambient light, lower where walls, floor or ceiling are near."""
    distance = ndimage.distance_transform_edt(plan.walkable()) * plan.cell
    ahead = corners + 0.12 * normals
    row = np.clip((ahead[..., 2] / plan.cell).astype(int), 0, distance.shape[0] - 1)
    column = np.clip((ahead[..., 0] / plan.cell).astype(int), 0, distance.shape[1] - 1)
    wall = distance[row, column]
    upright = 1.0 - np.abs(normals[..., 1])
    floor, roof = np.maximum(corners[..., 1], 0.0), np.maximum(ceiling - corners[..., 1], 0.0)
    return (1.0 - 0.4 * np.exp(-wall / 0.35)) * (
        1.0 - upright * (0.4 * np.exp(-floor / 0.3) + 0.3 * np.exp(-roof / 0.3))
    )
