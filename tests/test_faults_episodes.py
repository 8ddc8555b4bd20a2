"""Episode files as users have them: elsewhere than said, named otherwise, repeated, damaged, hostile."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gltf_files import Gltf
from habitat_rooms import put_episodes
from shapes import box, floor, room, scene

from agents import doctor
from agents.doctor import check_env
from agents.evaluate import _chosen, _episode, _write_top_downs
from configs.compose import compose
from envs.navgrid.grid import NavGrid
from envs.pointnav.env import NavigableScene, PointNav, PointNavTask
from envs.pointnav.episode_files import GENERATED
from envs.pointnav.episodes import distinct, read_episodes, read_gzip, scene_name
from envs.pointnav.scene_episodes import AgentConfig
from envs.rendering.renderer import Camera
from envs.scans.source import ScanSettings, locate_scene
from envs.sources import findings
from envs.sources.findings import MISSING, NOTE, OK, check_split
from envs.sources.scans import Generation, scans

BODY = AgentConfig(radius=0.1)
FEW = Generation(goals=2, max_distance=8.0)


def building(path: Path, parts: Any = None) -> Path:
    made = scene(room(0, 6, 0, 5) if parts is None else parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    soup = made.vertices[made.faces].reshape(-1, 3)
    file = Gltf()
    return file.alone(file.part(positions=soup, indices=np.arange(len(soup)))).save(path)


def raw(number: Any = "0", scene_id: Any = "a.glb", start: Any = (1.0, 0.0, 1.0), goal: Any = (4.0, 0.0, 4.0)) -> Any:
    return {
        "episode_id": number,
        "scene_id": scene_id,
        "start_position": list(start),
        "start_rotation": [0.0, 0.0, 0.0, 1.0],
        "goals": [{"position": list(goal), "radius": None}],
        "info": None,
    }


# -- where they are ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "asked", "said"),
    [
        ("val/val.json.gz", "val", "set env.episodes=TMP$"),
        ("val.json.gz", "", r"set env.episodes=TMP/val.json.gz$"),
        ("v1/val/val.json.gz", "", "set env.episodes=TMP/v1$"),
        ("gibson/v1/val/val.json.gz", "", "set env.episodes=TMP/gibson/v1$"),
        ("val/val.json", "", "val.json does; compress it with gzip"),
        ("val.json", "", "val.json does; compress it with gzip"),
        ("val.json", "val.json", "neither a folder nor a .json.gz file; compress it with gzip"),
        ("gone.json", "other.json", "neither a folder nor a .json.gz file"),
        ("val.json", "val.json.gz", "does not exist, but .*val.json does"),
        ("train/train.json.gz", "", "has the split train"),
        ("readme.txt", "", "holds readme.txt"),
    ],
)
def test_episodes_that_are_not_where_env_episodes_points_are_not_generated(tmp_path, where, asked, said):
    """Formerly new ones were generated into the user's folder and used, without a word."""
    house, root = building(tmp_path / "scans" / "a.glb"), tmp_path / "episodes"
    put_episodes(root / where, raw())
    before = sorted(root.rglob("*"))
    for given in (str(house), None):
        with pytest.raises((FileNotFoundError, ValueError), match=said.replace("TMP", str(root))) as caught:
            scans(given, str(root / asked), "val", 4, 0, BODY, generation=FEW)
        assert "\n" not in str(caught.value)
    assert sorted(root.rglob("*")) == before
    words = ["env=scans", f"env.scene={house}", f"env.episodes={root / asked}", "env.split=val"]
    scene_found, episodes_found = check_env(compose("doctor", words).env)
    assert (scene_found.state, episodes_found.state) == (OK, MISSING)


def test_generating_is_said_and_other_splits_may_follow(tmp_path, caplog):
    house, root = building(tmp_path / "a.glb"), tmp_path / "new" / "episodes"
    words = ["env=scans", f"env.scene={house}", f"env.episodes={root}", "env.split=val"]
    assert [f.state for f in check_env(compose("doctor", words).env)] == [OK, NOTE]
    with caplog.at_level(logging.WARNING):
        scans(str(house), str(root), "train", 4, 0, BODY, generation=FEW)
    assert f"4 episodes of the split train are generated and written to {root}/train/train.json.gz" in caplog.text
    assert (root / GENERATED).is_file()
    scans(str(house), str(root), "val", 4, 0, BODY, generation=FEW)
    assert [f.state for f in check_env(compose("doctor", words).env)] == [OK, OK]
    caplog.clear()
    scans(str(house), str(root), "val", 4, 0, BODY, generation=FEW)
    assert "generated" not in caplog.text
    # An empty folder, hidden files aside, is as good as none.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"")
    scans(str(house), str(tmp_path / "empty"), "val", 4, 0, BODY, generation=FEW)
    assert (tmp_path / "empty" / "val" / "val.json.gz").is_file()


