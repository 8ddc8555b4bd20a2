"""iCIFAR on few images: the protocols, what forgets and what cannot, resuming, the command's errors."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniatures import cifar100, cifar100_official
from pictures import residuals
from torchvision.datasets import CIFAR100

from adapt import Base, Incompatible, load, load_base, wrap
from adapt.benchmarks.benchmark import TaskData, Tensors, build_benchmark
from adapt.compare import main as compare_main
from adapt.core.base import random_base
from adapt.datasets.cifar import read_cifar100
from adapt.supervised.comparison import curves
from adapt.supervised.finished import Finished
from adapt.supervised.learner import TaskTrainer, TrainingPlan, knows_earlier
from adapt.supervised.optimisation import OptimiserConfig, TrainingConfig
from adapt.supervised.protocols import Session, run_protocol, trained_alone
from adapt.supervised.runs import train
from adapt.train import main
from adapt.training.files import to_json
from configs.compose import compose

TASKS = ["classes_0_9", "classes_10_19", "classes_20_29"]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 25 training and 10 test images of each of 100 classes."""
    return cifar100(tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="module")
def tasks(cifar: Path) -> list[TaskData]:
    return list(build_benchmark("icifar").tasks(cifar))


@pytest.fixture
def base() -> Base:
    return random_base("fcn4")


def plan(method: str, length: str = "3 steps", **settings: Any) -> TrainingPlan:
    training = TrainingConfig(length, batch=50, test_batch=50)
    return TrainingPlan(build_benchmark("icifar"), method, settings, training, OptimiserConfig(lr=1e-2, clip=1.0))


def small(task: TaskData, count: int) -> Tensors:
    assert isinstance(task.train, Tensors)
    return task.train if count == 0 else Tensors(task.train.inputs[:count], task.train.targets[:count])


