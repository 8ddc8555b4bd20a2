"""Hydra config groups whose options come from registries, with the settings of each option.

`adapt=lora` needs no YAML: its settings are the dataclass `Config` of what `adapt.core.method.methods` has under that
name. Registries are imported when they are asked for, so that `configs` stays below all other packages.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

from configs.settings import Settings

GROUPS = {
    "adapt": "adapt.core.method:methods",
    "algo": "agents.learners.learner:learners",
    "base": "adapt.core.base:bases",
    "benchmark": "adapt.benchmarks.benchmark:benchmarks",
    "policy": "agents.policies.policy:policies",
    "env": "envs.sources.source:scene_sources",
}


@dataclass(frozen=True)
class NoSettings(Settings):
    """An option that has nothing to set."""


def registry(group: str) -> Any:
    """The `configs.registry.Registry` of a group's options."""
    module, _, name = GROUPS[group].partition(":")
    return getattr(importlib.import_module(module), name)


def options(group: str) -> list[str]:
    """The names of a group's options; none if there is no such group."""
    return list(registry(group).names()) if group in GROUPS else []


def settings_of(group: str, name: Any) -> type[Settings]:
    """The settings of an option: the registered part itself, or its `Config`; a base has none but its name.

    Raises:
        ValueError: There is no such option; the nearest is suggested.
    """
    part = registry(group).get(str(name))
    if inspect.isclass(part) and issubclass(part, Settings):
        return part
    config: type[Settings] = getattr(part, "Config", NoSettings)
    return config
