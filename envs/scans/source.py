"""Scans by name, as Habitat names them: a mesh file, or a scene of a scene dataset, with its walkable grid."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from configs.settings import OneOf, Range, Settings
from envs.navgrid import recast
from envs.navgrid.grid import GEODESICS, NavGrid
from envs.navgrid.grid_files import load_or_build
from envs.navgrid.navmesh import NavMesh, navmesh_of, read_navmesh
from envs.scans.assets import HABITAT_PREFIX, scene_candidates
from envs.scans.axes import UP_CHOICES, navmesh_file
from envs.scans.gltf import MATERIALS
from envs.scans.loading import load_assets, load_scene
from envs.scans.mesh_files import SUFFIXES
from envs.scans.scene_datasets import DATASET_CONFIG, SCENE_INSTANCE, Composition, SceneDataset, compose_file
from envs.scene import Scene

NAVMESH_CHOICES = ("auto", "match", "recast", "none")
# A navigation mesh may reach this far beyond the mesh that it is used with, metres.
OVERHANG = 1.0
# Differences in radius and height up to which two agents are the same, metres.
SAME_AGENT = 1e-3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanSettings(Settings):
    """Settings for finding and reading scans.

    Attributes:
        dataset: A ``*.scene_dataset_config.json`` whose scenes and stages are meant; None for plain files.
        scenes_dir: Folder that the scene names of episodes are relative to, less ``data/scene_datasets/``.
        up: Axis of a plain file that points up (`envs.scans.loading.load_scene`).
        culling: Whether single-sided faces are seen from the front only, as in Habitat.
        max_texture: Larger textures are scaled down to this many pixels on their longer side.
        materials: Of glTF files: ``gltf`` reads them as the standard says, ``habitat`` as habitat-sim draws them.
        navmesh: ``auto`` walks on the scene's ``.navmesh`` where there is one; ``match`` only where it was made for an
            agent of the same radius and height, as habitat-sim does; ``recast`` makes one as habitat-sim does, with the
            system's Recast; ``none`` finds the floor in the mesh.
        geodesic: Distances to the goal: ``exact``, the shortest; or ``detour``, as habitat-sim finds them on a
            ``.navmesh``, for numbers that are compared with published ones.
    """

    dataset: str | None = None
    scenes_dir: str = HABITAT_PREFIX.rstrip("/")
    up: Annotated[str, OneOf(*UP_CHOICES)] = "auto"
    culling: bool = True
    max_texture: Annotated[int, Range(1, 65_536)] = 1024
    materials: Annotated[str, OneOf(*MATERIALS)] = "gltf"
    navmesh: Annotated[str, OneOf(*NAVMESH_CHOICES)] = "auto"
    geodesic: Annotated[str, OneOf(*GEODESICS)] = "exact"


def load_scan(
    scene: str, settings: ScanSettings, radius: float, height: float, climb: float, max_slope: float
) -> tuple[Scene, NavGrid]:
    """Load a scene and the floor that an agent of these measures walks on.

    Args:
        scene: A mesh file, a ``.scene_instance.json``, or a name in the settings' dataset; relative to the current
            folder or to `ScanSettings.scenes_dir`.
        settings: How to read it.
        radius: Agent radius in metres. On a ``.navmesh`` the agent has the radius, height and climb of that file.
        height: Agent height in metres.
        climb: Highest step in metres.
        max_slope: Steepest floor in degrees.

    Raises:
        FileNotFoundError: The scene, or a file it is made of, is absent.
        ImportError: Recast is to make the navigation mesh and is not installed.
        ValueError: A file is damaged, or the scene has no floor, or is too large.
    """
    scan = find_scan(scene, settings)
    look: dict[str, Any] = {name: getattr(settings, name) for name in ("max_texture", "culling", "materials")}
    if isinstance(scan, Composition):
        loaded = load_assets(scan.name, scan.assets, **look)
        polygons = scan.navmesh
    else:
        loaded = load_scene(scan, up=settings.up, **look)
        polygons = navmesh_file(scan)
    if settings.navmesh == "recast":
        agent = recast.Agent(radius, height, climb, max_slope)
        content = recast.build(loaded.vertices[loaded.faces[loaded.solid]], loaded.name, agent)
        return loaded, NavGrid.from_navmesh(navmesh_of(content), scene, settings.geodesic)
    # Scans that lie far away are moved to the origin, and their navigation meshes with them.
    away = -np.array(loaded.origin)
    mesh = None if settings.navmesh == "none" or polygons is None else read_navmesh(polygons).moved(away)
    fits = mesh is not None and max(abs(mesh.radius - radius), abs(mesh.height - height)) <= SAME_AGENT
    if mesh is None or polygons is None or (settings.navmesh == "match" and not fits):
        if settings.geodesic == "detour":
            raise ValueError(_no_detour(scene, settings, mesh))
        return loaded, load_or_build(loaded, _folder(scan), radius, height, climb, max_slope)
    _check_fit(loaded, mesh, polygons)
    _log.info("%s: walking on %s, for an agent of radius %.3g m", scene, polygons.name, mesh.radius)
    return loaded, NavGrid.from_navmesh(mesh, scene, settings.geodesic)


def _folder(scan: Path | Composition) -> Path:
    """The folder in which a scene's files lie."""
    return (scan.assets[0].path if isinstance(scan, Composition) else scan).parent


