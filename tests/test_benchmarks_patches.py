from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import image_folders, pacs_subset

from adapt.benchmarks.multitask_patches import MultitaskPatches, MultitaskPatchesConfig
from adapt.benchmarks.resolutions import Resolutions, ResolutionsConfig
from adapt.datasets.layout import LayoutError
from adapt.supervised.cascade import choose_thresholds, run_cascade

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


def test_two_datasets(shared: Path, tmp_path: Path) -> None:
    image_folders(shared, tmp_path / "flowers", {"train": 3, "val": 2})
    pacs_subset(shared, tmp_path / "places_jpeg.npz", per_class=5)
    config = MultitaskPatchesConfig(sets=("flowers", "places"), sizes=(24, 32))
    first, second = MultitaskPatches(config).tasks(tmp_path)
    assert (first.name, first.outputs, len(first.train), len(first.test)) == ("flowers", 3, 9, 6)
    assert (second.name, second.outputs, len(second.train) + len(second.test)) == ("places", 7, 140)
    assert tuple(first.train[0][0].shape) == (3, 24, 24) and tuple(second.test[0][0].shape) == (3, 32, 32)
    with pytest.raises(LayoutError, match="has neither a folder imagenet nor a file imagenet"):
        MultitaskPatches(MultitaskPatchesConfig()).tasks(tmp_path)
    with pytest.raises(ValueError, match="one size per set"):
        MultitaskPatchesConfig(sizes=(224,))


def test_five_sizes_of_one_dataset(shared: Path, tmp_path: Path) -> None:
    data = pacs_subset(shared, tmp_path / "pacs_jpeg.npz", per_class=10)
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
