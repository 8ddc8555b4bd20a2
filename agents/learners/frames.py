"""Frames on disk, memory-mapped: the replay of the imitation learners and the format of recorded trajectories.

A folder holds one ``<key>.npy`` per kind of frame data and ``index.json``. Every array is (lanes, length, ...): a lane
is one agent's frames in order of time. Frames are stored once; stacks are put together when read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from adapt.training.files import reserve, reserved_array, to_json
from agents.policies.observations import STEP
from configs.files import read_json
from configs.writing import write_atomically
from envs.pointnav.env import RIGHT

FORMAT = 1
ACTION = "action"
TRAJECTORY = "trajectory"
_OWN = {ACTION: ((), "int8"), STEP: ((), "int32")}
# Frames nearest to the write head are left alone: their lane may be overwritten while a batch is read.
MARGIN = 32


def _mapped(file: Path, mode: str) -> NDArray[Any]:
    """An existing array mapped into memory, its space on the disk reserved if it is for writing.

    Raises:
        OSError: The disk is too small.
        ValueError: The file is absent or damaged.
    """
    try:
        array: NDArray[Any] = open_memmap(file, mode)
    except Exception as error:  # whatever a damaged header makes numpy raise
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())}); collect the frames again") from error
    if mode == "r+":
        reserve(file)
    return array


@dataclass
class FrameStore:
    """Ring of the last `length` frames of each lane.

    Attributes:
        folder: Where the files are.
        arrays: (lanes, length, ...) memory-mapped arrays: the frame data, ``action`` (int8, the expert's) and ``step``
            (int32, the frame's place in its episode).
        written: (1,) int64 memory-mapped count of frames written to every lane since the start.
        ends: (lanes,) int64: only so many frames of each lane, from its first one on, are drawn; None: all.
    """

    folder: Path
    arrays: dict[str, NDArray[Any]]
    written: NDArray[np.int64]
    ends: NDArray[np.int64] | None = None

    @classmethod
    def create(
        cls, folder: Path, lanes: int, length: int, frames: dict[str, tuple[tuple[int, ...], str]]
    ) -> FrameStore:
        """Make the files for frames of the given {key: (shape, dtype)}, with their space on the disk reserved.

        Raises:
            OSError: The disk is too small for all frames, said before anything is written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        layout = {**frames, **_OWN}
        need = sum(lanes * length * int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        disk = os.statvfs(folder)
        if need > disk.f_bavail * disk.f_frsize:
            raise OSError(
                f"{folder}: {need / 2**30:.1f} GiB of frames do not fit on this disk "
                f"({disk.f_bavail * disk.f_frsize / 2**30:.1f} GiB free); ask for fewer frames or free some space"
            )
        try:
            for key, (shape, kind) in layout.items():
                reserved_array(folder / f"{key}.npy", kind, (lanes, length, *shape))
            reserved_array(folder / "written.npy", "int64", (1,))
        except OSError as error:
            raise OSError(
                f"{folder}: no room for {need / 2**30:.1f} GiB of frames ({error.strerror}); ask for fewer frames or "
                "free some space"
            ) from error
        write_atomically(folder / "index.json", to_json({"format": FORMAT, "keys": sorted(layout)}).encode())
        return cls.open(folder, "r+")

    @classmethod
    def open(cls, folder: Path, mode: str = "r") -> FrameStore:
        """Open an existing folder.

        Raises:
            FileNotFoundError: There is no such store.
            ValueError: It is of another format, or damaged.
        """
        try:
            index = read_json(folder / "index.json")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{folder} holds no recorded frames; make some with python -m agents.collect out={folder}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{error}; collect the frames again") from error
        version = index.get("format")
        if version != FORMAT:
            raise ValueError(f"{folder}: frames of format {version}, this version reads {FORMAT}; collect them again")
        keys = index.get("keys")
        if not isinstance(keys, list) or not {ACTION, STEP} <= set(map(str, keys)):
            raise ValueError(f"{folder / 'index.json'} is damaged (keys: {keys}); collect the frames again")
        arrays = {str(key): _mapped(folder / f"{key}.npy", mode) for key in keys}
        store = cls(folder, arrays, _mapped(folder / "written.npy", mode))
        store._check()
        return store

    def _check(self) -> None:
        """Refuse arrays that do not fit together."""
        lead = self.arrays[ACTION].shape[:2]
        for key, array in self.arrays.items():
            kind = _OWN[key][1] if key in _OWN else array.dtype
            floats = array.dtype.kind == "f" and array.dtype.itemsize <= 4  # what networks compute with
            numbers = floats or array.dtype.kind in "iub"
            if array.shape[:2] != lead or len(lead) < 2 or array.dtype != kind or not numbers:
                raise ValueError(
                    f"{self.folder / key}.npy is damaged ({array.dtype} {array.shape}, for {lead} frames); collect the "
                    "frames again"
                )
        actions = self.arrays[ACTION]
        if actions.size and not (0 <= actions.min() and actions.max() <= RIGHT):
            raise ValueError(
                f"{self.folder / ACTION}.npy is damaged (actions {actions.min()} to {actions.max()}, of 0 to {RIGHT}); "
                "collect the frames again"
            )
        if self.written.shape != (1,) or self.written.dtype != np.int64 or self.written[0] < 0:
            raise ValueError(f"{self.folder / 'written.npy'} is damaged; collect the frames again")

    def shard(self, index: int, shards: int) -> FrameStore:
        """Every `shards`-th lane from `index` on, for reading.

        Raises:
            ValueError: There are fewer lanes than shards.
        """
        if self.lanes < shards:
            raise ValueError(f"{self.folder} holds {self.lanes} agents' frames, too few for {shards} ranks; use fewer")
        arrays = {key: array[index::shards] for key, array in self.arrays.items()}
        return FrameStore(self.folder, arrays, self.written, None if self.ends is None else self.ends[index::shards])

    def first(self, trajectories: int) -> FrameStore:
        """The first so many recorded trajectories, by the order in which they began, for reading.

        Raises:
            ValueError: The store does not number its trajectories.
        """
        if TRAJECTORY not in self.arrays:
            raise ValueError(f"{self.folder} does not number its trajectories; collect them again with trajectories=N")
        # An agent's later trajectories have higher numbers, so those wanted are the first frames of its lane.
        ends = (self.arrays[TRAJECTORY] < trajectories).sum(1)
        return FrameStore(self.folder, self.arrays, self.written, ends)

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return int(self.arrays[ACTION].shape[0])

    @property
    def length(self) -> int:
        """Frames that a lane can hold."""
        return int(self.arrays[ACTION].shape[1])

    @property
    def frames_written(self) -> int:
        """Frames written since the start, all lanes together."""
        return int(self.written[0]) * self.lanes if self.ends is None else int(self.ends.sum())

    def push(self, frames: dict[str, NDArray[Any]]) -> None:
        """Append one frame to every lane: {key: (lanes, ...)} with ``action`` and ``step``."""
        slot = int(self.written[0]) % self.length
        for key, array in self.arrays.items():
            array[:, slot] = frames[key]
        self.written[0] += 1

    def windows_available(self, window: int) -> bool:
        """Whether windows of that many frames can be drawn."""
        return self._span(window)[1] > 0

    def _span(self, window: int) -> tuple[int, int]:
        """Oldest usable frame number and how many window starts there are from it."""
        written = int(self.written[0])
        oldest = max(0, written - self.length + (MARGIN if written > self.length else 0))
        return oldest, written - oldest - window + 1

    def sample(self, rng: np.random.Generator, count: int, window: int) -> dict[str, NDArray[Any]]:
        """`count` random windows of `window` consecutive frames of one lane: {key: (count, window, ...)}."""
        lanes, first = self._drawn(rng, count, window)
        slots = (first[:, None] + np.arange(window)) % self.length
        return {key: array[lanes[:, None], slots] for key, array in self.arrays.items()}

    def _drawn(self, rng: np.random.Generator, count: int, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lanes and first frames of `count` windows, every window as likely as any other."""
        if self.ends is None:
            oldest, starts = self._span(window)
            if starts >= 1:
                lanes = rng.integers(self.lanes, size=count)
                return lanes, oldest + rng.integers(starts, size=count)
        else:
            until = np.cumsum(np.maximum(self.ends - window + 1, 0))
            if until[-1]:
                drawn = rng.integers(until[-1], size=count)
                lanes = np.searchsorted(until, drawn, side="right")
                return lanes, drawn - np.concatenate([[0], until[:-1]])[lanes]
        raise ValueError(f"{self.folder} holds too few frames for windows of {window}")
