"""``python -m envs.navmesh``: write the navigation mesh that habitat-sim would make of a scan.

    python -m envs.navmesh scene=house.glb out=house.navmesh
    python -m envs.navmesh scene=house.glb out=house.navmesh radius=0.18 height=0.88

habitat-sim loads the file, and so do `env=scans` and `Sidestep-v0` where it lies beside the mesh under its name. Recast
makes it (`envs.navgrid.recast`); Debian's and Ubuntu's ``librecast1`` has it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from omegaconf import MISSING, DictConfig

from configs.compose import cli
from configs.settings import OneOf, Range, Settings
from envs.navgrid import recast
from envs.navgrid.navmesh import navmesh_of
from envs.scans.axes import UP_CHOICES
from envs.scans.loading import load_assets, load_scene
from envs.scans.scene_datasets import Composition
from envs.scans.source import ScanSettings, find_scan

SUFFIX = ".navmesh"


@dataclass(frozen=True)
class NavmeshCommand(Settings):
    """Settings of ``python -m envs.navmesh``.

    Attributes:
        scene: A .glb, .gltf, .obj, .ply or .scene_instance.json file, or a name in `dataset`.
        out: The .navmesh file to write.
        dataset: A ``*.scene_dataset_config.json`` whose scenes are meant.
        up: Axis of a plain file that points up: auto, y, z, or habitat.
        radius: Of the agent, metres.
        height: Of the agent, metres.
        climb: Highest step that it climbs, metres.
        max_slope: Steepest floor that it walks on, degrees.
    """

    scene: str = MISSING
    out: str = MISSING
    dataset: str | None = None
    up: Annotated[str, OneOf(*UP_CHOICES)] = "auto"
    radius: Annotated[float, Range(0, 10, above=True)] = 0.1
    height: Annotated[float, Range(0, 10, above=True)] = 1.5
    climb: Annotated[float, Range(0, 10)] = 0.2
    max_slope: Annotated[float, Range(0, 90, above=True)] = 45.0


def write_navmesh(scene: str, out: Path, settings: ScanSettings, agent: recast.Agent) -> str:
    """Write a scene's navigation mesh.

    Args:
        scene: As in `envs.scans.source.load_scan`.
        out: The file; it must not be there yet.
        settings: How the scene is found and read.
        agent: For whom.

    Returns:
        What was written, in words.

    Raises:
        FileExistsError: There is such a file.
        FileNotFoundError: The scene is absent.
        ImportError: Recast is not installed.
        ValueError: The scene is damaged or has no floor, or `out` does not end in ``.navmesh``.
    """
    if out.suffix != SUFFIX:
        raise ValueError(f"out={out}: the file must end in {SUFFIX}")
    if out.exists():
        raise FileExistsError(f"out={out} is there already; take it away first, or give another name")
    scan = find_scan(scene, settings)
    if isinstance(scan, Composition):
        loaded = load_assets(scan.name, scan.assets)
    else:
        loaded = load_scene(scan, up=settings.up)
    corners = loaded.vertices[loaded.faces[loaded.solid]] + np.array(loaded.origin)
    content = recast.build(corners, loaded.name, agent)
    floor = navmesh_of(content)
    new = out.with_name(f".{out.name}.{os.getpid()}")
    new.write_bytes(content)
    os.replace(new, out)
    areas = ", ".join(f"{area:.1f}" for area in sorted(floor.areas, reverse=True)[:5])
    return f"{out}: {len(floor.island)} polygons, islands of {areas} m2"


@cli("navmesh", NavmeshCommand)
def main(cfg: DictConfig) -> None:
    """Write what the settings ask for."""
    agent = recast.Agent(cfg.radius, cfg.height, cfg.climb, cfg.max_slope)
    settings = ScanSettings(dataset=cfg.dataset, up=cfg.up)
    sys.stdout.write(write_navmesh(cfg.scene, Path(cfg.out), settings, agent) + "\n")


if __name__ == "__main__":
    main()
