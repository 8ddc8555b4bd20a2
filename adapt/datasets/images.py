"""Images of class-labelled datasets: read from files as they are asked for, or held in memory.

All give uint8 RGB images (3,H,W); what a base does to them is the base's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from adapt.core.decoding import MOST_CLASSES, Array, opened, texts, whole_numbers
from configs.files import visible, visible_folders

Transform = Callable[[Any], Any]
# Endings of image files, those of torchvision's ImageFolder.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Labelled:
    """Images and their classes, not read yet.

    Attributes:
        images: files; or uint8 (N,H,W,3); or an object array (N,) of the bytes of image files.
        labels: (N,) int64 classes.
    """

    images: Sequence[Path] | NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Labelled:
        """The images with these indices."""
        images = self.images
        chosen = images[indices] if isinstance(images, np.ndarray) else [images[i] for i in indices]
        return Labelled(chosen, self.labels[indices])

    def __add__(self, other: Labelled) -> Labelled:
        """These images and then the other's, both of the same kind."""
        labels = np.concatenate([self.labels, other.labels])
        if isinstance(self.images, np.ndarray) or isinstance(other.images, np.ndarray):
            return Labelled(np.concatenate([np.asarray(self.images), np.asarray(other.images)]), labels)
        return Labelled([*self.images, *other.images], labels)


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Pairs of a transformed uint8 image (3,H,W) and its class.

    Args:
        source: images and classes.
        transform: of a uint8 image (3,H,W), to one of the size that the network takes.
        upright: turn photographs as their EXIF orientation says. Released loaders of public datasets do not.
    """

    def __init__(self, source: Labelled, transform: Transform, upright: bool = False) -> None:
        self.source, self.transform, self.upright = source, transform, upright

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.source.images[index]
        pixels = image if isinstance(image, np.ndarray) else read_image(image, self.upright)
        return self.transform(_tensor(pixels)), int(self.source.labels[index])

    @property
    def identity(self) -> str:
        """Names content and transform: a digest of pixels, or of the files' names and sizes, and of the classes."""
        digest = hashlib.sha256(f"{self.transform}{' upright' * self.upright}".encode())
        digest.update(self.source.labels.tobytes())
        images = self.source.images
        if isinstance(images, np.ndarray) and images.dtype != object:
            digest.update(np.ascontiguousarray(images).data)
        elif isinstance(images, np.ndarray):
            for data in images:
                digest.update(hashlib.sha256(data).digest())
        else:
            for file in images:
                digest.update(f"{file.parent.name}/{file.name} {_size(file)}\n".encode())
        return digest.hexdigest()


def _size(file: Path) -> int:
    """Bytes of a file; one that no file system can name is a FileNotFoundError, too."""
    try:
        return file.stat().st_size
    except ValueError as error:
        raise FileNotFoundError(f"no image {str(file)!r}, which the dataset lists ({error})") from error


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def read_image(source: Path | bytes, upright: bool = False) -> NDArray[np.uint8]:
    """An image file, or the bytes of one, as uint8 RGB (H,W,3); see `LabelledImages` for `upright`.

    Raises:
        ValueError: it cannot be decoded.
        FileNotFoundError: it is not there.
    """
    with opened(source, "an image") as image:
        turned = ImageOps.exif_transpose(image) if upright else image
        return np.asarray(_eight_bits(turned).convert("RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey images of more than 8 bits as such of 8: 16-bit numbers, or floats in 0..1; Pillow would cut them off."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float64)
        least, largest = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if not (least >= 0 and largest < 2**16):
            raise ValueError(f"its pixels go from {least:g} to {largest:g}; save it with 8 or 16 bits")
        if image.mode == "F" and largest <= 1:
            values *= 255
        elif image.mode.startswith("I;16") or largest > 255:
            values /= 256
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return image


def image_size(image: Path | bytes | NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of an image, of a file without decoding it.

    Raises:
        ValueError: it cannot be decoded.
    """
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    with opened(image, "an image") as file:
        return file.size


def image_files(folder: Path) -> list[Path]:
    """All images directly in a folder, sorted by name."""
    return [path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted: the classes of an image folder."""
    return [path.name for path in visible_folders(folder)]


def image_folder(folder: Path, classes: Sequence[str]) -> Labelled:
    """Images of `<folder>/<class>/`, in the order of `classes` and of names; the class is the index in `classes`."""
    files = [image_files(folder / name) for name in classes]
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in files])
    return Labelled([file for group in files for file in group], labels)


@dataclass(frozen=True)
class Splits:
    """A dataset in two parts.

    Attributes:
        train: to learn from.
        test: Test images.
        classes: names of the classes.
    """

    train: Labelled
    test: Labelled
    classes: tuple[str, ...]


def packed_labels(members: Mapping[str, Array], path: Path) -> tuple[Array, tuple[str, ...]]:
    """The classes int64 (N,) of a packed file's images, and their names: those of `classes` or `names`, else numbers.

    Raises:
        ValueError: an array is absent or of another type, or a class is none of the named ones.
    """
    named = next((key for key in ("classes", "names") if key in members), None)
    classes = texts(members, named, path) if named else ()
    labels = whole_numbers(members, "y", path, len(members["x"]), len(classes) if named else MOST_CLASSES)
    return labels, classes or tuple(map(str, range(int(labels.max(initial=-1)) + 1)))


def split(source: Labelled, classes: tuple[str, ...], share: float, seed: int) -> Splits:
    """Split so that `share` of each class's images tests, the same for the same seed."""
    rng = np.random.default_rng(seed)
    test = np.zeros(len(source), bool)
    for label in np.unique(source.labels):
        members = rng.permutation(np.flatnonzero(source.labels == label))
        test[members[: round(share * len(members))]] = True
    return Splits(source.take(np.flatnonzero(~test)), source.take(np.flatnonzero(test)), classes)
