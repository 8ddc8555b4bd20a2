"""The folder in which tasks are stored, format 1: `adapter.json` and one safetensors file per task.

`adapter.json` holds the format version, the sha256 of the base, the image size, the active task, and for
each task its method, settings, samples seen and file. Tensor files are named after their content and written
first; the JSON file is replaced last, in one step. So a crash or a full disk at any moment leaves the
previous state readable.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from adapt.training.files import to_json
from adapt.training.finite import check_finite
from configs.files import mistaken, read_json, visible
from configs.writing import write_atomically

FORMAT_VERSION = 1
HEADER = "adapter.json"
TASK_NAME = r"[\w-]+"
DIGITS = 12


@dataclass
class Entry:
    """One stored task.

    Attributes:
        task: Its name.
        method: Name of the method that it was trained with.
        settings: The method's settings, plain values.
        samples_seen: Training examples so far.
        tensors: What `Method.pack` gives.
    """

    task: str
    method: str
    settings: dict[str, Any]
    samples_seen: int
    tensors: dict[str, Tensor]


def as_task_name(name: str) -> str:
    """The name with "_" for everything that a task's name cannot have; letters of any alphabet stay."""
    return re.sub(r"[^\w-]", "_", unicodedata.normalize("NFC", name)) or "_"


def check_task_name(task: str) -> None:
    """Raise a ValueError unless the name can also name a file and a submodule."""
    if not isinstance(task, str) or not re.fullmatch(TASK_NAME, task):
        raise ValueError(f"a task name has letters, digits, '_' and '-' only, got {task!r}")


def write(directory: Path, base: str, image_size: int, active: str, entries: Sequence[Entry]) -> None:
    """Write the folder.

    Args:
        directory: made if absent; tasks of an earlier `write` are replaced.
        base: sha256 of the base.
        image_size: pixels.
        active: the active task.
        entries: all tasks.

    Raises:
        NotFinite: a tensor holds NaN or infinity; what the folder held before stays.
        OSError: the disk is full or not writable; what the folder held before stays readable.
    """
    tasks = []
    for entry in entries:
        check_finite(entry.tensors, entry.task)
        data = save_tensors({k: t.detach().cpu().contiguous().clone() for k, t in entry.tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{entry.task}.{digest[:DIGITS]}.safetensors"
        write_atomically(directory / file, data)
        described = {"task": entry.task, "method": entry.method, "settings": entry.settings}
        tasks.append({**described, "samples_seen": entry.samples_seen, "file": file, "sha256": digest})
    header = {
        "format": FORMAT_VERSION,
        "sidestep": _version(),
        "base": base,
        "image_size": image_size,
        "active": active,
        "tasks": tasks,
    }
    write_atomically(directory / HEADER, to_json(header, indent=2).encode())
    current = {str(task["file"]) for task in tasks}
    for old in visible(directory, "*.safetensors"):
        # The folder may hold files that are not tasks, such as a base.
        if old.name not in current and re.fullmatch(rf"{TASK_NAME}\.[0-9a-f]{{{DIGITS}}}\.safetensors", old.name):
            old.unlink()


def read(directory: Path, base: str) -> tuple[dict[str, Any], list[Entry]]:
    """Read the folder that `write` wrote and check that it belongs to this base.

    Raises:
        FileNotFoundError: the folder or one of its files is absent.
        ValueError: another base (both are named), an unknown format, or a damaged file.
    """
    path = directory / HEADER
    if not path.is_file():
        raise FileNotFoundError(f"no {HEADER} in {directory}: give the folder that Adapted.save wrote")
    try:
        header = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; save the tasks again") from error
    if header.get("format") != FORMAT_VERSION:
        raise ValueError(f"{path} has format {header.get('format')}, this version reads format {FORMAT_VERSION}")
    _check_header(header, path)
    if header["base"] != base:
        trained, given = header["base"][:12], base[:12]
        raise ValueError(f"{directory} was trained on base {trained}, but the given base is {given}; load that base")
    return header, [_read_entry(directory, task) for task in header["tasks"]]


def _check_header(header: dict[str, Any], path: Path) -> None:
    """Refuse a header of other keys or types than `write` writes."""
    kinds: dict[str, type] = {"base": str, "image_size": int, "active": str, "tasks": list}
    for key, kind in kinds.items():
        if not isinstance(header.get(key), kind) or isinstance(header[key], bool):
            raise ValueError(f"{path}: {key} is no {kind.__name__}; save the tasks again")
    kinds = {"task": str, "method": str, "settings": dict, "samples_seen": int, "file": str, "sha256": str}
    for task in header["tasks"]:
        for key, kind in kinds.items():
            if not isinstance(task, dict) or not isinstance(task.get(key), kind) or isinstance(task[key], bool):
                raise ValueError(f"{path}: {key} of a task is no {kind.__name__}; save the tasks again")
        if not re.fullmatch(TASK_NAME, task["task"]) or Path(task["file"]).name != task["file"]:
            raise ValueError(f"{path}: a task is called {task['task'][:40]!r}, its file {task['file'][:80]!r}")
        if not 0 <= task["samples_seen"] < 2**63:
            raise ValueError(f"{path}: samples_seen is {task['samples_seen']}")


def _read_entry(directory: Path, task: dict[str, Any]) -> Entry:
    file = directory / task["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent: copy the whole folder, {HEADER} names this file")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != task["sha256"]:
        raise ValueError(f"{file} is damaged (its sha256 differs from {HEADER}); copy it again")
    try:
        tensors = load_tensors(data)
    except Exception as error:
        # The reader fails in any way a broken file makes it.
        reason = mistaken(file) or " ".join(str(error).split())
        raise ValueError(f"{file} is not a readable safetensors file ({reason}); copy it again") from error
    return Entry(task["task"], task["method"], task["settings"], task["samples_seen"], tensors)


def _version() -> str:
    try:
        return metadata.version("sidestep")
    except metadata.PackageNotFoundError:
        return "unknown"
