"""``python -m adapt.readouts``: train decoders on the codes of a frozen encoder.

python -m adapt.readouts encoder=curvature task=curvature data=DIR val=DIR
python -m adapt.readouts encoder=curvature 'task=[normal,depth_zbuffer]' data=DIR val=DIR out=FILE
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.core.base import load_base
from adapt.pretraining.decoders import decoders_path, save_decoders
from adapt.pretraining.readouts import ReadoutSettings, make_readouts
from adapt.pretraining.scores import score_lines
from configs.compose import cli
from configs.settings import Names, Pixels, as_list, kinds


@dataclass(frozen=True, kw_only=True)
class ReadoutsCommand(ReadoutSettings):
    """Settings of ``python -m adapt.readouts``.

    Attributes:
        encoder: Name or file of a base.
        task: A task of `adapt.pretraining.tasks`, or a list.
        data: Datasets of envs.render (or Taskonomy's own): a folder or a list.
        val: The same, to validate on.
        out: File to write, *.safetensors; null: in decoders/ beside the base.
        size: Pixels per side; null: as stored.
    """

    encoder: str
    task: Names
    data: Names
    val: Names
    out: str | None = None
    size: Pixels | None = None


@cli("readouts", ReadoutsCommand)
def main(cfg: DictConfig) -> None:
    """Train as the configuration says, write the decoders and print their validation."""
    settings = ReadoutSettings(**{name: cfg[name] for name in kinds(ReadoutSettings)})
    out = decoders_path(cfg.encoder) if cfg.out is None else Path(cfg.out)
    base, tasks = load_base(cfg.encoder), as_list(cfg.task)
    decoders, scores = make_readouts(base, tasks, as_list(cfg.data), as_list(cfg.val), settings, cfg.size)
    save_decoders(decoders, out)
    print("\n".join([*score_lines(scores), str(out)]))  # noqa: T201


if __name__ == "__main__":
    main()
