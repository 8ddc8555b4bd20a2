"""``python -m envs.contact_sheets``: a picture per Taskonomy task, of a few views of a rendered dataset.

python -m envs.render scenes=val:6 views_per_scene=4 out=runs/sheets
python -m envs.contact_sheets data=runs/sheets out=docs/labels
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image, ImageDraw, UnidentifiedImageError

from configs.compose import cli
from configs.files import mistaken, visible
from configs.label_pictures import colours, likeliest
from configs.settings import Range, Seed, Settings
from envs.taskonomy.class_labels import OBJECT_OF_CLASS, SCENE_NAMES
from envs.taskonomy.dataset import DOMAINS, VECTORS, file_path

GAP = 2
CAPTION = 13  # Pixels per line of text.
NOISE = 0.1
# The one task that is no domain: its input is rgb with noise.
DENOISING = "denoising"
NAMES = {
    "class_object": {index: name for name, index in reversed(OBJECT_OF_CLASS.items())},
    "class_scene": dict(enumerate(SCENE_NAMES)),
}


def noisy(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The input of denoising: a picture with noise of deviation 0.1."""
    noise = np.random.default_rng(0).normal(0.0, NOISE, rgb.shape)
    return ((rgb / 255.0 + noise).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


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
            for line, text in enumerate(likeliest(_vector(path), NAMES[domain])):
                draw.text((left, size + GAP + line * CAPTION), text, fill="black")
        else:
            pixels = _pixels(path)
            shown = noisy(pixels) if domain == DENOISING else colours(domain, pixels)
            page.paste(Image.fromarray(shown), (left, size + GAP))
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
