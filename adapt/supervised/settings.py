"""Settings of ``python -m adapt.train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from adapt.supervised.optimisation import OptimiserConfig, StageConfig, TrainingConfig
from adapt.supervised.protocols import PROTOCOLS
from configs.settings import Chosen, Count, Device, OneOf, Range, Seed, Settings

UNDECAYED = ("merge_operator", "alpha", "context")
TESTS = ("all", "own")


@dataclass(frozen=True)
class SupervisedSettings(Settings):
    """Settings of ``python -m adapt.train``.

    Attributes:
        run: Folder of this run.
        data: The benchmark's data, in the layout that it names.
        benchmark: The tasks: which, on which data, how they are scored.
        adapt: How the base is adapted to each task.
        base: The frozen encoder.
        resume: Go on with the run in that folder, from its last finished task.
        seed: Of weights, order and choice of examples.
        device: What computes.
        cache: Folder where the frozen base's features are kept for all runs; none: nowhere.
        protocol: single: each task alone; sequential: one after the other; joint: all at once; two_stage: joint, then
            single.
        tasks: Names of tasks, in this order; [] takes the benchmark's.
        test: After each task test all tasks so far, or its own only and all after the last.
        rigidity: In sequence, also train each task before all others, to compare.
        pictures: In sequence, how many test images' predictions are kept, of each task learned so far after each task;
            for benchmarks of images labelled by images, as Taskonomy's.
        side_weights: For side_tuning, a released file with which each side network starts.
        log_every: Steps between lines of metrics.jsonl.
        wandb: Project of Weights & Biases to log to as well; null: none.
        training: How long.
        stage: In two stages, how all tasks first train one network together.
        optimiser: How.
        compressed: The run whose adapters adapt.compress has made low-rank, where this is one of its runs.
    """

    run: str
    data: str
    benchmark: Annotated[Mapping[str, Any], Chosen("benchmark")]
    adapt: Annotated[Mapping[str, Any], Chosen("adapt")]
    base: Mapping[str, str]
    resume: bool = False
    seed: Seed = 0
    device: Device = "auto"
    cache: str = "runs/features"
    protocol: Annotated[str, OneOf(*PROTOCOLS)] = "sequential"
    tasks: tuple[str, ...] = ()
    test: Annotated[str, OneOf(*TESTS)] = "all"
    rigidity: bool = False
    pictures: Annotated[int, Range(0, 32)] = 0
    side_weights: str | None = None
    log_every: Count = 20
    wandb: str | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(undecayed=UNDECAYED))
    compressed: str | None = None
