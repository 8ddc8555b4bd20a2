from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import image_folders, pacs
from supervised_runs import run

from adapt import wrap
from adapt.benchmarks.multitask_patches import MultitaskPatches, MultitaskPatchesConfig
from adapt.benchmarks.resolutions import Resolutions, ResolutionsConfig
from adapt.core.base import random_base
from adapt.core.deltas import norm_layers, weighted_layers
from adapt.datasets.layout import LayoutError
from adapt.datasets.own import find_set
from adapt.methods.piggyback import Piggyback
from adapt.methods.taps import TAPS
from adapt.supervised.cascade import choose_thresholds, cost_curve, draw, run_cascade, stages_of_run
from adapt.supervised.layers import changed_layers, run_changes
from adapt.supervised.layers import draw as draw_layers

COSTS = (1.0, 4.0)


def probabilities(sure: list[float], right: list[bool]) -> np.ndarray:
    """Two classes, of which 0 is right everywhere; class 0 if `right`, each with the probability `sure`."""
    first = np.where(right, sure, 1 - np.array(sure))
    return np.stack([first, 1 - first], 1)


LABELS = np.zeros(6, np.int64)
CHEAP = probabilities([0.99, 0.95, 0.9, 0.8, 0.7, 0.6], [True, True, False, True, False, True])
COSTLY = probabilities([0.9] * 6, [True, True, False, True, True, True])


def test_a_stage_answers_while_it_is_as_good_as_the_best_network() -> None:
    # Right after 1..6 of the surest: cheap 1 2 2 3 3 4, costly 1 2 2 3 4 5. The fifth would be one too few.
    thresholds = choose_thresholds([CHEAP, COSTLY], LABELS)
    assert thresholds == [pytest.approx(0.8), 0.0]
    outcome = run_cascade([CHEAP, COSTLY], LABELS, COSTS, thresholds)
    assert outcome.accuracy == pytest.approx(5 / 6)  # that of the costly network
    assert outcome.cost == pytest.approx((6 * 1 + 2 * 4) / 6)
    assert outcome.shares == (pytest.approx(4 / 6), pytest.approx(2 / 6))


def test_tolerance_makes_it_cheaper() -> None:
    # 4 of at least 0.8 * 5 right: the cheap network may answer everything.
    thresholds = choose_thresholds([CHEAP, COSTLY], LABELS, tolerance=0.2)
    outcome = run_cascade([CHEAP, COSTLY], LABELS, COSTS, thresholds)
    assert (outcome.accuracy, outcome.cost) == (pytest.approx(4 / 6), 1.0)


def test_a_cheap_network_that_is_never_right_answers_nothing() -> None:
    wrong = probabilities([0.9] * 6, [False] * 6)
    thresholds = choose_thresholds([wrong, COSTLY], LABELS)
    assert thresholds[0] > 1
    outcome = run_cascade([wrong, COSTLY], LABELS, COSTS, thresholds)
    assert outcome.accuracy == pytest.approx(5 / 6) and outcome.cost == 5.0


def test_equally_sure_examples_are_answered_together() -> None:
    cheap = probabilities([0.9, 0.9, 0.6, 0.6, 0.6, 0.6], [True, True, True, False, False, False])
    thresholds = choose_thresholds([cheap, COSTLY], LABELS)
    assert thresholds[0] == pytest.approx(0.9)
    with pytest.raises(ValueError, match="at least one stage"):
        choose_thresholds([], LABELS)
    with pytest.raises(ValueError, match="give one each"):
        run_cascade([cheap], LABELS, COSTS, [0.0])


def test_cascades_of_random_networks_keep_the_accuracy_on_held_out_examples() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    stages = []
    for strength in (1.0, 1.5, 2.0):
        scores = rng.normal(size=(400, 5)) + strength * np.eye(5)[labels]
        stages.append(np.exp(scores) / np.exp(scores).sum(1, keepdims=True))
    best = max(float((stage.argmax(1) == labels).mean()) for stage in stages)
    outcome = run_cascade(stages, labels, (1, 2, 4), choose_thresholds(stages, labels))
    assert outcome.accuracy >= best and outcome.cost < 7
    assert sum(outcome.shares) == pytest.approx(1)


