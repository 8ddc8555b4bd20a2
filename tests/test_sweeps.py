"""Sweeps (``-m``): every job runs, what failed is listed, text stays as it was typed, an interrupted sweep goes on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from miniatures import cifar100
from omegaconf import DictConfig, OmegaConf

from adapt.train import main as train_command
from configs.compose import cli
from configs.settings import Settings

seen: list[dict[str, Any]] = []


@dataclass(frozen=True)
class ProbeSettings(Settings):
    """Settings of a command that notes what it was called with.

    Attributes:
        run: Text.
        names: Texts.
        seed: A number; 13 fails, 17 is a fault.
        resume: As for a training.
    """

    run: str
    names: tuple[str, ...] = ()
    seed: int = 0
    resume: bool = False


@cli("probe", ProbeSettings)
def probe(cfg: DictConfig) -> None:
    """Note the settings."""
    seen.append(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    if cfg.seed == 13:
        raise ValueError("an unlucky number")
    if cfg.seed == 17:
        raise RuntimeError("a fault")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra writes `multirun/` into the working folder."""
    monkeypatch.chdir(tmp_path)
    seen.clear()


def call(monkeypatch: pytest.MonkeyPatch, command: Any, *words: str) -> int:
    """Exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["command", *words])
    try:
        command()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_text_stays_as_typed_in_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ["20240507_153012", "1e3", "on", "true", "null", "007", "a"]
    assert call(monkeypatch, probe, "-m", f"run={','.join(runs)}", "names=[1_0,b,2]", "seed=1") == 0
    assert [job["run"] for job in seen] == runs
    assert all((job["names"], job["seed"]) == (["1_0", "b", "2"], 1) for job in seen)


def test_numbers_and_interpolations_are_read_in_every_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, probe, "-m", "run=runs/${seed}", "seed=range(1,3)", "names=[a],[b,c]") == 0
    # Shown as they were typed.
    assert "job 1: run=runs/${seed} seed=1 names=[a]" in capsys.readouterr().err.splitlines()
    assert [(job["run"], job["names"]) for job in seen] == [
        (f"runs/{seed}", names) for seed in (1, 2) for names in (["a"], ["b", "c"])
    ]


def test_a_failed_job_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, probe, "-m", "run=a", "seed=1,13,-x,2") == 2
    assert [job["seed"] for job in seen] == [1, 13, 2]
    *_, counted, first, second = capsys.readouterr().err.splitlines()
    assert counted == "error: 2 of the sweep's 4 jobs failed:"
    assert first.split() == ["run=a", "seed='13':", "an", "unlucky", "number"]
    assert "seed must be a whole number" in second


def test_a_fault_in_a_job_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, probe, "-m", "run=a", "seed=17,1") == 1
    assert [job["seed"] for job in seen] == [17, 1]
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1].endswith("a fault")


def test_what_is_wrong_with_all_jobs_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, probe, "-m", "run=a", "sed=1,2") == 2
    assert capsys.readouterr().err == "error: test_sweeps has no key 'sed'; did you mean 'seed'?\n"
    assert not seen


def test_an_interrupted_sweep_starts_what_had_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.yaml").write_text("seed: 0\n")
    assert call(monkeypatch, probe, "-m", "run=a,b", "resume=true") == 0
    assert [(job["run"], job["resume"]) for job in seen] == [("a", True), ("b", False)]


def test_methods_of_which_one_fits_no_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "-m",
        "benchmark=icifar",
        "base=random",
        "base.name=random/fcn4",
        "adapt=features,adashare,bn",
        "device=cpu",
    ]
    words += [f"data={cifar100(tmp_path)}", "run=runs/${adapt.name}", "tasks=[classes_0_9]", "training.length=1 steps"]
    assert call(monkeypatch, train_command, *words) == 2
    assert "adashare skips residual blocks" in capsys.readouterr().err.splitlines()[-1]
    assert [path.parent.name for path in sorted(tmp_path.glob("runs/*/result.json"))] == ["bn", "features"]
    # Again: the finished ones stay as they are, the one that cannot begin fails again.
    assert call(monkeypatch, train_command, *words, "resume=true") == 2
    assert capsys.readouterr().err.splitlines()[-2] == "error: 1 of the sweep's 3 jobs failed:"
