"""Refuses a dataset that does not lie on disk as its owners publish it, with the tree that was expected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SHOWN = 3  # Missing paths that the message names.


class LayoutError(FileNotFoundError):
    """A dataset is absent or laid out differently; the message ends with the expected tree, on lines of its own.

    Args:
        problem: what is wrong with which path.
        dataset: who expects the tree.
        tree: the expected files, one a line, and where to get them.

    Attributes:
        keep_lines: makes `configs.compose.cli` print the lines as they are.
    """

    keep_lines = True

    def __init__(self, problem: str, dataset: str, tree: str) -> None:
        lines = tree.strip("\n").splitlines()
        shown = lines[0] if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        super().__init__(f"{problem}; {dataset} expects:{' ' if len(lines) == 1 else ''}{shown}")


def missing(root: Path, wanted: Iterable[str]) -> str:
    """The `wanted` paths that `root` lacks, as the end of "<root> ..."; empty if none.

    Up to three paths are named.
    """
    if not root.is_dir():
        return "is no folder" if root.exists() else "is absent"
    lacking = [path for path in wanted if not (root / path).exists()]
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return f"has no {', '.join(lacking[:SHOWN])}{more}" if lacking else ""
