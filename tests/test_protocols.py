"""How tasks are learned: in two stages, jointly, with a fixed readout; and what results say about sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from miniatures import packed_set, two_domains
from supervised_runs import run

from adapt import load, load_base
from adapt.supervised.layers import run_changes
from adapt.supervised.runs import TRUNK, make_benchmark, run_base
from adapt.training.run import load_config

SHORT = ["benchmark=domainnet", "benchmark.size=32", "training.batch=8", "device=cpu"]


def two_stages(tmp_path: Path, *words: str) -> dict[str, object]:
    stage = ["protocol=two_stage", "stage.length=3 steps", "stage.batch=4", "training.length=2 steps"]
    data = two_domains(tmp_path / "domains.npz")
    return run(tmp_path / "run", *SHORT, "adapt=taps", *stage, f"data={data}", *words)


def test_two_stages_train_one_network_then_each_task_on_it_frozen(tmp_path: Path) -> None:
    result = two_stages(tmp_path)
    folder = tmp_path / "run"
    assert result["images"] == 2 * 3 * 4 + 2 * 2 * 8
    trunk = load_base(folder / TRUNK)
    plain = load_base(str(tmp_path / "narrow.safetensors"))
    assert trunk.sha256 != plain.sha256
    cfg = load_config(folder)
    assert run_base(folder, cfg, make_benchmark(cfg)).sha256 == trunk.sha256
    for task in ("red", "green"):
        adapted = load(trunk, folder / "adapter" / task)
        assert adapted.tasks == [task]
        assert adapted.method().name() == "taps"
    _, changes, _ = run_changes(folder, trunk)
    for task, layers in changes.items():
        assert result["per_task"][task]["layer_share"] == sum(layers.values()) / len(layers)
    assert 1 < result["model_size"] <= 3.1


def test_the_second_stage_is_that_of_the_trunk_alone(tmp_path: Path) -> None:
    """Stage two has a schedule, batch and readouts of its own: the same as a run whose base is the trunk."""
    result = two_stages(tmp_path)
    words = ["adapt=taps", "protocol=single", "training.length=2 steps", f"data={tmp_path / 'domains.npz'}"]
    alone = run(tmp_path / "alone", *SHORT, *words, base=str(tmp_path / "run" / TRUNK))
    for task in ("red", "green"):
        assert alone["per_task"][task] == result["per_task"][task]


def test_a_run_killed_between_the_stages_ends_in_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = two_stages(tmp_path)
    saves = []

    def dies(*arguments: object) -> None:
        save(*arguments)
        saves.append(arguments)
        if len(saves) == 2:
            raise KeyboardInterrupt

    from adapt.supervised import runs

    save = runs._save
    (tmp_path / "run").rename(tmp_path / "whole")
    monkeypatch.setattr(runs, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        two_stages(tmp_path)
    monkeypatch.setattr(runs, "_save", save)
    resumed = two_stages(tmp_path, "resume=true")
    assert resumed["per_task"] == whole["per_task"]
    assert resumed["images"] == whole["images"]


def test_joint_fine_tuning_is_one_network(tmp_path: Path) -> None:
    data = two_domains(tmp_path / "domains.npz")
    words = [*SHORT, "adapt=fine_tune", "protocol=joint", "training.length=2 steps", f"data={data}"]
    with pytest.raises(ValueError, match=r"trains one network; add adapt.shared=true, or protocol=single"):
        run(tmp_path / "separate", *words, "adapt.shared=false")
    result = run(tmp_path / "shared", *words, "adapt.shared=true")
    own = sum(p.numel() for p in load_base(str(tmp_path / "narrow.safetensors")).encoder.parameters())
    assert result["parameters"] == own
    assert result["model_size"] == pytest.approx(1, abs=0.01)


def test_a_fixed_readout_stays_as_it_starts_and_the_patch_learns_around_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    packed_set(data / "bars.npz")
    words = ["benchmark=multitask_patches", "benchmark.sets=[bars]", "benchmark.sizes=[32]", "protocol=single"]
    words += ["training.length=2 steps", "training.batch=8", f"data={data}", "adapt=patch", "adapt.joint=false"]
    run(tmp_path / "fixed", *words, "training.readout=fixed")
    state = torch.load(next((tmp_path / "fixed" / "checkpoints").glob("*.pt")), weights_only=True)
    run(tmp_path / "longer", *words, "training.readout=fixed", "training.length=4 steps")
    later = torch.load(next((tmp_path / "longer" / "checkpoints").glob("*.pt")), weights_only=True)
    for name, tensor in state["tasks"]["bars"]["readout"].items():
        assert torch.equal(tensor, later["tasks"]["bars"]["readout"][name])
    moved = [
        not torch.equal(tensor, later["tasks"]["bars"]["method"][name])
        for name, tensor in state["tasks"]["bars"]["method"].items()
    ]
    assert any(moved)
    with pytest.raises(ValueError, match=r"nothing is trained: features .* training.readout is fixed"):
        run(tmp_path / "nothing", *words[:-2], "adapt=features", "training.readout=fixed")


def test_sizes_count_the_base_where_it_is_needed(tmp_path: Path) -> None:
    data = two_domains(tmp_path / "domains.npz")
    words = [*SHORT, "protocol=single", "training.length=1 steps", f"data={data}"]
    sizes = {
        method: run(tmp_path / method, *words, f"adapt={method}")["model_size"]
        for method in ("features", "scratch", "piggyback")
    }
    assert sizes["features"] == 1
    assert sizes["scratch"] == pytest.approx(2, abs=0.01)
    assert sizes["piggyback"] == pytest.approx(1 + 2 / 32, abs=0.01)
    masked = json.loads((tmp_path / "piggyback" / "result.json").read_text())["per_task"]["red"]["masked_share"]
    assert masked == 0, "one step of 5e-3 moves no mask across its threshold"
