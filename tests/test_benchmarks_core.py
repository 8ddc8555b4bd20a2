"""What all supervised benchmarks share: results, lengths, optimisers, kept features."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adapt import Base
from adapt.benchmarks.benchmark import Accuracy, Tensors, benchmarks, build_benchmark, get_benchmark
from adapt.core.base import IMAGENET, random_base
from adapt.core.method import list_methods
from adapt.supervised.features import FeatureStore
from adapt.supervised.optimisation import (
    OptimiserConfig,
    TrainingConfig,
    count_steps,
    parameter_groups,
    shuffled,
    subset,
)
from adapt.supervised.results import Results, average_ranks, shared_means
from adapt.supervised.runs import make_benchmark, make_plan
from adapt.training.digests import tensors_sha256
from configs.compose import FOLDER, compose


def results() -> Results:
    """Two tasks of which the first is forgotten, R[i][j] = loss of j after i."""
    rows = [
        {"a": {"loss": 1.0, "accuracy": 0.8}},
        {"a": {"loss": 1.5, "accuracy": 0.6}, "b": {"loss": 2.0, "accuracy": 0.5}},
        {
            "a": {"loss": 3.0, "accuracy": 0.2},
            "b": {"loss": 2.0, "accuracy": 0.5},
            "c": {"loss": 0.5, "accuracy": 0.9},
        },
    ]
    return Results(["a", "b", "c"], rows, {"b": {"loss": 1.0}, "c": {"loss": 0.5}})


class TestResults:
    def test_forgetting_is_growth_since_the_own_training(self) -> None:
        assert results().forgetting() == {"c": 0.0, "b": 0.0, "a": 2.0}
        assert results().forgetting("accuracy")["a"] == pytest.approx(-0.6)

    def test_rigidity_is_the_log_ratio_to_being_first(self) -> None:
        rigidity = results().rigidity()
        assert rigidity == {"a": 0.0, "b": pytest.approx(math.log(2)), "c": 0.0}

    def test_matrix_has_no_number_where_nothing_was_tested(self) -> None:
        matrix = np.array(results().matrix("loss"))
        assert matrix.shape == (3, 3)
        assert np.array_equal(np.isnan(matrix), np.triu(np.ones((3, 3), bool), 1))
        assert matrix[2].tolist() == [3.0, 2.0, 0.5]

    def test_means_are_over_scores_that_all_tasks_have(self) -> None:
        means = shared_means({"a": {"loss": 1.0, "f1": 0.5}, "b": {"loss": 3.0}})
        assert means == {"loss": 2.0}

    def test_ranks_share_places_in_ties_and_follow_the_direction(self) -> None:
        scores = {"x": {"a": 0.9, "b": 1.0}, "y": {"a": 0.9, "b": 2.0}, "z": {"a": 0.1, "b": 3.0}}
        assert average_ranks(scores, {"a": True, "b": False}) == {"x": 1.25, "y": 1.75, "z": 3.0}

    def test_ranks_refuse_different_tasks(self) -> None:
        with pytest.raises(ValueError, match="y has no result for b"):
            average_ranks({"x": {"a": 1.0, "b": 1.0}, "y": {"a": 1.0}}, {"a": True, "b": True})


class TestLengths:
    @pytest.mark.parametrize(
        ("length", "steps"),
        [("20000 images", 157), ("20000 steps", 20000), ("1 passes", 40), ("1.5 passes", 60), ("256 images", 2)],
    )
    def test_images_steps_and_passes(self, length: str, steps: int) -> None:
        assert TrainingConfig(length).steps(5000) == steps

    def test_names_of_the_benchmark(self) -> None:
        lengths = build_benchmark("icifar").lengths
        assert TrainingConfig("code").steps(5000, lengths) == 157
        assert TrainingConfig("paper").steps(5000, lengths) == 20_000
        with pytest.raises(ValueError, match="did you mean 'paper'"):
            TrainingConfig("papr").steps(5000, lengths)

    @pytest.mark.parametrize("length", ["many", "3 epochs", "0 steps", "-1 images"])
    def test_unreadable_lengths_are_refused(self, length: str) -> None:
        with pytest.raises(ValueError, match=r"training.length: write <number>"):
            TrainingConfig(length).steps(10)

    def test_the_released_schedule_sees_exactly_its_images(self) -> None:
        batches = list(shuffled(5000, 128, 157, torch.Generator().manual_seed(0)))
        sizes = [len(batch) for batch in batches]
        assert len(batches) == 157
        assert [i for i, size in enumerate(sizes) if size != 128] == [39, 79, 119]
        assert {sizes[39], sizes[79], sizes[119]} == {8}
        assert torch.equal(torch.cat(batches[:40]).sort().values, torch.arange(5000))
        assert not torch.equal(torch.cat(batches[:40]), torch.cat(batches[40:80]))

    def test_a_last_batch_of_one_is_left_out(self) -> None:
        assert [len(b) for b in shuffled(5, 2, 4, torch.Generator().manual_seed(0))] == [2, 2, 2, 2]
        assert [len(b) for b in shuffled(1, 2, 2, torch.Generator().manual_seed(0))] == [1, 1]

    def test_subsets_are_fixed_by_the_seed(self) -> None:
        assert torch.equal(subset(100, 10, 3), subset(100, 10, 3))
        assert not torch.equal(subset(100, 10, 3), subset(100, 10, 4))
        assert len(set(subset(100, 10, 3).tolist())) == 10
        assert len(subset(100, 0, 3)) == len(subset(100, 200, 3)) == 100


class TestOptimiser:
    def test_schedules(self) -> None:
        steps = OptimiserConfig(schedule="steps", milestones=(0.5, 0.75), gamma=0.1)
        assert [steps.factor(i, 8) for i in (0, 3, 4, 5, 6, 7)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
        cosine = OptimiserConfig(schedule="cosine")
        assert [cosine.factor(i, 4) for i in range(5)] == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
        linear = OptimiserConfig(schedule="linear", warmup=0.2)
        assert [linear.factor(i, 10) for i in (0, 1, 2, 6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5])
        assert OptimiserConfig().factor(99, 100) == 1
        falling = OptimiserConfig(schedule="exponential", gamma=0.98)
        assert [falling.factor(i, 100, every=25) for i in (0, 24, 25, 99)] == pytest.approx([1, 1, 0.98, 0.98**3])
        assert count_steps("optimiser.every", "2.5 passes", 32, 1000) == 80

    def test_rmsprop_is_that_of_tensorflow_with_the_settings_of_patches(self) -> None:
        """ms = .9 ms + .1 g^2 from 1; mom = .9 mom + lr g / sqrt(ms + 1): TF-slim, whose epsilon is 1."""
        for name in ("multitask_patches", "resolutions"):
            cfg = compose("supervised", [f"benchmark={name}", "data=d", "run=r"])
            config = make_plan(cfg, make_benchmark(cfg)).optimiser
            weight = nn.Parameter(torch.tensor([1.0, -2.0]))
            optimiser = config.build(parameter_groups(config, [("w", weight, False, 0.0)]))
            square, momentum, wanted = torch.ones(2), torch.zeros(2), weight.detach().clone()
            for step in range(4):
                gradient = 3 * wanted + step
                optimiser.zero_grad()
                (1.5 * weight**2 + step * weight).sum().backward()
                optimiser.step()
                square = 0.9 * square + 0.1 * gradient**2
                momentum = 0.9 * momentum + 0.045 * gradient / (square + 1.0).sqrt()
                wanted = wanted - momentum
                assert torch.allclose(weight.detach(), wanted, atol=1e-6)

    def test_a_policy_network_has_a_decay_of_its_own_as_spottune(self) -> None:
        cfg = compose("supervised", ["benchmark=decathlon", "adapt=spottune", "data=d", "run=r"])
        config = make_plan(cfg, make_benchmark(cfg)).optimiser
        assert (config.rate("policy.head.weight", False), config.decay("policy.head.weight", 0.0)) == (0.01, 1e-3)
        assert (config.rate("encoder.conv1.weight", False), config.decay("encoder.conv1.weight", 5e-4)) == (0.1, 5e-4)

    def test_each_parameter_has_its_rate_and_decay_once(self) -> None:
        a, b, c = (nn.Parameter(torch.zeros(n)) for n in (1, 2, 3))
        config = OptimiserConfig(lr=0.1, head_lr=0.2, rates={"mask": 0.3}, weight_decay=0.5, undecayed=("alpha",))
        parts = [("x.mask", a, False, 0.5), ("alpha", b, False, 0.5), ("weight", c, True, 0.5), ("again", c, False, 0)]
        groups = parameter_groups(config, parts)
        found = {len(g["params"][0]): (g["lr"], g["weight_decay"]) for g in groups}
        assert found == {1: (0.3, 0.5), 2: (0.1, 0.0), 3: (0.2, 0.5)}

    @pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "rmsprop_tf"])
    def test_optimisers_step(self, name: str) -> None:
        weight = nn.Parameter(torch.ones(1))
        config = OptimiserConfig(name=name, lr=0.01)
        optimiser = config.build(parameter_groups(config, [("w", weight, False, 0.0)]))
        (weight**2).sum().backward()
        optimiser.step()
        assert 0 < float(weight.detach()) < 1

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ({"name": "adm"}, "did you mean 'adam'"),
            ({"lr": 0.0}, "positive"),
            ({"milestones": (2.0,)}, "between 0 and 1"),
        ],
    )
    def test_bad_settings_are_refused(self, setting: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            OptimiserConfig(**setting)  # type: ignore[arg-type]


class TestFeatures:
    images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def get(self, folder: Path, base: Base, identity: str = "data", **options: object) -> np.ndarray:  # type: ignore[type-arg]
        return FeatureStore(folder).get(base, identity, 10, lambda: self.images.split(4), **options)  # type: ignore[arg-type]

    def test_the_base_is_paid_once(self, tmp_path: Path) -> None:
        base = random_base("fcn4")
        first = self.get(tmp_path, base)
        assert base.frames_evaluated == 10
        assert isinstance(first, np.memmap)
        np.testing.assert_allclose(first, base(self.images).numpy(), rtol=1e-4, atol=1e-5)
        again = self.get(tmp_path, random_base("fcn4"))
        assert np.array_equal(first, again)
        assert base.frames_evaluated == 20, "only the comparison above ran the base again"

    def test_keys_tell_bases_data_and_normalisation_apart(self, tmp_path: Path) -> None:
        self.get(tmp_path, random_base("fcn4"))
        self.get(tmp_path, random_base("fcn4", seed=1))
        self.get(tmp_path, random_base("fcn4"), "other data")
        own = self.get(tmp_path, random_base("fcn4"), normalisation=IMAGENET)
        # The same weights, of which more is computed.
        assert self.get(tmp_path, random_base("fcn4", pool=False)).ndim == 4
        assert len(list(tmp_path.glob("*.npy"))) == 5
        assert not np.allclose(own, self.get(tmp_path, random_base("fcn4")))

    def test_damage_is_seen_and_repaired(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        right = np.array(self.get(tmp_path, random_base("fcn4")))
        file = next(tmp_path.glob("*.npy"))
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert np.array_equal(self.get(tmp_path, random_base("fcn4")), right)
        assert "damaged" in capsys.readouterr().err

    def test_a_kill_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        def broken() -> object:
            yield self.images[:4]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            FeatureStore(tmp_path).get(random_base("fcn4"), "data", 10, broken)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())

    def test_a_wrong_count_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="11 inputs were announced, and there are 10"):
            FeatureStore(tmp_path).get(random_base("fcn4"), "data", 11, lambda: [self.images])

    def test_identity_is_of_content(self) -> None:
        views = self.images, self.images.clone(), self.images.flip(0), self.images.view(5, 2, 3, 32, 32)
        same, copied, flipped, reshaped = (tensors_sha256([("", view)]) for view in views)
        assert same == copied
        assert len({same, flipped, reshaped}) == 3
        assert same != tensors_sha256([("name", self.images)])


class TestRegistry:
    def test_every_configured_benchmark_is_found(self) -> None:
        for name in benchmarks.names():
            kind = get_benchmark(name)
            assert kind.name() == name
            assert kind.layout.strip()

    def test_tuned_settings_belong_to_benchmarks_and_methods(self) -> None:
        for file in (FOLDER / "tuned").rglob("*.yaml"):
            assert file.parent.name in benchmarks.names()
            assert file.stem in list_methods()

    def test_unknown_names_suggest_the_nearest(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'icifar'"):
            get_benchmark("icifr")
        with pytest.raises(ValueError, match="did you mean 'boosting'"):
            build_benchmark("icifar", bosting=True)


def test_accuracy_ignores_marked_targets() -> None:
    metric = Accuracy()
    metric.update(torch.eye(3), torch.tensor([0, 2, -1]))
    assert metric.compute() == {"accuracy": 0.5}
    pixels = Accuracy()
    pixels.update(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]]))
    assert pixels.compute() == {"accuracy": 1.0}


def test_examples_in_memory_must_match() -> None:
    with pytest.raises(ValueError, match="3 inputs"):
        Tensors(torch.zeros(3), torch.zeros(2))
    data = Tensors(torch.arange(3), {"y": torch.arange(3) * 2})
    inputs, targets = data.batch(torch.tensor([2, 0]))
    assert inputs.tolist() == [2, 0]
    assert json.dumps({k: v.tolist() for k, v in targets.items()}) == '{"y": [4, 0]}'  # type: ignore[union-attr]
