"""Taskonomy tasks as networks see them: losses, scalings, the dataset reader and pretraining itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt.core.base import PRETRAINED, load_base, random_base, save_base
from adapt.evaluate import evaluate as evaluate_names
from adapt.evaluate import table
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import LightDecoder, build_decoder, decoders_path, load_decoders
from adapt.pretraining.encoder import Pretraining, PretrainSettings, evaluate, flip, pretrain
from adapt.pretraining.scores import (
    Tally,
    correlation,
    edge_precision,
    evaluate_base,
    label_statistics,
    wanted_domains,
)
from adapt.pretraining.tasks import SCALINGS, TASKS, add_noise, as_probabilities, find_task, masked_mean
from configs.groups import options

SIZE = 32


def write(root: Path, domain: str, view: int, label: np.ndarray, building: str = "b", name: str | None = None) -> None:
    folder = root / (name or domain) / building
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"point_{view}_view_0_domain_{name or domain}"
    if label.ndim == 1:
        np.save(f"{stem}.npy", label)
    else:
        Image.fromarray(label).save(f"{stem}.png")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Views of one colour each; the labels follow from the colour."""
    root = tmp_path_factory.mktemp("taskonomy")
    rng = np.random.default_rng(0)
    for view in range(24):
        rgb = np.full((SIZE, SIZE, 3), rng.integers(0, 256, 3), np.uint8)
        write(root, "rgb", view, rgb)
        write(root, "mask_valid", view, np.where(np.arange(SIZE) < 4, 0, 255).astype(np.uint8)[None].repeat(SIZE, 0))
        write(root, "reshading", view, rgb[..., :1].repeat(3, 2))
        write(root, "depth_zbuffer", view, np.full((SIZE, SIZE), 1000 + view, np.uint16))
        write(root, "segment_semantic", view, (rgb[..., 0] // 128 + 1).astype(np.uint8))
        write(root, "class_scene", view, np.eye(63, dtype=np.float32)[rgb[0, 0, 0] // 128])
    return root


# Losses.


def test_masked_losses_are_means_over_valid_pixels_and_channels():
    error = torch.full((2, 3, 4, 4), 2.0)
    error[..., 0] = 100.0
    mask = torch.ones(2, 1, 4, 4)
    mask[..., 0] = 0.0
    assert masked_mean(error, mask) == pytest.approx(2.0)
    assert masked_mean(error, mask * 0) == 0.0


def test_cross_entropies_in_closed_form():
    labels = {"segment_semantic": torch.tensor([[[[1, 2], [3, 0]]]])}
    segmentation, classification = find_task("segment_semantic"), find_task("class_scene")
    assert segmentation.loss(torch.zeros(1, 18, 2, 2), labels, "side_tuning") == pytest.approx(math.log(18))
    # The class "uncertain" (0) is not learnt in the task bank's scaling.
    assert segmentation.loss(torch.zeros(1, 17, 2, 2), labels, "taskonomy") == pytest.approx(math.log(17))
    soft = torch.zeros(1, 63)
    soft[0, :2] = 0.5
    loss = classification.loss(soft.clamp(min=1e-9).log(), {"class_scene": soft}, "side_tuning")
    assert loss == pytest.approx(math.log(2), rel=1e-5)


# Scalings.


@pytest.mark.parametrize(
    ("task", "scaling", "stored", "expected"),
    [
        ("curvature", "side_tuning", (127, 127, 0), (-0.00392157, -0.00392157)),
        ("curvature", "taskonomy", (123.572, 120.1, 0), (0.0, 0.0)),
        ("normal", "side_tuning", (255, 0, 127.5), (1.0, -1.0, 0.0)),
        ("depth_zbuffer", "side_tuning", (65535,), (1.0,)),
        ("depth_zbuffer", "taskonomy", (65535,), (1.0,)),
        ("depth_euclidean", "taskonomy", (0,), (0.0,)),
        ("edge_texture", "taskonomy", (0.04 * 65535,), (0.0,)),
        ("edge_texture", "taskonomy", (65535,), (1.0,)),
        ("keypoints2d", "taskonomy", (0.005 * 65535,), (1.0,)),
        ("keypoints2d", "side_tuning", (0,), (-1.0,)),
        ("edge_occlusion", "taskonomy", (0.00625 * 65535,), (1.0,)),
    ],
)
def test_scaling_of_stored_values(task, scaling, stored, expected):
    label = torch.tensor(stored).view(1, -1, 1, 1).expand(1, len(stored), 16, 16)
    target = find_task(task).target({find_task(task).domain: label}, scaling)
    np.testing.assert_allclose(target.mean((0, 2, 3)), expected, atol=1e-5)


def test_semantic_classes_and_depth_masks_follow_the_scaling():
    label = {"segment_semantic": torch.tensor([[[[0, 1, 17]]]], dtype=torch.uint8)}
    task = find_task("segment_semantic")
    assert task.target(label, "side_tuning").tolist() == [[[0, 1, 17]]] and task.classes("side_tuning") == 18
    assert task.target(label, "taskonomy").tolist() == [[[-1, 0, 16]]] and task.classes("taskonomy") == 17
    depth = {
        "mask_valid": torch.full((1, 1, 1, 2), 255, dtype=torch.uint8),
        "depth_zbuffer": torch.tensor([[[[64499, 64500]]]]),
    }
    assert find_task("depth_zbuffer").mask(depth, "taskonomy").tolist() == [[[[1.0, 0.0]]]]
    assert find_task("depth_zbuffer").mask(depth, "side_tuning").tolist() == [[[[1.0, 1.0]]]]


def test_noise_on_mid_grey_has_a_deviation_of_a_tenth_and_is_fresh():
    images = torch.full((4, 3, 64, 64), 0.5)
    noisy = [add_noise(images, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert float(noisy[0].std()) == pytest.approx(25.5 / 255, rel=0.02)
    assert not torch.equal(noisy[0][:, 0], noisy[0][:, 1]) and not torch.equal(*noisy)
    assert float(add_noise(torch.ones(1, 3, 64, 64)).max()) == 1.0


def test_class_files_may_hold_probabilities_or_logits():
    probabilities = torch.tensor([[0.25, 0.75]])
    assert torch.equal(as_probabilities(probabilities), probabilities)
    np.testing.assert_allclose(as_probabilities(torch.tensor([[0.0, math.log(3)]])), probabilities, rtol=1e-6)


def test_smaller_labels_are_means_over_the_valid_pixels_of_blocks():
    label = torch.zeros(1, 1, 4, 4)
    label[..., :2], label[..., 0] = 65535.0, 0.0
    mask = torch.full((1, 1, 4, 4), 255)
    mask[..., 0] = 0
    mask[:, :, :2, 3] = 0
    mask[:, :, 0, 2] = 0
    labels = {"keypoints3d": label, "mask_valid": mask}
    target, valid = find_task("keypoints3d").image_target(labels, "side_tuning", 2)
    assert target[0, 0].tolist() == [[1.0, -1.0], [1.0, -1.0]]
    assert valid[0, 0].tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_smaller_segmentations_take_the_middle_of_blocks():
    label = {"segment_semantic": torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)}
    assert find_task("segment_semantic").class_target(label, "side_tuning", 2).tolist() == [[[5, 7], [13, 15]]]
    assert (
        find_task("segment_semantic").class_target(label, "side_tuning", 4).tolist()
        == label["segment_semantic"][:, 0].tolist()
    )


def test_tally_of_classes_in_closed_form():
    """Eight pixels of class 1 and two of class 2; the output tells all of class 1 and half of class 2."""
    target = torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 2, 2]).view(1, 1, 1, 10).to(torch.uint8)
    guess = torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 2, 1])
    task = find_task("segment_semantic")
    constant = torch.zeros(1, 18, 1, 1)
    constant[:, 1] = 1.0
    tally = Tally(task, constant, "side_tuning")
    tally.add(torch.nn.functional.one_hot(guess, 18).T.view(1, 18, 1, 10).float(), {"segment_semantic": target})
    scores = tally.scores()
    assert scores["accuracy"] == pytest.approx(0.9) and scores["constant_accuracy"] == pytest.approx(0.8)
    assert scores["recall"] == pytest.approx(0.75) and scores["chance"] == 0.5
    e = math.e
    assert scores["loss"] == pytest.approx(math.log(e + 17) - 0.9, rel=1e-5)
    assert scores["constant"] == pytest.approx(math.log(e + 17) - 0.8, rel=1e-5)


def test_correlation_and_edge_precision_in_closed_form():
    label = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    assert correlation(label, 3.0 * label - 1.0) == pytest.approx(1.0)
    assert correlation(label, -label) == pytest.approx(-1.0)
    assert correlation(label, torch.ones(5)) == 0.0
    assert edge_precision(label, label) == pytest.approx({"precision": 1.0, "edges": 0.4})
    # Found at the second and the fourth place of the ranking.
    assert edge_precision(label, torch.tensor([5.0, 3.0, 0.0, 4.0, 2.0]))["precision"] == pytest.approx(
        (1 / 2 + 2 / 4) / 2
    )


def test_views_without_an_object_count_neither_right_nor_wrong():
    task = find_task("class_scene")
    tally = Tally(task, torch.zeros(1, 63), "side_tuning")
    vectors = torch.stack([torch.eye(63)[4], torch.full((63,), 1 / 63)])
    tally.add(torch.eye(63)[[4, 5]], {"class_scene": vectors})
    assert tally.scores()["accuracy"] == 1.0 and tally.scores()["chance"] == 1.0


def test_flip_mirrors_and_turns_the_normals_sideways():
    labels = {
        "rgb": torch.arange(12, dtype=torch.uint8).view(1, 3, 1, 4),
        "normal": torch.tensor([255, 10, 20], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 1, 4),
        "class_scene": torch.rand(1, 63),
    }
    flipped = flip(labels)
    assert torch.equal(flipped["rgb"], labels["rgb"].flip(-1))
    assert flipped["normal"][0, :, 0, 0].tolist() == [0, 10, 20]
    assert torch.equal(flipped["class_scene"], labels["class_scene"])
    assert all(torch.equal(value, labels[name]) for name, value in flip(flipped).items())


def test_unknown_tasks_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'curvature'"):
        find_task("curvatur")
    assert len(TASKS) == 14


# Reader.


def test_reader_pairs_views_and_resizes(dataset):
    views = TaskonomyViews([dataset], ["rgb", "depth_zbuffer", "class_scene"], size=16)
    batch = views.batch([5, 0, 5])
    assert batch["rgb"].shape == (3, 3, 16, 16) and batch["rgb"].dtype == torch.uint8
    assert batch["depth_zbuffer"][:, 0, 0, 0].tolist() == [1005, 1000, 1005]
    assert batch["class_scene"].shape == (3, 63)
    assert torch.equal(batch["rgb"][0], batch["rgb"][2])
    assert len(TaskonomyViews([dataset, dataset], ["rgb"])) == 48


def test_reader_takes_the_released_name_of_curvature_and_skips_incomplete_views(tmp_path):
    for view in range(3):
        write(tmp_path, "rgb", view, np.zeros((8, 8, 3), np.uint8))
    write(tmp_path, "principal_curvature", 2, np.full((8, 8, 3), 9, np.uint8), name="curvature")
    views = TaskonomyViews([tmp_path], ["rgb", "principal_curvature"])
    assert len(views) == 1 and int(views.batch([0])["principal_curvature"].max()) == 9


def test_reader_says_what_is_wrong(dataset, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"envs\.render"):
        TaskonomyViews([tmp_path / "absent"], ["rgb"])
    with pytest.raises(FileNotFoundError, match="no folder normal"):
        TaskonomyViews([dataset], ["rgb", "normal"])
    write(tmp_path, "rgb", 0, np.zeros((8, 8, 3), np.uint8))
    next(tmp_path.rglob("*.png")).write_bytes(b"broken")
    with pytest.raises(ValueError, match="render it again"):
        TaskonomyViews([tmp_path], ["rgb"])


# Pretraining.


def test_decoders_double_the_code_to_the_image():
    assert LightDecoder((8, 4, 4), 2, 64)(torch.rand(2, 8, 4, 4)).shape == (2, 2, 64, 64)
    assert LightDecoder((8, 4, 4), 2, 16)(torch.rand(2, 8, 4, 4)).shape == (2, 2, 16, 16)
    assert LightDecoder((8, 4, 4), 2, 4)(torch.rand(2, 8, 4, 4)).shape == (2, 2, 4, 4)
    with pytest.raises(ValueError, match="multiple of 8"):
        LightDecoder((8, 4, 4), 2, 16, width=12)
    with pytest.raises(ValueError, match="doubled"):
        LightDecoder((8, 4, 4), 2, 48)
    with pytest.raises(ValueError, match="codes of 8x16x16"):
        build_decoder("taskonomy", (8, 4, 4), 2, 64, False)


def test_an_untrained_model_starts_near_the_constant_prediction(dataset):
    views = TaskonomyViews([dataset], wanted_domains(["reshading"]))
    task = find_task("reshading")
    best, spread = label_statistics(task, views, "side_tuning", SIZE)
    colours = views.batch(range(24))["reshading"][:, 0, 0, 31].float() * 2 / 255 - 1
    assert float(best) == pytest.approx(float(colours.median()), abs=1e-5)
    assert float(spread) == pytest.approx(float(colours.std(correction=0)), rel=1e-3)
    scores = evaluate(Pretraining(["reshading"], views, PretrainSettings(batch=8)), views)["reshading"]
    assert scores["constant"] == pytest.approx(float((colours - best.flatten()).abs().mean()), rel=1e-4)
    assert scores["ratio"] == pytest.approx(scores["constant"] / scores["loss"])


def test_the_constant_of_a_weighted_segmentation_is_the_best_one(dataset):
    views = TaskonomyViews([dataset], wanted_domains(["segment_semantic"]))
    task, labels = find_task("segment_semantic"), views.batch(range(24))
    for scaling in ("side_tuning", "taskonomy"):
        best, _ = label_statistics(task, views, scaling, SIZE)
        loss = task.loss(best.expand(24, -1, SIZE, SIZE), labels, scaling)
        for nudge in (0.3, -0.3):
            other = best.clone()
            other[:, best.argmax()] += nudge
            assert task.loss(other.expand(24, -1, SIZE, SIZE), labels, scaling) > loss


def test_pretraining_beats_the_constant_and_is_saved_with_its_numbers(dataset, tmp_path):
    settings = PretrainSettings(steps=40, batch=8, device="cpu")
    runs = []
    for name in ("a", "b"):
        torch.manual_seed(len(runs))  # The caller's state must not matter.
        arguments = (["reshading", "segment_semantic", "class_scene"], [str(dataset)], [str(dataset)])
        runs.append(pretrain(*arguments, tmp_path / f"{name}.safetensors", settings))
    base, again = (load_base(tmp_path / f"{name}.safetensors") for name in "ab")
    assert base.sha256 == again.sha256
    assert base.spec.task == "reshading+segment_semantic+class_scene" and base.spec.encoder == "fcn5"
    assert base.spec.training["tasks"] == runs[0]["tasks"] == runs[1]["tasks"]
    assert runs[0]["tasks"]["reshading"]["ratio"] > 1.5
    assert runs[0]["tasks"]["class_scene"]["accuracy"] >= runs[0]["tasks"]["class_scene"]["constant_accuracy"]
    assert base(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 8, 4, 4)

    # The stored decoders give what the training's validation said.
    decoders = load_decoders(tmp_path / "a.safetensors")
    assert decoders.base == base.sha256 and set(decoders.networks) == set(runs[0]["tasks"])
    views = TaskonomyViews([dataset], wanted_domains(list(decoders.networks)))
    for task, scores in evaluate_base(base, decoders, views).items():
        assert scores == pytest.approx(runs[0]["tasks"][task], rel=1e-4)
    rows = evaluate_names([str(tmp_path / "a.safetensors")], [str(dataset)])
    assert len(rows) == 3 and table(rows).count("\n") == 4
    save_base(random_base(), tmp_path / "other.safetensors")
    decoders_path(tmp_path / "a.safetensors").rename(decoders_path(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="belongs to other weights"):
        evaluate_names([str(tmp_path / "other.safetensors")], [str(dataset)])
    with pytest.raises(ValueError, match="did you mean 'reshading'"):
        decoders["reshadin"]
    decoders_path(tmp_path / "b.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="train it again"):
        load_decoders(tmp_path / "b.safetensors")
    with pytest.raises(FileNotFoundError, match=r"adapt\.pretrain writes them"):
        load_decoders(tmp_path / "c.safetensors")


def test_settings_that_make_no_sense_are_refused(dataset):
    views = TaskonomyViews([dataset], wanted_domains(["reshading", "denoising", "segment_semantic"]))
    with pytest.raises(ValueError, match="did you mean 'side_tuning'"):
        PretrainSettings(scaling="sidetuning")
    with pytest.raises(ValueError, match="apart"):
        Pretraining(["denoising", "reshading"], views, PretrainSettings())
    with pytest.raises(ValueError, match="label_size"):
        Pretraining(["reshading"], views, PretrainSettings(label_size=12))
    with pytest.raises(ValueError, match="start=random does not hold the weights of encoder=fcn8"):
        Pretraining(["reshading"], views, PretrainSettings(encoder="fcn8", start="random"))


def test_pretraining_starts_from_another_base(dataset):
    views = TaskonomyViews([dataset], wanted_domains(["reshading"]))
    model = Pretraining(["reshading"], views, PretrainSettings(start="curvature"))
    expected = load_base("curvature").encoder.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in model.encoder.state_dict().items())
    assert all(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize("name", sorted(file.stem for file in PRETRAINED.glob("*.safetensors")))
def test_shipped_encoders_beat_a_constant_and_say_how_they_were_made(name):
    base = load_base(name)
    assert load_decoders(name).base == base.sha256 and list(load_decoders(name).networks) == [name]
    scores = base.spec.training["tasks"][name]
    assert scores["ratio"] == pytest.approx(scores["constant"] / scores["loss"]) and scores["ratio"] > 1.0
    assert base.spec.training["command"].startswith("python -m adapt.pretrain")
    assert base.feature_shape(64) == (8, 4, 4)


def test_shipped_files_are_small_and_are_choices_of_base():
    files = list(PRETRAINED.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) < 26e6
    assert {file.stem for file in files} <= set(options("base"))


# Mean and maximum of the code of a test card, by the weights that are shipped.
CODES = {
    "autoencoding": (0.78039, 1.94475),
    "class_object": (0.44366, 2.03744),
    "curvature": (0.78658, 2.43730),
    "denoising": (0.78010, 1.74269),
    "depth_euclidean": (0.60289, 2.62162),
    "depth_zbuffer": (0.67190, 3.20831),
    "edge_occlusion": (0.65600, 2.52677),
    "edge_texture": (0.80066, 1.50546),
    "keypoints2d": (0.75754, 2.00259),
    "keypoints3d": (0.91977, 2.56713),
    "normal": (0.68804, 3.24031),
    "reshading": (0.56779, 3.89378),
    "segment_semantic": (0.75561, 2.79597),
}


def test_shipped_encoders_give_the_codes_of_their_weights():
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    card = torch.stack([4 * x, 4 * y, 255 * ((x // 8 + y // 8) % 2)])[None].to(torch.uint8)
    assert sorted(CODES) == sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))
    for name, (average, largest) in CODES.items():
        code = load_base(name)(card)
        assert (float(code.mean()), float(code.max())) == pytest.approx((average, largest), abs=2e-4), name


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.kind in ("l1", "l2")])
def test_targets_are_on_the_device_of_the_labels(name: str, scaling: str) -> None:
    task = TASKS[name]
    channels = 3 if task.channels > 1 else 1
    labels = {task.domain: torch.empty(2, channels, 8, 8, device="meta")}
    assert task.target(labels, scaling).device.type == "meta"
