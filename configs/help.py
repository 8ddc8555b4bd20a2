"""``--help`` of every command: its settings with type, default and meaning, from the dataclasses."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from configs.groups import options, settings_of
from configs.settings import REQUIRED, Chosen, Settings, describe, explanations, kinds

LEFT = 34  # columns of keys


def show_help(cfg: DictConfig, settings: type[Settings], about: str, choices: Mapping[str, Sequence[str]]) -> None:
    """Print a command's help: purpose, settings, usage.

    Args:
        cfg: The config that the words given come to.
        settings: The command's settings.
        about: What it does.
        choices: The options of the groups that it chooses from.
    """
    width = min(shutil.get_terminal_size((110, 0)).columns, 120)
    how = "Settings, changed by key=value (-m key=a,b: one run for each; --cfg job: the same as YAML):"
    lines = [inspect.cleandoc(about).replace("``", "`"), "", how, ""]
    if "experiment" in choices:
        lines += _formatted("experiment", f"Published settings. {_choices(choices['experiment'], '', True)}", width)
    for row in rows(settings, OmegaConf.to_container(cfg, resolve=False), choices):
        lines += _formatted(*row, width)
    print("\n".join(lines))  # noqa: T201 (the command's output)


def rows(
    settings: type[Settings], values: Any, choices: Mapping[str, Sequence[str]] | None = None, prefix: str = ""
) -> list[tuple[str, str]]:
    """Key, default and description of every setting, recursively through groups."""
    table: list[tuple[str, str]] = []
    texts = explanations(settings)
    for name, kind in kinds(settings).items():
        key, value, about = f"{prefix}{name}", (values or {}).get(name, REQUIRED), texts.get(name, "").replace("``", "")
        group = _group(kind)
        if group is not None or key in (choices or {}):
            choice = value.get("name", "") if isinstance(value, dict) else ""
            names = (choices or {}).get(key) or options(group or "")
            table.append((f"{key}={choice}" if choice else key, f"{about} {_choices(names, key, bool(choice))}"))
            if group is not None and choice in options(group):
                table += rows(settings_of(group, choice), value, None, f"{key}.")
        elif isinstance(kind, type) and issubclass(kind, Settings):
            table += rows(kind, value, None, f"{key}.")
        else:
            default = f"{key}={_value(value)}" if value != REQUIRED else key
            table.append((default, f"{about} [{describe(kind)}{'' if value != REQUIRED else '; required'}]".strip()))
    return table


def _group(kind: Any) -> str | None:
    if get_origin(kind) is Annotated:
        return next((rule.group for rule in get_args(kind)[1:] if isinstance(rule, Chosen)), None)
    return None


def _choices(names: Sequence[str], key: str, chosen: bool) -> str:
    more = "" if chosen else f"; {key}=... --help shows its settings"
    return f"[{', '.join(names)}{more}]"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(one)}' for key, one in value.items())}}}"
    return f"[{','.join(map(_value, value))}]" if isinstance(value, list) else str(value)


def _formatted(key: str, about: str, width: int) -> list[str]:
    body = textwrap.wrap(about, width - LEFT - 4, break_long_words=False) or [""]
    head = f"  {key:<{LEFT}}"
    lines = [f"{head}{body[0]}"] if len(key) < LEFT else [f"  {key}", " " * (LEFT + 2) + body[0]]
    return [*lines, *(" " * (LEFT + 2) + line for line in body[1:])]
