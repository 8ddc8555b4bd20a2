from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from habitat_rooms import write_mesh
from omegaconf import OmegaConf
from test_pretrain import SIZE, write

from adapt.core.base import random_base
from adapt.training import distributed
from adapt.training.run import list_checkpoints
from agents.learners.feature_cache import cached_features
from agents.learners.frames import FrameStore
from agents.policies.observations import frozen_features
from agents.setup import make_scenes
from configs.compose import compose

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
TINY = [
    "base=random",
    "env=scans",
    "env.agents=8",
    "env.camera.size=32",
    "env.task.max_steps=100",
    "env.splits.train.episodes_per_scene=40",
    "policy.hidden=[64]",
    "policy.frames=2",
    "algo.learner.batch_size=64",
    "device=cpu",
]
IN_TURNS = ["algo=dagger", "algo.parallel=false", "algo.warmup_frames=160", "algo.buffer_frames=4096"]


def torchrun(*words: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def done(*words: str) -> None:
    finished = call(*words)
    assert finished.returncode == 0, finished.stderr


def hashes(folder: Path, module: str, *words: str) -> list[str]:
    """Run a command on two ranks; the hash of all parameters after every update, which is the same on both."""
    done(*torchrun("tests/ranks.py", "hashes", str(folder / "hash"), module, *words))
    first, second = (json.loads((folder / f"hash.{i}").read_text()) for i in range(2))
    assert first == second
    return first


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error:")]


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(list_checkpoints(run)[-1], weights_only=True)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mesh(tmp_path_factory.mktemp("scene"))


def test_two_ranks_make_the_update_of_one_process(tmp_path: Path) -> None:
    done(*torchrun("tests/ranks.py", "learners", str(tmp_path / "out.pt")))
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert out["total"] == 2
    assert out["means"] == {"a": 0.5, "b": 5.0}
    assert all(out["equal"].values())
    for name, alone in (("imitation", ranks.imitation()), ("ppo", ranks.ppo()), ("supervised", ranks.supervised())):
        assert out[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(
                out[name][key], value, rtol=2e-4, atol=2e-6, msg=lambda m, key=key: f"{key}: {m}"
            )
    assert any(key.startswith("gradient") and out["imitation"][key].abs().max() > 1e-3 for key in out["imitation"])
    uneven = out["uneven"]
    assert torch.equal(uneven["both"], torch.full((3,), 3.0))
    assert torch.equal(uneven["one"], torch.full((3,), 0.5))
    assert torch.equal(uneven["statistics"], torch.full((2,), 0.5))
    torch.testing.assert_close(uneven["moments"], torch.stack([torch.arange(8.0).mean(), torch.arange(8.0).std()]))


def test_ranks_own_disjoint_scenes_or_episodes(room: Path) -> None:
    apartments = compose("train", ["run=none", "env.splits.train={scenes: 2, episodes_per_scene: 4}"]).env
    scans = compose("train", ["run=none", "env=scans", f"env.scene={room}"]).env
    OmegaConf.update(scans, "splits.train.episodes_per_scene", 9)
    for env in (apartments, scans):
        whole = {(p.scene.name, e.episode_id) for p in make_scenes(env, "train", 0) for e in p.episodes}
        owned = [make_scenes(env, "train", 0, (i, 2)) for i in range(2)]
        keys = [[(p.scene.name, e.episode_id) for p in places for e in p.episodes] for places in owned]
        assert sorted(key for part in keys for key in part) == sorted(whole)
        assert all(keys)
        scenes = [{name for name, _ in part} for part in keys]
        assert bool(scenes[0] & scenes[1]) == (env is scans)  # one scan: the ranks share its episodes


def test_recorded_frames_are_shared_by_lanes(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path / "frames", 5, 8, {})
    parts = [store.shard(i, 2) for i in range(2)]
    assert [p.lanes for p in parts] == [3, 2]
    with pytest.raises(ValueError, match="too few for 6 ranks"):
        store.shard(0, 6)


def test_ranks_hold_the_same_parameters_after_every_update(room: Path, tmp_path: Path) -> None:
    words = [*TINY, *IN_TURNS, f"env.scene={room}", "algo.updates=12", "log_every=4", "save_every=12"]
    assert len(set(hashes(tmp_path, "agents.train", *words, f"run={tmp_path / 'run'}"))) == 12
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[-1]["train/frames"] == 160 + 8 * 12
    assert json.loads((tmp_path / "run/versions.json").read_text())["ranks"] == 2


def test_kept_features_are_checked_and_made_anew_for_another_base(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (2, 6, 3, 32, 32)).astype(np.uint8)
    base, other = (random_base("fcn4", seed=seed).eval() for seed in (0, 1))
    kept = np.array(cached_features(tmp_path, base, rgb))
    assert kept.shape == (2, 6, *base.feature_shape(32))
    np.testing.assert_allclose(kept[1, 3:5], frozen_features(base, rgb[1, 3:5]), atol=0.05)
    file = next(tmp_path.glob("features_*.npy"))
    made = file.stat().st_mtime_ns
    cached_features(tmp_path, base, rgb)
    assert file.stat().st_mtime_ns == made
    assert not np.allclose(cached_features(tmp_path, other, rgb), kept, atol=0.05)
    assert len(list(tmp_path.glob("features_*.npy"))) == 2
    for damage in (lambda: file.write_bytes(file.read_bytes()[:-100]), lambda: np.save(file, 0 * np.load(file))):
        damage()
        np.testing.assert_array_equal(cached_features(tmp_path, base, rgb), kept)
    assert file.stat().st_mtime_ns != made


@pytest.mark.slow
def test_pretraining_keeps_ranks_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for view in range(12):
        rgb = np.full((SIZE, SIZE, 3), rng.integers(0, 256, 3), np.uint8)
        write(tmp_path / "data", "rgb", view, rgb)
        write(tmp_path / "data", "reshading", view, rgb[..., :1].repeat(3, 2))
        write(tmp_path / "data", "mask_valid", view, np.full((SIZE, SIZE), 255, np.uint8))
    words = ["task=reshading", f"data={tmp_path / 'data'}", f"val={tmp_path / 'data'}", "encoder=fcn5"]
    words += ["steps=5", "batch=8", f"out={tmp_path / 'made.safetensors'}", "device=cpu"]
    assert len(set(hashes(tmp_path, "adapt.pretrain", *words))) == 5
    assert (tmp_path / "made.safetensors").exists()


def kill_one(words: list[str], run: Path, temporary: Path) -> tuple[int, str]:
    """Start two ranks, kill the second once a checkpoint is there; returns the exit code and what was said."""
    command = torchrun("-m", "agents.train", *words, f"run={run}")
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while not list_checkpoints(run):
        assert process.poll() is None
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    for child in map(int, children.split()):
        if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            os.kill(child, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("env.agents=7", r"error: rank \d of 2 .*env.agents=7 cannot be shared by 2 ranks"),
        ("env.agents=many", "error: env.agents must be a whole number, got 'many'"),
    ],
)
def test_what_is_wrong_on_all_ranks_is_said_once(word: str, said: str, room: Path, tmp_path: Path) -> None:
    words = [*TINY, *IN_TURNS, f"env.scene={room}", word, f"run={tmp_path / 'run'}"]
    refused = call(*torchrun("-m", "agents.train", *words))
    assert refused.returncode != 0
    assert len(errors(refused.stderr)) == 1
    assert re.match(said, errors(refused.stderr)[0])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the rank to kill in /proc")
@pytest.mark.parametrize("parallel", ["false", "true"])
def test_a_killed_rank_ends_the_job_and_one_process_goes_on(parallel: str, room: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*TINY, *IN_TURNS, f"env.scene={room}", "algo.updates=400", "save_every=20", "log_every=20"]
    words += [f"algo.parallel={parallel}"]
    (tmp_path / "temporary").mkdir()
    code, stderr = kill_one(words, run, tmp_path / "temporary")
    assert code != 0
    # PyTorch itself makes a folder for its compiler, which it keeps.
    assert not [file for file in (tmp_path / "temporary").iterdir() if not file.name.startswith("torchinductor_")]
    assert errors(stderr) == [
        "error: rank 1 of 2 ended without a message (killed, or out of memory?); what was saved is kept: go on with "
        "resume=true, on any number of ranks"
    ]
    before = checkpoint(run)["step"]
    assert before < 400
    done(sys.executable, "-m", "agents.train", *words, f"run={run}", "resume=true")
    assert checkpoint(run)["step"] == 400
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(20, 401, 20))
    assert not (run / "frames").exists()


@pytest.mark.slow
def test_two_ranks_go_on_with_the_run_of_one_process(room: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*TINY, f"env.scene={room}", "experiment=side_tuning_ppo", "algo.rollout=16", f"run={run}"]
    done(sys.executable, "-m", "agents.train", *words, "algo.steps=256")
    first = checkpoint(run)
    assert first["step"] == 256
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("steps: 256", "steps: 512"))
    # 2 rollouts, 3 epochs, 2 mini-batches; SB3's last learning rate is 0.
    assert len(hashes(tmp_path, "agents.train", *words, "algo.steps=512", "resume=true")) == 12
    assert checkpoint(run)["step"] == 512
    assert any(not torch.equal(first["policy"][k], v) for k, v in checkpoint(run)["policy"].items())


def test_commands_of_one_process_refuse_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed.refuse_ranks("agents.evaluate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"agents\.evaluate runs in one process; start it without torchrun"):
        distributed.refuse_ranks("agents.evaluate")
