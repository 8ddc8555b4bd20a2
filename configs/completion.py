"""Completion of the command ``sidestep`` in bash, zsh and fish: a script that knows all commands, keys and choices.

The script holds all completions, so that pressing Tab starts no Python. It is made anew after an upgrade, or when
a package with parts of its own was installed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from configs.commands import COMMANDS, command_settings
from configs.console import COMPLETION, CONSOLE, SHELLS
from configs.files import visible
from configs.groups import GROUPS, options, settings_of
from configs.settings import Chosen, OneOf, Settings, kinds

FOLDER = Path(__file__).resolve().parent
TRAININGS = ("train", "supervised")  # commands that take experiment=


def script(shell: str) -> str:
    """The script for one of `configs.console.SHELLS`, to be read by the shell when it starts."""
    template = (FOLDER / "templates" / f"completion.{shell}").read_text()
    return template.replace("@WORDS@", "\n".join(_lines(shell))).rstrip()


@functools.cache
def completions_of(command: str) -> tuple[str, ...]:
    """Completions of a command of `configs.console.CONSOLE`: ``key=``, and ``key=choice`` where choices are known."""
    module = CONSOLE[command][0]
    for name, (its_module, _) in COMMANDS.items():
        if its_module == module:
            found = dict.fromkeys(_completions(command_settings(name), ""))
            if name in TRAININGS:
                found |= dict.fromkeys(_choices("experiment", _stems("experiment")))
            return ("--help", *found)
    return ("--help",)


def _completions(settings: type[Settings], prefix: str) -> Iterator[str]:
    """Completions of settings and of all that their groups can choose."""
    for name, kind in kinds(settings).items():
        key = f"{prefix}{name}"
        rules: list[Any] = []
        if get_origin(kind) is Annotated:
            kind, *rules = get_args(kind)
        group = next((rule.group for rule in rules if isinstance(rule, Chosen)), key if key in GROUPS else None)
        if group is not None:
            choices = options(group)
            yield from _choices(key, sorted({*choices, *_stems(group)}))
            for choice in choices:
                yield from _completions(settings_of(group, choice), f"{key}.")
        elif inspect.isclass(kind) and issubclass(kind, Settings):
            yield from _completions(kind, f"{key}.")
        else:
            one_of = next((rule.choices for rule in rules if isinstance(rule, OneOf)), ())
            yield from _choices(key, ("true", "false") if kind is bool else one_of)


def _choices(key: str, choices: Any) -> Iterator[str]:
    yield f"{key}="
    yield from (f"{key}={choice}" for choice in choices)


def _stems(group: str) -> list[str]:
    """Choices of a group that are YAML."""
    return [file.stem for file in visible(FOLDER / group, "*.yaml")]


def _lines(shell: str) -> Iterator[str]:
    """Branches of the script's choice by command: first those that complete commands, then their settings."""
    firsts = dict.fromkeys(command.partition(" ")[0] for command in CONSOLE)
    yield _branch(shell, "", [*firsts, COMPLETION, "--help", "--version"])
    yield _branch(shell, COMPLETION, list(SHELLS))
    for first in firsts:
        if seconds := [command.partition(" ")[2] for command in CONSOLE if command.startswith(f"{first} ")]:
            yield _branch(shell, first, seconds)
    for command in CONSOLE:
        yield _branch(shell, command, completions_of(command))


def _branch(shell: str, command: str, words: Sequence[str]) -> str:
    if shell == "fish":
        return f"        case '{command}'\n            printf '%s\\n' {' '.join(words)}"
    return f"        '{command}') printf '%s\\n' {' '.join(words)} ;;"
