"""NaN and infinity stop every training before they are taken up, and are neither saved nor evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from rooms import simple_place
from test_pretrain import write
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import wrap
from adapt.benchmarks.benchmark import Accuracy, TaskData, Tensors, build_benchmark
from adapt.core.base import random_base, save_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import TaskDecoder
from adapt.pretraining.distillation import match
from adapt.pretraining.encoder import Pretraining, PretrainSettings, fit
from adapt.pretraining.readouts import ReadoutSettings, fit_readout
from adapt.supervised.learner import TaskTrainer, TrainingPlan
from adapt.supervised.optimisation import OptimiserConfig, TrainingConfig
from adapt.training.files import to_json
from adapt.training.finite import NotFinite, blame, check_finite, clip_finite
from adapt.training.run import Run, list_checkpoints, load_checkpoint
from agents.evaluate import load_policy
from agents.learners.bc import BehaviourCloning
from agents.learners.learner import learners
from agents.learners.ppo import PPOLearner, make_ppo
from agents.learners.recorded import record
from agents.policies.observations import GOAL
from agents.setup import Scenes, make_visual_encoder
from configs.compose import compose
from envs.pointnav.vec_env import PointNavVecEnv

ROOM = ["env.camera.size=32", "env.task.max_steps=30", "env.agents=4", "device=cpu"]
SMALL = [*ROOM, "base=random", "policy.hidden=[16]", "policy.frames=2", "adapt.width=0.25"]


@pytest.fixture
def one_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents live in a room that takes no time to build."""

    def places(*_: object, **__: object) -> Scenes:
        return [simple_place(6)]

    for module in ("agents.learners.recorded", "agents.learners.sb3_training"):
        monkeypatch.setattr(f"{module}.make_scenes", places)


# -- the guard itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [0.5, 0.0])
def test_a_finite_update_is_clipped_as_torch_clips_it(largest: float) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(8, 4)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    loss = torch.tensor(3.25)
    assert clip_finite("update 1", loss, ours.parameters(), largest) == 3.25
    if largest:
        nn.utils.clip_grad_norm_(theirs.parameters(), largest)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named(wrong: float) -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[1.0, 2.0]])
    data = {"pictures": np.zeros((2, 3), np.uint8), "features": torch.tensor([1.0, wrong])}
    with pytest.raises(NotFinite, match=r"^update 7: the data is not finite in features \(1 of 2 numbers\)$"):
        clip_finite("update 7", torch.tensor(wrong), layer.parameters(), 1.0, partial(dict, data))
    with pytest.raises(NotFinite, match=rf"^update 7: the loss is {wrong}$"):
        clip_finite("update 7", torch.tensor(wrong), layer.parameters())
    layer.weight.grad[0, 1] = wrong
    with pytest.raises(NotFinite, match=r"^update 7: the gradient's norm is"):
        clip_finite("update 7", torch.tensor(1.0), layer.parameters())
    assert layer.weight.grad[0, 0] == 1.0  # not clipped
    assert blame({"numbers": torch.arange(3)}) == ""
    with pytest.raises(NotFinite, match=r"state\.a\.1\.b is not finite \(1 of 2 numbers\)"):
        check_finite({"a": [1, {"b": torch.tensor([0.0, wrong])}], "rng": 2**120}, "state")


def test_json_has_null_for_what_is_undefined() -> None:
    values = {"a": [float("nan"), 1.5], "b": (float("inf"), {"c": -np.inf, "d": np.float64("nan")}), "e": "NaN"}
    text = to_json(values)
    read = json.loads(text, parse_constant=pytest.fail)
    assert read == {"a": [None, 1.5], "b": [None, {"c": None, "d": None}], "e": "NaN"}


# -- every training loop --------------------------------------------------------------------------------------------


def cloning(tmp_path: Path, spoil: Callable[[Path], None], *more: str) -> Callable[[], object]:
    """Behaviour cloning from 1,024 recorded frames, of which something is spoiled first."""
    data, run = tmp_path / "data", tmp_path / "run"
    record(compose("collect", [*ROOM, "frames=1024", f"out={data}"]), data)
    words = ["algo=bc", f"algo.data={data}", "algo.updates=200", "algo.learner.batch_size=32"]
    cfg = compose(
        "train", [*SMALL, *words, "algo.learner.window=4", "save_every=1", "log_every=1", f"run={run}", *more]
    )
    spoil(data)

    def train() -> object:
        opened = Run(run, cfg, False)
        try:
            with opened.stopping_well():
                return BehaviourCloning().train(cfg, opened)
        finally:
            opened.close()

    return train


def set_array(file: Path, at: tuple[object, ...], value: float) -> None:
    array = np.lib.format.open_memmap(file, "r+")
    array[at] = value
    array.flush()


