"""``env=habitat``: Habitat-Lab, on the embedded simulator, as this project's VecEnv (make test-habitat)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_here
from habitat_rooms import write_room, write_split

from agents.policies.predicted_depth import PredictedDepth
from configs.settings import defaults
from envs.habitat.settings import HabitatConfig
from envs.habitat.vec_env import HabitatSplit, HabitatVecEnv, make_scenes, rules
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import NavigableScene, PointNavTask
from envs.pointnav.vec_env import GOAL, PointNavVecEnv
from envs.rendering.renderer import Camera
from envs.scans.loading import load_scene

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.habitat,
    pytest.mark.skipif(find_spec("habitat") is None, reason="needs Habitat-Lab: make test-habitat"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rooms, 6 training and 3 held-out episodes in each."""
    folder = tmp_path_factory.mktemp("rooms")
    meshes = [write_room(folder, "long", 6.0), write_room(folder, "short", 5.0)]
    write_split(folder, "train", meshes, 6)
    write_split(folder, "val", meshes, 3, seed=1)
    return folder


def settings(rooms: Path, split: str = "val", task: dict[str, Any] | None = None, **changes: Any) -> HabitatSplit:
    env = defaults(HabitatConfig)
    env.update({"simulator": "sidestep", "episodes": str(rooms), "scenes_dir": str(rooms), **changes})
    env["camera"]["size"] = 16
    env["task"].update({"sensors": ["rgb", "depth", "map"], "max_steps": 60, **(task or {})})
    return HabitatSplit.of(env, split)


def ours(rooms: Path, made: HabitatSplit) -> list[NavigableScene]:
    """The same places in the embedded environment."""
    from envs.pointnav.episodes import read_episodes

    episodes = read_episodes(rooms / "val/val.json.gz")
    found = []
    for name in ("long.ply", "short.ply"):
        scene = load_scene(rooms / name)
        found.append(NavigableScene(scene, NavGrid.build(scene), tuple(e for e in episodes if e.scene_id == name)))
    return found


def play(env: Any, actions: np.ndarray) -> Iterator[tuple[Any, ...]]:
    yield (env.reset(),)
    for row in actions:
        yield env.step(row)
        if not env.active.any():
            return


def test_the_explored_map_is_the_embedded_one(rooms: Path) -> None:
    made = settings(rooms, task={"sensors": ["explored"]})
    task, camera = rules(made)
    theirs = HabitatVecEnv(make_scenes(made), task, camera, 1, None)
    mine = PointNavVecEnv(ours(rooms, made), task, camera, 1, None)
    rng = np.random.default_rng(0)
    seen = 0
    try:
        assert theirs.observation_space == mine.observation_space
        assert "depth" not in theirs.observation_space.spaces
        actions = rng.choice([1, 1, 2, 3], (150, 1))
        for a, b in zip(play(theirs, actions), play(mine, actions), strict=True):
            # A point on the border of two cells may fall into either, which moves the plan, the last layer.
            apart = np.abs(a[0]["explored"].astype(int) - b[0]["explored"])
            assert np.mean(apart[:, :-1] > 0) < 0.01 and np.mean(apart[:, -1]) < 2 and apart[:, -1].max() < 25
            seen += int((b[0]["explored"] > 0).any(axis=(1, 2, 3)).sum())
        assert seen > 100
    finally:
        theirs.close()


def test_collisions_block_the_embedded_cells(rooms: Path) -> None:
    # So short-sighted a sensor sees nothing.
    made = settings(rooms, task={"sensors": ["explored"], "explored_layers": ["blocked"], "max_depth": 0.01})
    task, camera = rules(made)
    theirs = HabitatVecEnv(make_scenes(made), task, camera, 1, None)
    mine = PointNavVecEnv(ours(rooms, made), task, camera, 1, None)
    blocked = 0
    try:
        actions = np.array([[1]] * 50 + [[2]] * 9)
        for a, b in zip(play(theirs, actions), play(mine, actions), strict=True):
            assert (a[0]["explored"] != b[0]["explored"]).sum() <= 2
            assert a[0]["explored"].any() == b[0]["explored"].any()
            blocked += int(b[0]["explored"].any())
        assert blocked > 20
    finally:
        theirs.close()