def test_two_datasets(tmp_path: Path) -> None:
    image_folders(tmp_path / "flowers", {"train": 3, "val": 2})
    pacs(tmp_path / "places_jpeg.npz", per_class=5)
    config = MultitaskPatchesConfig(sets=("flowers", "places"), sizes=(24, 32))
    first, second = MultitaskPatches(config).tasks(tmp_path)
    assert (first.name, first.outputs, len(first.train), len(first.test)) == ("flowers", 3, 9, 6)
    assert (second.name, second.outputs, len(second.train) + len(second.test)) == ("places", 7, 140)
    assert tuple(first.train[0][0].shape) == (3, 24, 24) and tuple(second.test[0][0].shape) == (3, 32, 32)
    with pytest.raises(LayoutError, match="has neither a folder imagenet nor a file imagenet"):
        MultitaskPatches(MultitaskPatchesConfig()).tasks(tmp_path)
    with pytest.raises(ValueError, match="one size per set"):
        MultitaskPatchesConfig(sizes=(224,))
    with pytest.raises(LayoutError, match="has neither a folder place nor"):
        MultitaskPatches(MultitaskPatchesConfig(sets=("place",), sizes=(24,))).tasks(tmp_path)
    (tmp_path / "places.npz").touch()
    with pytest.raises(LayoutError, match=r"has more than one places\*.npz \(places.npz, places_jpeg.npz\)"):
        MultitaskPatches(config).tasks(tmp_path)


def test_five_sizes_of_one_dataset(tmp_path: Path) -> None:
    data = pacs(tmp_path / "pacs_jpeg.npz", per_class=10)
    benchmark = Resolutions(ResolutionsConfig(sizes=(16, 24, 32), held_out=0.2))
    tasks = benchmark.tasks(data)
    assert [task.name for task in tasks] == ["size16", "size24", "size32"]
    assert [tuple(task.test[0][0].shape) for task in tasks] == [(3, n, n) for n in (16, 24, 32)]
    held = benchmark.held_out(data)
    assert [tuple(each[0][0].shape) for each in held] == [(3, n, n) for n in (16, 24, 32)]
    # 280 images: 84 test, 20 % of the other 196 are held out, all classes alike.
    assert (len(tasks[0].test), len(held[0]), len(tasks[0].train)) == (84, 42, 154)
    assert np.bincount(held[0].source.labels).tolist() == [6] * 7
    train = tasks[0].train.source.images  # type: ignore[attr-defined]
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in held[0].source.images}
    with pytest.raises(LayoutError, match="is absent; resolutions expects:\n"):
        benchmark.tasks(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="ascending"):
        ResolutionsConfig(sizes=(32, 16))


def test_patches_on_two_datasets_at_once(tmp_path: Path) -> None:
    image_folders(tmp_path / "data" / "imagenet", {"train": 4, "val": 2})
    pacs(tmp_path / "data" / "places_jpeg.npz", per_class=4)
    words = [f"data={tmp_path / 'data'}", "benchmark.sizes=[24,32]", "training.length=2 steps", "training.batch=4"]
    result = run(tmp_path / "run", "benchmark=multitask_patches", "adapt=patch", *words, "optimiser.lr=0.001")
    network = random_base("resnet26", width=0.125).encoder
    norms = sum(p.numel() for layer in norm_layers(network).values() for p in layer.parameters())
    weights = sum(p.numel() for p in network.parameters()) - norms
    # All convolutions once, scales and biases twice.
    assert result["parameters"] == weights + 2 * norms
    assert result["protocol"] == "joint"


