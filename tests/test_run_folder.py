"""The run folder: one process at a time, resumed without a seam, and refused in one line where it is damaged."""

from __future__ import annotations

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from adapt.training.files import reserved_array
from adapt.training.run import Run, list_checkpoints, load_checkpoint, load_config, read_json_if_there
from adapt.training.state import Damaged, check_like, load_optimizer, reading
from agents.learners.frames import FrameStore
from agents.learners.imitation import ImitationLearner
from agents.setup import make_policy, make_visual_encoder
from configs.compose import compose
from configs.errors import explain
from configs.writing import PARTIAL, replacing, sweep, try_lock, write_atomically

ROOT = Path(__file__).resolve().parents[1]


def config(folder: Path) -> DictConfig:
    return compose("train", [f"run={folder}", "blind=true", "policy.hidden=[8]", "env.camera.size=32"])


def opened(folder: Path, resume: bool = False) -> Run:
    return Run(folder, config(folder), resume)


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def shown(folder: Path, tag: str) -> list[int]:
    """The steps of a curve as TensorBoard shows it."""
    events = EventAccumulator(str(folder / "tb")).Reload()
    return [event.step for event in events.Scalars(tag)]


# -- one process at a time ------------------------------------------------------------------------------------------


def test_a_run_that_another_process_has_open_is_refused_until_it_dies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys, time, subprocess\n"
        "from pathlib import Path\n"
        "from adapt.training.run import Run\n"
        "from configs.compose import compose\n"
        "import os\n"
        "folder = Path(sys.argv[1])\n"
        "run = Run(folder, compose('train', [f'run={folder}', 'blind=true', 'policy.hidden=[8]', "
        "'env.camera.size=32']), False)\n"
        "run.log(1, {'a': 1.0})\n"
        "child = os.fork()\n"  # as a worker that reads files
        "print('open' if child else '', flush=True)\n"
        "time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, str(folder)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        while process.stdout.readline() != "open\n":
            assert process.poll() is None
        before = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}
        for resume in (True, False):
            with pytest.raises(ValueError, match=r"another process is at work in \S*run; wait until it ends"):
                opened(folder, resume)
        assert {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} == before
        process.kill()
        process.wait()
        run = opened(folder, True)
        assert run.resumed
        run.close()
    finally:
        process.stdout.close()
        os.killpg(process.pid, signal.SIGKILL)


