from __future__ import annotations

import math
import re
import sys

import pytest
from omegaconf import OmegaConf

from agents.learners.limits import check_limits
from configs.compose import ConfigError, check_types, cli, compose
from tests.tools.cost_model import Constants, Plan, fit, predict, ring

RUN = "run=none"


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("train", [RUN, "policy.hidden=64"], "policy.hidden=64: this must be a list, as [256, 256]"),
        ("train", [RUN, "seed=null"], "seed=null: this must be a whole number"),
        ("train", [RUN, "algo.updates=abc"], "algo.updates=abc: this must be a whole number"),
        ("train", [RUN, "algo.updates=5e3"], "write it out, as 5000"),
        ("train", [RUN, "resume=1"], "resume=1: this must be true or false"),
        ("train", [RUN, "adapt=lora", "adapt.rank=x"], "adapt.rank=x: this must be a whole number"),
        ("train", [RUN, "env.camera=5"], "env.camera=5: this must be a group with the keys size"),
        ("train", ["run=true"], "run=True: this must be text"),
        ("evaluate", [RUN, "temperature=warm"], "temperature=warm: this must be a number"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(name, words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fitting_values_pass_and_numbers_may_be_names() -> None:
    cfg = compose("train", ["run=7", "algo.learner.learning_rate=1", "policy.hidden=[8]", "env.splits.val.scenes=3"])
    assert cfg.run == "7"
    assert cfg.algo.learner.learning_rate == 1
    assert compose("evaluate", [RUN, "temperature=null"]).temperature is None
    assert compose("evaluate", [RUN, "temperature=1"]).temperature == 1
    changed = OmegaConf.create({"env": {"agents": "many"}})
    with pytest.raises(ConfigError, match=r"env\.agents=many: this must be a whole number"):
        check_types(changed, cfg)


def test_help_that_lacks_a_choice_names_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["adapt.train", "--help"])
    with pytest.raises(SystemExit) as caught:
        cli("supervised")(lambda cfg: None)()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: You must specify 'benchmark'")
    assert "icifar" in error


def test_a_value_out_of_range_is_refused() -> None:
    cfg = compose("train", [RUN])
    check_limits(cfg)
    for key, value, said in (
        ("env.agents", 0, "env.agents must be at least 1, got 0"),
        ("algo.temperature", -1, "algo.temperature must be at least 0, got -1"),
        ("policy.hidden", [], "policy.hidden must name at least one layer"),
        ("algo.beta_floor", [0.7, 0.1], "algo.beta_floor must be two shares, the lower first"),
        ("env.camera.width", 96, "leave env.camera.width=96 out, or set it to 64"),
        ("algo.learner.learning_rate", math.nan, "algo.learner.learning_rate must be at least 0, got nan"),
    ):
        wrong = cfg.copy()
        OmegaConf.update(wrong, key, value)
        with pytest.raises(ConfigError, match=re.escape(said)):
            check_limits(wrong)


def test_collecting_checks_its_ranges() -> None:
    check_limits(compose("collect", ["out=none", "env.camera.width=96"]))
    check_limits(compose("train", [RUN, "env.camera.width=96", "blind=true"]))
    for words, said in (("env.agents=0", "env.agents must be at least 1"), ("frames=0", "frames must be at least 1")):
        with pytest.raises(ConfigError, match=said):
            check_limits(compose("collect", ["out=none", words]))


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
