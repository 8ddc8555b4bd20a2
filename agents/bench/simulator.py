"""Speeds of the simulator: frames of the renderer beside its bare ray caster, steps of the task beside rendering."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.apartments.generator import generate
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import PointNav, PointNavTask
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.rendering import embree
from envs.rendering.layout import FACE_WORDS, CameraRows, Poses
from envs.rendering.packing import traced_triangles
from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.rendering.single_rays import build_tree, list_rays
from envs.scans.loading import load_scene
from envs.scene import Scene
from envs.sources.apartments import apartments as scenes

AGENTS = 64
SCENE = 1  # the apartment that stands for all


def rate(work: Callable[[], Any], units: float, seconds: float = 2.0) -> float:
    """Units per second of `work`, repeated for about `seconds` after one call to warm up; the best of three tries."""
    work()
    best = 0.0
    for _ in range(3):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / 3:
            work()
            count += 1
        best = max(best, units * count / spent)
    return best


def _poses(grid: NavGrid, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return grid.sample(rng, count, island=0), rng.uniform(-np.pi, np.pi, count)


def medians(
    works: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Seconds of each work, the median of `rounds` after one to warm up; the works take turns.

    The default clock counts this process's processor time, which other programs on the machine disturb little.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds + 1):
        for name, work in works.items():
            start = clock()
            work()
            if i:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def frame_works(scene: Scene, grid: NavGrid, size: int, agents: int) -> dict[str, Callable[[], Any]]:
    """RGB+depth of `agents` views, and the bare ray caster on the same rays."""
    drawer, tree, camera = EmbreeRenderer([scene]), build_tree(traced_triangles(scene)), Camera(size=size)
    positions, headings = _poses(grid, agents)
    rays = _rays_row_by_row(positions, headings, camera)
    images: dict[str, NDArray[Any]] = {
        "rgb": np.empty((agents, size, size, 3), np.uint8),
        "depth": np.empty((agents, size, size), np.float32),
    }
    which = np.zeros(agents, np.int64)
    return {
        "frames": lambda: drawer.render(which, positions, headings, camera, out=images),
        "rays": lambda: tree.run(rays[0], rays[1], output=1),
    }


def _rays_row_by_row(
    position: NDArray[np.float64], heading: NDArray[np.float64], camera: Camera
) -> NDArray[np.float32]:
    """(2, R, 3) origins and directions, as one would give them to embreex."""
    count = len(position)
    poses = Poses(np.zeros(count, np.int64), position, heading, np.zeros(count))
    half_width = math.tan(math.radians(camera.hfov) / 2)
    view = CameraRows(camera.size, camera.columns, half_width, camera.height, camera.near, camera.far, False)
    rays = []
    for n in range(count):
        origins, directions, scenes = list_rays(n, poses, view)
        order = np.argsort(scenes)
        rays.append(np.stack([origins[order], directions[order]]))
    return np.concatenate(rays, axis=1)


def renderer(scene: Scene, grid: NavGrid, size: int, agents: int, rounds: int = 7) -> tuple[float, float]:
    """RGB+depth frames/s on one core, and how many times as long they take as their bare rays."""
    seconds = medians(frame_works(scene, grid, size, agents), rounds)
    return agents / seconds["frames"], seconds["frames"] / seconds["rays"]


def refined(scene: Scene, times: int) -> Scene:
    """The same surfaces with every triangle cut into four, `times` times."""
    for _ in range(times):
        corner, uv = scene.vertices[scene.faces], scene.corner_uv
        color = scene.corner_color.astype(np.float32)
        quarters = [_quarters(part) for part in (corner, uv, color)]
        count = len(quarters[0])
        repeated: dict[str, Any] = {
            name: np.repeat(getattr(scene, name), 4)
            for name in ("face_texture", "face_class", "face_instance", "solid")
        }
        scene = replace(
            scene,
            vertices=quarters[0].reshape(-1, 3),
            faces=np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
            corner_uv=quarters[1],
            corner_color=quarters[2].astype(np.uint8),
            **repeated,
        )
    return scene


def _quarters(corner: NDArray[np.float32]) -> NDArray[np.float32]:
    """(F, 3, C) values at corners to (4 F, 3, C)."""
    a, b, c = (corner[:, k] for k in range(3))
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts: list[tuple[NDArray[Any], ...]] = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.stack([np.stack(part, 1) for part in parts], 1).reshape(-1, *corner.shape[1:])


def on_all_cores(mesh: str | None, size: int, cores: int, seconds: float = 4.0) -> tuple[float, float]:
    """RGB+depth frames/s of one process per core together, in `mesh` or an apartment: on the clock, per processor time.

    The two are the same where nothing else runs on the machine.
    """
    context = multiprocessing.get_context("spawn")
    ready, counted = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=_render_for, args=(mesh, size, seconds, ready, counted)) for _ in range(cores)]
    for worker in workers:
        worker.start()
    rates = [counted.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    on_clock, of_processor = np.sum(rates, axis=0)
    return float(on_clock), float(of_processor)


def _render_for(mesh: str | None, size: int, seconds: float, ready: Any, counted: Any) -> None:
    scene = load_scene(mesh) if mesh else generate(SCENE)
    works, agents = frame_works(scene, NavGrid.build(scene), size, 16), 16
    works["frames"]()
    ready.wait()
    start, busy, frames = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        works["frames"]()
        frames += agents
    counted.put((frames / (time.perf_counter() - start), frames / (time.process_time() - busy)))


def resident_bytes() -> int:
    """Memory of this process, after giving back what it has freed."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(apartments: int) -> dict[str, float]:
    """Bytes that one more apartment takes (scene, grid, paths to its goals, face rows, tree), and 100,000 triangles.

    Arrays are counted; what Embree's trees take is the growth of the process over many of them. Textures, which all
    apartments share, come once; they are given apart.
    """
    places = scenes("val", apartments, 40, 0, AgentConfig())
    drawer = EmbreeRenderer([place.scene for place in places])
    arrays = np.mean([_scene_bytes(p.scene) + _row_bytes(p.scene) + _grid_bytes(p) for p in places])
    trees = np.mean([_tree_bytes(place.scene, 8) for place in places])
    fine = refined(places[0].scene, 3)
    dense = _scene_bytes(fine) + _row_bytes(fine) + _tree_bytes(fine, 2)
    return {
        "apartment": float(arrays + trees),
        "tree": float(trees),
        "textures": drawer.texture_bytes,
        "triangles_100k": 1e5 * dense / len(fine.faces),
    }


