"""The table of methods and backbones, its docs, its command, and that each method learns a small real task."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import miniatures
import pytest
import torch

import adapt
from adapt import Base, list_methods
from adapt.core.base import random_base
from adapt.core.model import wrap
from adapt.costs.omniglot import OmniglotTask, read_omniglot, results, train
from adapt.costs.table import BACKBONES, as_markdown, describe, label, make_backbone, records
from adapt.methods.__main__ import main
from agents.bench import adaptation as bench

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "methods.md"


backbone = functools.cache(make_backbone)


def count(base: str, method: str, key: str, **settings: object) -> int:
    value = describe(backbone(base), base, method, settings)[key]
    assert isinstance(value, int)
    return value


def test_counts_of_the_papers_are_in_the_table() -> None:
    full = count("resnet26", "residual_adapter", "trainable_weights")
    assert full == 645_216
    assert count("resnet26", "residual_adapter", "trainable_weights", kind="series") == 689_152
    for placement, share in (("early", 4.8), ("mid", 19.0), ("late", 76.2), ("half", 53.3)):
        part = count("resnet26", "residual_adapter", "trainable_weights", placement=placement)
        assert round(100 * part / full, 1) == share
    assert count("mobilenet_v2", "patch", "trainable_parameters") == 34_112
    assert count("mobilenet_v2", "patch", "trainable_parameters", norm="frozen", depthwise=True) == 64_224
    for base, layers in (("resnet26", 25), ("resnet34", 36), ("vit_small", 48), ("densenet121", 120)):
        assert count(base, "taps", "layers") == layers
    assert count("fcn4", "fine_tune", "base_parameters") == 25_904
    assert count("resnet44", "progressive", "trainable_parameters", side="fcn4", merge="alpha", dense=False) == 37_430


def test_refusals_are_rows_and_variants_follow_their_method() -> None:
    rows = {label(row): row for row in records(["patch", "lora"], ["mobilenet_v2", "black_box"])}
    assert "black box" in rows["lora"]["refused"]
    rows = {label(row): row for row in records(["patch"], ["resnet44"])}
    assert set(rows) == {"patch", "patch norm=frozen depthwise=true"}
    assert "needs depthwise" in rows["patch norm=frozen depthwise=true"]["refused"]
    assert rows["patch"]["extra_multiply_adds"] == 0
    assert rows["patch"]["stored_bytes"] == 4 * 2 * 3_168, "two parameters and two statistics per channel"


def test_command_prints_tables_and_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--method", "bn", "features", "--base", "fcn4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["bn", "features"]
    assert main(["--method", "bn", "--base", "fcn4", "black_box"]) == 0
    text = capsys.readouterr().out
    assert "fcn4: 25,904 parameters" in text
    assert "refused: bn changes weights" in text
    for arguments, message in (
        (["--method", "bm"], "did you mean 'bn'"),
        (["--base", "fcn9"], "unknown backbone 'fcn9'"),
        (["--train", "absent.npz"], "no file absent.npz"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_what_the_docs_table_holds_is_current() -> None:
    table = DOCS.read_text().split("<!-- python -m adapt.methods --markdown -->")[1].split("<!-- end -->")[0]
    header, _, *lines = [line for line in table.splitlines() if line.startswith("|")]
    columns = [cell.strip() for cell in header.split("|")[2:-1]]
    assert columns == list(BACKBONES)
    written = {}
    for line in lines:
        name, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        written[name] = dict(zip(columns, cells, strict=True))
    described = {name.split()[0] for name in written}
    assert len(described) > 10
    assert described <= set(list_methods())
    for base in ("fcn4", "resnet44", "black_box"):
        for row in records(sorted(described), [base]):
            cell = written[label(row)][base]
            if "refused" in row:
                number = cell.removeprefix("no [").removesuffix("]")
                assert f"\n{number}. {row['refused']}\n" in table
            else:
                assert cell == f"{row['trainable_parameters']:,}"


def test_markdown_numbers_each_reason_once() -> None:
    rows = [{"base": base, "method": m, "settings": {}, "refused": "why"} for base in "ab" for m in ("x", "y")]
    lines = list(as_markdown(rows))
    assert lines[2] == "| x | no [1] | no [1] |"
    assert lines[-1] == "1. why"


def test_fusion_tasks_share_one_pass_of_the_base() -> None:
    assert bench.fusion_passes(tasks=3, image_size=32) == {"tasks": 3, "base_passes": 1, "side_passes": 3}
    ratios = bench.inference(make_backbone("fcn4"), 32, batch=2, rounds=1, methods=["lora", "bn"])
    assert set(ratios) == {(method, kind) for method in ("lora", "bn") for kind in ("unmerged", "merged")}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> OmniglotTask:
    return read_omniglot(miniatures.omniglot(tmp_path_factory.mktemp("letters") / "omniglot.npz"))


def test_training_reads_omniglot_and_learns(letters: OmniglotTask) -> None:
    task = letters
    assert (len(task.labels), len(task.test_labels), task.classes) == (150, 50, 10)
    assert torch.equal(task.labels.bincount(), torch.full((10,), 15))
    adapted = wrap(make_backbone("fcn4"), "fine_tune", image_size=32)
    assert train(adapted, task, epochs=12) > 0.6
    few = OmniglotTask(task.images[:32], task.labels[:32], task.test_images, task.test_labels)
    again = [train(wrap(make_backbone("fcn4"), "bn", image_size=32), few, epochs=1) for _ in range(2)]
    assert again[0] == again[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base that has learned ten other characters."""
    other = read_omniglot(miniatures.omniglot(tmp_path_factory.mktemp("other") / "omniglot.npz", first=12))
    adapted = wrap(random_base("resnet26", width=0.25), "fine_tune", image_size=32)
    assert train(adapted, other) > 0.9
    return adapted.merge()


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods())
def test_every_method_trains_above_chance(letters: OmniglotTask, reader: Base, method: str) -> None:
    (row,) = results(reader, letters, [method])
    assert row["accuracy"] > 3 * row["chance"]


