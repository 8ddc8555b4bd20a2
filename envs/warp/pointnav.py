"""PointNav with all state on one device: same episodes, poses, rewards and measures as `envs.pointnav.env.PointNav`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from envs.navgrid.grid import GeodesicField, geodesic_distance
from envs.pointnav import measures
from envs.pointnav.env import LEFT, RIGHT, EpisodeQueue, GoalFields, PointNavTask, expert_actions
from envs.pointnav.episodes import Episode
from envs.pointnav.record import episode_record
from envs.pointnav.scene_episodes import NavigableScene
from envs.pointnav.simulator import simulators
from envs.pointnav.vec_env import PointNavVecEnv
from envs.pointnav.visited_map import EMPTY
from envs.rendering.renderer import Camera
from envs.warp import task as kernels
from envs.warp.launching import device_name, launch
from envs.warp.renderer import WarpRenderer
from envs.warp.world import GoalSlots, Grids, planned_bytes

Observations = dict[str, Tensor]


class DevicePointNav:
    """N agents on PointNav episodes: `envs.pointnav.env.PointNav` with observations as tensors on a device.

    A step brings to the host what learners ask for there and no more: one row of numbers per agent
    (`envs.warp.task.REPORT`). The episodes' order, drawn from the same seed, the shortest paths to a goal that is new,
    and the expert are the host's work.

    Attributes:
        active: (N,) bool on the host, False for agents without an episode.
        state: The agents' state by name, tensors of N rows (`envs.warp.task.Agents`).
    """

    def __init__(
        self,
        scenes: Sequence[NavigableScene],
        task: PointNavTask,
        camera: Camera,
        count: int,
        seed: int | None,
        device: str = "cuda",
        paths: bool = False,
    ) -> None:
        """Copy scenes and grids to the device; `paths` asks for the path in the record of every episode.

        Raises:
            ValueError: A place has a camera of its own, or the task asks for the explored map, noise or no GPS.
        """
        if any(place.camera is not None for place in scenes):
            raise ValueError(
                "apartments of wide appearance have cameras of their own, which env.backend=warp does not have; "
                "choose env.backend=embree or env.appearance=plain"
            )
        if task.noise.any or not task.gps:
            raise ValueError("env.backend=warp knows neither env.task.noise nor gps=false; use env.backend=embree")
        if task.continuous:
            raise ValueError("env.backend=warp has discrete actions only; use env.backend=embree")
        if "explored" in task.sensors:
            raise ValueError("env.backend=warp draws no explored map; use env.backend=embree or other env.task.sensors")
        self.scenes, self.task, self.camera, self.count = list(scenes), task, camera, count
        self.device, self.paths = device_name(device), paths
        self.queue = EpisodeQueue(self.scenes, seed)
        self.grids = Grids(self.scenes, self.device)
        self.goals = GoalSlots(self.scenes, self.grids.most_nodes, count, self.device)
        self._pixels = tuple(s for s in ("rgb", "depth") if s in task.sensors)
        self.renderer = WarpRenderer([p.scene for p in self.scenes], self.device) if self._pixels else None
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
        self._turning: NDArray[np.int32] = np.zeros(count, np.int32)
        self._actions = np.array(task.discrete_actions)
        self._fields = GoalFields(self.scenes)
        self._starts = [
            place.grid.snap(np.array([e.start_position for e in place.episodes]).reshape(-1, 3))
            for place in self.scenes
        ]
        self._reachable = [np.ones(len(place.episodes), np.bool_) for place in self.scenes]

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
        """The agents' states (`active`, `steps`, `distance`), as in `PointNav`."""
        return self

    @property
    def steps(self) -> NDArray[np.int64]:
        """(N,) actions taken in the episode, copied to the host."""
        return self.state["steps"].cpu().numpy().astype(np.int64)

    @property
    def distance(self) -> NDArray[np.float64]:
        """(N,) geodesic distance to the goal in metres, copied to the host."""
        return cast("NDArray[np.float64]", self.state["distance"].cpu().numpy())

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
        self._slot[which], self._turning[which] = -1, 0
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
        return self.scenes[self._place[agent]].episodes[self._episode[agent]]

    def _goal_slot(self, place: int, number: int) -> int:
        """Slot with the way to an episode's goal.

        Raises:
            ValueError: The goal cannot be reached from the start.
        """
        scene = self.scenes[place]
        episode = scene.episodes[number]
        slot, field = self.goals.take((place, episode.goal_position), self._slot)
        if field is not None:
            same = [k for k, e in enumerate(scene.episodes) if e.goal_position == episode.goal_position]
            self._reachable[place][same] = [
                math.isfinite(geodesic_distance(scene.grid, field, self._starts[place][k])) for k in same
            ]
        if not self._reachable[place][number]:
            raise ValueError(
                f"episode {episode.episode_id} of scene {scene.scene.name}: the goal cannot be reached from the start; "
                "check the episode file against the scene (envs.pointnav.episodes.check_episodes)"
            )
        return slot

    # -- stepping -----------------------------------------------------------------------------------------------

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Let every active agent act once; as `PointNav.step`, records without ``path`` unless `paths`."""
        actions = np.ascontiguousarray(actions, np.int64)
        if actions.shape != (self.count,) or (actions < 0).any() or (actions >= len(self._actions)).any():
            raise ValueError(f"actions must be {self.count} integers in [0, {len(self._actions)}), got {actions!r}")
        world = [self.grids.floor, self.grids.patches, self.goals.trees, self._agents, self._rules]
        own = [wp.from_torch(torch.as_tensor(actions, device=self.device)), wp.from_torch(self._report)]
        launch(kernels.step_agents, self.count, [*world, *own], self.device)
        chosen = self._actions[actions]
        self._turning[:] = (chosen == LEFT).astype(np.int32) - (chosen == RIGHT)
        report = self._report.cpu().numpy()
        columns = dict(zip(kernels.REPORT, report.T, strict=True))
        dones = columns["done"] > 0
        records: list[dict[str, Any]] = [{} for _ in range(self.count)]
        for n in np.flatnonzero(dones):
            records[n] = self._record(int(n), {name: float(column[n]) for name, column in columns.items()})
        return columns["reward"].astype(np.float32), dones, records

    def _record(self, n: int, row: dict[str, float]) -> dict[str, Any]:
        """What is known of agent n's finished episode, from its report."""
        episode, steps = self.episode(n), int(row["steps"])
        start, walked, left = row["start_distance"], row["path_length"], row["distance"]
        return episode_record(
            episode.episode_id,
            self.scenes[self._place[n]].name,
            episode.start_position,
            episode.goal_position,
            success=row["success"],
            spl=float(measures.spl(row["success"], start, walked)),
            soft_spl=float(measures.soft_spl(left, start, walked)),
            start_distance=start,
            distance=left,
            collisions=int(row["collisions"]),
            total_reward=row["episode_return"],
            steps=steps,
            truncated=bool(row["truncated"]),
            path=self.state["trail"][n, : steps + 1].cpu().numpy() if self.paths else None,
        )

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

    def picture(self, size: int) -> NDArray[np.uint8]:
        """(N, size, size, 3) uint8 on the host, what the agents see, drawn at another size.

        Raises:
            ValueError: The agents see nothing.
        """
        if self.renderer is None:
            raise ValueError("blind agents have no picture to show")
        place, position, heading = (self.state[name] for name in ("place", "position", "heading"))
        frames = self.renderer.render_tensors(place, position, heading, replace(self.camera, size=size), ("rgb",))
        return cast("NDArray[np.uint8]", frames["rgb"].cpu().numpy())

    def expert(self) -> NDArray[np.int64]:
        """(N,) the shortest-path expert's action index for every agent, computed on the host."""
        active = np.flatnonzero(self.active)
        fields: list[GeodesicField | None] = [None] * self.count
        for n in active:
            fields[n] = self._fields.get(int(self._place[n]), self.episode(int(n)))
        grids = [self.scenes[place].grid for place in self._place]
        position, heading = (self.state[name].cpu().numpy() for name in ("position", "heading"))
        return expert_actions(self.task, grids, fields, position, heading, self._turning, self.active)


