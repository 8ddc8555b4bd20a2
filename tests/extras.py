"""Packages that only some parts need: without them the tests of these parts are skipped, and the extra is named."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

REASONS = {"transformers": "needs transformers (extra nlp)", "warp": "needs warp-lang (extra cuda)"}
needs_nlp = pytest.mark.skipif(find_spec("transformers") is None, reason=REASONS["transformers"])


def require(package: str) -> Any:
    """The module, or the test is skipped."""
    return pytest.importorskip(package, reason=REASONS[package])
