"""Settings of the commands of `agents`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from configs.settings import Chosen, ConfigError, Count, Device, Names, NotNegative, Range, Seed, Settings

Group = Mapping[str, Any]


@dataclass(frozen=True)
class ValidationSettings(Settings):
    """A learning curve on held-out scenes while training.

    Attributes:
        split: Which of `env.splits`.
        episodes: How many; 0: none.
        every: In units of log_every.
    """

    split: str = "val"
    episodes: Annotated[int, Range(0, 1_000_000)] = 0
    every: Count = 20


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Settings of the policy in evaluation.

    Attributes:
        temperature: Actions are sampled at this temperature; 0 takes the likeliest.
        mirror: Average each decision with the one in the mirror image of what the agent reads; not in Habitat.
    """

    temperature: NotNegative = 0.5
    mirror: bool = False


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Settings of ``python -m agents.train``.

    Attributes:
        run: Folder of this run.
        resume: Go on with the run in that folder; algo.steps or algo.updates may be larger than it was started with.
        start: Folder of another run whose weights this one begins with; what does not fit is listed and stays fresh.
        seed: Of weights, episodes and sampled actions.
        device: What computes.
        compile: torch.compile the frozen base: a minute at the start, a fifth faster on a CPU (needs a C++ compiler).
        blind: No pictures: what goal and map alone can do.
        log_every: Updates (imitation) or rollouts (ppo) between lines of metrics.jsonl.
        save_every: Updates or rollouts between checkpoints.
        wandb: Project of Weights & Biases to log to as well; null: none.
        adapt: How the base's features are adapted.
        base: The frozen encoder.
        env: Where agents live, what they see, by which rules.
        policy: The network that acts.
        algo: How the policy is learned.
    """

    run: str
    adapt: Annotated[Group, Chosen("adapt")]
    base: Mapping[str, str]
    env: Annotated[Group, Chosen("env")]
    policy: Annotated[Group, Chosen("policy", default="stack")]
    algo: Annotated[Group, Chosen("algo")]
    resume: bool = False
    start: str | None = None
    seed: Seed = 0
    device: Device = "auto"
    compile: bool = False
    blind: bool = False
    log_every: Count = 50
    save_every: Count = 1000
    wandb: str | None = None
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        camera = self.env["camera"]
        width = camera.get("width")
        if not self.blind and width not in (None, camera["size"]):
            raise ConfigError(
                f"policies look at square pictures: leave env.camera.width={width} out, or set it to {camera['size']}"
            )


@dataclass(frozen=True)
class CollectSettings(Settings):
    """Settings of ``python -m agents.collect``.

    Attributes:
        out: Folder to write.
        frames: Frames to record, all agents together.
        trajectories: Whole trajectories to record, in place of frames; algo.trajectories=n learns from the first n.
        seed: Of episodes.
        blind: Record no pictures.
        device: What renders (env.backend).
        env: Where agents live, what they see, by which rules.
    """

    out: str
    env: Annotated[Group, Chosen("env")]
    frames: Annotated[int, Range(1, 100_000_000)] = 200_000
    trajectories: Annotated[int | None, Range(1, 10_000_000)] = None
    seed: Seed = 0
    blind: bool = False
    device: Device = "auto"


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """Settings of ``python -m agents.evaluate``.

    Attributes:
        run: Folder of a training.
        seed: Of the episodes and of the sampled actions.
        temperature: Actions are sampled at this temperature, 0 takes the likeliest; null: the run's own.
        mirror: Average decisions of all policies with those in the mirror image; null: the run's own.
        blind: Folder of a blind agent trained the same way, for its row.
        references: Rows of random actions and of the expert.
        scene: A mesh to evaluate in instead, as env=scans does, with generated episodes; results go to eval/<its name>.
        untrained: Instead, add a row for the policy as it was before training.
        video: Make a film of a few episodes.
        env: Changes of the run's env, such as env.split=test or env.splits.val.scenes=10.
    """

    run: str
    seed: Seed = 0
    temperature: Annotated[float | None, Range(0)] = None
    mirror: bool | None = None
    blind: str | None = None
    references: bool = True
    scene: str | None = None
    untrained: bool = False
    video: bool = True
    env: Group = field(default_factory=lambda: {"split": "val"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.env.get("split"), str):
            raise ConfigError(f"env.split must be text, got {self.env.get('split')!r}; as in env.split=val")


@dataclass(frozen=True)
class ReportSettings(Settings):
    """Settings of ``python -m agents.report``.

    Attributes:
        run: Folder of an evaluated run, or of many runs; may stand without run=. [runs/a,runs/b] compares several.
        split: What it was evaluated on.
        out: Folder of a comparison's files; null: beside the first run.
    """

    run: Names
    split: str = "val"
    out: str | None = None


@dataclass(frozen=True)
class DoctorSettings(Settings):
    """Settings of ``python -m agents.doctor``.

    Attributes:
        env: What must work: env=habitat env.simulator=sidestep, env=scans env.scene=house.glb.
        data: A folder laid out as Habitat's data/: say which scenes and episodes it holds.
    """

    env: Annotated[Group, Chosen("env")]
    data: str | None = None