def test_maps_from_predicted_depth_are_the_embedded_ones(rooms: Path) -> None:
    made = settings(
        rooms, task={"sensors": ["explored"], "explored_from": "predicted", "explored_layers": ["blocked", "free"]}
    )
    made = replace(made, camera=tuple({**dict(made.camera), "size": 64}.items()))
    task, camera = rules(made)
    assert task.cameras == ("rgb",)
    theirs = HabitatVecEnv(make_scenes(made), task, camera, 1, None, predict_depth=PredictedDepth())
    mine = PointNavVecEnv(ours(rooms, made), task, camera, 1, None, predict_depth=PredictedDepth())
    seen = 0
    try:
        assert set(theirs.observation_space.spaces) == {GOAL, "explored"}  # type: ignore[attr-defined]
        actions = np.random.default_rng(0).choice([1, 1, 2, 3], (40, 1))
        for a, b in zip(play(theirs, actions), play(mine, actions), strict=True):
            # Single pixels may differ, and with them, a little, what is predicted.
            assert np.mean(a[0]["explored"] != b[0]["explored"]) < 0.01
            seen += int((b[0]["explored"] > 0).any())
        assert seen > 30
    finally:
        theirs.close()


@pytest.mark.parametrize(
    ("variant", "kind"), [("habitat", "discrete"), ("side_tuning", "discrete"), ("habitat", "continuous")]
)
def test_equals_the_embedded_environment(rooms: Path, variant: str, kind: str) -> None:
    made = settings(rooms, task={"variant": variant, "actions": kind})
    task, camera = rules(made)
    assert task == PointNavTask(
        variant=variant, actions=kind, sensors=("rgb", "depth", "map"), max_steps=60, map_size=40, map_extent=14.0
    )
    assert camera == Camera(size=16)
    theirs = HabitatVecEnv(make_scenes(made), task, camera, 1, None)
    mine = PointNavVecEnv(ours(rooms, made), task, camera, 1, None)
    rng = np.random.default_rng(0)
    # Mostly forward and turns, now and then STOP where there is one.
    chances = [0.02, 0.58, 0.2, 0.2] if variant == "habitat" else [0.6, 0.2, 0.2]
    actions = rng.choice(len(chances), (6 * 60, 1), p=chances)
    if kind == "continuous":
        # STOP where it was drawn, else any motion.
        motions = rng.uniform([-0.7, -1.0], [1.0, 1.0], (6 * 60, 1, 2))
        actions = np.where(actions[..., None] == 0, [-1.0, 0.0], motions).astype(np.float32)
    records = 0
    try:
        assert theirs.observation_space == mine.observation_space
        assert theirs.action_space == mine.action_space
        for a, b in zip(play(theirs, actions), play(mine, actions), strict=True):
            active = mine.active
            assert np.array_equal(theirs.active, active)
            for key in b[0]:
                if active[0] or len(b) == 1:
                    np.testing.assert_allclose(a[0][key].astype(float), b[0][key].astype(float), atol=1e-5, err_msg=key)
            if len(b) == 1:
                continue
            np.testing.assert_allclose(a[1], b[1], atol=1e-6)
            assert a[1].dtype == np.float32
            assert np.array_equal(a[2], b[2])
            if b[2][0]:
                records += 1
                told, own = a[3][0], b[3][0]
                assert told["TimeLimit.truncated"] == own["TimeLimit.truncated"]
                assert told["is_success"] == own["is_success"]
                for key in own["terminal_observation"]:
                    one, other = told["terminal_observation"][key], own["terminal_observation"][key]
                    np.testing.assert_allclose(one.astype(float), other.astype(float), atol=1e-5)
                assert told["nav"].keys() == own["nav"].keys()
                assert told["nav"]["scene_id"] == own["nav"]["scene_id"].rpartition("/")[2].removesuffix(".ply")
                assert told["nav"]["episode_id"] == own["nav"]["episode_id"]
                np.testing.assert_allclose(told["nav"]["path"], own["nav"]["path"], atol=1.1e-3)
                for key in own["nav"].keys() - {"scene_id", "episode_id", "path"}:
                    assert told["nav"][key] == pytest.approx(own["nav"][key], abs=1e-6), key
            if active[0]:
                assert theirs.nav.agents.steps[0] == mine.nav.agents.steps[0]
                assert theirs.nav.agents.distance[0] == pytest.approx(mine.nav.agents.distance[0], abs=1e-6)
                assert theirs.nav.episode(0).episode_id == mine.nav.episode(0).episode_id
        assert records == 6
    finally:
        theirs.close()


