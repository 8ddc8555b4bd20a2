"""The YAML of every benchmark and of every method tuned for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from adapt.benchmarks.benchmark import benchmarks, get_benchmark
from adapt.core.method import get_method
from adapt.supervised.runs import make_benchmark, make_plan
from configs.compose import FOLDER, compose

TUNED = sorted(path.relative_to(FOLDER / "tuned") for path in (FOLDER / "tuned").glob("*/*.yaml"))


def configured(benchmark: str, *words: str) -> DictConfig:
    return compose("supervised", [f"benchmark={benchmark}", "data=d", "run=r", *words])


@pytest.mark.parametrize("name", benchmarks.names())
def test_settings_in_yaml_are_those_of_the_code(name: str) -> None:
    config = make_benchmark(configured(name)).config
    kind = get_benchmark(name).Config
    required = {"tokenizer": "bert-large-uncased-whole-word-masking"} if name == "squad" else {}
    assert config == kind.from_settings(required)
    assert get_benchmark(name).layout.strip()


@pytest.mark.parametrize("path", TUNED, ids=[f"{path.parent}-{path.stem}" for path in TUNED])
def test_tuned_settings_can_be_used(path: Path) -> None:
    cfg = configured(str(path.parent), f"adapt={path.stem}")
    benchmark = make_benchmark(cfg)
    plan = make_plan(cfg, benchmark)
    get_method(plan.method).Config.from_settings(plan.settings)
    assert plan.method == path.stem
    assert plan.training.steps(1000, benchmark.lengths) > 0
    assert plan.optimiser.factor(0, 100) > 0
