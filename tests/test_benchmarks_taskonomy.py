"""iTaskonomy and transfer on a miniature in Taskonomy's layout, whose labels follow from the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from supervised_runs import run

from adapt import wrap
from adapt.benchmarks.itaskonomy import ORDERS, PAPER, ITaskonomy, ITaskonomyConfig, LabelBase, curvature_code
from adapt.benchmarks.taskonomy_transfer import TaskonomyTransfer, TaskonomyTransferConfig, TopClass
from adapt.core.base import random_base
from adapt.core.method import Incompatible
from adapt.datasets.layout import LayoutError
from adapt.datasets.taskonomy import choose_buildings, read_buildings
from adapt.pretraining.tasks import TASKS
from configs.compose import compose

SIZE = 32
SMALL = {"size": SIZE, "decoder": "light", "decoder_width": 8, "label_size": 8}
SIXTEEN_BIT = ("keypoints3d", "keypoints2d", "edge_texture", "edge_occlusion", "depth_zbuffer", "depth_euclidean")


def write(root: Path, domain: str, building: str, view: int, label: np.ndarray) -> None:
    stem = root / domain / building / f"point_{view}_view_0_domain_{domain}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    if label.ndim == 1:
        np.save(f"{stem}.npy", label)
    else:
        Image.fromarray(label).save(f"{stem}.png")


def write_view(root: Path, building: str, view: int, rng: np.random.Generator) -> None:
    """A view of one colour with all labels."""
    colour = rng.integers(0, 256, 3)
    # Far from 128, where the classes meet.
    colour[0] = colour[0] * 3 // 4 + (64 if colour[0] >= 128 else 0)
    rgb = np.full((SIZE, SIZE, 3), colour, np.uint8)
    red = rgb[..., 0]
    labels = {
        "rgb": rgb,
        "mask_valid": np.where(np.arange(SIZE) < 8, 0, 255).astype(np.uint8)[None].repeat(SIZE, 0),
        "principal_curvature": rgb,
        "normal": 255 - rgb,
        "reshading": rgb[..., :1].repeat(3, 2),
        "segment_semantic": (red // 128 + 1).astype(np.uint8),
        "class_object": np.eye(1000, dtype=np.float32)[red[0, 0] // 128],
        **{domain: red.astype(np.uint16) * 257 for domain in SIXTEEN_BIT},
    }
    for domain, label in labels.items():
        write(root, domain, building, view, label)


def write_data(root: Path, buildings: dict[str, int], seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for building, views in buildings.items():
        for view in range(views):
            write_view(root, building, view, rng)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data in train/ and val/: 16 views to train on, 6 to test on."""
    root = tmp_path_factory.mktemp("parted")
    write_data(root / "train", {"a": 10, "b": 6}, 0)
    write_data(root / "val", {"c": 6, "mosquito": 1}, 1)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data without train/ and val/: four buildings of two views."""
    return write_data(tmp_path_factory.mktemp("whole"), dict.fromkeys("abcd", 2), 2)


def itaskonomy(**settings: object) -> ITaskonomy:
    return ITaskonomy(ITaskonomyConfig.from_settings({**SMALL, **settings}))


# Tasks.


def test_orders_are_those_of_the_release() -> None:
    assert {len(order) for order in ORDERS.values()} == {12}
    assert all(set(order) == set(PAPER) for order in ORDERS.values())
    assert {name: order[0] for name, order in ORDERS.items()} == {
        "paper": "curvature",
        "cls_first": "class_object",
        "texture_first": "edge_texture",
        "rgb_first": "autoencoding",
    }
    assert ORDERS["cls_first"][1:3] == ("depth_zbuffer", "normal") and ORDERS["rgb_first"][-1] == "class_object"
    with pytest.raises(ValueError, match=r"order must be one of paper, .*did you mean 'cls_first'"):
        ITaskonomyConfig(order="class_first")
    with pytest.raises(ValueError, match=r"without\[0\] must be one of curvature, .*did you mean 'normal'"):
        ITaskonomyConfig(without=("normals",))


def test_twelve_tasks_with_the_same_views(data: Path) -> None:
    tasks = itaskonomy().tasks(data)
    assert [task.name for task in tasks] == list(PAPER)
    assert [task.outputs for task in tasks] == [2, 18, 1, 1, 1, 1, 1, 1, 1, 3, 1000, 3]
    # mosquito is in none of the authors' lists.
    assert {(len(task.train), len(task.test)) for task in tasks} == {(16, 6)}  # type: ignore[arg-type]
    assert len({task.identity for task in tasks}) == 1  # The base sees every image once.
    assert not any(task.higher_is_better for task in tasks)
    image, labels = tasks[2].train[3]
    assert image.shape == (3, SIZE, SIZE) and image.dtype == torch.uint8
    assert set(labels) == {"reshading", "mask_valid"} and bool((labels["reshading"] == image[:1]).all())
    left = itaskonomy(order="rgb_first", without=["class_object"]).tasks(data)
    assert [task.name for task in left] == list(ORDERS["rgb_first"][:-1])


def test_the_loss_is_the_masked_one(data: Path) -> None:
    task = next(task for task in itaskonomy().tasks(data) if task.name == "depth_zbuffer")
    image, labels = task.train[0]
    batch = {name: label[None] for name, label in labels.items()}
    target = image[:1].float()[None] / 127.5 - 1
    output = target.clone()
    output[..., :8] += 5  # Not valid.
    assert float(task.loss(output, batch)) == pytest.approx(0, abs=1e-6)
    assert float(task.loss(output + 0.25, batch)) == pytest.approx(0.25, abs=1e-6)


# Where the data lies.


def test_buildings_are_parted_by_share_and_by_list(whole: Path, tmp_path: Path) -> None:
    assert choose_buildings("abcd", 0.5, 0) == choose_buildings("abcd", 0.5, 0)
    train, test = choose_buildings("abcdefghij", 0.2, 3)
    assert (len(train), len(test)) == (8, 2) and sorted(train + test) == list("abcdefghij")
    tasks = itaskonomy(test_share=0.25).tasks(whole)
    assert (len(tasks[0].train), len(tasks[0].test)) == (6, 2)  # type: ignore[arg-type]
    names = [{file.parent.name for file in part.views.files("rgb")} for part in (tasks[0].train, tasks[0].test)]  # type: ignore[attr-defined]
    assert not names[0] & names[1]

    splits = tmp_path / "tiny.csv"
    splits.write_bytes(b"id,train,val,test\ra,1,0,0\rb,0,1,0\rc,0,0,1\rtansboro,1,0,0\r")
    assert read_buildings(splits) == (["a"], ["b"])
    tasks = itaskonomy(splits=str(splits)).tasks(whole)
    assert (len(tasks[0].train), len(tasks[0].test)) == (2, 2)  # type: ignore[arg-type]
    splits.write_text("name,train,val\na,1,0\n")
    with pytest.raises(ValueError, match="has no column id"):
        read_buildings(splits)
    splits.write_text("id,train,val\na,yes,0\n")
    with pytest.raises(ValueError, match="of a must hold 0 or 1"):
        read_buildings(splits)
    with pytest.raises(FileNotFoundError, match="no list of buildings"):
        read_buildings(tmp_path / "none.csv")


def test_a_wrong_layout_is_answered_with_the_tree(data: Path, tmp_path: Path) -> None:
    tree = r"itaskonomy expects:\n  <folder>/ .*point_<i>_view_<j>_domain_rgb.png"
    with pytest.raises(LayoutError, match=rf"(?s)nowhere is absent; {tree}"):
        itaskonomy().tasks(tmp_path / "nowhere")
    with pytest.raises(LayoutError, match="has no folder rgb, principal_curvature, mask_valid"):
        itaskonomy().tasks(tmp_path)
    (tmp_path / "half" / "train").mkdir(parents=True)
    with pytest.raises(LayoutError, match="has train/ but not both"):
        itaskonomy().tasks(tmp_path / "half")
    write_data(tmp_path / "one", {"a": 1}, 0)
    with pytest.raises(LayoutError, match="rgb needs two or more buildings"):
        itaskonomy().tasks(tmp_path / "one")
    for part in ("train", "val"):
        write_data(tmp_path / "names" / part, {"a": 1}, 0)
    file = next((tmp_path / "names" / "val" / "normal" / "a").iterdir())
    file.rename(file.with_name("normal_0.png"))
    with pytest.raises(LayoutError, match=r"val has no view with all of rgb, .*normal.*expects:\n"):
        itaskonomy().tasks(tmp_path / "names")


# Bases and readouts.


def test_a_code_of_curvature_holds_every_eighth_pixel() -> None:
    labels = torch.randint(0, 256, (2, 2, 64, 32), dtype=torch.uint8)
    code = curvature_code(labels)
    assert code.shape == (2, 8, 4, 2)
    small = labels[:, :, ::8, ::8].float() / 127.5 - 1
    for channel in range(8):
        curvature, (row, column) = channel // 4, divmod(channel % 4, 2)
        torch.testing.assert_close(code[:, channel], small[:, curvature, row::2, column::2])
    assert curvature_code(torch.zeros(1, 2, 256, 256, dtype=torch.uint8)).shape == (1, 8, 16, 16)


def test_labels_of_curvature_stand_in_for_a_base(data: Path) -> None:
    benchmark = itaskonomy(base="curvature_labels", without=["curvature"])
    base = benchmark.prepare(random_base())
    assert isinstance(base, LabelBase) and base.sha256 == LabelBase().sha256
    task = benchmark.tasks(data)[0]
    image, labels = task.train[0]
    assert task.name == "segment_semantic" and set(labels) == {"segment_semantic"}
    assert image.shape == (5, SIZE, SIZE) and bool(
        (image[3:] == image[:2]).all()
    )  # The miniature's curvature is its colour.
    expected = (image[:2, 0, 0].float() / 127.5 - 1).repeat_interleave(4)
    torch.testing.assert_close(base(image[None])[0, :, 0, 0], expected)
    adapted = wrap(base, "side_tuning", image_size=SIZE, width=0.125)
    assert adapted.output_shape == (8, 2, 2)
    other = image.clone()
    other[:3] = 255 - other[:3]
    assert not torch.equal(adapted(image[None]), adapted(other[None]))
    with pytest.raises(Incompatible):
        wrap(base, "fine_tune", image_size=SIZE)
    assert itaskonomy().prepare(loaded := random_base()) is loaded


def test_readouts_of_the_paper(data: Path) -> None:
    benchmark = ITaskonomy(ITaskonomyConfig())
    tasks = {task.name: task for task in itaskonomy().tasks(data)}
    features = 50 * torch.randn(2, 8, 16, 16)
    with torch.no_grad():
        classes = benchmark.readout((8, 16, 16), tasks["segment_semantic"]).eval()
        assert sum(p.numel() for p in classes.parameters()) == 16_455_474 + 1_168
        assert isinstance(classes[2].decoder_output[1], torch.nn.Identity)  # type: ignore[index]
        scores = benchmark.readout((8, 16, 16), tasks["class_object"]).eval()
        assert scores(features).shape == (2, 1000)
        # Standardised in 8 groups, as every method's.
        torch.testing.assert_close(scores(features), scores(3 * features + 1), atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="reads codes of 8x16x16"):
        benchmark.readout((8, 4, 4), tasks["normal"])
    with pytest.raises(ValueError, match="decodes maps"):
        benchmark.readout((64,), tasks["normal"])
    light = itaskonomy().readout((12, 2, 2), tasks["normal"])  # 8 groups do not fit
    assert light(torch.randn(2, 12, 2, 2)).shape == (2, 3, 8, 8)
    for wrong in ({"label_size": 24}, {"label_size": 64}, {"decoder": "taskonomy"}, {"decoder_width": 12}, {"size": 8}):
        with pytest.raises(ValueError, match=r"label_size must|decoder_width must|size must"):
            itaskonomy(**wrong)


# Whole runs.


def words(data: Path, *more: str) -> list[str]:
    small = [f"benchmark.{name}={value}" for name, value in SMALL.items()]
    return [f"data={data}", *small, "training.batch=8", "optimiser.lr=0.003", "adapt.width=0.125", *more]


def test_twelve_tasks_one_after_the_other(data: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "run", "benchmark=itaskonomy", *words(data, "training.length=2 steps"), base="random/fcn5")
    assert result["tasks"] == list(PAPER) and result["protocol"] == "sequential"
    assert set(result["score"].values()) == {"loss"} and not any(result["higher_is_better"].values())
    assert result["forgetting_largest"] == 0 and len(result["matrix"]["loss"]) == 12
    assert result["loss"] == pytest.approx(np.mean([row["loss"] for row in result["per_task"].values()]))
    assert len(list((tmp_path / "run_kept").glob("*.npy"))) == 2  # Features of training and test images, once.


def test_side_tuning_learns_from_labels_of_curvature(tmp_path: Path) -> None:
    write_data(tmp_path / "data" / "train", {"a": 32, "b": 32}, 0)
    write_data(tmp_path / "data" / "val", {"c": 16}, 1)
    chosen = ["benchmark.base=curvature_labels", "tasks=[reshading,class_object]", "training.batch=16"]
    losses = []
    for length in (2, 100):
        result = run(
            tmp_path / f"run{length}",
            "benchmark=itaskonomy",
            *words(tmp_path / "data", *chosen, f"training.length={length} steps"),
            base="random/fcn5",
        )
        losses.append([result["per_task"][name]["loss"] for name in ("reshading", "class_object")])
    # A thousand classes: a loss of 6.9 by chance.
    assert losses[1][0] < 0.5 * losses[0][0] and losses[1][1] < 0.1 < 6 < losses[0][1]


def test_transfer_from_few_and_many_images(data: Path, tmp_path: Path) -> None:
    few, many = (
        TaskonomyTransfer(TaskonomyTransferConfig(amount=amount, few=4, size=SIZE)).tasks(data)
        for amount in ("few", "many")
    )
    assert [len(task.train) for task in (*few, *many)] == [4, 4, 16, 16]  # type: ignore[arg-type]
    assert {len(task.test) for task in (*few, *many)} == {6}  # type: ignore[arg-type]
    assert few[0].identity != many[0].identity
    assert [(task.name, task.score, task.higher_is_better) for task in few] == [
        ("normal", "loss", False),
        ("class_object", "accuracy", True),
    ]
    labels = {"class_object": torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])}
    scores = torch.tensor([[0.0, 100.0, 0.0], [0.0, 100.0, 0.0]])
    metric = TopClass("class_object")
    metric.update(scores, labels)
    assert metric.compute() == {"accuracy": 0.5}
    assert float(few[1].loss(scores, labels)) == pytest.approx(50)  # Of the most probable class alone.

    lengths = {}
    for amount in ("few", "many"):
        cfg = compose("supervised", ["benchmark=taskonomy_transfer", f"benchmark.amount={amount}", "data=d", "run=r"])
        lengths[amount] = TaskonomyTransfer.lengths[cfg.training.length]
        assert (cfg.adapt.side, cfg.adapt.init, cfg.optimiser.lr) == ("base", "base", 1e-4)
    assert lengths == {"few": "10000 passes", "many": "10 passes"}
    result = run(
        tmp_path / "run",
        "benchmark=taskonomy_transfer",
        *words(data, "benchmark.few=4", "training.length=3 passes"),
        base="random/fcn5",
    )
    assert result["images"] == 2 * 3 * 4 and result["protocol"] == "single"
    assert 0 <= result["per_task"]["class_object"]["accuracy"] <= 1
    with pytest.raises(ValueError, match="targets must be tasks that see images as they are"):
        TaskonomyTransferConfig(targets=("denoising",))
    with pytest.raises(ValueError, match="unknown task 'normals'"):
        TaskonomyTransferConfig(targets=("normals",))
    assert set(PAPER) <= set(TASKS)
