"""User files: data entries of a folder without hidden ones, files with a wrong extension; the cache.

Operating systems, editors and file browsers leave their own files among data: those are never data. Every module that
lists a folder of the user's does it by `visible`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What macOS's archiver, Synology's and Windows' file browsers and disk checks leave behind, besides names with a dot.
NEVER_DATA = frozenset(
    {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db", "desktop.ini"}
)
PEEK = 1024


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never data: it begins with a dot, or the system made it."""
    return name.startswith(".") or name in NEVER_DATA


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """Entries below a folder, sorted, without hidden ones and what lies in hidden folders; none if it is absent.

    Args:
        folder: Where to look; its own name may be hidden.
        pattern: As for `Path.glob`.
    """
    entries = folder.glob(pattern) if folder.is_dir() else ()
    return sorted(path for path in entries if not any(map(is_hidden, path.relative_to(folder).parts)))


def visible_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted, without hidden ones."""
    return [path for path in visible(folder) if path.is_dir()]


def is_there(path: Path) -> bool:
    """Whether a file stands at a path.

    Raises:
        ValueError: Something else stands there: a folder, a pipe, or a link whose target is gone.
    """
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, which does not exist; restore that, or delete the link"
        )
    if path.exists() and not path.is_file():
        raise ValueError(
            f"{path} is {'a folder' if path.is_dir() else 'no plain file'}, where a file belongs; move it away"
        )
    return path.exists()


def read_json(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        keys: What it must have.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds no object or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise ValueError(f"cannot read {path}: {mistaken(path) or error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"cannot read {path}: it holds no JSON object")
    if lacking := [key for key in keys if key not in content]:
        raise ValueError(f"cannot read {path}: it lacks {', '.join(lacking)}")
    return content


def mistaken(source: Path | bytes) -> str:
    """The likely content of a file whose extension is wrong, as the end of a message; empty if not known.

    Args:
        source: The file, or its first bytes.
    """
    start = source if isinstance(source, bytes) else _peek(source)
    if not start:
        return "it is empty; fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; fetch it with git lfs pull"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")) or (text.startswith(b"<?xml") and b"<error>" in text):
        return "it is a web page that was saved under this name; download the file itself"
    return ""


def _peek(path: Path) -> bytes:
    """The first bytes of a file, a space where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(PEEK)
    except (OSError, ValueError):  # a name with a null byte is a ValueError
        return b" "


def cache_folder() -> Path:
    """The cache folder: what the environment variable `SIDESTEP_CACHE` names, by default ``~/.cache/sidestep``."""
    return Path(os.environ.get("SIDESTEP_CACHE", Path.home() / ".cache" / "sidestep"))
