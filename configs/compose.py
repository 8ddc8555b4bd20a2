"""One way for every command to read its YAML: Hydra, with errors of one line.

``@cli("train")`` makes ``main(cfg)`` a command that composes ``configs/train.yaml`` with overrides from the command
line (``key=value``, ``group=choice``, ``-m group=a,b`` to sweep, ``--help``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.files import visible
from configs.names import nearest
from configs.types import ConfigError, check_types

__all__ = ["ConfigError", "check_types", "cli", "compose"]

FOLDER = Path(__file__).resolve().parent


def compose(name: str, overrides: list[str]) -> DictConfig:
    """Compose ``configs/<name>.yaml`` with Hydra overrides.

    Raises:
        ConfigError: An override that does not parse, a group choice or key that does not exist, a missing value, a
            value of another type than the YAML's.
    """
    _check_choices(overrides)
    try:
        cfg = _composed(name, overrides)
        _check_missing(cfg)
        check_types(cfg, _composed(name, _choices(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(name, error, overrides)) from error
    return cfg


def _composed(name: str, overrides: list[str]) -> DictConfig:
    """Compose by the running Hydra command, or outside of one."""
    if GlobalHydra.instance().is_initialized():
        return hydra.compose(name, overrides)
    with hydra.initialize_config_dir(str(FOLDER), version_base=None):
        return hydra.compose(name, overrides)


def _choices(overrides: list[str]) -> list[str]:
    """Those of the overrides that choose from a group."""
    return [o for o in overrides if "=" in o and (FOLDER / o.split("=")[0].lstrip("+")).is_dir()]


def cli(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of the composed config a command; its expected errors become one line and exit code 2."""

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(main)
        def task(cfg: DictConfig) -> None:
            with _errors_on_one_line():
                _check_missing(cfg)
                check_types(cfg, _composed(name, _choices(list(HydraConfig.get().overrides.task))))
                main(cfg)

        def command() -> None:
            with _errors_on_one_line(), _first_rank_speaks():
                words = [a for a in sys.argv[1:] if not a.startswith("-") and "=" in a]
                _check_choices(words)
                if not {"-m", "--multirun"} & set(sys.argv) and not any(a.startswith("-") for a in sys.argv[1:]):
                    compose(name, sys.argv[1:])
            with _errors_on_one_line():  # of --help: all others Hydra or `task` reports
                hydra.main(version_base=None, config_path=str(FOLDER), config_name=name)(task)()

        return command

    return decorate


class _errors_on_one_line:
    """Turn errors that a user can act on into one line on stderr and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(
            error, ValueError | OSError | LookupError | ImportError | OmegaConfBaseException | HydraException
        ):
            # A message may end with an expected folder tree, which only its lines make readable.
            keep_lines = getattr(error, "keep_lines", False)
            sys.stderr.write(f"error: {error if keep_lines else ' '.join(str(error).split())}\n")
            raise SystemExit(2) from error


@contextlib.contextmanager
def _first_rank_speaks() -> Iterator[None]:
    """What is wrong with the words is wrong on all of torchrun's ranks; the others give the first time to say it."""
    try:
        yield
    except ConfigError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(5.0)
            raise SystemExit(2) from error
        raise


def _check_missing(cfg: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError(f"give a value for {', '.join(missing)}, for example {missing[0]}=...")


def _check_choices(overrides: list[str]) -> None:
    """Unknown choices of a group (``adapt=sidetuning``) get the nearest names before Hydra sees them."""
    try:
        parsed = OverridesParser.create().parse_overrides([o for o in overrides if "=" in o])
    except HydraException as error:
        said = str(error).split("\n")[0]
        raise ConfigError(f"cannot read the words {' '.join(overrides)}: {said}; quote special characters") from error
    for override in parsed:
        group = FOLDER / override.key_or_group
        if "." in override.key_or_group or not group.is_dir():
            continue
        known = sorted(p.relative_to(group).with_suffix("").as_posix() for p in visible(group, "**/*.yaml"))
        values = override.sweep_string_iterator() if override.is_sweep_override() else [str(override.value())]
        for value in values:
            if value not in known:
                hint = nearest(value, known) or f"; choose from {', '.join(known)}"
                raise ConfigError(f"{override.key_or_group}={value}: there is no such choice{hint}")


def _one_line(name: str, error: Exception, overrides: list[str]) -> str:
    """Hydra's message cut to what a user needs, with the nearest key where one was misspelt."""
    text = str(error).split("\n")[0]
    key = re.search(r"[Kk]ey '([^']+)' is not in struct", f"{error} {error.__cause__}")
    if key is not None:
        path = next((o.split("=")[0].lstrip("+") for o in overrides if o.split("=")[0].endswith(key[1])), key[1])
        return f"configs/{name}.yaml has no key {path!r}{nearest(path, _keys(_composed(name, _choices(overrides))))}"
    return text


def _keys(cfg: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a config."""
    found: list[str] = []
    for key in cfg:
        full = f"{prefix}{key}"
        found.append(full)
        if not OmegaConf.is_missing(cfg, key) and isinstance(cfg[key], DictConfig):
            found += _keys(cfg[key], f"{full}.")
    return found
