"""The published settings in `configs/experiment`: each composes, the jobs of its sweep too, and docs name it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from configs.compose import FOLDER, compose

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXPERIMENTS = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))


def content(name: str) -> Any:
    return OmegaConf.load(FOLDER / "experiment" / f"{name}.yaml")


def command(name: str) -> tuple[str, list[str]]:
    """The command that an experiment is for, and the words that it leaves to the user."""
    chosen = {key: choice for default in content(name).defaults for key, choice in default.items()}
    if "override /benchmark" in chosen:
        return "supervised", ["data=d"]
    return "train", ["run=r", *(["algo.data=d"] if {"override /algo": "bc"}.items() <= chosen.items() else [])]


def jobs(name: str) -> Iterator[list[str]]:
    """The words of jobs of its sweep in which every value comes once; one empty list without a sweep."""
    params = OmegaConf.select(content(name), "hydra.sweeper.params") or {}
    values = {key: str(value).split(",") for key, value in params.items()}
    for i in range(max(map(len, values.values()), default=1)):
        yield [f"{key}={each[i % len(each)]}" for key, each in values.items()]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_with_all_jobs_of_its_sweep(name: str) -> None:
    kind, words = command(name)
    runs = set()
    for job in jobs(name):
        cfg = compose(kind, [f"experiment={name}", *words, *job, "seed=7"])
        assert cfg.seed == 7  # what is typed comes last
        runs.add(cfg.run)
    assert len(runs) == len(list(jobs(name)))


def test_papers_and_experiments_name_each_other() -> None:
    # Experiments of docs/extending.md are those of its own example package.
    pages = [page for page in DOCS.rglob("*.md") if page.name != "extending.md"]
    named = set(re.findall(r"experiment=(\w+)", "\n".join(page.read_text() for page in pages)))
    assert named - {"NAME"} == set(EXPERIMENTS)
