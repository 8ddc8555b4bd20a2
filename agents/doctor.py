"""``python -m agents.doctor``: what is installed, what is missing and how to get it, in plain words.

``env=habitat`` (and its keys) chooses what must work; the exit code is 0 where it can run, else 1. ``data=FOLDER`` also
lists the scenes and episodes of a folder laid out as Habitat's ``data/``.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from configs.compose import cli
from configs.files import mistaken, visible, visible_folders
from configs.names import nearest
from envs.habitat import egl
from envs.habitat import stand_ins as habitat_stand_ins
from envs.habitat.vec_env import Settings, dataset_paths
from envs.pointnav.episode_files import absent, may_generate, split_file
from envs.pointnav.episodes import content_files, read_gzip, scene_name
from envs.scans.mesh_files import SUFFIXES
from envs.scans.scene_datasets import DATASET_CONFIG
from envs.scans.source import ScanSettings, find_scan

OK, NOTE, MISSING = "ok", "note", "missing"
DOCS = "docs/habitat.md"
SCENE_ID = re.compile(r'"(scene_id|scene_dataset_config)"\s*:\s*"([^"]*)"')
SCENES_PREFIX = "data/scene_datasets/"
# The start of a file per scene says which scene it is about; whole files of large datasets take minutes to read.
PEEK = 1 << 16
SHOWN = 3
SCENES = (*SUFFIXES, DATASET_CONFIG)


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        state: ``"ok"``; ``"note"``: absent and not needed for what was asked; ``"missing"``: absent and needed.
        what: What was found.
        fix: What to do about it, empty if nothing.
    """

    state: str
    what: str
    fix: str = ""


def check_python() -> Finding:
    """The interpreter's version."""
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Finding(OK, f"Python {version}")
    return Finding(NOTE, f"Python {version} is not one that is tested", "use Python 3.10 to 3.13")


def check_torch() -> list[Finding]:
    """PyTorch, and the GPU it can compute on."""
    torch = importlib.import_module("torch")
    found = [Finding(OK, f"PyTorch {torch.__version__}")]
    if torch.cuda.is_available():
        found.append(Finding(OK, f"CUDA device: {torch.cuda.get_device_name(0)}"))
    else:
        found.append(
            Finding(NOTE, "no CUDA device for PyTorch; the CPU does", "for a GPU, install a driver that CUDA runs on")
        )
    return found


def check_embree() -> Finding:
    """The ray caster of the embedded simulator, by one ray onto one triangle."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene()
        TriangleMesh(scene, np.array([[[-1, -1, 1], [1, -1, 1], [0, 1, 1]]], np.float32))
        hit = scene.run(np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32))
    except Exception as error:  # whatever a broken installation raises
        return Finding(MISSING, f"Embree does not work: {error}", "pip install --force-reinstall embreex")
    if hit[0] != 0:
        return Finding(MISSING, "Embree missed a triangle in front of it", "pip install --force-reinstall embreex")
    return Finding(OK, f"Embree (embreex {metadata.version('embreex')}) casts rays")


def _installed(package: str) -> bool:
    """Whether a package can be imported; a folder of its name in the working directory is not one."""
    found = find_spec(package)
    return found is not None and found.origin is not None


def check_warp() -> Finding:
    """NVIDIA Warp, the embedded simulator's way to render on a GPU."""
    if not _installed("warp"):
        return Finding(NOTE, "NVIDIA Warp is not installed; scenes are rendered on the CPU", "pip install -e '.[cuda]'")
    return Finding(OK, f"NVIDIA Warp {metadata.version('warp-lang')}")


def check_habitat(needed: bool, simulator: str) -> list[Finding]:
    """Habitat-Lab, habitat-sim and the EGL device that habitat-sim renders on."""
    absent = MISSING if needed else NOTE
    found = []
    if not _installed("habitat"):
        fix = "pip install -e '.[habitat]' (Python 3.10 to 3.12; it pins numpy 1.26, so give it its own environment)"
        found.append(Finding(absent, "Habitat-Lab is not installed", fix))
    else:
        found.append(Finding(OK, f"Habitat-Lab {metadata.version('habitat-lab')}"))
    lacking = habitat_stand_ins.missing()
    if lacking:
        state = absent if simulator == "habitat_sim" else NOTE
        fix = f"{DOCS} says how to install it; env.simulator=sidestep does without it"
        found.append(Finding(state, f"habitat-sim is not installed (no {', '.join(lacking)})", fix))
    else:
        found.append(Finding(OK, "habitat-sim"))
    return [*found, _check_egl()]


