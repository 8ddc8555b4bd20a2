"""``python -m adapt.pretrain``: train an encoder on Taskonomy tasks, to serve as a frozen base.

    python -m adapt.pretrain task=curvature data=runs/taskonomy/train val=runs/taskonomy/val out=curvature.safetensors

The decoders serve training only. Validation compares with the best constant prediction of the training labels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from torch import Tensor, nn

from adapt.base import Base, BaseSpec, Normalisation, save_base
from adapt.decoders import build_decoder
from adapt.encoders import build_encoder
from adapt.files import nearest
from adapt.taskonomy_data import TaskonomyViews
from adapt.tasks import SCALINGS, Labels, Task, add_noise, find_task
from configs.compose import cli

CONSTANT_SAMPLE = 512  # Views of which constant predictions are made.
CLIP = 1.0
WARM_UP = 0.1  # Share of the steps in which the learning rate rises.


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        encoder: A name of `adapt.encoders.build_encoder`.
        decoder: A name of `adapt.decoders.build_decoder`.
        scaling: How label values become targets, out of `adapt.tasks.SCALINGS`.
        label_size: Pixels per side of the decoded labels; image labels are averaged down to it. The image's size if
            None.
        steps: Updates.
        batch: Views per update.
        lr: Highest learning rate of Adam; it rises and falls once.
        seed: Of weights, order, flips and noise.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    encoder: str = "fcn5"
    decoder: str = "light"
    scaling: str = "side_tuning"
    label_size: int | None = None
    steps: int = 3000
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.scaling not in SCALINGS:
            raise ValueError(
                f"unknown scaling {self.scaling!r}{nearest(self.scaling, SCALINGS)}; choose from {', '.join(SCALINGS)}"
            )
        if self.steps < 1 or self.batch < 2 or self.lr <= 0:
            raise ValueError("steps must be at least 1, batch at least 2 and lr positive")


class Pretraining(nn.Module):
    """An encoder with one decoder per task.

    Outputs are decoded relative to the constant prediction, in units of the labels' spread.

    Args:
        tasks: Names of tasks.
        views: Training views, for the size of images and the statistics of labels.
        settings: How to train.
    """

    def __init__(self, tasks: Sequence[str], views: TaskonomyViews, settings: Settings) -> None:
        super().__init__()
        self.tasks: dict[str, Task] = {name: find_task(name) for name in tasks}
        size = settings.label_size or views.size
        if size != views.size and any(task.kind == "segmentation" for task in self.tasks.values()):
            raise ValueError("label_size: classes cannot be averaged; leave it out for segment_semantic")
        if len({task.noisy for task in self.tasks.values()}) > 1:
            raise ValueError("denoising sees noisy images; train it apart from the other tasks")
        self.settings = settings
        self.normalisation = Normalisation()
        # The light decoders learn the scale of the code; TaskonomyEncoder must not normalise it away first.
        self.kwargs = {"normalize_outputs": False} if settings.encoder == "taskonomy" else {}
        self.encoder = build_encoder(settings.encoder, **self.kwargs)
        code = Base(self.encoder).feature_shape(views.size)
        self.encoder.requires_grad_(True)
        self.decoders = nn.ModuleDict(
            {
                name: build_decoder(
                    settings.decoder,
                    code,
                    task.classes(settings.scaling),
                    size,
                    task.kind == "classification",
                )
                for name, task in self.tasks.items()
            }
        )
        for name, task in self.tasks.items():
            best, spread = label_statistics(task, views, settings.scaling, size)
            self.register_buffer(f"constant_{name}", best)
            self.register_buffer(f"spread_{name}", spread)

    def constant(self, name: str) -> Tensor:
        """The best constant output of a task, (1,C,1,1) or (1,C)."""
        return self.get_buffer(f"constant_{name}")

    def forward(self, rgb: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Decoded float32 outputs of each task, for uint8 images (B,3,H,W)."""
        if next(iter(self.tasks.values())).noisy:
            noisy = add_noise(rgb.float() / 255.0, generator)
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.normalisation.mean, self.normalisation.std))
            images = (noisy - mean) / std
        else:
            images = self.normalisation(rgb)
        device = next(self.parameters()).device
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.training and _has_bfloat16(device)):
            code = self.encoder(images)
            raw = {name: decoder(code).float() for name, decoder in self.decoders.items()}
        return {name: self.constant(name) + self.get_buffer(f"spread_{name}") * output for name, output in raw.items()}


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def wanted_domains(tasks: Sequence[str]) -> list[str]:
    """Folders of a dataset that training on these tasks reads."""
    return list(dict.fromkeys(["rgb", *(d for name in tasks for d in find_task(name).domains())]))


