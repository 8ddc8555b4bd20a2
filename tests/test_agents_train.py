from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import done_here, run_here
from habitat_rooms import write_mesh

from adapt.training.run import list_checkpoints

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "base=random",
    "env=scans",
    "env.agents=8",
    "env.camera.size=32",
    "env.task.max_steps=100",
    "env.splits.train.episodes_per_scene=40",
    "env.splits.val.episodes_per_scene=12",
    "policy.hidden=[64]",
    "policy.frames=2",
    "adapt.width=0.25",
    "algo.learner.batch_size=64",
    "save_every=5",
    "log_every=5",
]
DAGGER = ["algo.warmup_frames=160", "algo.buffer_frames=4096"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 5 x 4 m room with a wall half across it, as a PLY file."""
    return write_mesh(tmp_path_factory.mktemp("scene"))


def command(module: str, *words: str) -> list[str]:
    return [sys.executable, "-m", module, *words]


def done(module: str, *words: str) -> None:
    """Run a command in a process of its own."""
    finished = subprocess.run(command(module, *words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(list_checkpoints(run)[-1], weights_only=True)["policy"]


def test_dagger_in_turns_is_deterministic_and_evaluates(room: Path, tmp_path: Path) -> None:
    words = [*TINY, *DAGGER, f"env.scene={room}", "algo=dagger", "algo.parallel=false", "algo.updates=8"]
    done("agents.train", *words, f"run={tmp_path / 'a'}")
    done_here("agents.train", *words, f"run={tmp_path / 'b'}")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[k], b[k]) for k in a)
    lines = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 8]
    assert not (tmp_path / "a/frames").exists()
    episodes = tmp_path / "episodes"
    said = done_here("agents.evaluate", f"run={tmp_path / 'a'}", f"+env.episodes={episodes}")
    assert "expert" in said.lower()
    result = json.loads((tmp_path / "a/result.json").read_text())
    assert result["episodes"] == 12
    assert result["scenes"] == 1
    assert result["expert.success"] == 1.0
    assert {
        "success",
        "spl",
        "soft_spl",
        "distance_to_goal",
        "nav_reward",
        "seconds",
        "random.success",
    } <= result.keys()
    records = [json.loads(line) for line in (tmp_path / "a/eval/val/agent.jsonl").read_text().splitlines()]
    assert len({r["episode_id"] for r in records}) == 12
    assert np.mean([r["spl"] for r in records]) == pytest.approx(result["spl"])
    assert (tmp_path / "a/report.html").stat().st_size > 10_000
    assert (episodes / "val/val.json.gz").exists()
    started = done_here("agents.evaluate", f"run={tmp_path / 'a'}", f"+env.episodes={episodes}", "untrained=true")
    assert "untrained" in started.lower()
    untrained = [json.loads(line) for line in (tmp_path / "a/eval/val/untrained.jsonl").read_text().splitlines()]
    assert [r["episode_id"] for r in untrained] == [r["episode_id"] for r in records]
    assert [r["path"] for r in untrained] != [r["path"] for r in records]
    after = json.loads((tmp_path / "a/result.json").read_text())
    assert {k: v for k, v in after.items() if not k.startswith("untrained.")} == result
    assert after["untrained.success"] == np.mean([r["success"] for r in untrained])
    again = done_here("agents.evaluate", f"run={tmp_path / 'a'}", f"+env.episodes={episodes}", "video=false")
    assert "expert" in again.lower()
    assert [json.loads(x) for x in (tmp_path / "a/eval/val/agent.jsonl").read_text().splitlines()] == records
    assert json.loads((tmp_path / "a/eval/val/versions.json").read_text())["mirror"] is True


def test_a_job_that_fails_leaves_its_run_to_others(room: Path, tmp_path: Path) -> None:
    words = [*TINY, *DAGGER, f"env.scene={room}", "algo=dagger", f"start={tmp_path / 'none'}", f"run={tmp_path / 'a'}"]
    first = run_here("agents.train", *words)
    again = run_here("agents.train", *words, "resume=true")
    assert (tmp_path / "a/config.yaml").exists()
    for failed in (first, again):  # formerly the second met the lock of the first
        assert failed.returncode == 2 and "none" in failed.stderr and "another process" not in failed.stderr


def test_killed_training_resumes_to_the_same_final_step(room: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*TINY, *DAGGER, f"env.scene={room}", "algo=dagger", "algo.updates=60", f"run={run}"]
    process = subprocess.Popen(
        command("agents.train", *words),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list_checkpoints(run):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = list_checkpoints(run)
    assert before
    kept = (run / "metrics.jsonl").read_text().splitlines()[: torch.load(before[-1], weights_only=True)["step"] // 5]
    assert kept
    refused = run_here("agents.train", *words)
    assert refused.returncode == 2
    assert "already holds a run" in refused.stderr
    other = run_here("agents.train", *words, "resume=true", "seed=5")
    assert other.returncode == 2
    assert "was started with seed=0, now it is 5" in other.stderr
    done_here("agents.train", *words, "resume=true")
    assert torch.load(list_checkpoints(run)[-1], weights_only=True)["step"] == 60
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept  # went on from the checkpoint instead of starting anew
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert steps[-1] == 60


def test_behaviour_cloning_from_recorded_frames(room: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    done_here(
        "agents.collect",
        "env=scans",
        f"env.scene={room}",
        "env.camera.size=32",
        "env.agents=4",
        "frames=800",
        f"out={data}",
    )
    words = [
        *TINY,
        f"env.scene={room}",
        "algo=bc",
        f"algo.data={data}",
        "algo.updates=30",
        "log_every=10",
        "algo.learner.learning_rate=2e-3",
    ]
    done_here("agents.train", *words, f"run={run}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train/loss"] < 0.85 * lines[0]["train/loss"]
    assert len(list(data.glob("features_*.npy"))) == 1
    stamp = next(data.glob("features_*.npy")).stat().st_mtime_ns
    done_here("agents.train", *words, f"run={tmp_path / 'again'}")
    assert next(data.glob("features_*.npy")).stat().st_mtime_ns == stamp
    a, b = weights(run), weights(tmp_path / "again")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_ppo_trains_resumes_and_keeps_the_base(room: Path, tmp_path: Path) -> None:
    run = tmp_path / "ppo"
    words = [
        *TINY[:-3],
        "log_every=1",
        "save_every=1",
        f"env.scene={room}",
        "experiment=side_tuning_ppo",
        "algo.rollout=16",
    ]
    words += ["algo.learner.batch_size=64", f"run={run}"]
    done_here("agents.train", *words, "algo.steps=256")
    first, lines = weights(run), (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 256
    assert "going on after step 256 of 500; learning rate" in done_here(
        "agents.train", *words, "algo.steps=500", "resume=true"
    )
    shorter = run_here("agents.train", *words, "algo.steps=400", "resume=true")
    assert "was started with algo.steps=500, now it is 400" in shorter.stderr and shorter.returncode == 2
    assert torch.load(list_checkpoints(run)[-1], weights_only=True)["step"] == 512
    second = weights(run)
    assert any(not torch.equal(first[k], second[k]) for k in first)
    after = (run / "metrics.jsonl").read_text().splitlines()
    assert after[: len(lines)] == lines
    assert json.loads(after[-1])["train/learning_rate"] == 0  # not negative, although the last rollout went too far
