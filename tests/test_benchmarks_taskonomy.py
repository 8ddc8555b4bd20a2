"""iTaskonomy and transfer on a miniature in Taskonomy's layout, whose labels follow from the images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import packed_set
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
from adapt.supervised import runs
from adapt.supervised.comparison import compare
from adapt.supervised.finished import find_runs, read_run
from adapt.supervised.pictures import draw, read_kept, spaced
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


# Pictures of predictions.

THREE = ["tasks=[reshading,depth_zbuffer,class_object]", "training.length=4 steps", "pictures=2"]


@pytest.fixture(scope="module")
def sequences(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs over three tasks: side_tuning, ewc and fine_tune."""
    folder = tmp_path_factory.mktemp("sequences")
    for method in ("side_tuning", "ewc", "fine_tune"):
        own = [word for word in words(data, *THREE) if method == "side_tuning" or "adapt.width" not in word]
        run(folder / method, "benchmark=itaskonomy", f"adapt={method}", *own, base="random/fcn5")
    for kept in folder.glob("*_kept"):
        shutil.rmtree(kept)
    return folder


def test_outputs_take_the_form_of_stored_labels() -> None:
    bytes_, words_ = torch.arange(256).reshape(1, 1, 16, 16), torch.arange(65536).reshape(1, 1, 256, 256)
    for name, labels in (("reshading", bytes_), ("depth_zbuffer", words_), ("normal", bytes_.repeat(1, 3, 1, 1))):
        job = TASKS[name]
        stored = job.as_stored(job.target({job.domain: labels}, "side_tuning"), name == "depth_zbuffer")
        assert stored.dtype == (np.uint16 if name == "depth_zbuffer" else np.uint8)
        assert np.array_equal(stored, labels.permute(0, 2, 3, 1).numpy() if name == "normal" else labels[:, 0].numpy())
    cut = TASKS["curvature"].as_stored(torch.tensor([-7.0, 7.0]).reshape(1, 2, 1, 1))
    assert cut.tolist() == [[[[0, 255, 0]]]]
    scores = torch.randn(2, 18, 4, 4)
    assert np.array_equal(TASKS["segment_semantic"].as_stored(scores), scores.argmax(1))
    vector = torch.randn(2, 1000)
    assert np.array_equal(TASKS["class_object"].as_stored(vector), vector.softmax(1))


