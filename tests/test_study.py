"""Studies of many agents: recorded trajectories by number, what is trained in which order, tables over seeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from rooms import simple_place
from test_report import VERSIONS, Page, records, write_lines

from adapt.training.seeds import over_seeds
from agents.compare import main as compare_command
from agents.evaluate import _elsewhere
from agents.learners.frames import ACTION, TRAJECTORY, FrameStore
from agents.learners.recorded import prepare, record
from agents.policies.observations import GOAL, STEP
from agents.reports.repeats import group_seeds
from agents.reports.results import read_results
from agents.setup import Scenes
from agents.studies import runner
from agents.studies.page import write_page
from agents.studies.plans import STUDIES, StudySettings
from agents.studies.runner import commands, jobs, record_command, run_study
from configs.compose import compose
from configs.files import read_json
from configs.settings import ConfigError

ROOM = ["env.camera.size=32", "env.task.max_steps=30", "env.agents=4", "device=cpu"]


@pytest.fixture
def one_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents live in a room that takes no time to build."""

    def places(*_: object, **__: object) -> Scenes:
        return [simple_place(6)]

    monkeypatch.setattr("agents.learners.recorded.make_scenes", places)


def trajectory(store: FrameStore, number: int) -> dict[str, np.ndarray[Any, Any]]:
    at = store.arrays[TRAJECTORY] == number
    return {key: np.array(store.arrays[key][at]) for key in (ACTION, STEP, GOAL, "rgb")}


@pytest.mark.usefixtures("one_room")
def test_a_store_of_many_trajectories_begins_with_those_of_a_store_of_few(tmp_path: Path) -> None:
    stores = {}
    for count in (5, 11):
        folder = tmp_path / str(count)
        numbers = record(compose("collect", [*ROOM, f"trajectories={count}", f"out={folder}"]), folder)
        assert numbers["trajectories"] == count
        stores[count] = FrameStore.open(folder)
    for number in range(5):
        few, many = (trajectory(store, number) for store in stores.values())
        assert few[STEP].tolist() == list(range(len(few[STEP])))
        for key, values in few.items():
            assert np.array_equal(values, many[key]), (number, key)
    for store, count in ((stores[5], 5), (stores[11], 11)):  # each is whole: it ends by STOP, or after 30 steps
        ends = [trajectory(store, number) for number in range(count)]
        assert all(end[ACTION][-1] == 0 or len(end[STEP]) == 30 for end in ends)
    assert stores[11].first(5).frames_written == stores[5].first(5).frames_written
    words = [*ROOM, "algo=bc", f"algo.data={tmp_path / '5'}", "run=none", "base=random"]
    cfg = compose("train", words)
    assert prepare(cfg, tmp_path / "5", None, frozenset(), 4).frames_written < stores[5].frames_written
    seen = json.loads((tmp_path / "5" / "seen.json").read_text())
    del seen["camera"]["pitch"]  # as if an older version had recorded, whose cameras had no pitch
    (tmp_path / "5" / "seen.json").write_text(json.dumps(seen))
    prepare(cfg, tmp_path / "5", None, frozenset())
    with pytest.raises(ValueError, match=r"recorded with env\.camera\.pitch=0\.0, this run has 9\.0"):
        prepare(compose("train", [*words, "env.camera.pitch=9"]), tmp_path / "5", None, frozenset())
    with pytest.raises(ValueError, match=r"recorded with env\.task\.gps=True, this run has False"):
        prepare(compose("train", [*words, "env.task.gps=false"]), tmp_path / "5", None, frozenset())
    del seen["task"]["gps"]  # an older version did not note it
    (tmp_path / "5" / "seen.json").write_text(json.dumps(seen))
    prepare(compose("train", [*words, "env.task.gps=false"]), tmp_path / "5", None, frozenset())
    with pytest.raises(ValueError, match=r"holds 5 whole trajectories, algo\.trajectories asks for 6"):
        prepare(cfg, tmp_path / "5", None, frozenset(), 6)


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_variant_comes_once_before_any_comes_again(name: str, tmp_path: Path) -> None:
    settings = StudySettings(name, str(tmp_path), bases=("curvature",), trajectories=(5, 7))
    planned = jobs(settings)
    half = len(planned) // 3
    assert len({job.folder for job in planned}) == len(planned)
    assert [job.variant.name for job in planned[:half]] == [job.variant.name for job in planned[half : 2 * half]]
    assert {job.seed for job in planned[:half]} == {0}
    for job in (planned[0], planned[half - 1]):
        train, evaluate = commands(settings, job)
        compose(train[0].removeprefix("agents."), train[1:])  # every word is a setting of the command
        compose("evaluate", evaluate[1:])


