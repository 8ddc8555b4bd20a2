"""Distilling encoders, students as initial side networks, readouts of frozen encoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt import Incompatible, load, load_base, wrap
from adapt.core.base import random_base, save_base
from adapt.methods.side_tuning import SideTuning
from adapt.pretraining.data import TaskonomyViews
from adapt.pretraining.decoders import decoders_path, load_decoders
from adapt.pretraining.distillation import match, to_shape
from adapt.pretraining.encoder import PretrainSettings as Pretraining
from adapt.pretraining.encoder import pretrain
from adapt.pretraining.readouts import ReadoutSettings, make_readouts
from adapt.pretraining.scores import wanted_domains
from adapt.pretraining.students import Distillation, DistillSettings, distill
from adapt.pretraining.transfer import column_correlation, draw, known_gains, transfer_matrix

SIZE = 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Views whose reshading is their brightness and whose scene follows from their colour."""
    root = tmp_path_factory.mktemp("taskonomy")
    rng = np.random.default_rng(0)
    for view in range(32):
        colour = rng.integers(0, 256, 3)
        ramp = np.linspace(0, 1, SIZE)[None, :, None] * np.ones((SIZE, 1, 1))
        rgb = (colour * ramp).astype(np.uint8)
        labels = {
            "rgb": rgb,
            "reshading": rgb.mean(2, keepdims=True).astype(np.uint8).repeat(3, 2),
            "mask_valid": np.full((SIZE, SIZE), 255, np.uint8),
        }
        for domain in (*labels, "class_scene"):
            (root / domain / "b").mkdir(parents=True, exist_ok=True)
            stem = root / domain / "b" / f"point_{view}_view_0_domain_{domain}"
            if domain in labels:
                Image.fromarray(labels[domain]).save(f"{stem}.png")
            else:
                np.save(f"{stem}.npy", np.eye(63, dtype=np.float32)[colour.argmax()])
    return root


@pytest.fixture(scope="module")
def teacher(dataset, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    settings = Pretraining(steps=60, batch=16, device="cpu", label_size=4, lr=5e-3)
    scores = pretrain(["reshading", "class_scene"], [str(dataset)], [str(dataset)], path, settings)["tasks"]
    assert scores["reshading"]["ratio"] > 1.4
    return path


def run(teacher: Path, dataset: Path, out: Path, **settings: object) -> dict:
    defaults = {"steps": 60, "batch": 16, "device": "cpu", "lr": 5e-3}
    return distill(str(teacher), [str(dataset)], [str(dataset)], out, DistillSettings(**(defaults | settings)))


def test_half_an_encoder_keeps_what_it_can(teacher, dataset, tmp_path):
    out = tmp_path / "half.safetensors"
    said = run(teacher, dataset, out, width=0.5)
    scores = said["tasks"]["reshading"]
    gain = scores["constant"] - scores["teacher_loss"]
    assert scores["kept"] == pytest.approx((scores["constant"] - scores["loss"]) / gain) and scores["kept"] > 0.5
    student = load_base(out)
    assert student.spec.training["teacher_sha256"] == load_base(teacher).sha256
    count = [sum(p.numel() for p in b.encoder.parameters()) for b in (student, load_base(teacher))]
    assert count[0] < 0.5 * count[1]
    # Its decoders are the teacher's, and it can be a teacher itself.
    assert load_decoders(out).base == student.sha256
    assert run(out, dataset, tmp_path / "quarter.safetensors", width=0.25, steps=2)["teacher"] == str(out)


@pytest.mark.parametrize("encoder", ["fcn3", "fcn4", "fcn8"])
def test_students_of_the_family_learn_the_codes(teacher, dataset, tmp_path, encoder):
    views = TaskonomyViews([dataset], ["rgb"])
    settings = DistillSettings(encoder=encoder, width=0.25, loss="features", steps=30, batch=8, device="cpu", lr=5e-3)
    losses = list(Distillation(load_base(teacher), None, settings, views.size).fit(views))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_low_energy_students_change_little_and_start_side_networks(teacher, dataset, tmp_path):
    out = tmp_path / "low.safetensors"
    before = run(teacher, dataset, tmp_path / "untrained.safetensors", target="zero", width=0.25, steps=2, lr=1e-9)
    after = run(teacher, dataset, out, target="zero", width=0.25, steps=120, lr=1e-2)
    assert after["energy"]["change reshading"] < 0.6 * before["energy"]["change reshading"]
    assert after["energy"]["change class_scene"] < 0.9 * before["energy"]["change class_scene"]
    assert not decoders_path(out).exists()

    base = load_base(teacher)
    adapted = wrap(base, "side_tuning", task="t", image_size=SIZE, width=0.25, init=str(out))
    method = adapted.method()
    assert isinstance(method, SideTuning)
    expected = load_base(out).encoder.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in method.side.state_dict().items())
    # What is saved holds its own weights and does not need the file.
    adapted.save(tmp_path / "tasks")
    out.unlink()
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load(base, tmp_path / "tasks")(image=images), adapted.eval()(image=images))