def test_one_nan_in_recorded_frames_stops_cloning_and_keeps_the_last_good_checkpoint(
    one_room: None, tmp_path: Path
) -> None:
    file = tmp_path / "data" / f"{GOAL}.npy"
    train = cloning(tmp_path, lambda data: set_array(file, (2, 100, 0), np.nan))
    with pytest.raises(NotFinite) as stopped:
        train()
    update = len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) + 1
    files = list_checkpoints(tmp_path / "run")
    assert update > 1
    assert str(stopped.value).startswith(f"update {update}: the data is not finite in {file} (")
    assert str(stopped.value).endswith(f"the last good checkpoint is {files[-1]}")
    state = torch.load(files[-1], weights_only=True)
    assert state["step"] == update - 1
    check_finite(state, "the checkpoint")
    load_policy(tmp_path / "run")


def test_features_that_overflow_half_precision_are_named(one_room: None, tmp_path: Path) -> None:
    base = random_base("fcn5")
    with torch.no_grad():
        [norm for norm in base.encoder.modules() if isinstance(norm, nn.GroupNorm)][-1].weight.mul_(1e7)
    save_base(base, tmp_path / "large.safetensors", torch.float32)
    words = [f"base.name={tmp_path / 'large.safetensors'}"]
    with pytest.raises(
        NotFinite, match=r"^update 1: the data is not finite in \S*/data/features_\w*\.npy .* no checkpoint"
    ):
        cloning(tmp_path, lambda data: None, *words)()


def test_weights_that_overflow_are_not_saved_and_the_good_ones_stay(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", compose("train", ["run=none"]), False)
    for step in (1, 2):
        run.save(step, "base", {"policy": {"w": torch.ones(2)}})
    with pytest.raises(NotFinite, match=r"after step 3 the state\.policy\.w is not finite"):
        run.save(3, "base", {"policy": {"w": torch.tensor([1.0, torch.inf])}})
    run.close()
    assert [f.name for f in list_checkpoints(tmp_path / "run")] == ["step_0000000001.pt", "step_0000000002.pt"]
    assert not [f.name for f in (tmp_path / "run/checkpoints").iterdir() if f.name.startswith(".")]
    # One that an older version kept is refused where it is read.
    old = tmp_path / "old.pt"
    torch.save({"policy": {"w": torch.tensor([torch.nan])}, "base_sha256": "b", "step": 1, "seconds": 1.0}, old)
    with pytest.raises(NotFinite, match=r"old\.pt: its content\.policy\.w is not finite .* delete it"):
        load_checkpoint(old, "b")


def acting(tmp_path: Path, *words: str) -> tuple[DictConfig, Run]:
    run = tmp_path / "run"
    words = ("algo=ppo", "algo.steps=64", "algo.rollout=4", "algo.learner.batch_size=8", "policy.frames=1", *words)
    cfg = compose("train", [*SMALL, *words, "save_every=1", f"run={run}"])
    return cfg, Run(run, cfg, False)


def test_ppo_names_observations_that_are_not_numbers(
    one_room: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, run = acting(tmp_path)
    step = PointNavVecEnv.step_wait

    def spoiled(env: PointNavVecEnv) -> object:
        result = step(env)
        spoiled.calls += 1  # type: ignore[attr-defined]
        if spoiled.calls == 10:  # type: ignore[attr-defined]
            result[0][GOAL][1] = np.nan
        return result

    spoiled.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(PointNavVecEnv, "step_wait", spoiled)
    with run.stopping_well(), pytest.raises(NotFinite, match=rf"after step 40: .* observation {GOAL} \(2 of 8 numbers"):
        PPOLearner().train(cfg, run)
    run.close()
    assert [f.name for f in list_checkpoints(tmp_path / "run")] == ["step_0000000016.pt", "step_0000000032.pt"]


REPLAYED = [
    "algo.steps=96",
    "algo.learner.learning_starts=8",
    "algo.learner.batch_size=8",
    "algo.learner.buffer_size=64",
]
ROLLED = ["algo.steps=96", "algo.rollout=4", "algo.learner.batch_size=8"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["trpo", "dqn"])
def test_rewards_that_are_not_finite_are_not_learned_from(
    one_room: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: float
) -> None:
    """DQN's loss bounds the gradient of an infinite reward, TRPO makes steps without the optimiser."""
    run = tmp_path / "run"
    own = ROLLED if name == "trpo" else REPLAYED
    cfg = compose("train", [*SMALL, f"algo=sb3/{name}", *own, "policy.frames=1", "save_every=1", f"run={run}"])
    opened, step, calls = Run(run, cfg, False), PointNavVecEnv.step_wait, []

    def spoiled(env: PointNavVecEnv) -> object:
        result = step(env)
        calls.append(1)
        if len(calls) == 10:
            result[1][1] = wrong
        return result

    monkeypatch.setattr(PointNavVecEnv, "step_wait", spoiled)
    with (
        opened.stopping_well(),
        pytest.raises(NotFinite, match=r"after step \d+: the data is not finite in reward \(1 of"),
    ):
        learners.get(f"sb3/{name}")().train(cfg, opened)
    opened.close()
    files = list_checkpoints(run)
    assert files and all(load_checkpoint(file, None) for file in files)


def test_ppo_stops_before_a_step_with_a_gradient_that_is_not_finite(one_room: None, tmp_path: Path) -> None:
    cfg, run = acting(tmp_path)
    run.close()
    model = make_ppo(cfg, make_visual_encoder(cfg))
    before = [p.detach().clone() for p in model.policy.parameters()]
    for parameter in model.policy.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan) if parameter.requires_grad else None
    with pytest.raises(NotFinite, match="after step 0: the gradient's norm is nan"):
        model.policy.optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.policy.parameters(), before, strict=True))


