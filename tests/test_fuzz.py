"""Mutated inputs of every kind are read or refused in one line; see `tests.tools.fuzz`."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tools import fuzz
from tests.tools.fuzz_targets import TARGETS, Target
from tests.tools.mutations import changed_bytes, changed_text, changed_value, hostile_pickles

INPUTS = int(os.environ.get("FUZZ_INPUTS", 10_000))
# Kinds of input that take milliseconds: a few of each are read in the default suite.
QUICK = ("gltf", "navmesh", "episodes", "saved tasks", "base", "decoders", "image", "packed data", "lists")


@pytest.mark.fuzz
def test_mutated_inputs_are_read_or_refused_in_one_line():
    """0 tracebacks, hangs, crashes and pickles run."""
    found = fuzz.fuzz(INPUTS, seed=int(os.environ.get("FUZZ_SEED", 0)))
    sys.stdout.write(f"\n{fuzz.table(found)}\n")
    faults = [outcome for outcome in found if outcome.kind not in (fuzz.READ, fuzz.REFUSED)]
    assert not faults, faults[:10]
    assert len(found) == INPUTS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_a_few_inputs_of_each_quick_kind(tmp_path, name):
    place = next(k for k, target in enumerate(TARGETS) if target.name == name)
    assert fuzz.read_input(place, 1, tmp_path, whole=True).kind == fuzz.READ
    found = [fuzz.read_input(place + k * len(TARGETS), 1, tmp_path) for k in range(8)]
    assert not [outcome for outcome in found if outcome.kind not in (fuzz.READ, fuzz.REFUSED)]
    assert any(outcome.kind == fuzz.REFUSED for outcome in found)


def faulty(kind: str, folder: Path) -> None:
    """What a reader with a fault of each kind does."""
    if kind == "traceback":
        raise TypeError("unsupported operand")
    if kind == "bare error":
        raise ValueError
    if kind == "unnamed":
        raise ValueError("it is damaged")
    if kind == "long line":
        raise ValueError(f"{folder}: " + "x" * 5000)
    if kind == "memory":
        raise MemoryError
    if kind == "pickle run":
        pickle.loads(hostile_pickles(str(folder / "canary"))[0])
    if kind == fuzz.REFUSED:
        raise ValueError(f"{folder / 'a.glb'} is damaged")


@pytest.mark.parametrize(
    "kind", ["traceback", "bare error", "unnamed", "long line", "memory", "pickle run", fuzz.REFUSED, fuzz.READ]
)
def test_the_harness_tells_every_kind_of_fault(tmp_path, kind, monkeypatch):
    made = Target("test", lambda folder, rng: None, lambda folder: faulty(kind, folder))
    monkeypatch.setattr("tests.tools.fuzz_targets.TARGETS", (made,))
    assert fuzz.read_input(0, 0, tmp_path).kind == kind


def test_hostile_pickles_are_hostile(tmp_path):
    """Without `weights_only` each of them would leave its trace."""
    trace = tmp_path / "canary"
    for data in hostile_pickles(str(trace)):
        for read in (
            lambda d: pickle.loads(d),
            lambda d: torch.load(io.BytesIO(d), weights_only=False),
            lambda d: np.load(io.BytesIO(d), allow_pickle=True)["x" if d[:2] == b"PK" else ...],
        ):
            try:
                read(data)
            except Exception:  # another reader's file, or the folder is there
                continue
        assert trace.is_dir()
        trace.rmdir()


def test_a_number_makes_the_same_input_again():
    data, text, value = bytes(range(256)) * 4, "a 1\nb 2\nc 3", {"a": [1, 2.0, {"b": "text"}], "c": None}
    for change, whole in ((changed_bytes, data), (changed_text, text), (changed_value, value)):
        made = [repr([change(np.random.default_rng([seed, k]), whole) for k in range(50)]) for seed in (0, 0, 1)]
        assert made[0] == made[1] != made[2]
