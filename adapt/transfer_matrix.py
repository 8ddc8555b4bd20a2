"""``python -m adapt.transfer_matrix``: first-order transfer from every frozen encoder to every task.

    python -m adapt.transfer_matrix data=runs/taskonomy/train val=runs/taskonomy/val out=docs/transfer

On the code of every base a small convolutional readout is trained for every task, all with the same budget. A cell is
the share of the constant prediction's loss that the readout takes away: 0 is no better than ignoring the image.
Written are ``out.json`` and the heat map ``out.png``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig

from adapt.core.base import list_bases, load_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.readouts import ReadoutSettings
from adapt.pretraining.scores import wanted_domains
from adapt.pretraining.tasks import TASKS, find_task
from adapt.pretraining.transfer import ITASKONOMY, column_correlation, draw, known_gains, transfer_matrix
from adapt.training.files import to_json
from configs.compose import cli
from configs.settings import Count, Names, Pixels, Range, Seed, Settings, as_list
from configs.writing import write_atomically


@dataclass(frozen=True)
class TransferMatrixCommand(Settings):
    """Settings of ``python -m adapt.transfer_matrix``.

    Attributes:
        data: Datasets of envs.render with the labels of all tasks: a folder or a list.
        val: The same, to validate on.
        out: Writes OUT.json (bases in it are not computed again) and OUT.png.
        encoder: Names or files of bases; null: all embedded encoders and a random one.
        task: Tasks; null: the twelve of Side-Tuning's lifelong benchmark.
        size: Pixels per side; null: as stored.
        views: Views to train on.
        val_views: Views to validate on.
        label_size: Pixels per side of decoded labels.
        steps: Updates of each readout.
        seed: Of weights, order and the choice of views.
    """

    data: Names
    val: Names
    out: str = "runs/transfer"
    encoder: Names | None = None
    task: Names | None = None
    size: Pixels | None = None
    views: Count = 4000
    val_views: Count = 1000
    label_size: Pixels = 8
    steps: Annotated[int, Range(2)] = 300
    seed: Seed = 0


@cli("transfer_matrix", TransferMatrixCommand)
def main(cfg: DictConfig) -> None:
    """Compute what the configuration asks for; bases that the JSON file already has are kept."""
    tasks = list(ITASKONOMY) if cfg.task is None else as_list(cfg.task)
    own = [name for name in (*ITASKONOMY, *TASKS) if name in list_bases()]
    bases = [*dict.fromkeys(own), "random"] if cfg.encoder is None else as_list(cfg.encoder)
    for name in tasks:
        if find_task(name).noisy:
            raise ValueError(f"{name} sees other pictures than the rest; leave it out")
    settings = ReadoutSettings(label_size=cfg.label_size, steps=cfg.steps, seed=cfg.seed)
    domains = wanted_domains(tasks)
    views = TaskonomyViews(as_list(cfg.data), domains, cfg.size).sample(cfg.views, cfg.seed)
    held_out = TaskonomyViews(as_list(cfg.val), domains, views.size).sample(cfg.val_views, cfg.seed)
    path = Path(f"{cfg.out}.json")
    budget = {
        "data": as_list(cfg.data),
        "val": as_list(cfg.val),
        "size": views.size,
        "views": len(views),
        "val_views": len(held_out),
        "label_size": settings.label_size,
        "steps": settings.steps,
        "seed": settings.seed,
    }
    made_of = {name: load_base(name).sha256 for name in bases}
    gains, sha256 = known_gains(path, budget, made_of)
    for name in bases:
        gains |= transfer_matrix([name], tasks, views, held_out, settings, gains)
        content = {"budget": budget, "sha256": {**sha256, **made_of}, "gains": gains}
        write_atomically(path, to_json(content, indent=1).encode())
    shown = {name: gains[name] for name in bases}
    draw(shown, tasks, Path(f"{cfg.out}.png"))
    print(f"{cfg.out}.png")  # noqa: T201
    for first, second in (("curvature", "normal"), ("curvature", "keypoints2d"), ("normal", "keypoints2d")):
        if {first, second} <= set(tasks) and len(shown) > 2:
            print(f"{first}, {second}: correlation of columns {column_correlation(shown, first, second):.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
