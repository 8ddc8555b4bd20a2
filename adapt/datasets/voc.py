"""PASCAL VOC and SBD (Semantic Boundaries Dataset) for segmentation, as their owners lay them out, or packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from adapt.core.decoding import member, opened, read_npz
from adapt.datasets.images import read_image
from adapt.datasets.matlab import struct_field
from adapt.datasets.packed import encoded_files, parts_of
from configs.files import mistaken

Source = Path | bytes

CLASSES = 21
IGNORED = 255
SBD = "benchmark_RELEASE/dataset"


def voc_folder(root: Path, year: int) -> Path:
    """The folder of a year of PASCAL VOC below `root`; the archive of 2011 has one more level than the others."""
    deeper = root / "TrainVal" / "VOCdevkit" / f"VOC{year}"
    return deeper if deeper.is_dir() else root / "VOCdevkit" / f"VOC{year}"


def read_names(path: Path) -> list[str]:
    """Names of images, one a line."""
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def voc_label(source: Source) -> NDArray[np.int64]:
    """Classes (H,W) of a PNG of `SegmentationClass`, a file or its bytes, 255 at the borders of objects."""
    with opened(source, "a mask") as image:
        return np.asarray(image).astype(np.int64)


def sbd_label(path: Path) -> NDArray[np.int64]:
    """Classes (H,W) of a MATLAB file of SBD's `cls`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds no whole numbers (H,W).
    """
    try:
        label = struct_field(path, "GTcls", "Segmentation")
        if label.ndim != 2 or not np.isin(label, np.arange(IGNORED + 1)).all():
            raise ValueError(f"GTcls.Segmentation must be classes (H,W), it is {label.dtype}{label.shape}")
    except (ValueError, IsADirectoryError) as error:
        raise ValueError(f"cannot read {path} ({mistaken(path) or error}); unpack its archive again") from error
    return label.astype(np.int64)


class SegmentedImages(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of a uint8 image (3,H,W), each of its own size, and its classes, int64 (H,W).

    Args:
        images: files, or their bytes.
        labels: the file with the classes of each, or its bytes.
        read_label: reads it.
        size: resize to this height and width, for small tests; 0 leaves images as they are.
    """

    def __init__(
        self,
        images: Sequence[Source],
        labels: Sequence[Source],
        read_label: Callable[[Any], NDArray[np.int64]],
        size: int = 0,
    ) -> None:
        self.images, self.labels, self.read_label, self.size = images, labels, read_label, size

    def __len__(self) -> int:
        return len(self.images)

    @staticmethod
    def _name(sources: Sequence[Source], index: int) -> str:
        source = sources[index]
        return str(source) if isinstance(source, Path) else f"number {index}"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(np.array(read_image(self.images[index]))).permute(2, 0, 1)
        label = torch.from_numpy(np.array(self.read_label(self.labels[index])))
        if image.shape[1:] != label.shape:
            shapes = f"{tuple(image.shape[1:])} and {tuple(label.shape)}"
            raise ValueError(
                f"{self._name(self.images, index)} and {self._name(self.labels, index)} differ in size: {shapes}"
            )
        wrong = label[(label != IGNORED) & ((label < 0) | (label >= CLASSES))]
        if len(wrong):
            name = self._name(self.labels, index)
            raise ValueError(f"{name} holds the class {int(wrong[0])}; classes are 0..{CLASSES - 1}")
        if not self.size:
            return image, label
        both = (self.size, self.size)
        smaller = F.interpolate(image[None].float(), both, mode="bilinear", antialias=True)
        classes = F.interpolate(label[None, None].float(), both, mode="nearest")
        return smaller.round().clamp(0, 255).byte()[0], classes.long()[0, 0]


def packed_images(path: Path, size: int = 0) -> tuple[SegmentedImages, SegmentedImages]:
    """Training and test examples of an npz file that holds images and masks as files, end to end.

    Its arrays are `blob` and `offset` (images, of any format and size), `mask_blob` and `mask_offset` (PNGs of classes
    as VOC's) and `is_test`.

    Args:
        path: the file.
        size: as for `SegmentedImages`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file (the message names what does not fit).
    """
    members = read_npz(path)
    images, masks = (
        encoded_files(member(members, f"{kind}blob", path), member(members, f"{kind}offset", path), path, kind)
        for kind in ("", "mask_")
    )
    if len(images) != len(masks):
        raise ValueError(f"{path} holds {len(images)} images and {len(masks)} masks; there must be as many of each")
    tests = parts_of(members, path, len(images))
    both = []
    for chosen in (np.flatnonzero(~tests), np.flatnonzero(tests)):
        both.append(SegmentedImages([images[i] for i in chosen], [masks[i] for i in chosen], voc_label, size))
    return both[0], both[1]


def padded(examples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch of images of several sizes: smaller ones get black, ignored pixels to the right and below.

    One image alone stays as it is, which is how FCN was trained.
    """
    height = max(label.shape[0] for _, label in examples)
    width = max(label.shape[1] for _, label in examples)
    images, labels = [], []
    for image, label in examples:
        missing = (0, width - label.shape[1], 0, height - label.shape[0])
        images.append(F.pad(image, missing))
        labels.append(F.pad(label, missing, value=IGNORED))
    return torch.stack(images), torch.stack(labels)
