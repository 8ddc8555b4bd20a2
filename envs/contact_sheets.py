"""``python -m envs.contact_sheets``: a picture per Taskonomy task, of a few views of a rendered dataset.

python -m envs.render scenes=val:6 views_per_scene=4 out=runs/sheets
python -m envs.contact_sheets data=runs/sheets out=docs/labels
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image, ImageDraw, UnidentifiedImageError

from configs.compose import cli
from configs.files import mistaken, visible
from configs.settings import Range, Seed, Settings
from envs.taskonomy.class_labels import OBJECT_OF_CLASS, SCENE_NAMES, SEMANTIC_NAMES
from envs.taskonomy.dataset import DOMAINS, VECTORS, file_path

INVALID_DEPTH = 65535
GAP = 2
CAPTION = 13  # Pixels per line of text.
NOISE = 0.1
# The one task that is no domain: its input is rgb with noise.
DENOISING = "denoising"
OBJECT_NAMES = {index: name for name, index in reversed(OBJECT_OF_CLASS.items())}


def colours(domain: str, label: NDArray[Any]) -> NDArray[np.uint8]:
    """A label image as a picture.

    Args:
        domain: Name of the domain, or ``denoising`` for the noisy input.
        label: (S, S[, C]) as stored.

    Returns:
        (S, S, 3) uint8: colours as they are; 16-bit values through a colour map, from the least to the 99th
        percentile; depths from near to far, black where nothing is hit; classes in distinct colours.
    """
    if domain == DENOISING:
        noise = np.random.default_rng(0).normal(0.0, NOISE, label.shape)
        return ((label / 255.0 + noise).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if domain == "segment_semantic":
        palette = matplotlib.colormaps["tab20"](np.arange(len(SEMANTIC_NAMES)))[:, :3]
        return (255.0 * palette).astype(np.uint8)[label]
    if label.dtype == np.uint8:
        return label if label.ndim == 3 else np.repeat(label[..., None], 3, axis=2)
    known = label < INVALID_DEPTH
    value = label.astype(float)
    top = np.percentile(value[known], 99) if known.any() else 1.0
    low = value[known].min() if known.any() else 0.0
    shades = matplotlib.colormaps["viridis"](((value - low) / max(top - low, 1.0)).clip(0.0, 1.0))[..., :3]
    return (255.0 * shades * known[..., None]).astype(np.uint8)


def likeliest(domain: str, vector: NDArray[np.float32], most: int = 3) -> list[str]:
    """The likeliest classes of a vector and their probabilities; nothing if all are equally likely."""
    if np.ptp(vector) == 0.0:
        return ["nothing to tell"]
    names = dict(enumerate(SCENE_NAMES)) if domain == "class_scene" else OBJECT_NAMES
    best = np.argsort(-vector)[:most]
    return [f"{names.get(int(i), str(i))} {vector[i]:.2f}" for i in best if vector[i] > 0.05]


def sheet(root: Path, domain: str, views: list[tuple[str, int, int]]) -> Image.Image:
    """A contact sheet: RGB of some views above their label images.

    Args:
        root: Folder of the dataset.
        domain: Name of the domain, or ``denoising``.
        views: (building, point, view) of each.

    Raises:
        FileNotFoundError: A view lacks the domain.
    """
    stored = "rgb" if domain == DENOISING else domain
    pictures = [_pixels(file_path(root, "rgb", *view)) for view in views]
    size = len(pictures[0])
    below = 3 * CAPTION if domain in VECTORS else size
    page = Image.new("RGB", (len(views) * (size + GAP) - GAP, size + GAP + below), "white")
    draw = ImageDraw.Draw(page)
    for column, (view, picture) in enumerate(zip(views, pictures, strict=True)):
        left = column * (size + GAP)
        page.paste(Image.fromarray(picture), (left, 0))
        path = file_path(root, stored, *view)
        if domain in VECTORS:
            for line, text in enumerate(likeliest(domain, _vector(path))):
                draw.text((left, size + GAP + line * CAPTION), text, fill="black")
        else:
            page.paste(Image.fromarray(colours(domain, _pixels(path))), (left, size + GAP))
    return page


def _pixels(path: Path) -> NDArray[Any]:
    """The stored values of an image; what cannot be decoded is a `ValueError` that names the file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except (SyntaxError, ValueError, MemoryError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot decode {path}: {mistaken(path) or error}") from error


def _vector(path: Path) -> NDArray[Any]:
    """The vector in a ``.npy`` file; likewise."""
    try:
        return np.load(path, allow_pickle=False).reshape(-1).astype(np.float32)
    except (EOFError, ValueError, AttributeError) as error:
        raise ValueError(f"cannot read {path}: {mistaken(path) or error}") from error


def choose_views(root: Path, count: int, seed: int = 0) -> list[tuple[str, int, int]]:
    """Some views of a dataset: (building, point, view), of as many buildings as possible.

    Raises:
        FileNotFoundError: There is no dataset, or it holds fewer views.
    """
    pattern = re.compile(r"point_(\d+)_view_(\d+)_domain_rgb\.png")
    views = [
        (path.parent.name, int(match[1]), int(match[2]))
        for path in visible(root / "rgb", "*/*.png")
        if (match := pattern.fullmatch(path.name))
    ]
    if len(views) < count:
        raise FileNotFoundError(f"{root} holds {len(views)} views, wanted are {count}; render it with envs.render")
    order = np.random.default_rng(seed).permutation(len(views))
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, tuple[str, int, int]]] = []
    for i in order:
        building = views[i][0]
        seen[building] = seen.get(building, 0) + 1
        ranked.append((seen[building], len(ranked), views[i]))
    return [view for *_, view in sorted(ranked)[:count]]


@dataclass(frozen=True)
class ContactSheetsCommand(Settings):
    """Settings of ``python -m envs.contact_sheets``.

    Attributes:
        data: A dataset of envs.render with all domains.
        out: Folder of the pictures.
        columns: Views.
        seed: Of their choice.
    """

    data: str
    out: str = "docs/labels"
    columns: Annotated[int, Range(1, 1000)] = 6
    seed: Seed = 0


@cli("contact_sheets", ContactSheetsCommand)
def main(cfg: DictConfig) -> None:
    """Write one sheet per task."""
    root, out = Path(cfg.data), Path(cfg.out)
    views = choose_views(root, cfg.columns, cfg.seed)
    out.mkdir(parents=True, exist_ok=True)
    total = 0
    for domain in (*DOMAINS, DENOISING):
        path = out / f"{domain}.jpg"
        sheet(root, domain, views).save(path, quality=85, optimize=True)
        total += path.stat().st_size
    print(f"{len(DOMAINS) + 1} sheets of {len(views)} views in {out}, {total / 1e6:.1f} MB")  # noqa: T201


if __name__ == "__main__":
    main()
