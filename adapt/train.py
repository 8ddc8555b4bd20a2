"""``python -m adapt.train``: one adaptation method on the tasks of one benchmark, in one run folder.

    python -m adapt.train benchmark=icifar adapt=side_tuning adapt.merge=mlp2 data=data/cifar run=runs/icifar

On several processes or machines: ``torchrun --nproc-per-node 2 -m adapt.train ...``; ``training.batch`` is then shared.
"""

from __future__ import annotations

from omegaconf import DictConfig

from adapt.supervised.runs import train
from adapt.supervised.settings import SupervisedSettings
from adapt.training import distributed
from adapt.training.device import choose_device
from adapt.training.run import resumed
from configs.compose import cli


@cli("supervised", SupervisedSettings)
def main(cfg: DictConfig) -> None:
    """Train as configured and print the result."""
    with distributed.joined(choose_device(cfg.device)):
        cfg = resumed(cfg)
        result = train(cfg)
        shown = [f"{name} {value:.4g}" for name, value in result.items() if isinstance(value, float)]
        if distributed.is_first():
            print(f"{cfg.run}: {', '.join(shown)}")  # noqa: T201


if __name__ == "__main__":
    main()
