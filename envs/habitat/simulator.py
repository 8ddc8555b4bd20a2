"""The embedded simulator behind Habitat-Lab's `Simulator` interface, registered as ``"Sidestep-v0"``.

Habitat-Lab's environments, datasets, sensors, measures and followers then run without habitat-sim::

    from envs.habitat import stand_ins as habitat_stand_ins
    habitat_stand_ins.install()        # only needed where habitat-sim is not installed
    import habitat, envs.habitat.simulator

    config = habitat.get_config(
        "benchmark/nav/pointnav/pointnav_habitat_test.yaml", ["habitat.simulator.type=Sidestep-v0"]
    )
    env = habitat.Env(config)

On a ``.navmesh`` for the config's agent the floor is answered as habitat-sim does, and so are distances with
``+habitat.simulator.geodesic=detour``; ``+habitat.simulator.navmesh=recast`` makes such a mesh where there is none, as
habitat-sim does. Positions are float64 (habitat-sim: float32). What only habitat-sim has
(physics, articulated objects, camera tilt by actions) is refused with an error.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import habitat  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Habitat-Lab cannot be imported ({error}); install the extra `habitat`, and call "
        "envs.habitat.stand_ins.install() first where habitat-sim is not installed"
    ) from error
import quaternion
from gym import spaces
from habitat.config.default import get_agent_config
from habitat.core.registry import registry
from habitat.core.simulator import AgentState, SensorSuite, Simulator

from envs.habitat.cameras import RENDERED, noise_of, observe, view_of
from envs.habitat.pathfinder import Follower, PathFinder, SemanticScene
from envs.navgrid.grid import GeodesicField, NavGrid, geodesic_distance, wrap_angle
from envs.pointnav.env import FORWARD, LEFT, RIGHT, STOP
from envs.pointnav.noise import Noise
from envs.rendering.renderer import Renderer, make_renderer
from envs.scans.source import ScanSettings, load_scan
from envs.scene import Scene

NAME = "Sidestep-v0"
ACTIONS = {"stop": STOP, "move_forward": FORWARD, "turn_left": LEFT, "turn_right": RIGHT}
# Habitat-Lab's names for scenes that belong to no scene dataset.
NO_DATASET = ("", "default", "NONE")
CACHED_SCENES, CACHED_FIELDS = 4, 512


@dataclass(frozen=True, eq=False)
class _World:
    """A loaded scene; simulators of one process share it."""

    scene: Scene
    grid: NavGrid
    renderer: Renderer


@lru_cache(CACHED_SCENES)
def _load(
    scene_id: str, dataset: str, geodesic: str, navmesh: str, radius: float, height: float, climb: float, slope: float
) -> _World:
    """The scene that habitat-sim finds under this name, with its rules for the axes and for navigation meshes."""
    settings = ScanSettings(
        None if dataset in NO_DATASET else dataset,
        up="habitat",
        materials="habitat",
        navmesh=navmesh,
        geodesic=geodesic,
    )
    scene, grid = load_scan(scene_id, settings, radius, height, climb, slope)
    if any(scene.origin):
        raise ValueError(f"{scene_id} lies {max(map(abs, scene.origin)) / 1000:.0f} km from the origin; move it there")
    return _World(scene, grid, make_renderer([scene]))


@dataclass
class _Agent:
    """What `get_agent` gives: habitat-sim's `Agent` as far as Habitat-Lab reads it."""

    sim: SidestepSim

    @property
    def state(self) -> AgentState:
        """The agent's pose."""
        return self.sim.get_agent_state()

    def get_state(self) -> AgentState:
        """The agent's pose."""
        return self.sim.get_agent_state()

    def set_state(self, state: AgentState, reset_sensors: bool = True) -> None:
        """Put the agent somewhere else."""
        self.sim.set_agent_state(state.position, state.rotation)


