"""Point-goal navigation for many agents at once: poses, episodes, rewards and measures in one process.

`PointNav` knows neither Gymnasium nor Stable-Baselines3; `envs.pointnav.vec_env` wraps it for both.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from configs.settings import NotEmpty, NotNegative, OneOf, Positive, Range, Settings
from envs.navgrid.grid import GeodesicField, NavGrid, geodesic_distance, wrap_angle
from envs.pointnav import measures
from envs.pointnav.episodes import Episode
from envs.pointnav.explored_map import LAYERS, ExploredMaps
from envs.pointnav.noise import Noise, NoiseSettings
from envs.pointnav.record import episode_record
from envs.pointnav.scene_episodes import NavigableScene
from envs.pointnav.velocity import Motions, VelocitySettings
from envs.pointnav.visited_map import draw_visited_maps
from envs.rendering.camera_offsets import render_with_offsets
from envs.rendering.renderer import Camera, Renderer, make_renderer

STOP, FORWARD, LEFT, RIGHT = range(4)
SENSORS = ("rgb", "depth", "map", "explored")
VARIANTS = ("habitat", "side_tuning")
ACTIONS = ("discrete", "continuous")
EXPLORED_FROM = ("depth", "predicted")
CACHED_FIELDS = 2048
Layers = Annotated[tuple[Annotated[str, OneOf(*LAYERS)], ...], NotEmpty()]
# Planar depth (n, h, w) float32 in metres, of any size, predicted from RGB images (n, H, W, 3) uint8.
DepthPredictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class PointNavTask(Settings):
    """The rules of PointNav.

    Attributes:
        variant: ``"habitat"``: 4 actions with an explicit STOP, success reward 2.5 (Habitat-Lab's PointNav).
            ``"side_tuning"``: 3 actions (forward, left, right); STOP is issued by the environment when a step starts
            closer to the goal than `success_distance`, success reward 10 (Side-Tuning, section 4.3).
        actions: ``"discrete"``, or ``"continuous"``: velocity control, for policy=stack or a recurrent one with
            reinforcement learning; in the ``side_tuning`` variant no velocity means STOP.
        velocity: Ranges and time step of continuous actions.
        forward: Length of a forward step in metres; with continuous actions of the expert's, if velocities allow it.
        turn: Angle of a turn in degrees; likewise.
        success_distance: A STOP closer to the goal than this geodesic distance in metres is a success.
        max_steps: Actions after which an episode is cut off.
        sliding: Whether an agent that runs into something slides along it.
        sensors: Subset of ``("rgb", "depth", "map", "explored")``; empty for a blind agent.
        map_size: Side of the visited map in cells (the paper: 84).
        map_extent: Side of the visited map in metres (the paper: 22).
        explored_size: Side of the explored map in cells (`envs.pointnav.explored_map`).
        explored_extent: Side of the explored map in metres.
        explored_layers: What it shows: blocked and free floor, goal, visited floor, plan (the way on what was seen).
        explored_from: depth: what the agent's depth sensor measures; predicted: depth predicted from RGB alone by the
            frozen encoder depth_zbuffer and its decoder.
        min_depth: Lower bound to which depths are clipped, metres; pixels without a hit have depth 0. Our policies take
            what is at the bound for such pixels, and so for far away: nothing should come nearer.
        max_depth: Upper bound to which depths are clipped, metres (Habitat: 10).
        normalize_depth: Whether depths are mapped from [min_depth, max_depth] to [0, 1]; else they stay in metres.
        gps: False: the goal is given at the start only, and agents reckon where they are from the motions they intended
            (dead reckoning: goal, visited and explored map); collisions and noise lead them astray.
        noise: Of motions and sensors.
    """

    variant: Annotated[str, OneOf(*VARIANTS)] = "habitat"
    actions: Annotated[str, OneOf(*ACTIONS)] = "discrete"
    velocity: VelocitySettings = field(default_factory=VelocitySettings)
    forward: Annotated[float, Range(0, 10, above=True)] = 0.25
    turn: Annotated[float, Range(0, 360, above=True)] = 10.0
    success_distance: Positive = 0.2
    max_steps: Annotated[int, Range(1, 1_000_000)] = 500
    sliding: bool = True
    sensors: tuple[Annotated[str, OneOf(*SENSORS)], ...] = ("rgb",)
    map_size: Annotated[int, Range(1, 2048)] = 84
    map_extent: Positive = 22.0
    explored_size: Annotated[int, Range(1, 2048)] = 40
    explored_extent: Positive = 14.0
    explored_layers: Layers = LAYERS
    explored_from: Annotated[str, OneOf(*EXPLORED_FROM)] = "depth"
    min_depth: NotNegative = 0.0
    max_depth: Positive = 10.0
    normalize_depth: bool = True
    gps: bool = True
    noise: NoiseSettings = field(default_factory=NoiseSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.min_depth < self.max_depth, "min_depth", f"less than max_depth={self.max_depth}")
        layers = self.explored_layers
        self.require(len(set(layers)) == len(layers), "explored_layers", "layers of which none comes twice")
        if self.continuous:
            self.require(not self.noise.actuation, "noise", "without actuation=... where actions=continuous")
            slow = self.velocity.motions(self.as_actions(np.array([FORWARD, LEFT]))).stop
            self.require(not slow.any(), "velocity", "such that a step forward and a turn are above both thresholds")

    @property
    def continuous(self) -> bool:
        """Whether actions are velocities."""
        return self.actions == "continuous"

    @property
    def predicts_depth(self) -> bool:
        """Whether the explored map is drawn from depth that is predicted from RGB."""
        return "explored" in self.sensors and self.explored_from == "predicted"

    @property
    def cameras(self) -> tuple[str, ...]:
        """Camera images, ``rgb`` and ``depth``, that the sensors are made from."""
        source = {"rgb" if self.predicts_depth else "depth"} if "explored" in self.sensors else set()
        return tuple(name for name in ("rgb", "depth") if name in source.union(self.sensors))

    @property
    def turn_radians(self) -> float:
        """Angle of a turn in radians."""
        return math.radians(self.turn)

    @property
    def discrete_actions(self) -> tuple[int, ...]:
        """Habitat's action for each index of the discrete action space."""
        return (STOP, FORWARD, LEFT, RIGHT) if self.variant == "habitat" else (FORWARD, LEFT, RIGHT)

    @property
    def expert_steps(self) -> tuple[float, float]:
        """Metres of a step forward and radians of a turn of the shortest-path expert."""
        steps = self.forward, self.turn_radians
        return self.velocity.steps(*steps) if self.continuous else steps

    def as_actions(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Habitat's discrete actions (N,) as actions of this task: indices (N,) int64, or velocities (N, 2) float32."""
        if self.continuous:
            forward, turn = self.expert_steps
            return self.velocity.actions(
                forward * (chosen == FORWARD), turn * ((chosen == LEFT).astype(float) - (chosen == RIGHT))
            )
        # In the variant without STOP it comes by itself; any action will do there.
        return np.maximum(chosen - self.discrete_actions[0], 0)

    @property
    def success_reward(self) -> float:
        """Reward for a successful STOP."""
        habitat = self.variant == "habitat"
        return measures.HABITAT_SUCCESS_REWARD if habitat else measures.SIDE_TUNING_SUCCESS_REWARD


def predictor_of(task: PointNavTask, predict: DepthPredictor | None) -> DepthPredictor | None:
    """Depth predictor of a task's explored map: `predict`, or None where measured depth is used.

    Raises:
        ValueError: It needs predicted depth, and there is no predictor.
    """
    if not task.predicts_depth:
        return None
    if predict is None:
        raise ValueError(
            "env.task.explored_from=predicted needs something that predicts depth; agents.setup.make_simulator hands "
            "the encoder depth_zbuffer over, or set env.task.explored_from=depth"
        )
    return predict


class EpisodeQueue:
    """Hands out the episodes of some scenes, either endlessly in shuffled rounds or each exactly once in order."""

    def __init__(self, scenes: Sequence[NavigableScene], seed: int | None) -> None:
        """Shuffle with `seed`, endlessly; or, with seed None, go through all once in order."""
        self._keys = [(p, e) for p, place in enumerate(scenes) for e in range(len(place.episodes))]
        if not self._keys:
            raise ValueError("there are no episodes in these scenes; generate some or check the episode file")
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._round: list[tuple[int, int]] = [] if self._rng else self._keys[::-1]

    def next(self) -> tuple[int, int] | None:
        """(place index, episode index) of the next episode; None when each has been handed out once."""
        if not self._round:
            if self._rng is None:
                return None
            self._round = [self._keys[i] for i in self._rng.permutation(len(self._keys))]
        return self._round.pop()


@dataclass
class _Agents:
    """State of all agents; row n belongs to agent n."""

    place: NDArray[np.int64]
    episode: NDArray[np.int64]
    position: NDArray[np.float64]
    heading: NDArray[np.float64]
    goal: NDArray[np.float64]
    steps: NDArray[np.int64]
    start_distance: NDArray[np.float64]
    distance: NDArray[np.float64]
    measured: NDArray[np.float64]
    path_length: NDArray[np.float64]
    collisions: NDArray[np.int64]
    episode_return: NDArray[np.float64]
    trail: NDArray[np.float32]
    reckoned: NDArray[np.float64]
    reckoned_trail: NDArray[np.float32]
    turning: NDArray[np.int32]
    active: NDArray[np.bool_]
    field: list[GeodesicField | None] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int, max_steps: int, reckons: bool) -> _Agents:
        def ints() -> NDArray[np.int64]:
            return np.zeros(count, np.int64)

        def floats(*shape: int) -> NDArray[np.float64]:
            return np.zeros((count, *shape), np.float64)

        return cls(
            place=ints(),
            episode=ints(),
            position=floats(3),
            heading=floats(),
            goal=floats(3),
            steps=ints(),
            start_distance=floats(),
            distance=floats(),
            measured=floats(3),
            path_length=floats(),
            collisions=ints(),
            episode_return=floats(),
            trail=np.zeros((count, max_steps + 1, 2), np.float32),
            reckoned=floats(3),
            reckoned_trail=np.zeros((count, max_steps + 1 if reckons else 1, 2), np.float32),
            turning=np.zeros(count, np.int32),
            active=np.zeros(count, np.bool_),
            field=[None] * count,
        )


class PointNav:
    """N agents on PointNav episodes, stepped and rendered as one batch.

    Observations are a dict of arrays, as Habitat names them:

    - ``pointgoal_with_gps_compass`` (N, 2) float32: distance to the goal in metres (straight line, on the floor plane)
      and its bearing in radians, in [-pi, pi], positive to the left.
    - ``rgb`` (N, S, S, 3) uint8, ``depth`` (N, S, S, 1) float32 planar depth in [0, 1] as Habitat normalises it (or in
      metres), ``map`` (N, 3, M, M) uint8 (`envs.pointnav.visited_map`), ``explored`` (N, L, E, E) uint8
      (`envs.pointnav.explored_map`, from the agent's own depth): where the task asks for them.
    """

    def __init__(
        self,
        scenes: Sequence[NavigableScene],
        task: PointNavTask,
        camera: Camera,
        count: int,
        seed: int | None,
        device: str = "cpu",
        predict_depth: DepthPredictor | None = None,
    ) -> None:
        """Prepare `count` agents; `seed` None walks each episode once, in order (see `EpisodeQueue`).

        Raises:
            ValueError: The explored map is to be drawn from predicted depth, and `predict_depth` is None.
        """
        self.scenes = list(scenes)
        self.task = task
        self.camera = camera
        self.count = count
        self.queue = EpisodeQueue(self.scenes, seed)
        self.agents = _Agents.empty(count, task.max_steps, not task.gps)
        self.noise = Noise(task.noise, count, seed)
        self._explored: ExploredMaps | None = None
        if "explored" in task.sensors:
            shown = task.explored_size, task.explored_extent
            radius = self.scenes[0].grid.radius
            self._explored = ExploredMaps(
                count, *shown, camera, task.explored_layers, predicted=task.predicts_depth, radius=radius
            )
        self._explored_at = np.full(count, -1, np.int64)
        self._asked = np.zeros(count)  # metres ahead, of the newest step
        self._predict_depth = predictor_of(task, predict_depth)
        self._pixels = task.cameras
        self.renderer: Renderer | None = make_renderer([p.scene for p in self.scenes], device) if self._pixels else None
        self._fields = GoalFields(self.scenes)
        self._actions = np.array(task.discrete_actions)

    # -- episodes -----------------------------------------------------------------------------------------------

    def reset(self, which: NDArray[np.int64]) -> None:
        """Start the next episode for the given agents; an agent for whom none is left becomes inactive."""
        a = self.agents
        for n in which:
            key = self.queue.next()
            a.active[n] = key is not None
            if key is None:
                continue
            a.place[n], a.episode[n] = key
            episode = self.episode(n)
            a.position[n] = self.scenes[key[0]].grid.snap(np.array([episode.start_position]))[0]
            a.heading[n] = episode.start_heading
            a.goal[n] = episode.goal_position
            a.field[n] = self._fields.get(key[0], episode)
            a.measured[n] = a.position[n]
            a.start_distance[n] = a.distance[n] = self._distance(n)
            if not math.isfinite(a.distance[n]):
                raise ValueError(
                    f"episode {episode.episode_id} of scene {self.scenes[key[0]].scene.name}: the goal cannot be "
                    "reached from the start; check the episode file against the scene"
                )
            a.steps[n] = a.collisions[n] = 0
            a.path_length[n] = a.episode_return[n] = 0.0
            a.trail[n, 0] = a.reckoned_trail[n, 0] = a.position[n, [0, 2]]
            a.reckoned[n] = *a.position[n, [0, 2]], a.heading[n]
            a.turning[n] = 0
            self.noise.reset(n, self.scenes[key[0]].name, episode.episode_id)
            if self._explored is not None:
                self._explored.reset(n, self.scenes[key[0]].camera)
                self._explored_at[n] = -1
                self._asked[n] = 0.0

    def episode(self, agent: int) -> Episode:
        """The episode an agent is in."""
        return self.scenes[self.agents.place[agent]].episodes[self.agents.episode[agent]]

    def _distance(self, agent: int) -> float:
        """Geodesic distance in metres from an agent to its goal."""
        a = self.agents
        field = a.field[agent]
        assert field is not None
        return geodesic_distance(self.scenes[a.place[agent]].grid, field, a.position[agent])

    # -- stepping -----------------------------------------------------------------------------------------------

    def step(self, actions: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step every active agent; episodes are not restarted here.

        Args:
            actions: (N,) indices into `PointNavTask.discrete_actions`; or (N, 2) velocities in [-1, 1] of continuous
                actions (`envs.pointnav.velocity`).

        Returns:
            rewards (N,) float32, dones (N,) bool and, per agent, the episode's record once it is over, else {}.
        """
        a, task = self.agents, self.task
        motions = self._motions(np.asarray(actions))
        before = a.distance.copy()
        self._move(motions)
        self._asked[:] = motions.ahead
        success = measures.success(motions.stop, a.distance, task.success_distance)
        rewards = measures.nav_reward(before, a.distance, success, task.success_reward)
        rewards = np.where(a.active, rewards, 0.0)
        a.steps += a.active
        a.episode_return += rewards
        dones = a.active & (motions.stop | (a.steps >= task.max_steps))
        records = [
            self._record(n, bool(success[n]), not bool(motions.stop[n])) if dones[n] else {} for n in range(self.count)
        ]
        return rewards.astype(np.float32), dones, records

    def _motions(self, actions: NDArray[Any]) -> Motions:
        """What the agents' actions ask for under the rules of the task."""
        task = self.task
        if task.continuous:
            if len(actions) != self.count:
                raise ValueError(f"actions must be {self.count} pairs of velocities, got {len(actions)}")
            asked = task.velocity.motions(actions)
        else:
            if actions.shape != (self.count,) or (actions < 0).any() or (actions >= len(self._actions)).any():
                raise ValueError(f"actions must be {self.count} integers in [0, {len(self._actions)}), got {actions!r}")
            chosen = self._actions[actions]
            turns = (chosen == LEFT).astype(np.int32) - (chosen == RIGHT)
            asked = Motions(chosen == STOP, task.forward * (chosen == FORWARD), turns * task.turn_radians)
        stop = self.agents.distance < task.success_distance if task.variant == "side_tuning" else asked.stop
        return Motions(stop, np.where(stop, 0.0, asked.ahead), np.where(stop, 0.0, asked.left))

    def _move(self, motions: Motions) -> None:
        """Move and turn the active agents, and bring distance, path length, trail and collisions up to date."""
        a, task = self.agents, self.task
        a.turning[:] = np.sign(motions.left)
        if task.noise.actuation:
            self._move_with_noise(motions)
        else:
            turned, along = _turned(a.heading, np.where(a.active, motions.left, 0.0))
            for n in np.flatnonzero(a.active & (motions.ahead != 0.0)):
                self._walk(int(n), along[n : n + 1], motions.ahead[n])
            a.heading = turned
        for n in np.flatnonzero(a.active & measures.moved(a.measured, a.position)):
            a.distance[n] = self._distance(int(n))
            a.measured[n] = a.position[n]
        live = np.flatnonzero(a.active)
        a.trail[live, a.steps[live] + 1] = a.position[live][:, [0, 2]]
        if not task.gps:
            x, z, heading = a.reckoned[live].T
            ahead = motions.ahead[live]
            turned, along = _turned(heading, motions.left[live])
            a.reckoned[live] = np.stack([x - np.sin(along) * ahead, z - np.cos(along) * ahead, turned], axis=1)
            a.reckoned_trail[live, a.steps[live] + 1] = a.reckoned[live, :2]

    def _move_with_noise(self, motions: Motions) -> None:
        """Turn and move the active agents by what their motions become (`Noise.moved`)."""
        a = self.agents
        for n in map(int, np.flatnonzero(a.active & ~motions.stop)):
            ahead, right, left = self.noise.moved(n, float(motions.ahead[n]), float(motions.left[n]))
            self._walk(n, a.heading[n : n + 1] - math.atan2(right, ahead), math.hypot(ahead, right))
            a.heading[n] = wrap_angle(a.heading[n] + left)

    def _walk(self, n: int, heading: NDArray[np.float64], metres: float) -> None:
        """Move agent n by so many metres (backwards if negative) along `heading` (1,), as far as obstacles let it."""
        a = self.agents
        grid = self.scenes[a.place[n]].grid
        now, collided = grid.step(a.position[n : n + 1], heading, metres, sliding=self.task.sliding)
        a.path_length[n] += float(np.linalg.norm(now[0] - a.position[n]))
        a.collisions[n] += int(collided[0])
        a.position[n] = now[0]

    def _record(self, n: int, success: bool, truncated: bool) -> dict[str, Any]:
        """What is known of agent n's finished episode: identity, measures, path."""
        a = self.agents
        episode = self.episode(n)
        start, left = float(a.start_distance[n]), float(a.distance[n])
        return episode_record(
            episode.episode_id,
            self.scenes[a.place[n]].name,
            episode.start_position,
            episode.goal_position,
            success=float(success),
            spl=float(measures.spl(success, start, a.path_length[n])),
            soft_spl=float(measures.soft_spl(left, start, a.path_length[n])),
            start_distance=start,
            distance=left,
            collisions=int(a.collisions[n]),
            total_reward=float(a.episode_return[n]),
            steps=int(a.steps[n]),
            truncated=truncated,
            path=a.trail[n, : a.steps[n] + 1],
        )

    # -- sensing ------------------------------------------------------------------------------------------------

    def observe(self, which: NDArray[np.int64] | None = None) -> dict[str, NDArray[Any]]:
        """Observations of the given agents (all by default); see the class for names, shapes and units."""
        a, task = self.agents, self.task
        rows = np.arange(self.count) if which is None else np.asarray(which)
        out: dict[str, NDArray[Any]] = {"pointgoal_with_gps_compass": self._pointgoal(rows)}
        if self.renderer is not None:
            frames = self._look(rows, self.camera, self._pixels)
            if "depth" in frames:
                frames["depth"] = self.noise.depth(rows, frames["depth"])
            if "rgb" in frames:
                frames["rgb"] = self.noise.rgb(rows, frames["rgb"])
            if "rgb" in task.sensors:
                out["rgb"] = frames["rgb"]
            if self._explored is not None:
                out["explored"] = self._explore(self._explored, rows, frames)
            if "depth" in task.sensors:
                limits = task.min_depth, task.max_depth
                out["depth"] = measures.depth_observation(frames["depth"], *limits, task.normalize_depth)
        if "map" in task.sensors:
            out["map"] = np.empty((len(rows), 3, task.map_size, task.map_size), np.uint8)
            goal, (_, headings) = np.ascontiguousarray(a.goal[rows][:, [0, 2]]), self._poses(rows)
            trail = a.trail if task.gps else a.reckoned_trail
            draw_visited_maps(trail[rows], a.steps[rows] + 1, headings, goal, task.map_extent, out["map"])
        return out

    def _poses(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where agents think they are: x and z (n, 2), and headings (n,)."""
        a = self.agents
        if self.task.gps:
            return a.position[rows][:, [0, 2]], a.heading[rows]
        return a.reckoned[rows, :2], a.reckoned[rows, 2]

    def _explore(
        self, maps: ExploredMaps, rows: NDArray[np.int64], frames: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.uint8]:
        """(n, L, E, E) uint8 explored maps, after adding what the agents see now; each state is added once."""
        a = self.agents
        positions, headings = self._poses(rows)
        start = a.trail[rows, 0]
        moved, goals = positions - start, a.goal[rows][:, [0, 2]] - start
        since = a.steps[rows] - self._explored_at[rows]
        new = since != 0
        # Dead reckoning does not know that something stopped the agent, nor can two steps be told apart.
        asked = np.where(since == 1, self._asked[rows], 0.0) if self.task.gps else np.zeros(len(rows))
        self._explored_at[rows] = a.steps[rows]
        if new.any():
            predict = self._predict_depth
            depth = frames["depth"][new] if predict is None else predict(frames["rgb"][new])
            maps.update(rows[new], depth, moved[new], headings[new], self.task.max_depth, asked[new])
        return maps.egocentric(rows, moved, headings, goals)

    def _pointgoal(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 2) float32 polar goal, as Habitat-Lab's PointGoalSensor in 2-D polar form."""
        positions, headings = self._poses(rows)
        dx, dz = (self.agents.goal[rows][:, [0, 2]] - positions).T
        cos, sin = np.cos(headings), np.sin(headings)
        right, ahead = cos * dx - sin * dz, -sin * dx - cos * dz
        return np.stack([np.hypot(dx, dz), np.arctan2(-right, ahead)], axis=1).astype(np.float32)

    def picture(self, size: int) -> NDArray[np.uint8]:
        """RGB images of the agents, (N, size, size, 3) uint8, rendered at another size.

        Raises:
            ValueError: The agents see nothing.
        """
        if self.renderer is None:
            raise ValueError("blind agents have no picture to show")
        return self._look(np.arange(self.count), replace(self.camera, size=size), ("rgb",))["rgb"]

    def _look(self, rows: NDArray[np.int64], camera: Camera, sensors: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """What agents see, with the camera of their place."""
        a = self.agents
        assert self.renderer is not None
        offsets = [place.camera for place in self.scenes]
        where = a.place[rows], a.position[rows], a.heading[rows]
        return render_with_offsets(self.renderer, *where, camera, sensors, offsets)

    def expert(self) -> NDArray[Any]:
        """The shortest-path expert's action for every agent, in the task's own action space: (N,) int64 or (N, 2)."""
        a = self.agents
        grids = [self.scenes[place].grid for place in a.place]
        return expert_actions(self.task, grids, a.field, a.position, a.heading, a.turning, a.active)


class GoalFields:
    """Geodesic fields of episodes' goals; the least recently used make room for new ones."""

    def __init__(self, scenes: Sequence[NavigableScene]) -> None:
        self._places = scenes
        self._fields: OrderedDict[tuple[int, tuple[float, ...]], GeodesicField] = OrderedDict()

    def get(self, place: int, episode: Episode) -> GeodesicField:
        """The field of the goal of an episode in the place of that index."""
        key = (place, tuple(episode.goal_position))
        if key in self._fields:
            self._fields.move_to_end(key)
            return self._fields[key]
        field = self._fields[key] = self._places[place].grid.field(np.asarray(episode.goal_position))
        if len(self._fields) > CACHED_FIELDS:
            self._fields.popitem(last=False)
        return field


def _turned(heading: NDArray[np.float64], left: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Headings (N,) after turns to the left, and those along which agents move in the same step, all in radians.

    Who also turns moves along the heading before, as habitat-sim integrates velocities.
    """
    turned = wrap_angle(heading + left)
    return turned, np.where(left == 0.0, turned, heading)


def expert_actions(
    task: PointNavTask,
    grids: Sequence[NavGrid],
    fields: Sequence[GeodesicField | None],
    position: NDArray[np.float64],
    heading: NDArray[np.float64],
    turning: NDArray[np.int32],
    active: NDArray[np.bool_],
) -> NDArray[Any]:
    """The shortest-path expert's action for each of N agents, of inactive ones any.

    Args:
        task: The rules.
        grids: The grid that each agent is on.
        fields: Of each agent's goal.
        position: (N, 3) metres.
        heading: (N,) radians.
        turning: (N,) 1 for agents that just turned left, -1 for right, 0 for others.
        active: (N,) whether the agent has an episode.

    Returns:
        (N,) int64 indices of discrete actions, or (N, 2) float32 velocities that move the agent alike.
    """
    out = np.zeros(len(active), np.int64)
    forward, turn = task.expert_steps
    for n in map(int, np.flatnonzero(active)):
        field = fields[n]
        assert field is not None
        out[n] = grids[n].expert(
            field,
            position[n : n + 1],
            heading[n : n + 1],
            turn=turn,
            forward=forward,
            success=task.success_distance,
            turning=turning[n : n + 1],
        )[0]
    return task.as_actions(out)