def test_what_is_learned_from_scratch_has_no_base_and_comes_once(tmp_path: Path) -> None:
    settings = StudySettings("data", str(tmp_path), trajectories=(5, 7), bases=("curvature", "normal"))
    names = [job.variant.name for job in jobs(settings) if job.seed == 0]
    assert [name for name in names if "scratch" in name] == ["5-scratch", "7-scratch"]
    assert len(names) == 2 * (3 * 2 + 1)
    words = record_command(settings)
    assert "trajectories=7" in words
    assert "env.splits.train.scenes=200" in words
    compose("collect", words[1:])


def test_networks_of_three_sizes_and_three_ways_to_fine_tune(tmp_path: Path) -> None:
    settings = StudySettings("size", str(tmp_path), seeds=(0,), bases=("curvature", "normal"), steps=1000)
    planned = {job.variant.name: next(commands(settings, job)) for job in jobs(settings)}
    assert len(planned) == 2 * (3 + 3)
    composed = {name: compose("train", train[1:]) for name, train in planned.items() if name.endswith("normal")}
    assert [composed[f"side {width}-normal"].adapt.width for width in ("0.25", "0.5", "1")] == [0.25, 0.5, 1.0]
    assert {name: cfg.algo.optimizer for name, cfg in composed.items() if cfg.adapt.name == "fine_tune"} == {
        "fine_tune-normal": "adam",
        "fine_tune RAdam-normal": "radam",
        "fine_tune stage-wise-normal": "adam",
    }
    assert composed["fine_tune stage-wise-normal"].adapt.stage_samples == 500
    assert all(cfg.algo.learner.max_grad_norm == 0.5 and cfg.algo.steps == 1000 for cfg in composed.values())


