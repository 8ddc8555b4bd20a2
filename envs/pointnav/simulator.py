"""The interface of simulators (N agents in one batch), and their registry.

A `Simulator` runs PointNav episodes for N agents as one batch. Learners reach it through a `SimulatorVecEnv`, SB3's
vectorised environment around it. `envs.pointnav.env.PointNav` (Embree), `envs.warp.pointnav.DevicePointNav` and
`envs.habitat.vec_env.HabitatNav` are simulators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from configs.registry import Registry
from envs.pointnav.env import DepthPredictor, PointNavTask
from envs.rendering.renderer import Camera


class AgentStates(Protocol):
    """State of N agents on the host; row n belongs to agent n."""

    @property
    def active(self) -> NDArray[np.bool_]:
        """(N,) whether the agent has an episode."""

    @property
    def steps(self) -> NDArray[np.int64]:
        """(N,) actions taken in the episode."""

    @property
    def distance(self) -> NDArray[np.float64]:
        """(N,) geodesic distance to the goal, metres."""


class EpisodeIdentity(Protocol):
    """Identity of an agent's episode."""

    @property
    def episode_id(self) -> str:
        """Identifier among the scene's episodes."""

    @property
    def scene_id(self) -> str:
        """The scene."""


class Simulator(Protocol):
    """N agents on PointNav episodes.

    Attributes:
        task: The rules.
        agents: Progress of the agents in their episodes.
    """

    task: PointNavTask

    @property
    def agents(self) -> AgentStates:
        """Progress of the agents in their episodes."""

    def episode(self, agent: int) -> EpisodeIdentity:
        """The episode an agent is in."""

    def expert(self) -> NDArray[Any]:
        """The shortest-path expert's action for every agent, in the task's own action space: (N,) int64 or (N, 2)."""

    def picture(self, size: int) -> NDArray[np.uint8]:
        """RGB images of the agents, (N, size, size, 3) uint8, at another size where the simulator can."""


class SimulatorVecEnv(VecEnv):
    """SB3's vectorised environment around a `Simulator`.

    Observations are a dict of arrays with N rows, as Habitat names them (`envs.pointnav.env.PointNav` says which, with
    shapes and units). A finished episode is followed by the next at once: ``infos[n]`` then holds the true last
    observation (``terminal_observation``), ``TimeLimit.truncated`` (True where the episode was cut off, so that its
    value is bootstrapped), ``is_success``, and the episode's record (`envs.pointnav.measures.episode_record`) under
    ``nav``. With seed None every episode comes once, in order; agents without one left are idle (`active`).

    Attributes:
        on_device: Whether the scenes are rendered on the learner's device, and observations are tensors there.
        can_mirror: Whether agents can act in the mirror image of their scene.
        nav: The simulator.
    """

    on_device: ClassVar[bool] = False
    can_mirror: ClassVar[bool] = False
    nav: Simulator

    @classmethod
    def make(
        cls,
        scenes: Sequence[Any],
        task: PointNavTask,
        camera: Camera,
        count: int,
        seed: int | None = 0,
        device: str = "cpu",
        mirror: bool = False,
        predict_depth: DepthPredictor | None = None,
    ) -> SimulatorVecEnv:
        """Make `count` agents; a simulator's constructor takes the same arguments, or it overrides this.

        Args:
            scenes: Scenes with episodes, of a kind that this simulator runs.
            task: The rules.
            camera: Of the agents.
            count: How many agents.
            seed: Shuffles the episodes endlessly; None: each once, in order.
            device: Where to render.
            mirror: Put every second agent into the mirror image of its scene.
            predict_depth: Predicts the depth of ``env.task.explored_from=predicted``; handed on where it is given.
        """
        own = {} if predict_depth is None else {"predict_depth": predict_depth}
        return cls(scenes, task, camera, count, seed, device, mirror, **own)  # type: ignore[call-arg, arg-type]

    @property
    def active(self) -> NDArray[np.bool_]:
        """(N,) bool, False for agents that wait idly because no episode is left."""
        return self.nav.agents.active

    def expert(self) -> NDArray[Any]:
        """The shortest-path expert's action for every agent, as the agent itself would choose it: (N,) or (N, 2)."""
        return self.nav.expert()

    @classmethod
    def with_arrays(cls) -> type[SimulatorVecEnv]:
        """The simulator of the same scenes whose observations are arrays on the host."""
        return cls

    @classmethod
    def compile_ahead(cls, task: PointNavTask) -> None:
        """Compile ahead, for other processes too, what takes long and does not depend on the scenes; if there is any.

        Args:
            task: The rules; without a sensor that looks, nothing is rendered.
        """

    @classmethod
    def planned_bytes(cls, scenes: Sequence[Any], task: PointNavTask, agents: int) -> Mapping[str, int]:
        """Estimated memory on the device in bytes, by component."""
        return {}


simulators: Registry[type[SimulatorVecEnv]] = Registry(
    "simulator",
    "sidestep.simulators",
    {"embree": "envs.pointnav.vec_env", "habitat": "envs.habitat.vec_env", "warp": "envs.warp.pointnav"},
)
"""All simulators by name."""
