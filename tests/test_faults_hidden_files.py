"""Files that systems and editors leave among data are passed over, whoever lists the folder."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.benchmarks.benchmark import build_benchmark
from adapt.core.base import list_bases
from adapt.datasets.cifar import read_cifar100
from adapt.datasets.images import class_folders, image_folder
from adapt.datasets.own import find_set
from adapt.datasets.taskonomy import list_buildings
from adapt.pretraining.data import TaskonomyViews
from adapt.supervised.finished import find_runs
from adapt.training.run import list_checkpoints
from agents.doctor import check_data
from agents.evaluation.folder import replaced
from agents.reports.results import read_results
from configs.files import is_hidden, visible
from envs.contact_sheets import choose_views
from envs.pointnav.episodes import Episode, read_episodes, write_episodes
from envs.scans.scene_datasets import SceneDataset

ROOT = Path(__file__).resolve().parents[1]
LEFT_BEHIND = (".ipynb_checkpoints", "__MACOSX", ".Trash-1000", "@eaDir", "._class0")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


def class_data(root: Path) -> None:
    """Two classes of three images, and what systems leave behind in and beside their folders."""
    for name in ("cat", "dog"):
        for number in range(3):
            picture(root / name / f"{number}.jpg")
        (root / name / "._0.jpg").write_bytes(b"\x00\x05\x16\x07Mac OS X")
        (root / name / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    for name in LEFT_BEHIND:
        picture(root / name / "0.jpg")


def test_folders_left_behind_are_no_classes_and_files_no_images(tmp_path):
    class_data(tmp_path)
    assert class_folders(tmp_path) == ["cat", "dog"]
    found = image_folder(tmp_path, ["cat", "dog"])
    assert len(found) == 6 and found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    splits = find_set(tmp_path, 0.34, 0)
    assert splits.classes == ("cat", "dog") and len(splits.train) + len(splits.test) == 6


def test_a_folder_whose_own_path_is_hidden_is_still_read(tmp_path):
    class_data(tmp_path / ".cache" / "data")
    assert class_folders(tmp_path / ".cache" / "data") == ["cat", "dog"]


def test_they_are_no_domains_of_domainnet(tmp_path):
    for domain in ("photo", "sketch"):
        class_data(tmp_path / domain)
    class_data(tmp_path / "__MACOSX")
    benchmark = build_benchmark("domainnet", size=32)
    assert sorted(task.name for task in benchmark.tasks(tmp_path)) == ["photo", "sketch"]


def test_they_are_no_packed_files(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (4, 32, 32, 3), np.uint8), np.arange(4)
    np.savez(tmp_path / "cifar100.npz", x=x, y=y, is_test=y % 2 == 1)
    (tmp_path / "._cifar100.npz").write_bytes(b"\x00\x05\x16\x07")
    found = read_cifar100(tmp_path)
    assert found is not None and [len(part.images) for part in found] == [2, 2]


def test_they_are_no_buildings_and_no_views_of_taskonomy(tmp_path):
    for building in ("hanson", ".ipynb_checkpoints", "__MACOSX"):
        for domain in ("rgb", "mask_valid"):
            picture(tmp_path / domain / building / f"point_0_view_0_domain_{domain}.png")
    (tmp_path / "rgb" / "hanson" / "._point_1_view_0_domain_rgb.png").write_bytes(b"\0")
    assert list_buildings(tmp_path) == ["hanson"]
    assert len(TaskonomyViews([tmp_path], ["rgb", "mask_valid"])) == 1
    assert choose_views(tmp_path, 1) == [("hanson", 0, 0)]


def test_they_are_no_episodes(tmp_path):
    made = [Episode("0", "a.glb", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0))]
    write_episodes(tmp_path / "content" / "a.json.gz", made)
    (tmp_path / "content" / "._a.json.gz").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "val.json.gz").write_bytes(gzip.compress(b'{"episodes": []}'))
    assert len(read_episodes(tmp_path / "val.json.gz")) == 1


def test_they_are_no_scenes_of_a_dataset(tmp_path):
    for name in ("apt.glb", "._apt.glb", ".ipynb_checkpoints/apt2.glb"):
        (tmp_path / "stages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stages" / name).write_bytes(b"")
    config = tmp_path / "x.scene_dataset_config.json"
    config.write_text(json.dumps({"stages": {"paths": {".glb": ["stages", "stages/*"]}}}))
    assert SceneDataset.open(config).scene_names() == ["apt"]


def test_the_doctor_passes_them_over(tmp_path):
    for name in ("gibson", ".Trash-1000", "__MACOSX"):
        (tmp_path / "scene_datasets" / name).mkdir(parents=True)
        (tmp_path / "scene_datasets" / name / "a.glb").write_bytes(b"")
    (tmp_path / "scene_datasets" / "empty").mkdir()
    (tmp_path / "scene_datasets" / "left").mkdir()
    (tmp_path / "scene_datasets" / "left" / "._a.glb").write_bytes(b"")
    hidden = tmp_path / "datasets" / "pointnav" / ".ipynb_checkpoints" / "val"
    hidden.mkdir(parents=True)
    (hidden / "val.json.gz").write_bytes(b"no gzip")
    found = [finding.what for finding in check_data(tmp_path)]
    assert found[0].endswith(": gibson") and found[1].startswith("no episodes in")


def test_they_are_no_runs_no_checkpoints_no_rows_of_a_report(tmp_path):
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "result.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no result"):
        find_runs([tmp_path / "runs"])
    (tmp_path / "checkpoints").mkdir()
    for name in ("step_0000000010.pt", "._step_0000000020.pt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"")
    assert [file.name for file in list_checkpoints(tmp_path)] == ["step_0000000010.pt"]
    folder = tmp_path / "eval" / "val"
    folder.mkdir(parents=True)
    measures = ("success", "spl", "soft_spl", "distance_to_goal", "nav_reward", "collisions", "steps")
    numbers = dict.fromkeys((*measures, "geodesic_distance", "euclidean_distance"), 1.0)
    (folder / "agent.jsonl").write_text(json.dumps({"scene_id": "a", "episode_id": "0", **numbers}) + "\n")
    (folder / "._agent.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (folder / "._topdown_0.npz").write_bytes(b"\x00\x05\x16\x07")
    read = read_results(tmp_path)
    assert list(read.rows) == ["agent"] and read.top_downs == []
    # A new evaluation clears the old one, without stumbling over a folder of the editor's.
    (folder / ".ipynb_checkpoints").mkdir()
    with replaced(folder) as place:
        (place / "blind.jsonl").touch()
    assert (folder / "blind.jsonl").exists() and (folder / "._agent.jsonl").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["val"]
    assert not (folder / "agent.jsonl").exists() and (folder / ".ipynb_checkpoints").is_dir()


def test_embedded_bases_and_choices_are_without_them():
    assert not any(map(is_hidden, list_bases()))
    assert visible(ROOT / "no such folder") == []


def test_every_lister_of_folders_passes_them_over():
    """A module that lists a folder by itself would have to think of hidden files by itself."""
    own = {
        "configs/files.py": "is the helper",
        "configs/writing.py": "sweeps half-written files and folders of its own, hidden ones",
        "configs/array_cache.py": "reads source files of its own",
        "configs/kernel_cache.py": "reads source files of its own",
        "adapt/training/run.py": "asks for one file by its name",
        "agents/evaluation/folder.py": "checks records of its own, which it will replace",
        "configs/processes.py": "removes empty folders that torchrun left in the temporary folder",
        "envs/rendering/embree.py": "asks for a library of an installed package by its name",
        "agents/learners/dagger.py": "clears scratch files of its own, hidden ones included",
    }
    lists = re.compile(r"\.(?:iterdir|glob|rglob)\(|os\.(?:listdir|scandir|walk)\(")
    files = [path for room in ("adapt", "agents", "configs", "envs") for path in (ROOT / room).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if lists.search(path.read_text())}
    assert found <= own.keys(), found - own.keys()
