"""The tasks that a finished run of `adapt.train` has saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapt.core.base import Base
from adapt.core.checkpoint import HEADER
from adapt.core.method import Method
from adapt.core.model import load
from adapt.modules.joint import JointDeltaMethod
from configs.files import visible
from configs.names import nearest


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


def exported(methods: Mapping[str, Method], task: str = "", shared: bool = False) -> Base:
    """The network of a task, by default of the first, or what all tasks share.

    Raises:
        ValueError: there is no such task, or nothing is shared.
        NotMergeable: the method has no such form.
    """
    name = task or next(iter(methods))
    if name not in methods:
        raise ValueError(f"there is no task {name!r}{nearest(name, methods)}; there are {', '.join(methods)}")
    method = methods[name]
    if not shared:
        return method.merge()
    if not isinstance(method, JointDeltaMethod):
        raise ValueError(f"{method.name()} trains no weights that tasks share beside their own; leave out shared=true")
    return method.shared_base()
