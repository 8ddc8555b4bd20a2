"""Inert stand-ins for habitat-sim's Python modules, so that Habitat-Lab can be imported without habitat-sim.

Habitat-Lab imports ``magnum``, ``corrade`` and ``habitat_sim`` whether they are used or not. `install` provides the
missing ones: modules in which every name exists. What a module or class body does with such a name at import (reading
attributes, deriving classes, default values) works; anything that needs the real thing later raises an `ImportError`
that says so, velocity control apart, which works (`envs.habitat.rigid`). Nothing happens without a call of `install`.
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any

MODULES = ("magnum", "corrade", "habitat_sim")
# What velocity control needs works; by name, where it is.
PROVIDED = {
    name: "envs.habitat.rigid"
    for name in ("magnum.Quaternion", "habitat_sim.RigidState", "habitat_sim.physics.VelocityControl")
}
# habitat-sim's constants that say what it was built with; the stand-ins have none of it.
BUILT_WITH = ("audio_enabled", "built_with_bullet", "cuda_enabled", "vhacd_enabled")
# What Habitat-Lab and habitat-baselines do without where it is absent.
OPTIONAL = ("habitat_sim.utils.profiling_utils",)


def missing() -> tuple[str, ...]:
    """The modules that are not installed, whether or not stand-ins replace them."""
    return tuple(name for name in MODULES if name in _stand_in_names() or importlib.util.find_spec(name) is None)


def install() -> tuple[str, ...]:
    """Make every module that is not installed importable as a stand-in; the real ones stay as they are.

    Returns:
        The names of the modules that are stood in for; empty where habitat-sim is installed.
    """
    quiet_gym()
    names = missing()
    if names and not _stand_in_names():
        sys.meta_path.append(_Finder(names))
    return names


def quiet_gym() -> None:
    """Keep gym, which Habitat-Lab needs, from printing at its import that it is no longer maintained."""
    with contextlib.suppress(ImportError):
        from gym_notices import notices

        notices.notices.clear()


def _stand_in_names() -> tuple[str, ...]:
    return next((finder.names for finder in sys.meta_path if isinstance(finder, _Finder)), ())


class _Absent(abc.ABCMeta):
    """The type of every name of a stand-in module; its attributes are more of the same."""

    def __getattr__(cls, name: str) -> Any:
        return _absent(cls, name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # Code of modules and classes runs at import; that of functions has a namespace of its own.
        if sys._getframe(1).f_code.co_flags & inspect.CO_NEWLOCALS and not issubclass(cls, Exception):
            raise ImportError(
                f"{cls.__module__}.{cls.__qualname__} needs habitat-sim, which is not installed; "
                "`python -m agents.doctor` says how to install it"
            )
        return super().__call__(*args, **kwargs)


class Provided(_Absent):
    """The type of a stand-in that works; attributes that it lacks are as those of others."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object, as of any class."""
        return type.__call__(cls, *args, **kwargs)


class _Inert:
    """What a stand-in makes when it is called at import."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take whatever the real one takes."""


def _absent(owner: Any, name: str) -> Any:
    """Make the attribute `name` of a stand-in module or class and keep it there."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in BUILT_WITH:
        return False
    module = owner.__module__ if isinstance(owner, type) else owner.__name__
    outer = f"{owner.__qualname__}." if isinstance(owner, type) else ""
    # `except habitat_sim.errors.GreedyFollowerError` needs an exception.
    bases = (Exception,) if name.endswith("Error") else (_Inert,)
    made = _Absent(name, bases, {"__module__": module, "__qualname__": f"{outer}{name}"})
    setattr(owner, name, made)
    return made


class _StandIn(ModuleType):
    """A module in which every name exists."""

    def __getattr__(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if full in OPTIONAL:
            raise AttributeError(name)
        if full in PROVIDED:
            return getattr(importlib.import_module(PROVIDED[full]), name)
        return _absent(self, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-ins; being last on the path, it is asked for what nothing else finds."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in self.names or fullname in OPTIONAL:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