def test_every_episode_once_and_the_expert_solves_it(rooms: Path) -> None:
    made = settings(rooms, task={"sensors": ["rgb"], "max_steps": 100})
    places = make_scenes(made)
    assert [p.name for p in places] == ["long", "short"]
    task, camera = rules(made)
    env = HabitatVecEnv(places, task, camera, 2, None)
    try:
        seen = env.reset()
        assert seen["rgb"].flags.c_contiguous
        records = []
        while env.active.any():
            _, _, dones, infos = env.step(env.nav.expert())
            records += [infos[n]["nav"] for n in np.flatnonzero(dones)]
        expected = sorted((p.name, e.episode_id) for p in places for e in p.episodes)
        assert sorted((r["scene_id"], r["episode_id"]) for r in records) == expected
        assert len(set(expected)) == 6
        assert all(r["success"] for r in records)
        assert np.mean([r["spl"] for r in records]) > 0.9
        # Idle agents: nothing happens, and nothing is counted.
        _, rewards, dones, infos = env.step(np.zeros(2, np.int64))
        assert not rewards.any()
        assert not dones.any()
        assert env.nav.picture(16).shape == (2, 16, 16, 3)
    finally:
        env.close()
    plan = places[0].floor_plan(places[0].episodes[0])
    assert plan["navigable"].any()
    goal = np.asarray(places[0].episodes[0].goals[0].position)[[0, 2]]
    np.testing.assert_allclose(plan["expert_path"][-1], goal, atol=1e-3)


def test_training_episodes_go_round_for_ever_with_a_seed(rooms: Path) -> None:
    made = settings(rooms, "train", {"sensors": [], "max_steps": 2}, episodes_per_scene=None)
    places = make_scenes(made)
    task, camera = rules(made)

    def identities(seed: int) -> list[Any]:
        env = HabitatVecEnv(places, task, camera, 2, seed)
        try:
            env.reset()
            found = []
            for _ in range(16):
                found.append([env.nav.episode(n) for n in range(2)])
                env.step(np.array([2, 2]))
                env.step(np.array([2, 2]))
            return found
        finally:
            env.close()

    first = identities(0)
    assert first == identities(0)
    assert first != identities(1)
    # Two workers, two scenes: each has its own.
    assert {row[0].scene_id for row in first} == {"long"}
    assert {row[1].scene_id for row in first} == {"short"}
    assert len({row[0].episode_id for row in first}) == 6


def test_settings_reach_habitat_lab(rooms: Path) -> None:
    made = settings(rooms, overrides=["habitat.simulator.turn_angle=30"], task={"turn": None, "forward": 0.5})
    task, _ = rules(made)
    assert (task.turn, task.forward, task.max_steps) == (30.0, 0.5, 60)
    assert rules(settings(rooms, task={"max_steps": None}))[0].max_steps == 500
    for changes, said in (
        ({"config": "benchmark/nav/pointnav/nowhere.yaml"}, "No file found"),
        ({"overrides": ["habitat.nonsense=1"]}, "nonsense"),
        ({"task": {"turn": 7.5}}, "whole number of degrees"),
        ({"overrides": ["~habitat.task.actions.turn_left"]}, "must have the actions"),
    ):
        with pytest.raises(ValueError, match=said):
            rules(settings(rooms, **changes))
    with pytest.raises(FileNotFoundError, match="is not there"):
        make_scenes(settings(rooms, episodes=str(rooms / "nowhere")))
    with pytest.raises(ValueError, match="choose from habitat_sim, sidestep"):
        settings(rooms, simulator="unity")


