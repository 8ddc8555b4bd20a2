from __future__ import annotations

import importlib
import math
import sys

import pytest

from configs.commands import COMMANDS, command_settings
from configs.compose import ConfigError, compose
from configs.groups import options, settings_of
from configs.help import rows as help_rows
from configs.settings import defaults
from tests.tools.cost_model import Constants, Plan, fit, predict, ring

RUN = "run=none"
DATA = ["run=none", "data=none"]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("train", [RUN, "policy.hidden=64"], "policy.hidden must be a list of whole numbers, each between 1"),
        ("train", [RUN, "seed=null"], "seed must be a whole number, got null"),
        ("train", [RUN, "algo.updates=abc"], "algo.updates must be a whole number, got 'abc'"),
        ("train", [RUN, "algo.updates=5e3"], "write it out, as 5000"),
        ("train", [RUN, "resume=1"], "resume must be true or false, got 1"),
        ("train", [RUN, "adapt=lora", "adapt.rank=x"], "adapt.rank must be a whole number"),
        ("train", [RUN, "env.camera=5"], "env.camera must be a group with the keys size"),
        ("train", [RUN, "env.agents=0"], "env.agents must be between 1 and 65,536, got 0"),
        ("train", [RUN, "env.agents=1000000000"], "env.agents must be between 1 and 65,536"),
        ("train", [RUN, "env.agents=[64]"], "env.agents must be a whole number, got [64]"),
        ("train", [RUN, "env.splits.val.episodes_per_scene=1000000000"], "env.splits.val.episodes_per_scene must be"),
        ("train", [RUN, "algo.temperature=-1"], "algo.temperature must be 0 or more, got -1"),
        ("train", [RUN, "policy.hidden=[]"], "policy.hidden must be a list of one or more"),
        ("train", [RUN, "policy.hidden=[64,0]"], "policy.hidden[1] must be between 1"),
        ("train", [RUN, "algo.beta_floor=[0.7,0.1]"], "algo.beta_floor must be two shares, the lower first"),
        ("train", [RUN, "algo.beta_floor=[0.7]"], "algo.beta_floor must be a list of 2 numbers"),
        ("train", [RUN, "env.camera.width=96"], "leave env.camera.width=96 out, or set it to 64"),
        ("train", [RUN, "algo.learner.learning_rate=nan"], "algo.learner.learning_rate must be a finite number"),
        ("train", [RUN, "env.task.sensors=[rgb,sonar]"], "env.task.sensors[1] must be one of rgb, depth, map"),
        ("train", [RUN, "env.split=[a]"], "env.split must be text, got ['a']"),
        ("train", [RUN, "+frames=3"], "unknown setting 'frames'"),
        ("train", [RUN, "base.name=[a]"], "base.name must be text"),
        ("evaluate", [RUN, "temperature=warm"], "temperature must be a number, got 'warm'"),
        ("collect", ["out=none", "frames=0"], "frames must be between 1 and 100,000,000"),
        ("supervised", [*DATA, "benchmark=icifar", "optimiser.lr=0"], "optimiser.lr must be positive, got 0"),
        (
            "supervised",
            [*DATA, "benchmark=icifar", "optimiser.rates.deltas=fast"],
            "optimiser.rates.deltas must be a nu",
        ),
        ("supervised", [*DATA, "benchmark=decathlon", "benchmark.train=all"], "benchmark.train must be one of train"),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused_in_one_line(name: str, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(name, words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("train", [RUN, "adapt=sidetuning"], "adapt=sidetuning: there is no such choice; did you mean 'side_tuning'?"),
        ("train", [RUN, "seedd=1"], "agents.train has no key 'seedd'; did you mean 'seed'?"),
        ("train", [RUN, "updates=1"], "did you mean 'algo.updates'?"),
        ("train", [RUN, "algo.learner.lr=1"], "'algo.learner.lr'; choose from learning_rate, batch_size, window"),
        ("train", [RUN, "adapt=lora", "adapt.rnk=1"], "did you mean 'adapt.rank'?"),
        ("train", [RUN, "benchmark=icifar"], "agents.train has no group 'benchmark'"),
        ("train", [RUN, "adapt.width=[1"], "cannot read adapt.width=[1"),
        ("train", ["run=${adapt.nme}"], "'adapt.nme' not found"),
        ("train", ["adapt=lora"], "give a value for run; as in run=..."),
        ("train", [RUN, "algo=bc"], "give a value for algo.data"),
        ("supervised", DATA, "give a value for benchmark; choose from decathlon, domainnet, icifar"),
        ("supervised", [*DATA, "benchmark=icifar", "optimiser.rate.deltas=1"], "optimiser.rate"),
    ],
)
def test_unknown_and_missing_names_get_the_nearest(name: str, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(name, words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["20240507_153012", "1e3", "on", "true", "null", "007", "1_0", "0x10", "7", "-1", ".5"]
)
def test_text_stays_as_it_was_typed(text: str) -> None:
    words = ["env=scans", f"env.scene={text}x", f"env.scenes=[{text}, a, {text}]", f"env.dataset='{text}'"]
    cfg = compose("train", [f"run={text}", *words])
    assert (cfg.run, cfg.env.scene, cfg.env.dataset) == (text, f"{text}x", text)
    assert list(cfg.env.scenes) == [text, "a", text]
    named = compose("train", [RUN, "env=habitat", f"env.splits.train={{split: {text}, scenes: 3}}"])
    assert named.env.splits.train == {"split": text, "scenes": 3, "episodes_per_scene": None}
    assert compose("report", [f"run=[{text},b]"]).run == [text, "b"]


def test_null_is_nothing_where_text_may_be_absent() -> None:
    assert compose("train", [RUN, "env=scans", "env.scene=null"]).env.scene is None
    assert compose("evaluate", [RUN, "temperature=null"]).temperature is None


def test_fitting_values_pass() -> None:
    cfg = compose("train", [RUN, "algo.learner.learning_rate=1", "policy.hidden=[8]", "env.splits.val.scenes=3"])
    assert cfg.algo.learner.learning_rate == 1.0
    assert (list(cfg.policy.hidden), cfg.env.splits.val) == ([8], {"scenes": 3, "episodes_per_scene": 5})
    # New names where names are free, without a plus.
    assert compose("train", [RUN, "env.splits.mini.scenes=2"]).env.splits.mini.episodes_per_scene == 5
    rates = compose("supervised", [*DATA, "benchmark=icifar", "optimiser.rates.deltas=1e-3"]).optimiser.rates
    assert rates == {"deltas": 1e-3}
    assert compose("evaluate", [RUN, "env.episodes=DIR"]).env == {"split": "val", "episodes": "DIR"}
    assert compose("collect", ["out=none", "env.camera.width=96"]).env.camera.width == 96
    assert compose("train", [RUN, "env.camera.width=96", "blind=true"]).blind


def test_the_published_setting_of_ppo_is_an_experiment() -> None:
    cfg = compose("train", [RUN, "experiment=side_tuning_ppo", "algo.steps=7"])
    assert (cfg.algo.name, cfg.algo.steps, cfg.policy.frames, cfg.env.task.variant) == ("ppo", 7, 1, "side_tuning")
    assert "experiment" not in cfg


def test_ppo_changes_neither_task_nor_policy() -> None:
    dagger, ppo = compose("train", [RUN]), compose("train", [RUN, "algo=ppo"])
    for group in ("env", "policy", "adapt", "base", "validation"):
        assert dagger[group] == ppo[group]
    assert (ppo.log_every, ppo.save_every) == (1, 10)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_explains_every_setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = command_settings(name)
    rows = help_rows(settings, defaults(settings))
    assert rows
    for key, about in rows:
        said, _, kind = about.rpartition(" [")
        assert said.strip() and kind.endswith("]"), key


@pytest.mark.parametrize("group", ["adapt", "algo", "benchmark", "env"])
def test_every_option_explains_its_settings(group: str) -> None:
    for option in options(group):
        settings = settings_of(group, option)
        for key, about in help_rows(settings, defaults(settings)):
            assert about.rpartition(" [")[0].strip(), (option, key)


def test_help_shows_what_is_chosen_and_needs_no_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("adapt.train").main
    monkeypatch.setattr(sys, "argv", ["adapt.train", "--help"])
    main()
    text = capsys.readouterr().out
    assert "icifar" in text and "benchmark.boosting" not in text and "[a number, positive]" in text
    monkeypatch.setattr(sys, "argv", ["adapt.train", "--help", "benchmark=icifar", "adapt=lora"])
    main()
    text = capsys.readouterr().out
    assert "benchmark.boosting=false" in text and "adapt.rank=8" in text and "adapt.width" not in text


def test_cost_model_in_closed_form() -> None:
    constants = Constants(step=0.01, frame=0.001, update=0.1, sample=0.002, exchange=0.02, gradient_bytes=100)
    plan = Plan(agents=10, rollout=20, minibatches=2, epochs=3)
    # 20 steps of 0.02 s; 6 mini-batches of 100 samples, 0.1 + 0.2 + 0.02 s each.
    assert predict(constants, plan, 1) == pytest.approx(200 / (0.4 + 6 * 0.32))
    assert predict(constants, plan, 4) == pytest.approx(4 * predict(constants, plan, 1))
    assert fit({10: 0.3, 30: 0.7}) == pytest.approx((0.1, 0.02))
    assert fit({10: 0.1, 30: 0.6}) == pytest.approx((0.0, 0.02))
    assert ring(800, 1, 1e9, 1.0) == 0.0
    assert ring(800, 2, 100.0, 0.5) == pytest.approx(2 * (4.0 + 0.5))
    assert math.isclose(ring(800, 8, 100.0, 0.0), 2 * 7 / 8 * 8.0)
