"""Real images, texts and released weights, where there are any (make test-shared): read, learned and reproduced.

The other tests make their own data. These are tests of the same parts with numbers that belong to the real data.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from pictures import residuals
from supervised_runs import run

from adapt import list_methods
from adapt.bases.published import released_base
from adapt.core.base import IMAGENET
from adapt.datasets.packed import read_packed
from adapt.supervised.methods_train import omniglot, results


def test_packed_images_of_cifar10(shared: Path) -> None:
    members = read_packed(shared / "data" / "cifar10_6k.medl.npz")
    images = members["x"]
    assert images.shape == (6000, 32, 32, 3) and members["is_test"].sum() == 1000
    # Neighbouring pixels of a picture are alike; those of a wrongly decoded one are not.
    assert np.abs(np.diff(images.astype(int), axis=2)).mean() < 15
    with np.load(shared / "data" / "cifar10_6k.medl.npz") as file:
        assert lzma.decompress(file["payload"].tobytes()) == residuals(images).tobytes()


@pytest.mark.parametrize("method", list_methods())
def test_every_method_learns_real_characters(shared: Path, method: str) -> None:
    base = released_base(shared / "weights" / "resnet44-cifar.pth", "resnet44", IMAGENET)
    (row,) = results(base, omniglot(shared / "data" / "omniglot_small.npz"), [method])
    assert row["accuracy"] > 2 * row["chance"]


@pytest.mark.parametrize("words", [["adapt=taps"], ["adapt=taps", "protocol=joint", "adapt.joint=standard"]])
def test_pacs_is_learned(words: list[str], shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "resnet44-cifar.sd.pt"
    own = ["base=resnet44", f"base.weights={weights}", f"data={shared / 'data' / 'pacs_72px_jpeg.npz'}"]
    length = ["training.length=60 steps", "training.test_examples=200", "optimiser.lr=0.02", "benchmark.size=32"]
    result = run(tmp_path / "run", "benchmark=domainnet", *words, *own, *length, base="configured")
    # Seven classes; the features of CIFAR-10 alone would do half of it.
    assert result["accuracy"] > 0.4
