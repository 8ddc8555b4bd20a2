"""Joint training of encoders on rendered views into a folder of bases, with their decoders and scores."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapt.core.base import Base, BaseSpec, save_base
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import Decoders, decoders_path, save_decoders
from adapt.pretraining.joint import JointConfig, JointRun
from adapt.pretraining.scores import evaluate_base, wanted_domains


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
        encoder, decoder = copy.deepcopy(family.encoders[name]), family.decoders[name]
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


def pretrain_rendered(
    names: Sequence[str], val: Sequence[str], out: Path, settings: JointConfig
) -> dict[str, dict[str, float]]:
    """Train one encoder per task on views rendered during training; resumes a run.

    Args:
        names: Tasks.
        val: Datasets to validate on at the end; without any the files say nothing of validation.
        out: Folder of the encoders, ``<task>.safetensors``, their decoders and ``checkpoint.pt``.
        settings: How to train.

    Returns:
        Per task what `adapt.pretraining.scores.Tally.scores` gives; empty without validation.

    Raises:
        ValueError: A name or setting is wrong, or the run in `out` has other settings.
        OSError: Validation data are absent, or `out` cannot be written.
    """
    domains = wanted_domains(names)
    views = TaskonomyViews(val, domains, settings.size) if val else None
    run = JointRun(list(names), settings, domains)
    run.resume(out)

    def keep(now: JointRun) -> None:
        write_encoders(now, out, None, val)

    run.train(out, keep)
    return write_encoders(run, out, views, val)
