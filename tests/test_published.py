"""Published numbers stand beside runs that they describe, and beside no others."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from adapt.benchmarks.benchmark import Published, benchmarks, get_benchmark
from adapt.core.method import get_method, list_methods
from adapt.datasets.decathlon import SETS, decathlon_score
from adapt.supervised.finished import Finished
from adapt.supervised.protocols import PROTOCOLS
from adapt.training.seeds import flat
from configs.compose import compose

ROWS = [(name, row) for name in benchmarks.names() for row in get_benchmark(name).published]


@lru_cache
def settings(benchmark: str, method: str, *words: str) -> dict[str, Any]:
    """The flat configuration of a run."""
    cfg = compose("supervised", [f"benchmark={benchmark}", f"adapt={method}", "data=d", "run=r", *words])
    return flat(OmegaConf.to_container(cfg, resolve=True))


def run(benchmark: str, method: str, *words: str, encoder: str = "", pretraining: str = "imagenet") -> Finished:
    """What a report reads of a run with these words."""
    config = settings(benchmark, method, *words)
    result = {"benchmark": benchmark, "method": method, "protocol": config["protocol"], "encoder": encoder}
    return Finished(Path("r"), {**result, "pretraining": pretraining}, {}, config)


@pytest.mark.parametrize(("benchmark", "row"), ROWS, ids=[f"{n}-{r.method}-{i}" for i, (n, r) in enumerate(ROWS)])
def test_rows_name_methods_protocols_and_settings_that_exist(benchmark: str, row: Published) -> None:
    assert row.method in list_methods()
    assert row.protocol in ("", *PROTOCOLS)
    assert row.settings.keys() <= settings(benchmark, row.method).keys()
    assert row.source and row.scores
    for name, value in row.scores.items():
        assert 0 <= value <= 1 or name in ("s_score", "rank")


@pytest.mark.parametrize("benchmark", benchmarks.names())
def test_no_two_rows_describe_the_same_run(benchmark: str) -> None:
    keys = [
        (r.method, r.encoder, r.pretraining, r.protocol, sorted((k, str(v)) for k, v in r.settings.items()))
        for r in get_benchmark(benchmark).published
        if "rank" not in r.scores
    ]
    assert all(keys.count(key) == 1 for key in keys)


def test_decathlon_scores_follow_from_the_accuracies() -> None:
    for row in get_benchmark("decathlon").published:
        accuracies = {name: row.scores[name] for name in SETS}
        # Two decimals leave the sum of ten squares uncertain by about two points, one decimal by twenty.
        rounded = row.method in ("wtpb", "ba2", "spottune")
        assert decathlon_score(accuracies) == pytest.approx(row.scores["s_score"], abs=20 if rounded else 2.5)


def test_another_backbone_has_other_numbers_or_none() -> None:
    published = {
        encoder: run("imagenet_to_sketch", "piggyback", encoder=encoder).published.get("cubs_cropped")
        for encoder in ("torchvision/resnet50", "torchvision/vgg16", "torchvision/densenet121", "torchvision/resnet18")
    }
    assert [round(100 * (1 - v), 2) if v else v for v in published.values()] == [18.41, 20.99, 19.50, None]


def test_another_pretraining_has_other_numbers_or_none() -> None:
    def flowers(pretraining: str) -> float | None:
        found = run("imagenet_to_sketch", "piggyback", encoder="torchvision/resnet50", pretraining=pretraining)
        return found.published.get("flowers")

    assert flowers("imagenet") == pytest.approx(0.9477)
    assert flowers("places365") == pytest.approx(0.8908)
    assert flowers("random") == pytest.approx(0.2883)
    assert flowers("something else") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["adapt.sparsity=0.25", "benchmark.test=test", "benchmark.train=trainval"], 3533),
        (["adapt.sparsity=1.0", "benchmark.test=test", "benchmark.train=trainval"], 3088),
        (["adapt.sparsity=0.3", "benchmark.test=test", "benchmark.train=trainval"], None),
        (["adapt.sparsity=0.25"], None),
    ],
)
def test_settings_choose_the_row(words: list[str], said: float | None) -> None:
    found = run("decathlon", "taps", *words, encoder="resnet26")
    assert found.published.get("s_score") == said


def test_orders_of_packnet_and_kinds_of_adapters_are_rows_of_their_own() -> None:
    up = "benchmark.sets=[sketches,wikiart,flowers,stanford_cars_cropped,cubs_cropped]"
    down = run("imagenet_to_sketch", "packnet", encoder="torchvision/resnet50").published["sketches"]
    assert down == pytest.approx(0.7617)
    other = run("imagenet_to_sketch", "packnet", up, encoder="torchvision/resnet50").published["sketches"]
    assert other == pytest.approx(0.787)
    test = "benchmark.test=test"
    assert run("decathlon", "residual_adapter", test, encoder="resnet26").published["s_score"] == 3412
    series = run("decathlon", "residual_adapter", test, "adapt.kind=series", encoder="resnet26")
    assert series.published["s_score"] == 3159
    assert not run("decathlon", "residual_adapter", test, "adapt.dropout=0.5", "adapt.init=zero").published


def test_protocols_are_compared_with_rows_of_their_own() -> None:
    def mean(protocol: str, *words: str) -> float | None:
        words = (f"protocol={protocol}", *words)
        return run("domainnet", "taps", *words, encoder="torchvision/resnet34").published.get("accuracy")

    assert mean("sequential") == pytest.approx(0.6651, abs=1e-4)
    assert mean("joint", "adapt.joint=standard") == pytest.approx(0.6688, abs=1e-4)
    assert mean("two_stage") == pytest.approx(0.6684, abs=1e-4)
    assert mean("joint") is None, "joint TAPS trains shared weights too"


def test_published_shares_of_layers_stand_beside_the_tasks() -> None:
    scores = run("imagenet_to_sketch", "taps", encoder="torchvision/resnet50").published
    assert scores["flowers/parameter_share"] == pytest.approx(0.6550)
    assert scores["layer_share"] == pytest.approx(sum((22.64, 20.75, 43.40, 14.47, 28.30)) / 500)


def test_runs_of_earlier_versions_are_recognised_by_the_name_of_their_base() -> None:
    found = run("icifar", "ewc", "base.weights=resnet44-cifar.pth")
    old = Finished(found.path, {k: v for k, v in found.result.items() if k != "encoder"}, {}, found.config)
    assert old.encoder == "resnet44"
    assert old.published == {"rank": 2.70}
    assert get_method("ewc").name() == old.result["method"]
