"""Pictures whose classes can be learned, drawn from seeds: shapes in four styles, patterns of colour, characters."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 72
STYLES = ("art_painting", "cartoon", "photo", "sketch")
Points = list[tuple[float, float]]


def _around(count: int, radii: tuple[float, ...] = (1.0,)) -> Points:
    """Corners around the origin, their distances in turn."""
    angles = 2 * np.pi * np.arange(count) / count
    return [(radii[i % len(radii)] * np.sin(a), -radii[i % len(radii)] * np.cos(a)) for i, a in enumerate(angles)]


def _bar(x0: float, x1: float, y0: float, y1: float) -> Points:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


SHAPES: dict[str, list[Points]] = {
    "disc": [_around(24)],
    "triangle": [_around(3)],
    "square": [_around(4)],
    "star": [_around(10, (1.0, 0.35))],
    "cross": [_bar(-1, 1, -0.2, 0.2), _bar(-0.2, 0.2, -1, 1)],
    "stripes": [_bar(-1, 1, y, y + 0.3) for y in (-1.0, -0.4, 0.2, 0.8)],
    "dots": [[(x + 0.25 * u, y + 0.25 * v) for u, v in _around(8)] for x in (-0.7, 0.0, 0.7) for y in (-0.6, 0.6)],
}
CLASSES = tuple(SHAPES)


def shape(style: str, label: int, number: int) -> Image.Image:
    """An image of 72x72 that shows one of seven shapes, somewhere, in one of four styles.

    Args:
        style: one of `STYLES`.
        label: 0..6, the shape.
        number: which picture of that shape in that style.
    """
    rng = np.random.default_rng((STYLES.index(style), label, number))
    turn, size, middle = rng.uniform(-0.3, 0.3), rng.uniform(18, 26), rng.uniform(30, 42, 2)
    back, fill = rng.integers(130, 256, 3), rng.integers(0, 110, 3)
    if style == "sketch":
        back, fill = np.array([255] * 3), np.array([0] * 3)
    pixels = np.full((SIDE, SIDE, 3), back, float)
    if style in ("photo", "art_painting"):
        pixels += np.linspace(-40, 40, SIDE)[:, None, None] + rng.normal(0, 12, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    c, s = np.cos(turn), np.sin(turn)
    for part in SHAPES[CLASSES[label]]:
        corners = [(middle[0] + size * (c * x - s * y), middle[1] + size * (s * x + c * y)) for x, y in part]
        if style == "sketch":
            draw.line([*corners, corners[0]], (0, 0, 0), 3)
        else:
            draw.polygon(corners, tuple(fill.tolist()), (0, 0, 0) if style == "cartoon" else None)
    return image.filter(ImageFilter.GaussianBlur(1.5)) if style == "art_painting" else image


def shape_jpegs(style: str, label: int, count: int, start: int = 0) -> list[bytes]:
    """JPEG files of the pictures `start` to `start + count` of a shape."""
    files = []
    for number in range(start, start + count):
        stream = io.BytesIO()
        shape(style, label, number).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def patterns(classes: int, per_class: int, seed: int = 0, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 32x32 whose class is a pattern of 4x4 colours, moved, brightened and with noise.

    Args:
        classes: how many patterns.
        per_class: pictures of each.
        seed: of the patterns.
        part: other pictures of the same patterns.

    Returns:
        Images uint8 (N,32,32,3) and labels uint8 (N,), class after class.
    """
    colours = np.random.default_rng((seed, 1)).uniform(50, 200, (classes, 4, 4, 3))
    rng = np.random.default_rng((seed, 2, part))
    labels = np.arange(classes).repeat(per_class)
    images = colours[labels].repeat(8, 1).repeat(8, 2)
    images += rng.normal(0, 20, (len(labels), 1, 1, 1)) + rng.normal(0, 60, images.shape)
    shifts = rng.integers(-3, 4, (len(labels), 2))
    moved = [np.roll(image, shift, (0, 1)) for image, shift in zip(images, shifts, strict=True)]
    return np.stack(moved).clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


def characters(labels: Sequence[int], drawers: int) -> np.ndarray:
    """Hand-drawn characters of three strokes, ink 1 (L, drawers, 105, 105): each drawer's hand is unsteady."""
    ink = np.zeros((len(labels), drawers, 105, 105), np.uint8)
    for place, label in enumerate(labels):
        strokes = np.random.default_rng((label, 3)).uniform(15, 90, (3, 4, 2))
        for drawer in range(drawers):
            rng = np.random.default_rng((label, 4, drawer))
            image = Image.new("L", (105, 105))
            for stroke in strokes + rng.normal(0, 3, strokes.shape) + rng.normal(0, 3, 2):
                ImageDraw.Draw(image).line(list(map(tuple, stroke.tolist())), 1, 3, joint="curve")
            ink[place, drawer] = image
    return ink


def residuals(images: np.ndarray) -> np.ndarray:
    """The planes R-G, G and B-G less their predictions, (N,3,H,W), as `adapt.datasets.packed` describes them."""
    red, green, blue = np.moveaxis(images.astype(np.int16), -1, 0)
    planes = np.stack([red - green, green, blue - green], 1) & 255
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 0), (1, 0)))
    left, upper, corner = padded[..., 1:, :-1], padded[..., :-1, 1:], padded[..., :-1, :-1]
    guess = np.sort(np.stack([left, upper, left + upper - corner]), 0)[1]
    return ((planes - guess) & 255).astype(np.uint8)
