"""The tasks that a finished run of `adapt.train` has saved."""

from __future__ import annotations

from pathlib import Path

from adapt.core.base import Base
from adapt.core.checkpoint import HEADER
from adapt.core.method import Method
from adapt.core.model import load
from configs.files import visible


def saved_methods(run: Path, base: Base) -> dict[str, Method]:
    """The trained methods of a finished run by task, in the order in which they were saved.

    Args:
        run: its folder.
        base: the base that its tasks are on.

    Raises:
        FileNotFoundError: the run has not finished.
        ValueError: the base is another.
    """
    # Tasks that were learned alone were saved alone.
    headers = visible(run / "adapter", HEADER) or visible(run / "adapter", f"*/{HEADER}")
    if not headers:
        raise FileNotFoundError(f"{run} has no saved tasks: it has not finished; add resume=true to its command")
    loaded = [load(base, header.parent) for header in headers]
    return {task: adapted.method(task) for adapted in loaded for task in adapted.tasks}
