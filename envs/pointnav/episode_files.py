"""Paths of the episode files of a split, with errors for missing ones.

`env.episodes` is one ``.json.gz`` file, or a folder laid out as Habitat's: ``<split>/<split>.json.gz``, with or without
``<split>/content/<scene>.json.gz``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from configs.files import visible
from configs.writing import write_atomically
from envs.pointnav.episodes import Episode, write_episodes

# Marks a folder into which episodes were generated: those of other splits may be put there, too.
GENERATED = "generated.json"
SHOWN = 4


def split_file(episodes: str | os.PathLike[str], split: str) -> Path:
    """The file of a split, whether it exists or not.

    Raises:
        ValueError: `episodes` is a file of another kind.
    """
    path = Path(episodes)
    if path.suffix == ".gz":
        return path
    if path.is_file() or path.suffix == ".json":
        raise ValueError(f"env.episodes={path} is neither a folder nor a .json.gz file; compress it with gzip")
    return path / split / f"{split}.json.gz"


def may_generate(episodes: str | os.PathLike[str]) -> bool:
    """Whether episodes may be generated there: a folder that is new or empty, or holds generated ones only."""
    path = Path(episodes)
    return path.suffix != ".gz" and ((path / GENERATED).is_file() or not visible(path))


def write_generated(folder: str | os.PathLike[str], split: str, scene: str, episodes: list[Episode]) -> Path:
    """Write generated episodes where `split_file` finds them, and mark the folder.

    Raises:
        OSError: It cannot be written.
    """
    file = split_file(folder, split)
    # The mark first: a folder of generated episodes without it would pass for the user's own.
    write_atomically(Path(folder) / GENERATED, (json.dumps({"scene": scene, "by": "sidestep"}) + "\n").encode())
    write_episodes(file, episodes)
    return file


def absent(episodes: str | os.PathLike[str], split: str) -> FileNotFoundError:
    """The error for a split whose file does not exist: what is there instead, and what to set."""
    path, file = Path(episodes), split_file(episodes, split)
    if path.suffix == ".gz":
        return FileNotFoundError(f"episode file {path} does not exist{_uncompressed(path)}")
    if not path.is_dir():
        return FileNotFoundError(f"episode file {file} does not exist: there is no folder {path}")
    return FileNotFoundError(f"episode file {file} does not exist{_found_instead(path, split)}")


def _found_instead(folder: Path, split: str) -> str:
    """What a folder holds that may be meant, as the end of a message."""
    name = f"{split}.json.gz"
    if (folder / name).is_file():
        right = folder.parent if folder.name == split else folder / name
        return f", but {folder / name} does; set env.episodes={right}"
    deeper = visible(folder, f"**/{split}/{name}")
    if deeper:
        return f", but {deeper[0]} does; set env.episodes={deeper[0].parent.parent}"
    plain = next((f for f in (folder / split / f"{split}.json", folder / f"{split}.json") if f.is_file()), None)
    if plain is not None:
        return f", but {plain} does; compress it with gzip and put it there"
    other = [f.parent.name for f in visible(folder, "*/*.json.gz") if f.name == f"{f.parent.name}.json.gz"]
    if other:
        return f"; {folder} has the split{'s' if len(other) > 1 else ''} {', '.join(other)}"
    names = [entry.name for entry in visible(folder)]
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"; {folder} holds {listed or 'nothing'}"


def _uncompressed(path: Path) -> str:
    plain = path.with_suffix("")
    return f", but {plain} does; compress it with gzip" if plain.is_file() else ""
