"""Closest-match suggestions for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another, None if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return near[0] if near else None


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error about an unknown name, empty if nothing is near."""
    near = closest(name, known)
    return f"; did you mean {near!r}?" if near else ""
