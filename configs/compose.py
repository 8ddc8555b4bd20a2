"""Hydra front end of all commands: composed config checked against dataclasses, one-line errors.

``@cli("train", TrainSettings)`` makes ``main(cfg)`` a command: ``key=value``, ``group=choice``, ``-m group=a,b`` to
sweep, ``--help``, and all else that Hydra offers.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs import commands, source
from configs.errors import OURS, explain, is_expected
from configs.groups import options
from configs.help import show_help
from configs.names import closest, nearest
from configs.overrides import quote_override, typed
from configs.processes import drop_torchrun_logs
from configs.settings import REQUIRED, ConfigError, Settings, defaults, fit, kinds, plain

__all__ = ["ConfigError", "check", "cli", "compose"]

FOLDER = Path(__file__).resolve().parent
# Characters of a message of Hydra, which may print a whole group.
LONGEST = 400
INTERRUPTED = 130  # exit code after Ctrl-C, as of shells
FULL_ERROR = "HYDRA_FULL_ERROR"  # makes Hydra raise what it would print with a traceback


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the settings of a command with Hydra overrides and check them.

    Raises:
        ConfigError: An override that does not parse, a group choice or key that does not exist, a missing value, a
            value of another type or out of range.
    """
    overrides = name_bases(overrides)
    with explained(name, overrides):
        cfg = composed(name, overrides)
    return check(cfg, commands.command_settings(name), overrides)


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose by the running Hydra command, or outside of one; nothing is checked."""
    with _hydra():
        return hydra.compose(name, list(overrides))


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """The running Hydra, or one for the time being."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    source.register()
    with hydra.initialize_config_dir(str(FOLDER), version_base=None):
        yield


def check(cfg: DictConfig, settings: type[Settings], overrides: Sequence[str] = ()) -> DictConfig:
    """Check a config in place: values get their declared types, keys that it lacks their defaults.

    Args:
        cfg: The config.
        settings: What it must fit.
        overrides: The overrides that changed it: settings that are text get it as it was typed.

    Raises:
        ConfigError: A missing value, one of another type or out of range, an unknown key.
    """
    try:
        before = OmegaConf.to_container(cfg, resolve=True)
        required = [key for key, value in defaults(settings).items() if value == REQUIRED]
        # An empty name would be the current folder; of other lists, such as sets to validate on, none may be meant.
        given = before if isinstance(before, dict) else {}
        one = [key for key in required if key == "run" or kinds(settings)[key] is str]
        empty = [key for key in required if given.get(key) == "" or (key in one and given.get(key) == [])]
        missing = sorted([*OmegaConf.missing_keys(cfg), *empty])
        if missing:
            example = f"choose from {', '.join(names)}" if (names := options(missing[0])) else f"as in {missing[0]}=..."
            raise ConfigError(f"give a value for {', '.join(missing)}; {example}")
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    after = plain(fit(settings, before, "", typed(overrides)))
    for path, value in _changes(before, after):
        OmegaConf.update(cfg, path, value, force_add=True)
    return cfg


