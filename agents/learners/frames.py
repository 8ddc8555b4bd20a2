"""Frames on disk, memory-mapped: the replay of the imitation learners and the format of recorded trajectories.

A folder holds one ``<key>.npy`` per kind of frame data and ``index.json``. Every array is (lanes, length, ...): a lane
is one agent's frames in order of time. Frames are stored once; stacks are put together when read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from agents.policies.observations import STEP

FORMAT = 1
ACTION = "action"
_OWN = {ACTION: ((), "int8"), STEP: ((), "int32")}
# Frames nearest to the write head are left alone: their lane may be overwritten while a batch is read.
MARGIN = 32


@dataclass
class FrameStore:
    """Ring of the last `length` frames of each lane.

    Attributes:
        folder: Where the files are.
        arrays: (lanes, length, ...) memory-mapped arrays: the frame data, ``action`` (int8, the expert's) and ``step``
            (int32, the frame's place in its episode).
        written: (1,) int64 memory-mapped count of frames written to every lane since the start.
    """

    folder: Path
    arrays: dict[str, NDArray[Any]]
    written: NDArray[np.int64]

    @classmethod
    def create(
        cls, folder: Path, lanes: int, length: int, frames: dict[str, tuple[tuple[int, ...], str]]
    ) -> FrameStore:
        """Make the files for frames of the given {key: (shape, dtype)}; sparse, so they cost disk as they fill.

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
        for key, (shape, kind) in layout.items():
            open_memmap(folder / f"{key}.npy", "w+", np.dtype(kind), (lanes, length, *shape))
        open_memmap(folder / "written.npy", "w+", np.dtype("int64"), (1,))
        (folder / "index.json").write_text(json.dumps({"format": FORMAT, "keys": sorted(layout)}))
        return cls.open(folder, "r+")

    @classmethod
    def open(cls, folder: Path, mode: str = "r") -> FrameStore:
        """Open an existing folder.

        Raises:
            FileNotFoundError: There is no such store.
            ValueError: It is of another format.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{folder} holds no recorded frames; make some with python -m agents.collect out={folder}"
            ) from None
        if index.get("format") != FORMAT:
            raise ValueError(
                f"{folder}: frames of format {index.get('format')}, this version reads {FORMAT}; collect them again"
            )
        arrays: dict[str, NDArray[Any]] = {key: open_memmap(folder / f"{key}.npy", mode) for key in index["keys"]}
        return cls(folder, arrays, open_memmap(folder / "written.npy", mode))

    def part(self, index: int, parts: int) -> FrameStore:
        """Every `parts`-th lane from `index` on, for reading.

        Raises:
            ValueError: There are fewer lanes than parts.
        """
        if self.lanes < parts:
            raise ValueError(f"{self.folder} holds {self.lanes} agents' frames, too few for {parts} ranks; use fewer")
        return FrameStore(self.folder, {key: array[index::parts] for key, array in self.arrays.items()}, self.written)

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
        return int(self.written[0]) * self.lanes

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
        oldest, starts = self._span(window)
        if starts < 1:
            raise ValueError(f"{self.folder} holds too few frames for windows of {window}")
        lanes = rng.integers(self.lanes, size=count)
        first = oldest + rng.integers(starts, size=count)
        slots = (first[:, None] + np.arange(window)) % self.length
        return {key: array[lanes[:, None], slots] for key, array in self.arrays.items()}