def test_what_killed_writers_left_is_removed_and_that_of_living_ones_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    opened(folder).close()
    (folder / "checkpoints").mkdir()
    stale = [folder / f".result.json.999{PARTIAL}", folder / f"checkpoints/.step_0000000003.pt.999{PARTIAL}"]
    for file in stale:
        file.write_bytes(b"half")
    mine = folder / ".editor.swp"
    mine.touch()
    with (folder / f".config.yaml.998{PARTIAL}").open("w+b") as living:
        assert try_lock(living)
        opened(folder, True).close()
        assert Path(living.name).exists()
    assert not any(file.exists() for file in stale)
    assert mine.exists()
    write_atomically(folder / "config.yaml", b"new")  # a file that is written again takes its own remains along
    assert not Path(living.name).exists()


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_atomically(file, b"old")
    with pytest.raises(KeyError), replacing(file) as stream:
        stream.write(b"new")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert file.read_bytes() == b"old"
    sweep(tmp_path / "nowhere")


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    file, together = tmp_path / "a.json", threading.Barrier(2)

    def write(letter: bytes) -> None:
        for _ in range(50):
            with replacing(file, lasting=letter == b"a") as stream:
                stream.write(1000 * letter)
                together.wait(10)  # Both are half-way here; one of them also sweeps what killed processes left.

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (b"a", b"b")))
    assert file.read_bytes() in (1000 * b"a", 1000 * b"b")
    assert list(tmp_path.iterdir()) == [file]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.save(1, "base", {"policy": {"w": torch.zeros(10)}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(
            OSError, match=r"could not write \S*0002\.pt: File too large; earlier checkpoints"
        ) as caught:
            run.save(2, "base", {"policy": {"w": torch.zeros(1 << 16)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.close()
    assert "free some space" in explain(caught.value)
    assert [file.name for file in (run.path / "checkpoints").iterdir()] == ["step_0000000001.pt"]


def test_space_is_reserved_before_it_is_written_into(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    array = reserved_array(file, "float32", (4, 1000))
    assert array.shape == (4, 1000)
    assert file.stat().st_blocks * 512 >= array.nbytes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            reserved_array(tmp_path / "b.npy", "float32", (4, 1 << 20))
        with pytest.raises(OSError, match=r"could not write \S*c\.json \(File too large\); free some space there"):
            write_atomically(tmp_path / "c.json", bytes(1 << 21))
        with pytest.raises(OSError, match=r"no room for 0\.0 GiB of frames \(File too large\); ask for fewer"):
            FrameStore.create(tmp_path / "frames", 4, 1 << 20, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "frames"]


# -- no seam --------------------------------------------------------------------------------------------------------


def test_metrics_and_curves_rise_strictly_over_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = opened(folder)
    for step in range(10, 100, 10):
        first.log(step, {"loss": 1.0 / step})
        if step == 50:
            first.save(step, "", {})
    assert first._board is not None
    first._board.flush()  # what a kill at step 90 may leave at most
    first.close()
    # Names of event files hold the second and, in one process, a count; 10 comes before 9.
    second_of_first = int(time.time())
    while int(time.time()) == second_of_first:
        time.sleep(0.01)
    second = opened(folder, True)
    assert second.restore("") is not None
    for step in range(60, 130, 10):
        second.log(step, {"loss": 1.0 / step})
    second.close()
    assert steps(folder) == list(range(10, 130, 10))
    assert shown(folder, "loss") == list(range(10, 130, 10))
    seconds = [json.loads(line)["seconds"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds)


def test_curves_reach_to_the_checkpoint_however_soon_after_it_the_kill_comes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = opened(folder)
    run.log(10, {"loss": 1.0})
    run.save(10, "", {})
    assert shown(folder, "loss") == [10]
    run.close()


def test_values_for_the_same_step_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = opened(folder)
    run.log(5, {"loss": 2.0})
    run.log(10, {"loss": 1.0})
    run.log(10, {"test": 0.5, "undefined": float("nan")})
    run.save(10, "", {})
    run.log(20, {"loss": 0.5})
    run.close()
    run = opened(folder, True)
    run.restore("")
    run.log(10, {"more": 3.0})
    run.close()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line.get("loss"), line.get("test"), line.get("more")) for line in lines] == [
        (5, 2.0, None, None),
        (10, 1.0, 0.5, 3.0),
    ]
    assert "undefined" not in lines[1]


def test_sessions_have_a_line_each(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    opened(folder).close()
    opened(folder, True).close()
    lines = [json.loads(line) for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["packages"] == lines[1]["packages"]


def test_a_session_whose_line_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    opened(folder).close()
    with (folder / "sessions.jsonl").open("a") as file:
        file.write('{"command": "pyth')
    opened(folder, True).close()
    lines = (folder / "sessions.jsonl").read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[0]).keys() == json.loads(lines[2]).keys()


# -- right containers, wrong contents -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImitationLearner, dict[str, Any]]:
    cfg = config(tmp_path_factory.mktemp("trained"))
    policy = make_policy(cfg, make_visual_encoder(cfg))
    learner = ImitationLearner(policy, 10, batch_size=4, window=4)
    for parameter in learner.parameters:
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    learner.updates = 1
    return learner, {"policy": policy.own_state(), "learner": learner.state()}


def places(state: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something lies in nested containers, and they themselves."""
    inner = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def spoiled(state: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy in which the thing at a place is another."""
    state = copy.deepcopy(state)
    inside: Any = state
    for key in path[:-1]:
        if isinstance(inside[key], tuple):
            inside[key] = list(inside[key])
        inside = inside[key]
    inside[path[-1]] = change(inside[path[-1]])
    return state


CHANGES: dict[str, Callable[[Any], Any]] = {
    "none": lambda value: None,
    "text": lambda value: "x",
    "list": lambda value: [1, 2, 3, 4, 5, 6, 7],
    "other shape": lambda value: torch.zeros(3, 5, 7),
    "empty": lambda value: {},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_wrong_content_of_a_checkpoint_is_named(
    trained: tuple[ImitationLearner, dict[str, Any]], change: str
) -> None:
    learner, state = trained
    refused = 0
    for path in places(state)[1:]:
        wrong = spoiled(state, path, CHANGES[change])
        try:
            learner.policy.load_own_state(wrong["policy"])
            learner.restore(wrong["learner"])
        except Damaged as error:
            refused += 1
            assert str(path[0]) in str(error)
            assert "\n" not in str(error)
        else:  # settings of the optimiser that torch may drop or add
            assert path[:2] == ("learner", "schedule") or path[:3] == ("learner", "optimizer", "param_groups")
        learner.policy.load_own_state(state["policy"])
        learner.restore(state["learner"])
    assert refused > 30
    for path in places(state)[1:]:
        if path[:2] in (("learner", "updates"), ("learner", "rng")) or path[0] == "policy":
            missing = copy.deepcopy(state)
            inside: Any = missing
            for key in path[:-1]:
                inside = inside[key]
            del inside[path[-1]]
            with pytest.raises((Damaged, KeyError)):
                learner.policy.load_own_state(missing["policy"])
                learner.restore(missing["learner"])


def test_a_damaged_checkpoint_is_one_line_with_file_and_key(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = opened(folder)
    run.log(1, {"a": 1.0})
    run.save(1, "", {"policy": {"w": torch.ones(2)}})
    run.close()
    file = list_checkpoints(folder)[0]
    whole = torch.load(file, weights_only=True)
    for wrong, said in [
        ([1, 2], "all of it is a list of 2"),
        ({**whole, "step": None}, "step is None"),
        ({**whole, "step": -1}, "negative"),
        ({**whole, "seconds": "x"}, "seconds is a str"),
        ({k: v for k, v in whole.items() if k != "base_sha256"}, "base_sha256 is missing"),
    ]:
        torch.save(wrong, file)
        with pytest.raises(
            ValueError, match=rf"step_\d+\.pt: the checkpoint is damaged or of another version: .*{said}"
        ):
            load_checkpoint(file, "")
    with pytest.raises(
        ValueError, match=r"a\.pt: the checkpoint is damaged or of another version: policy\.w is a list"
    ):
        with reading(Path("a.pt")):
            check_like({"w": [1.0, 2.0]}, {"w": torch.ones(2)}, "policy")


def test_an_optimiser_takes_back_its_own_state() -> None:
    layer = nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.5)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    other = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    state = copy.deepcopy(optimiser.state_dict())
    state["param_groups"][0]["of a later torch"] = 1
    load_optimizer(other, state)
    assert other.param_groups[0]["lr"] == 0.5
    assert other.param_groups[0]["fused"] is True  # a checkpoint of before goes on with the faster step
    assert torch.equal(other.state[layer.weight]["exp_avg"], optimiser.state[layer.weight]["exp_avg"])


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "\0", "a: ${b"])
def test_a_damaged_config_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml (is no readable YAML|holds no settings)"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{", "3"])
def test_a_damaged_result_names_its_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot read \S+result\.json: .*; delete it"):
        read_json_if_there(tmp_path / "result.json")