def test_more_words_reach_every_training_and_evaluation(tmp_path: Path) -> None:
    words = ["name=data", f"out={tmp_path}", 'train=["env.agents=16"]', 'evaluate=["+env.splits.val.scenes=2"]']
    cfg = OmegaConf.to_container(compose("study", words))
    assert isinstance(cfg, dict)
    settings = StudySettings.from_settings({str(key): value for key, value in cfg.items()})
    train, evaluate = commands(settings, jobs(settings)[0])
    assert compose("train", train[1:]).env.agents == 16
    assert compose("evaluate", evaluate[1:]).env.splits.val.scenes == 2
    assert "env.agents=16" in record_command(settings)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"name": "figure"}, "name must be one of"), ({"seeds": ()}, "seeds must be at least one")]
)
def test_settings_that_make_no_study(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StudySettings(**({"name": "data", "out": "runs"} | wrong))


def finish(folder: Path, rate: float, seed: int) -> Path:
    """A run folder as training and evaluation leave it."""
    (folder / "eval" / "val").mkdir(parents=True)
    write_lines(folder / "eval" / "val" / "agent.jsonl", records(rate, seed))
    (folder / "versions.json").write_text(json.dumps(VERSIONS | {"seed": seed}))
    (folder / "result.json").write_text(json.dumps({"train_seconds": 10.0 + seed}))
    (folder / "config.yaml").write_text(f"adapt: {{name: x{rate}}}\nbase: {{name: curvature}}\nseed: {seed}\n")
    (folder / "report.html").touch()
    return folder


def test_the_page_has_the_means_over_seeds_of_what_is_there(tmp_path: Path) -> None:
    settings = StudySettings("imitation", str(tmp_path), bases=("curvature",), methods=("features", "scratch"))
    assert write_page(settings, "command") is None
    for job in jobs(settings)[:5]:
        finish(job.folder, 0.8 if "features" in job.variant.name else 0.4, job.seed)
    page = write_page(settings, "the command of the study")
    assert page is not None
    text = page.with_suffix(".md").read_text()
    values = [float(np.mean([r["success"] for r in records(0.8, seed)])) for seed in range(3)]
    found = over_seeds(values)
    row = next(line for line in text.splitlines() if line.startswith("| 4900 | features | curvature | 0, 1, 2 |"))
    assert f"| {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] |" in row
    assert row.endswith("| 11 | 11.2 |")  # seconds, and the paper's reward
    assert "| 4900 | scratch |  | 0, 1 |" in text
    assert "1 agents of this study are not there yet" in text
    assert "the command of the study" in text
    assert "Difference from scratch" in text
    assert all(source.startswith("data:image/png;base64,") for source in Page(page).sources())
    assert (tmp_path / "study_success.png").stat().st_size > 1000


def test_a_figure_against_the_number_of_trajectories(tmp_path: Path) -> None:
    settings = StudySettings("data", str(tmp_path), seeds=(0,), bases=("curvature",), methods=("features", "scratch"))
    for place, job in enumerate(jobs(settings)):
        finish(job.folder, 0.3 + 0.1 * place, 0)
    page = write_page(settings, "command")
    assert page is not None
    assert "| 49 | features | curvature |" in page.with_suffix(".md").read_text()


def test_a_failed_agent_does_not_keep_the_others_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are not run here, only which would be; what a finished one leaves behind is written."""
    some: dict[str, Any] = {"seeds": (0, 1), "bases": ("curvature",), "methods": ("features", "scratch")}
    settings = StudySettings("reinforcement", str(tmp_path), **some)
    called: list[str] = []

    def run(words: list[str]) -> int:
        called.append(words[0])
        folder = next(Path(word.removeprefix("run=")) for word in words if word.startswith("run="))
        if "scratch" in str(folder):
            return 2
        if words[0] == "agents.evaluate":
            finish(folder, 0.5, 0)
        return 0

    monkeypatch.setattr(runner, "_run", run)
    done: list[int] = []
    failed = run_study(settings, lambda: done.append(1))
    assert len(failed) == 2
    assert all("scratch" in line for line in failed)
    assert done == [1, 1]
    assert called == ["agents.train", "agents.evaluate", "agents.train"] * 2
    called.clear()
    run_study(settings, lambda: None)
    assert called == ["agents.train"] * 2, "what is finished is not run again"


def test_runs_that_differ_in_seeds_are_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate in (0.4, 0.8):
        for seed in (0, 1):
            finish(tmp_path / f"{rate}" / f"seed{seed}", rate, seed)
    monkeypatch.setattr(sys, "argv", ["compare", f"run={tmp_path}", f"to={tmp_path / '0.4' / 'seed1'}"])
    compare_command()
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2
    better = group_seeds([read_results(tmp_path / "0.8" / f"seed{s}") for s in (0, 1)])
    worse = group_seeds([read_results(tmp_path / "0.4" / f"seed{s}") for s in (0, 1)])
    found = better[0].versus(worse[0], "success")
    assert f"{found.seeds.estimate.mean:+.3f}" in rows[1]
    means = [np.mean(groups[0].values("success")) for groups in (better, worse)]
    assert found.seeds.estimate.mean == pytest.approx(means[0] - means[1])
    assert found.scenes is not None
    assert found.scenes.mean == pytest.approx(found.seeds.estimate.mean)
    assert found.signed_rank < 0.1
    assert read_json(tmp_path / "0.4" / "seed0" / "result.json")["train_seconds"] == 10.0
    assert (tmp_path / "seeds.html").is_file()
    monkeypatch.setattr(sys, "argv", ["compare", f"run={tmp_path}", "to=elsewhere"])
    with pytest.raises(SystemExit) as end:
        compare_command()
    assert end.value.code == 2


@pytest.mark.usefixtures("one_room")
def test_agents_are_judged_in_another_place_with_their_own_body_camera_and_rules(tmp_path: Path) -> None:
    env = compose("train", [*ROOM, "env.body.radius=0.2", "env.camera.height=1.0", "run=none"]).env
    there = _elsewhere(env, "houses/my house.glb")
    assert (there.name, there.scene) == ("scans", "houses/my house.glb")
    for key in ("body", "camera", "task", "agents"):
        assert there[key] == env[key]


@pytest.mark.usefixtures("one_room")
def test_recorded_depths_are_read_in_the_range_that_they_were_recorded_in(tmp_path: Path) -> None:
    words = [*ROOM, "env.task.sensors=[depth]"]
    record(compose("collect", [*words, "frames=8", "env.task.max_depth=5", f"out={tmp_path / 'a'}"]), tmp_path / "a")
    train = [*words, "algo=bc", f"algo.data={tmp_path / 'a'}", "run=none", "base=random"]
    prepare(compose("train", [*train, "env.task.max_depth=5"]), tmp_path / "a", None, frozenset())
    with pytest.raises(ValueError, match=r"recorded with env\.task\.max_depth=5\.0, this run has 10\.0"):
        prepare(compose("train", train), tmp_path / "a", None, frozenset())
