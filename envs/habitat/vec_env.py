"""Habitat-Lab's PointNav as the environment of this project: same observations, task variants, measures and records.

Every agent has a process of its own with one simulator in it; this process starts none. Nothing here imports
Habitat-Lab before it is needed.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import SubprocVecEnv

from configs.files import is_hidden
from envs.habitat.config import HabitatSplit, habitat_config, rules
from envs.habitat.worker import HabitatAgent, Identity, Share, State, load_episodes
from envs.pointnav.env import DepthPredictor, PointNavTask
from envs.pointnav.episodes import distinct, scene_name
from envs.pointnav.simulator import SimulatorVecEnv, simulators
from envs.rendering.renderer import Camera

__all__ = ["HabitatNav", "HabitatScene", "HabitatSplit", "HabitatVecEnv", "dataset_paths", "make_scenes", "rules"]


@dataclass(frozen=True)
class HabitatScene:
    """A scene of a Habitat dataset and its episodes, which are read when they are asked for.

    Attributes:
        settings: How to compose Habitat-Lab's config.
        content: The dataset's name of the scene.
        chosen: The episodes, if not all of them.
    """

    settings: HabitatSplit
    content: str
    chosen: tuple[Any, ...] | None = None

    @property
    def name(self) -> str:
        """The scene's name."""
        return scene_name(self.content)

    @cached_property
    def episodes(self) -> tuple[Any, ...]:
        """Habitat-Lab's episode objects."""
        if self.chosen is not None:
            return self.chosen
        config = habitat_config(self.settings)
        found = load_episodes(self.settings, config, (self.content,), self.settings.episodes_per_scene).episodes
        # Records and reports know an episode by its identifier.
        for episode, name in zip(found, distinct([episode.episode_id for episode in found]), strict=True):
            episode.episode_id = name
        return tuple(found)

    def only(self, episodes: Iterable[Any]) -> HabitatScene:
        """The same scene with some of its episodes."""
        return replace(self, chosen=tuple(episodes))

    def floor_plan(self, episode: Any) -> dict[str, NDArray[Any]]:
        """Top-down map of an episode; see `SceneEpisodes.floor_plan`."""
        task, camera = rules(self.settings)
        env = HabitatVecEnv([self.only([episode])], replace(task, sensors=()), camera, 1, None)
        try:
            env.reset()
            return cast("dict[str, NDArray[Any]]", env.env_method("floor_plan")[0])
        finally:
            env.close()


def make_scenes(settings: HabitatSplit) -> list[HabitatScene]:
    """The scenes of a split, in the dataset's order.

    Raises:
        ImportError: Habitat-Lab or habitat-sim is not installed.
        FileNotFoundError: The dataset or the scenes are not there.
        ValueError: The config is wrong, or the dataset is empty.
    """
    config = habitat_config(settings).habitat.dataset
    from habitat.core.registry import registry

    file = config.data_path.format(split=config.split)
    kind = registry.get_dataset(config.type)
    if kind is None or not kind.check_config_paths_exist(config):
        raise FileNotFoundError(
            f"the dataset's file {file} or its folder of scenes {config.scenes_dir} is not there; docs/habitat.md says "
            "where to put them, or set env.episodes and env.scenes_dir"
        )
    listed = dict.fromkeys(name for name in kind.get_scenes_to_load(config) if not is_hidden(name))
    names = list(listed)[: settings.scenes]
    if not names:
        raise ValueError(f"{file} has no scenes")
    return [HabitatScene(settings, name) for name in names]


def dataset_paths(settings: HabitatSplit) -> tuple[Path, Path]:
    """The episode file of the split, and the folder that its scenes are relative to.

    Raises:
        ImportError: Habitat-Lab is not installed.
        ValueError: The config is wrong.
    """
    # Which simulator will run does not matter here, and may be what is missing.
    dataset = habitat_config(replace(settings, simulator="sidestep")).habitat.dataset
    return Path(dataset.data_path.format(split=dataset.split)), Path(dataset.scenes_dir)


@dataclass
class _HabitatAgents:
    """State of all agents as far as learners read it; row n belongs to agent n."""

    steps: NDArray[np.int64]
    distance: NDArray[np.float64]
    active: NDArray[np.bool_]


class HabitatNav:
    """The `Simulator` interface (expert, distances, records), backed by Habitat-Lab."""

    def __init__(self, venv: HabitatVecEnv, task: PointNavTask) -> None:
        """Wrap the agents of `venv`."""
        self._venv, self.task = venv, task
        count = venv.num_envs
        self.agents = _HabitatAgents(np.zeros(count, np.int64), np.full(count, np.inf), np.zeros(count, np.bool_))
        self._identity = [Identity("", "")] * count

    def update(self, agent: int, state: State) -> None:
        """Update from the state that an agent's process sent."""
        a = self.agents
        a.steps[agent], a.distance[agent], a.active[agent] = state.steps, state.distance, state.active
        self._identity[agent] = state.episode

    def episode(self, agent: int) -> Identity:
        """The episode of an agent."""
        return self._identity[agent]

    def expert(self) -> NDArray[Any]:
        """The actions of Habitat-Lab's shortest-path follower: (N,) int64, or (N, 2) of continuous ones."""
        try:
            return np.array(self._venv.env_method("expert"))
        except (EOFError, ConnectionError) as error:
            raise _ended() from error

    def picture(self, size: int) -> NDArray[np.uint8]:
        """(N, S, S, 3) uint8, what the agents see; `size` is only a wish, as the sensors' size is fixed."""
        return np.stack(cast("list[NDArray[np.uint8]]", self._venv.get_images()))


