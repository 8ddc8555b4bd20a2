"""Runs that commit 6ba208a wrote (its YAML had fewer settings, and algo=ppo changed the task) go on, and are read."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from adapt import load, load_base
from adapt.training.run import list_checkpoints, load_config
from configs.settings import defaults

OLD = Path(__file__).parent / "old_runs"


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of an old run folder."""
    return Path(shutil.copytree(OLD / request.param, tmp_path / "run"))


def command(monkeypatch: pytest.MonkeyPatch, module: str, *words: str) -> None:
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", [module, *words])
    importlib.import_module(module).main()


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("run", ["dagger"], indirect=True)
def test_an_old_agent_goes_on_and_is_evaluated(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (run / "config.yaml").read_text()
    command(monkeypatch, "agents.train", f"run={run}", "resume=true")
    assert steps(run) == [2, 4, 6, 8]
    assert (run / "config.yaml").read_text() == config
    assert len((run / "sessions.jsonl").read_text().splitlines()) == 2 and not (run / "sittings.jsonl").exists()
    assert torch.load(list_checkpoints(run)[-1], weights_only=True)["step"] == 8
    command(monkeypatch, "agents.evaluate", f"run={run}", "env.splits.val.episodes_per_scene=1", "references=false")
    assert len((run / "eval/val/agent.jsonl").read_text().splitlines()) == 1
    command(monkeypatch, "agents.report", f"run={run}")
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("run", ["ppo"], indirect=True)
def test_an_old_ppo_run_goes_on_in_its_own_task(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its task was that of the paper, which algo=ppo does not choose any more.
    command(monkeypatch, "agents.train", "algo=ppo", f"run={run}", "resume=true")
    assert steps(run)[-1] == 128
    for words, said in (
        (["algo=dagger"], "was started with algo.name=ppo, now it is dagger"),
        (["env.agents=8"], "was started with env.agents=4, now it is 8"),
        (["experiment=side_tuning_ppo"], "keys differ"),
    ):
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, "agents.train", *words, f"run={run}", "resume=true")
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("run", ["supervised"], indirect=True)
def test_old_tasks_and_their_report_are_read(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = load(load_base("random/fcn4"), run / "adapter")
    assert adapted.tasks == ["classes_0_9", "classes_10_19"]
    assert adapted(image=torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape[0] == 1
    command(monkeypatch, "adapt.compare", f"run={run}", f"out={run.parent / 'table'}")
    assert "lora" in (run.parent / "table/comparison.md").read_text()


@pytest.mark.parametrize("name", ["dagger", "ppo", "supervised"])
def test_what_an_old_config_lacks_is_filled_with_defaults(name: str) -> None:
    cfg = load_config(OLD / name)
    if name == "supervised":
        assert (cfg.adapt.rank, cfg.adapt.alpha) == (1, 16.0)
        return
    assert cfg.policy.name == "stack"
    lacking = importlib.import_module("envs.sources.apartments").ApartmentsConfig
    assert set(cfg.env) == {"name", *defaults(lacking)}
    # The explored map showed less then.
    assert cfg.env.task.explored_layers == ["blocked", "free"] and cfg.env.task.explored_from == "depth"