@registry.register_simulator(name=NAME)
class SidestepSim(Simulator):
    """One agent in one scene at a time; see Habitat-Lab's `Simulator` and `HabitatSim` for what methods mean.

    An episode's start is put on the nearest floor of the walkable grid, up to 2 m away; positions set by
    `set_agent_state` are taken as they are.
    """

    def __init__(self, config: Any) -> None:
        """Load the scene of a ``habitat.simulator`` config.

        Raises:
            ValueError: The config asks for something the embedded simulator does not have, or the scene is broken.
            FileNotFoundError: There is no such scene.
        """
        super().__init__()
        if len(config.agents) != 1:
            raise ValueError(f"the embedded simulator has one agent, the config asks for {len(config.agents)}")
        self._rng = np.random.default_rng(int(config.seed))
        self._fields: OrderedDict[tuple[float, ...], GeodesicField] = OrderedDict()
        self._loaded: tuple[Any, ...] = ()
        self._sensor_suite = SensorSuite(
            [registry.get_sensor(c.type)(c) for c in get_agent_config(config).sim_sensors.values()]
        )
        self._views = {
            name: (view_of(sensor.config), RENDERED[sensor.sensor_type.name])
            for name, sensor in self._sensor_suite.sensors.items()
        }
        noise = {name: noise_of(sensor.config) for name, sensor in self._sensor_suite.sensors.items()}
        self._noise = {name: Noise(its, 1, int(config.seed)) for name, its in noise.items() if its.any}
        self._collided = False
        # Habitat-Lab's velocity control leaves its collisions here.
        self._prev_sim_obs: dict[str, bool] = {}
        self._configure(config)
        self._place(self.pathfinder.get_random_navigable_point(), quaternion.quaternion(1, 0, 0, 0))

    def _configure(self, config: Any) -> None:
        """Take over a config, and load its scene unless it is the one that is loaded."""
        agent = get_agent_config(config)
        body = (float(agent.radius), float(agent.height), float(agent.max_climb), float(agent.max_slope))
        floor = str(config.get("geodesic", "exact")), str(config.get("navmesh", "match"))
        wanted = (str(config.scene), str(config.scene_dataset), *floor, *body)
        if wanted != self._loaded:
            self._world = _load(*wanted)
            self._loaded = wanted
            self._fields.clear()
            self.pathfinder = PathFinder(self._world.grid, self._rng)
            self._semantic: SemanticScene | None = None
        self.habitat_config = config
        self._turn, self._forward = float(config.turn_angle), float(config.forward_step_size)
        self._sliding = bool(config.habitat_sim_v0.allow_sliding)

    # -- Habitat-Lab's Simulator ----------------------------------------------------------------------------------

    @property
    def sensor_suite(self) -> SensorSuite:
        """The agent's cameras."""
        return self._sensor_suite

    @property
    def action_space(self) -> spaces.Discrete:
        """Habitat's order: 0 stop, 1 move_forward, 2 turn_left, 3 turn_right."""
        return spaces.Discrete(len(ACTIONS))

    @property
    def up_vector(self) -> NDArray[np.float64]:
        """+Y."""
        return np.array([0.0, 1.0, 0.0])

    @property
    def forward_vector(self) -> NDArray[np.float64]:
        """-Z."""
        return np.array([0.0, 0.0, -1.0])

    @property
    def previous_step_collided(self) -> bool:
        """Whether the agent was held back in the last step; False after `reset` and `get_observations_at`.

        By velocity control, too, whose collisions are lost in habitat-sim.
        """
        return self._collided

    @property
    def config(self) -> SimpleNamespace:
        """habitat-sim's config as far as `VelocityAction` reads it."""
        return SimpleNamespace(sim_cfg=SimpleNamespace(allow_sliding=self._sliding))

    def seed(self, seed: int) -> None:
        """Restart the random points."""
        self._rng = np.random.default_rng(seed)
        self.pathfinder.seed(seed)

    def reset(self) -> Any:
        """Put the agent at the start that the config sets, and look."""
        self._to_start()
        for noise in self._noise.values():
            noise.reset(0, str(self.habitat_config.scene), str(get_agent_config(self.habitat_config).start_position))
        self._collided, self._prev_sim_obs = False, {}
        return self._observe()

    def reconfigure(self, habitat_config: Any, ep_info: Any = None, should_close_on_new_scene: bool = True) -> None:
        """Take over a config: another scene, start, body or step."""
        self._configure(habitat_config)
        self._to_start()

    def step(self, action: str | int | np.integer[Any] | None) -> Any:
        """Act and look; None only looks.

        Raises:
            ValueError: There is no such action.
        """
        self._collided, self._prev_sim_obs = bool(self._prev_sim_obs.get("collided")), {}
        if action is not None:
            self._act(action)
        return self._observe()

    def step_physics(self, dt: float) -> None:
        """Nothing moves by itself."""

    def render(self, mode: str = "rgb") -> NDArray[Any]:
        """The image of one sensor."""
        observations = self._observe()
        if mode not in observations:
            raise ValueError(f"there is no sensor {mode!r}; there are {', '.join(observations) or 'none'}")
        return observations[mode]

    def close(self, destroy: bool = True) -> None:
        """Nothing to release: there is no GL context."""

    def get_agent(self, agent_id: int) -> _Agent:
        """The one agent."""
        self._check_agent(agent_id)
        return _Agent(self)

    def get_agent_state(self, agent_id: int = 0) -> AgentState:
        """Position (3,) float64 and rotation (quaternion) of the agent."""
        self._check_agent(agent_id)
        return AgentState(self._position.copy(), self._rotation.copy())

    def set_agent_state(
        self, position: ArrayLike, rotation: Any, agent_id: int = 0, reset_sensors: bool = True
    ) -> bool:
        """Put the agent somewhere; `rotation` is x, y, z, w or a quaternion. True, as it never fails."""
        self._check_agent(agent_id)
        if not isinstance(rotation, quaternion.quaternion):
            x, y, z, w = (float(v) for v in rotation)
            rotation = quaternion.quaternion(w, x, y, z)
        self._place(np.array(position, np.float64).reshape(3), rotation)
        return True

    def get_observations_at(
        self, position: ArrayLike | None = None, rotation: Any = None, keep_agent_at_new_pose: bool = False
    ) -> Any:
        """Look from another pose."""
        before = self.get_agent_state()
        if position is not None and rotation is not None:
            self.set_agent_state(position, rotation)
        self._collided, self._prev_sim_obs = False, {}
        observations = self._observe()
        if not keep_agent_at_new_pose:
            self.set_agent_state(before.position, before.rotation)
        return observations

    def geodesic_distance(self, position_a: ArrayLike, position_b: Any, episode: Any = None) -> float:
        """Distance in metres from a position to the nearest of one or several goals, inf where there is no way.

        With an `episode` the goals of the first call hold until its cache is emptied, as in `HabitatSim`.
        """
        fields = None if episode is None else episode._shortest_path_cache
        if fields is None:
            goals = position_b if isinstance(position_b[0], Sequence | np.ndarray) else [position_b]
            fields = [field for field in map(self._try_field, goals) if field is not None]
        if episode is not None:
            episode._shortest_path_cache = fields
        here = np.asarray(position_a, np.float64)
        return min((geodesic_distance(self._world.grid, field, here) for field in fields), default=math.inf)

    def get_straight_shortest_path_points(
        self, position_a: ArrayLike, position_b: ArrayLike
    ) -> list[NDArray[np.float64]]:
        """Corners of the shortest path, both ends included; empty where there is none."""
        field = self._try_field(position_b)
        here = np.asarray(position_a, np.float64)
        if self._world.grid.geodesic == "exact":
            here = self.pathfinder.snap_point(here)
        if field is None or not np.isfinite(here).all():
            return []
        try:
            return list(self._world.grid.path(field, here))
        except ValueError:
            return []

    def sample_navigable_point(self) -> list[float]:
        """A point drawn uniformly from the navigable floor."""
        return [float(v) for v in self.pathfinder.get_random_navigable_point()]

    def is_navigable(self, point: ArrayLike) -> bool:
        """Whether the agent can stand at a point."""
        return self.pathfinder.is_navigable(point)

    def island_radius(self, position: ArrayLike) -> float:
        """Radius in metres of the island that a point is on."""
        return self.pathfinder.island_radius(position)

    def distance_to_closest_obstacle(self, position: ArrayLike, max_search_radius: float = 2.0) -> float:
        """Distance in metres to the edge of the navigable floor."""
        return self.pathfinder.distance_to_closest_obstacle(position, max_search_radius)

    @property
    def semantic_scene(self) -> SemanticScene:
        """The objects of the scene."""
        if self._semantic is None:
            self._semantic = SemanticScene.of(self._world.scene)
        return self._semantic

    def semantic_annotations(self) -> SemanticScene:
        """The objects of the scene."""
        return self.semantic_scene

    def make_greedy_follower(
        self,
        agent_id: int = 0,
        goal_radius: float | None = None,
        *,
        stop_key: Any = STOP,
        forward_key: Any = FORWARD,
        left_key: Any = LEFT,
        right_key: Any = RIGHT,
        fix_thrashing: bool = True,
        thrashing_threshold: int = 16,
    ) -> Follower:
        """The greedy follower for Habitat-Lab's `ShortestPathFollower`."""
        from habitat_sim.errors import GreedyFollowerError

        self._check_agent(agent_id)
        return Follower(
            self.pathfinder,
            self.field,
            lambda: (self._position, self._heading),
            {STOP: stop_key, FORWARD: forward_key, LEFT: left_key, RIGHT: right_key},
            GreedyFollowerError,
            self._forward,
            self._turn,
            0.75 * self._forward if goal_radius is None else goal_radius,
            self._sliding,
            thrashing_threshold if fix_thrashing else None,
        )

    # -- inside ---------------------------------------------------------------------------------------------------

    def field(self, goal: ArrayLike) -> GeodesicField:
        """Shortest paths to a goal (3,); the least recently used ones make room for new ones.

        Raises:
            ValueError: No floor is within 2 m of the goal.
        """
        key = tuple(float(v) for v in np.asarray(goal))
        if key in self._fields:
            self._fields.move_to_end(key)
        else:
            self._fields[key] = self._world.grid.field(key)
        if len(self._fields) > CACHED_FIELDS:
            self._fields.popitem(last=False)
        return self._fields[key]

    def _try_field(self, goal: ArrayLike) -> GeodesicField | None:
        try:
            return self.field(goal)
        except ValueError:
            return None

    def _check_agent(self, agent_id: int) -> None:
        if agent_id != 0:
            raise ValueError(f"there is no agent {agent_id}: the embedded simulator has one agent, number 0")

    def _place(self, position: NDArray[np.float64], rotation: Any) -> None:
        self._position, self._rotation = position, rotation
        w, x, y, z = quaternion.as_float_array(rotation)
        # The same expression as `Episode.start_heading`, so that both tasks agree to the last bit.
        self._heading = math.atan2(2.0 * (x * z + w * y), 1.0 - 2.0 * (x * x + y * y))

    def _to_start(self) -> None:
        """Put the agent at the start of the config's episode, on the floor."""
        agent = get_agent_config(self.habitat_config)
        if not agent.is_set_start_state:
            return
        start = np.array([float(v) for v in agent.start_position])
        floor = (self._world.grid.detour or self._world.grid).snap(start[None])[0]
        if not np.isfinite(floor).all():
            raise ValueError(
                f"scene {self.habitat_config.scene}: the start {start.round(3).tolist()} is more than 2 m from any "
                "floor; check that the mesh is the one the episodes were made for (a bare .glb counts as Z-up, as in "
                "Habitat)"
            )
        self.set_agent_state(floor, [float(v) for v in agent.start_rotation])

    def _act(self, action: str | int | np.integer[Any]) -> None:
        number = ACTIONS.get(action) if isinstance(action, str) else int(action)
        if number not in ACTIONS.values():
            raise ValueError(f"unknown action {action!r}; the embedded simulator knows {', '.join(ACTIONS)}")
        self._collided = False
        if number == FORWARD:
            here = self._position
            if self._world.grid.detour is None and not self._world.grid.is_navigable(here[None])[0]:
                here = self.pathfinder.snap_point(here)
            moved, held = self.pathfinder.step(here[None], np.array([self._heading]), self._forward, self._sliding)
            self._position, self._collided = moved[0], bool(held[0])
        elif number in (LEFT, RIGHT):
            turn = math.radians(self._turn)
            angle = np.array(turn if number == LEFT else -turn)
            self._heading = float(wrap_angle(self._heading + angle))
            half = self._heading / 2
            self._rotation = quaternion.quaternion(math.cos(half), 0.0, math.sin(half), 0.0)

    def _observe(self) -> Any:
        images = observe(self._world.renderer, self._views, self._position, self._heading, self._noise)
        return self._sensor_suite.get_observations(images)
