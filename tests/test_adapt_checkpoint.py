from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import SIZE, make_base, make_images

from adapt import Adapted, load, wrap


def test_several_tasks_with_several_methods_come_back(tmp_path: Path) -> None:
    base = make_base("conv")
    adapted = wrap(base, "side_tuning", "a", SIZE, alpha_mode="curriculum", k=10)
    adapted.advance(30)
    adapted.add("b", "lora", rank=2).add("c", "features").activate("a")
    adapted.eval()
    adapted.save(tmp_path)
    again = load(base, tmp_path).eval()
    assert again.tasks == ["a", "b", "c"] and again.active == "a"
    assert int(again.method().samples_seen) == 30
    images = make_images()
    frames = base.frames_evaluated
    outputs = again.forward_all(images)
    assert base.frames_evaluated == frames + len(images)
    for task, output in outputs.items():
        assert torch.equal(output, adapted(image=images, task=task))


def test_saving_again_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    base = make_base("conv")
    wrap(base, "lora", "a", SIZE).save(tmp_path)
    wrap(base, "scratch", "b", SIZE, seed=4).save(tmp_path)
    assert load(base, tmp_path).tasks == ["b"]
    assert len(list(tmp_path.iterdir())) == 2


def test_saving_keeps_what_others_put_into_the_folder(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("base.safetensors", "heads.v2.safetensors", "a.txt")]
    for file in others:
        file.write_text("mine")
    adapted = wrap(make_base("conv"), "lora", "a", SIZE)
    adapted.save(tmp_path)
    adapted.add("b", "features").save(tmp_path)
    assert all(file.read_text() == "mine" for file in others)
    assert len(list(tmp_path.iterdir())) == len(others) + 3


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    adapted = wrap(make_base("conv"), "features", "a", SIZE)
    with pytest.raises(OSError, match=r"could not write .*taken/a\..* choose another place"):
        adapted.save(tmp_path / "taken")


def test_another_base_is_refused_and_both_are_named(tmp_path: Path) -> None:
    base, other = make_base("conv"), make_base("depthwise")
    wrap(base, "lora", "a", SIZE).save(tmp_path)
    with pytest.raises(ValueError, match=f"{base.sha256[:12]}.*{other.sha256[:12]}"):
        load(other, tmp_path)


def test_missing_unexpected_and_misshapen_tensors_are_errors(tmp_path: Path) -> None:
    base = make_base("conv")
    for method in ("lora", "side_tuning", "fine_tune"):
        folder = tmp_path / method
        wrap(base, method, "a", SIZE).save(folder)
        header = json.loads((folder / "adapter.json").read_text())
        file = folder / header["tasks"][0]["file"]
        tensors = load_file(file)
        name = next(iter(tensors))
        broken = {
            "missing": {k: v for k, v in tensors.items() if k != name},
            "unexpected": {**tensors, "surplus": torch.zeros(1)},
            "misshapen": {**tensors, name: torch.zeros(7, 7, 7)},
        }
        for changed in broken.values():
            save_file(changed, file)
            with pytest.raises(ValueError, match="damaged"):
                load(base, folder)
            header["tasks"][0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
            (folder / "adapter.json").write_text(json.dumps(header))
            with pytest.raises(ValueError, match=r"^.*do not fit task 'a'.*\Z"):
                load(base, folder)


def test_unreadable_folders_say_what_to_do(tmp_path: Path) -> None:
    base = make_base("conv")
    with pytest.raises(FileNotFoundError, match=r"no adapter\.json"):
        load(base, tmp_path)
    wrap(base, "lora", "a", SIZE).save(tmp_path)
    header = json.loads((tmp_path / "adapter.json").read_text())
    (tmp_path / "adapter.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        load(base, tmp_path)
    (tmp_path / "adapter.json").write_text(json.dumps(header))
    (tmp_path / header["tasks"][0]["file"]).unlink()
    with pytest.raises(FileNotFoundError, match="is absent"):
        load(base, tmp_path)


def test_task_names_and_missing_inputs() -> None:
    base = make_base("conv")
    for name in ("a.b", "../a", "", 3):
        with pytest.raises(ValueError, match="letters, digits"):
            wrap(base, "features", name, SIZE)
    for name in ("train", "keys", "type"):
        with pytest.raises(ValueError, match=f"'{name}' is a name that"):
            wrap(base, "features", name, SIZE)
    with pytest.raises(ValueError, match="there is no task yet"):
        Adapted(base, SIZE)(make_images())
    adapted = wrap(base, "side_tuning", "first", SIZE)
    with pytest.raises(ValueError, match="already a task"):
        adapted.add("first", "features")
    with pytest.raises(ValueError, match="did you mean 'first'"):
        adapted.activate("frist")
    with pytest.raises(ValueError, match="reads image"):
        adapted(features=base(make_images()))
    assert adapted(image=make_images(), features=base(make_images())).shape == (6, 8, 8, 8)
