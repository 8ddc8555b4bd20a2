"""Settings of ``env=habitat`` (Habitat-Lab's PointNav); null keeps the value of Habitat-Lab's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from configs.settings import OneOf, Pixels, Range, Settings
from envs.habitat.config import SIMULATORS
from envs.navgrid.grid import GEODESICS
from envs.pointnav.env import ACTIONS, EXPLORED_FROM, SENSORS, VARIANTS, Layers
from envs.pointnav.explored_map import LAYERS
from envs.pointnav.velocity import VelocitySettings

Sensors = tuple[Annotated[str, OneOf(*SENSORS)], ...]


@dataclass(frozen=True)
class SplitConfig(Settings):
    """A split of a Habitat dataset.

    Attributes:
        split: The dataset's own name of it.
        scenes: At most this many scenes; null: all.
        episodes_per_scene: At most this many episodes of each; null: all.
    """

    split: str
    scenes: Annotated[int | None, Range(1)] = None
    episodes_per_scene: Annotated[int | None, Range(1)] = None


@dataclass(frozen=True)
class HabitatCamera(Settings):
    """The agents' camera.

    Attributes:
        size: Pixels per side.
        hfov: Horizontal field of view, whole degrees.
        height: Metres above the floor.
    """

    size: Pixels | None = 64
    hfov: Annotated[float | None, Range(0, 180, above=True, below=True)] = None
    height: float | None = None


@dataclass(frozen=True)
class HabitatBody(Settings):
    """The agent's cylinder.

    Attributes:
        radius: Metres.
        height: Metres.
        climb: Highest step that it climbs, metres.
        max_slope: Steepest floor that it walks on, degrees.
    """

    radius: Annotated[float | None, Range(0, 10, above=True)] = None
    height: Annotated[float | None, Range(0, 10, above=True)] = None
    climb: Annotated[float | None, Range(0, 10)] = None
    max_slope: Annotated[float | None, Range(0, 90, above=True)] = None


@dataclass(frozen=True)
class HabitatTask(Settings):
    """The rules.

    Attributes:
        variant: habitat: 4 actions with STOP; side_tuning: 3 actions, STOP comes by itself.
        actions: discrete, or continuous: Habitat-Lab's velocity_control, in the variant habitat.
        velocity: Ranges and time step of continuous actions.
        forward: Length of a forward step, metres.
        turn: Angle of a turn, whole degrees.
        success_distance: Geodesic distance within which STOP is a success, metres.
        max_steps: Actions after which an episode is cut off.
        sliding: Whether an agent that runs into something slides along it.
        sensors: Some of rgb, depth, map and explored.
        map_size: Side of the visited map, cells.
        map_extent: Side of the visited map, metres.
        explored_size: Side of the explored map, cells.
        explored_extent: Side of the explored map, metres.
        explored_layers: What the explored map shows: some of blocked, free, goal, visited and plan.
        explored_from: depth: from the depth sensor; predicted: from RGB, by the encoder depth_zbuffer and its decoder.
        max_depth: Upper bound to which depths are clipped, metres.
    """

    variant: Annotated[str, OneOf(*VARIANTS)] = "habitat"
    actions: Annotated[str, OneOf(*ACTIONS)] = "discrete"
    velocity: VelocitySettings = field(default_factory=VelocitySettings)
    forward: Annotated[float | None, Range(0, 10, above=True)] = None
    turn: Annotated[float | None, Range(0, 360, above=True)] = None
    success_distance: Annotated[float | None, Range(0, above=True)] = None
    max_steps: Annotated[int | None, Range(1, 1_000_000)] = None
    sliding: bool | None = None
    sensors: Sensors = ("rgb", "map")
    map_size: Annotated[int, Range(1, 2048)] = 40
    map_extent: Annotated[float, Range(0, above=True)] = 14.0
    explored_size: Annotated[int, Range(1, 2048)] = 40
    explored_extent: Annotated[float, Range(0, above=True)] = 14.0
    explored_layers: Layers = LAYERS
    explored_from: Annotated[str, OneOf(*EXPLORED_FROM)] = "depth"
    max_depth: Annotated[float | None, Range(0, above=True)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        plain = self.actions == "discrete" or self.variant == "habitat"
        self.require(plain, "variant", "habitat with actions=continuous: velocities near 0 are STOP in Habitat-Lab")


@dataclass(frozen=True)
class HabitatConfig(Settings):
    """Habitat-Lab's PointNav (extra `habitat`) on habitat-sim, or on the embedded simulator behind its interface.

    Attributes:
        split: Which of `splits` is trained on.
        simulator: habitat_sim; or sidestep, the embedded one, where habitat-sim is not installed.
        config: Any of Habitat-Lab's configs by name, or your own YAML.
        overrides: Hydra overrides of that config, such as [habitat.seed=1].
        episodes: Folder of <split>/<split>.json.gz, or one file.
        scenes_dir: Folder that the scene ids in the episodes are relative to.
        dataset: A .scene_dataset_config.json, for episodes that name none (ReplicaCAD).
        geodesic: Distances of the embedded simulator: exact, or detour as habitat-sim has them; that needs a .navmesh
            for an agent of these measures beside every scene.
        navmesh: Floor of the embedded simulator: match, a scene's .navmesh if it is for an agent of these measures,
            else its own grid; recast: made as habitat-sim makes it, with the system's Recast; none: always its own.
        gpu: habitat-sim's gpu_device_id; null: 0 where EGL has CUDA device 0, else -1 (software).
        agents: Agents that act at once, a process each.
        splits: The splits that runs of ours name.
    """

    split: str = "train"
    simulator: Annotated[str, OneOf(*SIMULATORS)] = "habitat_sim"
    config: str = "benchmark/nav/pointnav/pointnav_habitat_test.yaml"
    overrides: tuple[str, ...] = ()
    episodes: str | None = None
    scenes_dir: str | None = None
    dataset: str | None = None
    geodesic: Annotated[str, OneOf(*GEODESICS)] = "exact"
    navmesh: Annotated[str, OneOf("match", "recast", "none")] = "match"
    gpu: Annotated[int | None, Range(-1, 1024)] = None
    agents: Annotated[int, Range(1, 65_536)] = 4
    splits: Mapping[str, SplitConfig] = field(
        default_factory=lambda: {name: SplitConfig(name) for name in ("train", "val", "test")}
    )
    camera: HabitatCamera = field(default_factory=HabitatCamera)
    body: HabitatBody = field(default_factory=HabitatBody)
    task: HabitatTask = field(default_factory=HabitatTask)
