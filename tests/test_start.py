"""``start=``: what fits of another run is taken over; and runs that go on to more steps than they began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from agent_runs import IMITATION, metrics, same, state, train, weights

from adapt.training.run import list_checkpoints
from agents.learners.imitation import ImitationLearner
from agents.learners.start import load_fitting
from agents.setup import make_policy, make_visual_encoder
from configs.compose import compose

PPO = ["algo=ppo", "algo.rollout=16", "algo.learner.batch_size=32", "blind=true"]


@pytest.fixture(scope="module")
def imitated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blind agent after four updates of DAgger."""
    return train(tmp_path_factory.mktemp("runs") / "imitated", *IMITATION, "algo.updates=4", "blind=true")


def policy_with(*words: str):
    cfg = compose("train", ["run=none", "env=apartments", "blind=true", *words])
    return make_policy(cfg, make_visual_encoder(cfg))


def test_what_fits_is_loaded_and_the_rest_is_listed() -> None:
    a, b = policy_with("policy.hidden=[32]"), policy_with("policy.hidden=[32]", "seed=1")
    own = {key: value.clone() for key, value in b.own_state().items()}
    found = {**a.own_state(), "elsewhere.weight": torch.zeros(3)}
    found["action_net.weight"] = found["action_net.weight"][:3]
    del found["value_net.bias"]
    said = load_fitting(b, found)
    listed = "other shape: action_net; new here: value_net; not used: elsewhere"
    assert said == f"{len(own) - 2} of {len(own)} tensors loaded; {listed}"
    for key, value in b.own_state().items():
        fresh = key in ("action_net.weight", "value_net.bias")
        assert torch.equal(value, own[key] if fresh else a.own_state()[key]), key
    with pytest.raises(ValueError, match="no tensor of that run fits"):
        load_fitting(b, {"elsewhere.weight": torch.zeros(3)})


def test_ppo_begins_with_imitation_and_its_value_function_learns_first(imitated: Path, tmp_path: Path) -> None:
    words = [*PPO, f"start={imitated}", "algo.value_warmup=2", "log_every=1", "save_every=1"]
    # Rollouts of 64 steps: the first two are the value function's.
    before, warm = weights(imitated), weights(train(tmp_path / "warm", *words, "algo.steps=128"))
    changed = {key for key in warm if not torch.equal(warm[key], before[key])}
    assert changed == {"value_net.weight", "value_net.bias"}
    # The learning rate is 0 in the last rollout.
    after = weights(train(tmp_path / "on", *words, "algo.steps=256"))
    assert all(not torch.equal(after[key], before[key]) for key in after if key.startswith("action_net"))
    result = json.loads((tmp_path / "on/result.json").read_text())
    assert result["started_from"] == str(list_checkpoints(imitated)[-1])
    # Going on within the warm-up, and beyond what the run was started with.
    train(tmp_path / "warm", *words, "algo.steps=256", "resume=true")
    resumed = weights(tmp_path / "warm")
    assert any(not torch.equal(resumed[key], before[key]) for key in resumed if key.startswith("action_net"))
    assert "steps: 256" in (tmp_path / "warm/config.yaml").read_text()


def test_without_a_warmup_all_learns_at_once(imitated: Path, tmp_path: Path) -> None:
    run = train(
        tmp_path / "run", *PPO, f"start={imitated}", "algo.value_warmup=0", "algo.anneal=false", "algo.steps=64"
    )
    assert not torch.equal(weights(run)["action_net.weight"], weights(imitated)["action_net.weight"])


def test_imitation_begins_with_another_run(imitated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*IMITATION, "algo.updates=4", "blind=true", "env.task.map_size=32", f"start={imitated}"]
    words += ["algo.learner.learning_rate=0"]
    run = train(tmp_path / "run", *words)
    said = " ".join(capsys.readouterr().out.split())
    assert f"start: {list_checkpoints(imitated)[-1]}: " in said
    kept, before = weights(run), weights(imitated)
    differ = {key for key in kept if kept[key].shape != before[key].shape}
    assert all(key.startswith(("features_extractor.map", "features_extractor.head.0")) for key in differ)
    assert all(torch.equal(kept[key], before[key]) for key in kept.keys() - differ)


def test_more_updates_go_on_with_the_learning_rate_that_belongs_there(imitated: Path, tmp_path: Path) -> None:
    words = [*IMITATION, "blind=true", "log_every=1"]
    run = train(tmp_path / "run", *words, "algo.updates=2")
    assert metrics(run)[-1]["train/learning_rate"] == 0
    train(run, *words, "algo.updates=8", "resume=true")
    assert [line["step"] for line in metrics(run)] == list(range(1, 9))
    rates = [line["train/learning_rate"] for line in metrics(run)[2:]]
    assert rates == pytest.approx([1e-3 * (1 - k / 8) for k in range(3, 9)], abs=1e-6)
    with pytest.raises(ValueError, match=r"was started with algo\.updates=8, now it is 4"):
        train(run, *words, "algo.updates=4", "resume=true")
    cfg = compose("train", ["run=none", "env=apartments", "blind=true", "policy.hidden=[32]"])
    learner = ImitationLearner(make_policy(cfg, make_visual_encoder(cfg)), 8)
    learner.restore({**state(run)["learner"], "updates": 4})
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(5e-4)
    assert learner.progress() == "going on after update 4 of 8; learning rate 0.0005, falling to 0 at the end"


def test_the_start_counts_and_is_deterministic(imitated: Path, tmp_path: Path) -> None:
    words = [*PPO, "algo.anneal=false", "algo.steps=64"]
    a, b = (train(tmp_path / name, *words, f"start={imitated}") for name in "ab")
    fresh = train(tmp_path / "fresh", *words)
    assert same(a, b) and not same(a, fresh)


def test_a_start_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run"):
        train(tmp_path / "a", *PPO, f"start={tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.yaml").write_text((tmp_path / "a/config.yaml").read_text())
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        train(tmp_path / "b", *PPO, f"start={tmp_path / 'empty'}")


def test_ppo_learns_by_rectified_adam_too(tmp_path: Path) -> None:
    words = [*PPO, "algo.steps=64", "algo.anneal=false"]
    runs = [train(tmp_path / name, *words, f"algo.optimizer={name}") for name in ("adam", "radam")]
    adam, radam = (state(run)["optimizer"]["param_groups"][0] for run in runs)
    assert adam.keys() - radam.keys() == {"amsgrad", "fused"}  # which torch.optim.RAdam does not have
    assert not same(*runs)
