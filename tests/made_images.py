"""Small labelled images that networks can learn, made from a seed: bars of one of several directions on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def bars(labels: NDArray[np.int64], size: int, seed: int, colour: int = 0) -> NDArray[np.uint8]:
    """Images uint8 (N,size,size,3): class i is a grating at i * 45 degrees, in the channel `colour`, on noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = rng.integers(0, 90, (len(labels), size, size, 3))
    for image, label in zip(images, labels, strict=True):
        angle = label * np.pi / 4
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / 6 + rng.uniform(0, 2 * np.pi))
        image[..., colour] += np.where(wave > 0, 160, 0)
    return images.astype(np.uint8)


def write_domains(path: Path, domains: tuple[str, ...] = ("red", "green"), per_class: int = 12, size: int = 24) -> Path:
    """One npz of the same three classes in each domain, which differ in colour; for the benchmark `domainnet`."""
    labels = np.tile(np.repeat(np.arange(3), per_class), len(domains))
    places = np.repeat(np.arange(len(domains)), 3 * per_class)
    parts = [bars(labels[places == i], size, seed=i, colour=i) for i in range(len(domains))]
    np.savez(path, x=np.concatenate(parts), y=labels, domain=places, domains=np.array(domains))
    return path


def write_set(path: Path, classes: int = 3, per_class: int = 12, size: int = 24, seed: int = 0) -> Path:
    """One npz of images, `y` and `is_test` (every fourth)."""
    labels = np.repeat(np.arange(classes), per_class)
    test = np.arange(len(labels)) % 4 == 0
    np.savez(path, x=bars(labels, size, seed), y=labels, is_test=test)
    return path
