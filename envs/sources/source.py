"""The interface of scene sources, and their registry (``env.name``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar

from configs.names import nearest
from configs.registry import Registry, modules_of
from configs.settings import Range, Settings
from envs.pointnav.env import PointNavTask
from envs.pointnav.scene_episodes import AgentConfig, SceneEpisodes
from envs.rendering.renderer import Camera, choose_backend
from envs.sources.findings import Finding

Agents = Annotated[int, Range(1, 65_536)]
Episodes = Annotated[int, Range(1, 100_000)]
SPLIT_SEEDS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class EmbeddedConfig(Settings):
    """Settings of all environments of the embedded simulators.

    Attributes:
        split: Which of `splits` is trained on.
        agents: Agents that act at once, of all ranks together.
        backend: What renders: embree on the CPU; warp on CUDA, where ppo then keeps everything; auto: warp on CUDA; or
            another simulator by name.
        threads: CPU threads that share the rendering; null: as many as PyTorch computes with.
    """

    split: str = "train"
    agents: Agents = 64
    backend: str = "auto"
    threads: Annotated[int | None, Range(1, 1024)] = None
    camera: Camera = field(default_factory=Camera)
    body: AgentConfig = field(default_factory=lambda: AgentConfig(radius=0.18))
    task: PointNavTask = field(
        default_factory=lambda: PointNavTask(sensors=("rgb", "map"), map_size=40, map_extent=14.0)
    )


class SceneSource(ABC):
    """Scenes with episodes of one kind, as one ``env`` group of settings asks for them.

    Attributes:
        Config: The dataclass of these settings; it has `split`, `splits`, `agents`, `camera` and `task`.
        env: The settings as plain values; `name`, `split` and `splits` are in all of them.
    """

    Config: ClassVar[type[Settings]]

    def __init__(self, env: Mapping[str, Any]) -> None:
        self.env = env

    @abstractmethod
    def scenes(self, split: str, seed: int, shard: tuple[int, int] = (0, 1)) -> Sequence[SceneEpisodes]:
        """The scenes of a split with their episodes.

        Args:
            split: One of ``env.splits``.
            seed: Of generated episodes.
            shard: (index, shards): the share of one process (`envs.pointnav.scene_episodes.shard_of`); no two have an
                episode in common.

        Raises:
            ValueError: There is no such split, or it asks for something impossible.
            FileNotFoundError: A scene or its episodes are absent.
        """

    @abstractmethod
    def rules(self, sensors: tuple[str, ...]) -> tuple[PointNavTask, Camera]:
        """The task's rules with these of its sensors, and the agents' camera; no scene is loaded."""

    @abstractmethod
    def simulator(self, device: str) -> str:
        """Name of the simulator (`envs.pointnav.simulator.simulators`) for a learner on `device`."""

    def split(self, name: str) -> Mapping[str, Any]:
        """The settings of a split.

        Raises:
            ValueError: There is no such split.
        """
        splits = self.env["splits"]
        if name not in splits:
            hint = nearest(name, splits) or f"; choose from {', '.join(splits)}"
            raise ValueError(f"env.split={name}: there is no such split{hint}")
        return splits[name]

    @classmethod
    def without_randomisation(cls, env: Mapping[str, Any]) -> dict[str, Any]:
        """The settings without the domain randomisation of training, for evaluation."""
        return dict(env)

    @classmethod
    def installed(cls, env: Mapping[str, Any] | None) -> Iterator[Finding]:
        """Check the dependencies of this source.

        Args:
            env: The settings, where this kind was asked for; what is absent is then "missing", else a note.
        """
        yield from ()

    def check(self, split: str) -> Iterator[Finding]:
        """The files that a split reads."""
        yield from ()


class EmbeddedSource(SceneSource):
    """A source whose scenes the embedded simulators run: its settings have ``body``, ``task`` and ``camera``."""

    @property
    def body(self) -> AgentConfig:
        """The agent's cylinder."""
        return AgentConfig(**self.env["body"])

    def rules(self, sensors: tuple[str, ...]) -> tuple[PointNavTask, Camera]:
        """See `SceneSource.rules`."""
        return PointNavTask.from_settings({**self.env["task"], "sensors": sensors}), Camera(**self.env["camera"])

    def simulator(self, device: str) -> str:
        """The simulator of ``env.backend``; ``auto`` is Warp on a CUDA device if Warp is installed, else Embree."""
        backend = str(self.env.get("backend", "auto"))
        return choose_backend(backend, device) if backend in ("auto", "warp") else backend


scene_sources: Registry[type[SceneSource]] = Registry(
    "scene source",
    "sidestep.scenes",
    partial(modules_of, "envs.sources", but=("source", "findings", "scene_cache", "apartment_builds")),
)
"""All sources of scenes by name."""


def episode_seed(seed: int, split: str, scene: int) -> int:
    """Seed of a scene's generated episodes: other episodes in every split, scene and run seed."""
    if split not in SPLIT_SEEDS:
        raise ValueError(f"no episodes are generated for env.split={split}; choose from {', '.join(SPLIT_SEEDS)}")
    return (seed * 3 + SPLIT_SEEDS[split]) * 100_003 + scene
