"""The benchmark measures what it says, at sizes that take no time; none of these tests reads a clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from extras import require
from rooms import scene, simple_place, wall

from agents.bench import __main__ as command
from agents.bench import simulator as bench
from agents.bench.ppo import OWN, STAGES, configured, of_sb3, ours, plain, race, settings
from agents.bench.table import Measurement, median_of, number, write_results
from agents.learners.recurrent import MemoryPPO
from agents.policies.observations import EXPLORED, GOAL, MAP, RGB, VALID
from configs.compose import ConfigError
from envs.navgrid.grid import NavGrid
from envs.rendering.renderer import Camera, EmbreeRenderer

WORDS = ["base=random", "env.camera.size=32", "policy.hidden=[32]", "algo.learner.batch_size=16", "device=cpu"]


def test_medians_take_turns_and_leave_out_the_first() -> None:
    ticks = iter([0, 0, 0, 1, 0, 5, 0, 3, 0, 5, 0, 2, 0, 50])
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "ab"}
    found = bench.medians(works, 3, lambda: float(next(ticks)))
    assert found == {"a": 2.0, "b": 5.0}
    assert calls == ["a", "b"] * 4


def test_frames_and_bare_rays_are_the_same_views() -> None:
    made = scene(4.0, 4.0, [wall(0.0, 2.0, 2.5, 2.0)])
    works = bench.frame_works(made, NavGrid.build(made), 16, 3)
    images, hits = works["frames"](), works["rays"]()
    assert images["rgb"].shape == (3, 16, 16, 3)
    seen = images["depth"].ravel() > 0
    assert seen.any()
    np.testing.assert_allclose(images["depth"].ravel()[seen], hits["tfar"][seen] + Camera().near, atol=1e-6)


def test_small_triangles_look_like_large_ones() -> None:
    made = scene(4.0, 4.0, [wall(0.0, 2.0, 2.5, 2.0)])
    fine = bench.refined(made, 2)
    assert len(fine.faces) == 16 * len(made.faces)
    assert fine.solid.shape == (len(fine.faces),)
    poses = np.zeros(2, int), np.array([[1.0, 0, 1.0], [3.0, 0, 3.2]]), np.array([2.0, -1.0]), Camera(size=24)
    coarse, same = (EmbreeRenderer([s]).render(*poses) for s in (made, fine))
    np.testing.assert_allclose(same["depth"], coarse["depth"], atol=1e-4)
    assert (np.abs(same["rgb"].astype(int) - coarse["rgb"]) > 2).mean() < 0.01


def test_plain_ppo_recomputes_the_base_in_every_epoch_and_ours_does_not() -> None:
    cfg = settings(4, 8, *WORDS, "algo.learner.n_epochs=3")
    places = [simple_place(4)]
    pair = {"ours": ours(cfg, places), "plain": plain(cfg, places, False)}
    bases = {name: one.model.policy.extractor.adapted.base for name, one in pair.items()}
    for one in pair.values():
        one.model.learn(32)  # the first pass looks at the reset, too
    before = {name: base.frames_evaluated for name, base in bases.items()}
    race(pair, 1)
    frames = {name: (bases[name].frames_evaluated - before[name]) / 2 for name in pair}
    assert 32 <= frames["ours"] < 48  # once per frame, and the last frames of episodes
    assert frames["plain"] >= 32 * 4  # in the rollout and in three epochs
    for one in pair.values():
        assert set(one.seconds) == {"total", *STAGES}
        assert all(len(values) == 1 for values in one.seconds.values())
        assert 0 < sum(one.median(stage) for stage in STAGES) <= one.median("total") * 1.001
    assert "forward" not in vars(bases["ours"])


def test_results_keep_the_sections_that_were_not_measured(tmp_path: Path) -> None:
    about = {"date": "2026-01-01", "commit": "abc", "command": "bench", "machine": "m", "device": "cpu"}
    file = tmp_path / "bench.json"
    write_results(
        file,
        [Measurement("task", "step", 3.0, "us"), Measurement("base", "old", 1.0, "s")],
        {"task": about, "base": about},
    )
    write_results(file, [Measurement("base", "new", 1234.5, "s", "a reference", 2.0, "<= 3")], {"base": about})
    document = json.loads(file.read_text())
    assert [row["what"] for row in document["rows"]] == ["step", "new"]
    page = (tmp_path / "bench.md").read_text()
    assert "| 2.00 | a reference | base: new | 1,234 | s |  | <= 3 |" in page
    assert "|  |  | task: step | 3.00 | us |  |  |" in page
    assert "GPU numbers were not measured" in page
    assert [number(v) for v in (None, 0.5, 12.34, 1e6)] == ["", "0.50", "12.3", "1,000,000"]


def test_medians_of_runs_and_their_spread() -> None:
    runs = [
        [Measurement("a", "ratio", value, "s", "a reference", value / 2), Measurement("a", "plain", 10 * value, "s")]
        for value in (4.0, 1.0, 2.0)
    ]
    ratio, plain_one = median_of(runs)
    assert (ratio.value, ratio.ratio, ratio.spread) == (2.0, 1.0, 1.5)
    assert (plain_one.value, plain_one.ratio, plain_one.spread) == (20.0, None, 1.5)
    assert median_of(runs[:1]) == runs[0]
    with pytest.raises(ValueError, match="different things"):
        median_of([runs[0], runs[0][:1]])


def test_sb3_s_own_policy_takes_the_same_observations_and_no_base() -> None:
    cfg = settings(4, 8, *WORDS, "env.camera.size=40")
    one = of_sb3(cfg, [simple_place(4)])
    race({OWN: one}, 1)
    assert set(one.model.observation_space.spaces) == {RGB, GOAL, MAP, VALID}
    assert not any("base" in name for name in one.model.policy.state_dict())
    assert one.median("total") > 0 and one.median("frozen base, rollout") == 0


def test_sections_by_name() -> None:
    assert command.chosen_sections(["ppo", "render"]) == ["render", "ppo"]
    assert "gpu" in command.SECTIONS
    with pytest.raises(ConfigError, match="no section 'rendr'; did you mean 'render'"):
        command.chosen_sections("rendr")


def test_the_gpu_section_runs_on_warps_cpu_device(tmp_path: Path) -> None:
    require("warp")
    from agents.bench.gpu import gpu_rows
    from configs.compose import compose

    words = ["gpu.device=cpu", "gpu.agents=2", "gpu.apartments=1", "gpu.frame_sizes=[16]", "gpu.steps=4", "gpu.batch=4"]
    cfg = compose(
        "bench",
        [
            *words,
            "gpu.rounds=1",
            "gpu.runs=[{base: random, size: 32, target: ''}]",
            f"gpu.profile={tmp_path}/profile.txt",
        ],
    )
    rows = gpu_rows(cfg.gpu)
    assert [row.unit for row in rows[:2]] == ["frames/s", "steps/s"]
    assert all(row.value > 0 for row in rows if row.unit != "us per step")
    assert rows[0].ratio is not None
    assert "random at 32" in (tmp_path / "profile.txt").read_text()


def test_policies_are_those_that_are_named() -> None:
    small = [*WORDS, "adapt=features", "env.agents=4", "algo.rollout=8", "algo.sequence=4"]
    words = {"stack": [], "gru": ["policy=gru"], "map": ["env.task.sensors=[rgb,explored]"]}
    made = {name: configured([*small, *overrides], 1) for name, overrides in words.items()}
    race(made, 1)
    assert isinstance(made["gru"].model, MemoryPPO) and not isinstance(made["stack"].model, MemoryPPO)
    assert EXPLORED in made["map"].model.observation_space.spaces
    assert all(one.median("total") > 0 for one in made.values())
