"""Device-resident navigation data: walkable grids of all scenes, shortest paths to the goals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from envs.navgrid.grid import GeodesicField
from envs.pointnav.env import CACHED_FIELDS, PointNavTask
from envs.pointnav.scene_episodes import NavigableScene
from envs.warp import floor, ground
from envs.warp.launching import finish_uploads

Goal = tuple[int, tuple[float, ...]]
_FIRST_VERTICES = 512
# Bytes of a face (its row, its share of vertices and of the tree) and of a grid node with its column.
_FACE, _NODE, _COLUMN = 64 + 36 + 100, 16, 4


def planned_bytes(scenes: Sequence[NavigableScene], task: PointNavTask, agents: int) -> dict[str, int]:
    """Estimated device memory of `DevicePointNav` for `scenes` in bytes, by component."""
    grounds = [place.grid.ground for place in scenes]
    textures = {id(t): t.size // t.shape[2] for place in scenes for t in place.scene.textures}
    seeing = {"rgb", "depth"} & set(task.sensors)
    faces = sum(len(place.scene.faces) for place in scenes)
    slots, nodes = _slots(scenes, agents), max(len(g.column) for g in grounds)
    return {
        "scenes": faces * _FACE + 4 * sum(textures.values()) if seeing else 0,
        "grids": sum(len(g.column) * _NODE + len(g.start) * _COLUMN for g in grounds),
        "paths": slots * (2 * nodes + 32 * _FIRST_VERTICES),
        "agents": agents * (8 * (task.max_steps + 1) + 160),
    }


def _slots(scenes: Sequence[NavigableScene], agents: int) -> int:
    """Goals whose paths are kept: all or, if they are many, `CACHED_FIELDS` or one per agent."""
    goals = {(p, e.goal_position) for p, place in enumerate(scenes) for e in place.episodes}
    return min(len(goals), max(CACHED_FIELDS, agents))


class Grids:
    """The walkable grids of `scenes`, one after the other.

    Attributes:
        floor: All nodes.
        patches: One `envs.warp.floor.SceneGrid` per scene.
        nbytes: Device memory.
        most_nodes: Nodes of the largest grid.
    """

    def __init__(self, scenes: Sequence[NavigableScene], device: str) -> None:
        """Copy the grids to the device."""
        grounds = [place.grid.ground for place in scenes]
        nodes = np.array([len(g.column) for g in grounds])
        columns = np.array([len(g.start) for g in grounds])
        first_node, first_column = np.cumsum(nodes) - nodes, np.cumsum(columns) - columns
        if max(nodes.sum(), columns.sum()) >= 2**31:
            raise ValueError(f"{nodes.sum()} grid nodes are too many for one device; use fewer scenes")
        parts = {
            "start": [g.start + node for g, node in zip(grounds, first_node, strict=True)],
            "column": [g.column for g in grounds],
            "height": [g.height for g in grounds],
            "clear": [g.clear for g in grounds],
            "island": [g.island for g in grounds],
        }
        self.floor = floor.DeviceFloor()
        self.nbytes = 0
        for name, arrays in parts.items():
            kind = wp.float32 if name in ("height", "clear") else wp.int32
            array = wp.array(np.concatenate(arrays).astype(wp.dtype_to_numpy(kind)), dtype=kind, device=device)
            self.nbytes += array.capacity
            setattr(self.floor, name, array)
        patches = []
        for g, node, column in zip(grounds, first_node, first_column, strict=True):
            patch = floor.SceneGrid()
            patch.first_node, patch.first_column = int(node), int(column)
            for name in ("nx", "nz", "x0", "z0", "cell", "radius", "climb"):
                setattr(patch, name, getattr(g, name))
            patches.append(patch)
        self.patches = wp.array(patches, dtype=floor.SceneGrid, device=device)
        self.most_nodes = int(nodes.max())
        finish_uploads(device)


class GoalSlots:
    """Shortest paths to the goals in use, computed on the host when a goal first appears, kept on the device.

    Where there are more goals than slots, the least recently used that no agent walks to make room.
    """

    def __init__(self, scenes: Sequence[NavigableScene], most_nodes: int, agents: int, device: str) -> None:
        """Make room for all goals of `scenes` or, if they are many, for `CACHED_FIELDS` or one per agent."""
        self.scenes, self.device = list(scenes), device
        self._slot: OrderedDict[Goal, int] = OrderedDict()
        self.slots = _slots(self.scenes, agents)
        self._vertex = torch.full((self.slots, most_nodes), -1, dtype=torch.int16, device=device)
        self._position = torch.zeros((self.slots, _FIRST_VERTICES, 3), dtype=torch.float64, device=device)
        self._cost = torch.zeros((self.slots, _FIRST_VERTICES), dtype=torch.float64, device=device)
        self._island = torch.full((self.slots,), -1, dtype=torch.int32, device=device)
        self.trees = self._wrapped()

    @property
    def nbytes(self) -> int:
        """Device memory."""
        return sum(t.nbytes for t in (self._vertex, self._position, self._cost))

    def _wrapped(self) -> ground.PathTrees:
        trees = ground.PathTrees()
        trees.vertex = wp.from_torch(self._vertex, dtype=wp.uint16)
        trees.position = wp.from_torch(self._position)
        trees.cost = wp.from_torch(self._cost)
        trees.island = wp.from_torch(self._island)
        return trees

    def take(self, goal: Goal, in_use: Iterable[int]) -> tuple[int, GeodesicField | None]:
        """Slot of a goal that may now be walked to, and its field if that had to be computed.

        Args:
            goal: Place index and goal position.
            in_use: Slots that must keep their goal.
        """
        if goal in self._slot:
            self._slot.move_to_end(goal)
            return self._slot[goal], None
        if len(self._slot) < self.slots:
            slot = len(self._slot)
        else:
            busy = set(in_use)
            oldest = next(key for key, used in self._slot.items() if used not in busy)
            slot = self._slot.pop(oldest)
        grid = self.scenes[goal[0]].grid
        field = grid.field(np.asarray(goal[1]))
        self._store(slot, field)
        self._island[slot] = int(grid.island(field.goal[None])[0])
        self._slot[goal] = slot
        return slot, field

    def _store(self, slot: int, field: GeodesicField) -> None:
        tree = field.tree
        if tree is None:
            raise ValueError("env.geodesic=detour runs on the CPU: set env.backend=embree")
        count = len(tree.cost)
        if count > self._cost.shape[1]:
            self._grow(count)
        self._vertex[slot, : len(tree.vertex)] = self._tensor(tree.vertex.view(np.int16))
        self._position[slot, :count] = self._tensor(tree.position)
        self._cost[slot, :count] = self._tensor(tree.cost)

    def _grow(self, least: int) -> None:
        room = 2 * self._cost.shape[1]
        while room < least:
            room *= 2
        for name in ("_position", "_cost"):
            old: Tensor = getattr(self, name)
            new = torch.zeros((self.slots, room, *old.shape[2:]), dtype=old.dtype, device=self.device)
            new[:, : old.shape[1]] = old
            setattr(self, name, new)
        self.trees = self._wrapped()

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(array, device=self.device)