@simulators.register("warp")
class DevicePointNavVecEnv(PointNavVecEnv):
    """`envs.pointnav.vec_env.PointNavVecEnv` on a device: observations, also the terminal ones, are dicts of tensors
    there.

    Rewards, dones and infos are numpy's and Python's, as SB3 asks for.
    """

    on_device = True
    can_mirror = False
    simulation = DevicePointNav
    nav: DevicePointNav  # type: ignore[assignment]

    @classmethod
    def with_arrays(cls) -> type[PointNavVecEnv]:
        """Stepped on the host, rendered on the device; agents can be mirrored there."""
        return PointNavVecEnv

    @classmethod
    def compile_ahead(cls, task: PointNavTask) -> None:
        """Nothing: Warp renders here, and compiles by itself."""

    @classmethod
    def planned_bytes(cls, scenes: Sequence[NavigableScene], task: PointNavTask, agents: int) -> dict[str, int]:
        """See `envs.warp.world.planned_bytes`."""
        return planned_bytes(scenes, task, agents)

    def get_images(self) -> Sequence[NDArray[np.uint8]]:
        """RGB image of each agent, (S, S, 3) uint8 on the host."""
        return [image.cpu().numpy() for image in super().get_images()]  # type: ignore[attr-defined]


def _rules(task: PointNavTask) -> kernels.Rules:
    rules = kernels.Rules()
    rules.first_action = task.discrete_actions[0]
    rules.stops_itself = task.variant == "side_tuning"
    rules.sliding = task.sliding
    rules.max_steps = task.max_steps
    rules.forward = task.forward
    rules.turn = math.radians(task.turn)
    rules.success_distance = task.success_distance
    rules.success_reward = task.success_reward
    rules.slack_reward = measures.SLACK_REWARD
    return rules