def _changes(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What differs, by dotted key."""
    for key, value in after.items():
        full = f"{path}.{key}" if path else str(key)
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from _changes(old, value, full)
        elif key not in before or value != old or type(value) is not type(old):
            yield full, value


def job_overrides() -> list[str] | None:
    """Overrides of the running command, or of the running job of its sweep; None outside of a command."""
    if not HydraConfig.initialized():
        return None
    # Their interpolations are the config's, not Hydra's.
    overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in overrides]


def name_bases(overrides: Sequence[str]) -> list[str]:
    """The overrides, with ``base=file:PATH``, ``base=timm/...`` and the like written as ``base.name=...``.

    What has a colon or a slash, or is a file of weights, is no choice of the group but the name of a base.
    """
    return [
        f"base.name={override[5:]}"
        if override.startswith("base=") and (re.search(r"[:/]", override) or override.endswith(".safetensors"))
        else override
        for override in overrides
    ]


def cli(
    name: str, settings: type[Settings], bare: str | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of the composed config a command; its expected errors become one line and exit code 2.

    Args:
        name: Of the command, as in `configs.commands`.
        settings: Its settings.
        bare: A key that arguments without ``=`` are values of: one of them, or a list of several.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        commands.register(name, main.__module__, settings)

        @functools.wraps(main)
        def command() -> None:
            drop_torchrun_logs()
            with _errors_on_one_line():
                arguments = name_bases(_with_key(bare, sys.argv[1:]))
                if {"-h", "--help"} & set(arguments):
                    _show_help(name, settings, sys.modules[main.__module__].__doc__ or "", arguments)
                    return
                _Job(name, settings, main).run(arguments)

        command.settings = settings  # type: ignore[attr-defined]
        return command

    return decorate


def _with_key(bare: str | None, arguments: Sequence[str]) -> list[str]:
    """Words with the key `bare` before those that have none; options and their values stay as they are."""
    free = [argument for argument in arguments if "=" not in argument and not argument.startswith("-")]
    if (
        bare is None
        or not free
        or any(argument.startswith("-") and argument not in ("-h", "--help") for argument in arguments)
    ):
        return list(arguments)
    value = free[0] if len(free) == 1 else f"[{','.join(free)}]"
    return [f"{bare}={value}", *(argument for argument in arguments if argument not in free)]


def _show_help(name: str, settings: type[Settings], about: str, arguments: Sequence[str]) -> None:
    """Print the help of a command with what these arguments choose."""
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    for flag, folder in itertools.pairwise(arguments):
        if flag in ("-cd", "--config-dir"):
            overrides.append(f"hydra.searchpath=[file://{Path(folder).resolve()}]")
    with explained(name, overrides), _hydra():
        cfg = hydra.compose(name, overrides, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        chosen = [group for group in cfg.hydra.runtime.choices if not group.startswith(("hydra/", "tuned"))]
        show_help(cfg, settings, about, {str(group): loader.get_group_options(group) for group in chosen})


class _Job:
    """One run of a command, or a sweep of several, by Hydra."""

    def __init__(self, name: str, settings: type[Settings], main: Callable[[DictConfig], Any]) -> None:
        self.name, self.settings, self.main = name, settings, main
        self.failed: list[tuple[str, str]] = []
        self.expected = True
        self.jobs = 0

    def run(self, arguments: Sequence[str]) -> None:
        """Compose by Hydra and call `task`, once or for each job of a sweep."""
        source.register()
        # Hydra shows, with --cfg, what it read.
        typed_overrides = (
            list(arguments)
            if {"-c", "--cfg"} & set(arguments)
            else [quote_override(argument) for argument in arguments]
        )
        self.argv = sys.argv
        self.full_error = os.environ.get(FULL_ERROR)
        with _first_rank_reports(), explained(self.name, [argument for argument in arguments if "=" in argument]):
            sys.argv, os.environ[FULL_ERROR] = [sys.argv[0], *typed_overrides], "1"
            try:
                hydra.main(version_base=None, config_path=str(FOLDER), config_name=self.name)(self.task)()
            finally:
                self._restore()
        if self.failed:
            lines = "".join(
                f"  {job}: {textwrap.shorten(reason, 200, placeholder=' ...')}\n" for job, reason in self.failed
            )
            sys.stderr.write(f"error: {len(self.failed)} of the sweep's {self.jobs} jobs failed:\n{lines}")
            raise SystemExit(2 if self.expected else 1)

    def _restore(self) -> None:
        """The process as the user started it: a run folder notes its command."""
        sys.argv = self.argv
        if self.full_error is None:
            os.environ.pop(FULL_ERROR, None)
        else:
            os.environ[FULL_ERROR] = self.full_error

    def task(self, cfg: DictConfig) -> None:
        """One job."""
        self._restore()
        overrides = job_overrides() or []
        if HydraConfig.get().mode == RunMode.RUN:
            with _errors_on_one_line():
                self._start(cfg, overrides)
            return
        self.jobs += 1
        # Hydra's sweeper puts backslashes before the braces of interpolations.
        words = re.sub(r"\\([{}])", r"\1", " ".join(overrides))
        sys.stderr.write(f"job {self.jobs}: {words}\n")
        try:
            self._start(cfg, overrides)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and error.code in (None, 0):
                return
            reason = self._failure(error)
            self.failed.append((words, reason))
            if not str(HydraConfig.get().launcher._target_).endswith("BasicLauncher"):
                raise RuntimeError(reason) from error

    def _failure(self, error: Exception | SystemExit) -> str:
        """Write why a job of a sweep failed; gives it in short."""
        if isinstance(error, SystemExit):
            return f"exit code {error.code}"
        if is_expected(error):
            sys.stderr.write(f"error: {explain(error)}\n")
            return explain(error)
        self.expected = False
        traceback.print_exc()
        sys.stderr.write(f"error: {OURS}\n")
        return f"{type(error).__name__}: {explain(error)}"

    def _start(self, cfg: DictConfig, overrides: Sequence[str]) -> None:
        with _first_rank_reports():
            check(cfg, self.settings, overrides)
        if HydraConfig.get().mode == RunMode.MULTIRUN and cfg.get("resume") is True:
            # Jobs that had not begun when the sweep was interrupted begin now.
            cfg.resume = (Path(cfg.run) / "config.yaml").is_file()
        self.main(cfg)


class _errors_on_one_line:
    """Turn errors that a user can act on into one line on stderr and exit code 2; others keep their traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.stderr.write("error: interrupted; what was saved is kept\n")
            raise SystemExit(INTERRUPTED) from error
        if not isinstance(error, Exception):
            return
        if is_expected(error):
            # A message may end with an expected folder tree, which only its lines make readable.
            keep_lines = getattr(error, "keep_lines", False)
            sys.stderr.write(f"error: {error if keep_lines else explain(error)}\n")
            raise SystemExit(2) from error
        traceback.print_exception(error)
        sys.stderr.write(f"error: {OURS}\n")
        raise SystemExit(1) from error


@contextlib.contextmanager
def _first_rank_reports() -> Iterator[None]:
    """Errors of the settings are the same on all of torchrun's ranks; those after the first wait, and say nothing."""
    try:
        yield
    except ConfigError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(5.0)
            raise SystemExit(2) from error
        raise


# -- Hydra's errors, in one line --------------------------------------------------------------------------------


@contextlib.contextmanager
def explained(name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Turn Hydra's errors into a `ConfigError` that says what is wrong and names what is near."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(name, error, overrides)) from error
    except (TypeError, ValueError) as error:
        words = [_shortened(word) for word in overrides if re.search(r"=(null|\[.*\])?$", word)]
        if not words or not _is_of_hydra(error):
            raise
        raise ConfigError(f"cannot use {' or '.join(words)}: a group takes the name of one choice") from error


def _is_of_hydra(error: Exception) -> bool:
    """Whether an error that is none of Hydra's own was raised within it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__", "")).startswith("hydra.")


def _one_line(name: str, error: Exception, overrides: Sequence[str]) -> str:
    while not str(error) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    first = str(error).split("\n")[0]
    if isinstance(error, OverrideParseException):
        word = _shortened(str(error.override))
        if "=" not in word:
            return f"cannot read {word}: settings are written key=value; {commands.module_of(name)} --help lists them"
        reason = _shortened(first.replace("LexerNoViableAltException: ", ""))
        return f"cannot read {word}: {reason}; put the value in quotes within quotes, as in \"run='a b'\""
    if first.startswith("Ambiguous value for argument"):
        return f"{_shortened(first)}: a comma separates the jobs of a sweep (-m) or, in brackets, the items of a list"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        known = list(error.options or [])
        nested = any("/" in option for option in known)  # such as sb3/dqn
        missing = error.missing_cfg_file
        group, _, choice = missing.partition("/") if nested else missing.rpartition("/")
        return f"{_shortened(f'{group}={choice}')}: there is no such choice{nearest(choice, known) or _choose(known)}"
    absent = re.match(r"(?:In '(.+)/(.+)': )?Could not override '(\w+)'\. No match in the defaults list", first)
    if absent is not None:
        what = f"{absent[1]}={absent[2]} is for another command: " if absent[1] else ""
        return f"{what}{commands.module_of(name)} has no group {absent[3]!r} to choose from"
    unknown = re.search(r"Could not override '([^'@]+)'\.\s*$", first)
    if unknown is not None:
        return f"{commands.module_of(name)} has no key {unknown[1]!r}{_near_key(unknown[1], name, overrides)}"
    return _shortened(first)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _choose(known: Sequence[str]) -> str:
    return f"; choose from {', '.join(known)}" if known else ""


def _near_key(key: str, name: str, overrides: Sequence[str]) -> str:
    """The key that was meant, or those that its group has."""
    group, _, leaf = key.rpartition(".")
    try:
        with _hydra():
            loader = GlobalHydra.instance().config_loader()
            choices = [
                override for override in overrides if loader.get_group_options(override.partition("=")[0].lstrip("+~"))
            ]
            known = _keys(hydra.compose(name, choices))
    except HydraException:  # a choice is wrong, too
        return ""
    for one in known:
        if one.endswith(f".{leaf}"):
            return f"; did you mean {one!r}?"
    siblings = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == group}
    if near := closest(leaf, siblings):
        return f"; did you mean {siblings[near]!r}?"
    return _choose(list(siblings)) if group in known else nearest(key, known)


def _keys(cfg: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a config."""
    keys: list[str] = []
    for key in cfg:
        full = f"{prefix}{key}"
        keys.append(full)
        if not OmegaConf.is_missing(cfg, key) and isinstance(cfg[key], DictConfig):
            keys += _keys(cfg[key], f"{full}.")
    return keys
