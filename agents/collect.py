"""``python -m agents.collect out=data/expert env=apartments``: recorded expert trajectories for behaviour cloning."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from adapt.training.distributed import refuse_ranks
from agents.learners.frames import FORMAT
from agents.learners.recorded import record
from agents.settings import CollectSettings
from configs.compose import cli


@cli("collect", CollectSettings)
def main(cfg: DictConfig) -> None:
    """Record trajectories into a new folder."""
    refuse_ranks("agents.collect")
    folder = Path(cfg.out)
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another out=... or delete it (frame format {FORMAT})")
    numbers = record(cfg, folder)
    print(", ".join(f"{key} {value:,}" for key, value in numbers.items()))  # noqa: T201 (the command's output)


if __name__ == "__main__":
    main()
