"""Table of commands: module and settings dataclass by name."""

from __future__ import annotations

import importlib

from configs.settings import Settings

# By name, the module that `python -m` runs, and the dataclass; imported when it is asked for.
COMMANDS = {
    "bench": ("agents.bench", "agents.bench.settings:BenchSettings"),
    "cascade": ("adapt.cascade", "adapt.cascade:CascadeCommand"),
    "collect": ("agents.collect", "agents.settings:CollectSettings"),
    "compare": ("adapt.compare", "adapt.compare:CompareCommand"),
    "compare_agents": ("agents.compare", "agents.compare:CompareSettings"),
    "compress": ("adapt.compress", "adapt.compress:CompressCommand"),
    "contact_sheets": ("envs.contact_sheets", "envs.contact_sheets:ContactSheetsCommand"),
    "distill": ("adapt.distill", "adapt.distill:DistillCommand"),
    "doctor": ("agents.doctor", "agents.settings:DoctorSettings"),
    "evaluate": ("agents.evaluate", "agents.settings:EvaluateSettings"),
    "evaluate_encoders": ("adapt.evaluate", "adapt.evaluate:EvaluateCommand"),
    "export": ("adapt.export", "adapt.export:ExportCommand"),
    "layers": ("adapt.layers", "adapt.layers:LayersCommand"),
    "navmesh": ("envs.navmesh", "envs.navmesh:NavmeshCommand"),
    "pretrain": ("adapt.pretrain", "adapt.pretrain:PretrainCommand"),
    "readouts": ("adapt.readouts", "adapt.readouts:ReadoutsCommand"),
    "render": ("envs.render", "envs.render:RenderCommand"),
    "report": ("agents.report", "agents.settings:ReportSettings"),
    "stream": ("envs.stream", "envs.stream:StreamCommand"),
    "study": ("agents.study", "agents.studies.plans:StudySettings"),
    "supervised": ("adapt.train", "adapt.supervised.settings:SupervisedSettings"),
    "train": ("agents.train", "agents.settings:TrainSettings"),
    "transfer_matrix": ("adapt.transfer_matrix", "adapt.transfer_matrix:TransferMatrixCommand"),
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
    """The dataclass of a command's settings."""
    if name not in _settings:
        module, _, settings = COMMANDS[name][1].partition(":")
        _settings[name] = getattr(importlib.import_module(module), settings)
    return _settings[name]
