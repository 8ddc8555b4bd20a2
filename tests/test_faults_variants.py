"""Further kinds of bad input, each once in every place: names, settings, run folders, frames, images and episodes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt.datasets.images import read_image
from adapt.datasets.own import array_set, find_sets
from adapt.encoders import build_encoder
from adapt.training.finite import NotFinite, StoredNotFinite, check_finite
from adapt.training.run import Run, load_checkpoint, load_config
from agents.learners.frames import FrameStore
from agents.reports.results import read_training
from configs.compose import compose
from configs.overrides import quote_override
from configs.settings import ConfigError
from envs.pointnav.episodes import from_dict

# -- names and settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ü", "runs/größe/日本", "k=v", "#c", "~", "a ü b", "C:\\ü"])
def test_names_in_any_alphabet_are_taken_as_typed(name):
    assert compose("evaluate", [quote_override(f"run={name}")]).run == name


def test_names_in_any_alphabet_are_taken_in_lists():
    assert list(compose("compare_agents", [quote_override("run=[runs/ü,1e5,b]")]).run) == ["runs/ü", "1e5", "b"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("run=", "give a value for run"),
        ("1e5", "settings are written key=value"),
        ("run=a,b", "a comma separates the jobs of a sweep"),
        ("run={y", "put the value in quotes"),
    ],
)
def test_words_that_are_no_settings_say_what_to_write(word, said):
    """An empty name was the current folder."""
    with pytest.raises(ConfigError, match=said) as caught:
        compose("evaluate", [quote_override(word)])
    assert len(str(caught.value)) < 700


def test_a_long_word_is_shortened():
    with pytest.raises(ConfigError) as caught:
        compose("evaluate", ["run={" + "x" * 5000])
    assert len(str(caught.value)) < 1000


def test_a_width_beyond_all_numbers_is_refused():
    with pytest.raises(ValueError, match="does not take these settings"):
        build_encoder("fcn4", width=float("inf"))


# -- run folders -----------------------------------------------------------------------------------------------------


def opened(folder: Path) -> Run:
    return Run(folder, compose("train", [f"run={folder}"]), False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "empty"),
        (b"a: &a [x, x]\nb: [*a, *a]\n", "references"),
        (b"env: {name: apartments}\n", "give a value for|must be|lacks"),
    ],
)
def test_a_config_that_is_none_is_called_what_it_is(tmp_path, content, said):
    """References of references took minutes and all memory."""
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_config(tmp_path)
    assert "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"<html>", "web page"), (b"", "empty")],
)
def test_a_checkpoint_that_is_none_is_called_what_it_is(tmp_path, content, said):
    """Formerly PyTorch's advice to load it unsafely was passed on."""
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_checkpoint(tmp_path / "a.pt", None)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.empty(2, device="meta")])
def test_tensors_of_another_kind_in_a_checkpoint_are_named(tensor):
    with pytest.raises(NotFinite, match=r"state\.a is a tensor of another kind"):
        check_finite({"a": tensor}, "state")


def test_a_bad_checkpoint_is_not_called_the_last_good_one(tmp_path):
    run = opened(tmp_path / "run")
    run.save(1, "b", {"a": torch.ones(1)})
    with pytest.raises(StoredNotFinite) as caught, run.stopping_well():
        raise StoredNotFinite("step_0000000001.pt: not finite")
    run.close()
    assert "last good" not in str(caught.value)


def test_a_run_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(ValueError, match="is a file; choose another run"):
        opened(tmp_path / "run")


@pytest.mark.parametrize("tail", [b"\xff\xfe\n", b"\0" * 64, '{"step": 2}'.encode("utf-16")])
def test_metrics_with_bytes_that_are_no_text_are_taken_over(tmp_path, tail):
    run = opened(tmp_path / "run")
    run.log(1, {"a": 1.0})
    run.save(2, "b", {"a": torch.ones(1)})
    run.close()
    file = tmp_path / "run" / "metrics.jsonl"
    # Two lines of one step, as older versions wrote them, too.
    file.write_bytes(file.read_bytes() * 2 + tail)
    again = Run(tmp_path / "run", compose("train", [f"run={tmp_path / 'run'}", "resume=true"]), True)
    assert again.restore("b") is not None
    again.close()
    assert [line["step"] for line in read_training(tmp_path / "run").metrics] == [1]
    assert len(file.read_text().splitlines()) == 1


def test_a_config_of_another_kind_in_a_report_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("3")
    with pytest.raises(ValueError, match=r"config\.yaml is no readable YAML"):
        _ = read_training(tmp_path).settings


