"""``python -m adapt.compare run=[runs/a,runs/b] out=runs/table``: runs of `adapt.train` side by side.

Runs that differ in seeds alone become one row, with mean and standard deviation. Also takes a folder of run folders,
such as the one of a sweep:

    python -m adapt.train -m benchmark=icifar adapt.merge=alpha,mlp2 'run=runs/merges/${adapt.merge}' ...
    python -m adapt.compare run=runs/merges out=runs/merges

Where runs have kept predictions (`pictures=2` of `adapt.train`), they are drawn task by task, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.supervised.comparison import compare
from adapt.supervised.finished import find_runs
from configs.compose import cli
from configs.settings import Names, Settings, as_list


@dataclass(frozen=True)
class CompareCommand(Settings):
    """Settings of ``python -m adapt.compare``.

    Attributes:
        run: Run folders, or folders of run folders: runs/sweep or [runs/a,runs/b].
        out: Folder of the page.
        x: A setting, such as training.examples, or a result, such as parameter_share, to draw the score against.
        pictures: Tasks whose kept predictions are drawn, such as [normal,reshading]; [] takes the first three.
    """

    run: Names
    out: str
    x: str | None = None
    pictures: tuple[str, ...] = ()


@cli("compare", CompareCommand)
def main(cfg: DictConfig) -> None:
    """Write the comparison and print its table."""
    runs = find_runs([Path(run) for run in as_list(cfg.run)])
    page = compare(runs, Path(cfg.out), cfg.x, list(cfg.pictures))
    lines = page.with_suffix(".md").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("|"))
    print("\n".join(lines[start : lines.index("", start)]))  # noqa: T201
    print(page)  # noqa: T201


if __name__ == "__main__":
    main()
