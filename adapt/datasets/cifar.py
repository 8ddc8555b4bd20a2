"""CIFAR-100: as its authors publish it, or as npz files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.core.decoding import Array, whole_numbers
from adapt.datasets.packed import parts_of, read_packed
from configs.files import visible

LAYOUT = """
<folder>/
  cifar-100-python/{train,test,meta}   as in cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html
or
  cifar100*.npz                        x uint8 (N,32,32,3), y 0..99, is_test; all such files together
"""


class Split(NamedTuple):
    """Images uint8 (N,3,32,32) and classes int64 (N,), 0..99 in the alphabetical order of their names."""

    images: Tensor
    labels: Tensor


def read_cifar100(folder: Path) -> tuple[Split, Split] | None:
    """Train and test images of CIFAR-100; None if the folder holds neither layout.

    Raises:
        ValueError: a file is damaged or holds something else.
    """
    if (folder / "cifar-100-python").is_dir():
        parts = [_official(folder, train) for train in (True, False)]
        return parts[0], parts[1]
    if files := visible(folder, "cifar100*.npz"):
        return _packed(files)
    return None


def _official(folder: Path, train: bool) -> Split:
    from torchvision.datasets import CIFAR100  # brings PyTorch's compiler along, which takes more than a second

    try:
        read = CIFAR100(str(folder), train=train)
    except RuntimeError as error:
        reason = f"{folder / 'cifar-100-python'} is incomplete or damaged; unpack the archive again"
        raise ValueError(reason) from error
    return _split(read.data, np.asarray(read.targets))


def _packed(files: list[Path]) -> tuple[Split, Split]:
    images, labels, tests = [], [], []
    for file in files:
        members = read_packed(file)
        if missing := {"y", "is_test"} - members.keys():
            raise ValueError(f"{file} has no {' and no '.join(sorted(missing))}; it needs x, y and is_test")
        count = len(members["x"])
        if members["x"].shape[1:] != (32, 32, 3):
            raise ValueError(f"{file}: CIFAR-100 has images of 32x32x3, its x is {members['x'].shape}")
        images.append(members["x"])
        labels.append(whole_numbers(members, "y", file, count, 100))
        tests.append(parts_of(members, file, count))
    x, y, test = np.concatenate(images), np.concatenate(labels), np.concatenate(tests)
    return _split(x[~test], y[~test]), _split(x[test], y[test])


def _split(images: Array, labels: Array) -> Split:
    return Split(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels.astype(np.int64)),
    )
