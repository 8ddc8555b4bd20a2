"""``python -m agents.study name=imitation|reinforcement|data|size out=runs/study``: navigation tables of Side-Tuning.

Agents are trained and evaluated one after another; the same command again goes on where it stopped. After every agent
``study.html`` in ``out`` shows what is there: means over seeds with intervals, differences from learning from scratch,
the paper's numbers, times of training, figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from adapt.training.distributed import refuse_ranks
from adapt.training.run import versions
from agents.studies.page import write_page
from agents.studies.plans import StudySettings
from agents.studies.runner import run_study
from configs.compose import cli


@cli("study", StudySettings)
def main(cfg: DictConfig) -> None:
    """Run a study and write its page."""
    refuse_ranks("agents.study")
    settings = StudySettings.from_settings(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
    Path(settings.out).mkdir(parents=True, exist_ok=True)
    command = str(versions(0)["command"])
    failed = [] if settings.draw else run_study(settings, lambda: write_page(settings, command))
    page = write_page(settings, command)
    print("no agent was evaluated yet" if page is None else f"page: {page}")  # noqa: T201 (the command's output)
    if failed:
        sys.stderr.write(f"error: {len(failed)} agents failed:\n" + "".join(f"  {line}\n" for line in failed))
        raise SystemExit(2)


if __name__ == "__main__":
    main()
