"""``python -m adapt.export``: the network of a finished run of `adapt.train` as a base, in one file.

    python -m adapt.export run=runs/pretrained out=pretrained.safetensors
    python -m adapt.train base.name=pretrained.safetensors ...

By default that of the run's first task, with what the task changed folded in; `shared=true` writes what jointly trained
tasks share, without any task's own part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from adapt.core.base import save_base
from adapt.supervised.runs import make_benchmark, run_base
from adapt.supervised.saved import exported, saved_methods
from adapt.training.run import load_config
from configs.compose import cli
from configs.settings import Settings


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
    settings = load_config(run, "supervised")
    base = run_base(run, settings, make_benchmark(settings)).cpu()
    methods = saved_methods(run, base)
    network = exported(methods, cfg.task, cfg.shared)
    print(f"{cfg.out}: {save_base(network, Path(cfg.out), torch.float32)}")  # noqa: T201


if __name__ == "__main__":
    main()
