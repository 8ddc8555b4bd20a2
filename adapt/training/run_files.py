"""JSON files of a run folder: reading them with their values checked against declared types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from adapt.training.run import read_json_if_there
from configs.files import read_json
from configs.settings import ConfigError, Range, fit

Seconds = Annotated[float | None, Range(0, 1e12)]
# What ``versions.json`` holds of what is read from it.
VERSIONS: Mapping[str, Any] = {
    "command": str,
    "date": str,
    "git_commit": str,
    "git_dirty": bool,
    "packages": Mapping[str, str],
    "seed": int,
}


def read_checked(file: Path, kinds: Mapping[str, Any], keys: Sequence[str] | None = None) -> dict[str, Any]:
    """A JSON object of which some keys, where they are present, hold values of declared types.

    Args:
        file: The file.
        kinds: The types by key, as `configs.settings` declares them.
        keys: What it must have; None: there need be no file.

    Raises:
        FileNotFoundError: `keys` are given, and there is no file.
        ValueError: The file is damaged.
    """
    content = read_json_if_there(file) if keys is None else read_json(file, keys)
    for key in kinds:
        if key in content:
            check_value(kinds[key], content[key], key, str(file), "correct it, or delete the file")
    return content


def check_value(kind: Any, value: Any, key: str, where: str, advice: str) -> None:
    """Check that a value fits a declared type.

    Raises:
        ValueError: It does not; the message says where it stands, and gives the advice.
    """
    try:
        fit(kind, value, key)
    except ConfigError as error:
        raise ValueError(f"{where}: {error}; {advice}") from error
