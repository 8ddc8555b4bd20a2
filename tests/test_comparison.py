"""Runs side by side: those that differ in seeds alone become one row, with mean and spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import packed_set
from supervised_runs import run

from adapt.supervised.comparison import Repeats, compare, curves, group_seeds, ranks, spread, sweep
from adapt.supervised.finished import Finished, find_runs


def finished(path: str, accuracies: tuple[float, float], **config: Any) -> Finished:
    """A run of two tasks in sequence with these final accuracies."""
    tasks = ("a", "b")
    result = {
        "benchmark": "images",
        "method": config.get("adapt.name", "bn"),
        "protocol": "sequential",
        "tasks": list(tasks),
        "score": dict.fromkeys(tasks, "accuracy"),
        "higher_is_better": dict.fromkeys(tasks, True),
        "accuracy": sum(accuracies) / 2,
        "per_task": {task: {"accuracy": value} for task, value in zip(tasks, accuracies, strict=True)},
        "matrix": {"loss": [[1.0, None], [1.0 + accuracies[0], 2.0]]},
        "forgetting": accuracies[0],
        "rigidity": None,
        "parameters": 10,
        "bits": 320,
        "model_size": 1.5,
        "images": 64,
    }
    versions = {"command": f"python -m adapt.train run={path}", "git_commit": "0123456789abcdef"}
    return Finished(Path(path), result, versions, config)


def three_seeds(method: str, *accuracies: tuple[float, float]) -> list[Finished]:
    return [
        finished(f"runs/{method}_seed{seed}", pair, **{"adapt.name": method, "seed": seed, "adapt.seed": seed, "x": 1})
        for seed, pair in enumerate(accuracies)
    ]


def test_only_seeds_and_what_changes_nothing_may_differ() -> None:
    runs = three_seeds("bn", (0.5, 0.7), (0.6, 0.8)) + three_seeds("lora", (0.1, 0.2))
    other = finished("runs/other", (0.1, 0.2), **{**runs[0].config, "seed": 9, "x": 2})
    elsewhere = finished("runs/bn_seed7", (0.7, 0.9), **{**runs[0].config, "seed": 7, "device": "cuda", "cache": "c"})
    groups = group_seeds([*runs, other, elsewhere])
    assert [(group.name, len(group.runs)) for group in groups] == [("bn", 3), ("lora_seed0", 1), ("other", 1)]
    assert groups[0].values("accuracy") == [pytest.approx(v) for v in (0.6, 0.7, 0.8)]
    assert groups[0].of_task("b", "accuracy") == [0.7, 0.8, 0.9]


def test_mean_and_sample_deviation_are_shown() -> None:
    assert spread("accuracy", [0.5, 0.6, 0.7]) == "60.00 ± 10.00 %"
    assert spread("accuracy", [0.5]) == "50.00 %"
    assert spread("parameters", [10, 10]) == "10"
    assert spread("loss", []) == ""
    assert spread("loss", [1.0, 3.0]) == "2 ± 1.414"


def test_ranks_are_of_means_over_seeds() -> None:
    better = three_seeds("bn", (0.9, 0.1), (0.1, 0.3))
    worse = three_seeds("lora", (0.4, 0.4), (0.4, 0.4))
    assert ranks(group_seeds([*better, *worse])) == [1.5, 1.5]
    assert ranks(group_seeds([*three_seeds("bn", (0.9, 0.9), (0.5, 0.5)), *worse])) == [1.0, 2.0]
    assert ranks(group_seeds(better)) == [None]
    # Names are not unique: runs/a/side and runs/b/side.
    same = [finished(f"{folder}/side", (a, a), x=folder) for folder, a in (("a", 0.5), ("b", 0.7))]
    assert ranks(group_seeds(same)) == [2.0, 1.0]


def test_the_page_has_a_row_per_setting_and_all_commands(tmp_path: Path) -> None:
    runs = three_seeds("bn", (0.5, 0.7), (0.6, 0.8), (0.7, 0.9)) + three_seeds("lora", (0.1, 0.2))
    text = compare(runs, tmp_path, "x").with_suffix(".md").read_text()
    assert "| bn | 3 | 70.00 ± 10.00 % | 1.00 |" in text
    assert "| lora_seed0 | 1 | 15.00 % | 2.00 |" in text
    assert "| bn | 60.00 ± 10.00 % | 80.00 ± 10.00 % |" in text
    # No column is empty: nothing of these runs was published, and rigidity was not measured.
    assert "| run | seeds | accuracy | rank | forgetting (loss) | parameters | bits | size / base |" in text
    assert text.count("python -m adapt.train run=") == 4
    assert (tmp_path / "sweep.png").is_file() and (tmp_path / "comparison.png").is_file()


def test_bands_and_error_bars_are_the_spread_over_seeds() -> None:
    runs = three_seeds("bn", (0.5, 0.7), (0.7, 0.9))
    axis = curves({"bn": runs}).axes[0]
    assert np.allclose(axis.lines[0].get_ydata(), [0.0, 0.6])
    (band,) = axis.collections
    deviation = np.std([0.5, 0.7], ddof=1)
    assert np.isclose(band.get_paths()[0].vertices[:, 1].max(), 0.6 + deviation)
    bars = sweep(group_seeds(runs), "x").axes[0].containers[0]
    assert np.allclose(bars[0].get_ydata(), [0.7])
    with pytest.raises(ValueError, match="neither a setting nor a result 'y'"):
        sweep(group_seeds(runs), "y")
    assert sweep([Repeats("bn", tuple(runs))], "model_size").axes[0].containers[0][0].get_xdata()[0] == 1.5


def test_real_runs_of_two_seeds_become_one_row(tmp_path: Path) -> None:
    data = packed_set(tmp_path / "colours.npz")
    words = ["benchmark=images", f"data={data}", "benchmark.size=32", "training.length=1 steps", "adapt=features"]
    for seed in (0, 1):
        run(tmp_path / "runs" / f"features_{seed}", *words, f"seed={seed}", base="random")
    groups = group_seeds(find_runs([tmp_path / "runs"]))
    assert [(group.name, len(group.runs)) for group in groups] == [("features", 2)]
    seeds = [json.loads((run.path / "versions.json").read_text())["seed"] for run in groups[0].runs]
    assert seeds == [0, 1]
