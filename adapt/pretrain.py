"""``python -m adapt.pretrain``: train an encoder on Taskonomy tasks, to serve as a frozen base.

    python -m adapt.pretrain task=curvature data=runs/taskonomy/train val=runs/taskonomy/val out=curvature.safetensors
    python -m adapt.pretrain 'task=[curvature,normal]' data=render val=runs/taskonomy/val out=runs/encoders

With ``data=render`` views are rendered while encoders, one per task, train on them; nothing is written but ``out``,
which is then a folder of encoders with the run's checkpoint. The same command again goes on where it stopped.

On several processes or machines: ``torchrun --nproc-per-node 2 -m adapt.pretrain ...``; ``batch`` is then divided.
Validation compares with the best constant prediction of the training labels. The decoders are written beside the
encoder, for distillation and evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig

from adapt.pretraining import joint
from adapt.pretraining.encoder import PretrainSettings, pretrain
from adapt.pretraining.export import pretrain_rendered
from adapt.pretraining.scores import score_lines
from adapt.pretraining.targets import TaskTraining
from adapt.pretraining.tasks import SCALINGS
from adapt.training import distributed
from adapt.training.device import choose_device
from configs.compose import cli
from configs.settings import Names, OneOf, Pixels, Range, Settings, as_list, kinds

RENDER = "render"  # The value of `data` that renders views instead of reading them.


@dataclass(frozen=True)
class PlanChanges(Settings):
    """Per-task overrides of the training with data=render.

    Attributes:
        label_size: Pixels per side of the decoded labels; null: as the rest.
        decoder_width: Channels of its light decoder; null: as the rest.
        scaling: How label values become targets; null: as the rest.
        balance: Power of a class's frequency by which its labels are divided in the loss; null: 0.
        every: The task is trained in every n-th step; null: in every one.
    """

    label_size: Pixels | None = None
    decoder_width: Annotated[int | None, Range(8, 4096)] = None
    scaling: Annotated[str | None, OneOf(*SCALINGS)] = None
    balance: Annotated[float | None, Range(0)] = None
    every: Annotated[int | None, Range(1)] = None


WIDER = PlanChanges(decoder_width=64)
HALF = PlanChanges(every=2)
PLANS = {
    **dict.fromkeys(("curvature", "keypoints3d", "edge_occlusion", "depth_zbuffer", "normal", "reshading"), WIDER),
    "segment_semantic": PlanChanges(decoder_width=64, scaling="taskonomy", balance=0.6),
    "class_object": PlanChanges(decoder_width=64, balance=0.5),
    "denoising": PlanChanges(label_size=32, every=4),
    **dict.fromkeys(("autoencoding", "edge_texture", "keypoints2d", "depth_euclidean"), HALF),
}


@dataclass(frozen=True)
class RenderedViews(joint.StreamTraining):
    """With data=render: one encoder per task, all on one stream of views (envs.stream).

    Attributes:
        plans: By task, how it is trained where otherwise than label_size (8), decoder_width, scaling and every step.
    """

    plans: Mapping[str, PlanChanges] = field(default_factory=lambda: dict(PLANS))


@dataclass(frozen=True, kw_only=True)
class PretrainCommand(PretrainSettings):
    """Settings of ``python -m adapt.pretrain``.

    Attributes:
        task: A task of `adapt.pretraining.tasks`, or a list, such as [curvature,normal].
        data: Datasets of envs.render (or Taskonomy's own): a folder or a list; render: views made meanwhile.
        val: The same, to validate on; with data=render [] for none.
        out: File to write, *.safetensors; its decoders go to decoders/ beside it; with data=render a folder.
        size: Pixels per side; null: as stored.
    """

    task: Names
    data: Names
    val: Names
    out: str
    size: Pixels | None = None
    render: RenderedViews = field(default_factory=RenderedViews)


def rendered_settings(cfg: DictConfig) -> joint.JointConfig:
    """The settings of ``data=render``."""
    render = cfg.render
    shared = {name: cfg[name] for name in ("encoder", "decoder", "steps", "batch", "lr", "seed")}
    own = {name: render[name] for name in render if name not in ("mix", "plans")}
    general = TaskTraining(cfg.label_size or 8, cfg.decoder_width, cfg.scaling)
    plans = {}
    for task in as_list(cfg.task):
        changes = render.plans.get(task, {}).items()
        plans[task] = replace(general, **{str(name): value for name, value in changes if value is not None})
    return joint.JointConfig(
        **shared, **own, mix=tuple(render.mix), plans=plans, size=cfg.size or 64, device=choose_device(cfg.device)
    )


@cli("pretrain", PretrainCommand)
def main(cfg: DictConfig) -> None:
    """Train as configured and print the validation scores."""
    tasks, data, val, out = as_list(cfg.task), as_list(cfg.data), as_list(cfg.val), Path(cfg.out)
    if data == [RENDER]:
        scores = pretrain_rendered(tasks, val, out, rendered_settings(cfg))
        print("\n".join(score_lines(scores)))  # noqa: T201
        return
    with distributed.joined(choose_device(cfg.device)):
        settings = PretrainSettings(**{name: cfg[name] for name in kinds(PretrainSettings)})
        training = pretrain(tasks, data, val, out, settings, cfg.size)
        if distributed.is_first():
            print("\n".join(score_lines(training["tasks"])))  # noqa: T201
            print(f"{cfg.out}: {training['seconds']} s on {training['views']} views")  # noqa: T201


if __name__ == "__main__":
    main()
