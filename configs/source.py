"""Hydra config source that serves the defaults of settings dataclasses.

- ``settings/<command>``: all keys of a command, into the whole config (first in the defaults list of its YAML);
- ``<command>``: the same, for commands that have no YAML because nothing is chosen;
- ``<group>/<name>``: the settings of an option of `configs.groups.GROUPS` and its name;
- ``settings/<group>/<name>``: the same, for a YAML of that name to build on.

YAML and command line override these. Groups of the user's own lie in ``--config-dir`` or ``hydra.searchpath``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from configs.commands import COMMANDS, command_settings, is_command
from configs.groups import GROUPS, registry, settings_of
from configs.settings import Settings, defaults, kinds

SCHEMA = "settings"
# No log files, no folder of Hydra's own: a run folder has all that there is to know.
HYDRA = {
    "defaults": [{"override /hydra/hydra_logging": "none"}, {"override /hydra/job_logging": "none"}],
    "hydra": {"output_subdir": None, "run": {"dir": "."}, "sweep": {"dir": "multirun", "subdir": "."}},
}


class SettingsSource(ConfigSource):
    """Configs made of dataclasses, by Hydra's interface of config sources."""

    @staticmethod
    def scheme() -> str:
        """The scheme of this source's place in the search path."""
        return SCHEMA

    def available(self) -> bool:
        """Always."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """The defaults of a command or of an option."""
        path = _plain(config_path)
        name = path.removeprefix(f"{SCHEMA}/")
        package = None
        if is_command(name):
            config, package = as_config(command_settings(name), **HYDRA), "_global_"
        else:
            group, _, option = name.partition("/")
            config = as_config(settings_of(group, option), name=option)
        return ConfigResult(config=config, path=self.full_path(), provider=SCHEMA, header={"package": package})

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a group of configs."""
        path = _plain(config_path)
        return path in ("", SCHEMA) or path.removeprefix(f"{SCHEMA}/") in GROUPS

    def is_config(self, config_path: str) -> bool:
        """Whether the path is a config."""
        path = _plain(config_path).removeprefix(f"{SCHEMA}/")
        group, slash, option = path.partition("/")
        return is_command(path) or bool(slash and group in GROUPS and option in registry(group))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names in a group."""
        path = _plain(config_path).removeprefix(SCHEMA).removeprefix("/")
        configs, groups = (registry(path).names(), []) if path in GROUPS else (list(COMMANDS), list(GROUPS))
        wanted = {ObjectType.CONFIG: configs, ObjectType.GROUP: groups}
        return sorted(wanted[results_filter] if results_filter is not None else [*configs, *groups])


class SettingsSearchPath(SearchPathPlugin):
    """Puts the dataclasses after the YAML of the project, so that a YAML of the same name wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the source."""
        search_path.append(SCHEMA, f"{SCHEMA}://")


def register() -> None:
    """Make the source known to Hydra; once is enough, more does no harm."""
    for plugin in (SettingsSource, SettingsSearchPath):
        Plugins.instance().register(plugin)


def as_config(cls: type[Settings], **more: Any) -> DictConfig:
    """The defaults of settings as a config; groups whose keys are free take new ones without a ``+``."""
    config = OmegaConf.create({**more, **defaults(cls)})
    _open(config, cls)
    return config


def _open(config: DictConfig, cls: type[Settings]) -> None:
    for name, kind in kinds(cls).items():
        if OmegaConf.is_missing(config, name):
            continue
        if get_origin(kind) is Mapping:
            OmegaConf.set_struct(config[name], False)
        elif isinstance(kind, type) and issubclass(kind, Settings):
            _open(config[name], kind)


def _plain(path: str) -> str:
    return path.rstrip("/").removesuffix(".yaml")
