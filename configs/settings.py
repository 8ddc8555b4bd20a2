"""Settings dataclasses: the single source of type, range, default and description of every key.

Hydra composes their defaults (`configs.source`), `configs.compose` checks what comes of it, and ``--help`` prints them:

    @dataclass(frozen=True)
    class LoRAConfig(Settings):
        \"\"\"LoRA.

Attributes:
            rank: Rank of each update.
        \"\"\"

        rank: Annotated[int, Range(1)] = 8

Types: bool, int, float, str, other settings, ``tuple[X, ...]``, ``Mapping[str, X]``, and unions of these with None;
`Range`, `OneOf` and `Chosen` narrow them. A field without a default must be given.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from configs.names import nearest

SettingsT = TypeVar("SettingsT", bound="Settings")
LARGEST = 2**63 - 1  # of whole numbers
LONGEST = 200  # characters of a value in a message
REQUIRED = "???"  # OmegaConf's mark of a value that must be given
# By type, what is taken for it (NumPy's numbers too), and its name.
TYPES: dict[Any, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}
ITEMS = {bool: "true or false", int: "whole numbers", float: "numbers", str: "names"}


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line that says what is wrong and what to do."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included unless `above` or `below` says otherwise."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range; NaN does not."""
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        """The rule in words."""
        least = (
            f"{_n(self.low)} or more"
            if not self.above
            else "positive"
            if self.low == 0
            else f"more than {_n(self.low)}"
        )
        most = f"less than {_n(self.high)}" if self.below else f"at most {_n(self.high)}"
        if math.isinf(self.low) or math.isinf(self.high):
            return most if math.isinf(self.low) else least
        if self.above == self.below:
            return f"between {_n(self.low)} and {_n(self.high)}" + (", both excluded" if self.above else "")
        return f"{least} and {most}"


