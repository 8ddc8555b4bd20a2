"""Weights & Biases beside TensorBoard: the same numbers, one run for all sessions of a run folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agent_runs import IMITATION, train

WORDS = [*IMITATION, "blind=true", "wandb=sidestep", "log_every=1"]


def test_without_the_client_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"wandb=\.\.\. needs the client of Weights & Biases: pip install wandb"):
        train(tmp_path / "run", *WORDS, "algo.updates=2")


def test_both_sessions_of_a_folder_are_one_run_with_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs the client of Weights & Biases (pip install wandb)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(tmp_path / "run", *WORDS, "algo.updates=2")
    train(run, *WORDS, "algo.updates=4", "resume=true")
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and len({file.stem for file in files}) == 1  # two sessions of one run
    for file in files:
        assert b"train/loss" in file.read_bytes()
