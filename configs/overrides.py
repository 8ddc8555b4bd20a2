"""Overrides as typed on the command line, before Hydra converts numbers and booleans.

Hydra's grammar makes an integer of ``20240507_153012``, a float of ``1e3`` and None of ``null``; where a setting is
text, what was typed counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

# A whole element (between commas, brackets or the ends) that is made of characters of numbers and names.
ELEMENT = re.compile(r"(?:(?<=^)|(?<=[\[,(]))(\s*)([\w.+-]+)(?=\s*(?:[\],)]|$))")
IN_GROUP = re.compile(r"(?<=:)(\s*)([\w.+-]+)(?=\s*[,}])")
# A character that Hydra's grammar has no place for outside of quotes, such as an accented letter.
FOREIGN = re.compile(r"[^\s\w./+:%@?|*$\\-]|[^\x00-\x7f]")
FOREIGN_ELEMENT = re.compile(r"(?:(?<=^)|(?<=[\[,(]))(\s*)([^\[\]{}(),'\":$]+?)(?=\s*(?:[\],)]|$))")
STRUCTURE = re.compile(r"[\[\]{}(),'\"]|\$\{")
NUMERIC = re.compile(r"[+-]?[\d.]|(?:nan|inf|true|false)$|[+-]inf", re.IGNORECASE)


def typed(overrides: Iterable[str]) -> dict[str, Any]:
    """The typed value of each key, as a tree of groups with text, or lists of text, at the leaves."""
    tree: dict[str, Any] = {}
    for word in overrides:
        key, equals, value = word.partition("=")
        if equals and not key.startswith("~"):
            *groups, leaf = key.lstrip("+").split(".")
            place = tree
            for group in groups:
                if not isinstance(place.get(group), dict):  # nothing yet, or the choice of a group
                    place[group] = {}
                place = place[group]
            if not isinstance(place.get(leaf), dict):
                place[leaf] = _as_text(value)
    return tree


def _as_text(value: str) -> Any:
    """The value as Hydra reads it with every element of numbers and letters taken for text."""
    try:
        parsed = OverridesParser.create().parse_override(f"key={quote(value, everything=True)}").value()
    except HydraException:
        return value
    return _unquoted(parsed)


def _unquoted(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_unquoted(one) for one in value]
    return {str(key): _unquoted(one) for key, one in value.items()} if isinstance(value, dict) else value


def quote(value: str, everything: bool = False) -> str:
    """A value with its numbers and truths in quotes, so that Hydra passes them on as they were typed.

    Args:
        value: What stands after ``=``, such as ``[1_0,a],2``.
        everything: Quote names and ``null``, too.
    """

    def quoted(match: re.Match[str]) -> str:
        return f"{match[1]}'{match[2]}'" if everything or NUMERIC.match(match[2]) else match[0]

    if not STRUCTURE.search(value):
        # One word: nothing in it can be a list, a group, a sweep or quoted already.
        if FOREIGN.search(value):
            return f"'{value.strip()}'"
    elif FOREIGN.search(value):
        value = FOREIGN_ELEMENT.sub(lambda m: f"{m[1]}'{m[2]}'" if FOREIGN.search(m[2]) else m[0], value)
    if value.lstrip().startswith("{"):
        return IN_GROUP.sub(quoted, ELEMENT.sub(quoted, value))
    return value if re.match(r"\s*(range|interval)\(", value) else ELEMENT.sub(quoted, value)


def quote_override(word: str) -> str:
    """An override with its numbers in quotes, so that they stay as they were typed, in the jobs of sweeps too.

    For settings that are numbers they are read again by `configs.settings.fit`.
    """
    key, equals, value = word.partition("=")
    return f"{key}={quote(value)}" if equals and not word.startswith(("-", "hydra.")) else word
