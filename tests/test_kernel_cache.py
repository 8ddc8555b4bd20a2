"""Compiled kernels do not outlive the sources that they were compiled from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from configs.kernel_cache import empty_if_stale


@pytest.fixture
def package(tmp_path: Path) -> Path:
    cache = tmp_path / "package" / "inner" / "__pycache__"
    cache.mkdir(parents=True)
    (tmp_path / "package" / "inner" / "kernels.py").write_text("@njit\n")
    (tmp_path / "package" / "inner" / "more.py").write_text("@fused_kernel\n")
    (tmp_path / "package" / "types.py").write_text("class Tree(NamedTuple): ...\n")
    (tmp_path / "package" / "other.py").write_text("B = 1\n")
    return tmp_path / "package"


def kernel(package: Path) -> Path:
    file = package / "inner" / "__pycache__" / "kernels.run-1.py311.nbi"
    file.write_bytes(b"index")
    return file


def test_kernels_stay_while_their_sources_stay(package):
    empty_if_stale(package)
    file = kernel(package)
    (package / "other.py").write_text("B = 2\n")
    os.utime(package / "types.py", (1.0, 1.0))
    assert not empty_if_stale(package)
    assert file.exists()


@pytest.mark.parametrize(
    "change", ["edit a tuple", "edit a kernel", "edit a fused kernel", "rename a file", "no stamp"]
)
def test_kernels_go_when_any_of_their_sources_changes(package, change):
    empty_if_stale(package)
    file = kernel(package)
    other = package / "types.py"
    if change == "edit a tuple":
        other.write_text("class Trie(NamedTuple): ...\n")
    elif change == "edit a kernel":
        (package / "inner" / "kernels.py").write_text("@njit()\n")
    elif change == "edit a fused kernel":
        (package / "inner" / "more.py").write_text("@fused_kernel()\n")
    elif change == "rename a file":
        other.rename(package / "kinds.py")
    else:
        next((package / "__pycache__").iterdir()).unlink()
    assert empty_if_stale(package)
    assert not file.exists()
    assert not empty_if_stale(package)


def test_importing_the_simulation_has_stamped_its_kernels():
    import envs

    assert not empty_if_stale(Path(envs.__file__).parent)
