from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SIDESTEP_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: $SIDESTEP_SHARED, or shared/ beside the checkout; absent, the test skips."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data in shared/ beside the checkout, or SIDESTEP_SHARED=<its folder>")
    return SHARED
