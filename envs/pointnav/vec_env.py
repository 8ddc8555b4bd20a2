"""`PointNav` behind the two interfaces that learners expect: an SB3 `VecEnv` and a `gymnasium.Env`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.navgrid.grid import compile_ahead as compile_moves
from envs.pointnav.env import LEFT, RIGHT, DepthPredictor, PointNav, PointNavTask
from envs.pointnav.scene_episodes import NavigableScene
from envs.pointnav.simulator import SimulatorVecEnv, simulators
from envs.pointnav.velocity import DIMENSIONS
from envs.pointnav.visited_map import compile_ahead as compile_maps
from envs.rendering.renderer import Camera
from envs.rendering.renderer import compile_ahead as compile_rendering

GOAL = "pointgoal_with_gps_compass"


def observation_space(task: PointNavTask, camera: Camera) -> spaces.Dict:
    """Gymnasium space of one agent's observation (names and ranges: `PointNav`)."""
    limits = np.array([np.inf, np.pi], np.float32)
    low = np.array([0.0, -np.pi], np.float32)
    boxes: dict[str, spaces.Space[Any]] = {GOAL: spaces.Box(low, limits, dtype=np.float32)}
    rows, columns = camera.size, camera.columns
    if "rgb" in task.sensors:
        boxes["rgb"] = spaces.Box(0, 255, (rows, columns, 3), np.uint8)
    if "depth" in task.sensors:
        bounds = (0.0, 1.0) if task.normalize_depth else (task.min_depth, task.max_depth)
        boxes["depth"] = spaces.Box(*bounds, (rows, columns, 1), np.float32)
    if "map" in task.sensors:
        boxes["map"] = spaces.Box(0, 255, (3, task.map_size, task.map_size), np.uint8)
    if "explored" in task.sensors:
        layers = len(task.explored_layers)
        boxes["explored"] = spaces.Box(0, 255, (layers, task.explored_size, task.explored_size), np.uint8)
    return spaces.Dict(boxes)


def action_space(task: PointNavTask) -> spaces.Discrete | spaces.Box:
    """Gymnasium space of one agent's actions.

    ``Discrete(4)`` (0 stop, 1 forward, 2 left, 3 right), or ``Discrete(3)`` (0 forward, 1 left, 2 right) in the
    ``side_tuning`` variant; of continuous actions ``Box(-1, 1, (2,))`` float32, linear and angular velocity.
    """
    if task.continuous:
        return spaces.Box(-1.0, 1.0, (DIMENSIONS,), np.float32)
    return spaces.Discrete(len(task.discrete_actions))


