"""Axis conventions: rotation from a mesh file's axes to the world's, by Habitat's rules."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from configs.files import read_json
from envs.navgrid import navmesh
from envs.navgrid.grid import NavGrid

UP_CHOICES = ("auto", "y", "z", "habitat")
STAGE_CONFIG = ".stage_config.json"
IDENTITY = np.eye(4)
# Polygons of a navigation mesh that are looked at, and how far in metres they may be from the floor (two voxels).
PROBES, FLOOR_GAP = 500, 0.4
FARTHEST = 1e8  # of a coordinate or scale
# How many times more floor a file must have on its side to be suspected of lying there, where it is then so many times
# flatter, and where it is not; and the grid on which that is found out, metres.
LYING, FLAT, LYING_TALL, COARSE = 1.15, 0.6, 2.0, 0.1

Axes = tuple[tuple[float, float, float], tuple[float, float, float]]
Y_UP: Axes = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
Z_UP: Axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """The mesh of a building and its place.

    Attributes:
        asset: The mesh file.
        matrix: (4, 4) float64 from the file's coordinates to the world's, +Y up.
        navmesh: Habitat's navigation mesh, where there is one.
    """

    asset: Path
    matrix: NDArray[np.float64] = field(default_factory=lambda: IDENTITY)
    navmesh: Path | None = None


def bare_stage(path: Path, up: str, triangles: Callable[[], NDArray[np.float64]]) -> Stage:
    """Find out how a mesh file that no dataset describes is to be turned.

    ``auto`` takes the word of ``NAME.stage_config.json`` beside it, which Habitat reads, too. Else a ``NAME.navmesh``,
    which lies in the world's axes, tells whether the file is Y-up or Z-up: it lies on surfaces of the one and not of
    the other. Else the file is Y-up, as glTF prescribes; habitat-sim takes a bare .glb as Z-up, which ``habitat`` does,
    too.

    Args:
        path: The mesh file.
        up: One of `UP_CHOICES`.
        triangles: Returns the (F, 3, 3) triangles in the file's coordinates; called only if needed.

    Raises:
        ValueError: The stage config or the navigation mesh is damaged.
    """
    mesh = beside(path, ".navmesh")
    config = beside(path, STAGE_CONFIG)
    if up in ("auto", "habitat") and config is not None:
        return _described(config, path)
    if up == "habitat":
        return Stage(path, frame_matrix(*default_axes(path)), mesh)
    if up == "auto" and mesh is not None:
        up = "z" if _fits_z_up(navmesh.read_navmesh(mesh), triangles()) else "y"
        _log.info("%s: %s-up, as its .navmesh says", path, up.upper())
    elif up == "auto":
        _warn_if_lying(path, triangles())
    return Stage(path, frame_matrix(*(Z_UP if up == "z" else Y_UP)), mesh)


def navmesh_file(path: Path) -> Path | None:
    """The navigation mesh of a plain mesh file: the one its stage config names, or the one of the same name."""
    config = beside(path, STAGE_CONFIG)
    return beside(path, ".navmesh") if config is None else _described(config, path).navmesh


def _described(config: Path, mesh: Path) -> Stage:
    """The stage of a ``.stage_config.json`` beside a mesh; raises ValueError with the file's name."""
    attributes = read_json(config)
    try:
        return stage_of(attributes, config.parent, mesh)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config}: {error}") from error


def beside(path: Path, ending: str) -> Path | None:
    """The file of the same name with another ending, None where there is none; ``x.basis.glb`` is also named ``x``."""
    stems = [path.with_suffix("").name]
    stems += [path.name[: -len(".basis.glb")]] if path.name.endswith(".basis.glb") else []
    return next((f for f in (path.with_name(stem + ending) for stem in stems) if f.is_file()), None)


def stage_of(attributes: Mapping[str, Any], folder: Path, asset: Path | None = None) -> Stage:
    """The stage that Habitat's attributes describe.

    Args:
        attributes: ``render_asset``, ``up``, ``front``, ``scale`` and ``nav_asset``; the others concern physics and
            light. ``origin`` and ``units_to_meters`` are passed over, as habitat-sim does: it uses the rotation alone.
        folder: Where relative names start.
        asset: The mesh where the attributes name none.

    Raises:
        ValueError: A value has the wrong form, or no mesh is named.
    """
    named = text(attributes, "render_asset")
    mesh = folder / named if named else asset
    if mesh is None:
        raise ValueError(f"the stage in {folder} names no render_asset")
    if named and not mesh.suffix:
        raise ValueError(f"the stage in {folder} names the render_asset {named!r}, which does not end as a mesh does")
    axes = default_axes(mesh)
    nav = text(attributes, "nav_asset")
    nav_file = folder / nav if nav else beside(mesh, ".navmesh")
    matrix = frame_matrix(
        vector(attributes.get("up", axes[0]), "up"),
        vector(attributes.get("front", axes[1]), "front"),
        scale_of(attributes.get("scale", 1.0)),
    )
    return Stage(mesh, matrix, nav_file if nav_file is not None and nav_file.is_file() else None)


