"""Domain randomisation: other materials, textures and light on an apartment whose walkable floor stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from envs.apartments.floorplan import FloorPlan
from envs.apartments.lighting import bake
from envs.apartments.mesh_builder import Light, Triangles
from envs.apartments.textures import texture_bank
from envs.apartments.wide_textures import RECIPES, wide_bank
from envs.rendering.camera_offsets import CameraOffset
from envs.scene import Scene

APPEARANCES = ("plain", "wide")
BANKS = 4  # Banks of textures that apartments choose from; a bank is shared by all apartments that use it.
_SALT = 7001

# How the surfaces of an apartment are made, and how often.
SURFACES = {"tinted": 0.2, "mixed": 0.35, "one kind": 0.3, "bare": 0.15}
# How it is lit, and how often.
LIGHTS = {"lamps": 0.3, "strong": 0.1, "coloured": 0.1, "none": 0.25, "sun": 0.25}

# The share of apartments without a ceiling, as many scanned and modelled places have none.
OPEN_SHARE = 0.25


def check_appearance(name: str) -> None:
    """Refuse a name that is not in `APPEARANCES`.

    Raises:
        ValueError: There is no such appearance.
    """
    if name not in APPEARANCES:
        raise ValueError(f"unknown appearance {name!r}: choose from {', '.join(APPEARANCES)}")


def appearance_rng(seed: int) -> np.random.Generator:
    """The source of an apartment's wide appearance, independent of that of its shape."""
    return np.random.Generator(np.random.PCG64([_SALT, seed]))


def camera_offset(seed: int) -> CameraOffset:
    """The camera of an apartment of wide appearance: up to 0.4 m lower, 12 degrees tilted, 20 degrees wider."""
    rng = np.random.Generator(np.random.PCG64([_SALT, seed, 1]))
    height, pitch = rng.uniform(-0.4, 0.2), np.radians(rng.uniform(-12.0, 12.0))
    return CameraOffset(float(height), float(pitch), float(10.0 * rng.integers(-2, 3)))


def without_some_ceilings(seed: int, scene: Scene) -> Scene:
    """The scene of an apartment of wide appearance for agents, without its ceiling in a share `OPEN_SHARE` of them.

    Rays that go up then hit nothing: black in RGB, 0 in depth. Nobody walks on ceilings, so the walkable floor stays.
    """
    if np.random.Generator(np.random.PCG64([_SALT, seed, 2])).random() >= OPEN_SHARE:
        return scene
    return scene.with_faces(scene.face_class != scene.class_names.index("ceiling"))


def dress(rng: np.random.Generator, parts: Triangles, bank: int) -> Triangles:
    """Give an apartment other materials.

    Args:
        rng: Source of the choice.
        parts: The apartment; its shape and labels stay.
        bank: Number of the bank of textures to choose from.

    Returns:
        The apartment with other `texture`, an index into `wide_textures`, and other `tint` and `uv`.
    """
    style = _draw(rng, SURFACES)
    key = np.column_stack([parts.texture, (parts.tint * 255.0).astype(np.int64)])
    if rng.random() < 0.4:  # Objects differ even where they were of the same material.
        key = np.column_stack([key, parts.instance])
    group = np.unique(key, axis=0, return_inverse=True)[1].ravel()
    count = int(group.max()) + 1
    old = texture_bank().images
    banks = wide_bank(bank)
    first = dict(zip(RECIPES, np.cumsum([len(old), *(len(banks[kind]) for kind in RECIPES)]), strict=False))
    texture = np.full(count, -1)
    if style in ("mixed", "one kind"):
        kinds = [str(rng.choice(list(RECIPES)))] if style == "one kind" else list(RECIPES)
        drawn = rng.choice(kinds, count)
        own = np.array([first[kind] + rng.integers(len(banks[kind])) for kind in drawn])
        texture = np.where(rng.random(count) < (0.7 if style == "mixed" else 0.95), own, -1)
    changed = texture[group] >= 0
    tint = _tints(rng, count, vivid=style in ("tinted", "bare"))[group]
    scale = np.exp(rng.uniform(-1.0, 1.0, count))[group][:, None, None]
    if style == "bare":
        texture_index = np.full(len(group), -1, np.int32)
    else:
        texture_index = np.where(changed, texture[group], parts.texture).astype(np.int32)
        tint = tint if style == "tinted" else np.where(changed[:, None], tint, parts.tint)
    uv = np.where(changed[:, None, None], parts.uv * scale, parts.uv)
    glow = parts.glow * (rng.random() < 0.7)
    return replace(parts, texture=texture_index, tint=tint, uv=uv, glow=glow)


def wide_textures(bank: int) -> tuple[NDArray[np.uint8], ...]:
    """The textures of apartments of a wide appearance with this bank: the plain ones, then the bank's."""
    banks = wide_bank(bank)
    return (*texture_bank().images, *(image for kind in RECIPES for image in banks[kind]))


def light(
    rng: np.random.Generator, parts: Triangles, lights: list[Light], plan: FloorPlan, ceiling: float
) -> NDArray[np.uint8]:
    """Colours of all face corners under a light drawn out of `LIGHTS`: lamps, stronger or coloured ones, none, a sun.

    Returns:
        (F, 3, 3) uint8.
    """
    kind = _draw(rng, LIGHTS)
    level = rng.uniform(0.7, 1.0)
    if kind == "none":
        shade = np.full((len(parts.faces), 3, 1), level)
    elif kind == "sun":
        towards = rng.standard_normal(3)
        towards[1] = abs(towards[1])
        facing = parts.normals @ (towards / np.linalg.norm(towards))
        ambient = rng.uniform(0.2, 0.8)
        shade = level * (ambient + (1.0 - ambient) * np.maximum(facing, rng.uniform(0.0, 0.6) * -facing))[..., None]
    else:
        color = rng.uniform(0.35, 1.0, 3) if kind == "coloured" else np.ones(3)
        gain = rng.uniform(1.6, 3.0) if kind == "strong" else rng.uniform(0.5, 1.3)
        return bake(parts, [replace(one, color=one.color * color * gain) for one in lights], plan, ceiling)
    glow = parts.glow[:, None, None]
    return (np.clip(parts.tint[:, None] * (shade * (1.0 - glow) + glow), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _tints(rng: np.random.Generator, count: int, vivid: bool) -> NDArray[np.float64]:
    """(count, 3) factors on textures: any colour, or near white."""
    return rng.uniform(0.08, 1.0, (count, 3)) if vivid else rng.uniform(0.55, 1.0, (count, 3))


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))
