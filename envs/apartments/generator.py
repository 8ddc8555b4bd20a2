"""Seeded procedural apartments: floor plan, furniture, textures, light and labels from one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from configs.names import nearest
from envs.apartments.appearance import BANKS, appearance_rng, check_appearance, dress, light, wide_textures
from envs.apartments.building import build_floors, build_lintels, build_walls, cut_windows, draw_style, find_walls
from envs.apartments.floorplan import FloorPlan, draw_plan, outline_of
from envs.apartments.furnishing import Site, furnish
from envs.apartments.furnishing_rules import PROGRAMS
from envs.apartments.furniture.piece import CLASS_INDEX, CLASS_NAMES
from envs.apartments.lighting import bake
from envs.apartments.mesh_builder import MeshBuilder
from envs.apartments.shape_changes import Changes, add_clutter, shear
from envs.apartments.textures import texture_bank
from envs.scene import Room, Scene

__all__ = ["CLASS_NAMES", "ROOM_KINDS", "generate", "split_seeds"]

ROOM_KINDS = tuple(PROGRAMS)
"""Kinds of rooms, by their names in Places365."""

_SPLITS = {"train": range(0, 1000), "val": range(1000, 1100), "test": range(1100, 1200)}
_SMALL_KINDS = ("closet", "pantry", "utility_room")
_LARGE_KINDS = ("bedroom", "childs_room", "home_office", "dining_room", "television_room", "playroom", "bedroom")


def split_seeds(split: str) -> range:
    """Return the seeds of a split; no seed is in two.

    Args:
        split: "train" (1,000 seeds), "val" (100) or "test" (100).

    Raises:
        ValueError: There is no such split.
    """
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(_SPLITS)}{nearest(split, _SPLITS)}")
    return _SPLITS[split]


def generate(seed: int, appearance: str = "plain", changes: Changes | None = None, bank: int | None = None) -> Scene:
    """Build an apartment of 3 to 8 rooms and 50 to 150 m2 with its floor at y = 0.

    Args:
        seed: Any non-negative integer; equal seeds give equal arrays, bit for bit.
        appearance: ``plain``, or ``wide`` for other materials, textures and light on the same shape
            (`envs.apartments.appearance`).
        changes: Changes of the shape itself: room height, turned furniture, clutter, rooms that are not rectangular.
        bank: Bank of textures of a wide appearance; one of four by the seed if None.

    Returns:
        A scene named ``apartment-<seed>``, its light baked into `corner_color`, its textures shared with all others
        (of a wide appearance: with those of the same bank).

    Raises:
        ValueError: The seed is negative or the appearance unknown.
    """
    if seed < 0:
        raise ValueError(f"apartment seed must not be negative, got {seed}")
    check_appearance(appearance)
    rng = np.random.Generator(np.random.PCG64(seed))
    plan = draw_plan(rng)
    ceiling = float(rng.uniform(2.4, 3.0))
    if changes is not None:
        ceiling = changes.ceiling
    kinds = _assign_kinds(rng, plan)
    styles = [draw_style(rng, kind) for kind in kinds]
    walls = find_walls(plan)
    cut_windows(rng, plan, walls, kinds, ceiling)
    mesh = MeshBuilder()
    build_floors(mesh, plan, styles, ceiling)
    build_walls(rng, mesh, plan, walls, styles, ceiling)
    build_lintels(mesh, plan, styles, ceiling)
    by_room = [[wall for wall in walls if wall.room == room and not wall.jamb] for room in range(plan.count)]
    site = Site(plan, mesh, styles, by_room, ceiling)
    if changes is not None:
        mesh.turn = changes.turn
    furnish(rng, site)
    if changes is not None:
        add_clutter(site, changes)
    scene = _to_scene(seed, mesh, plan, kinds, ceiling, appearance, bank)
    return scene if changes is None else shear(scene, changes)


def textures_of(seed: int, appearance: str = "plain", bank: int | None = None) -> tuple[NDArray[np.uint8], ...]:
    """The textures that `generate` gives this apartment, the same arrays for all apartments that share them."""
    return wide_textures(_bank_of(seed, bank)) if appearance == "wide" else texture_bank().images


def _bank_of(seed: int, bank: int | None) -> int:
    return seed % BANKS if bank is None else bank


def _assign_kinds(rng: np.random.Generator, plan: FloorPlan) -> list[str]:
    """Return the kind of each room by size: small ones are wet or for storage, the largest is to live in."""
    areas = plan.areas()
    kinds = ["corridor"] * plan.count
    others = [int(room) for room in np.argsort(areas) if room not in plan.corridors]
    kinds[others.pop()] = "living_room"
    if others:
        kinds[others.pop(0)] = "bathroom"
    wanted = ["bedroom", "kitchen"] + [str(kind) for kind in rng.permutation(_LARGE_KINDS)]
    store = [str(kind) for kind in rng.permutation(_SMALL_KINDS)]
    while len(others) > 2 and areas[others[0]] < 7.5 and store:
        kinds[others.pop(0)] = store.pop()
    # A bedroom and a kitchen come before anything else, but in either order of size.
    named = wanted[: len(others)]
    for room, kind in zip(others, rng.permutation(named), strict=True):
        kinds[room] = str(kind)
    return kinds


def _to_scene(
    seed: int, mesh: MeshBuilder, plan: FloorPlan, kinds: list[str], ceiling: float, appearance: str, bank: int | None
) -> Scene:
    """Light the mesh and pack it."""
    parts, textures = mesh.triangles(), textures_of(seed, appearance, bank)
    if appearance == "wide":
        rng = appearance_rng(seed)
        parts = dress(rng, parts, _bank_of(seed, bank))
        colors = light(rng, parts, mesh.lights, plan, ceiling)
    else:
        colors = bake(parts, mesh.lights, plan, ceiling)
    solid: NDArray[np.bool_] = parts.label != CLASS_INDEX["ceiling"]
    return Scene(
        name=f"apartment-{seed}",
        vertices=parts.vertices.astype(np.float32),
        faces=parts.faces,
        corner_uv=parts.uv.astype(np.float32),
        corner_color=colors,
        face_texture=parts.texture,
        textures=textures,
        face_class=parts.label,
        face_instance=parts.instance,
        class_names=CLASS_NAMES,
        solid=solid,
        rooms=tuple(Room(kind, outline_of(plan, room)) for room, kind in enumerate(kinds)),
    )