def test_content_files_may_be_named_with_the_scenes_ending(tmp_path):
    building(tmp_path / "a.glb")
    building(tmp_path / "b.glb")
    for name in ("a", "b"):
        put_episodes(tmp_path / "val" / "content" / f"{name}.glb.json.gz", raw(scene_id=f"{name}.glb"))
    put_episodes(tmp_path / "val" / "val.json.gz")
    settings = ScanSettings(scenes_dir=str(tmp_path))
    for wanted in (["a"], ["a.glb"], "a"):
        (place,) = scans(None, str(tmp_path), "val", 9, 0, BODY, settings, scenes=wanted)
        assert place.name.endswith("a.glb") and len(place.episodes) == 1
    (same,) = scans(str(tmp_path / "a.glb"), str(tmp_path), "val", 9, 0, BODY, settings)
    assert same.episodes == place.episodes
    words = ["env=scans", f"env.episodes={tmp_path}", "env.split=val", f"env.scenes_dir={tmp_path}"]
    for only in ([], ["env.scenes=[a]"], ["env.scenes=[a.glb]"]):
        assert [f.state for f in check_env(compose("doctor", [*words, *only]).env)] == [OK]


@pytest.mark.parametrize("per_scene", [True, False])
def test_the_doctor_names_the_nearest_of_a_misspelt_scene(tmp_path, per_scene, monkeypatch, capsys):
    """Formerly: all 0 scenes are in ..., can run."""
    episodes = [raw(scene_id=f"gibson/{name}.glb") for name in ("Adrian", "Bolton")]
    if per_scene:
        put_episodes(tmp_path / "val" / "val.json.gz")
        for name, one in zip(("Adrian", "Bolton"), episodes, strict=True):
            put_episodes(tmp_path / "val" / "content" / f"{name}.json.gz", one)
    else:
        put_episodes(tmp_path / "val" / "val.json.gz", *episodes)
    for name in ("Adrian", "Bolton"):
        building(tmp_path / "gibson" / f"{name}.glb")
    words = ["env=scans", f"env.episodes={tmp_path}", "env.split=val", f"env.scenes_dir={tmp_path}"]
    for only in ("[Adriam]", "[Bolton,Adriam]"):
        monkeypatch.setattr(sys, "argv", ["doctor", *words, f"env.scenes={only}"])
        with pytest.raises(SystemExit) as stopped:
            doctor.main()
        said = capsys.readouterr().out
        assert (
            stopped.value.code == 1
            and "no episodes in Adriam; did you mean 'Adrian'?" in said
            and "can run" not in said
        )
        with pytest.raises(ValueError, match="no episodes in Adriam; did you mean 'Adrian'"):
            read_episodes(tmp_path / "val" / "val.json.gz", only.strip("[]").split(","))
    assert [f.state for f in check_env(compose("doctor", [*words, "env.scenes=[]"]).env)] == [MISSING]


@pytest.mark.parametrize(
    "name",
    ["gibson\\Adrian.glb", "data\\scene_datasets\\gibson\\Adrian.glb", "gibson/Größe.glb", "./gibson/a b.glb"],
)
def test_the_doctor_finds_scenes_that_the_loader_finds(tmp_path, name):
    """Backslashes and letters that JSON escapes were reported as missing scenes."""
    file = put_episodes(tmp_path / "val" / "val.json.gz", raw(scene_id=name))
    building(tmp_path / "gibson" / Path(name.replace("\\", "/")).name)
    assert [finding.state for finding in check_split(file, tmp_path)] == [OK]
    assert locate_scene(name, str(tmp_path)).is_file()


def test_episodes_with_a_byte_order_mark_are_read(tmp_path):
    file = put_episodes(tmp_path / "val.json.gz", raw())
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + gzip.decompress(file.read_bytes())))
    assert len(read_episodes(file)) == 1


# -- which they are ---------------------------------------------------------------------------------------------------


