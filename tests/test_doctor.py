from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from habitat_rooms import put_episodes

from agents import doctor
from agents.doctor import check_data, check_embree, check_env, examine, report
from configs.compose import compose
from envs.habitat import egl
from envs.sources import findings, habitat
from envs.sources.findings import MISSING, NOTE, OK
from envs.sources.habitat import check_habitat


def write_split(file: Path, scene_ids: list[str], **fields: str) -> None:
    put_episodes(file, *({"episode_id": str(i), "scene_id": s, **fields} for i, s in enumerate(scene_ids)))


def touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_apartments_can_run_here_and_the_report_says_so() -> None:
    found = examine(compose("doctor", []))
    assert all(f.state != MISSING for f in found)
    assert report(found, "apartments").endswith("env=apartments can run")
    assert check_embree().state == OK


def test_every_gap_comes_with_a_way_to_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "find_spec", lambda name: None)
    monkeypatch.setattr(habitat.stand_ins, "missing", lambda: ("magnum", "habitat_sim"))
    found = check_habitat(True, "habitat_sim")
    assert [f.state for f in found[:2]] == [MISSING, MISSING]
    assert "pip install" in found[0].fix
    assert "docs/habitat.md" in found[1].fix
    # The embedded simulator needs Habitat-Lab, but no habitat-sim; other environments need neither.
    assert [f.state for f in check_habitat(True, "sidestep")[:2]] == [MISSING, NOTE]
    assert [f.state for f in check_habitat(False, "sidestep")[:2]] == [NOTE, NOTE]
    text = report(found, "habitat")
    assert "missing Habitat-Lab is not installed" in text
    assert text.endswith("env=habitat cannot run: 2 missing")


def test_a_broken_embree_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    finding = check_embree()
    assert finding.state == MISSING
    assert "pip install" in finding.fix


def test_embree_without_packets_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.rendering.embree.library", lambda: "no library")
    finding = check_embree()
    assert finding.state == NOTE
    assert finding.what.endswith("no library")


def test_egl_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> tuple[list[int], int]:
        raise egl.EglMissing("libEGL cannot be loaded")

    for answer, state, said in (
        (lambda: ([0], 2), OK, "CUDA device 0"),
        (lambda: ([], 1), NOTE, "software"),
        (absent, NOTE, "libEGL cannot be loaded"),
    ):
        monkeypatch.setattr(egl, "cuda_devices", answer)
        finding = check_habitat(False, "sidestep")[-1]
        assert finding.state == state
        assert said in finding.what
        assert egl.default_device() == (0 if state == OK else -1)


def test_scans_need_a_scene(tmp_path: Path) -> None:
    house = tmp_path / "house.glb"
    assert check_env(compose("doctor", ["env=scans"]).env)[0].state == MISSING
    gone = check_env(compose("doctor", ["env=scans", f"env.scene={house}"]).env)[0]
    assert gone.state == MISSING
    assert str(house) in gone.what
    touch(house)
    assert check_env(compose("doctor", ["env=scans", f"env.scene={house}"]).env)[0].state == OK


def test_scans_may_be_named_by_a_dataset_and_episodes_may_be_one_file(tmp_path: Path) -> None:
    def found(*words: str) -> list[str]:
        return [f.state for f in check_env(compose("doctor", ["env=scans", *words]).env)]

    config = tmp_path / "rooms.scene_dataset_config.json"
    config.write_text(json.dumps({"stages": {"paths": {".glb": [""]}}}))
    touch(tmp_path / "hall.glb")
    assert found(f"env.dataset={config}", "env.scene=hall") == [OK]
    assert found(f"env.dataset={config}", "env.scene=cellar") == [MISSING]
    write_split(tmp_path / "one.json.gz", ["hall.glb", "cellar.glb"])
    words = [f"env.episodes={tmp_path / 'one.json.gz'}", f"env.scenes_dir={tmp_path}"]
    assert found(*words) == [MISSING]
    assert found(*words, "env.scenes=[hall]") == [OK]
    assert found(*words, f"env.dataset={config}") == [OK, OK]


def test_scenes_and_episodes_of_a_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert [f.state for f in check_data(data)] == [MISSING]
    data.mkdir()
    assert [f.state for f in check_data(data)] == [NOTE, NOTE]
    gibson = data / "datasets/pointnav/gibson/v1/val"
    write_split(gibson / "val.json.gz", [])
    write_split(gibson / "content/A.json.gz", ["gibson/A.glb"] * 3)
    write_split(gibson / "content/B.json.gz", ["data/scene_datasets/gibson/B.glb"])
    touch(data / "scene_datasets/gibson/A.glb")
    scenes, split = check_data(data)
    assert scenes.what.endswith("gibson")
    assert split.state == NOTE
    assert "1 of 2 scenes are not in" in split.what
    assert "gibson/B.glb" in split.what
    touch(data / "scene_datasets/gibson/B.glb")
    assert list(check_data(data))[1].state == OK
    # Scenes of a scene dataset are names in it; what must be there is its config.
    cad = "data/scene_datasets/replica_cad/replicaCAD.scene_dataset_config.json"
    write_split(data / "datasets/pointnav/cad/v1/val/val.json.gz", ["apt_0"], scene_dataset_config=cad)
    assert "replicaCAD.scene_dataset_config.json" in next(f.what for f in check_data(data) if "cad/v1" in f.what)
    touch(tmp_path / cad)
    assert all(f.state == OK for f in check_data(data))
    (gibson / "content/B.json.gz").write_bytes(b"no gzip")
    assert any("cannot be read" in f.what for f in check_data(data))


def test_exit_code_tells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["doctor", "env=scans", f"env.scene={tmp_path / 'gone.glb'}"])
    with pytest.raises(SystemExit) as stopped:
        doctor.main()
    assert stopped.value.code == 1
    assert "env=scans cannot run: 1 missing" in capsys.readouterr().out
