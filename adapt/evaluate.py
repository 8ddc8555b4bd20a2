"""``python -m adapt.evaluate``: evaluate encoders with their decoders on a Taskonomy-layout dataset.

    python -m adapt.evaluate data=runs/taskonomy/val 'encoder=[curvature,normal]'
    python -m adapt.evaluate data=runs/taskonomy/house     # all embedded encoders that have decoders

What they are compared with is the best constant prediction of the training labels, wherever the views come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from adapt.core.base import list_bases, load_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import decoders_path, load_decoders
from adapt.pretraining.scores import evaluate_base, wanted_domains
from adapt.training.files import to_json
from configs.compose import cli
from configs.settings import Names, Pixels, Settings, as_list
from configs.writing import write_atomically

COLUMNS = (
    *("loss", "constant", "ratio", "correlation", "precision", "edges"),
    *("accuracy", "constant_accuracy", "recall", "chance"),
)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table of scores, one row per name."""
    lines = [f"| encoder | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, scores in rows.items():
        cells = (f"{scores[column]:.4g}" if column in scores else "" for column in COLUMNS)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def evaluate(bases: Sequence[str], data: Sequence[str], size: int | None = None) -> dict[str, dict[str, float]]:
    """Evaluate several bases by name or file; keys are the names, with the task where a base has several.

    Raises:
        FileNotFoundError: A base, its decoders or data are absent.
        ValueError: A name is unknown, or decoders belong to another base.
    """
    rows: dict[str, dict[str, float]] = {}
    for name in bases:
        base, decoders = load_base(name), load_decoders(name)
        if decoders.base != base.sha256:
            raise ValueError(f"{decoders_path(name)} belongs to other weights than {name}; make it with adapt.readouts")
        views = TaskonomyViews(data, wanted_domains(list(decoders.networks)), size)
        scores = evaluate_base(base, decoders, views)
        rows |= {name if len(scores) == 1 else f"{name}: {task}": score for task, score in scores.items()}
    return rows


@dataclass(frozen=True)
class EvaluateCommand(Settings):
    """Settings of ``python -m adapt.evaluate``.

    Attributes:
        data: Datasets of envs.render (or Taskonomy's own): a folder or a list.
        encoder: Names or files of encoders; null: all embedded ones that have decoders.
        size: Pixels per side; null: as stored.
        out: Also write the numbers there, *.json.
    """

    data: Names
    encoder: Names | None = None
    size: Pixels | None = None
    out: str | None = None


@cli("evaluate_encoders", EvaluateCommand)
def main(cfg: DictConfig) -> None:
    """Print the table that the configuration asks for."""
    every = [name for name in list_bases() if decoders_path(name).is_file()]
    rows = evaluate(every if cfg.encoder is None else as_list(cfg.encoder), as_list(cfg.data), cfg.size)
    print(table(rows))  # noqa: T201
    if cfg.out is not None:
        write_atomically(Path(cfg.out), to_json(rows, indent=1).encode())


if __name__ == "__main__":
    main()