def _no_detour(scene: str, settings: ScanSettings, mesh: NavMesh | None) -> str:
    """Why there are no distances as Detour's in a scene."""
    if settings.navmesh == "none":
        reason = "env.navmesh=none takes no .navmesh"
    elif mesh is None:
        reason = f"scene {scene} has none beside it (env.navmesh=recast makes one)"
    else:
        reason = f"that of {scene} is for an agent of radius {mesh.radius:g} m and height {mesh.height:g} m"
    return f"env.geodesic=detour needs a navigation mesh, but {reason}"


def locate_scene(scene: str, scenes_dir: str) -> Path:
    """The file that an episode's scene id means: as it is, or below `scenes_dir`.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    candidates = scene_candidates(scene, Path(scenes_dir))
    path = next((file for file in candidates if file.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"scene {scene} is absent: there is no {' and no '.join(map(str, candidates))}; "
            "set env.scene to the file, or env.scenes_dir to the folder that holds gibson/, mp3d/, hm3d/, ..."
        )
    return path


def episode_settings(settings: ScanSettings, dataset: object) -> ScanSettings:
    """The settings for the scenes of episodes that name a ``scene_dataset_config``, where that file is there.

    A dataset in the settings goes first.
    """
    if settings.dataset is not None or not isinstance(dataset, str) or not dataset.endswith(DATASET_CONFIG):
        return settings
    path = next((file for file in scene_candidates(dataset, Path(settings.scenes_dir)) if file.is_file()), None)
    return settings if path is None else replace(settings, dataset=str(path))


def find_scan(scene: str, settings: ScanSettings) -> Path | Composition:
    """Resolve a scene's name to its mesh file, or to its instance in a scene dataset.

    Raises:
        FileNotFoundError: The scene or its dataset is absent.
        ValueError: The name is none of a scene, or its dataset is damaged.
    """
    if settings.dataset is not None:
        is_file = any(file.is_file() for file in scene_candidates(scene, Path(settings.scenes_dir)))
        file = locate_scene(scene, settings.scenes_dir) if is_file and scene.lower().endswith(SUFFIXES) else None
        return _open(settings.dataset, _changed(settings.dataset)).compose(scene, file)
    if scene.endswith(SCENE_INSTANCE):
        return compose_file(locate_scene(scene, settings.scenes_dir))
    if Path(scene).suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"scene {scene} is neither a file that ends in {', '.join(SUFFIXES)}, {SCENE_INSTANCE} nor, "
            "without env.dataset, the name of a dataset's scene"
        )
    return locate_scene(scene, settings.scenes_dir)


@lru_cache(4)
def _open(dataset: str, changed: int) -> SceneDataset:
    """The dataset, listed once for all its scenes."""
    return SceneDataset.open(dataset)


def _changed(file: str) -> int:
    """When a file was last written, in nanoseconds; 0 where there is none."""
    return Path(file).stat().st_mtime_ns if Path(file).is_file() else 0


def _check_fit(scene: Scene, mesh: NavMesh, file: Path) -> None:
    """Refuse a navigation mesh that lies elsewhere than the scene."""
    floor = mesh.triangles.reshape(-1, 3)
    low, high = scene.vertices.min(axis=0), scene.vertices.max(axis=0)
    beyond = float(np.maximum(low - floor.min(axis=0), floor.max(axis=0) - high).max())
    if beyond > OVERHANG:
        raise ValueError(
            f"{file} reaches {beyond:.1f} m beyond the mesh {scene.name}: is env.up right? "
            "env.navmesh=none computes the floor from the mesh"
        )