def test_five_sizes_share_all_but_their_patches_and_make_a_cascade(tmp_path: Path) -> None:
    data = pacs(tmp_path / "pacs_jpeg.npz", per_class=5)
    words = [f"data={data}", "benchmark.sizes=[16,24,32]", "benchmark.held_out=0.3", "training.length=3 steps"]
    result = run(
        tmp_path / "run",
        "benchmark=resolutions",
        "adapt=patch",
        *words,
        "training.batch=8",
        "optimiser.lr=0.001",
        "optimiser.name=adam",
        "optimiser.eps=0",
    )
    assert result["head_parameters"] == 7 * (32 + 1)  # one for all
    names, costs, (held, test), (held_labels, test_labels) = stages_of_run(tmp_path / "run")
    assert names == ["size16", "size24", "size32"]
    assert costs[0] < costs[1] < costs[2] and costs[2] / costs[0] == pytest.approx(4, rel=0.1)
    accuracies = [float((stage.argmax(1) == test_labels).mean()) for stage in test]
    assert accuracies == pytest.approx([result["per_task"][name]["accuracy"] for name in names])
    rows = cost_curve(held, held_labels, test, test_labels, costs)
    assert [row["cost"] for row in rows] == sorted((row["cost"] for row in rows), reverse=True)
    draw(dict(zip(names, zip(costs, accuracies, strict=True), strict=True)), rows, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", ["taps", "piggyback", "lora"])
def test_pictures_of_changed_layers(method: str, tmp_path: Path) -> None:
    base = random_base("resnet26", width=0.125)
    adapted = wrap(base, method, "first", 32)
    adapted.add("second", method)
    layers = list(weighted_layers(base.encoder))
    second = adapted.method("second")
    with torch.no_grad():
        if isinstance(second, TAPS):
            for name in layers[3:]:
                second.gates()[name].s.zero_()
        elif isinstance(second, Piggyback):
            mask = second.deltas[layers[0].replace(".", "/")]
            mask.r[:2] = 0  # two of the four filters
        else:
            for parameter in second.parameters():
                parameter.add_(0.1)
    adapted.save(tmp_path / "adapter")
    found, changes, shares = run_changes(tmp_path, base)
    assert found == method and list(changes) == ["first", "second"] and list(changes["first"]) == layers
    if method == "taps":
        assert changes["second"] == {name: float(place < 3) for place, name in enumerate(layers)}
        assert shares["first"] == 1 and 0 < shares["second"] < 0.1
    elif method == "piggyback":
        assert changes["second"] == {name: 0.5 * (place == 0) for place, name in enumerate(layers)}
        assert shares["first"] == 0
    else:
        assert all(value > 0 for value in changes["second"].values())
        assert all(value == 0 for value in changes["first"].values())
    draw_layers(method, changes, tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match="has not finished"):
        run_changes(tmp_path / "nowhere", base)
    with pytest.raises(ValueError, match="does not change the base layer by layer"):
        changed_layers(wrap(base, "features", "third", 32).method())


def test_small_data_of_one_s_own(tmp_path: Path) -> None:
    image_folders(tmp_path / "split", {"train": 3, "test": 2})
    image_folders(tmp_path, {"whole": 5})
    for folder in ("split", "whole"):
        parts = find_set(tmp_path / folder, share=0.4, seed=0)
        assert parts.classes == ("class0", "class1", "class2")
        assert np.bincount(parts.train.labels).tolist() == [3] * 3
        assert np.bincount(parts.test.labels).tolist() == [2] * 3
    images, labels = np.arange(6, dtype=np.uint8).repeat(12).reshape(6, 2, 2, 3), np.array([0, 1, 0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", x=images, y=labels, is_test=[0, 0, 0, 0, 1, 1], names=["cat", "dog"])
    parts = find_set(tmp_path / "a.npz", share=0.5, seed=0)
    assert parts.classes == ("cat", "dog") and parts.test.labels.tolist() == [0, 1]
    assert [int(image[0, 0, 0]) for image in parts.test.images] == [4, 5]  # type: ignore[index, call-overload]
    assert len(parts.train + parts.test) == 6
    np.savez(tmp_path / "b.npz", x=images)
    with pytest.raises(ValueError, match="has the members x; it needs images"):
        find_set(tmp_path / "b.npz", 0.5, 0)
    with pytest.raises(FileNotFoundError, match="is absent"):
        find_set(tmp_path / "c", 0.5, 0)
    (tmp_path / "split" / "test" / "class1").rename(tmp_path / "split" / "test" / "other")
    with pytest.raises(ValueError, match="has the class 'other', which"):
        find_set(tmp_path / "split", 0.5, 0)