@pytest.mark.parametrize(("key", "value"), [("action", 127), ("action", -1), ("goal", None)])
def test_recorded_frames_that_no_network_takes_are_named(tmp_path, key, value):
    store = FrameStore.create(tmp_path, 2, 4, {"goal": ((2,), "float32")})
    for step in range(4):
        store.push({"goal": np.zeros((2, 2)), "action": np.zeros(2), "step": np.full(2, step)})
    del store
    array = np.load(tmp_path / f"{key}.npy")
    np.save(tmp_path / f"{key}.npy", array.astype(np.float64) if value is None else np.full_like(array, value))
    with pytest.raises(ValueError, match=rf"{key}\.npy is damaged"):
        FrameStore.open(tmp_path)


# -- images ----------------------------------------------------------------------------------------------------------

LABELS = np.arange(6) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"x": PIXELS / 250, "y": LABELS}, "a little more than 1; clip"),
        ({"x": (PIXELS > 9).astype(np.uint8), "y": LABELS}, "0 and 1 alone"),
        ({"x": PIXELS, "y": LABELS - 1, "classes": np.array(["a", "b", "c"])}, "-1 to 1, and there are 3 names"),
        ({"x": PIXELS, "y": LABELS, "classes": np.array(["a", "b"])}, "0 to 2, and there are 2 names"),
        ({"x": PIXELS, "y": LABELS, "classes": np.array(["a", "a", "b"])}, "two classes have the name 'a'"),
        ({"x": PIXELS, "y": np.array(3)}, "a class per image"),
        ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:2], "y_test": np.array([0, 9])}, "tests the class"),
    ],
)
def test_arrays_that_would_be_read_wrongly_are_refused(tmp_path, members, said):
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(ValueError, match=rf"a\.npz.*{said}"):
        array_set(tmp_path / "a.npz", 0.3, 0)


def test_classes_as_bytes_are_words(tmp_path):
    np.savez(tmp_path / "a.npz", x=PIXELS, y=np.array([b"a", b"b", b"c"] * 2))
    assert array_set(tmp_path / "a.npz", 0.3, 0).classes == ("a", "b", "c")


@pytest.mark.parametrize("value", [np.nan, -0.5, 1e9])
def test_pixels_that_are_none_are_refused(tmp_path, value):
    Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"cannot decode \S+a\.tiff: its pixels go from"):
        read_image(tmp_path / "a.tiff")


def tree(folder: Path) -> bytes:
    for name in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[0]).save(folder / name)
    return (folder / "train/a/0.png").read_bytes()


def test_a_link_to_a_folder_above_counts_no_image_twice(tmp_path):
    tree(tmp_path)
    (tmp_path / "train" / "a" / "again").symlink_to(tmp_path)
    (sets,) = find_sets(tmp_path, 0.3, 0).values()
    assert len(sets.train) == len(sets.test) == 2


@pytest.mark.parametrize("prefix", ["", "/", "./", "s\\"])
def test_archives_of_any_system_are_read(tmp_path, prefix):
    data = tree(tmp_path / "tree")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
            written = prefix + name
            archive.writestr(written.replace("/", "\\") if "\\" in prefix else written, data)
    ((name, sets),) = find_sets(tmp_path / "a.zip", 0.3, 0).items()
    assert name == ("s" if "\\" in prefix else "a") and sets.classes == ("a", "b") and len(sets.test) == 2


def test_an_encrypted_archive_and_a_bomb_are_refused(tmp_path, monkeypatch):
    data = tree(tmp_path / "tree")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/0.png", data)
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[6] |= 1
    raw[raw.find(b"PK\1\2") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"b\.zip.*encrypted"):
        find_sets(tmp_path / "b.zip", 0.3, 0)
    (tmp_path / "c.zip").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"c\.zip.*Git LFS pointer"):
        find_sets(tmp_path / "c.zip", 0.3, 0)
    monkeypatch.setattr("adapt.datasets.own.os.sysconf", lambda name: 4)
    with pytest.raises(ValueError, match=r"a\.zip.*it unpacks to"):
        find_sets(tmp_path / "a.zip", 0.3, 0)


# -- episodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [[1, 0, 0, 0], [0.7071, 0, 0, 0.7071], [0, 0, 1, 0]])
def test_a_start_that_lays_the_agent_down_is_refused(rotation):
    """Quaternions in the order w, x, y, z turned agents in silence."""
    raw = {"episode_id": "0", "scene_id": "a.glb", "start_position": [0, 0, 0], "goals": [{"position": [1, 0, 1]}]}
    assert from_dict({**raw, "start_rotation": [0, 0.7071, 0, 0.7071]}, "here").start_heading == pytest.approx(
        np.pi / 2, abs=1e-3
    )
    with pytest.raises(ValueError, match=r"here: start_rotation .* lays the agent on its side"):
        from_dict({**raw, "start_rotation": rotation}, "here")
