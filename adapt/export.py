"""``python -m adapt.export``: the network of a finished run of `adapt.train` as a base, in one file.

    python -m adapt.export run=runs/pretrained out=pretrained.safetensors
    python -m adapt.train base.name=pretrained.safetensors ...

By default that of the run's first task, with what the task changed folded in; `shared=true` writes what jointly trained
tasks share, without any task's own part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from adapt.core.base import Base, save_base
from adapt.core.method import Method
from adapt.modules.joint import JointDeltaMethod
from adapt.supervised.saved import saved_methods
from adapt.train import make_benchmark, run_base
from adapt.training.run import load_config
from configs.compose import cli
from configs.names import nearest
from configs.settings import Settings


def exported(methods: Mapping[str, Method], task: str = "", shared: bool = False) -> Base:
    """The network of a task, by default of the first, or what all tasks share.

    Raises:
        ValueError: there is no such task, or nothing is shared.
        NotMergeable: the method has no such form.
    """
    name = task or next(iter(methods))
    if name not in methods:
        raise ValueError(f"there is no task {name!r}{nearest(name, methods)}; there are {', '.join(methods)}")
    method = methods[name]
    if not shared:
        return method.merge()
    if not isinstance(method, JointDeltaMethod):
        raise ValueError(f"{method.name()} trains no weights that tasks share beside their own; leave out shared=true")
    return method.shared_base()


@dataclass(frozen=True)
class ExportCommand(Settings):
    """Settings of ``python -m adapt.export``.

    Attributes:
        run: Folder of a run of adapt.train.
        out: File to write, *.safetensors.
        task: Whose network; the first by default.
        shared: What jointly trained tasks share, without the task's own part.
    """

    run: str
    out: str
    task: str = ""
    shared: bool = False


@cli("export", ExportCommand)
def main(cfg: DictConfig) -> None:
    """Write the file and print its sha256."""
    run = Path(cfg.run)
    settings = load_config(run)
    base = run_base(run, settings, make_benchmark(settings)).cpu()
    methods = saved_methods(run, base)
    network = exported(methods, cfg.task, cfg.shared)
    print(f"{cfg.out}: {save_base(network, Path(cfg.out), torch.float32)}")  # noqa: T201


if __name__ == "__main__":
    main()
