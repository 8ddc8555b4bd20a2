"""``python -m adapt.compress``: trained residual adapters made low-rank by SVD and trained on (Rebuffi et al., 2018).

    python -m adapt.train benchmark=decathlon adapt=residual_adapter data=DIR run=runs/parallel
    python -m adapt.compress run=runs/parallel rank=0.5 shared=true out=runs/parallel_svd

With `shared` the adapters of all tasks are decomposed together, so that they have the output factor in common, which
stays frozen; else each for itself, and both factors are trained. Writes a run folder as `adapt.train` does; its
`result.json` also has the scores before, and right after the decomposition. How the paper trains on is not published:
here it is the last third of the decathlon's schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from omegaconf import DictConfig

from adapt.supervised.compression import compress
from configs.compose import cli
from configs.settings import Range, Settings


@dataclass(frozen=True)
class CompressCommand(Settings):
    """Settings of ``python -m adapt.compress``.

    Attributes:
        run: Folder of a finished run of adapt.train adapt=residual_adapter.
        out: Folder of the new run.
        resume: Go on with the run in that folder, from its last finished task.
        rank: K, as a share of min(inputs, outputs) of each adapter.
        shared: The adapters of all tasks have the output factor in common, frozen (joint SVD).
        training: How long to train on; the length is not published: the last third of the decathlon's schedule.
        optimiser: How to train on.
    """

    run: str
    out: str
    resume: bool = False
    rank: Annotated[float, Range(0, 1, above=True)] = 0.5
    shared: bool = False
    training: Mapping[str, Any] = field(default_factory=lambda: {"length": "40 passes"})
    optimiser: Mapping[str, Any] = field(
        default_factory=lambda: {"lr": 0.01, "schedule": "steps", "milestones": [0.5], "gamma": 0.1}
    )


@cli("compress", CompressCommand)
def main(cfg: DictConfig) -> None:
    """Compress as the configuration says and print the scores before, after the decomposition and at the end."""
    result = compress(cfg)
    for task in result["tasks"]:
        score = result["score"][task]
        numbers = [part[task][score] for part in (result["before"], result["untuned"], result["per_task"])]
        print(f"{task}: {score} {numbers[0]:.4g}, decomposed {numbers[1]:.4g}, trained on {numbers[2]:.4g}")  # noqa: T201
    print(f"{cfg.out}: {result['model_size']:.3g} times the base")  # noqa: T201


if __name__ == "__main__":
    main()
