"""Cost table of methods by backbones (trainable parameters, bits, multiply-adds), or the reason for refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from adapt.core.base import Base, BaseSpec, BlackBoxBase
from adapt.core.deltas import DeltaMethod
from adapt.core.method import Incompatible, NotMergeable, list_methods
from adapt.core.model import wrap
from adapt.encoders import build_encoder
from configs.names import nearest

Record = dict[str, Any]


class Backbone(NamedTuple):
    """An encoder's name (empty: a black box), the image size of its paper in pixels, and its settings."""

    encoder: str
    size: int
    kwargs: Mapping[str, Any] = {}


BACKBONES = {
    "fcn3": Backbone("fcn3", 64),
    "fcn4": Backbone("fcn4", 32),
    "fcn5": Backbone("fcn5", 64),
    "fcn8": Backbone("fcn8", 64),
    "resnet44": Backbone("resnet44", 32),
    "resnet26": Backbone("resnet26", 64),
    "wrn28_4": Backbone("wrn28_4", 64),
    "taskonomy": Backbone("taskonomy", 256),
    "vgg16": Backbone("torchvision/vgg16", 224),
    "vgg16_bn": Backbone("torchvision/vgg16_bn", 224),
    "resnet34": Backbone("torchvision/resnet34", 224),
    "resnet50": Backbone("torchvision/resnet50", 224),
    "densenet121": Backbone("torchvision/densenet121", 224),
    "mobilenet_v2": Backbone("torchvision/mobilenet_v2", 224),
    "inception_v3": Backbone("torchvision/inception_v3", 299),
    "vit_small": Backbone("timm/vit_small_patch16_224", 224),
    "bert": Backbone("bert", 128),
    "black_box": Backbone("", 64),
}
# Settings that are shown beside each method's defaults, because papers report their counts.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "patch": [{"norm": "frozen", "depthwise": True}],
    "progressive": [{"side": "fcn4", "merge": "alpha", "dense": False}],
    "residual_adapter": [
        *({"placement": placement} for placement in ("early", "mid", "late", "half")),
        {"kind": "series"},
    ],
}


def _mean_colour(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images.float() / 255, 16).mean(1, keepdim=True).repeat(1, 8, 1, 1)


def check_backbone(name: str) -> Backbone:
    """The backbone of that name; raises ValueError, with the nearest name, if there is none."""
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}{nearest(name, BACKBONES)}; choose from {', '.join(BACKBONES)}")
    return BACKBONES[name]


def make_backbone(name: str) -> Base:
    """A base of `BACKBONES` with random weights.

    Raises:
        ValueError: the name is unknown.
        ImportError: it needs a package that is not installed.
    """
    backbone = check_backbone(name)
    if not backbone.encoder:
        return BlackBoxBase(_mean_colour, "mean colour of 16x16 patches")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(backbone.encoder, **backbone.kwargs)
    return Base(encoder, BaseSpec(backbone.encoder, backbone.kwargs))


def describe(base: Base, name: str, method: str, settings: Mapping[str, Any]) -> Record:
    """Put one task on a base and count; with `refused`, the reason, in place of the counts where it does not go.

    Returns:
        base, base_parameters, image_size, method, settings; trainable_parameters, trainable_weights (those in matrices
        and kernels, so without normalisation, scalars and PackNet's lists of weights), layers (with a weight delta),
        stored_bytes, base_multiply_adds, extra_multiply_adds (per image), merges (whether one plain network can
        compute the same).
    """
    size = BACKBONES[name].size
    parameters = sum(p.numel() for p in base.parameters())
    record: Record = {"base": name, "base_parameters": parameters, "image_size": size}
    record.update(method=method, settings=dict(settings))
    try:
        adapted = wrap(base, method, "task", size, **settings)
    except Incompatible as refusal:
        return {**record, "refused": str(refusal)}
    budget, own = adapted.budget(), adapted.method()
    try:
        adapted.merge()
        merges = True
    except NotMergeable:
        merges = False
    return {
        **record,
        "trainable_parameters": budget.trainable_parameters,
        "trainable_weights": sum(p.numel() for p in own.trainable() if p.ndim > 1),
        "layers": len(own.deltas) if isinstance(own, DeltaMethod) else 0,
        "stored_bytes": budget.stored_bits // 8,
        "base_multiply_adds": budget.base_multiply_adds,
        "extra_multiply_adds": budget.extra_multiply_adds,
        "merges": merges,
    }


def records(methods: Sequence[str] = (), bases: Sequence[str] = ()) -> Iterator[Record]:
    """All pairs, base by base; variants follow their method.

    By default all methods on all backbones; BERT is left out where transformers is not installed.
    """
    for name in bases or BACKBONES:
        if name == "bert" and not bases and find_spec("transformers") is None:
            continue
        base = make_backbone(name)
        for method in methods or list_methods():
            for settings in ({}, *VARIANTS.get(method, ())):
                yield describe(base, name, method, settings)


def label(record: Record) -> str:
    """Method and settings of a row, as a user writes them."""
    settings = (f"{key}={str(value).lower()}" for key, value in record["settings"].items())
    return " ".join([record["method"], *settings])


def as_text(rows: Iterable[Record]) -> Iterator[str]:
    """Lines for a terminal, as the rows come."""
    seen = ""
    for row in rows:
        if row["base"] != seen:
            seen = row["base"]
            yield f"\n{seen}: {row['base_parameters']:,} parameters, images of {row['image_size']} pixels"
            head = f"  {'method':46} {'trainable':>11} {'weights':>11} {'layers':>6} {'stored KiB':>10}"
            yield f"{head} {'extra M mult-adds':>18}  merges"
        if "refused" in row:
            yield f"  {label(row):46} refused: {row['refused']}"
            continue
        extra = f"{row['extra_multiply_adds'] / 1e6:+,.1f} ({_percent(row)})"
        yield (
            f"  {label(row):46} {row['trainable_parameters']:>11,} {row['trainable_weights']:>11,} {row['layers']:>6} "
            f"{row['stored_bytes'] / 1024:>10,.1f} {extra:>18}  {'yes' if row['merges'] else 'no'}"
        )


def _percent(row: Record) -> str:
    if not row["base_multiply_adds"]:
        return "base: 0"
    return f"{100 * row['extra_multiply_adds'] / row['base_multiply_adds']:+.1f}%"


def as_markdown(rows: Sequence[Record]) -> Iterator[str]:
    """Lines of a Markdown table, methods by backbones, of trainable parameters, with numbered reasons below it."""
    bases, labels = list(dict.fromkeys(r["base"] for r in rows)), list(dict.fromkeys(map(label, rows)))
    cells = {(label(row), row["base"]): row for row in rows}
    reasons: dict[str, int] = {}
    yield f"| method | {' | '.join(bases)} |"
    yield f"|---|{'---:|' * len(bases)}"
    for text in labels:
        line = []
        for base in bases:
            row = cells.get((text, base))
            if row is None:
                line.append("")
            elif "refused" in row:
                line.append(f"no [{reasons.setdefault(row['refused'], len(reasons) + 1)}]")
            else:
                line.append(f"{row['trainable_parameters']:,}")
        yield f"| {text} | {' | '.join(line)} |"
    yield ""
    yield from (f"{number}. {reason}" for reason, number in reasons.items())
