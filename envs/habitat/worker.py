"""Worker process of `envs.habitat.vec_env.HabitatVecEnv`: one agent in one Habitat-Lab environment."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.habitat.config import VELOCITY, HabitatSplit, habitat_config, import_habitat
from envs.pointnav import measures
from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP, DepthPredictor, PointNavTask, predictor_of
from envs.pointnav.episodes import scene_name
from envs.pointnav.explored_map import ExploredMaps
from envs.pointnav.record import episode_record
from envs.pointnav.vec_env import GOAL, action_space, observation_space
from envs.pointnav.visited_map import draw_visited_maps
from envs.rendering.renderer import Camera

NAMES = {STOP: "stop", FORWARD: "move_forward", LEFT: "turn_left", RIGHT: "turn_right"}
# The follower walks on to this share of the success distance before it stops.
STOP_SHARE = 0.5
MAP_CELL = 0.05


class Identity(NamedTuple):
    """Identity of an agent's episode."""

    scene_id: str
    episode_id: str


class State(NamedTuple):
    """An agent's state after a step, as sent to the parent process.

    Attributes:
        steps: Actions of the episode so far.
        distance: Geodesic distance to the goal, metres.
        active: False after the last episode of its share; steps then change nothing.
        episode: Which it is.
    """

    steps: int
    distance: float
    active: bool
    episode: Identity


@dataclass(frozen=True)
class Share:
    """The episodes of one worker.

    Attributes:
        scenes: Names of the dataset's scenes to load where `episodes` is None.
        most: At most this many episodes of each of these scenes; None: all.
        episodes: Pickled list of Habitat-Lab episodes.
        seed: They are shuffled for ever with this seed; None: each is played once in order.
    """

    scenes: tuple[str, ...] = ()
    most: int | None = None
    episodes: bytes | None = None
    seed: int | None = None


def load_episodes(settings: HabitatSplit, config: Any, scenes: tuple[str, ...], most: int | None) -> Any:
    """Habitat-Lab's dataset object with the episodes of some scenes.

    Raises:
        FileNotFoundError: The dataset's files are not there.
        ValueError: They hold no episodes of these scenes, or cannot be read.
    """
    import habitat
    from habitat.config.read_write import read_write

    source = config.habitat.dataset
    with read_write(source):
        source.content_scenes = list(scenes)
    file = source.data_path.format(split=source.split)
    try:
        dataset = habitat.make_dataset(source.type, config=source)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"the dataset's file {file} is not there ({error.strerror}); docs/habitat.md says where to put it, or set "
            "env.episodes"
        ) from error
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no PointNav-v1 file: {type(error).__name__} {error}") from error
    for episode in dataset.episodes:
        if settings.dataset is not None and episode.scene_dataset_config == "default":
            episode.scene_dataset_config = settings.dataset
    if most is not None:
        kept: dict[str, int] = {}
        chosen = []
        for episode in dataset.episodes:
            kept[episode.scene_id] = kept.get(episode.scene_id, 0) + 1
            if kept[episode.scene_id] <= most:
                chosen.append(episode)
        dataset.episodes = chosen
    if not dataset.episodes:
        raise ValueError(f"{file} has no episodes in {', '.join(scenes)}")
    return dataset


