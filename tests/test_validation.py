"""Learning curves on held-out scenes: what is logged is what an evaluation of those episodes says, and is reported."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_runs import IMITATION, metrics, train
from omegaconf import OmegaConf

from agents.evaluate import load_policy
from agents.evaluation.episodes import Validation, policy_actor, run_episodes
from agents.setup import VisualEncoder, make_scenes, without_randomisation
from configs.compose import compose

ROOT = Path(__file__).resolve().parents[1]
FEW = ["algo.updates=4", "log_every=1", "validation.episodes=2", "validation.every=2", "blind=true"]


def test_the_curve_is_logged_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(tmp_path / "a", *IMITATION, *FEW)
    curve = {line["step"]: line["val/success"] for line in metrics(run) if "val/success" in line}
    assert set(curve) == {2, 4}
    cfg, policy, vision = load_policy(run)
    scenes = [p.only(p.episodes[:2]) for p in make_scenes(without_randomisation(cfg.env), "val", cfg.seed)]
    records = run_episodes(cfg, scenes, vision, policy_actor(policy, cfg.evaluation.temperature), cfg.seed)
    last = metrics(run)[-1]
    assert last["val/success"] == np.mean([r["success"] for r in records])
    assert last["val/spl"] == pytest.approx(np.mean([r["spl"] for r in records]))
    monkeypatch.setattr(sys, "argv", ["agents.evaluate", f"run={run}", "references=false", "video=false"])
    importlib.import_module("agents.evaluate").main()
    page = (run / "report.html").read_text()
    assert re.search(r'alt="Success over steps and minutes; at the end val [\d.]+"', page)


def test_scenes_without_an_episode_are_not_built() -> None:
    words = ["env.splits.val.scenes=3", "validation.episodes=2", "blind=true", "run=x"]
    cfg = compose("train", ["algo=dagger", "env=apartments", *words])
    validation = Validation(cfg)
    whole = make_scenes(cfg.env, "val", cfg.seed)
    assert [(p.name, [e.episode_id for e in p.episodes]) for p in validation.scenes] == [
        (p.name, [p.episodes[0].episode_id]) for p in whole[:2]
    ]
    assert cfg.env.splits.val.scenes == 3
    none = OmegaConf.merge(cfg, {"validation": {"episodes": 0}})
    assert Validation(none)(None, VisualEncoder(None, None)) == {}  # type: ignore[arg-type]


def test_the_demo_draws_a_curve_that_ends_with_its_training() -> None:
    makefile = (ROOT / "Makefile").read_text()
    curve = re.search(r"^CURVE = (.*)$", makefile, re.MULTILINE)
    scenes = re.search(r"^DEMO = (.*)$", makefile, re.MULTILINE)
    demo = re.search(r"^demo:.*\n\t\$\(BIN\)/python -m agents\.train (.*)$", makefile, re.MULTILINE)
    assert curve is not None and scenes is not None and demo is not None and "$(CURVE)" in demo[1]
    words = [word for word in f"{demo[1]} {curve[1]} {scenes[1]}".split() if "=" in word and "$" not in word]
    cfg = compose("train", [*words, "run=x"])
    points, left = divmod(cfg.algo.updates, cfg.log_every * cfg.validation.every)
    assert left == 0 and points >= 4
    assert points * cfg.validation.episodes <= 40