def default_axes(mesh: Path) -> Axes:
    """Up and front that habitat-sim assumes of a stage's mesh by its name."""
    name = mesh.name.lower()
    z_up = name.endswith((".glb", "mesh.ply")) and not name.endswith("_semantic.ply")
    return Z_UP if z_up else Y_UP


def frame_matrix(
    up: tuple[float, float, float],
    front: tuple[float, float, float],
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """(4, 4) rotation that takes `up` to +Y and `front` to -Z, then scale.

    Raises:
        ValueError: The axes are not perpendicular.
    """
    y, forward = np.array(up, np.float64), np.array(front, np.float64)
    lengths = np.linalg.norm(y), np.linalg.norm(forward)
    if min(lengths) == 0 or abs(np.dot(y, forward)) > 1e-3 * lengths[0] * lengths[1]:
        raise ValueError(f"up {list(up)} and front {list(front)} must be perpendicular axes")
    y, forward = y / lengths[0], forward / lengths[1]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(scale)[:, None] * np.stack([np.cross(forward, y), y, -forward])
    return matrix


def vector(value: Any, name: str) -> tuple[float, float, float]:
    """Three numbers of a config file."""
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be three numbers, got {reprlib.repr(value)}") from error
    if not max(abs(x), abs(y), abs(z)) <= FARTHEST:
        raise ValueError(f"{name} must be three numbers of a possible size, got {reprlib.repr(value)}")
    return x, y, z


def text(attributes: Mapping[str, Any], key: str) -> str:
    """A name in a config file, empty if it is not there.

    Raises:
        ValueError: It is no text.
    """
    value = attributes.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, got {reprlib.repr(value)}")
    return value


def scale_of(value: Any) -> tuple[float, float, float]:
    """A scale: one number or three."""
    return vector((value,) * 3 if isinstance(value, int | float) else value, "scale")


def _warn_if_lying(path: Path, triangles: NDArray[np.float64]) -> None:
    """Warn of a file, taken as Y-up, in which agents would walk on walls: with +Z up it has more floor."""
    size = triangles.max(axis=(0, 1)) - triangles.min(axis=(0, 1))
    if not size[2] < size[1]:
        return
    floors = [_largest_floor(triangles @ frame_matrix(*axes)[:3, :3].T) for axes in (Y_UP, Z_UP)]
    if floors[1] > floors[0] * (LYING if size[2] < FLAT * size[1] else LYING_TALL):
        _log.warning(
            "%s may lie on its side: agents would have %.0f m2 of floor, and %.0f m2 with env.up=z; "
            "most of what they would stand on is walls. Set env.up=z, or env.up=y if it is right",
            path,
            *floors,
        )


def _largest_floor(triangles: NDArray[np.float64]) -> float:
    """Area in m2 of the largest island of a coarse grid over triangles, 0 where there is none."""
    try:
        return float(NavGrid.from_triangles(triangles, "", cell=COARSE).island_areas[0])
    except ValueError:
        return 0.0


def _fits_z_up(mesh: navmesh.NavMesh, triangles: NDArray[np.float64]) -> bool:
    """Whether more of a navigation mesh lies on surfaces of the turned mesh than of the mesh as it is."""
    points = mesh.triangles.mean(axis=1)
    points = points[:: max(1, len(points) // PROBES)]
    shares = []
    for axes in (Y_UP, Z_UP):
        turned = (triangles @ frame_matrix(*axes)[:3, :3].T).astype(np.float32)
        tree = EmbreeScene(robust=True)
        TriangleMesh(tree, np.ascontiguousarray(turned))
        above = (points + np.array([0.0, 2.0 * FLOOR_GAP, 0.0])).astype(np.float32)
        down = np.tile(np.array([0, -1, 0], np.float32), (len(points), 1))
        hits = tree.run(above, down, output=1)
        shares.append(((hits["primID"] >= 0) & (np.abs(hits["tfar"] - 2.0 * FLOOR_GAP) <= FLOOR_GAP)).mean())
    return bool(shares[1] > shares[0])