def _row_bytes(scene: Scene) -> int:
    return len(scene.faces) * FACE_WORDS * 4


def _scene_bytes(scene: Scene) -> int:
    arrays = (getattr(scene, f.name) for f in fields(scene))
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def _grid_bytes(place: NavigableScene) -> int:
    """The grid and the paths to every goal of its episodes."""
    goals = {e.goal_position for e in place.episodes}
    ways = sum(place.grid.field(np.array(goal)).nbytes for goal in goals)
    return ways + sum(array.nbytes for array in place.grid.ground if isinstance(array, np.ndarray))


def _tree_bytes(scene: Scene, times: int) -> float:
    library, triangles = embree.library(), traced_triangles(scene)
    assert isinstance(library, embree.EmbreeLibrary), library
    trees = [embree.Bvh(library, triangles)]
    before = resident_bytes()
    trees += [embree.Bvh(library, triangles) for _ in range(times)]
    return (resident_bytes() - before) / times


def task(places: list[NavigableScene]) -> dict[str, float]:
    """Cost of one step of the task (physics, distances, map, expert) beside rendering, microseconds per agent."""
    camera = Camera(size=64)
    seeing = PointNav(places, PointNavTask(sensors=("rgb", "depth")), camera, AGENTS, seed=0)
    seeing.reset(np.arange(AGENTS))
    render = 1e6 / rate(seeing.observe, AGENTS)

    def stepping(sensors: tuple[str, ...], expert: bool) -> float:
        nav = PointNav(places, PointNavTask(sensors=sensors, map_size=40), camera, AGENTS, seed=0)
        nav.reset(np.arange(AGENTS))

        def step() -> None:
            actions = nav.expert() if expert else np.full(AGENTS, 1)
            _, dones, _ = nav.step(actions)
            nav.observe()
            nav.reset(np.flatnonzero(dones))

        return 1e6 / rate(step, AGENTS)

    physics, mapped, labelled = stepping((), False), stepping(("map",), False), stepping((), True)
    return {
        "render_us": render,
        "step_us": physics,
        "step_over_render": physics / render,
        "map_us": mapped - physics,
        "expert_us": labelled - physics,
    }
