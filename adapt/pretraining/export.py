"""Writes the encoders of a joint run as bases, with their decoders and scores."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapt.core.base import Base, BaseSpec, save_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import Decoders, decoders_path, save_decoders
from adapt.pretraining.joint import JointRun
from adapt.pretraining.scores import evaluate_base


def write_encoders(
    run: JointRun, out: Path, views: TaskonomyViews | None, val: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Write all encoders of a run with their decoders, and with validation views how good they are.

    Args:
        run: The run; it is left as it is.
        out: Folder; files are named ``<task>.safetensors``, as are those of the decoders in ``decoders``.
        views: Validation views, or None.
        val: Where these come from.

    Returns:
        Per task what `adapt.pretraining.scores.Tally.scores` gives; empty without views.

    Raises:
        OSError: A file could not be written; older ones are undamaged.
    """
    scores: dict[str, dict[str, float]] = {}
    family, settings = run.result(), run.settings
    for name in run.tasks:
        plan = run.plans[name]
        encoder, decoder = copy.deepcopy(family.encoders[name]), family.decoder(name)
        for part in (encoder, decoder.network):  # Evaluate what will be stored: half-precision weights.
            part.half().float().eval()
        base = Base(encoder, BaseSpec(settings.encoder, family.kwargs, run.normalisation, name))
        decoders = Decoders(
            base="",
            decoder=settings.decoder,
            width=plan.decoder_width,
            code_shape=family.code_shape,
            size=plan.label_size,
            scaling=plan.scaling,
            networks={name: decoder},
        )
        training = {
            "tasks": {} if views is None else evaluate_base(base, decoders, views),
            "data": ["render"],
            "val": list(val),
            "views": settings.blocks_at(run.step) * settings.views_per_scene,
            "scenes": settings.blocks_at(run.step),
            "val_views": 0 if views is None else len(views),
            "label_size": plan.label_size,
            "scaling": plan.scaling,
            "balance": plan.balance,
            "every": plan.every,
            "steps": run.step,
            "tied": min(run.step, settings.tied),
            "decay": settings.decay,
            "averaged": run.averaged,
            "seconds": round(run.seconds, 1),
            "command": " ".join(["python -m adapt.pretrain", *sys.argv[1:]]),
            **{key: getattr(settings, key) for key in ("size", "mix", "batch", "reuse", "lr", "seed")},
        }
        base = Base(encoder, replace(base.spec, training=training))
        path = out / f"{name}.safetensors"
        save_base(base, path)
        save_decoders(replace(decoders, base=base.sha256), decoders_path(path))
        scores |= training["tasks"]
    return scores