def label_statistics(
    task: Task, views: TaskonomyViews, scaling: str, size: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The best prediction that ignores the image, and how far labels spread about it.

    Args:
        task: The task.
        views: Training views; 512 of them are read.
        scaling: Out of `adapt.tasks.SCALINGS`.
        size: Pixels per side of the labels.
        seed: Chooses those views.

    Returns:
        For images (1,C,1,1) each: per channel the median (L1) or mean (L2) over valid pixels, and the standard
        deviation. For segmentation (1,C,1,1) and classification (1,C): the logarithm of the mean probabilities, and
        ones.
    """
    rng = np.random.default_rng(seed)
    labels = views.batch(rng.permutation(len(views))[:CONSTANT_SAMPLE])
    if task.kind == "classification":
        best = task.target(labels, scaling).mean(0, keepdim=True).clamp(min=1e-9).log()
        return best, torch.ones_like(best)
    if task.kind == "segmentation":
        target = task.target(labels, scaling)
        counts = torch.bincount(target[target >= 0], minlength=task.classes(scaling)).float()
        best = (counts / counts.sum()).clamp(min=1e-9).log().view(1, -1, 1, 1)
        return best, torch.ones_like(best)
    target, mask = task.image_target(labels, scaling, size)
    pixels = target.movedim(1, -1)[mask[:, 0] > 0]
    best = pixels.median(0).values if task.kind == "l1" else pixels.mean(0)
    return best.view(1, -1, 1, 1), pixels.std(0).clamp(min=1e-3).view(1, -1, 1, 1)


@torch.no_grad()
def evaluate(model: Pretraining, views: TaskonomyViews) -> dict[str, dict[str, float]]:
    """Compare the model with the constant predictions.

    Args:
        model: The model; it is left in eval mode.
        views: Validation views.

    Returns:
        Per task ``loss``, ``constant`` (the constant prediction's loss) and ``ratio`` = constant / loss; for classes
        also ``accuracy`` and ``constant_accuracy``.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, dict[str, float]] = {name: {} for name in model.tasks}
    for indices in np.array_split(np.arange(len(views)), max(1, len(views) // model.settings.batch)):
        labels = views.batch(indices)
        outputs = model(labels["rgb"], generator)
        for name, task in model.tasks.items():
            for key, value in _scores(task, outputs[name].cpu(), model.constant(name), labels, model.settings.scaling):
                sums[name][key] = sums[name].get(key, 0.0) + value * len(indices) / len(views)
    for score in sums.values():
        score["ratio"] = score["constant"] / score["loss"]
    return sums


def _scores(task: Task, output: Tensor, constant: Tensor, labels: Labels, scaling: str) -> list[tuple[str, float]]:
    """Losses, and accuracies for classes, of one batch."""
    fixed = constant.expand_as(output)
    scores = [
        ("loss", float(task.loss(output, labels, scaling))),
        ("constant", float(task.loss(fixed, labels, scaling))),
    ]
    if task.kind in ("segmentation", "classification"):
        target = task.target(labels, scaling)
        target = target.argmax(1) if task.kind == "classification" else target
        for key, guess in (("accuracy", output), ("constant_accuracy", fixed)):
            scores.append((key, float((guess.argmax(1) == target)[target >= 0].float().mean())))
    return scores


def flip(labels: Labels) -> dict[str, Tensor]:
    """Mirror a batch left to right; of the normals the x component changes sign."""
    flipped = {domain: label.flip(-1) if label.ndim == 4 else label for domain, label in labels.items()}
    if "normal" in flipped:
        normal = flipped["normal"].clone()
        normal[:, 0] = 255 - normal[:, 0]
        flipped["normal"] = normal
    return flipped


def fit(model: Pretraining, views: TaskonomyViews) -> None:
    """Train encoder and decoders; each task's loss counts relative to its constant prediction's."""
    settings = model.settings
    device = torch.device(
        settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=WARM_UP
    )
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns) as progress:
        bar = progress.add_task("pretraining", total=settings.steps, loss="")
        for step in range(settings.steps):
            labels: Labels = views.batch(rng.integers(0, len(views), settings.batch))
            if rng.random() < 0.5:
                labels = flip(labels)
            loss = _relative_loss(model, labels, generator)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            progress.advance(bar)
            if step % 50 == 0:
                progress.update(bar, loss=f"loss / constant {float(loss.detach()):.3f}")


def _relative_loss(model: Pretraining, labels: Labels, generator: torch.Generator) -> Tensor:
    """Mean over tasks of the loss divided by the constant prediction's on the same batch."""
    outputs = model(labels["rgb"], generator)
    device = next(model.parameters()).device
    moved = {domain: label.to(device) for domain, label in labels.items()}
    terms = []
    for name, task in model.tasks.items():
        fixed = model.constant(name).expand_as(outputs[name])
        scale = task.loss(fixed, moved, model.settings.scaling).clamp(min=1e-6)
        terms.append(task.loss(outputs[name], moved, model.settings.scaling) / scale)
    return torch.stack(terms).mean()


def pretrain(
    tasks: Sequence[str],
    data: Sequence[str],
    val: Sequence[str],
    out: Path,
    settings: Settings,
    size: int | None = None,
) -> dict[str, Any]:
    """Train an encoder and write it as a base.

    Args:
        tasks: Names of tasks.
        data: Datasets to train on.
        val: Datasets to validate on.
        out: File to write.
        settings: How to train.
        size: Pixels per side; as stored when None.

    Returns:
        What the file's header says of the training: per task the losses, views, steps, seconds.

    Raises:
        ValueError: A name or setting is wrong.
        OSError: Data is absent, or `out` cannot be written.
    """
    domains = wanted_domains(tasks)
    views = TaskonomyViews(data, domains, size)
    held_out = TaskonomyViews(val, domains, views.size)
    torch.manual_seed(settings.seed)
    model = Pretraining(tasks, views, settings)
    start = time.perf_counter()
    fit(model, views)
    seconds = time.perf_counter() - start
    # Judge what will be stored: half-precision weights.
    model.to("cpu")
    model.encoder.half().float()
    training = {
        "tasks": evaluate(model, held_out),
        "data": list(data),
        "val": list(val),
        "views": len(views),
        "val_views": len(held_out),
        "size": views.size,
        "label_size": settings.label_size or views.size,
        "scaling": settings.scaling,
        "steps": settings.steps,
        "batch": settings.batch,
        "lr": settings.lr,
        "seed": settings.seed,
        "seconds": round(seconds, 1),
        "command": " ".join(["python -m adapt.pretrain", *sys.argv[1:]]),
    }
    spec = BaseSpec(settings.encoder, model.kwargs, model.normalisation, "+".join(tasks), training)
    save_base(Base(model.encoder, spec), out)
    return training


@cli("pretrain")
def main(cfg: DictConfig) -> None:
    """Train as the configuration says and print the validation."""
    settings = Settings(**{name: cfg[name] for name in Settings.__dataclass_fields__})
    training = pretrain(_list(cfg.task), _list(cfg.data), _list(cfg.val), Path(cfg.out), settings, cfg.size)
    for name, scores in training["tasks"].items():
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in scores.items())
        print(f"{name}: {numbers}")  # noqa: T201
    print(f"{cfg.out}: {training['seconds']} s on {training['views']} views")  # noqa: T201


def _list(value: Any) -> list[str]:
    return list(OmegaConf.to_container(value)) if isinstance(value, ListConfig) else [str(value)]  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
