from __future__ import annotations

from pathlib import Path

import pytest
import torch
from miniatures import image_folders
from supervised_runs import run

from adapt.benchmarks.imagenet_to_sketch import ImageNetToSketch, ImageNetToSketchConfig
from adapt.datasets.layout import LayoutError

FIVE = ImageNetToSketchConfig().sets


def five_sets(root: Path) -> Path:
    for name in FIVE:
        image_folders(root / name, {"train": 3, "test": 2}, domain="sketch" if name == "sketches" else "photo")
    return root


def test_tasks_of_a_miniature(tmp_path: Path) -> None:
    tasks = ImageNetToSketch(ImageNetToSketchConfig(size=32)).tasks(five_sets(tmp_path))
    assert [task.name for task in tasks] == list(FIVE)
    for task in tasks:
        assert (task.outputs, len(task.train), len(task.test)) == (3, 9, 6)
        for image, label in (task.train[8], task.test[5]):
            assert tuple(image.shape) == (3, 32, 32) and image.dtype == torch.uint8 and label == 2
        assert torch.equal(task.test[0][0], task.test[0][0])
    views = {task.name: {tuple(task.train[0][0].flatten().tolist()) for _ in range(24)} for task in tasks}
    # The sets that are cut to their boxes are mirrored only; the others are cropped at random.
    assert {name: len(found) for name, found in views.items() if name.endswith("cropped")} == {
        "cubs_cropped": 2,
        "stanford_cars_cropped": 2,
    }
    assert all(len(found) > 20 for name, found in views.items() if not name.endswith("cropped"))


def test_published_means() -> None:
    rows = {(r.source, r.method): r.scores for r in ImageNetToSketch.published if r.encoder == "resnet50"}
    assert rows["TAPS", "taps"]["accuracy"] == pytest.approx(0.85354)
    assert rows["TAPS", "fine_tune"]["accuracy"] == pytest.approx(0.86216)
    means = [r.scores["accuracy"] for r in ImageNetToSketch.published if r.method == "piggyback"]
    assert means[2] == pytest.approx(1 - 0.16556)


def test_wrong_layouts_are_refused_with_the_tree(tmp_path: Path) -> None:
    benchmark = ImageNetToSketch(ImageNetToSketchConfig(size=32))
    with pytest.raises(LayoutError, match="is absent; imagenet_to_sketch expects:\n"):
        benchmark.tasks(tmp_path / "nowhere")
    root = five_sets(tmp_path)
    (root / "flowers" / "test" / "class2").rename(root / "flowers" / "test" / "roses")
    with pytest.raises(LayoutError, match="has the class 'class2' in only one of train and test"):
        benchmark.tasks(root)
    (root / "flowers" / "test").rename(root / "flowers" / "testing")
    with pytest.raises(LayoutError, match="has no flowers/test") as refusal:
        benchmark.tasks(root)
    assert "wikiart/{train,test}/<class>/*.jpg" in str(refusal.value)
    assert "github.com/arunmallya/piggyback" in str(refusal.value)
    with pytest.raises(ValueError, match="did you mean 'wikiart'"):
        ImageNetToSketchConfig(sets=("wikiarts",))


def test_broken_images_are_named(tmp_path: Path) -> None:
    image_folders(tmp_path / "flowers", {"train": 2, "test": 2})
    broken = tmp_path / "flowers" / "test" / "class0" / "0.jpg"
    broken.write_bytes(b"no image")
    (task,) = ImageNetToSketch(ImageNetToSketchConfig(sets=("flowers",), size=32)).tasks(tmp_path)
    with pytest.raises(ValueError, match=r"cannot decode .*class0/0.jpg"):
        task.test[0]
    broken.unlink()
    with pytest.raises(FileNotFoundError, match=r"no image .*class0/0.jpg, which the dataset lists"):
        task.test[0]


def test_runs_end_to_end(tmp_path: Path) -> None:
    words = [f"data={five_sets(tmp_path / 'data')}", "benchmark.size=32", "training.length=2 steps"]
    result = run(tmp_path / "run", "benchmark=imagenet_to_sketch", "adapt=piggyback", *words, "training.batch=4")
    assert result["tasks"] == list(FIVE) and 0 <= result["accuracy"] <= 1
    # One bit per weight of each task's mask.
    assert result["bits"] == pytest.approx(result["parameters"], rel=1e-3)
