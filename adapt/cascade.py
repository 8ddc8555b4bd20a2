"""``python -m adapt.cascade``: cascaded inference over input sizes, with early exit where the network is confident.

    python -m adapt.cascade run=runs/resolutions

The stages are the sizes of a finished run of the benchmark `resolutions` (Mudrakarta et al., ICLR 2019;
see `adapt.supervised.cascade`). Writes `cascade.json` and the cost curve `cascade.png` into the run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.supervised.cascade import cost_curve, draw, stages_of_run
from adapt.training.files import to_json
from configs.compose import cli
from configs.settings import Settings
from configs.writing import write_atomically


@dataclass(frozen=True)
class CascadeCommand(Settings):
    """Settings of ``python -m adapt.cascade``.

    Attributes:
        run: Folder of a run of adapt.train benchmark=resolutions.
    """

    run: str


@cli("cascade", CascadeCommand)
def main(cfg: DictConfig) -> None:
    """Write `cascade.json` and `cascade.png` into the run's folder and print the saving."""
    run = Path(cfg.run)
    names, costs, (held, test), (held_labels, test_labels) = stages_of_run(run)
    curve = cost_curve(held, held_labels, test, test_labels, costs)
    accuracies = [float((stage.argmax(1) == test_labels).mean()) for stage in test]
    singles = dict(zip(names, zip(costs, accuracies, strict=True), strict=True))
    draw(singles, curve, run / "cascade.png")
    networks = {name: {"multiply_adds": cost, "accuracy": accuracy} for name, (cost, accuracy) in singles.items()}
    content = {"networks": networks, "cascade": curve, "held_out": len(held_labels), "test": len(test_labels)}
    write_atomically(run / "cascade.json", to_json(content, indent=1).encode())
    best = max(singles, key=lambda name: singles[name][1])
    cost, accuracy = singles[best]
    saved = 1 - curve[0]["cost"] / cost
    print(f"best single network: {best}, {accuracy:.1%}, {cost / 1e6:.1f} M multiply-adds")  # noqa: T201
    print(f"cascade: {curve[0]['accuracy']:.1%}, {curve[0]['cost'] / 1e6:.1f} M, {saved:.1%} less")  # noqa: T201
    print(f"{run / 'cascade.png'}")  # noqa: T201


if __name__ == "__main__":
    main()
