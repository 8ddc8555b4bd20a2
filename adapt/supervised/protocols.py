"""Training protocols of multi-task benchmarks: single-task, sequential (continual), joint, and joint in two
stages: all at once in one network, then each alone on that network, frozen.

Every protocol is a loop over units (a task; all tasks at once) after each of which `save` is called with all that is
needed to go on; given that back, it goes on with the next unit. Tasks are known at test time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from adapt.benchmarks.benchmark import TaskData
from adapt.core.base import Base
from adapt.core.method import get_method
from adapt.supervised.features import FeatureStore
from adapt.supervised.learner import Log, TaskTrainer, TrainingPlan, knows_earlier
from adapt.supervised.results import Results, Scores
from adapt.training.state import Damaged, entry_of
from configs.names import nearest

Save = Callable[[dict[str, Any]], None]
Keep = Callable[[TaskTrainer, Sequence[TaskData]], None]


class Note(Protocol):
    """Progress callback."""

    def __call__(self, text: str) -> None:
        """Say what begins now."""


def _silent(text: str) -> None:
    """Say nothing."""


@dataclass
class Session:
    """Inputs of a protocol: benchmark, base, settings and run folder.

    Attributes:
        base: the frozen base.
        plan: how each task is trained.
        tasks: in their order.
        store: where the base's features are kept; None: nowhere.
        log: takes the training's numbers.
        save: takes the state after each unit.
        state: what `save` was last given, in a run that goes on.
        note: Progress callback.
        stage: how all tasks first train one network together, for the protocol `two_stage`.
        test: "all": after each task all tasks so far are tested; "own": only that one, and all after the last.
        rigidity: whether each task is, in an extra run, trained before all others.
        keep: in sequence, takes the learner and the tasks so far after each, before `save`.
    """

    base: Base
    plan: TrainingPlan
    tasks: Sequence[TaskData]
    store: FeatureStore | None = None
    log: Log | None = None
    save: Save = lambda state: None
    state: Mapping[str, Any] = field(default_factory=dict)
    note: Note = _silent
    stage: TrainingPlan | None = None
    test: str = "all"
    rigidity: bool = False
    keep: Keep | None = None

    def learner(self) -> TaskTrainer:
        """A learner without tasks."""
        return TaskTrainer(self.base, self.plan, self.store)

    def results(self) -> Results:
        """Results so far.

        Raises:
            Damaged: the state is not what `save` was given.
        """
        names = [task.name for task in self.tasks]
        if not self.state:
            return Results(names)
        saved = entry_of(self.state, "results")
        rows, first = entry_of(saved, "rows", list, "results."), entry_of(saved, "first", dict, "results.")
        if len(rows) > len(names):
            raise Damaged(f"results.rows has {len(rows)} rows for {len(names)} tasks")
        for key, scores in [*((f"rows.{i}.", row) for i, row in enumerate(rows)), ("first.", first)]:
            for task in scores if isinstance(scores, Mapping) else [""]:
                entry_of(entry_of(scores, task, Mapping, f"results.{key}"), "loss", float, f"results.{key}{task}.")
        return Results(names, list(rows), dict(first))

    def restored(self) -> Mapping[str, Any]:
        """The state of the tasks so far, by name."""
        saved: Mapping[str, Any] = entry_of(self.state, "tasks") if self.state else {}
        return saved


@dataclass
class ProtocolResult:
    """Results and trained tasks of a protocol.

    Attributes:
        results: of all tests.
        learners: what holds the tasks: one, or one per task.
        base: what the tasks are on, where that is another than the session's.
        earlier: training examples that were seen before these learners began.
    """

    results: Results
    learners: list[TaskTrainer]
    base: Base | None = None
    earlier: int = 0

    @property
    def images(self) -> int:
        """Training examples seen, all tasks together."""
        return self.earlier + sum(learner.images for learner in self.learners)

    def costs(self) -> dict[str, int]:
        """The sum of the learners' costs."""
        total: dict[str, int] = {}
        for learner in self.learners:
            for name, value in learner.costs().items():
                total[name] = total.get(name, 0) + value
        return total


def _state(results: Results, learners: Sequence[TaskTrainer]) -> dict[str, Any]:
    tasks = {name: saved for learner in learners for name, saved in learner.state().items()}
    images = sum(learner.images for learner in learners)
    return {"results": {"rows": results.rows, "first": results.first}, "tasks": tasks, "images": images}


def single(session: Session) -> ProtocolResult:
    """Transfer: every task alone on the base, tested on itself."""
    results, saved = session.results(), session.restored()
    learners = []
    for i, task in enumerate(session.tasks):
        learner = session.learner()
        learners.append(learner)
        if i < len(results.rows):
            learner.restore([task], saved)
            continue
        session.note(f"{task.name} ({i + 1} of {len(session.tasks)})")
        learner.add(task)
        learner.train([task], _offset(session.log, sum(other.images for other in learners)))
        results.rows.append({task.name: learner.test(task)})
        session.save(_state(results, learners))
    return ProtocolResult(results, learners)


