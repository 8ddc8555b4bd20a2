"""Table of commands: module and purpose by name, and the settings of each."""

from __future__ import annotations

import importlib
from typing import Any

from configs.settings import Settings

# By name: the module that `python -m` runs, and what it does.
COMMANDS = {
    "train": ("agents.train", "train an agent"),
    "evaluate": ("agents.evaluate", "play every held-out episode once, write records and a report"),
    "report": ("agents.report", "write the report of a run, or one page over many runs"),
    "compare_agents": (
        "agents.compare",
        "set evaluated agents beside each other, runs that differ in seeds in one row",
    ),
    "study": ("agents.study", "train and evaluate the agents of a navigation table, one after another"),
    "collect": ("agents.collect", "record expert trajectories for behaviour cloning"),
    "doctor": ("agents.doctor", "say what is installed, what is missing and how to get it"),
    "bench": ("agents.bench", "measure how fast things are on this machine"),
    "supervised": ("adapt.train", "train the tasks of a supervised benchmark on one frozen base"),
    "compare": ("adapt.compare", "set supervised runs beside each other and the published numbers"),
    "layers": ("adapt.layers", "draw which layers a method changed for which task"),
    "compress": ("adapt.compress", "make the adapters of a run low-rank"),
    "cascade": ("adapt.cascade", "classify at low resolution first, and go on only where that is unsure"),
    "export": ("adapt.export", "write the network of a run as a base for others"),
    "pretrain": ("adapt.pretrain", "train encoders on rendered or real Taskonomy data"),
    "distill": ("adapt.distill", "train a smaller encoder to do what another does"),
    "readouts": ("adapt.readouts", "train decoders for an encoder that stays as it is"),
    "evaluate_encoders": ("adapt.evaluate", "score encoders with their decoders on a dataset"),
    "transfer_matrix": ("adapt.transfer_matrix", "measure how well one encoder's features serve another's task"),
    "render": ("envs.render", "render a dataset in Taskonomy's layout"),
    "stream": ("envs.stream", "render views while encoders train on them"),
    "navmesh": ("envs.navmesh", "write a navigation mesh of a scan for habitat-sim"),
    "contact_sheets": ("envs.contact_sheets", "draw sheets of pictures and their labels"),
}
_settings: dict[str, type[Settings]] = {}
_modules: dict[str, str] = {}


def register(name: str, module: str, settings: type[Settings]) -> None:
    """Note the settings of a command that is being defined, which need not be one of `COMMANDS`."""
    _modules[name] = module
    _settings[name] = settings


def is_command(name: str) -> bool:
    """Whether a command of this name is in the table or was defined in this process."""
    return name in COMMANDS or name in _modules


def module_of(name: str) -> str:
    """Module of a command, as ``python -m`` runs it."""
    return COMMANDS[name][0] if name in COMMANDS else _modules[name]


def command_settings(name: str) -> type[Settings]:
    """The dataclass of a command's settings; its module is imported if it has not been yet."""
    if name not in _settings:
        module: Any = importlib.import_module(COMMANDS[name][0])
        if not hasattr(module, "main"):  # a package
            module = importlib.import_module(f"{module.__name__}.__main__")
        _settings[name] = module.main.settings
    return _settings[name]
