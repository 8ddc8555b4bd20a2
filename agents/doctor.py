"""``python -m agents.doctor``: check the installation and data, and say how to get what is missing.

``env=habitat`` (and its keys) chooses what must work; the exit code is 0 where it can run, else 1. ``data=FOLDER`` also
lists the scenes and episodes of a folder laid out as Habitat's ``data/``.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from agents.settings import DoctorSettings
from configs.compose import cli
from configs.files import visible, visible_folders
from envs.scans.mesh_files import SUFFIXES
from envs.scans.scene_datasets import DATASET_CONFIG
from envs.sources.findings import DOCS, MISSING, NOTE, OK, Finding, check_split, installed
from envs.sources.source import scene_sources

SCENES = (*SUFFIXES, DATASET_CONFIG)


def check_python() -> Finding:
    """The interpreter's version."""
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Finding(OK, f"Python {version}")
    return Finding(NOTE, f"Python {version} is not one that is tested", "use Python 3.10 to 3.13")


def check_torch() -> list[Finding]:
    """PyTorch, and the GPU it can compute on."""
    torch = importlib.import_module("torch")
    findings = [Finding(OK, f"PyTorch {torch.__version__}")]
    if torch.cuda.is_available():
        findings.append(Finding(OK, f"CUDA device: {torch.cuda.get_device_name(0)}"))
    else:
        findings.append(
            Finding(NOTE, "no CUDA device for PyTorch; the CPU does", "for a GPU, install a driver that CUDA runs on")
        )
    return findings


def check_embree() -> Finding:
    """The ray caster of the embedded simulator: one ray onto one triangle, and whether it traces packets of rays."""
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
    from envs.rendering.embree import EmbreeLibrary, library

    name, embree = f"Embree (embreex {metadata.version('embreex')})", library()
    if isinstance(embree, EmbreeLibrary):
        return Finding(OK, f"{name} traces {embree.lanes} rays at a time")
    return Finding(NOTE, f"{name} traces rays one by one, at a third of the speed: {embree}", "pip install -U embreex")


def check_warp() -> Finding:
    """NVIDIA Warp, the embedded simulator's way to render on a GPU."""
    if not installed("warp"):
        return Finding(NOTE, "NVIDIA Warp is not installed; scenes are rendered on the CPU", "pip install -e '.[cuda]'")
    return Finding(OK, f"NVIDIA Warp {metadata.version('warp-lang')}")


def check_env(env: DictConfig) -> list[Finding]:
    """The files that the chosen environment reads."""
    return list(scene_sources.get(env.name)(_plain(env)).check(env.split))


def check_sources(env: DictConfig) -> Iterator[Finding]:
    """Check the dependencies of the scene sources, the chosen one and all others."""
    for name in scene_sources.names():
        chosen = _plain(env) if name == env.name else None
        try:
            yield from scene_sources.get(name).installed(chosen)
        except ImportError as error:
            yield Finding(NOTE if chosen is None else MISSING, str(error), "fix or uninstall that package")


def _plain(env: DictConfig) -> Any:
    return OmegaConf.to_container(env, resolve=True)


def check_data(folder: Path) -> Iterator[Finding]:
    """Check a folder laid out as Habitat's ``data/``."""
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
        for finding in check_split(file, scenes):
            # A survey: nothing in it was asked for.
            yield Finding(NOTE if finding.state == MISSING else finding.state, finding.what, finding.fix)


def examine(cfg: DictConfig) -> list[Finding]:
    """Everything that the command looks at, in its order."""
    findings = [check_python(), *check_torch(), check_embree(), check_warp()]
    findings += check_sources(cfg.env)
    findings += check_env(cfg.env)
    if cfg.data is not None:
        findings += check_data(Path(cfg.data))
    return findings


def report(findings: list[Finding], env: str) -> str:
    """The findings as lines of text."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8}{finding.what}")
        if finding.fix:
            lines.append(f"{'':8}-> {finding.fix}")
    missing = sum(f.state == MISSING for f in findings)
    lines.append(f"env={env} can run" if not missing else f"env={env} cannot run: {missing} missing")
    return "\n".join(lines)


@cli("doctor", DoctorSettings)
def main(cfg: DictConfig) -> None:
    """Run all checks and print the findings."""
    findings = examine(cfg)
    print(report(findings, cfg.env.name))  # noqa: T201 (the command's output)
    if any(f.state == MISSING for f in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
