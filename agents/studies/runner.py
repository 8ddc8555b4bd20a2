"""Training and evaluating the agents of a study, each in a process of its own, one after another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapt.training.run import read_json_if_there
from agents.studies.plans import STUDIES, StudySettings, Variant

EXPERT, RUNS = "expert", "runs"


@dataclass(frozen=True)
class Job:
    """One agent: a variant with a seed.

    Attributes:
        variant: Its settings.
        seed: Of weights, batches and sampled actions.
        folder: Its run folder.
    """

    variant: Variant
    seed: int
    folder: Path

    @property
    def trained(self) -> bool:
        """Whether its training is over."""
        return "train_seconds" in read_json_if_there(self.folder / "result.json")

    @property
    def evaluated(self) -> bool:
        """Whether its evaluation is over, too."""
        return self.trained and (self.folder / "report.html").is_file()


def jobs(settings: StudySettings) -> list[Job]:
    """All agents of a study; every variant comes once before any comes again, so that what is done is balanced."""
    variants = STUDIES[settings.name].variants(settings)
    runs = Path(settings.out) / RUNS
    return [Job(v, seed, runs / v.name / f"seed{seed}") for seed in settings.seeds for v in variants]


def expert_data(settings: StudySettings) -> Path:
    """Folder of the recorded trajectories."""
    return Path(settings.out) / EXPERT if settings.data is None else Path(settings.data)


def commands(settings: StudySettings, job: Job) -> Iterator[list[str]]:
    """The remaining commands of one agent, as arguments of ``python -m``."""
    if not job.trained:
        arguments = [*job.variant.overrides, *settings.train]
        if STUDIES[settings.name].expert:
            arguments.append(f"algo.data={expert_data(settings)}")
        resume = ["resume=true"] if (job.folder / "config.yaml").is_file() else []
        yield ["agents.train", *arguments, f"seed={job.seed}", f"run={job.folder}", *resume]
    if not job.evaluated:
        yield ["agents.evaluate", f"run={job.folder}", "references=false", "video=false", *settings.evaluate]


def record_command(settings: StudySettings) -> list[str]:
    """The command that records the trajectories of a study, as arguments of ``python -m``."""
    overrides = [override for override in settings.train if override.lstrip("+").startswith("env")]
    scenes = (
        [] if any("splits.train.scenes=" in override for override in overrides) else ["env.splits.train.scenes=200"]
    )
    most = max(settings.trajectories)
    return ["agents.collect", f"out={expert_data(settings)}", f"trajectories={most}", *scenes, *overrides]


def run_study(settings: StudySettings, done: Callable[[], object]) -> list[str]:
    """Run what is missing; a failed agent does not keep the others from running.

    Args:
        settings: Of the study.
        done: Called after every agent that was evaluated.

    Returns:
        A line for every agent that failed.

    Raises:
        ValueError: The expert's trajectories could not be recorded.
    """
    if STUDIES[settings.name].expert and not expert_data(settings).exists() and _run(record_command(settings)):
        raise ValueError(f"{expert_data(settings)} could not be recorded; what was wrong stands above")
    failed = []
    todo = [job for job in jobs(settings) if not job.evaluated]
    for number, job in enumerate(todo, 1):
        sys.stderr.write(f"agent {number} of {len(todo)}: {job.variant.name}, seed {job.seed}\n")
        code = next((code for command in commands(settings, job) if (code := _run(command))), 0)
        if code:
            failed.append(f"{job.folder}: exit code {code}")
        else:
            done()
    return failed


def _run(command: Sequence[str]) -> int:
    """Exit code of a command of this project, in a process of its own."""
    return subprocess.run([sys.executable, "-m", *command], check=False).returncode
