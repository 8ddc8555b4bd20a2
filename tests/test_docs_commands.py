"""Every command that README.md and docs/ show exists, and its settings compose."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from adapt.core.method import get_method
from adapt.methods.__main__ import make_parser
from configs.commands import COMMANDS
from configs.compose import ConfigError, compose
from configs.console import CONSOLE, split

ROOT = Path(__file__).resolve().parents[1]
# docs/extending.md is about a package that tests/test_plugin.py installs and runs; docs/lab is a diary of what was run.
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if page.stem != "extending" and page.parent.name != "lab"),
]
NAMES = {module: name for name, (module, _) in COMMANDS.items()}
PROGRAM = re.compile(r"^(?:time |exec )?(?:\S*/)?(?:python3?|torchrun|sidestep) ")
VARIABLE = re.compile(r"""\b([A-Z]+)=(?:'([^']*)'|"([^"]*)")""")
# A method that docs/howto/method.md defines on the page.
ON_THE_PAGE = "bias"
# Commands that stand for many: a word in brackets, or an ellipsis, is left to the reader.
LEFT_TO_THE_READER = re.compile(r"\((?:the same|as above)[^)]*\)")
# What a reader puts in.
PUT_IN = {"METHOD": "taps", "S": "0", "X": "taps", "NAME": "data"}


def code(page: Path) -> Iterator[tuple[str, bool]]:
    """Lines of fenced and indented blocks, continued lines as one, and pieces of code in text; whether in a block."""
    fenced, text = False, re.sub(r"\\\n\s*", " ", page.read_text())
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ "), True
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from ((" ".join(piece.split()), False) for piece in re.findall(r"`([^`]+)`", prose))


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The words of each command, with the page's shell variables put in."""
    variables = {name: single or double for name, single, double in VARIABLE.findall(page.read_text())}
    variables["split"] = "val"
    for line, in_block in code(page):
        line = LEFT_TO_THE_READER.sub("", line)
        line = re.sub(r"\$(\w+)\b", lambda name: variables.get(name[1], name[0]), line)
        for command in re.split(r" && | \|\|? |; ", line.removeprefix("do ")):
            if PROGRAM.match(command) and " -c " not in command:
                command = re.sub(r"=<[^>]+>", "=X", re.sub(r"\s#.*", "", command))
                command = re.sub(r"=([A-Z]+)\b", lambda value: f"={PUT_IN.get(value[1], value[1])}", command)
                yield [word for word in shlex.split(command) if word not in ("...", ">", "2>&1")], in_block


def module_and_words(words: list[str]) -> tuple[str, list[str]] | None:
    """The module that a command runs and what follows; None for one that runs no module."""
    program = Path(words[0]).name
    if program == "sidestep":
        if len(words) == 1 or words[1] in ("COMMAND", "completion", "--version"):
            return None
        command, rest = split(words[1:])
        return CONSOLE[command][0], rest
    if "-m" not in words:
        return None
    at = words.index("-m")
    return words[at + 1], words[at + 2 :]


def single_runs(words: list[str]) -> Iterator[list[str]]:
    """A sweep's first job, then one for each other choice of each override; a single run as it is."""
    overrides = [
        re.sub(r",?\.\.\.(?=$|\])", "", word) if not word.endswith("=...") else f"{word[:-3]}x" for word in words
    ]
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{one.get_key_element()}={choice}" for choice in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [word]
        for one, word in zip(parsed, overrides, strict=True)
    ]
    yield [first for first, *_ in choices]
    for index, others in enumerate(choices):
        for other in others[1:]:
            yield [*(first for first, *_ in choices[:index]), other, *(first for first, *_ in choices[index + 1 :])]


def every_command() -> dict[tuple[str, tuple[str, ...]], bool]:
    """Module and words of all commands of all pages, each once; whether one stands in a block, and so is whole."""
    found: dict[tuple[str, tuple[str, ...]], bool] = {}
    for words, in_block in (one for page in PAGES for one in commands(page)):
        command = module_and_words(words)
        if command is not None and command[0].split(".")[0] in ("adapt", "agents", "envs", "tests"):
            key = command[0], tuple(command[1])
            found[key] = found.get(key, False) or (in_block and "..." not in " ".join(words))
    return found


EVERY_COMMAND = every_command()


def test_commands_are_found() -> None:
    modules = {module for module, _ in EVERY_COMMAND}
    assert modules >= {
        "agents.train",
        "agents.evaluate",
        "agents.report",
        "adapt.train",
        "adapt.compare",
        "envs.render",
    }
    assert len(EVERY_COMMAND) > 60


@pytest.mark.parametrize("module", sorted({module for module, _ in EVERY_COMMAND}))
def test_commands_of_the_docs_compose(module: str) -> None:
    assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    tried: set[str] = set()
    for (_, words), whole in (item for item in EVERY_COMMAND.items() if item[0][0] == module and module in NAMES):
        if "--help" in words or f"adapt={ON_THE_PAGE}" in words:
            continue
        for run in single_runs([word for word in words if word not in ("-m", "--multirun")]):
            if tried.issuperset(run):  # all of it has been composed in other commands
                continue
            tried.update(run)
            with explained(f"python -m {module} {shlex.join(run)}"):
                if whole:
                    compose(NAMES[module], run)
                elif run:
                    compose_fragment(NAMES[module], run)


def compose_fragment(name: str, run: list[str]) -> None:
    """Compose a command of which text shows only some words."""
    try:
        compose(name, run)
    except ConfigError as error:
        lacking = re.match(r"give a value for ([\w., ]+);", str(error))
        if lacking is None:
            raise
        compose(name, [*run, *(f"{key}=x" for key in lacking[1].split(", "))])


def test_words_of_adapt_methods_parse() -> None:
    for _, words in (one for one in EVERY_COMMAND if one[0] == "adapt.methods"):
        with explained(f"python -m adapt.methods {shlex.join(words)}"):
            for method in make_parser().parse_args(words).method:
                assert method == ON_THE_PAGE or get_method(method)


@contextlib.contextmanager
def explained(command: str) -> Iterator[None]:
    """Name the command in an error."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{command}: {error}") from error


def test_targets_of_make_and_extras_of_pip_exist() -> None:
    makefile, project = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    for page in PAGES:
        for line, _ in code(page):
            for target in re.findall(r"\bmake ([a-z][a-z-]+)", line if line.startswith("make ") else ""):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: no target {target}"
            for extras in re.findall(r"(?:\.|sidestep)\[([a-z,]+)\]", line):
                for extra in extras.split(","):
                    assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"{page.name}: no extra {extra}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_the_docs_parses_and_its_imports_exist(page: Path) -> None:
    for block in re.findall(r"```python[^\n]*\n(.*?)```", page.read_text(), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in ("adapt", "agents", "envs")
            ):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    known = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert known, f"{page.name}: {node.module} has no {alias.name}"
