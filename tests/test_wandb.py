"""Weights & Biases beside TensorBoard: the same numbers, one run for all sessions of a run folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from agent_runs import IMITATION, metrics, train

WORDS = [*IMITATION, "blind=true", "wandb=sidestep", "log_every=1"]


def test_without_the_client_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"wandb=\.\.\. needs the client of Weights & Biases: pip install wandb"):
        train(tmp_path / "run", *WORDS, "algo.updates=2")


def test_numbers_are_those_of_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the client of Weights & Biases (pip install wandb)")
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(tmp_path / "run", *WORDS, "algo.updates=2")
    train(run, *WORDS, "algo.updates=4", "resume=true")
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and len({file.stem for file in files}) == 1  # two sessions of one run
    logged = []
    for file in files:
        store = DataStore()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                logged.append((float(items["step"]), float(items["train/loss"])))
    assert logged == [(line["step"], pytest.approx(line["train/loss"], abs=1e-5)) for line in metrics(run)]