def supervised(loss: Callable[[Tensor, Tensor], Tensor], **optimiser: float) -> tuple[TaskTrainer, TaskData]:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=random, dtype=torch.uint8)
    data = Tensors(images, torch.randint(0, 3, (24,), generator=random))
    task = TaskData("colours", data, data, 3, loss, Accuracy, "accuracy")
    plan = TrainingPlan(
        benchmark=build_benchmark("icifar"),
        method="side_tuning",
        settings={"width": 0.25},
        training=TrainingConfig("6 steps", batch=8),
        optimiser=OptimiserConfig(**optimiser),
    )
    learner = TaskTrainer(random_base("fcn4", seed=1), plan)
    learner.add(task)
    return learner, task


def test_supervised_training_stops_before_the_step() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        value = F.cross_entropy(outputs, targets)
        loss.calls += 1  # type: ignore[attr-defined]
        return value * float("nan") if loss.calls == 4 else value  # type: ignore[attr-defined]

    loss.calls = 0  # type: ignore[attr-defined]
    learner, task = supervised(loss)
    with pytest.raises(NotFinite, match=r"^colours: update 4 of 6: the loss is nan$"):
        learner.train([task])
    check_finite(learner.state(), "the learner")
    assert learner.images == 24


def test_weights_that_the_last_step_makes_infinite_are_neither_tested_nor_saved() -> None:
    learner, task = supervised(F.cross_entropy, lr=1e38, name="sgd", momentum=0.0)
    with pytest.raises(NotFinite, match=r"^colours: (update \d of 6|after the last update)"):
        learner.train([task])


def test_pretraining_names_labels_that_are_not_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for view in range(6):
        write(tmp_path, "rgb", view, np.full((32, 32, 3), rng.integers(0, 256, 3), np.uint8))
        write(tmp_path, "class_scene", view, np.eye(63, dtype=np.float32)[view % 2])
    settings = PretrainSettings(steps=4, batch=6, device="cpu")
    views = TaskonomyViews([tmp_path], ["rgb", "class_scene"])
    model = Pretraining(["class_scene"], views, settings)
    fit(model, views)
    write(tmp_path, "class_scene", 3, np.full(63, np.nan, np.float32))
    with pytest.raises(NotFinite, match=r"^update 1 of 4: the data is not finite in class_scene \(63|126|189"):
        fit(model, TaskonomyViews([tmp_path], ["rgb", "class_scene"]))
    check_finite(model.state_dict(), "the model")


def test_distillation_names_a_teacher_that_is_not_finite() -> None:
    student = nn.Linear(3, 2)
    before = student.weight.detach().clone()
    images = iter([torch.ones(4, 3)])
    given = match(student, lambda x: x[:, :2] * torch.inf, student.parameters(), images, 5, 0.1)
    with pytest.raises(NotFinite, match=r"^update 1 of 5: the data is not finite in the teacher's features \(8 of 8"):
        next(given)
    assert torch.equal(student.weight, before)


def test_readouts_name_codes_that_are_not_finite() -> None:
    decoder = TaskDecoder(nn.Conv2d(8, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    codes = torch.ones(5, 8, 4, 4)
    codes[2, 0, 0, 0] = torch.nan
    labels = {"reshading": torch.zeros(5, 3, 4, 4, dtype=torch.uint8), "mask_valid": torch.full((5, 1, 4, 4), 255)}
    settings = ReadoutSettings(steps=20, batch=4, label_size=4)
    with pytest.raises(NotFinite, match=r"^reshading: update \d+ of 20: the data is not finite in the codes"):
        fit_readout("reshading", codes, labels, decoder, settings)
    check_finite(decoder.state_dict(), "the decoder")


def test_weights_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    base = random_base("fcn4")
    file = tmp_path / "base.safetensors"
    save_base(base, file)
    kept = file.read_bytes()
    with torch.no_grad():
        next(base.encoder.parameters())[0, 0] = 1e6
    with pytest.raises(NotFinite, match=r"base\.safetensors: in float16 the weight\.\S+ is not finite"):
        save_base(base, file)
    assert file.read_bytes() == kept
    save_base(base, file, torch.float32)


def test_tasks_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    adapted = wrap(random_base("fcn4"), "lora", "floor", 32)
    adapted.save(tmp_path)
    kept = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with torch.no_grad():
        adapted.trainable()[0].fill_(torch.nan)
    with pytest.raises(NotFinite, match=r"^floor\.deltas\.\S+ is not finite"):
        adapted.save(tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == kept
