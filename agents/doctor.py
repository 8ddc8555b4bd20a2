"""``python -m agents.doctor``: what is installed, what is missing and how to get it, in plain words.

``env=habitat`` (and its keys) chooses what must work; the exit code is 0 where it can run, else 1. ``data=FOLDER`` also
lists the scenes and episodes of a folder laid out as Habitat's ``data/``.
"""

from __future__ import annotations

import gzip
import importlib
import platform
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from configs.compose import cli
from envs.habitat import egl
from envs.habitat import stand_ins as habitat_stand_ins
from envs.habitat.vec_env import Settings, dataset_paths
from envs.pointnav.episodes import scene_name
from envs.scans.scene_datasets import DATASET_CONFIG
from envs.scans.source import ScanSettings, find_scan

OK, NOTE, MISSING = "ok", "note", "missing"
DOCS = "docs/habitat.md"
SCENE_ID = re.compile(r'"(scene_id|scene_dataset_config)"\s*:\s*"([^"]*)"')
SCENES_PREFIX = "data/scene_datasets/"
# The start of a file says which scene it is about; whole files of large datasets take minutes to read.
PEEK = 1 << 16
SHOWN = 3


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
    elif env.episodes is None:
        yield Finding(MISSING, "env=scans needs a scene", "give env.scene=FILE, or env.episodes=FOLDER")
    else:
        file = Path(env.episodes)
        file = file if file.suffix == ".gz" else file / env.split / f"{env.split}.json.gz"
        if env.dataset is None:
            yield from _check_split(file, Path(env.scenes_dir), env.scenes)
        else:  # scenes are names in it
            yield _file(Path(env.dataset), "the scene dataset", f"{DOCS} says where to get it and where to put it")
            yield _file(file, "episodes", f"{DOCS} says where to get and put them")


def check_data(folder: Path) -> Iterator[Finding]:
    """What a folder laid out as Habitat's ``data/`` holds."""
    if not folder.is_dir():
        yield Finding(MISSING, f"there is no folder {folder}", f"{DOCS} says where to get scenes and where to put them")
        return
    scenes = folder / "scene_datasets"
    names = sorted(p.name for p in scenes.iterdir() if p.is_dir()) if scenes.is_dir() else []
    if names:
        yield Finding(OK, f"scenes in {scenes}: {', '.join(names)}")
    else:
        yield Finding(NOTE, f"no scenes in {scenes}", f"{DOCS} says where to get them")
    files = sorted((folder / "datasets/pointnav").glob("**/*.json.gz"))
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


def _check_split(file: Path, scenes_dir: Path, only: Sequence[str] | None = None) -> Iterator[Finding]:
    """An episode file, and the scenes that it speaks of, or those of them named in `only`."""
    finding = _file(file, "episodes", f"{DOCS} says where to get and put them")
    if finding.state != OK:
        yield finding
        return
    try:
        wanted = _scenes_of(file)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        yield Finding(MISSING, f"{file} cannot be read: {error}", "fetch it again")
        return
    if not wanted:
        yield Finding(
            MISSING, f"{file} names no scene, and no file beside it in content/ does", "fetch the dataset again"
        )
        return
    if only is not None:
        wanted = {s for s in wanted if s.endswith(DATASET_CONFIG) or scene_name(s) in only}
    lacking = [s for s in sorted(wanted) if not (scenes_dir / s.removeprefix(SCENES_PREFIX)).is_file()]
    if lacking:
        named = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
        what = f"{file}: {len(lacking)} of {len(wanted)} scenes are not in {scenes_dir} ({named})"
        yield Finding(MISSING, what, f"{DOCS} says where to get them and where to put them")
    else:
        yield Finding(OK, f"{file}: all {len(wanted)} scenes are in {scenes_dir}")


def _scenes_of(file: Path) -> set[str]:
    """Files that a split needs: meshes, and scene datasets where its scenes belong to one."""
    parts = sorted((file.parent / "content").glob("*.json.gz"))
    found: set[str] = set()
    for part in [file, *parts]:
        with gzip.open(part, "rt", encoding="utf-8") as stream:
            # Without files per scene, the one file holds all scenes.
            text = stream.read(PEEK) if parts else stream.read()
        fields = SCENE_ID.findall(text)
        datasets = {value for key, value in fields if key == "scene_dataset_config" and value not in ("", "default")}
        found |= {d for d in datasets} or {value for key, value in fields if key == "scene_id"}
    return found


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
