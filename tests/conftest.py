from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("SIDESTEP_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: $SIDESTEP_SHARED, or shared/ beside the checkout; absent, the test skips."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data in shared/ beside the checkout, or SIDESTEP_SHARED=<its folder>")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is no GPU, tests of one are skipped."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
