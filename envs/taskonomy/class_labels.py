"""Taskonomy's semantic labels, from a scene's own classes and room kinds.

The originals come from teacher networks (FCIS, ResNet-152, a Places365 network) looking at photographs.
These are substitutes that know the scene: every object is labelled, and only what the scene names can be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.scene import COCO_CLASSES, Room

# Values 0..17 of segment_semantic: uncertain, background, and 16 kinds of object of COCO.
SEMANTIC_NAMES = ("uncertain", "background", *COCO_CLASSES)
# Scene class -> segment_semantic; every other named class is background.
SEMANTIC_OF_CLASS = {name: value for value, name in enumerate(SEMANTIC_NAMES) if value > 1} | {"table": 7}
UNKNOWN_CLASS = "unknown"

# Scene class -> index in ImageNet-1k of the nearest category.
OBJECT_OF_CLASS = {
    "bottle": 898,
    "chair": 559,
    "couch": 831,
    "potted plant": 738,
    "bed": 564,
    "dining table": 532,
    "table": 532,
    "desk": 526,
    "toilet": 861,
    "tv": 851,
    "microwave": 651,
    "oven": 827,
    "toaster": 859,
    "sink": 896,
    "refrigerator": 760,
    "washing machine": 897,
    "bathtub": 435,
    "book": 921,
    "shelf": 453,
    "cabinet": 493,
    "clock": 892,
    "vase": 883,
    "lamp": 846,
    "pillow": 721,
    "towel": 434,
    "curtain": 905,
    "basket": 790,
    "toy": 850,
}
OBJECT_COUNT = 1000
OBJECT_UNIFORM = 0.1  # Share of probability spread over all categories, as a classifier never rules any out.

# Taskonomy's 63 of the 365 Places categories, in index order.
SCENE_NAMES = (
    "alcove assembly_line atrium attic auto_factory bank_vault basement bathroom bedchamber bedroom "
    "biology_laboratory booth bow_window chemistry_lab childs_room clean_room closet computer_room "
    "conference_room corridor dining_room dorm_room dressing_room elevator elevator_shaft engine_room "
    "escalator garage greenhouse home_office home_theater hospital_room hotel_room kitchen laundromat "
    "living_room lobby mezzanine nursery nursing_home office office_cubicles operating_room pantry "
    "parking_garage physics_laboratory playroom reception recreation_room repair_shop restaurant_kitchen "
    "server_room shower stable staircase storage_room television_room ticket_booth utility_room "
    "veterinarians_office waiting_room wet_bar youth_hostel"
).split()


def segment_semantic(semantic: NDArray[np.int32], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Semantic segmentation.

    Args:
        semantic: (S, S) int32 index into `class_names`, -1 where nothing is hit.
        class_names: The scene's classes.

    Returns:
        (S, S) uint8 index into `SEMANTIC_NAMES`: 0 where nothing is hit or the class is unknown, 1 where the
        class has no counterpart.
    """
    table = [0 if name == UNKNOWN_CLASS else SEMANTIC_OF_CLASS.get(name, 1) for name in class_names]
    return np.array([*table, 0], np.uint8)[semantic]


def class_object(semantic: NDArray[np.int32], class_names: Sequence[str]) -> NDArray[np.float32]:
    """Object classification: which ImageNet category the view shows.

    Args:
        semantic: (S, S) int32 index into `class_names`, -1 where nothing is hit.
        class_names: The scene's classes.

    Returns:
        (1000,) float32 probabilities: 0.9 shared by the visible objects by area, 0.1 by all categories;
        uniform where no object is in view.
    """
    area = np.bincount(semantic[semantic >= 0], minlength=len(class_names))
    shares = np.zeros(OBJECT_COUNT)
    for name, pixels in zip(class_names, area, strict=True):
        if name in OBJECT_OF_CLASS:
            shares[OBJECT_OF_CLASS[name]] += pixels
    total = shares.sum()
    if total == 0:
        return np.full(OBJECT_COUNT, 1.0 / OBJECT_COUNT, np.float32)
    return ((1.0 - OBJECT_UNIFORM) * shares / total + OBJECT_UNIFORM / OBJECT_COUNT).astype(np.float32)


def class_scene(position: ArrayLike, rooms: Sequence[Room]) -> NDArray[np.float32]:
    """Scene classification: the kind of room that the camera stands in.

    Args:
        position: (3,) world position, metres.
        rooms: The scene's rooms.

    Returns:
        (63,) float32 probabilities over `SCENE_NAMES`, one-hot; uniform outside all rooms and in rooms of
        another kind.
    """
    x, _, z = np.asarray(position, float)
    for room in rooms:
        if _inside(x, z, room.polygon) and room.kind in SCENE_NAMES:
            return np.eye(len(SCENE_NAMES), dtype=np.float32)[SCENE_NAMES.index(room.kind)]
    return np.full(len(SCENE_NAMES), 1.0 / len(SCENE_NAMES), np.float32)


def _inside(x: float, z: float, polygon: NDArray[np.float32]) -> bool:
    """Even-odd rule."""
    a, b = polygon.astype(float), np.roll(polygon.astype(float), -1, axis=0)
    spans = (a[:, 1] > z) != (b[:, 1] > z)
    rise = np.where(spans, b[:, 1] - a[:, 1], 1.0)
    crossing = a[:, 0] + (z - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    return bool((spans & (x < crossing)).sum() % 2)
