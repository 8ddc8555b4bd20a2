"""What the suite runs on, which tests it leaves out and why, and the folder of real data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("SIDESTEP_SHARED") or Path(__file__).resolve().parents[2] / "shared")
# Apartments that tests build are kept for the next run, but not among the user's.
os.environ.setdefault("SIDESTEP_CACHE", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "sidestep"))
RUNS_ON = ("torch", "numpy", "gymnasium", "stable-baselines3")
SELECTED_BY_MARK = ("slow", "gpu", "habitat", "shared", "fuzz", "kill")
# Files that take longest, first, so that workers of pytest-xdist end together. Of the first two, one compiles what
# moves agents, the other what renders: workers that begin with them do not compile the same.
LONGEST = [
    f"test_{name}.py"
    for name in (
        "faults_meshes gltf agents_train detour distributed taskonomy papers benchmarks_icifar sb3_learners "
        "agents_methods adapt_methods methods_table velocity docs_commands settings recurrent_ppo explored_map "
        "run_folder compress distill wheel device_env errors plugin dagger_frames"
    ).split()
]
left_out = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and weights: $SIDESTEP_SHARED, or shared/ beside the checkout; absent, the test skips."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data in shared/ beside the checkout, or SIDESTEP_SHARED=<its folder>")
    return SHARED


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order below: pytest-xdist would hand out the files with the most tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The first line of all: what the tests run on."""
    config = session.config
    config.stash[left_out] = {}
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        reporter.write_line("tests on " + ", ".join(f"{name} {version(name)}" for name in RUNS_ON))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of real data, fuzz and kills run only where -m names them; without a GPU, tests of one are skipped."""
    import torch  # takes seconds, and the process that only starts the workers of pytest-xdist needs none of it

    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device (marker gpu)"))
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    left = [item for item in items if any(map(item.get_closest_marker, only_where_named(config)))]
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


def only_where_named(config: pytest.Config) -> list[str]:
    """Marks of tests that take real data or an hour, and that -m does not name."""
    return [name for name in ("shared", "fuzz", "kill") if name not in config.option.markexpr]


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what -m leaves out by its marks."""
    for item in items:
        counts = item.config.stash[left_out]
        for name in SELECTED_BY_MARK:
            counts[name] = counts.get(name, 0) + (item.get_closest_marker(name) is not None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass a worker's counts on to the process that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[left_out]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All workers of pytest-xdist collect the same tests: any one's counts are those of the run."""
    node.config.stash[left_out] = getattr(node, "workeroutput", {}).get("left_out", {})


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How many tests were skipped for each reason, and how many were not chosen."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(f"skipped: {counted(map(reason, skipped))}")
    marks = config.stash[left_out]
    terminalreporter.write_line(f"not chosen: {counted(Counter(marks).elements())}")


def reason(report: Any) -> str:
    """Why a test, or a file as a whole, was skipped."""
    text = str(report.longrepr[2]).removeprefix("Skipped: ")
    return f"(whole file) {text}" if isinstance(report, pytest.CollectReport) else text


def counted(reasons: Iterable[str]) -> str:
    """`3 a, 1 b`, the most frequent first."""
    return ", ".join(f"{count} {text}" for text, count in Counter(reasons).most_common()) or "none"
