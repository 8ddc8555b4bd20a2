"""Folder of an evaluation's files: whether it can be written, and the replacement of all of them at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from configs.files import is_there, visible
from configs.writing import LOCK, scratch_folder

# The row of the policy as it was before training, which evaluations of the trained one leave where it is.
UNTRAINED = "untrained"


def prepare(run: Path, label: str) -> Path:
    """The folder for an evaluation's files; that all can be written is checked before any episode is played.

    Args:
        run: The run's folder.
        label: What the evaluation is called.

    Raises:
        OSError: It cannot be written.
        ValueError: Something else stands where a file belongs.
    """
    folder = run / "eval" / label
    for place in (folder.parent, folder):
        if os.path.lexists(place) and not place.is_dir():
            raise ValueError(f"{place} is no folder, where the evaluation's files belong; move it away")
    folder.mkdir(parents=True, exist_ok=True)
    for place in (run, folder.parent, folder):
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"{place} cannot be written; copy the run to a folder of your own")
    for file in (run / "report.html", *folder.glob("*.jsonl")):
        is_there(file)
    return folder


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give a new folder whose files take the place of an evaluation's when the block ends without an error.

    So a report never mixes two, and one that fails, on a full disk or by a kill, leaves the earlier one whole. What is
    no evaluation's, hidden files and folders, stays, and so does the row of the untrained agent.

    Raises:
        ValueError: Another process is evaluating there.
        OSError: It could not be written; nothing in `folder` changed.
    """
    scratch, lock = scratch_folder(folder, f"another process is evaluating into {folder}; wait until it ends")
    try:
        yield scratch
        folder.mkdir(exist_ok=True)  # it may have been removed while episodes were played
        for old in visible(folder):
            if old.is_file() and old.stem != UNTRAINED:
                old.unlink()
        for new in visible(scratch):
            if new.name != LOCK:
                new.replace(folder / new.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()
