from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniatures import decathlon, packed_set
from supervised_runs import narrow_base, run

from adapt import load_base
from adapt.benchmarks.decathlon import Decathlon, DecathlonConfig, transforms
from adapt.datasets.decathlon import SETS, decathlon_score, decathlon_scores, read_annotations
from adapt.datasets.images import LabelledImages
from adapt.datasets.layout import LayoutError
from adapt.export import main as export_command
from adapt.supervised.comparison import group_seeds, sweep
from adapt.supervised.finished import Finished, find_runs
from adapt.train import main as train_command

# Accuracies of rows that stand beside no run, and of the baseline, in the order of SETS, and their published scores.
PUBLISHED = """
fine-tune-nips17    59.87 60.34 82.12 92.82 55.53 97.53 81.41 87.69 96.55 51.20 2500
fine-tune-cvpr18    60.32 60.34 82.12 92.82 55.53 99.42 81.41 89.12 96.55 51.20 3096
residual-nips17     59.67 56.68 81.20 93.88 50.85 97.05 66.24 89.62 96.13 47.45 2118
residual-joint      59.23 63.73 81.31 93.30 57.02 97.47 83.43 89.82 96.17 50.28 2643
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
THREE = ("aircraft", "gtsrb", "daimlerpedcls")


def fractions(row: list[str]) -> dict[str, float]:
    return {name: float(value) / 100 for name, value in zip(SETS, row[1:-1], strict=True)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_published_accuracies_give_the_published_scores(row: list[str]) -> None:
    # Two decimals leave the sum of ten squares uncertain by about two points.
    assert decathlon_score(fractions(row)) == pytest.approx(float(row[-1]), abs=2.5)


def test_score_in_closed_form() -> None:
    perfect = dict.fromkeys(SETS, 1.0)
    assert decathlon_score(perfect) == pytest.approx(10_000)
    assert decathlon_score(dict.fromkeys(SETS, 0.0)) == 0
    # GTSRB: the largest error is 2 * 2.47 %, so 97.53 % is half way: 1000 / 4; below 95.06 % nothing counts.
    assert decathlon_scores({"gtsrb": 0.9753})["gtsrb"] == pytest.approx(250)
    assert decathlon_scores({"gtsrb": 0.95})["gtsrb"] == 0
    gain = decathlon_score({"gtsrb": 0.991}) - decathlon_score({"gtsrb": 0.990})
    assert gain == pytest.approx(1000 * (4.04**2 - 3.94**2) / 4.94**2, rel=1e-6)


def test_the_stronger_baseline_is_another_score() -> None:
    tuned = next(row for row in ROWS if row[0] == "fine-tune-cvpr18")
    assert decathlon_score(fractions(tuned), "cvpr18") == pytest.approx(2500, abs=0.1)
    assert decathlon_score(fractions(tuned)) > 3000
    with pytest.raises(ValueError, match="unknown baseline"):
        decathlon_score({"gtsrb": 0.9}, "eccv")
    with pytest.raises(ValueError, match=r"fractions in 0\.\.1"):
        decathlon_score({"gtsrb": 97.5})
    with pytest.raises(ValueError, match="no set"):
        decathlon_score({"mnist": 0.5})


def test_classes_come_from_categories_not_from_folders(tmp_path: Path) -> None:
    root = decathlon(tmp_path, ("svhn",), per_class=2) / "decathlon-1.0"
    images, classes = read_annotations(root, "svhn", "train")
    assert classes == ("c0", "c1", "c2")
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [path.parent.name for path in images.images] == ["9", "9", "8", "8", "7", "7"]
    path = root / "annotations" / "svhn_train.json"
    content = json.loads(path.read_text())
    # A split without its first class keeps the numbers of the others.
    content["annotations"] = content["annotations"][2:]
    path.write_text(json.dumps(content))
    assert read_annotations(root, "svhn", "train")[0].labels.tolist() == [1, 1, 2, 2]
    content["annotations"][0]["category_id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="there is no 1, which its annotations need"):
        read_annotations(root, "svhn", "train")
    path.write_text("{")
    with pytest.raises(ValueError, match="no annotation file"):
        read_annotations(root, "svhn", "train")


def test_tasks_of_a_miniature(tmp_path: Path) -> None:
    root = decathlon(tmp_path, THREE, per_class=2)
    tasks = Decathlon(DecathlonConfig(sets=THREE)).tasks(root)
    assert [task.name for task in tasks] == list(THREE)
    sizes = [(tuple(task.train[0][0].shape), tuple(task.test[0][0].shape)) for task in tasks]
    assert sizes == [((3, 64, 64),) * 2, ((3, 72, 72),) * 2, ((3, 64, 64),) * 2]
    assert [task.weight_decay for task in tasks] == [2e-3, 1e-4, 5e-4]
    assert [task.augmented for task in tasks] == [True, False, True]
    assert tasks[2].normalisation is not None and tasks[2].normalisation.mean == (0.4820,) * 3
    assert all(task.outputs == 3 and task.test[0][0].dtype == torch.uint8 for task in tasks)
    # Signs are never mirrored, nor cropped at random.
    first = tasks[1].train[0][0]
    assert all(torch.equal(first, tasks[1].train[0][0]) for _ in range(8))
    assert len({tuple(tasks[0].train[0][0].flatten().tolist()) for _ in range(8)}) > 1
    again = Decathlon(DecathlonConfig(sets=THREE)).tasks(root)
    assert [task.identity for task in again] == [task.identity for task in tasks]
    whole = Decathlon(DecathlonConfig(sets=THREE, pedestrians="whole")).tasks(root)
    assert tuple(whole[2].train[0][0].shape) == (3, 144, 72)
    assert whole[2].identity != tasks[2].identity


def test_training_and_test_labels_of_submissions(tmp_path: Path) -> None:
    root = decathlon(tmp_path, ("svhn",), per_class=2, test=True)
    (task,) = Decathlon(DecathlonConfig(sets=("svhn",), train="trainval", test="test")).tasks(root)
    assert (len(task.train), len(task.test)) == (12, 6)
    assert isinstance(task.test, LabelledImages)
    assert "data/svhn/test/" in str(task.test.source.images[0])
    with pytest.raises(ValueError, match="test where train=trainval"):
        DecathlonConfig(train="trainval")


def test_scores_are_summed_up() -> None:
    benchmark = Decathlon(DecathlonConfig(imagenet_accuracy=0.5987))
    nine = {name: {"accuracy": each.baseline} for name, each in SETS.items() if name != "imagenet12"}
    assert benchmark.summarise(nine) == {"s_score": pytest.approx(2500)}
    assert Decathlon(DecathlonConfig()).summarise(nine) == {"s_score_of_9": pytest.approx(2250)}


def test_wrong_layouts_are_refused_with_the_tree(tmp_path: Path) -> None:
    benchmark = Decathlon(DecathlonConfig(sets=THREE))
    with pytest.raises(LayoutError, match="is absent") as refusal:
        benchmark.tasks(tmp_path / "nowhere")
    assert "\n    annotations/<set>_train.json" in str(refusal.value)
    assert "robots.ox.ac.uk/~vgg/decathlon" in str(refusal.value)
    root = decathlon(tmp_path, THREE, per_class=2)
    (root / "decathlon-1.0" / "annotations" / "gtsrb_val.json").unlink()
    with pytest.raises(LayoutError, match=r"has no annotations/gtsrb_val.json; decathlon expects"):
        benchmark.tasks(root)
    with pytest.raises(ValueError, match="did you mean 'gtsrb'"):
        DecathlonConfig(sets=("gtsbr",))


@pytest.mark.parametrize("name", SETS)
def test_transforms_of_every_set(name: str) -> None:
    image = torch.arange(3 * 80 * 100).remainder(256).byte().view(3, 80, 100)
    side = 72 if name in ("gtsrb", "omniglot", "svhn") else 64
    for transform in transforms(name):
        assert tuple(transform(image).shape) == (3, side, side)


def test_runs_end_to_end(tmp_path: Path) -> None:
    names = ("aircraft", "gtsrb")
    decathlon(tmp_path / "data", names, per_class=4)
    words = [f"data={tmp_path / 'data'}", "benchmark.sets=[aircraft,gtsrb]", "training.length=3 steps"]
    result = run(tmp_path / "run", "benchmark=decathlon", "adapt=residual_adapter", *words, "training.batch=6")
    assert result["protocol"] == "single" and result["images"] == 2 * 18
    accuracies = {name: result["per_task"][name]["accuracy"] for name in names}
    assert result["s_score_of_2"] == pytest.approx(decathlon_score(accuracies))
    assert all((tmp_path / "run" / "adapter" / name / "adapter.json").is_file() for name in names)


def test_widths_of_the_base_from_pretraining_to_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decathlon(tmp_path / "data", ("aircraft", "gtsrb"), per_class=4)
    shared = ["device=cpu", "cache=none", "training.length=2 steps", "training.batch=6"]

    def command(main: Callable[[], object], *words: str) -> None:
        monkeypatch.setattr(sys, "argv", [main.__module__, *words])
        main()

    def trained(run: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((run / "result.json").read_text())
        return result

    for width in (0.125, 0.25):
        pretrained, file = tmp_path / f"pretrained{width}", tmp_path / f"{width}.safetensors"
        words = [f"data={packed_set(tmp_path / 'set.npz')}", "benchmark.size=32", f"run={pretrained}"]
        words += [f"base.name=random/resnet26:{width}", "adapt=scratch", *shared]
        command(train_command, "benchmark=images", *words)
        assert trained(pretrained)["base_width"] == width
        command(export_command, f"run={pretrained}", f"out={file}")
        base = load_base(file)
        assert base.spec.kwargs == {"width": width} and base.feature_shape(72) == (256 * width,)
        weights = [each.encoder.get_parameter("conv1.weight") for each in (base, load_base(f"random/resnet26:{width}"))]
        assert not torch.equal(*weights)
        words = ["adapt=residual_adapter", "adapt.dropout=0.5", f"base.name={file}", f"data={tmp_path / 'data'}"]
        words += ["benchmark.sets=[aircraft,gtsrb]", f"run={tmp_path / f'adapters{width}'}", *shared]
        command(train_command, "experiment=decathlon_residual_adapters", *words)
    runs = find_runs([tmp_path / "adapters0.125", tmp_path / "adapters0.25"])
    # Adapters are 1x1 convolutions: their size goes with the square of the width.
    assert 3.5 < runs[1].result["parameters"] / runs[0].result["parameters"] < 4
    assert [run.result["encoder"] for run in runs] == ["resnet26"] * 2
    axis = sweep(group_seeds(runs), "base_width").axes[0]
    assert axis.containers[0][0].get_xdata().tolist() == [0.125, 0.25]


def test_widths_that_make_no_sense_are_one_line() -> None:
    wide = load_base("random/resnet26:2.5")
    assert wide.feature_shape(16) == (640,) and wide.spec.kwargs == {"width": 2.5}
    for rest, said in (
        ("resnet26:wide", "base random/resnet26:wide: the width must be above 0 and at most 64, got 'wide'"),
        ("resnet26:0", "must be above 0 and at most 64, got '0'"),
        ("resnet26:0.001", "must leave one or more, got 0.001"),
        ("resnet26:", "base random/resnet26:: the width must be"),
        ("resnet44:2", "base random/resnet44:2: resnet44 has no width to set"),
        ("timm/resnet18:2", "timm/resnet18 has no width to set"),
        ("resnet27:2", "unknown encoder 'resnet27'; did you mean 'resnet26'"),
        ("torchvision/resnet18:2", "torchvision/resnet18 has no width to set"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            load_base(f"random/{rest}")


def test_no_published_number_is_of_another_width(tmp_path: Path) -> None:
    settings = {"benchmark.train": "trainval", "benchmark.test": "test"}
    result = {"benchmark": "decathlon", "method": "fine_tune", "protocol": "single", "encoder": "resnet26"}
    rows = [
        Finished(tmp_path, {**result, **more}, {}, settings).row
        for more in ({}, {"base_width": 1.0}, {"base_width": 2.5})
    ]
    assert rows[0] is not None and rows[1] == rows[0] and rows[2] is None


def test_the_command_prints_the_tree_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark=decathlon", "base=random", f"base.name={narrow_base(tmp_path)}", "device=cpu"]
    monkeypatch.setattr(sys, "argv", ["adapt.train", *words, f"data={tmp_path}", f"run={tmp_path / 'run'}"])
    with pytest.raises(SystemExit) as stopped:
        train_command()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ") and "has no annotations/imagenet12_val.json" in lines[0]
    assert lines[1].startswith("  decathlon-1.0/") and len(lines) > 8
    assert not (tmp_path / "run").exists()
