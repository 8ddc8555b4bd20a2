"""``python -m adapt.layers``: plot which layers each task of a finished run of `adapt.train` changes.

    python -m adapt.layers run=runs/taps_pacs

For TAPS a layer is changed or not; for Piggyback it is the share of its weights that the mask removes; for the other
methods that change weights it is the size of the change relative to the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.supervised.layers import MEANINGS, RELATIVE, draw, run_changes
from adapt.supervised.runs import make_benchmark, run_base
from adapt.training.files import to_json
from adapt.training.run import load_config
from configs.compose import cli
from configs.settings import Settings
from configs.writing import write_atomically


@dataclass(frozen=True)
class LayersCommand(Settings):
    """Settings of ``python -m adapt.layers``.

    Attributes:
        run: Folder of a run of adapt.train with taps, piggyback or another method that changes weights.
    """

    run: str


@cli("layers", LayersCommand)
def main(cfg: DictConfig) -> None:
    """Write `layers.png` and `layers.json` into the run's folder and print a line per task."""
    run = Path(cfg.run)
    settings = load_config(run, "supervised")
    base = run_base(run, settings, make_benchmark(settings))
    method, changes, shares = run_changes(run, base.cpu())
    draw(method, changes, run / "layers.png")
    content = {"method": method, "meaning": MEANINGS.get(method, RELATIVE), "layers": changes, "weighted": shares}
    write_atomically(run / "layers.json", to_json(content, indent=1).encode())
    for task, layers in changes.items():
        count = sum(value > 0 for value in layers.values())
        line = f"{task}: {count} of {len(layers)} layers, {shares[task]:.1%} weighted by their size"
        print(line)  # noqa: T201
    print(f"{run / 'layers.png'}: {MEANINGS.get(method, RELATIVE)}")  # noqa: T201


if __name__ == "__main__":
    main()