@pytest.mark.parametrize("method", ["ba2", "ewc", "packnet", "residual_adapter", "side_tuning"])
def test_loops_of_the_docs_run(method: str) -> None:
    section = DOCS.read_text().split("## Training, switching, folding")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    base = random_base("fcn5", width=0.25)
    adapted = wrap(base, method, "first", 64)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    names: dict[str, Any] = {"adapt": adapt, "torch": torch, "nn": torch.nn, "base": base, "adapted": adapted}
    names["batches"] = [(images, torch.arange(4))] * 2
    before = [parameter.detach().clone() for parameter in adapted.trainable()]
    if method == "side_tuning":
        blocks[0] = blocks[0].split("network =")[0]
    for block in blocks:
        exec(block, names)
    assert not all(map(torch.equal, before, adapted.trainable("first")))
    assert int(adapted.method("first").samples_seen) == 8
    assert torch.equal(names["plain"], base(images)) and set(names["outputs"]) == {"first", "second"}
    if method != "side_tuning":
        assert torch.allclose(names["network"](images), names["outputs"]["first"], atol=1e-4)


@pytest.mark.slow
def test_script_of_the_docs_runs(tmp_path: Path) -> None:
    script = ROOT / "docs" / "three_tasks.py"
    assert len(script.read_text().splitlines()) < 60
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    right = re.findall(r"^\w+: (\d+) of 16 right$", done.stdout, re.MULTILINE)
    assert len(right) == 3 and min(map(int, right)) > 12
    (moved,) = re.findall(r"features move by (\S+) of theirs", done.stdout)
    assert float(moved) < 1e-5


@pytest.mark.slow
def test_method_of_the_docs_is_picked_up_by_tests_and_command(tmp_path: Path) -> None:
    for folder in ("adapt", "agents", "configs", "envs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "method.md").read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "adapt/methods/bias.py").write_text(found[1])
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    biases = 2 * (16 + 14 * (16 + 32 + 64))  # of the convolutions and of their normalisations
    assert re.search(rf"bias +{biases:,}", run("adapt.methods", "--method", "bias", "--base", "resnet44"))
    # The fixture of the saved tasks runs all methods; the other tests are of this one.
    chosen = "bias and not saved"
    assert "passed" in run("pytest", "tests/test_adapt_methods.py", "-k", chosen, "-p", "no:cacheprovider", "-rN", "-v")
