"""Thread pool for compiled code, which runs without Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_threads = 1
T = TypeVar("T")
R = TypeVar("R")


def set_num_threads(threads: int) -> None:
    """Set how many threads of the process render together.

    Raises:
        ValueError: There would be none.
    """
    global _threads
    if threads < 1:
        raise ValueError(f"rendering needs at least one thread, got {threads}")
    _threads = threads


def num_threads() -> int:
    """Number of threads that render together: 1, or that of `set_num_threads`."""
    return _threads


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "work")


# The threads of a pool do not come along into a forked process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def map_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply `work` to each item, `num_threads()` at a time; results come in the order of the items."""
    if _threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    return list(_pool(_threads).map(work, items))
