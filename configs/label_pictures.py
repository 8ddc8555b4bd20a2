"""Pictures of Taskonomy's labels, and of predictions in their form, as people look at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

INVALID = 65535  # In 16-bit label images: the pixel shows nothing.
SEMANTIC_CLASSES = 18


def colours(domain: str, label: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """A label image as a picture.

    Args:
        domain: Name of the domain.
        label: (S, S[, C]) uint8 or uint16 as stored.
        like: A label image, (S, S), to whose range 16-bit values are shown; None: their own.

    Returns:
        (S, S, 3) uint8: colours as they are; 16-bit values through a colour map, from the least to the 99th
        percentile; depths from near to far, black where nothing is hit; classes in distinct colours.
    """
    if domain == "segment_semantic":
        palette = matplotlib.colormaps["tab20"](np.arange(SEMANTIC_CLASSES))[:, :3]
        return (255.0 * palette).astype(np.uint8)[label]
    if label.dtype == np.uint8:
        return label if label.ndim == 3 else np.repeat(label[..., None], 3, axis=2)
    reference = label if like is None else like
    shown = reference[reference < INVALID].astype(float)
    top = np.percentile(shown, 99) if len(shown) else 1.0
    low = shown.min() if len(shown) else 0.0
    values = (label.astype(float) - low) / max(top - low, 1.0)
    shades = matplotlib.colormaps["viridis"](values.clip(0.0, 1.0))[..., :3]
    return (255.0 * shades * (label < INVALID)[..., None]).astype(np.uint8)


def likeliest(vector: NDArray[np.float32], names: Mapping[int, str], most: int = 3) -> list[str]:
    """The likeliest classes of a vector and their probabilities; nothing if all are equally likely.

    Args:
        vector: (classes,) probabilities.
        names: Of the classes, by index; others are shown by their number.
        most: How many, at most; those after the first are left out below 0.05.
    """
    if np.ptp(vector) == 0.0:
        return ["nothing to tell"]
    best = np.argsort(-vector)[:most]
    return [f"{names.get(int(i), str(i))} {vector[i]:.2f}" for i in best if i == best[0] or vector[i] > 0.05]
