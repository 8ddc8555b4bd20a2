"""Published settings: rows of docs/papers/*.md compose to what they say, experiments with all jobs of their sweeps."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from configs.commands import COMMANDS
from configs.compose import FOLDER, compose

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted((DOCS / "papers").glob("*.md"))
EXPERIMENTS = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))
HEADER = "| what | command | settings | status |"
STATUSES = ("reproduced", "trend", "scored", "not run: ", "not run in full: ")
# What the pages write for `python -m adapt.train`, `python -m agents.train` and the files of iCIFAR.
SHORT = {"train": "supervised", "agents": "train"}
WORDS = {"W": ["base.weights=FILE", "data=DIR"]}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        page: name of the page.
        commands: what is in the second column, without backticks.
        settings: the third column, a text per command that trains.
        status: the last column.
    """

    page: str
    commands: tuple[str, ...]
    settings: tuple[str, ...]
    status: str


def rows(pages: Sequence[Path]) -> Iterator[Row]:
    """The rows of the first table of each page."""
    for page in pages:
        lines = page.read_text().splitlines()
        start = lines.index(HEADER) + 2
        for line in itertools.takewhile(lambda text: text.startswith("|"), lines[start:]):
            _, command, settings, status = (cell.strip() for cell in line.strip("|").split("|"))
            commands = re.findall(r"`((?:train|agents|python) [^`]*)`", command)
            yield Row(page.stem, tuple(commands), tuple(settings.split("<br>")) if settings else (), status)


def parsed(command: str) -> tuple[str, list[str]]:
    """The name of a command in `COMMANDS` and its words; that of its module where it has no settings."""
    first, *words = command.replace("'", "").replace('"', "").split()
    if first == "python":
        module, *words = words[1:]
        return next((name for name, (path, _) in COMMANDS.items() if path == module), module), words
    return SHORT[first], list(itertools.chain.from_iterable(WORDS.get(word, [word]) for word in words))


def jobs(words: Sequence[str]) -> Iterator[list[str]]:
    """The words of jobs in which every value of a sweep comes once; the sweep is the experiment's or the words'."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    params: Mapping[str, Any] = {}
    if "experiment" in given:
        params = OmegaConf.select(content(given["experiment"]), "hydra.sweeper.params") or {}
    swept = {key: str(value).split(",") for key, value in params.items() if key not in given}
    swept |= {k: v.split(",") for k, v in given.items() if "-m" in words and "," in v and not v.startswith("[")}
    fixed = [word for word in words if "=" in word and word.split("=")[0] not in swept]
    for i in range(max(map(len, swept.values()), default=1)):
        yield [*fixed, *(f"{key}={values[i % len(values)]}" for key, values in swept.items())]


def content(experiment: str) -> Any:
    """The YAML of an experiment."""
    return OmegaConf.load(FOLDER / "experiment" / f"{experiment}.yaml")


@functools.cache
def composed_once(name: str, words: tuple[str, ...]) -> DictConfig:
    """The settings of a command; most experiments are in rows, too."""
    return compose(name, words)


def composed(name: str, words: Sequence[str]) -> DictConfig:
    """The settings of a command with these words, of which each is for another key; not to be changed."""
    return composed_once(name, tuple(sorted(words)))


def facts(cfg: DictConfig) -> list[str]:
    """What a row says of a job: method, base, protocol, sets, optimiser with rate and schedule, length."""
    base = cfg.base.name.removeprefix("random/")
    base = base if base.startswith("file") else base.partition(":")[0].rpartition("/")[2]
    found = [cfg.adapt.name, f"{'random ' * cfg.base.name.startswith('random/')}{base.partition(':')[0]}"]
    if "algo" in cfg:
        return [*found, cfg.algo.name, f"{cfg.env.name} ({cfg.env.task.variant})"]
    sets = cfg.benchmark.get("sets") or cfg.benchmark.get("targets") or [cfg.benchmark.get("order", "")]
    rates = ", ".join(f"{key} {value:g}" for key, value in sorted(cfg.optimiser.rates.items()))
    rate = f"{cfg.optimiser.name} {cfg.optimiser.lr:g}{f' ({rates})' if rates else ''} {cfg.optimiser.schedule}"
    length = f"{cfg.training.length} x {cfg.training.batch}"
    return [*found, f"{cfg.benchmark.name} {cfg.protocol}", ", ".join(sets), rate, length]


def names_its_runs(word: str) -> bool:
    """Whether a word chooses an experiment that says where its runs lie."""
    key, _, choice = word.partition("=")
    return key == "experiment" and "run" in content(choice)


def described(command: str) -> str:
    """All jobs of a command in one text: the values of each fact, in the order in which they come."""
    name, words = parsed(command)
    named = any(word.startswith("run=") for word in words) or any(map(names_its_runs, words))
    runs = [] if named or name not in SHORT.values() else ["run=r"]
    found = [facts(composed(name, [*job, *runs])) for job in jobs(words)]
    columns = [" / ".join(dict.fromkeys(column)) for column in zip(*found, strict=True)]
    return "; ".join(column for column in columns if column)


def test_rows_are_read() -> None:
    found = list(rows(PAGES))
    assert len(found) > 35
    assert not [row.status for row in found if not row.status.startswith(STATUSES)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_what_their_rows_say(page: Path) -> None:
    for row in rows([page]):
        trained = [command for command in row.commands if parsed(command)[0] in SHORT.values()]
        assert tuple(map(described, trained)) == row.settings, row
        for command in row.commands:
            name, words = parsed(command)
            if name not in COMMANDS:
                assert importlib.util.find_spec(name), command
            elif command not in trained:
                compose(name, [word for word in words if "=" in word])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_with_all_jobs_of_its_sweep(name: str) -> None:
    kind, words = needed(name)
    swept = list(jobs([f"experiment={name}", *words]))
    assert len({composed(kind, job).run for job in swept}) == len(swept)


@pytest.mark.parametrize("name", ["icifar_methods", "side_tuning_ppo"])
def test_what_is_typed_comes_after_an_experiment(name: str) -> None:
    kind, words = needed(name)
    assert composed(kind, [f"experiment={name}", *words, "seed=7"]).seed == 7


def needed(experiment: str) -> tuple[str, list[str]]:
    """The command that an experiment is for, and the words that it leaves to the user."""
    chosen = {key: choice for default in content(experiment).defaults for key, choice in default.items()}
    if "override /benchmark" in chosen:
        return "supervised", ["data=DIR"]
    return "train", ["run=r", *(["algo.data=DIR"] if {"override /algo": "bc"}.items() <= chosen.items() else [])]


def test_papers_and_experiments_name_each_other() -> None:
    # Experiments of docs/extending.md are those of its own example package.
    pages = [page for page in DOCS.rglob("*.md") if page.name != "extending.md"]
    named = set(re.findall(r"experiment=(\w+)", "\n".join(page.read_text() for page in pages)))
    assert named - {"NAME"} == set(EXPERIMENTS)