def pictures(folder: Path, places: list[NavigableScene]) -> dict[str, Any]:
    """What an evaluation draws of every episode, by episode id."""
    records = []
    for place in places:
        nav = PointNav([place], PointNavTask(sensors=(), max_steps=3), Camera(16), 1, seed=None)
        nav.reset(np.arange(1))
        while nav.agents.active.any():
            _, dones, found = nav.step(np.array([1]))
            if dones.any():
                records.append(found[0])
                nav.reset(np.arange(1))
    _write_top_downs(folder, places, records)
    drawn = {}
    for i, index in enumerate(_chosen(records, 6)):
        with np.load(io.BytesIO((folder / f"topdown_{i}.npz").read_bytes())) as arrays:
            key = f"{arrays['scene_id']} {arrays['episode_id']}"
            drawn[key] = arrays["start"].tolist(), arrays["goal"].tolist(), arrays["agent_path"][0].tolist()
            (one,) = _episode(places, records[index]).episodes
            assert [one.start_position[0], one.start_position[2]] == arrays["start"].tolist()
    return drawn


def test_an_id_that_stands_twice_in_a_scene_draws_its_own_episode(tmp_path):
    """Formerly both got the start and the film of the first."""
    building(tmp_path / "a.glb")
    twice = [raw("7", start=(1, 0, 1), goal=(4, 0, 4)), raw("7", start=(5, 0, 1), goal=(1, 0, 4)), raw("8")]
    put_episodes(tmp_path / "val" / "val.json.gz", *twice)
    (place,) = scans(None, str(tmp_path), "val", 9, 0, BODY, ScanSettings(scenes_dir=str(tmp_path)))
    assert [e.episode_id for e in place.episodes] == ["7", "7 (2)", "8"]
    (given,) = scans(str(tmp_path / "a.glb"), str(tmp_path), "val", 9, 0, BODY)
    assert given.episodes == place.episodes
    for start, goal, path in pictures(tmp_path, [place]).values():
        assert np.allclose(path, start, atol=1e-3) and start != goal
    drawn = {key.split(" ", 1)[1]: value for key, value in pictures(tmp_path, [place]).items()}
    assert drawn["7"][:2] == ([1.0, 1.0], [4.0, 4.0]) and drawn["7 (2)"][:2] == ([5.0, 1.0], [1.0, 4.0])


def test_a_scene_under_two_path_prefixes_is_one_place(tmp_path):
    building(tmp_path / "gibson" / "a.glb")
    names = ("gibson/a.glb", "data/scene_datasets/gibson/a.glb", "./data/scene_datasets/gibson/a.glb")
    put_episodes(
        tmp_path / "val" / "val.json.gz", *(raw("0", name, start=(1 + k, 0, 1)) for k, name in enumerate(names))
    )
    (place,) = scans(None, str(tmp_path), "val", 9, 0, BODY, ScanSettings(scenes_dir=str(tmp_path)))
    assert [e.episode_id for e in place.episodes] == ["0", "0 (2)", "0 (3)"]
    assert len(pictures(tmp_path, [place])) == 3


def test_two_scenes_of_one_file_name_stay_two(tmp_path):
    for folder in ("gibson", "mp3d"):
        building(tmp_path / folder / "a.glb")
    put_episodes(tmp_path / "val" / "val.json.gz", raw("0", "gibson/a.glb"), raw("0", "mp3d/a.glb", start=(5, 0, 1)))
    places = scans(None, str(tmp_path), "val", 9, 0, BODY, ScanSettings(scenes_dir=str(tmp_path)))
    assert len({place.name for place in places}) == 2
    assert len(pictures(tmp_path, places)) == 2


def test_names_are_made_distinct_without_meeting_others():
    assert distinct(["a", "a", "a (2)", "b", "a"]) == ["a", "a (3)", "a (2)", "b", "a (4)"]
    assert scene_name("data\\scene_datasets\\x\\Hall.GLB") == "Hall"


def test_the_floor_plan_of_an_upstairs_episode_shows_its_storey(tmp_path):
    """Formerly the union of both storeys, which stairs join."""
    steps = [box(6.0 + 0.3 * k, 6.3 + 0.3 * k, 0, 1.5, 0.0, 0.2 * (k + 1)) for k in range(15)]
    parts = [floor(0, 12, 0, 5), *steps, floor(10.5, 16, 0, 5, 3.0)]
    grid = NavGrid.build(scene(parts), radius=0.1)
    below, above = np.array([[2.0, 0.0, 2.0], [13.0, 3.0, 3.0]])
    assert grid.island([below])[0] == grid.island([above])[0] >= 0
    (episode,) = read_episodes(put_episodes(tmp_path / "e.json.gz", raw(start=above, goal=(15.0, 3.0, 1.0))))
    place = NavigableScene(dataclasses.replace(scene(parts), name="a"), grid, (episode,))
    plan = place.floor_plan(episode)

    def drawn(point: Any) -> bool:
        column = np.floor((point[[0, 2]] - plan["origin"]) / plan["cell"]).astype(int)
        return bool(plan["navigable"][column[1], column[0]])

    assert drawn(above) and not drawn(below)
    plan = place.floor_plan(dataclasses.replace(episode, start_position=tuple(below), goal_position=(4.0, 0.0, 1.0)))
    assert drawn(below) and not drawn(above)