def _n(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


class OneOf:
    """One of some names."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return value in self.choices

    def __str__(self) -> str:
        """The rule in words."""
        return f"one of {', '.join(self.choices)}"


@dataclass(frozen=True)
class Like:
    """Text that matches a pattern as a whole; `words` say what that is."""

    pattern: str
    words: str

    def holds(self, value: str) -> bool:
        """Whether the text matches."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        """The rule in words."""
        return self.words


class Different:
    """Lists of one item or more, none of them twice."""

    def holds(self, value: Any) -> bool:
        """Whether it is such a list."""
        return 0 < len(set(value)) == len(value)

    def __str__(self) -> str:
        """The rule in words."""
        return "a list of one or more, all different"


class NotEmpty:
    """Lists of one item or more."""

    def holds(self, value: Any) -> bool:
        """Whether there is an item."""
        return len(value) > 0

    def __str__(self) -> str:
        """The rule in words."""
        return "a list of one or more"


@dataclass(frozen=True)
class Chosen:
    """The settings of what the key ``name`` chooses from a config group: see `configs.groups`.

    Attributes:
        group: The config group.
        default: The choice of configs that were written before there was one.
    """

    group: str
    default: str | None = None


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
OpenShare = Annotated[float, Range(0, 1, above=True, below=True)]
Seed = Annotated[int, Range(0, (1 << 31) - 1)]
Device = Annotated[str, Like("auto|cpu|cuda(:[0-9]+)?", "cpu, cuda or auto")]
Pixels = Annotated[int, Range(1, 4096)]
Names = str | tuple[str, ...]


def as_list(value: str | Iterable[Any]) -> list[str]:
    """A setting of the type `Names` as a list."""
    return [value] if isinstance(value, str) else [str(name) for name in value]


class Settings:
    """Base of the dataclasses of settings: built from plain values, checked when made.

    Subclasses are frozen dataclasses. Rules between fields go to `__post_init__`, which calls this one first.
    """

    def __post_init__(self) -> None:
        """Check type and range of every field."""
        for name, kind in kinds(type(self)).items():
            fit(kind, getattr(self, name), name)

    @classmethod
    def from_settings(cls: type[SettingsT], settings: Mapping[str, Any]) -> SettingsT:
        """Build from plain values, such as those of a YAML file; lists become tuples.

        Raises:
            ConfigError: An unknown setting (the nearest is suggested), a value of another type or out of range.
        """
        built: SettingsT = fit(cls, settings, "")
        return built

    def to_settings(self) -> dict[str, Any]:
        """The settings as plain values for JSON."""
        return asdict(self)  # type: ignore[call-overload]

    def require(self, condition: bool, setting: str, rule: str) -> None:
        """Raise a ConfigError naming the setting, the rule and the value unless the condition holds."""
        if not condition:
            raise ConfigError(f"{setting} must be {rule}, got {_shown(getattr(self, setting), None)}")

    def one_of(self, setting: str, choices: Iterable[str]) -> None:
        """Raise a ConfigError, with the nearest choice, unless the setting is one of the choices."""
        _narrow(OneOf(*choices), getattr(self, setting), setting)


_KINDS: dict[Any, dict[str, Any]] = {}


def kinds(cls: type[Settings]) -> dict[str, Any]:
    """The declared types of a class's fields, with their rules, in order."""
    if cls not in _KINDS:
        hints = get_type_hints(cls, include_extras=True)
        _KINDS[cls] = {field.name: hints[field.name] for field in _fields(cls)}
    return _KINDS[cls]


def _fields(cls: type[Any]) -> tuple[Field[Any], ...]:
    return fields(cls)


def defaults(cls: type[Settings]) -> dict[str, Any]:
    """The default of every field as plain values, `REQUIRED` where there is none."""
    values = {}
    for field in _fields(cls):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        values[field.name] = REQUIRED if value is MISSING else plain(value)
    return values


def plain(value: Any) -> Any:
    """Settings and tuples as dictionaries and lists."""
    if isinstance(value, Settings):
        return {field.name: plain(getattr(value, field.name)) for field in _fields(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def explanations(cls: type[Settings]) -> dict[str, str]:
    """Descriptions of the fields, from the docstrings (``Attributes:``) of a class and its bases."""
    descriptions: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", text, re.MULTILINE)
        for name, body in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE):
            descriptions[name] = " ".join(body.split())
    return descriptions


# -- checks -----------------------------------------------------------------------------------------------------


def fit(kind: Any, value: Any, path: str, texts: Any = None) -> Any:
    """A value as its declared type: lists as tuples, mappings as settings.

    Args:
        kind: The type.
        value: A plain value.
        path: The key, for errors; empty for the settings of a whole.
        texts: What was typed for this key, as text (or lists or mappings of text); by it ``007`` stays ``007`` where
            text is declared. None outside of commands.

    Raises:
        ConfigError: The value is of another type or breaks a rule.
    """
    if get_origin(kind) is Annotated:
        kind, *rules = get_args(kind)
        if isinstance(rules[0], Chosen):
            return _chosen(rules[0], value, path, texts)
        value = fit(kind, value, path, texts)
        for rule in rules if value is not None else ():
            _narrow(rule, value, path)
        return value
    origin = get_origin(kind) or kind
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), value, path, texts)
    if inspect.isclass(origin) and issubclass(origin, Settings):
        return _group(origin, value, path, texts)
    if origin is tuple:
        return _items(get_args(kind), value, path, texts)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a group of keys with values, got {_shown(value, texts)}")
        of = get_args(kind)[1]
        return {str(key): fit(of, one, _join(path, key), _part(texts, key)) for key, one in value.items()}
    if kind is Any:
        return value if texts is None else _unquoted(value)
    return _scalar(kind, value, path, texts)


