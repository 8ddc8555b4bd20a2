"""Runs of `adapt.train`: benchmark, base and training plan of a configuration, trained into a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from adapt.benchmarks.benchmark import Benchmark, TaskData, build_benchmark
from adapt.core.base import Base, load_base, save_base
from adapt.core.budget import stored_bits
from adapt.supervised.features import FeatureStore
from adapt.supervised.learner import TrainingPlan
from adapt.supervised.optimisation import OptimiserConfig, StageConfig, TrainingConfig, subset
from adapt.supervised.pictures import keeper
from adapt.supervised.protocols import ProtocolResult, Session, run_protocol
from adapt.supervised.report import write_report
from adapt.supervised.results import mean, shared_means
from adapt.training import distributed
from adapt.training.device import choose_device
from adapt.training.run import Run, progress_bar
from configs.names import nearest

TRUNK = "trunk.safetensors"  # In a run folder: the network that all tasks of a two-stage run have trained.


def make_benchmark(cfg: DictConfig) -> Benchmark:
    """The configured benchmark."""
    settings = _plain(cfg.benchmark)
    return build_benchmark(settings.pop("name"), **settings)


def make_plan(cfg: DictConfig, benchmark: Benchmark) -> TrainingPlan:
    """The training settings of each task.

    Raises:
        ValueError: a value is out of range, or unknown.
    """
    settings = _plain(cfg.adapt)
    return TrainingPlan(
        benchmark=benchmark,
        method=settings.pop("name"),
        settings=settings,
        training=TrainingConfig.from_settings(_plain(cfg.training)),
        optimiser=OptimiserConfig.from_settings(_plain(cfg.optimiser)),
        side_weights=None if cfg.side_weights is None else Path(cfg.side_weights),
        seed=cfg.seed,
        log_every=cfg.log_every,
    )


def make_stage(cfg: DictConfig, plan: TrainingPlan) -> TrainingPlan:
    """The settings of the joint first stage of `protocol=two_stage`.

    Raises:
        ValueError: a value is out of range, or unknown.
    """
    stage = StageConfig.from_settings(_plain(cfg.stage))
    training = replace(plan.training, length=stage.length, batch=stage.batch)
    optimiser = replace(plan.optimiser, lr=stage.lr, schedule=stage.schedule, nesterov=stage.nesterov)
    return replace(plan, method="fine_tune", settings={"shared": True}, training=training, optimiser=optimiser)


def make_base(cfg: DictConfig, benchmark: Benchmark) -> Base:
    """The configured base, as the benchmark uses it, on the configured device."""
    return benchmark.prepare(load_base(cfg.base.name)).to(choose_device(cfg.device))


def run_base(run: Path, cfg: DictConfig, benchmark: Benchmark) -> Base:
    """The base that the tasks of a finished run are on: the configured one, or what its first stage made of it."""
    trunk = run / TRUNK
    return load_base(trunk).to(choose_device(cfg.device)) if trunk.is_file() else make_base(cfg, benchmark)


def choose_tasks(tasks: Sequence[TaskData], names: Sequence[str]) -> list[TaskData]:
    """The named tasks in the order of the names; all if there are no names.

    Raises:
        ValueError: a task that the benchmark does not have, or one named twice.
    """
    known = {task.name: task for task in tasks}
    if len(set(names)) < len(names):
        raise ValueError(f"tasks=[{','.join(names)}] names a task twice")
    for name in names:
        if name not in known:
            raise ValueError(f"tasks: there is no task {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(tasks)


def summary(
    benchmark: Benchmark, plan: TrainingPlan, tasks: Sequence[TaskData], outcome: ProtocolResult
) -> dict[str, Any]:
    """The content of `result.json`."""
    results = outcome.results
    final, rigidity = results.final(), results.rigidity()
    per_task: dict[str, dict[str, float]] = {name: dict(scores) for name, scores in final.items()}
    for name, growth in results.forgetting().items():
        per_task[name]["forgetting"] = growth
    for name, ratio in rigidity.items():
        per_task[name]["rigidity"] = ratio
    measures = {name: values for learner in outcome.learners for name, values in learner.measures().items()}
    for name, values in measures.items():
        per_task[name].update(values)
    growths = list(results.forgetting().values())
    spec = outcome.learners[0].adapted.base.spec
    return {
        "benchmark": benchmark.name(),
        "method": plan.method,
        "tasks": results.tasks,
        "score": {task.name: task.score for task in tasks},
        "higher_is_better": {task.name: task.higher_is_better for task in tasks},
        **shared_means(final),
        **benchmark.summarise(final),
        "per_task": per_task,
        # The last task has had no time to be forgotten.
        "forgetting": mean(growths[:-1]) if len(results.rows) > 1 else 0.0,
        "forgetting_largest": max(map(abs, growths)),
        "rigidity": mean(list(rigidity.values())[1:]) if len(rigidity) == len(tasks) > 1 else None,
        **shared_means(measures),
        **outcome.costs(),
        "model_size": model_size(outcome),
        "encoder": spec.encoder,
        "base_width": spec.kwargs.get("width", 1.0),
        "pretraining": spec.task,
        "images": outcome.images,
        "matrix": {name: results.matrix(name) for name in shared_means(final)},
        "first": results.first,
    }


def model_size(outcome: ProtocolResult) -> float | None:
    """Stored bits of all tasks and, where one of them needs it, of the base, over those of the base.

    None for a base without weights. Readouts do not count.
    """
    adapted = [learner.adapted for learner in outcome.learners]
    base = stored_bits(adapted[0].base.encoder.state_dict())
    needed = any(each.method(task).needs_base for each in adapted for task in each.tasks)
    return (outcome.costs()["bits"] + needed * base) / base if base else None


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train as configured; returns the content of `result.json`.

    The folder holds what `adapt.training.run.Run` says, the tasks without the base in `adapter/`, predictions in
    `pictures/` where they were asked for, and the report.

    Raises:
        ValueError: a setting is wrong, or the folder holds another run.
        OSError: data, weights or the folder cannot be read or written.
    """
    benchmark = make_benchmark(cfg)
    plan = make_plan(cfg, benchmark)
    base = make_base(cfg, benchmark)
    tasks = choose_tasks(benchmark.tasks(Path(cfg.data)), list(cfg.tasks))
    stage = make_stage(cfg, plan) if cfg.protocol == "two_stage" else None
    keep = keeper(Path(cfg.run), cfg.pictures, tasks)
    total = sum(expected_images(each, tasks) for each in (plan, stage) if each)
    run = Run(Path(cfg.run), cfg, cfg.resume)
    try:
        state = run.restore(base.sha256) or {}
        with progress_bar() as bar:
            shown = bar.add_task(f"{benchmark.name()} {plan.method}", total=total, note="")

            def log(images: int, values: Mapping[str, float]) -> None:
                run.log(images, dict(values))
                bar.update(shown, completed=images)

            session = Session(
                base=base,
                plan=plan,
                tasks=tasks,
                store=None if cfg.cache == "none" else FeatureStore(Path(cfg.cache)),
                log=log,
                save=lambda kept: _save(run, base, kept),
                state=state,
                stage=stage,
                note=lambda text: bar.update(shown, note=text),
                test=cfg.test,
                rigidity=cfg.rigidity,
                keep=keep,
            )
            with run.stopping_well(), run.taking_over():
                outcome = run_protocol(cfg.protocol, session)
        result = {**summary(benchmark, plan, tasks, outcome), "protocol": cfg.protocol, "seconds": run.seconds}
        if outcome.base is not None and distributed.is_first():
            save_base(outcome.base, run.path / TRUNK, torch.float32)
        for learner in outcome.learners if distributed.is_first() else []:
            folder = run.path / "adapter"
            learner.adapted.save(folder if len(outcome.learners) == 1 else folder / learner.adapted.active)
        run.result(result)
    finally:
        run.close()
    if distributed.is_first():
        write_report(run.path)
    return result


def expected_images(plan: TrainingPlan, tasks: Sequence[TaskData]) -> int:
    """About how many training examples all tasks will see, for the progress bar.

    Raises:
        ValueError: the length of the training cannot be read.
    """
    counts = [len(subset(len(task.train), plan.training.examples, plan.seed)) for task in tasks]  # type: ignore[arg-type]
    return sum(plan.training.steps(count, plan.benchmark.lengths) for count in counts) * plan.training.batch


def _save(run: Run, base: Base, state: dict[str, Any]) -> None:
    """A checkpoint, with the newest test results as metrics; a resumed run drops metrics beyond its checkpoint."""
    for row in state["results"]["rows"][-1:]:
        run.log(
            state["images"],
            {f"test/{task}/{name}": value for task, scores in row.items() for name, value in scores.items()},
        )
    run.save(state["images"], base.sha256, state)