def test_pictures_of_all_kinds_of_labels(data: Path) -> None:
    for task in itaskonomy().tasks(data):
        image, labels = task.test[4]
        output = torch.randn(1, task.outputs, *([8, 8] if task.kind != "classes" else []))
        assert task.view is not None
        viewed = task.view(image[None], output, {name: label[None] for name, label in labels.items()})
        assert viewed.label.shape == viewed.predicted.shape and viewed.label.dtype == viewed.predicted.dtype
        assert np.array_equal(viewed.images[0], image.permute(1, 2, 0))
        red = int(image[0, 0, 0])
        wanted = {"reshading": red, "depth_zbuffer": red * 257, "segment_semantic": red // 128 + 1}
        if task.name in wanted:
            assert (viewed.label[0, :, 2:] == wanted[task.name]).all()
        if task.name in ("reshading", "depth_zbuffer"):  # its left quarter is not valid
            assert (viewed.label[0, :, :2] == (0 if task.name == "reshading" else 65535)).all()


def test_pictures_of_a_finished_task_stay_with_what_adds_and_change_with_what_retrains(sequences: Path) -> None:
    for finished in find_runs([sequences]):
        kept = read_kept(finished)
        assert [len(task.predicted) for task in kept.values()] == [3, 2, 1]
        assert {len(task.images) for task in kept.values()} == {2}
        for task in list(kept.values())[:2]:
            same = all(np.array_equal(later, task.predicted[0]) for later in task.predicted[1:])
            assert same == (finished.name == "side_tuning"), finished.name
    assert spaced(6, 2).tolist() == [0, 3] and spaced(2, 5).tolist() == [0, 1]


def test_pictures_change_no_number_and_survive_a_kill(
    sequences: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [word for word in words(data, *THREE) if "adapt.width" not in word]
    without = run(tmp_path / "run", "benchmark=itaskonomy", "adapt=ewc", *own[:-1], "pictures=0", base="random/fcn5")
    whole = json.loads((sequences / "ewc" / "result.json").read_text())
    assert {**without, "seconds": 0} == {**whole, "seconds": 0}
    assert not (tmp_path / "run" / "pictures").exists() and read_kept(read_run(tmp_path / "run")) == {}

    save = runs._save

    def killed(*arguments: object) -> None:
        if len(list((tmp_path / "killed" / "pictures").iterdir())) == 2:
            raise KeyboardInterrupt
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", "benchmark=itaskonomy", "adapt=ewc", *own, base="random/fcn5")
    monkeypatch.setattr(runs, "_save", save)
    run(tmp_path / "killed", "benchmark=itaskonomy", "adapt=ewc", *own, "resume=true", base="random/fcn5")
    files = sorted(file.name for file in (sequences / "ewc" / "pictures").iterdir())
    assert files == ["01_reshading.npz", "02_depth_zbuffer.npz", "03_class_object.npz"]
    for name in files:
        assert (tmp_path / "killed" / "pictures" / name).read_bytes() == (
            sequences / "ewc" / "pictures" / name
        ).read_bytes()


def test_figures_of_pictures_are_drawn_beside_the_curves(sequences: Path, tmp_path: Path) -> None:
    found = find_runs([sequences])
    text = compare(found, tmp_path / "all").with_suffix(".md").read_text()
    assert text.index("](comparison.png)") < text.index("](pictures.png)")
    compare(found, tmp_path / "one", pictures=["reshading"])
    heights = {}
    for name in ("all", "one"):
        with Image.open(tmp_path / name / "pictures.png") as picture:
            heights[name] = picture.height
            assert np.asarray(picture.convert("RGB")).std() > 10
    # A row for each of two images of three runs.
    assert heights["all"] == pytest.approx(110 * 0.95 * (0.3 + 3 * 6.3), abs=2)
    assert heights["one"] == pytest.approx(110 * 0.95 * (0.3 + 6.3), abs=2)
    kept = read_kept(found[0])
    texts = [text.get_text() for text in draw({"a run": kept}, ["depth_zbuffer", "class_object"]).axes[0].texts]
    assert texts[:5] == ["input", "1: reshading", "2: depth_zbuffer", "3: class_object", "label"]
    assert texts.count("a run") == 4 and sum(text in ("tench\n1.00", "goldfish\n1.00") for text in texts) == 2
    assert "](pictures.png)" in (sequences / "side_tuning" / "report.md").read_text()
    assert (sequences / "side_tuning" / "pictures.png").is_file()


def test_pictures_that_cannot_be_shown_are_one_line(sequences: Path, data: Path, tmp_path: Path) -> None:
    found = find_runs([sequences])
    with pytest.raises(ValueError, match=r"pictures: there is no task 'normals'.*; there are reshading, depth"):
        compare(found, tmp_path, pictures=["normals"])
    copy = Path(shutil.copytree(sequences / "ewc", tmp_path / "copy"))
    (copy / "pictures" / "02_depth_zbuffer.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"02_depth_zbuffer.npz is not a readable npz file.*; restore it, or delete"):
        compare([read_run(copy)], tmp_path / "out")
    shutil.copy(copy / "pictures" / "03_class_object.npz", copy / "pictures" / "02_depth_zbuffer.npz")
    with pytest.raises(ValueError, match=r"02_depth_zbuffer.npz has no array depth_zbuffer/domain"):
        compare([read_run(copy)], tmp_path / "out")
    (copy / "pictures" / "02_depth_zbuffer.npz").unlink()
    with pytest.raises(ValueError, match=r"no file .*02_depth_zbuffer.npz; restore it, or delete .*pictures"):
        compare([read_run(copy)], tmp_path / "out")
    shutil.rmtree(copy / "pictures")
    text = compare([read_run(copy), *found[:1]], tmp_path / "out").with_suffix(".md").read_text()
    assert "pictures.png" in text
    assert "pictures.png" not in compare([read_run(copy)], tmp_path / "none").with_suffix(".md").read_text()
    with pytest.raises(ValueError, match=r"pictures=\[reshading\]: no run has kept predictions"):
        compare([read_run(copy)], tmp_path / "none", pictures=["reshading"])
    with pytest.raises(ValueError, match=r"pictures=1: outputs of .* are no label images; leave it out"):
        npz = packed_set(tmp_path / "set.npz")
        run(tmp_path / "run", "benchmark=images", f"data={npz}", "pictures=1", "adapt=features", base="random")
    assert not (tmp_path / "run").exists()


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