# -- damaged and hostile ----------------------------------------------------------------------------------------------


def damaged(kind: str) -> bytes:
    whole = gzip.compress(json.dumps({"episodes": [raw(str(i)) for i in range(50)]}).encode())
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    return {
        "flipped": bytes(middle),
        "cut": whole[:-9],
        "empty": b"",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "page": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "deep": gzip.compress(b"[" * 100_000),
        "block type": whole[:10] + b"\x07" + whole[11:],
        "text": gzip.compress("größe".encode("latin-1")),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("flipped", "not a gzipped JSON file"),
        ("cut", "not a gzipped JSON file"),
        ("empty", "it is empty"),
        ("lfs", "it is a Git LFS pointer"),
        ("page", "it is a web page"),
        ("deep", "recursion"),
        ("block type", "not a gzipped JSON file"),
        ("text", "utf-8"),
    ],
)
def test_damaged_gzip_is_one_line(tmp_path, kind, said):
    file = tmp_path / "val.json.gz"
    file.write_bytes(damaged(kind))
    with pytest.raises(ValueError, match=rf"val\.json\.gz is not a gzipped JSON file: .*{said}|{said}") as caught:
        read_episodes(file)
    assert "\n" not in str(caught.value)
    assert [found.state for found in findings.check_split(file, None)] == [MISSING]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_position": [10**400, 0, 0]}, "start_position must be 3 finite numbers"),
        ({"start_position": [1e300, 0, 0]}, "start_position must be 3 finite numbers"),
        ({"start_position": [True, 0, 0]}, "start_position must be 3 finite numbers"),
        ({"start_position": [[[[[[[0]]]]]]] * 1000}, "start_position must be 3 finite numbers"),
        ({"start_rotation": [1e308, 1e308, 0, 0]}, "start_rotation must be 4 finite numbers"),
        ({"goals": [{"position": [0, 1e9, 0]}]}, "goal position must be 3 finite numbers"),
        ({"goals": [{"position": [0, 0, 0], "radius": "0.2"}]}, "goal radius cannot be '0.2'"),
        ({"goals": {"position": [0, 0, 0]}}, "exactly one goal"),
        ({"episode_id": [1]}, "episode_id cannot be"),
        ({"scene_id": 3}, "scene_id cannot be 3"),
        ({"scene_id": None}, "scene_id cannot be None"),
        ({"info": [1]}, "info cannot be"),
    ],
)
def test_huge_numbers_and_wrong_types_are_one_line(tmp_path, change, said):
    file = put_episodes(tmp_path / "val.json.gz", raw(), {**raw(), **change})
    with pytest.raises(ValueError, match=said) as caught:
        read_episodes(file)
    assert "episode 1" in str(caught.value) and len(str(caught.value)) < 400


def test_a_wrong_template_of_content_files_is_one_line(tmp_path):
    for template in (3, "content/*.json.gz", None):
        file = put_episodes(tmp_path / "val.json.gz", raw(), content_scenes_path=template)
        with pytest.raises(ValueError, match=r"content_scenes_path is .*no '\{scene\}'"):
            read_episodes(file)


def test_a_datasets_name_of_another_type_is_passed_over(tmp_path):
    building(tmp_path / "a.glb")
    put_episodes(tmp_path / "val" / "val.json.gz", {**raw(), "scene_dataset_config": ["x"]})
    (place,) = scans(None, str(tmp_path), "val", 9, 0, BODY, ScanSettings(scenes_dir=str(tmp_path)))
    assert len(place.episodes) == 1


def test_a_gzip_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(read_gzip, "__defaults__", (1000, False))
    file = put_episodes(tmp_path / "val.json.gz", *(raw(str(i)) for i in range(50)))
    with pytest.raises(ValueError, match="holds more than"):
        read_episodes(file)
