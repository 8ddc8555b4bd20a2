from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from agent_runs import IMITATION, train

from agents.learners.dagger import _frames_due, drop_frames
from agents.learners.frames import ACTION, TRAJECTORY, FrameStore
from agents.policies.observations import STEP
from configs.compose import compose
from configs.writing import scratch_folder


def test_only_the_ranks_frames_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    drop_frames(folder)  # never made
    for name in ("0_of_1", "0_of_2", ".1_of_2"):
        (folder / name).mkdir(parents=True)
    drop_frames(folder, "_of_1")
    assert [p.name for p in folder.iterdir()] == ["0_of_1"]
    (folder / "mine.txt").touch()
    drop_frames(folder)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    drop_frames(folder)
    assert not folder.exists()


def test_frames_come_as_far_ahead_of_learning_as_is_asked_for(tmp_path: Path) -> None:
    words = [*IMITATION, "algo.parallel=true", "algo.updates=40", "blind=true"]
    limited = train(tmp_path / "limited", *words, "algo.frames_per_update=8")
    # 64 frames before the first update, 8 for each, and at most one turn of 8 steps of 4 agents more.
    frames = json.loads((limited / "result.json").read_text())["frames"]
    assert 64 <= frames <= 64 + 8 * 40 + 8 * 4
    config = compose("train", ["run=none", *words, "algo.frames_per_update=8"])
    assert [_frames_due(config, 2, progress) for progress in (0.0, 0.5, 1.0)] == [32, 112, 192]
    assert _frames_due(compose("train", ["run=none", *words]), 1, 1.0) == math.inf


def recorded(folder: Path) -> FrameStore:
    store = FrameStore.create(folder, 2, 300, {"goal": ((2,), "float32")})
    for step in range(300):
        values = np.full(2, step)
        store.push({"goal": np.stack([values, values], 1), ACTION: values % 4, STEP: values})
    return store


def test_the_space_of_frames_is_reserved_before_the_first(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path / "frames", 4, 1000, {"goal": ((2,), "float32"), "rgb": ((3, 32, 32), "uint8")})
    for key, array in store.arrays.items():
        assert (tmp_path / f"frames/{key}.npy").stat().st_blocks * 512 >= array.nbytes
    with (tmp_path / "frames/goal.npy").open("r+b") as file:  # as older versions left them
        size = file.seek(0, 2)
        file.truncate(128)
        file.truncate(size)
    FrameStore.open(tmp_path / "frames", "r+")
    assert (tmp_path / "frames/goal.npy").stat().st_blocks * 512 >= store.arrays["goal"].nbytes
    with pytest.raises(OSError, match=r"GiB of frames do not fit on this disk"):
        FrameStore.create(tmp_path / "more", 1024, 1 << 24, {"rgb": ((3, 32, 32), "uint8")})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("goal.npy", None),
        ("goal.npy", b""),
        ("goal.npy", b"\x93NUMPY\x01\x00"),
        ("goal.npy", b"not an array"),
        ("action.npy", "cut"),
        ("written.npy", b"\x00" * 300),
        ("index.json", b""),
        ("index.json", b"[1]"),
        ("index.json", b'{"format": 1}'),
        ("index.json", b'{"format": 1, "keys": ["action", "step", "absent"]}'),
        ("index.json", b'{"format": 2, "keys": []}'),
    ],
)
def test_damaged_frames_are_one_line_with_the_file(file: str, content: bytes | str | None, tmp_path: Path) -> None:
    recorded(tmp_path)
    path = tmp_path / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{tmp_path}.*collect"):
        FrameStore.open(tmp_path)


def test_frames_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    recorded(tmp_path)
    for wrong in (np.zeros((2, 299), np.int8), np.zeros((2, 300), np.float32), np.zeros(600, np.int8)):
        np.save(tmp_path / "action.npy", wrong)
        with pytest.raises(ValueError, match=r"(action|goal|step)\.npy is damaged"):
            FrameStore.open(tmp_path)


def test_recordings_of_killed_processes_are_removed_and_those_of_living_ones_refuse(tmp_path: Path) -> None:
    killed, other = tmp_path / ".data.99999", tmp_path / ".data.old"
    for folder in (killed, other):
        folder.mkdir()
        (folder / "rgb.npy").touch()
    scratch, lock = scratch_folder(tmp_path / "data", "another process is recording")
    assert not killed.exists()
    assert other.exists()
    with pytest.raises(ValueError, match="another process is recording"):
        scratch_folder(tmp_path / "data", "another process is recording")
    lock.close()
    assert scratch.is_dir()


def test_the_first_trajectories_are_the_first_frames_of_every_lane(tmp_path: Path) -> None:
    """Trajectories 0 and 3 in lane 0, 1 and 2 in lane 1: of the first two, 5 and 8 frames are drawn, evenly."""
    numbers = np.stack([[0] * 5 + [3] * 15, [1] * 8 + [2] * 12])
    store = FrameStore.create(tmp_path / "frames", 2, 20, {TRAJECTORY: ((), "int32")})
    for step in range(20):
        store.push({TRAJECTORY: numbers[:, step], ACTION: np.full(2, step), STEP: np.arange(2)})
    first = store.first(2)
    assert first.frames_written == 13
    drawn = first.sample(np.random.default_rng(0), 8000, 4)
    assert set(np.unique(drawn[TRAJECTORY])) == {0, 1}
    starts = np.bincount(drawn[STEP][:, 0] * 10 + drawn[ACTION][:, 0], minlength=20)  # STEP holds the lane here
    assert (np.abs(starts[[0, 1, 10, 11, 12, 13, 14]] / 8000 - 1 / 7) < 0.02).all()  # two windows and five
    assert first.shard(1, 2).frames_written == 8
    with pytest.raises(ValueError, match="too few frames"):
        first.sample(np.random.default_rng(0), 1, 9)
    with pytest.raises(ValueError, match="does not number its trajectories"):
        recorded(tmp_path / "old").first(1)