def sequential(session: Session) -> ProtocolResult:
    """Incremental: one task after the other on one base; R[i][j] is task j's result after task i."""
    results, learner = session.results(), session.learner()
    done = len(results.rows)
    learner.restore(session.tasks[:done], session.restored())
    for i, task in enumerate(session.tasks[done:], done):
        session.note(f"{task.name} ({i + 1} of {len(session.tasks)})")
        learner.add(task)
        last = i == len(session.tasks) - 1
        learner.train([task], session.log, last)
        tested = session.tasks[: i + 1] if session.test == "all" or last else [task]
        results.rows.append({other.name: learner.test(other) for other in tested})
        if session.keep is not None:
            session.keep(learner, session.tasks[: i + 1])
        session.save(_state(results, [learner]))
    if session.rigidity:
        _train_first(session, results, learner)
    return ProtocolResult(results, [learner])


def _train_first(session: Session, results: Results, learner: TaskTrainer) -> None:
    """Give each task but the first its result when it is trained before all others.

    A method that never looks at earlier tasks trains exactly as in the sequence, so that needs no run.
    """
    repeats = knows_earlier(session.base, session.plan)
    for i, task in enumerate(session.tasks[1:], 1):
        if task.name in results.first:
            continue
        if repeats:
            session.note(f"{task.name} first ({i} of {len(session.tasks) - 1})")
            results.first[task.name] = trained_alone(session, task)
        else:
            results.first[task.name] = results.own()[task.name]
        session.save(_state(results, [learner]))


def trained_alone(session: Session, task: TaskData) -> Scores:
    """The result of a task that is trained on the base before all others."""
    learner = session.learner()
    learner.add(task)
    learner.train([task], last=False)
    return learner.test(task)


def joint(session: Session) -> ProtocolResult:
    """Simultaneous: all tasks at once, a batch of each in every step.

    Raises:
        ValueError: the settings give each task a network of its own.
    """
    _check_joint(session.plan)
    results, learner = session.results(), session.learner()
    if results.rows:
        learner.restore(session.tasks, session.restored())
        return ProtocolResult(results, [learner])
    session.note("all tasks")
    for task in session.tasks:
        learner.add(task)
    learner.train(session.tasks, session.log)
    results.rows.append({task.name: learner.test(task) for task in session.tasks})
    session.save(_state(results, [learner]))
    return ProtocolResult(results, [learner])


def _check_joint(plan: TrainingPlan) -> None:
    """Refuse a method whose settings would train unrelated networks."""
    for setting, value in get_method(plan.method).joint_settings.items():
        if plan.settings.get(setting) != value:
            raise ValueError(
                f"protocol=joint trains one network; add adapt.{setting}={str(value).lower()}, "
                f"or protocol=single for a network of each task's own"
            )


def two_stage(session: Session) -> ProtocolResult:
    """All tasks train one network together; then, as in `single`, each is learned on that network, frozen.

    The memory-efficient joint variant of TAPS (Wallingford et al., 2022): its second stage has readouts, lengths and a
    learning rate schedule of its own.

    Raises:
        ValueError: the base cannot be stored.
    """
    assert session.stage is not None
    if not session.base.spec.encoder:
        raise ValueError("protocol=two_stage stores the network of its first stage, and this base names no encoder")
    first, saved = TaskTrainer(session.base, session.stage, session.store), session.state.get("stage", {})
    first.restore(session.tasks, saved)
    if not saved:
        session.note("all tasks in one network")
        for task in session.tasks:
            first.add(task)
        first.train(session.tasks, session.log)
        saved = first.state()
        session.save({**_state(session.results(), []), "stage": saved, "images": first.images})
    trunk = first.adapted.merge(session.tasks[0].name).to(first.device)
    trunk.encoder.to(memory_format=torch.contiguous_format)

    def save(state: dict[str, Any]) -> None:
        session.save({**state, "stage": saved, "images": first.images + state["images"]})

    outcome = single(replace(session, base=trunk, save=save, log=_offset(session.log, first.images)))
    return ProtocolResult(outcome.results, outcome.learners, trunk, first.images)


def _offset(log: Log | None, images: int) -> Log | None:
    return None if log is None else lambda step, values: log(images + step, values)


PROTOCOLS: dict[str, Callable[[Session], ProtocolResult]] = {
    "single": single,
    "sequential": sequential,
    "joint": joint,
    "two_stage": two_stage,
}


def run_protocol(name: str, session: Session) -> ProtocolResult:
    """Run a protocol by its name.

    Raises:
        ValueError: there is no such protocol, or there are no tasks.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}{nearest(name, PROTOCOLS)}; choose from {', '.join(PROTOCOLS)}")
    if not session.tasks:
        raise ValueError("there is no task to train; name some with tasks=[...]")
    with torch.random.fork_rng(devices=[]):
        return PROTOCOLS[name](session)
