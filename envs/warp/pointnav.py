"""PointNav with all state on one device: same episodes, poses, rewards and measures as `envs.pointnav.env.PointNav`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from envs.navgrid.grid import geodesic_distance
from envs.pointnav import measures
from envs.pointnav.env import EpisodeQueue, Place, Task
from envs.pointnav.episodes import Episode
from envs.pointnav.vec_env import PointNavVecEnv
from envs.pointnav.visited_map import EMPTY
from envs.rendering.renderer import Camera
from envs.warp import task as kernels
from envs.warp.launching import device_name, launch
from envs.warp.renderer import WarpRenderer
from envs.warp.world import GoalSlots, Grids

Observations = dict[str, Tensor]


class DevicePointNav:
    """N agents on PointNav episodes: `envs.pointnav.env.PointNav` with observations as tensors on a device.

    A step brings to the host what learners ask for there and no more: one row of numbers per agent
    (`envs.warp.task.REPORT`). The episodes' order, drawn from the same seed, and the shortest paths to a goal that is
    new are the host's work. The expert is not here: imitation learns in `PointNav`.

    Attributes:
        active: (N,) bool on the host, False for agents without an episode.
        state: The agents' state by name, tensors of N rows (`envs.warp.task.Agents`).
    """

    def __init__(
        self,
        places: Sequence[Place],
        task: Task,
        camera: Camera,
        count: int,
        seed: int | None,
        device: str = "cuda",
        paths: bool = False,
    ) -> None:
        """Copy scenes and grids to the device; `paths` asks for the path in the record of every episode."""
        self.places, self.task, self.camera, self.count = list(places), task, camera, count
        self.device, self.paths = device_name(device), paths
        self.queue = EpisodeQueue(self.places, seed)
        self.grids = Grids(self.places, self.device)
        self.goals = GoalSlots(self.places, self.grids.most_nodes, count, self.device)
        self._pixels = tuple(s for s in ("rgb", "depth") if s in task.sensors)
        self.renderer = WarpRenderer([p.scene for p in self.places], self.device) if self._pixels else None
        self.state = self._empty()
        self._agents = kernels.Agents()
        for name, tensor in self.state.items():
            setattr(self._agents, name, wp.from_torch(tensor))
        self._report = torch.zeros((count, len(kernels.REPORT)), dtype=torch.float64, device=self.device)
        self._rules = _rules(task)
        self._all = torch.arange(count, device=self.device)
        self.active: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self._place: NDArray[np.int64] = np.full(count, -1, np.int64)
        self._episode: NDArray[np.int64] = np.zeros(count, np.int64)
        self._slot: NDArray[np.int32] = np.full(count, -1, np.int32)
        self._starts = [
            place.grid.snap(np.array([e.start_position for e in place.episodes]).reshape(-1, 3))
            for place in self.places
        ]
        self._reachable = [np.ones(len(place.episodes), np.bool_) for place in self.places]

    def _empty(self) -> dict[str, Tensor]:
        double, count = torch.float64, self.count
        kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "place": ((count,), torch.int64),
            "slot": ((count,), torch.int32),
            "active": ((count,), torch.bool),
            "position": ((count, 3), double),
            "heading": ((count,), double),
            "goal": ((count, 3), double),
            "steps": ((count,), torch.int32),
            "collisions": ((count,), torch.int32),
            "start_distance": ((count,), double),
            "distance": ((count,), double),
            "measured": ((count, 3), double),
            "path_length": ((count,), double),
            "episode_return": ((count,), double),
            "trail": ((count, self.task.max_steps + 1, 2), torch.float32),
        }
        return {name: torch.zeros(shape, dtype=kind, device=self.device) for name, (shape, kind) in kinds.items()}

    @property
    def agents(self) -> DevicePointNav:
        """Where `active` is found, as in `PointNav`."""
        return self

    @property
    def resident_bytes(self) -> dict[str, int]:
        """Device memory of the scenes, their grids, the paths to goals, and the agents' state."""
        return {
            "scenes": self.renderer.resident_bytes if self.renderer is not None else 0,
            "grids": self.grids.nbytes,
            "paths": self.goals.nbytes,
            "agents": sum(t.nbytes for t in self.state.values()),
        }

    # -- episodes -----------------------------------------------------------------------------------------------

    def reset(self, which: NDArray[np.int64]) -> None:
        """Start the next episode for the given agents; an agent for whom none is left becomes inactive."""
        self._slot[which] = -1
        rows = np.zeros((len(which), 7))
        for k, n in enumerate(which):
            key = self.queue.next()
            self.active[n] = key is not None
            if key is None:
                self._place[n] = -1
                continue
            self._place[n], self._episode[n] = key
            episode = self.episode(int(n))
            self._slot[n] = self._goal_slot(*key)
            rows[k] = *self._starts[key[0]][key[1]], episode.start_heading, *episode.goal_position
        host = (which, np.where(self.active[which], self._place[which], -1), self._slot[which], rows)
        arguments = [wp.from_torch(torch.as_tensor(array, device=self.device)) for array in host]
        world = [self.grids.floor, self.grids.patches, self.goals.trees, self._agents]
        launch(kernels.reset_agents, len(which), [*world, *arguments], self.device)

    def episode(self, agent: int) -> Episode:
        """The episode an agent is in."""
        return self.places[self._place[agent]].episodes[self._episode[agent]]

    def _goal_slot(self, place: int, number: int) -> int:
        """Slot with the way to an episode's goal.

        Raises:
            ValueError: The goal cannot be reached from the start.
        """
        made = self.places[place]
        episode = made.episodes[number]
        slot, field = self.goals.take((place, episode.goal_position), self._slot)
        if field is not None:
            same = [k for k, e in enumerate(made.episodes) if e.goal_position == episode.goal_position]
            self._reachable[place][same] = [
                math.isfinite(geodesic_distance(made.grid, field, self._starts[place][k])) for k in same
            ]
        if not self._reachable[place][number]:
            raise ValueError(
                f"episode {episode.episode_id} of scene {made.scene.name}: the goal cannot be reached from the start; "
                "check the episode file against the scene (envs.pointnav.episodes.check_episodes)"
            )
        return slot

    # -- stepping -----------------------------------------------------------------------------------------------

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Let every active agent act once; as `PointNav.step`, records without ``path`` unless `paths`."""
        actions = np.ascontiguousarray(actions, np.int64)
        if actions.shape != (self.count,) or (actions < 0).any() or (actions >= len(self.task.actions)).any():
            raise ValueError(f"actions must be {self.count} integers in [0, {len(self.task.actions)}), got {actions!r}")
        world = [self.grids.floor, self.grids.patches, self.goals.trees, self._agents, self._rules]
        own = [wp.from_torch(torch.as_tensor(actions, device=self.device)), wp.from_torch(self._report)]
        launch(kernels.step_agents, self.count, [*world, *own], self.device)
        report = self._report.cpu().numpy()
        columns = dict(zip(kernels.REPORT, report.T, strict=True))
        dones = columns["done"] > 0
        records: list[dict[str, Any]] = [{} for _ in range(self.count)]
        for n in np.flatnonzero(dones):
            records[n] = self._record(int(n), {name: float(column[n]) for name, column in columns.items()})
        return columns["reward"].astype(np.float32), dones, records

    def _record(self, n: int, row: dict[str, float]) -> dict[str, Any]:
        """What is known of agent n's finished episode, from its report."""
        episode = self.episode(n)
        start, walked, left = row["start_distance"], row["path_length"], row["distance"]
        made = {
            "episode_id": episode.episode_id,
            "scene_id": self.places[self._place[n]].scene.name,
            "success": row["success"],
            "spl": float(measures.spl(row["success"], start, walked)),
            "soft_spl": float(measures.soft_spl(left, start, walked)),
            "distance_to_goal": left,
            "collisions": int(row["collisions"]),
            "nav_reward": row["episode_return"],
            "steps": int(row["steps"]),
            "geodesic_distance": start,
            "euclidean_distance": float(math.dist(episode.start_position, episode.goal_position)),
            "truncated": bool(row["truncated"]),
            "goal": [float(v) for v in episode.goal_position],
        }
        if self.paths:
            made["path"] = self.state["trail"][n, : made["steps"] + 1].cpu().numpy().round(3).tolist()
        return made

    # -- sensing ------------------------------------------------------------------------------------------------

    def observe(self, which: NDArray[np.int64] | None = None) -> Observations:
        """Observations of the given agents (all by default) as tensors; `PointNav` says names, shapes and units."""
        state, task = self.state, self.task
        rows = self._all if which is None else torch.as_tensor(np.asarray(which), device=self.device)
        goal = torch.empty((len(rows), 2), dtype=torch.float32, device=self.device)
        index = wp.from_torch(rows)
        launch(kernels.point_to_goal, len(rows), [self._agents, index, wp.from_torch(goal)], self.device)
        out = {"pointgoal_with_gps_compass": goal}
        if self.renderer is not None:
            place, position, heading = (
                state[name] if which is None else state[name][rows] for name in ("place", "position", "heading")
            )
            frames = self.renderer.render_tensors(place, position, heading, self.camera, self._pixels)
            if "rgb" in frames:
                out["rgb"] = frames["rgb"]
            if "depth" in frames:
                depth = frames["depth"].clamp_(task.min_depth, task.max_depth).unsqueeze_(-1)
                if task.normalize_depth:
                    depth.sub_(task.min_depth).div_(task.max_depth - task.min_depth)
                out["depth"] = depth
        if "map" in task.sensors:
            shape = (len(rows), 3, task.map_size, task.map_size)
            out["map"] = torch.full(shape, EMPTY, dtype=torch.uint8, device=self.device)
            scale = task.map_size / task.map_extent
            inputs = [self._agents, index, wp.float64(scale), wp.from_torch(out["map"])]
            launch(kernels.draw_maps, (len(rows), task.max_steps + 1), inputs, self.device)
        return out


class DevicePointNavVecEnv(PointNavVecEnv):
    """`envs.pointnav.vec_env.PointNavVecEnv` on a device: observations, also the terminal ones, are dicts of tensors
    there.

    Rewards, dones and infos are numpy's and Python's, as SB3 asks for.
    """

    nav: DevicePointNav  # type: ignore[assignment]

    def _make_nav(
        self, places: Sequence[Place], task: Task, camera: Camera, count: int, seed: int | None, device: str
    ) -> Any:
        return DevicePointNav(places, task, camera, count, seed, device)

    def get_images(self) -> Sequence[NDArray[np.uint8]]:
        """What each agent sees, (S, S, 3) uint8 on the host."""
        return [image.cpu().numpy() for image in super().get_images()]  # type: ignore[attr-defined]


def _rules(task: Task) -> kernels.Rules:
    rules = kernels.Rules()
    rules.first_action = task.actions[0]
    rules.stops_itself = task.variant == "side_tuning"
    rules.sliding = task.sliding
    rules.max_steps = task.max_steps
    rules.forward = task.forward
    rules.turn = math.radians(task.turn)
    rules.success_distance = task.success_distance
    rules.success_reward = task.success_reward
    rules.slack_reward = measures.SLACK_REWARD
    return rules