def test_a_student_of_another_width_is_no_initialisation(tmp_path):
    base = random_base("fcn5", width=0.25)
    save_base(random_base("fcn5", width=0.5), tmp_path / "half.safetensors")
    with pytest.raises(Incompatible, match=r"'width': 0\.5"):
        wrap(base, "side_tuning", image_size=SIZE, width=0.25, init=str(tmp_path / "half.safetensors"))


def test_zero_compares_the_sum_with_the_teacher():
    """For the squared error the loss is the student's own mean square."""
    weight = torch.nn.Parameter(torch.tensor(2.0))
    batches = iter([torch.ones(4, 1)] * 3)
    losses = match(lambda x: weight * x, lambda x: 7.0 * x, [weight], batches, 3, 1e-9, target="zero")
    assert next(iter(losses)) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="base or zero"):
        next(match(lambda x: x, lambda x: x, [weight], batches, 3, 0.1, target="nothing"))


def test_features_are_averaged_to_the_shape_of_the_base():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    assert to_shape(features, (1,)).tolist() == [[7.5]]
    assert to_shape(features, (1, 2, 2)).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert to_shape(features, (1, 4, 4)) is features


def test_settings_that_make_no_sense_are_refused(teacher, dataset, tmp_path):
    with pytest.raises(ValueError, match="fcn5"):
        DistillSettings(encoder="fcn6")
    with pytest.raises(ValueError, match="zero"):
        DistillSettings(target="zeros")
    with pytest.raises(ValueError, match="steps must be 2 or more"):
        DistillSettings(steps=1)
    save_base(random_base("fcn5", width=0.25), tmp_path / "alone.safetensors")
    with pytest.raises(FileNotFoundError, match="no decoders"):
        run(tmp_path / "alone.safetensors", dataset, tmp_path / "x.safetensors")


def test_readouts_leave_the_base_and_learn_what_its_code_holds(teacher, dataset):
    base = load_base(teacher)
    before = base.sha256
    settings = ReadoutSettings(label_size=4, steps=150, batch=16)
    decoders, scores = make_readouts(base, ["reshading"], [str(dataset)], [str(dataset)], settings, None)
    assert scores["reshading"]["ratio"] > 1.4
    assert decoders.base == before == load_base(teacher).sha256 == base._digest()
    again, scores_again = make_readouts(base, ["reshading"], [str(dataset)], [str(dataset)], settings, None)
    assert scores == scores_again
    for name, tensor in decoders["reshading"].state_dict().items():
        assert torch.equal(tensor, again["reshading"].state_dict()[name])


def test_transfer_matrix_tells_seeing_bases_from_blind_ones(dataset, tmp_path):
    tasks = ["reshading", "class_scene"]
    views = TaskonomyViews([dataset], wanted_domains(tasks))
    part = views.sample(20, seed=1)
    assert len(part) == 20 and torch.equal(views.sample(40).batch([3])["rgb"], views.batch([3])["rgb"])
    blind = random_base("fcn5", width=0.25)
    torch.nn.init.zeros_(blind.encoder.conv1[0].weight)
    save_base(blind, tmp_path / "blind.safetensors")
    settings = ReadoutSettings(label_size=4, steps=100, batch=16)
    gains = transfer_matrix([str(tmp_path / "blind.safetensors"), "random"], tasks, views, views, settings)
    for task in tasks:
        assert gains[str(tmp_path / "blind.safetensors")][task] < 0.3 < 0.5 < gains["random"][task]
    assert all(-0.5 < gain < 1.0 for row in gains.values() for gain in row.values())
    # What is known is not computed again.
    kept = transfer_matrix(["random"], tasks, views, views, settings, {"random": dict.fromkeys(tasks, 0.25)})
    assert kept == {"random": dict.fromkeys(tasks, 0.25)}
    file = tmp_path / "matrix.json"
    made = {"budget": {"steps": 1}, "sha256": {"a": "old", "b": "same"}, "gains": {"a": {"x": 0.1}, "b": {"x": 0.2}}}
    file.write_text(json.dumps(made))
    assert known_gains(file, {"steps": 1}, {"a": "new", "b": "same"}) == ({"b": {"x": 0.2}}, {"b": "same"})
    assert known_gains(file, {"steps": 1}, {"a": "new"}) == ({"b": {"x": 0.2}}, {"b": "same"})
    assert known_gains(file, {"steps": 2}, {"b": "same"}) == known_gains(tmp_path / "none", {}, {}) == ({}, {})
    assert column_correlation({"a": {"x": 0.0, "y": 1.0}, "b": {"x": 1.0, "y": 0.0}}, "x", "y") == pytest.approx(-1.0)
    draw(gains, tasks, tmp_path / "matrix.png")
    assert np.asarray(Image.open(tmp_path / "matrix.png")).std() > 0
