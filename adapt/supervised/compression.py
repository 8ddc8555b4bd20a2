"""Trained residual adapters made low-rank by SVD and trained on (Rebuffi et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from adapt.benchmarks.benchmark import TaskData
from adapt.methods.residual_adapter import ResidualAdapter, compress_jointly
from adapt.supervised.finished import read_run
from adapt.supervised.learner import TaskTrainer, TrainingPlan
from adapt.supervised.protocols import ProtocolResult
from adapt.supervised.report import write_report
from adapt.supervised.results import Results, Scores
from adapt.supervised.runs import choose_tasks, make_base, make_benchmark, make_plan, summary
from adapt.training.run import Run, list_checkpoints, load_checkpoint, load_config, progress_bar
from adapt.training.state import entry_of, reading


def compressed_config(cfg: DictConfig) -> DictConfig:
    """The configuration of the finished run, with the settings of the compression and of the training after it.

    Raises:
        ValueError: it is a run of another method, or one whose adapters are factors already.
    """
    config = load_config(Path(cfg.run), "supervised")
    if config.adapt.name != "residual_adapter":
        raise ValueError(f"only runs of residual_adapter can be compressed, {cfg.run} is of {config.adapt.name}")
    if config.adapt.rank > 0:
        raise ValueError(f"the adapters of {cfg.run} are compressed already (rank {config.adapt.rank})")
    changes = {
        "adapt": {"rank": cfg.rank, "shared": cfg.shared},
        "training": OmegaConf.to_container(cfg.training),
        "optimiser": OmegaConf.to_container(cfg.optimiser),
        "compressed": str(cfg.run),
    }
    merged = OmegaConf.merge(config, changes)
    assert isinstance(merged, DictConfig)
    return merged


def decompose(learner: TaskTrainer, tasks: Sequence[TaskData], rank: float, shared: bool) -> None:
    """Replace the adapters of all tasks by factors.

    Raises:
        ValueError: the rank is not in (0, 1].
    """
    adapters = [cast(ResidualAdapter, learner.adapted.method(task.name)) for task in tasks]
    if shared:
        compress_jointly(adapters, rank)
        return
    for adapter in adapters:
        adapter.compress(rank)


def load_trained(source: Path, config: DictConfig, plan: TrainingPlan, tasks: Sequence[TaskData]) -> TaskTrainer:
    """All tasks of a finished run on one base, with their readouts, uncompressed.

    Raises:
        FileNotFoundError: the run has not finished.
        ValueError: its tasks are not on the configured base, or its checkpoint is damaged.
    """
    if config.protocol == "two_stage":
        raise ValueError(f"{source} has trained its base first; compress a run of another protocol")
    if not (source / "result.json").is_file():
        raise FileNotFoundError(f"{source} has not finished; add resume=true to its command")
    base = make_base(config, plan.benchmark)
    checkpoints = list_checkpoints(source)
    if not checkpoints:
        raise FileNotFoundError(
            f"{source / 'checkpoints'} holds none; restore them, or train it again into another folder"
        )
    state = load_checkpoint(checkpoints[-1], base.sha256)
    learner = TaskTrainer(base, replace(plan, settings={**plan.settings, "rank": 0.0, "shared": False}))
    with reading(checkpoints[-1]):
        stored = entry_of(state, "tasks")
        for task in tasks:
            entry_of(stored, task.name, prefix="tasks.")
        learner.restore(tasks, stored)
    return learner


def train_on(run: Run, learner: TaskTrainer, tasks: Sequence[TaskData]) -> tuple[Results, dict[str, Scores]]:
    """Train each decomposed task; resumes an interrupted run.

    Returns:
        The results after training, and the scores before it.
    """
    sha256 = learner.adapted.base.sha256
    saved: dict[str, Any] = run.restore(sha256) or {"untuned": {}, "rows": {}, "tasks": {}, "images": 0}
    untuned = entry_of(saved, "untuned") or {task.name: learner.test(task) for task in tasks}
    rows, learner.images = entry_of(saved, "rows"), entry_of(saved, "images", int)
    for name, state in entry_of(saved, "tasks").items():
        learner.fill(name, state)
    with progress_bar() as bar:
        shown = bar.add_task("compressed adapters", total=len(tasks), completed=len(rows), note="")
        for task in tasks:
            if task.name in rows:
                continue
            bar.update(shown, note=task.name)
            learner.train([task], lambda step, values: run.log(step, dict(values)))
            rows[task.name] = learner.test(task)
            states = {name: state for name, state in learner.state().items() if name in rows}
            run.save(
                learner.images, sha256, {"untuned": untuned, "rows": rows, "tasks": states, "images": learner.images}
            )
            bar.advance(shown)
    return Results([task.name for task in tasks], [{task.name: rows[task.name]} for task in tasks]), untuned


def compress(cfg: DictConfig) -> dict[str, Any]:
    """Compress a finished run and fine-tune; returns the content of `result.json`.

    Raises:
        FileNotFoundError: there is no finished run.
        ValueError: it cannot be compressed, or `out` holds another run.
    """
    source, config = Path(cfg.run), compressed_config(cfg)
    benchmark = make_benchmark(config)
    plan = make_plan(config, benchmark)
    tasks = choose_tasks(benchmark.tasks(Path(config.data)), list(config.tasks))
    learner = load_trained(source, config, plan, tasks)
    before: dict[str, Any] = read_run(source).result["per_task"]
    if lacking := [task.name for task in tasks if task.name not in before]:
        raise ValueError(f"{source / 'result.json'} has no scores of {', '.join(lacking)}; train the run again")
    for task in tasks:
        if not isinstance(before[task.name].get(task.score), int | float):
            raise ValueError(f"{source / 'result.json'} has no {task.score} of {task.name}; train the run again")
    decompose(learner, tasks, cfg.rank, cfg.shared)
    learner.plan = plan
    run = Run(Path(cfg.out), config, cfg.resume)
    try:
        with run.stopping_well(), run.taking_over():
            results, untuned = train_on(run, learner, tasks)
        result = {
            **summary(benchmark, plan, tasks, ProtocolResult(results, [learner])),
            "protocol": config.protocol,
            "seconds": run.seconds,
            "before": {task.name: before[task.name] for task in tasks},
            "untuned": untuned,
        }
        learner.adapted.save(run.path / "adapter")
        run.result(result)
    finally:
        run.close()
    write_report(run.path)
    return result