class HabitatAgent(gymnasium.Env[dict[str, NDArray[Any]], Any]):
    """`habitat.Env` with this project's observations, actions, rewards and records.

    After the last episode of its `Share` it is inactive: zeros to see, and steps that change nothing.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's own convention)
    render_mode = "rgb_array"

    def __init__(
        self,
        settings: HabitatSplit,
        task: PointNavTask,
        camera: Camera,
        share: Share,
        predict_depth: DepthPredictor | None = None,
    ) -> None:
        """Note what to do; `start` does it."""
        self.settings, self.task, self.share = settings, task, share
        self.observation_space: spaces.Dict = observation_space(task, camera)  # type: ignore[assignment]
        self.action_space = action_space(task)
        self._env: Any = None
        self._follower: Any = None
        self._steps, self._distance, self._active = 0, math.inf, False
        self._ahead = 0.0  # metres that the newest action asked for
        self._identity = Identity("", "")
        self._explored: ExploredMaps | None = None
        if "explored" in task.sensors:
            size, extent, layers = task.explored_size, task.explored_extent, task.explored_layers
            own = {} if (radius := dict(settings.body)["radius"]) is None else {"radius": float(radius)}
            self._explored = ExploredMaps(1, size, extent, camera, layers, predicted=task.predicts_depth, **own)
        self._predict_depth = predictor_of(task, predict_depth)

    def start(self) -> str:
        """Start the simulator and load the episodes; returns a one-line error, or an empty text."""
        try:
            self._env = self._open()
        except Exception as error:  # it crosses a process boundary as text
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    def _open(self) -> Any:
        habitat = import_habitat(self.settings.simulator)
        from habitat.config.read_write import read_write
        from habitat.core.registry import registry

        config = habitat_config(self.settings)
        if self.share.episodes is None:
            dataset = load_episodes(self.settings, config, self.share.scenes, self.share.most)
        else:
            dataset = registry.get_dataset(config.habitat.dataset.type)()
            dataset.episodes = pickle.loads(self.share.episodes)
        if not dataset.episodes:
            return None  # more agents than episodes: this one stays idle
        with read_write(config):
            if self.share.seed is not None:
                config.habitat.seed = self.share.seed
            else:
                options = config.habitat.environment.iterator_options
                options.shuffle = options.group_by_scene = options.cycle = False
                options.max_scene_repeat_episodes = options.max_scene_repeat_steps = -1
        self._reward = self._rewards(config.habitat.task)
        return habitat.Env(config, dataset)

    def _rewards(self, task: Any) -> tuple[float, float]:
        """Success reward and slack: the config's own, or the paper's in its variant of the task."""
        if self.task.variant == "habitat":
            return float(task.success_reward), float(task.slack_reward)
        return self.task.success_reward, measures.SLACK_REWARD

    # -- Gymnasium --------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start the next episode; the seed is that of the `Share`. One that does not fit is ``failed`` in the info."""
        try:
            seen = self._next_episode()
        except (ValueError, OSError, LookupError) as error:  # it crosses a process boundary as text
            self._active = False
            return self._nothing(), {"state": self._state(), "failed": " ".join(str(error).split())}
        if seen is None:
            self._active = False
            return self._nothing(), {"state": self._state()}
        episode = self._env.current_episode
        self._active, self._steps, self._return = True, 0, 0.0
        self._identity = Identity(scene_name(episode.scene_id), str(episode.episode_id))
        self._start_distance = self._distance = float(self._env.get_metrics()["distance_to_goal"])
        self._trail = np.zeros((1, self.task.max_steps + 1, 2), np.float32)
        self._ahead = 0.0
        if self._explored is not None:
            self._explored.reset(0)
        self._note_position()
        return self._observe(seen), {"state": self._state()}

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Act once; after the episode's end ``info["nav"]`` holds its record (`envs.pointnav.env.PointNav.step`)."""
        if not self._active:
            return self._nothing(), 0.0, False, False, {"state": self._state()}
        stopped, self._ahead, asked = self._asked(action)
        seen = self._env.step(asked)
        metrics = self._env.get_metrics()
        before, now = self._distance, float(metrics["distance_to_goal"])
        # Off the navigation mesh there is no distance; the one before is within a step of it.
        self._distance = now if math.isfinite(now) else before
        self._steps += 1
        reward = float(measures.nav_reward(before, self._distance, bool(metrics["success"]), *self._reward))
        self._return += reward
        self._note_position()
        over = bool(self._env.episode_over)
        info: dict[str, Any] = {"state": self._state()}
        if over:
            info["nav"] = self._record(metrics, not stopped)
            info["is_success"] = bool(metrics["success"])
        return self._observe(seen), reward, over and stopped, over and not stopped, info

    def _asked(self, action: Any) -> tuple[bool, float, Any]:
        """Whether an action is STOP, how many metres ahead it asks for, and what it is for Habitat-Lab."""
        if self.task.continuous:
            linear, angular = (float(v) for v in action)
            arguments = {"linear_velocity": linear, "angular_velocity": angular}
            motions = self.task.velocity.motions([action])
            return bool(motions.stop[0]), float(motions.ahead[0]), {"action": VELOCITY, "action_args": arguments}
        chosen = self.task.discrete_actions[int(action)]
        if self.task.variant == "side_tuning" and self._distance < self.task.success_distance:
            chosen = STOP
        return chosen == STOP, self.task.forward * (chosen == FORWARD), NAMES[chosen]

    def render(self) -> NDArray[np.uint8]:
        """(S, S, 3) uint8, what the agent sees."""
        if "rgb" not in self.task.sensors:
            raise ValueError("the agent has no rgb sensor to show; add it to env.task.sensors")
        return np.ascontiguousarray(self._env.sim.render("rgb"))

    def close(self) -> None:
        """End the simulator."""
        if self._env is not None:
            self._env.close()

    # -- for the parent process ---------------------------------------------------------------------------------------

    def expert(self) -> NDArray[Any]:
        """The action that Habitat-Lab's shortest-path follower would take: () int64, or (2,) of continuous ones."""
        chosen = self._follow() if self._active else STOP
        return cast("NDArray[Any]", self.task.as_actions(np.array([chosen]))[0])

    def _follow(self) -> int:
        """The follower's discrete action."""
        if self._follower is None:
            from habitat.tasks.nav.shortest_path_follower import ShortestPathFollower

            self._follower = ShortestPathFollower(self._env.sim, STOP_SHARE * self.task.success_distance, False)
        return int(self._follower.get_next_action(self._env.current_episode.goals[0].position))

    def floor_plan(self) -> dict[str, NDArray[Any]]:
        """Walkable floor at the agent's height and the shortest path; see `SceneEpisodes.floor_plan`."""
        sim, goal = self._env.sim, self._env.current_episode.goals[0].position
        here = np.asarray(sim.get_agent_state().position, np.float64)
        corners = np.asarray(sim.get_straight_shortest_path_points(here, goal), np.float64).reshape(-1, 3)
        low = np.asarray(sim.pathfinder.get_bounds()[0], np.float64)
        return {
            "navigable": np.asarray(sim.pathfinder.get_topdown_view(MAP_CELL, float(here[1])), bool),
            "origin": low[[0, 2]],
            "cell": np.asarray(MAP_CELL),
            "expert_path": corners[:, [0, 2]],
        }

    # -- inside -------------------------------------------------------------------------------------------------------

    def _next_episode(self) -> Mapping[str, Any] | None:
        """First observations of the next episode, None where none is left.

        Raises:
            ValueError: The goal cannot be reached.
        """
        if self._env is None:
            return None
        try:
            seen = cast("Mapping[str, Any]", self._env.reset())
        except StopIteration:
            return None
        if not math.isfinite(float(self._env.get_metrics()["distance_to_goal"])):
            episode = self._env.current_episode
            raise ValueError(
                f"episode {episode.episode_id} of scene {episode.scene_id}: the goal cannot be reached from the start; "
                "check that the episodes were made for this scene"
            )
        return seen

    def _state(self) -> State:
        return State(self._steps, self._distance, self._active, self._identity)

    def _note_position(self) -> None:
        self._trail[0, self._steps] = np.asarray(self._env.sim.get_agent_state().position)[[0, 2]]

    def _nothing(self) -> dict[str, NDArray[Any]]:
        return {key: np.zeros(space.shape or (), space.dtype) for key, space in self.observation_space.spaces.items()}

    def _observe(self, seen: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Habitat-Lab's observations under our names, as contiguous arrays of their own."""
        out = {GOAL: np.array(seen[GOAL], np.float32)}
        out |= {name: np.array(seen[name], order="C") for name in ("rgb", "depth") if name in self.task.sensors}
        goal = np.asarray(self._env.current_episode.goals[0].position, np.float64)[None, [0, 2]]
        if "map" in self.task.sensors:
            image = np.empty((1, 3, self.task.map_size, self.task.map_size), np.uint8)
            draw_visited_maps(
                self._trail, np.array([self._steps + 1]), self._heading()[None], goal, self.task.map_extent, image
            )
            out["map"] = image[0]
        if self._explored is not None:
            moved = (self._trail[0, self._steps] - self._trail[0, 0]).astype(np.float64)[None]
            which, heading = np.array([0]), self._heading()[None]
            limit = float(np.float32(self.task.max_depth))  # in single precision, as what the sensor clips at it
            if self._predict_depth is not None:
                depth = self._predict_depth(np.asarray(seen["rgb"])[None])
            else:
                depth = np.asarray(seen["depth"], np.float32)[None, :, :, 0] * np.float32(limit)
            self._explored.update(which, depth, moved, heading, limit, np.array([self._ahead]))
            goal -= self._trail[0, 0]
            out["explored"] = self._explored.egocentric(which, moved, heading, goal)[0]
        return out

    def _heading(self) -> NDArray[np.float64]:
        q = self._env.sim.get_agent_state().rotation
        return np.asarray(math.atan2(2.0 * (q.x * q.z + q.w * q.y), 1.0 - 2.0 * (q.x * q.x + q.y * q.y)))

    def _record(self, metrics: Mapping[str, Any], truncated: bool) -> dict[str, Any]:
        """What is known of the finished episode; the measures are Habitat-Lab's own."""
        episode = self._env.current_episode
        return episode_record(
            self._identity.episode_id,
            self._identity.scene_id,
            episode.start_position,
            episode.goals[0].position,
            success=float(metrics["success"]),
            spl=float(metrics["spl"]),
            soft_spl=float(metrics["soft_spl"]),
            start_distance=self._start_distance,
            distance=self._distance,
            collisions=int(metrics["collisions"]["count"]),
            total_reward=self._return,
            steps=self._steps,
            truncated=truncated,
            path=self._trail[0, : self._steps + 1],
        )
