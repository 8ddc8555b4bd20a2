"""A package outside the tree adds a part of six kinds: it is installed, trained, and shown in docs/extending.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("target")
    shutil.copytree(PLUGIN, source)  # building writes beside the sources
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(installed: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_all_parts_train_together_by_a_searchpath_of_hydra(installed: Path, tmp_path: Path) -> None:
    words = ["hydra.searchpath=[pkg://sidestep_example.configs]", "experiment=example", f"run={tmp_path / 'run'}"]
    words += ["algo.parallel=false", "algo.updates=6", "algo.warmup_frames=64", "algo.buffer_frames=2048"]
    words += ["algo.learner.batch_size=16", "env.splits.train.scenes=1", "log_every=3", "save_every=6"]
    done = run(installed, "agents.train", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["updates"] == 6
    assert result["frames"] >= 64
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert re.findall(r"^  name: (\w+)$", config, re.MULTILINE) == ["bitfit", "edges", "hall", "linear", "dagger"]


@pytest.mark.slow
def test_a_learner_of_another_distribution_by_a_config_dir(installed: Path, tmp_path: Path) -> None:
    folder = installed / "sidestep_example" / "configs"
    words = ["--config-dir", str(folder), "experiment=example", "algo=a2c", "algo.steps=80", "env.agents=4"]
    done = run(installed, "agents.train", *words, f"run={tmp_path / 'run'}", "env.splits.train.scenes=1")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 80


@pytest.mark.slow
def test_a_benchmark_of_another_distribution(installed: Path, tmp_path: Path) -> None:
    words = ["benchmark=stripes", "data=none", "adapt=bitfit", "adapt.add=true", "base=edges", "cache=none"]
    done = run(installed, "adapt.train", *words, "training.length=40 steps", f"run={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["accuracy"] > 0.6


def test_docs_show_the_package() -> None:
    shown = re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    files = {str(file.relative_to(PLUGIN)): file.read_text() for file in PLUGIN.rglob("*") if file.is_file()}
    files = {name: text for name, text in files.items() if "__" not in name}
    assert dict(shown) == files