def _check_egl() -> Finding:
    only = "habitat-sim then renders in software (gpu_device_id=-1, set by itself)"
    try:
        cuda, total = egl.cuda_devices()
    except egl.EglMissing as error:
        fix = "apt-get install libegl1 (or your system's Mesa), needed by habitat-sim only"
        return Finding(NOTE, f"no EGL: {error}", fix)
    if not cuda:
        counted = f"{total} device{'' if total == 1 else 's'}"
        return Finding(NOTE, f"EGL has {counted}, none of CUDA; {only}", "for a GPU, install NVIDIA's GL libraries")
    return Finding(OK, f"EGL renders on CUDA device {', '.join(map(str, cuda))}")


def check_env(env: DictConfig) -> list[Finding]:
    """The files that the chosen environment reads."""
    if env.name == "scans":
        return list(_check_scans(env))
    if env.name == "habitat" and _installed("habitat"):
        settings = Settings.of(OmegaConf.to_container(env, resolve=True), env.split)  # type: ignore[arg-type]
        return list(_check_split(*dataset_paths(settings)))
    return []


def _check_scans(env: DictConfig) -> Iterator[Finding]:
    if env.scene is not None:
        try:
            find_scan(env.scene, ScanSettings(env.dataset, env.scenes_dir))
        except (OSError, ValueError) as error:
            fix = "give env.scene=<a .glb, .gltf, .obj or .ply file, or a name in env.dataset>"
            yield Finding(MISSING, " ".join(str(error).split()), fix)
        else:
            yield Finding(OK, f"the scene: {env.scene}")
    if env.episodes is not None:
        yield from _check_episodes(env)
    elif env.scene is None:
        yield Finding(MISSING, "env=scans needs a scene", "give env.scene=FILE, or env.episodes=FOLDER")


def _check_episodes(env: DictConfig) -> Iterator[Finding]:
    """Where ``env.episodes`` points, and the scenes of its split."""
    try:
        file = split_file(env.episodes, env.split)
        if not file.is_file() and env.scene is not None and may_generate(env.episodes):
            yield Finding(NOTE, f"no episodes at {file}", "nothing to do: they are generated when they are needed")
            return
        if not file.is_file():
            raise absent(env.episodes, env.split)
    except (OSError, ValueError) as error:
        yield Finding(MISSING, str(error), f"{DOCS} says where to get and put them")
        return
    wanted = env.scenes if env.scene is None else [env.scene]
    if env.scene is None and env.dataset is None:
        yield from _check_split(file, Path(env.scenes_dir), wanted)
        return
    if env.dataset is not None:
        yield _file(Path(env.dataset), "the scene dataset", f"{DOCS} says where to get it and where to put it")
    yield from _check_split(file, None, wanted)


def check_data(folder: Path) -> Iterator[Finding]:
    """What a folder laid out as Habitat's ``data/`` holds."""
    if not folder.is_dir():
        yield Finding(MISSING, f"there is no folder {folder}", f"{DOCS} says where to get scenes and where to put them")
        return
    scenes = folder / "scene_datasets"
    names = [f.name for f in visible_folders(scenes) if any(p.name.endswith(SCENES) for p in visible(f, "**/*.*"))]
    if names:
        yield Finding(OK, f"scenes in {scenes}: {', '.join(names)}")
    else:
        yield Finding(NOTE, f"no scenes in {scenes}", f"{DOCS} says where to get them")
    files = visible(folder / "datasets/pointnav", "**/*.json.gz")
    splits = [f for f in files if f.name == f"{f.parent.name}.json.gz"]
    if not splits:
        yield Finding(NOTE, f"no episodes in {folder / 'datasets/pointnav'}", f"{DOCS} says where to get them")
    for file in splits:
        for finding in _check_split(file, scenes):
            # A survey: nothing in it was asked for.
            yield Finding(NOTE if finding.state == MISSING else finding.state, finding.what, finding.fix)