def _scalar(kind: Any, value: Any, path: str, texts: Any) -> Any:
    accepted, rule = TYPES[kind]
    if kind is str and not isinstance(value, str) and isinstance(texts, str):
        return texts
    if texts is not None and kind is not str and isinstance(value, str):
        value = _read(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        hint = ""
        if kind is int and isinstance(value, float) and value.is_integer():
            hint = f"; write it out, as {value:.0f}"
        if kind is str and value is not None and not isinstance(value, list | Mapping):
            hint = "; put it in quotes"
        raise ConfigError(f"{path} must be {rule}, got {_shown(value, texts)}{hint}")
    if kind is int and abs(value) > LARGEST:  # type: ignore[arg-type]
        raise ConfigError(f"{path} must be {rule} of 64 bits, got {_shown(value, texts)}")
    if kind is float and not _is_finite(value):
        raise ConfigError(f"{path} must be a finite number, got {_shown(value, texts)}")
    return kind(value)


def _read(text: str) -> Any:
    """Quoted text as the number or truth that it is, if it is one: sweeps quote all that they go through."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unquoted(value: Any) -> Any:
    """Values of no declared type that a command quoted, as they would be read."""
    if isinstance(value, Mapping):
        return {key: _unquoted(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_unquoted(one) for one in value]
    return _read(value) if isinstance(value, str) else value


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floating-point ones
        return False


def _shown(value: Any, texts: Any) -> str:
    if value is None and texts is not None:
        return "null"
    text = repr(plain(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _narrow(rule: Any, value: Any, path: str) -> None:
    if rule.holds(value):
        return
    hint = nearest(str(value), rule.choices) if isinstance(rule, OneOf) else ""
    raise ConfigError(f"{path} must be {rule}, got {_shown(value, None)}{hint}")


def _union(options: Sequence[Any], value: Any, path: str, texts: Any) -> Any:
    if value is None and type(None) in options:
        return None
    if value == "" == texts and type(None) in options:  # typed with a variable of the shell that is not set
        raise ConfigError(f"{path} is empty; leave it out, or write null for none")
    options = [option for option in options if option is not type(None)]
    # One or many: a list is for the option that is a tuple.
    many = [option for option in options if get_origin(option) is tuple]
    chosen = many if many and isinstance(value, list | tuple) else [o for o in options if o not in many] or many
    return fit(chosen[0], value, path, texts)


def _items(options: Sequence[Any], value: Any, path: str, texts: Any) -> tuple[Any, ...]:
    rule = f"{path} must be {_list(options)}, got {_shown(value, texts)}"
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{rule}; write it in square brackets")
    if options[-1] is not Ellipsis and len(value) != len(options):
        raise ConfigError(rule)
    of = [options[0]] * len(value) if options[-1] is Ellipsis else options
    typed: list[Any] = [None if texts is None else {}] * len(value)
    if isinstance(texts, list) and len(texts) == len(value):
        typed = texts
    every = enumerate(zip(of, value, typed, strict=True))
    return tuple(fit(kind, one, f"{path}[{i}]", text) for i, (kind, one, text) in every)


def _group(cls: type[SettingsT], value: Any, path: str, texts: Any) -> SettingsT:
    """Settings from a mapping; keys that it lacks have their defaults."""
    if isinstance(value, cls):
        return value
    known = kinds(cls)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a group with the keys {', '.join(known)}, got {_shown(value, texts)}")
    for name in value:
        if name not in known:
            hint = nearest(str(name), known) or f"; choose from {', '.join(known) or 'none'}"
            raise ConfigError(f"unknown setting {_join(path, name)!r}{hint}")
    values = {name: fit(known[name], one, _join(path, name), _part(texts, name)) for name, one in value.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(_join(path, str(error))) from error
    except TypeError as error:
        lacking = [name for name, default in defaults(cls).items() if default == REQUIRED and name not in values]
        if not lacking:
            raise
        raise ConfigError(f"give a value for {', '.join(_join(path, name) for name in lacking)}") from error


def _chosen(rule: Chosen, value: Any, path: str, texts: Any) -> dict[str, Any]:
    from configs.groups import settings_of  # which imports what it finds

    if isinstance(value, Mapping) and rule.default is not None:
        value = {"name": rule.default, **value}
    if not isinstance(value, Mapping) or "name" not in value:
        raise ConfigError(f"{path} must be a group with a name and its settings, got {_shown(value, texts)}")
    rest = {key: one for key, one in value.items() if key != "name"}
    settings = fit(settings_of(rule.group, value["name"]), rest, path, texts)
    return {"name": value["name"], **plain(settings)}


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _part(texts: Any, key: Any) -> Any:
    """What was typed for a key of a group; an empty mapping for nothing, None outside of commands."""
    if texts is None:
        return None
    return texts.get(str(key), {}) if isinstance(texts, Mapping) else {}


# -- words ------------------------------------------------------------------------------------------------------


def describe(kind: Any) -> str:
    """A type and its rules in words."""
    if get_origin(kind) is Annotated:
        kind, *rules = get_args(kind)
        named = [str(rule) for rule in rules if not isinstance(rule, Chosen)]
        if any(isinstance(rule, OneOf | Like) for rule in rules):
            return named[0]
        return ", ".join([describe(kind), *named])
    origin, options = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if option is type(None) else describe(option) for option in options)
    if origin is tuple:
        return _list(options)
    if origin is Mapping:
        return f"by name {describe(options[1])}"
    return TYPES[kind][1] if kind in TYPES else "a group of settings" if inspect.isclass(kind) else "any value"


def _list(options: Sequence[Any]) -> str:
    """A list of items of a type, or of several, in words."""
    count = "a list of" if options[-1] is Ellipsis else f"a list of {len(options)}"
    item, *rules = get_args(options[0]) if get_origin(options[0]) is Annotated else (options[0],)
    return ", ".join([f"{count} {ITEMS.get(item, 'values')}", *(f"each {rule}" for rule in rules)])
