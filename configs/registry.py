"""Plugin registries: one per kind of part, open to other distributions by entry points.

Each kind of part has one `Registry`, an object beside the class that says what such a part is, for example
`adapt.core.method.methods`. A part is registered where it is defined:

    @methods.register("bitfit")
    class BitFit(DeltaMethod): ...

A distribution makes it known, without being imported, in its `pyproject.toml`:

    [project.entry-points."sidestep.methods"]
    bitfit = "my_package.bitfit:BitFit"

Names of built-in parts come from their modules' names, so that nothing is imported before it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from configs.names import nearest

T = TypeVar("T")
Part = TypeVar("Part")
NAME = re.compile(r"[a-z][a-z0-9_]*")
NESTED = re.compile(rf"({NAME.pattern}/)?{NAME.pattern}")


class Registry(Generic[T]):
    """The parts of one kind by name: registered in this process, built in, or of another distribution's entry points.

    Attributes:
        kind: What a part is called in messages, such as "method".
        group: The group of entry points, such as "sidestep.methods".
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtins: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        nested: bool = False,
    ) -> None:
        """Make an empty registry.

        Args:
            kind: What a part is called in messages.
            group: The group of entry points.
            builtins: By name, the module that registers it when imported; or a function that gives this mapping, such
                as ``partial(modules_of, "adapt.methods")``.
            nested: Whether names may have a family before a slash, such as ``sb3/dqn``.
        """
        self.kind, self.group = kind, group
        self._builtins = builtins
        self._pattern = NESTED if nested else NAME
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that registers a class or function under `name` and returns it unchanged.

        Raises:
            ValueError: The name is not made of lower-case letters, digits and `_`, or another part has it.
        """
        if not self._pattern.fullmatch(name):
            raise ValueError(f"{self.kind} {name!r}: names are lower-case letters, digits and _, from a letter on")

        def add(part: Part) -> Part:
            known: Any = self._parts.get(name)
            # Another object of the same place: its module was loaded again, or a notebook's cell was run again.
            if known is not None and known is not part and _place(known) != _place(part):
                raise ValueError(f"{self.kind} {name!r} is {_place(known)} already; give {_place(part)} another name")
            self._parts[name] = part  # type: ignore[assignment]
            return part

        return add

    def names(self) -> list[str]:
        """The names of all parts, sorted; nothing is imported."""
        return sorted({*self._parts, *self._modules(), *(point.name for point in self._entry_points())})

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def get(self, name: str) -> T:
        """The part of that name, imported if it has not been yet.

        Raises:
            ValueError: There is no such part (the nearest is suggested), or two distributions have one of that name.
            ImportError: Its module cannot be imported; the message names the distribution.
        """
        self._check_unique(name)
        if name not in self._parts:
            self._load(name)
        return self._parts[name]

    def name_of(self, part: T) -> str:
        """The name under which a part is registered.

        Raises:
            LookupError: It is not.
        """
        for name, known in self._parts.items():
            if known is part or _place(known) == _place(part):
                return name
        raise LookupError(f"{_place(part)} is no registered {self.kind}; register it by a name")

    def _modules(self) -> Mapping[str, str]:
        return (self._builtins() if callable(self._builtins) else self._builtins) or {}

    def _entry_points(self) -> list[EntryPoint]:
        return list(_entry_points(self.group, tuple(sys.path)))

    def _check_unique(self, name: str) -> None:
        """Refuse a name that two distributions have, whichever of them was imported first."""
        places = {
            point.value: f"{point.value} ({_source(point)})" for point in self._entry_points() if point.name == name
        }
        if module := self._modules().get(name):
            places[module] = module
        if len(places) > 1:
            names = " and ".join(places.values())
            raise ValueError(f"{self.kind} {name!r} is offered by {names}; uninstall or rename all but one")

    def _load(self, name: str) -> None:
        module = self._modules().get(name)
        point = next((point for point in self._entry_points() if point.name == name), None)
        if module is not None:
            importlib.import_module(module)
        elif point is not None:
            self.register(name)(self._imported(point))
        else:
            known = self.names()
            hint = nearest(str(name), known) or f"; choose from {', '.join(known)}"
            raise ValueError(f"unknown {self.kind} {name!r}{hint}")
        if name not in self._parts:
            raise ValueError(f"{module} registers no {self.kind} {name!r}; see {__name__}")

    def _imported(self, point: EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:  # whatever another's module raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ImportError(f"{self.kind} {point.name!r} of {_source(point)} cannot be imported: {reason}") from error


@functools.lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group, read once for each `sys.path`."""
    return tuple(entry_points(group=group))


def _source(point: EntryPoint) -> str:
    """The distribution of an entry point, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def modules_of(package: str, but: Collection[str] = ()) -> dict[str, str]:
    """The modules of a package by name, without those named in `but`, those that start with `_`, and subpackages."""
    spec = find_spec(package)
    paths = spec.submodule_search_locations if spec is not None else None
    modules = [module.name for module in pkgutil.iter_modules(paths) if not module.ispkg]
    return {name: f"{package}.{name}" for name in modules if name not in but and not name.startswith("_")}


def _place(part: Any) -> str:
    """Where a class or function is defined, as `module:name`."""
    return f"{getattr(part, '__module__', '?')}:{getattr(part, '__qualname__', repr(part))}"