def _file(path: Path, what: str, fix: str) -> Finding:
    if path.is_file():
        return Finding(OK, f"{what}: {path}")
    return Finding(MISSING, f"{what} {path} is not there", fix)


def _check_split(file: Path, scenes_dir: Path | None, only: str | Sequence[str] | None = None) -> Iterator[Finding]:
    """An episode file, its scenes or those of them named in `only`, and their meshes in `scenes_dir` if it is given."""
    finding = _file(file, "episodes", f"{DOCS} says where to get and put them")
    if finding.state != OK:
        yield finding
        return
    chosen = None if only is None else {scene_name(str(name)) for name in ([only] if isinstance(only, str) else only)}
    try:
        scenes, needed = _scenes_of(file, chosen)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        yield Finding(MISSING, f"{file} cannot be read: {mistaken(file) or error}", "fetch it again")
        return
    if not scenes:
        yield Finding(
            MISSING, f"{file} names no scene, and no file beside it in content/ does", "fetch the dataset again"
        )
        return
    if unknown := sorted((chosen or set()) - scenes):
        what = f"{file} has no episodes in {unknown[0]}{nearest(unknown[0], scenes)}"
        yield Finding(MISSING, what, "correct its name")
        return
    if not needed:
        yield Finding(MISSING, f"{file}: no scene is asked for", "correct env.scenes")
        return
    if scenes_dir is None:
        yield Finding(OK, f"episodes: {file}")
        return
    lacking = [s for s in sorted(needed) if not (scenes_dir / s.removeprefix(SCENES_PREFIX)).is_file()]
    if lacking:
        named = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
        what = f"{file}: {len(lacking)} of {len(needed)} scenes are not in {scenes_dir} ({named})"
        yield Finding(MISSING, what, f"{DOCS} says where to get them and where to put them")
    else:
        yield Finding(OK, f"{file}: all {len(needed)} scenes are in {scenes_dir}")


def _scenes_of(file: Path, chosen: Collection[str] | None) -> tuple[set[str], set[str]]:
    """Names of the scenes of a split, and what is needed of those chosen: meshes, or datasets that they belong to."""
    parts = content_files(file)
    names = {name for name, _ in parts}
    needed: set[str] = set()
    for name, part in [("", file), *parts]:
        if name and chosen is not None and name not in chosen:
            continue
        # Without files per scene, the one file holds all scenes.
        fields = SCENE_ID.findall(read_gzip(part, PEEK, cut=True) if parts else read_gzip(part))
        scenes = {value for key, value in fields if key == "scene_id"}
        names |= set(map(scene_name, scenes))
        if chosen is not None:
            scenes = {scene for scene in scenes if scene_name(scene) in chosen}
        datasets = {value for key, value in fields if key == "scene_dataset_config" and value not in ("", "default")}
        needed |= datasets or scenes
    return names, needed


def examine(cfg: DictConfig) -> list[Finding]:
    """Everything that the command looks at, in its order."""
    found = [check_python(), *check_torch(), check_embree(), check_warp()]
    found += check_habitat(cfg.env.name == "habitat", cfg.env.get("simulator", "sidestep"))
    found += check_env(cfg.env)
    if cfg.data is not None:
        found += check_data(Path(cfg.data))
    return found


def report(found: list[Finding], env: str) -> str:
    """The findings as lines of text."""
    lines = []
    for finding in found:
        lines.append(f"{finding.state:8}{finding.what}")
        if finding.fix:
            lines.append(f"{'':8}-> {finding.fix}")
    missing = sum(f.state == MISSING for f in found)
    lines.append(f"env={env} can run" if not missing else f"env={env} cannot run: {missing} missing")
    return "\n".join(lines)


@cli("doctor")
def main(cfg: DictConfig) -> None:
    """Look at everything and say what was found."""
    found = examine(cfg)
    print(report(found, cfg.env.name))  # noqa: T201 (the command's output)
    if any(f.state == MISSING for f in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
