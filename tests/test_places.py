from __future__ import annotations

import gzip
import json
import logging

import numpy as np
import pytest
from experts import expert_records
from gltf_files import Gltf
from houses import write_house
from shapes import furnished, room, scene

from envs.pointnav.episodes import generate_episodes, read_episodes, write_episodes
from envs.pointnav.scene_episodes import AgentConfig
from envs.scans.source import ScanSettings, locate_scene
from envs.sources.apartments import apartments
from envs.sources.scans import Generation, scans

BODY = AgentConfig(radius=0.1)
FEW = Generation(goals=4, max_distance=8.0)


def building(path, parts):
    made = scene(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    soup = made.vertices[made.faces].reshape(-1, 3)
    file = Gltf()
    return file.alone(file.part(positions=soup, indices=np.arange(len(soup)))).save(path)


@pytest.fixture(scope="module")
def gibson(tmp_path_factory):
    """Two scenes with episodes laid out as Gibson's: an empty file per split and one file per scene in ``content``."""
    root = tmp_path_factory.mktemp("data")
    for name, parts in (("Aloha", room(0, 6, 0, 5)), ("Bolton", furnished(1))):
        file = building(root / "scene_datasets" / "gibson" / f"{name}.glb", parts)
        (place,) = scans(str(file), None, "val", 12, 0, BODY, generation=FEW)
        scene_id = f"data/scene_datasets/gibson/{name}.glb"
        made = [e.__class__(**{**vars(e), "scene_id": scene_id}) for e in place.episodes]
        write_episodes(root / "episodes" / "val" / "content" / f"{name}.json.gz", made)
    empty = {"episodes": [], "content_scenes_path": "{data_path}/content/{scene}.json.gz"}
    (root / "episodes" / "val" / "val.json.gz").write_bytes(gzip.compress(json.dumps(empty).encode()))
    return root


def test_all_scenes_of_a_content_folder_are_loaded(gibson):
    settings = ScanSettings(scenes_dir=str(gibson / "scene_datasets"))
    places = scans(None, str(gibson / "episodes"), "val", 99, 0, BODY, settings)
    assert [p.scene.name.rsplit("/", 1)[1] for p in places] == ["Aloha.glb", "Bolton.glb"]
    assert [len(p.episodes) for p in places] == [12, 12]
    (only,) = scans(None, str(gibson / "episodes"), "val", 99, 0, BODY, settings, scenes=["Bolton"])
    assert only.scene.name.endswith("Bolton.glb")
    (same,) = scans(None, str(gibson / "episodes"), "val", 99, 0, BODY, settings, scenes="Bolton")
    assert same.episodes == only.episodes
    # One scene by its file, wherever it lies.
    file = gibson / "scene_datasets" / "gibson" / "Aloha.glb"
    (one,) = scans(str(file), str(gibson / "episodes"), "val", 99, 0, BODY)
    assert one.episodes == places[0].episodes


def test_other_scenes_files_are_not_even_opened(gibson, tmp_path):
    root = tmp_path / "val"
    (root / "content").mkdir(parents=True)
    for name in ("Aloha", "Bolton"):
        (root / "content" / f"{name}.json.gz").write_bytes(
            (gibson / "episodes" / "val" / "content" / f"{name}.json.gz").read_bytes() if name == "Aloha" else b"broken"
        )
    (root / "val.json.gz").write_bytes((gibson / "episodes" / "val" / "val.json.gz").read_bytes())
    assert len(read_episodes(root / "val.json.gz", ["gibson/Aloha.glb"])) == 12
    with pytest.raises(ValueError, match="Bolton"):
        read_episodes(root / "val.json.gz")
    with pytest.raises(ValueError, match="holds no episodes in Gone"):
        read_episodes(root / "val.json.gz", ["Gone"])


def test_absent_scenes_say_where_they_were_looked_for(gibson, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"gibson/Aloha\.glb is absent: there is no .* and no .*env\.scenes_dir"
    ) as caught:
        scans(None, str(gibson / "episodes"), "val", 9, 0, BODY, ScanSettings(scenes_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)
    folder = gibson / "scene_datasets"
    for scene_id in (
        "gibson/Aloha.glb",
        "data/scene_datasets/gibson/Aloha.glb",
        "./data/scene_datasets/gibson/Aloha.glb",
    ):
        assert locate_scene(scene_id, str(folder)) == folder / "gibson" / "Aloha.glb"
    with pytest.raises(ValueError, match=r"needs env\.scene=FILE, or env\.episodes=FOLDER"):
        scans(None, None, "val", 9, 0, BODY)
    with pytest.raises(FileNotFoundError, match=r"val\.json\.gz does not exist"):
        scans(None, str(tmp_path), "val", 9, 0, BODY)
    with pytest.raises(ValueError, match="neither a file that ends in"):
        scans("apt_0", None, "val", 9, 0, BODY)


def test_episodes_off_the_floor_are_refused_or_left_out(gibson, tmp_path, caplog):
    file = gibson / "scene_datasets" / "gibson" / "Aloha.glb"
    made = read_episodes(gibson / "episodes" / "val" / "val.json.gz", ["Aloha"])
    away = made[3].__class__(**{**vars(made[3]), "start_position": (40.0, 0.0, 1.0)})
    write_episodes(tmp_path / "one.json.gz", [*made[:3], away, *made[4:]])
    with pytest.raises(
        ValueError, match=r"one\.json\.gz: episode 3 of scene .*Aloha\.glb: start \[40.0, 0.0, 1.0\] is off the floor"
    ) as caught:
        scans(str(file), str(tmp_path / "one.json.gz"), "val", 9, 0, BODY)
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING, logger="envs.sources.scans"):
        (place,) = scans(str(file), str(tmp_path / "one.json.gz"), "val", 9, 0, BODY, unfit="skip")
    assert len(place.episodes) == 11 and away not in place.episodes
    assert "1 of 12 episodes are off the floor and left out" in caplog.text
    with pytest.raises(ValueError, match=r"env\.unfit=no: choose error or skip"):
        scans(str(file), None, "val", 9, 0, BODY, unfit="no")


def test_generated_episodes_are_kept_and_follow_habitats_rule(tmp_path):
    file = building(tmp_path / "flat.glb", furnished(2))
    wanted = Generation(goals=12, min_distance=1.0, max_distance=30.0)
    (place,) = scans(str(file), str(tmp_path / "episodes"), "train", 300, 5, BODY, generation=wanted)
    kept = read_episodes(tmp_path / "episodes" / "train" / "train.json.gz")
    assert tuple(kept) == place.episodes and kept[0].scene_id == "flat.glb"
    (again,) = scans(str(file), str(tmp_path / "episodes"), "train", 1, 6, BODY, generation=wanted)
    assert again.episodes == place.episodes
    grid = place.grid
    lengths = np.array([(e.info or {})["geodesic_distance"] for e in kept])
    apart = np.array([np.linalg.norm(np.subtract(e.start_position, e.goal_position)) for e in kept])
    assert lengths.min() >= 1.0 and lengths.max() > 12.0
    assert len({e.goal_position for e in kept}) == 12
    # Habitat-Lab keeps a straight episode with probability 20 (ratio - 0.98)^2: compare with all candidates.
    rng = np.random.default_rng(0)
    goals = grid.sample(rng, 12)
    starts = grid.sample(rng, 400)
    ways = np.concatenate([grid.distance(grid.field(g), starts) for g in goals])
    lines = np.concatenate([np.linalg.norm(starts - g, axis=1) for g in goals])
    fits = np.isfinite(ways) & (ways >= 1.0)
    ratio = ways[fits] / lines[fits]
    chance = np.where(ratio < 1.1, 20 * (ratio - 0.98) ** 2, 1.0)
    expected = chance[ratio < 1.1].sum() / chance.sum()
    assert (lengths / apart < 1.1).mean() == pytest.approx(expected, abs=0.06)
    assert (ratio < 1.1).mean() > 2 * expected


def test_a_distance_range_that_is_none_is_refused(gibson):
    file = gibson / "scene_datasets" / "gibson" / "Aloha.glb"
    (place,) = scans(str(file), None, "val", 4, 0, BODY, generation=FEW)
    with pytest.raises(ValueError, match="are no range"):
        generate_episodes("s", place.grid, 4, 0, min_distance=5.0, max_distance=2.0)
    with pytest.raises(ValueError, match="goals must be between 1"):
        Generation(goals=0)
    with pytest.raises(ValueError, match="must be less than"):
        Generation(min_distance=9.0, max_distance=3.0)


@pytest.mark.parametrize("where", ["house", "apartments"])
def test_the_expert_solves_generated_episodes_on_nearly_shortest_paths(where, tmp_path):
    if where == "house":
        file = write_house(tmp_path / "house.glb")
        places = scans(str(file), None, "val", 150, 0, AgentConfig(), generation=Generation(goals=15))
    else:
        places = apartments("val", 3, 50, 0, AgentConfig())
    records = expert_records(places, 50)
    assert len(records) == 150
    assert np.mean([r["success"] for r in records]) >= 0.99
    assert np.mean([r["spl"] for r in records]) >= 0.95
