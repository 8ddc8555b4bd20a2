from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import domainnet, image_folders, pacs
from supervised_runs import run

from adapt.benchmarks.domainnet import DOMAINS, DomainNet, DomainNetConfig
from adapt.datasets.images import Labelled, LabelledImages, split
from adapt.datasets.layout import LayoutError


def sources(data: Path, **settings: object) -> dict[str, tuple[Labelled, Labelled]]:
    found = {}
    for task in DomainNet(DomainNetConfig(size=32, **settings)).tasks(data):  # type: ignore[arg-type]
        assert isinstance(task.train, LabelledImages) and isinstance(task.test, LabelledImages)
        assert tuple(task.train[0][0].shape) == tuple(task.test[0][0].shape) == (3, 32, 32)
        found[task.name] = task.train.source, task.test.source
    return found


def test_lists_of_domainnet(tmp_path: Path) -> None:
    domainnet(tmp_path, DOMAINS, per_class=2)
    found = sources(tmp_path)
    assert list(found) == list(DOMAINS)
    train, test = found["quickdraw"]
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert str(train.images[3]).endswith("quickdraw/the class 1/train 1.jpg")
    assert list(sources(tmp_path, domains=("sketch", "real"))) == ["sketch", "real"]
    # Labels are the numbers of the lists; all tasks have as many outputs as there are classes in all of them.
    (tmp_path / "real_train.txt").write_text("real/the class 1/train 0.jpg 344\n")
    tasks = DomainNet(DomainNetConfig(size=32)).tasks(tmp_path)
    assert [task.outputs for task in tasks] == [345] * 6
    assert tasks[0].train[0][1] == 344


def test_pacs_from_an_npz(tmp_path: Path) -> None:
    found = sources(pacs(tmp_path / "pacs_jpeg.npz", per_class=10))
    # A domain of that name in DomainNet comes in its place there.
    assert sorted(found) == ["art_painting", "cartoon", "photo", "sketch"]
    for train, test in found.values():
        assert np.bincount(train.labels).tolist() == [7] * 7
        assert np.bincount(test.labels).tolist() == [3] * 7
        assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_folders_of_domains(tmp_path: Path) -> None:
    for domain in ("cartoon", "photo"):
        image_folders(tmp_path / "a", {domain: 4}, domain=domain)
    found = sources(tmp_path / "a", test_share=0.25)
    assert [(len(train), len(test)) for train, test in found.values()] == [(9, 3)] * 2
    (tmp_path / "a" / "photo" / "class0").rename(tmp_path / "a" / "photo" / "classes")
    with pytest.raises(LayoutError, match="has the class 'class0' in only one of the domains cartoon, photo"):
        sources(tmp_path / "a")


def test_splits_are_stratified_and_repeatable() -> None:
    source = Labelled(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), np.repeat([0, 1, 2], [30, 20, 10]))
    parts = split(source, ("a", "b", "c"), 0.3, seed=1)
    assert np.bincount(parts.test.labels).tolist() == [9, 6, 3]
    together = sorted(int(image.item()) for part in (parts.train, parts.test) for image in part.images)
    assert together == list(range(60))
    again, other = split(source, (), 0.3, seed=1), split(source, (), 0.3, seed=2)
    assert np.array_equal(np.asarray(again.test.images), np.asarray(parts.test.images))
    assert not np.array_equal(np.asarray(other.test.images), np.asarray(parts.test.images))


def test_augmentations(tmp_path: Path) -> None:
    data = pacs(tmp_path / "pacs_jpeg.npz", per_class=4)
    identities = set()
    for augmentation in ("taps", "adashare"):
        task = DomainNet(DomainNetConfig(size=32, augmentation=augmentation)).tasks(data)[0]
        assert task.augmented
        assert len({tuple(task.train[0][0].flatten().tolist()) for _ in range(16)}) > 12
        assert (task.test[0][0] == task.test[0][0]).all()
        identities.add(task.identity)
    assert len(identities) == 2


def test_wrong_layouts_are_refused_with_the_tree(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is absent; domainnet expects:\n"):
        sources(tmp_path / "nowhere")
    with pytest.raises(LayoutError, match="has neither lists nor folders of classes"):
        sources(tmp_path)
    # One folder too deep: the domains look like classes.
    image_folders(tmp_path / "deep" / "pacs", {"photo": 1}, domain="photo")
    with pytest.raises(LayoutError, match="has no images to train on, or none to test on, in the domain pacs"):
        sources(tmp_path / "deep")
    domainnet(tmp_path, ("real", "sketch"), per_class=1)
    with pytest.raises(LayoutError, match=r"has no domain clipart \(found: real, sketch\)"):
        sources(tmp_path, domains=("clipart",))
    (tmp_path / "sketch_train.txt").write_text("sketch/the class 0/0.jpg,0\n")
    with pytest.raises(LayoutError, match=r"sketch_train.txt has in line 1 'sketch/the class 0/0.jpg,0'"):
        sources(tmp_path)
    (tmp_path / "sketch_train.txt").unlink()
    (tmp_path / "sketch_train.txt").write_text("sketch/bird/0.jpg 0\n")
    with pytest.raises(LayoutError, match=r"sketch/bird/0.jpg is absent") as refusal:
        sources(tmp_path)
    assert "<domain>_train.txt" in str(refusal.value) and "ai.bu.edu/M3SDA" in str(refusal.value)
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(LayoutError, match="has no domain, domains, y"):
        sources(tmp_path / "a.npz")


@pytest.mark.parametrize("method", ["taps", "adashare"])
@pytest.mark.parametrize("protocol", ["incremental", "joint"])
def test_runs_end_to_end(method: str, protocol: str, tmp_path: Path) -> None:
    data = domainnet(tmp_path / "data", ("real", "sketch"), per_class=3)
    own = ["adapt.joint=standard"] if method == "taps" and protocol == "joint" else []
    if method == "adashare":
        own = ["adapt.warmup_samples=0", "adapt.phase_samples=0", "adapt.search_samples=8"]
    # AdaShare's incremental rows are one pruned network per domain.
    if protocol == "incremental":
        protocol = "sequential" if method == "taps" else "single"
    words = [f"data={data}", "benchmark.size=32", "training.length=4 steps", "training.batch=4", f"protocol={protocol}"]
    result = run(tmp_path / "run", "benchmark=domainnet", f"adapt={method}", *words, *own)
    assert result["protocol"] == protocol and result["tasks"] == ["real", "sketch"]
    assert len(result["matrix"]["accuracy"]) == (1 if protocol == "joint" else 2)
    assert result["images"] == 32
    if (method, protocol) == ("taps", "sequential"):
        assert result["forgetting_largest"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [["adapt=taps"], ["adapt=taps", "protocol=joint", "adapt.joint=standard"]])
def test_pacs_is_learned(words: list[str], tmp_path: Path) -> None:
    own = [f"data={pacs(tmp_path / 'pacs.npz', per_class=30)}", "benchmark.size=32"]
    length = ["training.length=200 steps", "optimiser.lr=0.1"]
    result = run(tmp_path / "run", "benchmark=domainnet", *words, *own, *length)
    # Seven classes.
    assert result["accuracy"] > 0.6
