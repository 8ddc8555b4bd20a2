"""The rows of docs/papers/*.md: every command composes, and to what the row's column of settings says."""

from __future__ import annotations

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

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs" / "papers").glob("*.md"))
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
        content = OmegaConf.load(FOLDER / "experiment" / f"{given['experiment']}.yaml")
        params = OmegaConf.select(content, "hydra.sweeper.params") or {}
    swept = {key: str(value).split(",") for key, value in params.items() if key not in given}
    swept |= {k: v.split(",") for k, v in given.items() if "-m" in words and "," in v and not v.startswith("[")}
    fixed = [word for word in words if "=" in word and word.split("=")[0] not in swept]
    for i in range(max(map(len, swept.values()), default=1)):
        yield [*fixed, *(f"{key}={values[i % len(values)]}" for key, values in swept.items())]


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


def described(command: str) -> str:
    """All jobs of a command in one text: the values of each fact, in the order in which they come."""
    name, words = parsed(command)
    runs = [] if any(word.startswith("run=") for word in words) or name not in SHORT.values() else ["run=r"]
    found = [facts(compose(name, [*job, *runs])) for job in jobs(words)]
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
