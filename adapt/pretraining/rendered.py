"""Online rendering of training views by worker processes, and a replay buffer of the newest ones."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load
from torch import Tensor

from adapt.pretraining.data import as_batch
from adapt.pretraining.targets import TaskTraining, mirrored, targets_of
from adapt.pretraining.tasks import TaskonomyTask


class RenderedBlocks:
    """Blocks of views from ``python -m envs.stream``, rendered by processes of its own that stay one block ahead.

    Args:
        first: Number of the first block.
        settings: Of the stream, as ``size=64``.
        workers: Processes; they take turns, so the blocks do not depend on how many there are.
    """

    def __init__(self, first: int, settings: Sequence[str], workers: int = 1) -> None:
        command = [sys.executable, "-m", "envs.stream", *settings, f"step={workers}"]
        self._processes = deque(
            subprocess.Popen([*command, f"first={first + index}"], stdout=subprocess.PIPE) for index in range(workers)
        )

    def next(self) -> dict[str, Tensor]:
        """The next block: per domain (views,C,S,S) uint8 or int32, or (views,classes) float32.

        Raises:
            RuntimeError: The renderer stopped; it said why.
        """
        process = self._processes[0]
        self._processes.rotate(-1)
        size = struct.unpack("<Q", _read(process, 8))[0]
        return {name: as_batch(array) for name, array in load(_read(process, size)).items()}

    def __enter__(self) -> RenderedBlocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the renderers."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _read(process: subprocess.Popen[bytes], size: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(size)
    if len(data) < size:
        raise RuntimeError(f"the renderer stopped with exit code {process.wait()}; what it said stands above")
    return data


class Ring:
    """The newest blocks of views: pictures, and targets of every task.

    Args:
        tasks: By name.
        plans: How each is trained.
        weights: Of the classes, for tasks that have any.
        capacity: Blocks kept; the oldest makes room.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskonomyTask],
        plans: Mapping[str, TaskTraining],
        weights: Mapping[str, Tensor],
        capacity: int,
    ) -> None:
        self.tasks, self.plans, self.weights = tasks, plans, weights
        self._blocks: deque[dict[str, tuple[Tensor, ...]]] = deque(maxlen=capacity)

    def add(self, labels: Mapping[str, Tensor]) -> None:
        """Take in a block of stored labels."""
        block: dict[str, tuple[Tensor, ...]] = {"rgb": (labels["rgb"].contiguous(memory_format=torch.channels_last),)}
        for name, task in self.tasks.items():
            block[name] = targets_of(task, labels, self.plans[name], self.weights.get(name))
        self._blocks.append(block)

    def draw(
        self, rng: np.random.Generator, count: int, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """A random batch, half of it mirrored.

        Args:
            rng: Source of the choice.
            count: Views.
            tasks: Whose targets are wanted.

        Returns:
            Pictures (count,3,S,S) uint8; per task target and weight as `targets_of` gives them.
        """
        views = len(self._blocks[0]["rgb"][0])
        block = rng.integers(0, len(self._blocks), count)
        view = rng.integers(0, views, count)
        half = count // 2
        rgb = self._gather("rgb", 0, block, view)
        rgb = torch.cat([rgb[:half], rgb[half:].flip(-1)])
        targets = {}
        for name in tasks:
            target, weight = (self._gather(name, part, block, view) for part in (0, 1))
            targets[name] = (
                torch.cat([target[:half], mirrored(name, target[half:])]),
                torch.cat([weight[:half], mirrored("", weight[half:])]),
            )
        return rgb, targets

    def _gather(self, name: str, part: int, block: NDArray[Any], view: NDArray[Any]) -> Tensor:
        return torch.stack([self._blocks[b][name][part][v] for b, v in zip(block, view, strict=True)])
