"""Findings of ``python -m agents.doctor``: check, result, remedy."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from configs.files import mistaken
from configs.names import nearest
from envs.pointnav.episodes import content_files, read_gzip, scene_name
from envs.scans.assets import scene_candidates

OK, NOTE, MISSING = "ok", "note", "missing"
DOCS = "docs/habitat.md"
SCENE_ID = re.compile(r'"(scene_id|scene_dataset_config)"\s*:\s*("(?:[^"\\]|\\.)*")')
# The start of a file per scene says which scene it is about; whole files of large datasets take minutes to read.
PEEK = 1 << 16
SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: ``"ok"``; ``"note"``: absent and not needed for what was asked; ``"missing"``: absent and needed.
        what: What was found.
        fix: What to do about it, empty if nothing.
    """

    state: str
    what: str
    fix: str = ""


def installed(package: str) -> bool:
    """Whether a package can be imported; a folder of its name in the working directory is not one."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def check_file(path: Path, what: str, fix: str) -> Finding:
    """Whether a file that a split reads is there."""
    if path.is_file():
        return Finding(OK, f"{what}: {path}")
    return Finding(MISSING, f"{what} {path} is not there", fix)


def check_split(file: Path, scenes_dir: Path | None, only: str | Sequence[str] | None = None) -> Iterator[Finding]:
    """An episode file, its scenes or those of them named in `only`, and their meshes in `scenes_dir` if it is given."""
    finding = check_file(file, "episodes", f"{DOCS} says where to get and put them")
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
    lacking = [s for s in sorted(needed) if not any(file.is_file() for file in scene_candidates(s, scenes_dir))]
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
        text = read_gzip(part, PEEK, cut=True) if parts else read_gzip(part)
        fields = [(key, json.loads(value, strict=False)) for key, value in SCENE_ID.findall(text)]
        scenes = {value for key, value in fields if key == "scene_id"}
        names |= set(map(scene_name, scenes))
        if chosen is not None:
            scenes = {scene for scene in scenes if scene_name(scene) in chosen}
        datasets = {value for key, value in fields if key == "scene_dataset_config" and value not in ("", "default")}
        needed |= datasets or scenes
    return names, needed
