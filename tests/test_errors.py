"""Errors of commands: what a user can act on is one line with exit code 2, a fault of ours keeps its traceback."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import run_here
from omegaconf import DictConfig
from pictures_broken import LFS, huge_png
from PIL import Image
from rooms import simple_place
from torch.utils.data import DataLoader, Dataset

from adapt import Base, wrap
from adapt.core.base import random_base
from adapt.datasets.images import read_image
from agents.learners.ppo import make_ppo
from agents.policies.extractor import _groups
from agents.setup import make_env, make_policy, make_visual_encoder
from configs.compose import cli, compose
from configs.errors import OURS, explain, is_expected
from configs.settings import Settings


class Pictures(Dataset[Any]):
    """Files that a process of torch's loader reads."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return read_image(self.files[index])


def load(folder: Path, content: bytes) -> None:
    """Read a picture in another process."""
    (folder / "a.png").write_bytes(content)
    list(DataLoader(Pictures(folder / "a.png"), num_workers=1))


class Dies(Pictures):
    """Data that end the process that reads them."""

    def __getitem__(self, index: int) -> Any:
        os._exit(9)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "numpy's memory": (lambda folder: np.empty(1 << 50), r"out of memory \(8\.00 PiB at once\); ask for smaller"),
    "torch's memory": (lambda folder: torch.empty(1 << 50), r"out of memory \(\d+ bytes at once\); ask for smaller"),
    "python's memory": (lambda folder: bytearray(1 << 62), r"out of memory; ask for smaller pictures"),
    "pillow's limit": (lambda folder: Image.open(io.BytesIO(huge_png())).load(), "decompression bomb"),
    "in a loader": (lambda folder: load(folder, LFS), r"cannot decode \S+a\.png: it is a Git LFS pointer[^:]*$"),
    "bomb in a loader": (lambda folder: load(folder, huge_png()), r"cannot decode \S+a\.png: .*decompression bomb"),
    "a loader's end": (
        lambda folder: list(DataLoader(Dies(folder), num_workers=1)),
        "a process that reads data ended without a word",
    ),
}


def test_expected_errors_are_one_line(tmp_path: Path) -> None:
    for name, (fail, said) in FAULTS.items():
        with pytest.raises(Exception) as caught:
            fail(tmp_path)
        assert is_expected(caught.value), name
        text = explain(caught.value)
        assert "\n" not in text and re.search(said, text), (name, text)


@dataclass(frozen=True)
class ProbeSettings(Settings):
    """What goes wrong."""

    wrong: str = "index"


@cli("errors_probe", ProbeSettings)
def probe(cfg: DictConfig) -> None:
    """A fault of ours, or of nobody."""
    if cfg.wrong == "interrupt":
        raise KeyboardInterrupt
    print([][1])  # noqa: T201


def test_a_fault_of_ours_keeps_its_traceback_and_says_what_to_do_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as caught:
        probe()
    assert caught.value.code == 1
    *lines, error, last = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and error == "IndexError: list index out of range"
    assert last == f"error: {OURS}"


def test_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", "wrong=interrupt"])
    with pytest.raises(SystemExit) as caught:
        probe()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "error: interrupted; what was saved is kept\n"


# -- sizes ----------------------------------------------------------------------------------------------------------

WORDS = ["run=none", "base=random", "env.task.max_steps=30", "policy.hidden=[32]", "device=cpu", "algo=ppo"]


@pytest.mark.parametrize(
    ("channels", "pixels", "groups"), [(8, 1, 2), (16, 1, 4), (32, 1, 8), (8, 4, 8), (24, 1, 4), (3, 1, 1), (8, 16, 8)]
)
def test_groups_of_normalised_codes_hold_four_numbers(channels: int, pixels: int, groups: int) -> None:
    assert _groups(channels, pixels) == groups


def test_pictures_of_16_pixels_reach_the_policy() -> None:
    """Formerly each number of a code was a group of its own, and normalised to 0."""
    cfg = compose("train", [*WORDS, "env.camera.size=16", "policy.frames=1", "adapt=features"])
    vision = make_visual_encoder(cfg)
    env, _ = make_env(cfg, [simple_place(2)], vision, 1, 0)
    policy = make_policy(cfg, vision)
    torch.nn.init.normal_(policy.action_net.weight)
    seen = env.reset()
    assert isinstance(seen, dict) and seen["features"].shape[-2:] == (1, 1)
    other = {**seen, "features": np.flip(seen["features"], 1).copy()}
    first, second = (policy.new_actor().logits(each, np.zeros(1, np.int64)) for each in (seen, other))
    assert not np.allclose(first, second, atol=1e-3)


def test_networks_that_cannot_look_at_small_pictures_say_so() -> None:
    with pytest.raises(ValueError, match=r"the base taskonomy cannot look at images of 16x16 pixels \(Expected more"):
        random_base("taskonomy").feature_shape(16)
    valid = Base(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 20)))
    with pytest.raises(ValueError, match=r"the base Sequential cannot look at images of 16x16 pixels \(.*[Kk]ernel"):
        valid.feature_shape(16)
    base = random_base()
    with pytest.raises(ValueError, match=r"features on this base cannot look at images of 16x16 pixels"):
        assert wrap(base, "features", image_size=16, normalise=True).output_shape


def test_ppo_on_one_sample_is_refused() -> None:
    """Formerly an AssertionError of Stable-Baselines3."""
    cfg = compose("train", [*WORDS, "env.agents=1", "algo.rollout=1", "env.camera.size=32"])
    with pytest.raises(ValueError, match=r"env\.agents=1 with algo\.rollout=1 is one sample"):
        make_ppo(cfg, make_visual_encoder(cfg))
    with pytest.raises(ValueError, match=r"algo\.learner\.batch_size"):
        compose("train", [*WORDS, "algo.learner.batch_size=1"])


@pytest.mark.parametrize(
    ("command", "overrides", "says"),
    [
        ("train", ["run={}/x", "adapt=sidetuning"], "did you mean 'side_tuning'"),
        ("train", ["run={}/x", "algo.updatez=3"], "did you mean 'algo.updates'"),
        ("train", [], "give a value for run"),
        ("evaluate", ["run={}/none"], "holds no run"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    command: str,
    overrides: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [command, *(override.format(tmp_path) for override in overrides)])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"agents.{command}").main()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("error: ") and says in line


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["env=scans", "env.scene={}/broken.glb", "base=random"], "broken.glb"),
        (["algo=bc", "algo.data={}/no", "base=random"], "holds no recorded frames"),
    ],
)
def test_bad_data_end_the_command_with_one_line_and_exit_code_2(
    overrides: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.glb").write_bytes(b"not a mesh")
    done = run_here("agents.train", f"run={tmp_path / 'x'}", *(override.format(tmp_path) for override in overrides))
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2 and line.startswith("error: ") and says in line


def test_a_full_disk_is_told_what_to_do() -> None:
    bare = explain(OSError(errno.ENOSPC, "No space left on device"))
    assert bare.endswith("free some space where the command writes: its run or out folder, or the current one")
    assert explain(OSError(errno.ENOSPC, "could not write a; free some space there")).count("free some space") == 1