def test_scenes_of_a_scene_dataset(rooms: Path, tmp_path: Path) -> None:
    from envs.pointnav.episodes import read_episodes, write_episodes

    data = tmp_path / "flat"
    instance = data / "scenes/flat_0.scene_instance.json"
    instance.parent.mkdir(parents=True)
    stage = {"render_asset": str(rooms / "short.ply"), "up": [0, 1, 0], "front": [0, 0, -1]}
    (data / "stages").mkdir()
    (data / "stages/short.stage_config.json").write_text(json.dumps(stage))
    instance.write_text(json.dumps({"stage_instance": {"template_name": "short"}}))
    sections = {"stages": {"paths": {".json": ["stages"]}}, "scene_instances": {"paths": {".json": ["scenes"]}}}
    config = data / "flat.scene_dataset_config.json"
    config.write_text(json.dumps(sections))
    episodes = [replace(e, scene_id=instance.name) for e in read_episodes(rooms / "val/val.json.gz")[3:]]
    write_episodes(data / "val/val.json.gz", episodes)
    task = {"sensors": ["rgb"], "max_steps": 100}
    made = settings(rooms, "val", task, episodes=str(data), scenes_dir=str(instance.parent), dataset=str(config))
    (place,) = make_scenes(made)
    assert place.name == "flat_0"
    assert len(place.episodes) == 3
    # More agents than episodes: the second one idles.
    env = HabitatVecEnv([place.only(place.episodes[:1])], *rules(made), 2, None)
    try:
        assert env.reset()["rgb"].any(axis=(1, 2, 3)).tolist() == [True, False]
        assert env.active.tolist() == [True, False]
        records = []
        while env.active.any():
            _, _, dones, infos = env.step(env.nav.expert())
            records += [infos[n]["nav"] for n in np.flatnonzero(dones)]
        assert [r["success"] for r in records] == [1.0]
        assert {r["scene_id"] for r in records} == {"flat_0"}
    finally:
        env.close()


def test_a_simulator_that_cannot_start_is_one_error(rooms: Path, tmp_path: Path) -> None:
    made = settings(rooms)
    places = make_scenes(made)
    episodes = list(places[0].episodes)
    for episode in episodes:
        episode.scene_id = str(tmp_path / "gone.glb")
    task, camera = rules(made)
    with pytest.raises(ValueError, match=r"gone\.glb"):
        HabitatVecEnv([places[0].only(episodes)], task, camera, 1, None)


def test_an_episode_that_does_not_fit_is_one_error(rooms: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = settings(rooms)
    place = make_scenes(made)[0]
    episode = place.episodes[0]
    x, y, z = episode.start_position
    episode.start_position = [x, y + 50.0, z]
    task, camera = rules(made)
    env = HabitatVecEnv([place.only([episode])], task, camera, 1, None)
    with pytest.raises(ValueError, match="is more than 2 m from any floor"):
        env.reset()
    assert env.closed
    assert "Traceback" not in capfd.readouterr().err


def test_counts_of_a_split_are_checked(rooms: Path) -> None:
    for count in (0, -1, "few"):
        with pytest.raises(ValueError, match=f"scenes={count} of the split val must be a whole number"):
            replace(settings(rooms), scenes=count)


def command(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"agents.{module}", *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_training_and_evaluation_from_the_command_line(rooms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    env = ["env=habitat", "env.simulator=sidestep", f"env.episodes={rooms}", f"env.scenes_dir={rooms}"]
    tiny = ["env.agents=2", "env.camera.size=32", "env.task.max_steps=80", "base=random", "adapt.width=0.25"]
    tiny += ["policy.hidden=[32]", "policy.frames=2", "algo=dagger", "algo.updates=6", "algo.warmup_frames=64"]
    tiny += ["algo.buffer_frames=1024", "algo.learner.batch_size=16", "log_every=3"]
    trained = command("train", *env, *tiny, f"run={run}")
    assert trained.returncode == 0, trained.stderr
    judged = run_here("agents.evaluate", f"run={run}")
    assert judged.returncode == 0, judged.stderr
    result = json.loads((run / "result.json").read_text())
    assert (result["episodes"], result["scenes"], result["expert.success"]) == (6, 2, 1.0)
    records = [json.loads(line) for line in (run / "eval/val/agent.jsonl").read_text().splitlines()]
    assert len({(r["scene_id"], r["episode_id"]) for r in records}) == 6
    assert (run / "report.html").stat().st_size > 10_000
    assert len(list((run / "eval/val").glob("topdown_*.npz"))) == 6
    said = run_here("agents.doctor", *env)
    assert said.returncode == 0, said.stdout
    assert "all 2 scenes are in" in said.stdout
    lacking = run_here("agents.doctor", *env, "env.simulator=habitat_sim", "env.split=test")
    assert lacking.returncode == 1
    assert "missing habitat-sim is not installed" in lacking.stdout
    assert "test.json.gz is not there" in lacking.stdout
