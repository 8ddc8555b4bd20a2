"""Real images, texts and released weights, where there are any (make test-shared): read, learned and reproduced.

The other tests make their own data. These are tests of the same parts with numbers that belong to the real data.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reading
import torch
from experts import expert_records
from extras import needs_nlp
from pictures import residuals
from reading import perfect_scores, tiny_bert
from released_layouts import LAYOUTS
from supervised_runs import run

from adapt import list_methods
from adapt.bases.published import read_released, released_base
from adapt.core.base import IMAGENET
from adapt.costs.omniglot import read_omniglot, results
from adapt.datasets.packed import read_packed
from adapt.datasets.squad import make_windows, questions, read_answers, read_articles, train_tokenizer
from adapt.datasets.squad_score import evaluate
from adapt.encoders import build_encoder
from envs.navgrid.grid import NavGrid
from envs.pointnav.scene_episodes import AgentConfig
from envs.rendering.renderer import Camera, EmbreeRenderer
from envs.scans.loading import load_scene
from envs.sources.scans import Generation, scans


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
    (row,) = results(base, read_omniglot(shared / "data" / "omniglot_small.npz"), [method])
    assert row["accuracy"] > 2 * row["chance"]


@pytest.mark.parametrize("words", [["adapt=taps"], ["adapt=taps", "protocol=joint", "adapt.joint=standard"]])
def test_pacs_is_learned(words: list[str], shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "resnet44-cifar.sd.pt"
    own = ["base=resnet44", f"base.weights={weights}", f"data={shared / 'data' / 'pacs_72px_jpeg.npz'}"]
    length = ["training.length=60 steps", "training.test_examples=200", "optimiser.lr=0.02", "benchmark.size=32"]
    result = run(tmp_path / "run", "benchmark=domainnet", *words, *own, *length, base="configured")
    # Seven classes; the features of CIFAR-10 alone would do half of it.
    assert result["accuracy"] > 0.4


SQUAD = "squad2_dev6078.json.gz"


def test_predictions_score_as_with_the_official_script(shared: Path) -> None:
    asked = questions(read_articles(shared / "data" / SQUAD))
    assert (len(asked), sum(not question.answers for question in asked)) == (6078, 3168)
    predictions, odds = reading.predictions(asked)
    answers = {question.id: question.answers for question in asked}
    # What evaluate-v2.0.py prints for these predictions.
    common = {"total": 6078, "HasAns_total": 2910, "NoAns_total": 3168, "best_exact": 55.840737084567294}
    common |= {"best_f1": 57.421595251233526, "best_exact_thresh": 0.2475, "best_f1_thresh": 0.2475}
    official = {
        1.0: {
            "exact": 32.80684435669628,
            "f1": 39.204890748858844,
            "HasAns_exact": 37.66323024054983,
            "HasAns_f1": 51.0265724988192,
            "NoAns_exact": 28.345959595959595,
            "NoAns_f1": 28.345959595959595,
        },
        0.5: {
            "exact": 49.07864429088516,
            "f1": 52.330946200973,
            "HasAns_exact": 33.16151202749141,
            "HasAns_f1": 39.95446426443773,
            "NoAns_exact": 63.69949494949495,
            "NoAns_f1": 63.69949494949495,
        },
    }
    for threshold, numbers in official.items():
        assert evaluate(answers, predictions, odds, threshold) == pytest.approx(common | numbers, abs=1e-9)


@needs_nlp
def test_truth_is_read_back(shared: Path) -> None:
    articles = read_articles(shared / "data" / SQUAD)[:1]
    asked = questions(articles)
    tokenizer = train_tokenizer([question.context for question in asked], 2000)
    windows = make_windows(asked, tokenizer, 128, 64)
    answers, odds = read_answers(windows, *perfect_scores(windows))
    scores = evaluate({question.id: question.answers for question in asked}, answers, odds, np.inf)
    # Not 100: a few answers have more than 30 tokens of this small vocabulary.
    assert scores["NoAns_exact"] == 100
    assert scores["HasAns_exact"] > 97


@needs_nlp
def test_a_tiny_bert_learns(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / SQUAD
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    folder = tiny_bert(tmp_path / "bert", path, **sizes, max_position_embeddings=128)
    words = [f"data={path}", f"base.model={folder}", "benchmark.length=128", "benchmark.stride=64"]
    length = ["training.length=60 passes", "training.batch=32", "optimiser.lr=1e-3", "benchmark.paragraphs=2"]
    result = run(
        tmp_path / "run",
        "benchmark=squad",
        "adapt=fine_tune",
        *words,
        *length,
        "benchmark.test_every=4",
        base="configured",
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    # Two paragraphs are learned by heart; the start is near log(128) = 4.9.
    assert losses[0] > 3 and losses[-1] < 1
    assert result["f1"] > 0


def test_the_house(shared: Path) -> None:
    scene = load_scene(shared / "data" / "aws_small_house.glb")
    assert len(scene.faces) == 145_844 and scene.face_instance.max() + 1 == 108
    np.testing.assert_allclose(np.ptp(scene.vertices, axis=0), [19.0, 3.0, 11.4], atol=0.01)
    renderer = EmbreeRenderer([scene])
    # Straight down in a free spot: the floor lies at height 0, seen at camera height.
    down = renderer.render([0], [[-5, 0, 0]], [0], Camera(9, hfov=10), ("depth", "normal"), pitch=[-np.pi / 2])
    np.testing.assert_allclose(down["depth"], 1.25, atol=2e-3)
    np.testing.assert_allclose(down["normal"][..., 1], 1, atol=1e-3)
    seen = renderer.render([0], [[-5, 0, 0]], [np.pi / 2], Camera(128))
    assert seen["rgb"].reshape(-1, 3).std(axis=0).min() > 30
    assert 1 < np.median(seen["depth"]) < 10


def test_real_house_agrees_with_the_map_a_robot_made_of_it(shared: Path) -> None:
    house = load_scene(shared / "data" / "aws_small_house.glb")
    slam = np.load(shared / "data" / "aws_small_house_mesh.npz")
    grid = NavGrid.build(house)
    free, corner, cell = grid.top_down(island=0)
    iz, ix = np.nonzero(free)
    # The map is Z-up: its y is our -z.
    x, y = corner[0] + (ix + 0.5) * cell, -(corner[1] + (iz + 0.5) * cell)
    column, row = (((v - slam["map_origin"][k]) / slam["map_resolution"]).astype(int) for k, v in enumerate((x, y)))
    seen = slam["map_pgm"][::-1][row, column]
    assert (seen == 254).mean() > 0.98
    assert 0.8 < free.sum() / (slam["map_pgm"] == 254).sum() < 1.0


def test_the_expert_solves_generated_episodes_in_the_real_house(shared: Path) -> None:
    file = shared / "data" / "aws_small_house.glb"
    records = expert_records(scans(str(file), None, "val", 150, 0, AgentConfig(), generation=Generation(goals=15)), 50)
    assert len(records) == 150
    assert np.mean([r["success"] for r in records]) >= 0.99
    assert np.mean([r["spl"] for r in records]) >= 0.95


def test_layouts_are_those_of_the_released_files(shared: Path) -> None:
    released = json.loads((shared / "weights" / "expected_shapes.json").read_text())
    assert released == LAYOUTS
    assert all(list(released[name]) == list(layout) for name, layout in LAYOUTS.items())


def read(file: Path) -> Any:
    return torch.load(file, weights_only=True)


def noise(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape)


def test_released_cifar_networks_give_the_golden_features(shared: Path) -> None:
    golden = read(shared / "weights" / "golden_cifar_features.pt")
    images = noise(4, 3, 32, 32)
    fcn4, resnet = build_encoder("fcn4").eval(), build_encoder("resnet44").eval()
    fcn4.load_state_dict(read(shared / "weights" / "fcn4-cifar.sd.pt"))
    released = read(shared / "weights" / "resnet44-cifar.sd.pt")
    plain = {name.removeprefix("module."): tensor for name, tensor in released.items()}
    resnet.load_state_dict(dict(plain))
    with torch.no_grad():
        assert torch.allclose(fcn4(images), golden["fcn4_feat"], atol=1e-5)
        assert torch.allclose(resnet(images), golden["resnet44_feat"], atol=1e-5)


def test_fcn5_under_seed_42_gives_the_golden_output(shared: Path) -> None:
    golden = read(shared / "weights" / "golden_fcn5_seed42init.pt")
    torch.manual_seed(42)
    network = build_encoder("fcn5")
    with torch.no_grad():
        assert torch.allclose(network(noise(1, 3, 256, 256)), golden["fcn5_out"], atol=1e-5)


def test_released_cifar_files_become_bases_or_are_refused(shared: Path) -> None:
    base = released_base(shared / "weights" / "resnet44-cifar.pth", "resnet44", IMAGENET, task="cifar10")
    assert base.feature_shape(32) == (64,)
    with pytest.raises(ValueError, match="could run code"):
        read_released(shared / "weights" / "fcn4-cifar.pth")
    with pytest.raises(ValueError, match="does not hold the weights of a FCN4"):
        released_base(shared / "weights" / "resnet44-cifar.pth", "fcn4")