class TestData:
    def test_tasks_are_the_classes_in_order(self, tasks: list[TaskData], cifar: Path) -> None:
        assert [task.name for task in tasks][:3] == TASKS
        assert len(tasks) == 10
        with np.load(cifar / "cifar100.npz") as file:
            first = file["y"][~file["is_test"].astype(bool)]
        third = tasks[2].train
        assert isinstance(third, Tensors)
        assert len(third) == 250
        assert len(tasks[2].test) == 100  # type: ignore[arg-type]
        assert np.array_equal(third.targets, first[(first >= 20) & (first < 30)] - 20)  # type: ignore[arg-type]
        assert third.inputs.shape == (250, 3, 32, 32)
        assert len({task.identity for task in tasks}) == 10

    def test_all_layouts_hold_the_same(self, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with np.load(cifar / "cifar100.npz") as file:
            x, y, test = (file[name][:300] for name in ("x", "y", "is_test"))
        folders = {name: tmp_path / name for name in ("plain", "packed", "official")}
        for folder in folders.values():
            folder.mkdir()
        np.savez(folders["plain"] / "cifar100.npz", x=x, y=y, is_test=test)
        payload = np.frombuffer(lzma.compress(residuals(x).tobytes(), preset=0), np.uint8)
        np.savez(folders["packed"] / "cifar100_a.medl.npz", payload=payload, shape=(300, 3, 32, 32), y=y, is_test=test)
        official, sums = folders["official"], cifar100_official(folders["official"], x, y, test)
        for part, files in (("train", CIFAR100.train_list), ("test", CIFAR100.test_list)):
            monkeypatch.setattr(CIFAR100, f"{part}_list", [[files[0][0], sums[part]]])
        monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
        plain, *others = (read_cifar100(folder) for folder in folders.values())
        assert plain is not None and np.array_equal(plain[1].images.numpy().transpose(0, 2, 3, 1), x[test])
        for found in others:
            assert found is not None
            for part, wanted in zip(found, plain, strict=True):
                assert torch.equal(part.images, wanted.images) and torch.equal(part.labels, wanted.labels)
        (official / "cifar-100-python" / "test").write_bytes(b"half of it")
        with pytest.raises(ValueError, match="incomplete or damaged; unpack the archive again"):
            read_cifar100(official)

    def test_boosting_repeats_one_task(self, cifar: Path) -> None:
        boosted = build_benchmark("icifar", boosting=True).tasks(cifar)
        assert len({task.identity for task in boosted}) == 1
        assert len({task.name for task in boosted}) == 10

    def test_features_are_standardised_before_the_readout(self, tasks: list[TaskData]) -> None:
        readout = build_benchmark("icifar").readout((64,), tasks[0])
        features = torch.randn(5, 64)
        assert torch.allclose(readout(features), readout(7 * features), atol=1e-4)

    def test_absent_classes_are_named(self, tmp_path: Path) -> None:
        arrays = {"x": np.zeros((4, 32, 32, 3), np.uint8), "y": np.arange(4), "is_test": np.array([0, 0, 1, 1])}
        np.savez(tmp_path / "cifar100.npz", **arrays)
        with pytest.raises(ValueError, match="no images of the classes 10 to 19"):
            build_benchmark("icifar").tasks(tmp_path)
        np.savez(tmp_path / "cifar100.npz", x=arrays["x"], y=arrays["y"])
        with pytest.raises(ValueError, match="has no is_test"):
            build_benchmark("icifar").tasks(tmp_path)


class TestProtocols:
    @pytest.mark.parametrize(
        ("method", "settings"),
        [
            ("features", {}),
            ("side_tuning", {"side": "fcn4", "width": 1.0, "merge": "mlp2"}),
            ("side_tuning", {"side": "fcn4", "width": 0.5, "dense": True}),
            ("bn", {}),
            ("fine_tune", {}),
        ],
    )
    def test_additive_methods_forget_nothing_to_the_last_bit(
        self, method: str, settings: dict[str, Any], base: Base, tasks: list[TaskData]
    ) -> None:
        if method == "bn":
            base = random_base("resnet26", width=0.125)
        before = base.sha256
        outcome = run_protocol("sequential", Session(base, plan(method, **settings), tasks[:3]))
        assert set(outcome.results.forgetting().values()) == {0.0}
        assert set(outcome.results.forgetting("accuracy").values()) == {0.0}
        assert Base(base.encoder, base.spec).sha256 == before

    def test_one_fine_tuned_network_forgets(self, base: Base, tasks: list[TaskData]) -> None:
        outcome = run_protocol("sequential", Session(base, plan("fine_tune", "10 passes", shared=True), tasks[:2]))
        first = np.array(outcome.results.matrix("accuracy"))[:, 0]
        assert first[0] > 0.7, "the first task is learned (chance is 0.1)"
        assert first[1] < first[0] - 0.1
        assert outcome.results.forgetting()[TASKS[0]] > 0.1
        costs = outcome.costs()
        assert costs["parameters"] == sum(p.numel() for p in base.encoder.parameters())
        assert costs["head_parameters"] == 2 * 650

    def test_positions_do_not_matter_to_methods_that_ignore_earlier_tasks(
        self, base: Base, tasks: list[TaskData]
    ) -> None:
        chosen = plan("side_tuning", side="fcn4", width=0.5)
        session = Session(base, chosen, tasks[:2], rigidity=True)
        results = run_protocol("sequential", session).results
        assert results.first[TASKS[1]] == trained_alone(session, tasks[1])
        assert results.rigidity() == {TASKS[0]: 0.0, TASKS[1]: 0.0}

    @pytest.mark.parametrize(
        ("method", "settings", "knows"),
        [
            ("side_tuning", {"side": "fcn4", "width": 0.5}, False),
            ("side_tuning", {"side": "fcn4", "width": 0.5, "dense": True}, True),
            ("fine_tune", {}, False),
            ("fine_tune", {"shared": True}, True),
            ("ewc", {}, True),
            ("psp", {}, True),
            ("piggyback", {}, False),
            ("taps", {"norm": "frozen"}, False),
        ],
    )
    def test_who_looks_at_earlier_tasks(self, method: str, settings: dict[str, Any], knows: bool, base: Base) -> None:
        assert knows_earlier(base, plan(method, **settings)) is knows

    def test_rigidity_of_shared_weights_takes_extra_runs(self, base: Base, tasks: list[TaskData]) -> None:
        session = Session(base, plan("ewc", "5 steps"), tasks[:2], rigidity=True)
        results = run_protocol("sequential", session).results
        assert results.first[TASKS[1]] != results.own()[TASKS[1]]
        assert results.rigidity()[TASKS[1]] != 0.0

    def test_single_tasks_do_not_meet(self, base: Base, tasks: list[TaskData]) -> None:
        session = Session(base, plan("fine_tune", shared=True), tasks[:2])
        outcome = run_protocol("single", session)
        assert len(outcome.learners) == 2
        assert outcome.results.final()[TASKS[1]] == trained_alone(session, tasks[1])

    def test_another_seed_gives_other_numbers(self, base: Base, tasks: list[TaskData]) -> None:
        def scores(seed: int) -> dict[str, float]:
            session = Session(base, replace(plan("features"), seed=seed), tasks[:1])
            return run_protocol("single", session).results.final()[TASKS[0]]

        assert scores(0) == scores(0)
        assert len({scores(seed)["loss"] for seed in (0, 1, 2)}) == 3
        # Generators of the CPU take the lowest 32 bits of a seed.
        assert len({replace(plan("features"), seed=s).task_seed("a") % 2**32 for s in (0, 1, 2, 2**31 - 1)}) == 4

    def test_joint_training_learns_all_tasks_at_once(self, base: Base, tasks: list[TaskData]) -> None:
        outcome = run_protocol("joint", Session(base, plan("fine_tune", "12 passes", shared=True), tasks[:2]))
        assert all(scores["accuracy"] > 0.7 for scores in outcome.results.final().values())
        assert outcome.learners[0].images == 2 * 12 * 250

    def test_a_method_that_starts_anew_gets_a_new_optimiser(
        self, tasks: list[TaskData], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learner = TaskTrainer(random_base("resnet26", width=0.125), plan("adashare", "4 steps", search_samples=100))
        made: list[int] = []
        original = TaskTrainer._optimiser

        def counted(self: TaskTrainer, tasks: list[TaskData]) -> torch.optim.Optimizer:
            made.append(self.images)
            return original(self, tasks)

        monkeypatch.setattr(TaskTrainer, "_optimiser", counted)
        learner.add(tasks[0])
        learner.train([tasks[0]])
        assert made == [0, 100]

    def test_dense_sides_take_part_but_stay(self, base: Base, tasks: list[TaskData]) -> None:
        learner = TaskTrainer(base, plan("side_tuning", side="fcn4", width=0.5, dense=True))
        learner.add(tasks[0])
        learner.add(tasks[1])
        first, second = (learner.adapted.method(name) for name in TASKS[:2])
        assert not {id(p) for p in first.parameters()} & {id(p) for p in second.trainable()}
        images = small(tasks[0], 4).inputs
        learner.eval()
        before = learner.adapted(images, task=TASKS[1])
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.mul_(2)
        assert not torch.allclose(before, learner.adapted(images, task=TASKS[1]))

    def test_side_alone_ignores_the_base(self, base: Base, tasks: list[TaskData]) -> None:
        adapted = wrap(base, "side_tuning", image_size=32, side="fcn4", width=1.0, merge="side").eval()
        images = small(tasks[0], 4).inputs
        assert torch.equal(adapted(images), adapted(images, torch.zeros(4, 64)))

    @pytest.mark.parametrize(("name", "last"), [("torchvision/mobilenet_v2", True), ("fcn4", False)])
    def test_images_for_depthwise_convolutions_lie_channels_last(
        self, name: str, last: bool, tasks: list[TaskData]
    ) -> None:
        learner = TaskTrainer(load_base(f"random/{name}"), plan("piggyback"))
        learner.add(tasks[0])
        learner.eval()
        images, seen = small(tasks[0], 4).inputs, []
        learner.adapted.method().register_forward_pre_hook(lambda method, arguments: seen.append(arguments[0]))
        with torch.no_grad():
            outputs = learner.outputs(tasks[0], images, None)
            plain = learner.readouts[TASKS[0]](learner.adapted(images))
        given, contiguous = seen
        assert given.is_contiguous(memory_format=torch.channels_last) == last
        assert torch.equal(given, images) and contiguous is images
        assert torch.allclose(outputs, plain, atol=1e-3)

    def test_unknown_protocols_and_no_tasks_are_refused(self, base: Base, tasks: list[TaskData]) -> None:
        with pytest.raises(ValueError, match="did you mean 'sequential'"):
            run_protocol("sequental", Session(base, plan("features"), tasks))
        with pytest.raises(ValueError, match="no task to train"):
            run_protocol("single", Session(base, plan("features"), []))


def words(cifar: Path, run: Path, *more: str) -> list[str]:
    return [
        "benchmark=icifar",
        "base=random",
        "base.name=random/fcn4",
        f"data={cifar}",
        f"run={run}",
        f"cache={run.parent / 'features'}",
        f"tasks=[{','.join(TASKS)}]",
        "training.batch=50",
        "training.length=200 images",
        *more,
    ]


class TestCommand:
    def test_run_folder_and_comparison(
        self, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        side = words(cifar, tmp_path / "runs" / "side", "adapt=side_tuning", "rigidity=true")
        features = words(cifar, tmp_path / "runs" / "features", "adapt=features", "rigidity=true")
        result = train(compose("supervised", side))
        train(compose("supervised", features))
        folder = tmp_path / "runs" / "side"
        stored = json.loads((folder / "result.json").read_text())
        assert stored == json.loads(to_json(result))
        expected = {"accuracy", "per_task", "forgetting", "rigidity", "parameters", "bits"}
        assert expected <= stored.keys()
        assert stored["forgetting"] == stored["forgetting_largest"] == stored["rigidity"] == 0.0
        assert stored["parameters"] == 3 * (25_904 + 1)
        assert stored["bits"] == 32 * stored["parameters"]
        assert stored["accuracy"] == pytest.approx(np.mean([t["accuracy"] for t in stored["per_task"].values()]))
        assert all(0 < t["alpha"] < 1 for t in stored["per_task"].values())
        names = {"config.yaml", "versions.json", "metrics.jsonl", "tb", "result.json", "report.html", "report.md"}
        assert names | {"adapter", "checkpoints"} <= {file.name for file in folder.iterdir()}
        adapted = load(load_base("random/fcn4"), folder / "adapter")
        assert adapted.tasks == TASKS
        monkeypatch.setattr("sys.argv", ["x", f"run={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"])
        compare_main()
        table = capsys.readouterr().out
        assert "| side |" in table
        assert "| features |" in table
        page = (tmp_path / "out" / "comparison.md").read_text()
        assert "Rank correlation" in page
        assert (tmp_path / "out" / "comparison.html").is_file()

    @pytest.mark.parametrize("method", ["adapt=side_tuning", "adapt=ewc"])
    def test_a_killed_run_goes_on_as_if_nothing_happened(
        self, method: str, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = train(compose("supervised", words(cifar, tmp_path / "whole", method, "rigidity=true")))
        killed = words(cifar, tmp_path / "killed", method, "rigidity=true")
        trained: list[str] = []
        original = TaskTrainer.train

        def dies(self: TaskTrainer, tasks: list[TaskData], *more: Any, **named: Any) -> None:
            if len(trained) == 2:
                trained.clear()
                raise KeyboardInterrupt
            trained.append(tasks[0].name)
            original(self, tasks, *more, **named)

        monkeypatch.setattr(TaskTrainer, "train", dies)
        with pytest.raises(KeyboardInterrupt):
            train(compose("supervised", killed))
        with pytest.raises(ValueError, match="already holds a run"):
            train(compose("supervised", killed))
        if method == "adapt=ewc":  # again, in the extra runs of rigidity
            with pytest.raises(KeyboardInterrupt):
                train(compose("supervised", [*killed, "resume=true"]))
        monkeypatch.setattr(TaskTrainer, "train", original)
        resumed = train(compose("supervised", [*killed, "resume=true"]))
        for result in (whole, resumed):
            result.pop("seconds")
        assert resumed == whole

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["adapt=sidetuning"], "did you mean 'side_tuning'"),
            (["protocol=sequental"], "did you mean 'sequential'"),
            (["training.length=3 epochs"], "training.length: write <number>"),
            (["training.batch=0"], "training.batch must be between 1"),
            (["optimiser.name=adm"], "did you mean 'adam'"),
            (["tasks=[clases_0_9]"], "did you mean 'classes_0_9'"),
            (["tasks=[classes_0_9,classes_0_9]"], "names a task twice"),
            (["data=/nowhere"], "/nowhere is absent; icifar expects"),
            (["adapt=features", "side_weights=/nowhere.pt"], "the method is features"),
            (["side_weights=/nowhere.pt"], "no weights at /nowhere.pt"),
            (["base=resnet44"], "add base.weights=<file>"),
            (["resume=true"], "holds no run to resume"),
            (["device=tpu"], "device must be cpu, cuda or auto"),
            (["test=some"], "test must be one of all, own"),
            (["seed=5000000000"], "seed must be between 0 and 2,147,483,647"),
        ],
    )
    def test_bad_input_is_one_line(
        self,
        more: list[str],
        said: str,
        cifar: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        overridden = {word.split("=")[0] for word in more}
        given = [word for word in words(cifar, tmp_path / "x") if word.split("=")[0] not in overridden]
        if "base" in overridden:
            given = [word for word in given if not word.startswith("base.name=")]
        monkeypatch.setattr("sys.argv", ["adapt.train", *given, *more])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert said in error
        assert "Traceback" not in error
        assert len(error.strip().splitlines()) == 1 or "expects" in said

    def test_a_method_that_makes_no_sense_says_so(self, cifar: Path, tmp_path: Path) -> None:
        with pytest.raises(Incompatible, match="residual blocks"):
            train(compose("supervised", words(cifar, tmp_path / "x", "adapt=adashare")))


def finished(path: str, **result: Any) -> Finished:
    kinds = {"score": {"real": "accuracy"}, "higher_is_better": {"real": True}}
    return Finished(Path(path), {**kinds, **result}, {}, {})


@pytest.mark.parametrize(("rigidity", "panels"), [(None, 1), (0.5, 2)])
def test_rigidity_is_drawn_only_where_it_was_measured(rigidity: float | None, panels: int) -> None:
    per_task: dict[str, dict[str, float]] = {"a": {"rigidity": 0.0}, "b": {}}
    matrix = {"loss": [[1.0, None], [1.5, 2.0]]}
    run = finished("a", matrix=matrix, per_task=per_task, rigidity=rigidity, tasks=["a", "b"])
    assert len(curves({"a": [run]}).axes) == panels
