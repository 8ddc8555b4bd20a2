"""Values of a composed config have the types that its YAML files show."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

# What keys hold whose YAML says null, which shows no type.
NULLABLE: dict[str, type] = {
    "temperature": float,
    "mirror": bool,
    "scene": str,
    "episodes": str,
    "size": int,
    "label_size": int,
    "workers": int,
}
# Keys that take one word or a list of words.
ONE_OR_MANY = ("domains", "sections")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line that says what is wrong and what to do."""


def check_types(given: DictConfig, shown: DictConfig, prefix: str = "") -> None:
    """Check every value of `given` against the value at the same key of `shown`, which has the types.

    A number where text is expected becomes text (a folder may be called 7). Keys that `shown` lacks, or leaves open
    (``???``, or null and not in `NULLABLE`), take anything.

    Raises:
        ConfigError: A value of another type; the message says which type the key takes.
    """
    known = list(shown)  # `in` does not see keys whose value is left open
    for key in map(str, given):
        if key not in known or OmegaConf.is_missing(given, key):
            continue
        value, wanted = given[key], _wanted(shown, key, given[key])
        if isinstance(wanted, DictConfig) and isinstance(value, DictConfig):
            check_types(value, wanted, f"{prefix}{key}.")
        elif wanted is not None:
            _check(given, key, f"{prefix}{key}", value, wanted)


def _wanted(shown: DictConfig, key: Any, value: Any) -> Any:
    """A value of the type that `value` must have; None if it may have any."""
    if OmegaConf.is_missing(shown, key):  # names of files and folders, or lists of them
        return None if isinstance(value, ListConfig) else ""
    if shown[key] is None:
        return None if value is None or key not in NULLABLE else NULLABLE[str(key)]()
    return shown[key]


def _check(given: DictConfig, key: Any, full: str, value: Any, wanted: Any) -> None:
    if isinstance(wanted, str) and _is_number(value):
        OmegaConf.update(given, str(key), str(value))
        return
    if key in ONE_OR_MANY and isinstance(value, ListConfig):
        return
    if isinstance(wanted, ListConfig) and isinstance(value, ListConfig):
        if len(wanted):
            for one in value:
                if not _fits(one, wanted[0]):
                    raise ConfigError(f"{full}={_plain(value)}: each item must be {_name(wanted[0])}, {one!r} is not")
        return
    if not _fits(value, wanted):
        hint = f"; write it out, as {value:.0f}" if isinstance(value, float) and value.is_integer() else ""
        raise ConfigError(f"{full}={'null' if value is None else _plain(value)}: this must be {_name(wanted)}{hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value has the type of another; whole numbers are numbers."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return isinstance(wanted, bool) and isinstance(value, bool)
    if isinstance(wanted, float):
        return isinstance(value, int | float)
    return isinstance(value, type(wanted))


def _name(wanted: Any) -> str:
    """A type in words."""
    if isinstance(wanted, ListConfig):
        return f"a list, as {_plain(wanted)}" if len(wanted) else "a list in square brackets"
    if isinstance(wanted, DictConfig):
        return f"a group with the keys {', '.join(map(str, wanted))}"
    names: list[tuple[type, str]] = [
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
    ]
    return next(name for kind, name in names if isinstance(wanted, kind))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
