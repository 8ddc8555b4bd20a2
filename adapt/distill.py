"""``python -m adapt.distill``: knowledge distillation of an encoder into a smaller network.

    python -m adapt.distill teacher=curvature width=0.5 data=DIR val=DIR out=half.safetensors
    python -m adapt.distill teacher=curvature target=zero width=0.25 ... out=low.safetensors

The second has no effect beside the teacher: an initialisation for side-tuning (`adapt.init=low.safetensors`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.pretraining.students import DistillSettings, distill
from configs.compose import cli
from configs.settings import Names, Pixels, as_list, kinds


@dataclass(frozen=True, kw_only=True)
class DistillCommand(DistillSettings):
    """Settings of ``python -m adapt.distill``.

    Attributes:
        teacher: Name or file of a base.
        data: Datasets of envs.render (or Taskonomy's own): a folder or a list.
        val: The same, to validate on.
        out: File to write, *.safetensors; its decoders go to decoders/ beside it.
        size: Pixels per side; null: as stored.
    """

    teacher: str
    data: Names
    val: Names
    out: str
    size: Pixels | None = None


@cli("distill", DistillCommand)
def main(cfg: DictConfig) -> None:
    """Distil as configured and print the result."""
    settings = DistillSettings(**{name: cfg[name] for name in kinds(DistillSettings)})
    training = distill(cfg.teacher, as_list(cfg.data), as_list(cfg.val), Path(cfg.out), settings, cfg.size)
    for name, scores in {**training.get("tasks", {}), "energy": training.get("energy", {})}.items():
        if scores:
            print(f"{name}: {', '.join(f'{key} {value:.4g}' for key, value in scores.items())}")  # noqa: T201
    print(f"{cfg.out}: loss {training['loss at the end']:.4g}, {training['seconds']} s")  # noqa: T201


if __name__ == "__main__":
    main()
