"""Refuses a dataset that does not lie on disk as its owners publish it, with the tree that was expected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOWN = 3  # Missing paths that the message names.


class LayoutError(ValueError):
    """A dataset is absent or laid out differently; the message has several lines, the last of them the expected tree.

    Attributes:
        keep_lines: tells `configs.compose.cli` to print the lines as they are.
    """

    keep_lines = True


@dataclass(frozen=True)
class Layout:
    """What a dataset looks like on disk.

    Attributes:
        dataset: its name, for people.
        tree: the expected files and folders, one a line, as `tree` draws them.
        source: where to get it and what to do with the download.
    """

    dataset: str
    tree: str
    source: str

    def error(self, problem: str) -> LayoutError:
        """The error to raise; `problem` says what is wrong with which path."""
        tree = "\n".join(f"  {line}" for line in self.tree.strip("\n").splitlines())
        return LayoutError(f"{self.dataset}: {problem}\nget it: {self.source}\nexpected:\n{tree}")

    def require(self, root: Path, wanted: Iterable[str]) -> None:
        """Check that all `wanted` paths below `root` exist.

        Raises:
            LayoutError: one does not; up to three are named.
        """
        if not root.is_dir():
            raise self.error(f"there is no folder {root}")
        missing = [path for path in wanted if not (root / path).exists()]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise self.error(f"{root} has no {', '.join(missing[:SHOWN])}{more}")