def reflect(observations: dict[str, NDArray[Any]], which: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Swap left and right, in place, in the rows `which` of a batch of observations."""
    for key, value in observations.items() if which.any() else ():
        if key == GOAL:
            value[which, 1] *= -1.0
        else:
            value[which] = np.flip(value[which], -1 if key in ("map", "explored") else -2)
    return observations


def swapped_actions(task: PointNavTask) -> NDArray[np.int64]:
    """(A,) for each of the task's discrete actions the index of the one that does the same in a mirror image."""
    opposite = {LEFT: RIGHT, RIGHT: LEFT}
    actions = task.discrete_actions
    return np.array([actions.index(opposite.get(action, action)) for action in actions])


@simulators.register("embree")
class PointNavVecEnv(SimulatorVecEnv):
    """N agents in `scenes`, stepped as one batch in this process.

    With `mirror` every second agent acts in the mirror image of its scene: left and right are swapped in what it sees,
    in its observations and in its actions. A mirrored apartment is another apartment, so there are twice as many
    to learn from. Records stay in the scene's own coordinates.
    """

    can_mirror = True
    simulation: ClassVar[Callable[..., Any]] = PointNav

    def __init__(
        self,
        scenes: Sequence[NavigableScene],
        task: PointNavTask,
        camera: Camera,
        count: int,
        seed: int | None = 0,
        device: str = "cpu",
        mirror: bool = False,
        predict_depth: DepthPredictor | None = None,
    ) -> None:
        """Make `count` agents. Seed None: every episode once, in order; agents without one left idle (`active`).

        Raises:
            ValueError: Agents with continuous actions were to be mirrored.
        """
        if mirror and task.continuous:
            raise ValueError("agents with env.task.actions=continuous cannot be mirrored; leave mirror out")
        self.mirrored = (np.arange(count) % 2 == 1) & mirror
        self._swapped = swapped_actions(task)
        own = {} if predict_depth is None else {"predict_depth": predict_depth}
        self.nav: PointNav = self.simulation(scenes, task, camera, count, seed, device, **own)
        self.render_mode = "rgb_array"
        super().__init__(count, observation_space(task, camera), action_space(task))
        self._pending: NDArray[Any] = np.zeros(count, np.int64)

    @classmethod
    def compile_ahead(cls, task: PointNavTask) -> None:
        """Compile what moves agents, draws and renders; what makes grids is compiled while scenes are made."""
        compile_moves()
        if "map" in task.sensors:
            compile_maps()
        if task.cameras:
            compile_rendering()

    def reset(self) -> dict[str, NDArray[Any]]:
        """Start a new episode for every agent."""
        self.nav.reset(np.arange(self.num_envs))
        self._reset_seeds()
        self._reset_options()
        return self._observe()

    def expert(self) -> NDArray[Any]:
        """The shortest-path expert's action for every agent, as the agent itself would choose it: (N,) or (N, 2)."""
        return self._reflect_actions(self.nav.expert())

    def _observe(self) -> dict[str, NDArray[Any]]:
        return reflect(self.nav.observe(), self.mirrored)

    def _reflect_actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions in the scene to actions in each agent's own world, or back."""
        return np.where(self.mirrored, self._swapped[actions], actions) if self.mirrored.any() else actions

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._pending = self._reflect_actions(np.asarray(actions))

    def step_wait(
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all agents; see the class for what a finished episode leaves in its info."""
        rewards, dones, records = self.nav.step(self._pending)
        ended = np.flatnonzero(dones)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        last = reflect(self.nav.observe(ended), self.mirrored[ended]) if len(ended) else {}
        for i, n in enumerate(ended):
            infos[n] = {
                "terminal_observation": {key: value[i] for key, value in last.items()},
                "TimeLimit.truncated": records[n]["truncated"],
                "is_success": bool(records[n]["success"]),
                "nav": records[n],
            }
        if len(ended):
            self.nav.reset(ended)
        return self._observe(), rewards, dones, infos

    def close(self) -> None:
        """Nothing to release: there is no GL context and no child process."""

    def get_images(self) -> Sequence[NDArray[np.uint8]]:
        """RGB image of each agent, (S, S, 3) uint8."""
        frames = self._observe()
        if "rgb" not in frames:
            raise ValueError("the agents have no rgb sensor to show; add it to env.task.sensors")
        return list(frames["rgb"])

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once per agent asked for: all agents share this object."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute for all agents at once."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method once and give its answer to every agent asked for."""
        answer = getattr(self, method_name)(*args, **kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """No agent is a wrapped Gymnasium environment."""
        return [False for _ in self._get_indices(indices)]


class PointNavEnv(gymnasium.Env[dict[str, NDArray[Any]], Any]):
    """One agent on PointNav episodes as a Gymnasium environment.

    Spaces: `action_space` and `observation_space`. Reward: `envs.pointnav.measures.nav_reward`. An episode terminates
    on STOP and is truncated after `PointNavTask.max_steps`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(
        self,
        scenes: Sequence[NavigableScene],
        task: PointNavTask | None = None,
        camera: Camera | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make an environment over the episodes of `scenes`, shuffled by the seed given to `reset`."""
        self.scenes, self.task, self.camera = list(scenes), task or PointNavTask(), camera or Camera()
        self.render_mode = render_mode
        self.observation_space: spaces.Dict = observation_space(self.task, self.camera)  # type: ignore[assignment]
        self.action_space = action_space(self.task)
        self._nav: PointNav | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start the next episode; a seed restarts the shuffling."""
        super().reset(seed=seed)
        if self._nav is None or seed is not None:
            order = int(self.np_random.integers(2**31))
            self._nav = PointNav(self.scenes, self.task, self.camera, 1, order)
        self._nav.reset(np.array([0]))
        return self._observation(self._nav), {}

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Act once; after the episode's end ``info["nav"]`` holds its record (`PointNav.step`)."""
        if self._nav is None:
            raise RuntimeError("call reset() before step()")
        rewards, dones, records = self._nav.step(np.array([action]))
        info = {"nav": records[0], "is_success": bool(records[0]["success"])} if dones[0] else {}
        truncated = bool(dones[0] and records[0]["truncated"])
        return (
            self._observation(self._nav),
            float(rewards[0]),
            bool(dones[0]) and not truncated,
            truncated,
            info,
        )

    def render(self) -> NDArray[np.uint8] | None:
        """(S, S, 3) uint8, what the agent sees, when made with ``render_mode="rgb_array"``."""
        if self.render_mode != "rgb_array" or self._nav is None:
            return None
        frames = self._nav.observe()
        if "rgb" not in frames:
            raise ValueError("the agent has no rgb sensor to show; add it to the task's sensors")
        return frames["rgb"][0]

    @staticmethod
    def _observation(nav: PointNav) -> dict[str, NDArray[Any]]:
        return {key: value[0] for key, value in nav.observe().items()}