@simulators.register("habitat")
class HabitatVecEnv(SubprocVecEnv, SimulatorVecEnv):
    """N agents in N processes, each with its own Habitat-Lab environment; the interface of `PointNavVecEnv`.

    Episodes are shared out among the processes: by scene and shuffled for ever with a seed, in order and once without.
    """

    def __init__(
        self,
        places: Sequence[HabitatScene],
        task: PointNavTask,
        camera: Camera,
        count: int,
        seed: int | None = 0,
        device: str = "cpu",
        mirror: bool = False,
        predict_depth: DepthPredictor | None = None,
    ) -> None:
        """Start the processes; see `SimulatorVecEnv` (``env.gpu`` says where habitat-sim renders).

        Raises:
            ValueError: A simulator could not be started, or `mirror` is asked for.
            ChildProcessError: A process ended while it started.
        """
        if mirror:
            raise ValueError("no agent in Habitat can be mirrored; leave mirror out")
        shares = _shares_once(places, count) if seed is None else _shares_shuffled(places, count, seed)
        settings = places[0].settings.with_sensors(task.sensors)
        makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [
            partial(HabitatAgent, settings, task, camera, share, predict_depth) for share in shares
        ]
        # The server from which the processes are forked imports once what all of them need; it has no simulator.
        multiprocessing.get_context("forkserver").set_forkserver_preload(["envs.habitat.worker"])
        SubprocVecEnv.__init__(self, makers, start_method="forkserver")
        self.nav: HabitatNav = HabitatNav(self, task)
        try:
            failures = [said for said in self.env_method("start") if said]
        except (EOFError, ConnectionError) as error:
            self.close()
            raise _ended() from error
        if failures:
            self.close()
            raise ValueError(failures[0])

    def _check_episodes(self) -> None:
        """Refuse an episode that could not be started."""
        said = next((info["failed"] for info in self.reset_infos if "failed" in info), None)
        if said is not None:
            self.close()
            raise ValueError(said)

    def reset(self) -> dict[str, NDArray[Any]]:
        """Start a new episode for every agent."""
        try:
            observations = super().reset()
        except (EOFError, ConnectionError) as error:
            raise _ended() from error
        self._check_episodes()
        for n, info in enumerate(self.reset_infos):
            self.nav.update(n, info["state"])
        return observations  # type: ignore[return-value]

    def step_wait(
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all agents; what a finished episode leaves in its info is as in `PointNavVecEnv`."""
        try:
            observations, rewards, dones, infos = super().step_wait()
        except (EOFError, ConnectionError) as error:
            raise _ended() from error
        self._check_episodes()
        for n, info in enumerate(infos):
            state = info.pop("state")
            self.nav.update(n, self.reset_infos[n]["state"] if dones[n] else state)
        return observations, rewards.astype(np.float32), dones, list(infos)  # type: ignore[return-value]

    def close(self) -> None:
        """End the processes, those that ended by themselves included."""
        if self.closed:
            return
        try:
            super().close()
        except (EOFError, ConnectionError):
            self.closed = True
            for process in self.processes:
                process.terminate()
                process.join()


def _ended() -> ChildProcessError:
    return ChildProcessError(
        "a simulator's process ended; its own message is above. habitat-sim ends the process where it finds no EGL "
        "device (env.gpu=-1 renders in software); `python -m agents.doctor` checks what is installed"
    )


def _shares_once(places: Sequence[HabitatScene], count: int) -> list[Share]:
    """All episodes in order, in runs of equal length, so that a worker sees few scenes."""
    episodes = [episode for place in places for episode in place.episodes]
    bounds = [-(-len(episodes) * n // count) for n in range(count + 1)]
    return [Share(episodes=pickle.dumps(episodes[a:b])) for a, b in pairwise(bounds)]


def _shares_shuffled(places: Sequence[HabitatScene], count: int, seed: int) -> list[Share]:
    """Every worker its own scenes, or all of them where there are fewer scenes than workers."""
    shares = []
    for n in range(count):
        own = places[n::count] if len(places) >= count else places
        kept = pickle.dumps([e for p in own for e in p.episodes]) if any(p.chosen is not None for p in own) else None
        most = own[0].settings.episodes_per_scene
        # Habitat-Lab takes seed 0 for none.
        own_seed = (1000 * seed + n) % 2**31 + 1
        shares.append(Share(tuple(p.content for p in own), most, kept, own_seed))
    return shares
