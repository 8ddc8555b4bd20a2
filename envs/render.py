"""``python -m envs.render``: render a Taskonomy dataset from apartments or any mesh.

    python -m envs.render scenes=train:200 size=128 out=data/train
    python -m envs.render scenes=val:20 size=64 views=agent out=data/val 'domains=[rgb,mask_valid]'
    python -m envs.render scenes=house.glb out=data/house

What is already there is kept: a second run, also after a kill, renders only what is missing.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from configs.compose import cli
from configs.files import read_json
from configs.processes import run_in_processes
from configs.settings import Names, OneOf, Range, Seed, Settings, kinds
from configs.writing import write_atomically
from envs.apartments.generator import generate, split_seeds
from envs.navgrid.grid import NavGrid
from envs.rendering.renderer import make_renderer
from envs.scans.loading import load_scene
from envs.scene import Scene
from envs.taskonomy import dataset as taskonomy
from envs.taskonomy.dataset import DOMAINS, RenderedView, check_domains
from envs.taskonomy.viewpoints import SAMPLERS

DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Building:
    """A scene to render.

    Attributes:
        name: Of its folder.
        seed: Of the apartment; None: `mesh` is read.
        mesh: A mesh file.
    """

    name: str
    seed: int | None = None
    mesh: str = ""

    def load(self) -> Scene:
        """Generate or read the scene."""
        return load_scene(self.mesh) if self.seed is None else generate(self.seed)


@dataclass(frozen=True)
class RenderSettings(Settings):
    """Settings shared by the views of a dataset.

    Attributes:
        size: Pixels per side.
        views: ``taskonomy`` or ``agent``, a key of `envs.taskonomy.viewpoints.SAMPLERS`.
        views_per_scene: Views of every building.
        views_per_point: Views of every point of interest; divides `views_per_scene`.
        seed: Other views for every seed.
    """

    size: Annotated[int, Range(16, 4096)] = 128
    views: Annotated[str, OneOf(*SAMPLERS)] = "taskonomy"
    views_per_scene: Annotated[int, Range(1, 1_000_000)] = 100
    views_per_point: Annotated[int, Range(1, 1_000_000)] = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        rule = f"a multiple of views_per_point={self.views_per_point}"
        self.require(self.views_per_scene % self.views_per_point == 0, "views_per_scene", rule)

    def keys(self) -> list[tuple[int, int]]:
        """(point, view) of all views of a building."""
        return [divmod(i, self.views_per_point) for i in range(self.views_per_scene)]


def find_buildings(scenes: str) -> list[Building]:
    """Read the setting ``scenes``.

    Args:
        scenes: ``train:200`` (the first 200 apartments of a split), ``val:5-20`` (those from 5 up to 20), or
            the path of a mesh.

    Raises:
        ValueError: It is none of these, or the split holds fewer apartments.
        FileNotFoundError: The mesh does not exist.
    """
    match = re.fullmatch(r"(\w+):(?:(\d+)-)?(\d+)", scenes)
    if match:
        split, first, last = match[1], int(match[2] or 0), int(match[3])
        seeds = split_seeds(split)
        if not first < last <= len(seeds):
            raise ValueError(f"scenes={scenes}: {split} holds apartments 0 to {len(seeds)}; ask for a part of them")
        return [Building(f"apartment_{seed:05d}", seed) for seed in seeds[first:last]]
    if not Path(scenes).is_file():
        raise FileNotFoundError(f"scenes={scenes}: neither a file nor like train:200, val:20 or val:5-20")
    return [Building(Path(scenes).stem, mesh=scenes)]


def render_building(building: Building, root: Path, settings: RenderSettings, domains: tuple[str, ...]) -> int:
    """Render the views of a building that `root` lacks.

    Args:
        building: What to render.
        root: Folder of the dataset.
        settings: Size and choice of the views.
        domains: Labels to write.

    Returns:
        How many views were rendered.

    Raises:
        ValueError: The scene offers no such views.
        OSError: A file could not be read or written.
    """
    taskonomy.sweep_building(root, building.name, domains)
    done = [taskonomy.is_written(root, building.name, p, v, domains) for p, v in settings.keys()]
    if all(done):
        return 0
    scene = building.load()
    renderer = make_renderer([scene])
    rng = np.random.default_rng([settings.seed, zlib.crc32(building.name.encode())])
    points = settings.views_per_scene // settings.views_per_point
    sample = SAMPLERS[settings.views]
    viewpoints = sample(renderer, 0, NavGrid.build(scene), rng, points, settings.views_per_point)
    for viewpoint, is_done in zip(viewpoints, done, strict=True):
        if is_done:
            continue
        view = RenderedView.render(scene, renderer, viewpoint, settings.size)
        taskonomy.write_view(root, building.name, view, domains)
    return done.count(False)


def render_dataset(
    buildings: list[Building], root: Path, settings: RenderSettings, domains: tuple[str, ...], workers: int
) -> Iterator[int]:
    """Render buildings with several processes, in any order; yields the number of new views per building.

    Raises:
        ValueError: `root` holds a dataset with other settings, or a domain does not exist.
        OSError: A file could not be read or written.
    """
    check_domains(domains)
    _describe(root, settings)
    jobs = [(building, root, settings, domains) for building in buildings]
    if workers <= 1 or len(jobs) == 1:
        yield from (render_building(*job) for job in jobs)
    else:
        yield from run_in_processes(render_building, jobs, min(workers, len(jobs)))


def _describe(root: Path, settings: RenderSettings) -> None:
    """Write ``dataset.json``, or check that what it says is what was asked for."""
    path = root / DESCRIPTION
    if path.exists():
        written = read_json(path, ("settings",))["settings"]
        existing = written if isinstance(written, dict) else {}
        wrong = [f"{key}={existing.get(key)}" for key, value in asdict(settings).items() if existing.get(key) != value]
        if wrong:
            raise ValueError(f"{root} holds views with {', '.join(wrong)}; ask for the same or choose another out=")
        return
    description = {"settings": asdict(settings), "substitutes": taskonomy.SUBSTITUTES}
    write_atomically(path, json.dumps(description, indent=1).encode())


@dataclass(frozen=True, kw_only=True)
class RenderCommand(RenderSettings):
    """Settings of ``python -m envs.render``.

    Attributes:
        scenes: train:200, val:20 or val:5-20 (apartments of a split), or the path of a mesh.
        out: Folder of the dataset; what is there is kept.
        domains: all, or a list, such as [rgb,principal_curvature,mask_valid].
        workers: Processes; null: one per core.
    """

    scenes: str
    out: str
    domains: Names = "all"
    workers: Annotated[int | None, Range(1, 1024)] = None


@cli("render", RenderCommand)
def main(cfg: DictConfig) -> None:
    """Render as configured and print the speed."""
    settings = RenderSettings(**{name: cfg[name] for name in kinds(RenderSettings)})
    domains = tuple(DOMAINS) if cfg.domains == "all" else tuple(OmegaConf.to_container(cfg.domains) or ())
    buildings = find_buildings(cfg.scenes)
    workers = cfg.workers or len(os.sched_getaffinity(0))
    start, new = time.perf_counter(), 0
    columns = (
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TextColumn("buildings"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("rendering", total=len(buildings))
        for count in render_dataset(buildings, Path(cfg.out), settings, domains, workers):
            new += count
            progress.advance(bar)
    seconds = time.perf_counter() - start
    kept = len(buildings) * settings.views_per_scene - new
    rate = f", {new / seconds:.1f} views/s" if new else ""
    print(f"{new} views rendered, {kept} kept in {cfg.out} ({seconds:.1f} s{rate})")  # noqa: T201


if __name__ == "__main__":
    main()
