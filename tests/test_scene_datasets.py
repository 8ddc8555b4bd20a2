from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from gltf_files import TRIANGLE, Gltf
from habitat_rooms import put_episodes
from navmesh_files import save, strips, tile
from shapes import floor, room, scene

from envs.pointnav.scene_episodes import AgentConfig
from envs.scans.loading import load_assets, load_scene
from envs.scans.scene_datasets import SceneDataset, compose_file, placement
from envs.scans.source import ScanSettings, load_scan
from envs.sources.scans import scans

BODY = {"radius": 0.1, "height": 1.5, "climb": 0.2, "max_slope": 45.0}
HALF = math.sqrt(0.5)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def mesh(path, positions=TRIANGLE, **node):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Gltf()
    indices = np.arange(len(positions))
    return file.alone(file.part(positions=np.asarray(positions, np.float32), indices=indices), **node).save(path)


def building(path, z_up=False):
    """A 6 x 4 m room as a .glb, Y-up or Z-up."""
    parts = scene(room(0, 6, 0, 4))
    soup = parts.vertices[parts.faces].reshape(-1, 3)
    return mesh(path, soup[:, [0, 2, 1]] * [1, -1, 1] if z_up else soup)


@pytest.fixture
def dataset(tmp_path):
    """A dataset laid out as ReplicaCAD: configs in folders, wildcards, own entries, a scene."""
    root = tmp_path / "replica"
    mesh(root / "stages" / "flat.glb", TRIANGLE * 10)
    mesh(root / "objects" / "chair" / "chair.glb", TRIANGLE + np.array([1, 1, 1]))
    mesh(root / "objects" / "lamp" / "lamp.glb")
    write(
        root / "configs" / "stages" / "flat.stage_config.json",
        {"render_asset": "../../stages/flat.glb", "up": [0, 1, 0], "front": [0, 0, -1]},
    )
    chair = {"render_asset": "../../../objects/chair/chair.glb", "scale": [2, 2, 2]}
    write(root / "configs" / "objects" / "chair" / "chair.object_config.json", chair)
    write(
        root / "configs" / "objects" / "lamp" / "lamp.object_config.json",
        {"render_asset": "../../../objects/lamp/lamp.glb"},
    )
    config = {
        "stages": {"paths": {".json": ["configs/stages"]}},
        "objects": {
            "default_attributes": {"scale": [3, 3, 3]},
            "paths": {".json": ["configs/objects/*"]},
            "configs": [
                {
                    "original_file": "configs/objects/chair/chair.object_config.json",
                    "template_handle": "tall_chair",
                    "attributes": {"scale": [1, 5, 1]},
                },
                {
                    "template_handle": "own",
                    "attributes": {"render_asset": "objects/lamp/lamp.glb", "scale": [1, 1, 1], "COM": [0, 1, 0]},
                },
            ],
        },
        "scene_instances": {"paths": {".json": ["configs/scenes"]}},
        "navmesh_instances": {"flat_nav": "navmeshes/flat.navmesh"},
    }
    return write(root / "replica.scene_dataset_config.json", config)


def corners(composition):
    made = load_assets(composition.name, composition.assets)
    return [
        made.vertices[made.faces[made.face_instance == n]].reshape(-1, 3) for n in range(made.face_instance.max() + 1)
    ]


def with_scene(dataset, *objects, **more):
    content = {"stage_instance": {"template_name": "stages/flat"}, "object_instances": list(objects), **more}
    write(dataset.parent / "configs" / "scenes" / "apt_0.scene_instance.json", content)
    return SceneDataset.open(dataset)


def test_objects_are_placed_by_translation_rotation_and_scale(dataset):
    opened = with_scene(
        dataset,
        {"template_name": "chair", "translation": [10, 0, 0], "rotation": [HALF, 0, HALF, 0]},
        {"template_name": "objects/lamp/lamp", "translation": [0, 7, 0], "uniform_scale": 2.0},
        {"template_name": "lamp", "non_uniform_scale": [1, 2, 3], "uniform_scale": 0.5},
        {"template_name": "tall_chair"},
        translation_origin="asset_local",
    )
    stage, chair, lamp, flat, tall = corners(opened.compose("apt_0"))
    np.testing.assert_allclose(stage, TRIANGLE * 10)
    # Scaled by its config file, turned by +90 degrees about Y (x becomes -z), then moved.
    local = (TRIANGLE + np.array([1, 1, 1])) * 2
    np.testing.assert_allclose(chair, np.stack([local[:, 2] + 10, local[:, 1], -local[:, 0]], 1), atol=1e-5)
    # The lamp's file says nothing of scale: the dataset's default holds, times the instance's.
    np.testing.assert_allclose(lamp, TRIANGLE * 6 + [0, 7, 0], atol=1e-5)
    np.testing.assert_allclose(flat, TRIANGLE * np.array([1.5, 3.0, 4.5]), atol=1e-5)
    np.testing.assert_allclose(tall, (TRIANGLE + np.array([1, 1, 1])) * [1, 5, 1], atol=1e-5)


def test_translation_origin_is_the_centre_of_mass_unless_asset_local(dataset):
    opened = with_scene(
        dataset,
        {"template_name": "chair", "translation": [10, 0, 0], "rotation": [HALF, 0, HALF, 0]},
        {"template_name": "chair", "translation": [10, 0, 0], "translation_origin": "asset_local"},
        {"template_name": "own", "translation": [0, 5, 0]},
        translation_origin="COM",
    )
    _, centred, local, own = corners(opened.compose("configs/scenes/apt_0.scene_instance.json"))
    # Without a COM in the config it is the middle of the bounding box, which goes to the translation.
    np.testing.assert_allclose((centred.min(0) + centred.max(0)) / 2, [10, 0, 0], atol=1e-5)
    np.testing.assert_allclose(local, (TRIANGLE + np.array([1, 1, 1])) * 2 + [10, 0, 0], atol=1e-5)
    np.testing.assert_allclose(own, TRIANGLE - [0, 1, 0] + [0, 5, 0], atol=1e-5)


def test_stage_instance_and_mirrored_objects(dataset):
    opened = with_scene(
        dataset, {"template_name": "lamp", "non_uniform_scale": [-1, 1, 1], "translation_origin": "asset_local"}
    )
    stage, lamp = corners(opened.compose("apt_0"))
    normal = np.cross(lamp[1] - lamp[0], lamp[2] - lamp[0])
    assert normal[2] > 0  # the front stays in front
    assert lamp[:, 0].min() == -3
    write(
        dataset.parent / "configs" / "scenes" / "apt_0.scene_instance.json",
        {"stage_instance": {"template_name": "flat", "translation": [1, 2, 3]}},
    )
    (stage,) = corners(SceneDataset.open(dataset).compose("apt_0"))
    np.testing.assert_allclose(stage, TRIANGLE * 10 + [1, 2, 3])


def test_scene_files_find_their_dataset_and_stages_are_scenes(dataset):
    with_scene(dataset)
    file = dataset.parent / "configs" / "scenes" / "apt_0.scene_instance.json"
    assert compose_file(file).name == "apt_0"
    stage = SceneDataset.open(dataset).compose("flat")
    assert stage.name == "flat" and len(stage.assets) == 1
    file.unlink()
    assert SceneDataset.open(dataset).scene_names() == ["flat"]


def test_bare_meshes_listed_by_wildcard_are_turned_as_habitat_does(tmp_path):
    mesh(tmp_path / "val" / "00800-X" / "X.basis.glb", [[1, 2, 3], [4, 5, 6], [7, 8, 10]])
    mesh(tmp_path / "val" / "00801-Y" / "Y.basis.glb")
    config = write(tmp_path / "hm3d.scene_dataset_config.json", {"stages": {"paths": {".glb": ["val/*/*.basis.glb"]}}})
    opened = SceneDataset.open(config)
    assert opened.scene_names() == ["X", "Y"]
    for handle in ("X", "val/00800-X/X.basis.glb", "hm3d/val/00800-X/X.basis.glb"):
        np.testing.assert_allclose(corners(opened.compose(handle))[0], [[1, 3, -2], [4, 6, -5], [7, 10, -8]])
    y_up = {
        "stages": {
            "default_attributes": {"up": [0, 1, 0], "front": [0, 0, -1]},
            "paths": {".glb": ["val/*/*.basis.glb"]},
        }
    }
    write(config, y_up)
    np.testing.assert_allclose(corners(SceneDataset.open(config).compose("Y"))[0], TRIANGLE)


def test_articulated_objects_stand_in_their_rest_pose(dataset):
    root = dataset.parent
    mesh(root / "urdf" / "fridge" / "door.glb")
    (root / "urdf" / "fridge" / "fridge.urdf").write_text(
        """<robot name="fridge"><link name="base"/>
        <link name="door"><visual><origin xyz="0 0 1"/><geometry>
        <mesh filename="door.glb" scale="2 2 2"/></geometry></visual></link>
        <joint name="hinge" type="revolute"><parent link="base"/><child link="door"/>
        <origin xyz="5 0 0" rpy="0 0 1.5707963267948966"/></joint></robot>"""
    )
    config = json.loads(dataset.read_text())
    config["articulated_objects"] = {"paths": {".urdf": ["urdf/*/*.urdf"]}}
    write(dataset, config)
    opened = with_scene(dataset, articulated_object_instances=[{"template_name": "fridge", "translation": [0, 1, 0]}])
    _, door = corners(opened.compose("apt_0"))
    local = TRIANGLE * 2 + [0, 0, 1]
    np.testing.assert_allclose(door, np.stack([-local[:, 1] + 5, local[:, 0] + 1, local[:, 2]], 1), atol=1e-5)


@pytest.mark.parametrize(("pose", "warned"), [({"door": 0.5}, True), ([0.0, 0.5], True), ({"door": 0}, False)])
def test_poses_and_navmeshes_that_are_not_taken_over_are_warned_of(dataset, caplog, pose, warned):
    """A door that stands open was drawn closed, and a missing navigation mesh made anew, without a word."""
    (dataset.parent / "fridge.urdf").write_text('<robot name="f"><link name="base"/></robot>')
    config = json.loads(dataset.read_text())
    write(dataset, config | {"articulated_objects": {"paths": {".urdf": ["*.urdf"]}}})
    fridge = {"template_name": "fridge", "initial_joint_pose": pose}
    opened = with_scene(dataset, articulated_object_instances=[fridge], navmesh_instance="absent.navmesh")
    opened.compose("apt_0")
    messages = [record.getMessage() for record in caplog.records]
    assert any("not at its initial_joint_pose" in message for message in messages) == warned
    assert any("names the navigation mesh" in m and "which is not there" in m for m in messages)


def test_unknown_names_and_damaged_files_give_one_clear_line(dataset, tmp_path):
    opened = with_scene(dataset, {"template_name": "chiar"})
    with pytest.raises(ValueError, match=r"has no 'chiar' among its objects; near are chair"):
        opened.compose("apt_0")
    with pytest.raises(ValueError, match=r"scene apt_1 is not in .*did you mean apt_0"):
        opened.compose("apt_1")
    with pytest.raises(FileNotFoundError, match=r"gone\.scene_dataset_config\.json does not exist"):
        SceneDataset.open(tmp_path / "gone.scene_dataset_config.json")
    (tmp_path / "x.scene_dataset_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot read .*x\.scene_dataset_config\.json"):
        SceneDataset.open(tmp_path / "x.scene_dataset_config.json")
    with pytest.raises(ValueError, match="rotation must be four numbers"):
        placement({"rotation": [1, 0, 0]})
    (dataset.parent / "objects" / "chair" / "chair.glb").unlink()
    composition = with_scene(dataset, {"template_name": "chair"}).compose("apt_0")
    with pytest.raises(FileNotFoundError, match=r"chair\.glb of scene apt_0 does not exist"):
        load_assets(composition.name, composition.assets)


# -- which way is up --------------------------------------------------------------------------------------------------


def test_a_bare_file_is_y_up_unless_asked_otherwise(tmp_path):
    points = [[1, 2, 3], [4, 5, 6], [7, 8, 10]]
    path = mesh(tmp_path / "a.glb", points)
    turned = [[1, 3, -2], [4, 6, -5], [7, 10, -8]]
    for up, expected in (("auto", points), ("y", points), ("z", turned), ("habitat", turned)):
        np.testing.assert_allclose(load_scene(path, up=up).vertices, expected)


@pytest.mark.parametrize("up", ["auto", "habitat"])
def test_a_stage_config_beside_the_file_is_obeyed(tmp_path, up):
    path = mesh(tmp_path / "a.glb", [[1, 2, 3], [4, 5, 6], [7, 8, 10]])
    config = tmp_path / "a.stage_config.json"
    for content, expected in (
        ({"up": [0, 1, 0], "front": [0, 0, -1]}, [1, 2, 3]),
        ({"up": [0, 0, 1], "front": [0, 1, 0]}, [1, 3, -2]),
        ({"up": [0, 0, 1], "front": [1, 0, 0]}, [-2, 3, -1]),
        ({}, [1, 3, -2]),  # Habitat's default for a .glb
        ({"render_asset": "a.glb", "up": [0, 1, 0], "front": [0, 0, -1], "scale": [2, 3, 4]}, [2, 6, 12]),
    ):
        write(config, content)
        np.testing.assert_allclose(load_scene(path, up=up).vertices[0], expected, atol=1e-6)
    mesh(tmp_path / "other.glb", [[9, 9, 9], [1, 0, 0], [0, 1, 0]])
    write(config, {"render_asset": "other.glb", "up": [0, 1, 0], "front": [0, 0, -1]})
    np.testing.assert_allclose(load_scene(path, up=up).vertices[0], [9, 9, 9])
    write(config, {"up": [0, 1, 0], "front": [0, 1, 0]})
    with pytest.raises(ValueError, match="must be perpendicular"):
        load_scene(path, up=up)
    write(config, {"render_asset": "/.glb"})
    with pytest.raises(ValueError, match=r"the render_asset '/\.glb', which does not end as a mesh does"):
        load_scene(path, up=up)


@pytest.mark.parametrize("z_up", [False, True])
def test_a_navmesh_tells_which_way_is_up_and_where_to_walk(tmp_path, z_up, caplog):
    path = building(tmp_path / "flat.glb", z_up)
    save(tmp_path / "flat.navmesh", tile(*strips([(0.1, 3.0, 0.1, 3.9, 0.1)])))
    with caplog.at_level(logging.INFO, logger="envs.scans.source"):
        made, grid = load_scan(str(path), ScanSettings(), **BODY)
    np.testing.assert_allclose(np.ptp(made.vertices, axis=0), [6.2, 2.5, 4.2], atol=1e-5)
    assert "walking on flat.navmesh, for an agent of radius 0.1 m" in caplog.text
    assert grid.island_areas == pytest.approx([2.9 * 3.8])
    # Half the room is not on the navigation mesh, but is floor of the mesh.
    assert grid.is_navigable([[1, 0.1, 3], [5, 0, 3]]).tolist() == [True, False]
    _, same = load_scan(str(path), ScanSettings(navmesh="match"), **BODY)
    assert same.island_areas == pytest.approx(grid.island_areas)
    _, wider = load_scan(str(path), ScanSettings(navmesh="match"), **(BODY | {"radius": 0.2}))
    assert wider.radius == 0.2 and wider.is_navigable([[5, 0, 3]]).all()
    up = "z" if z_up else "y"
    _, own = load_scan(str(path), ScanSettings(navmesh="none", up=up), **BODY)
    assert own.is_navigable([[5, 0, 3]]).all()


def test_distances_as_habitat_sim_has_them_need_a_navmesh(tmp_path):
    path = building(tmp_path / "flat.glb")
    told = ScanSettings(geodesic="detour", up="y")
    with pytest.raises(ValueError, match=r"env\.geodesic=detour needs a navigation mesh, but scene .* has none"):
        load_scan(str(path), told, **BODY)
    save(tmp_path / "flat.navmesh", tile(*strips([(0.1, 3.0, 0.1, 3.9, 0.1)])))
    _, grid = load_scan(str(path), told, **BODY)
    assert grid.geodesic == "detour"
    for other, reason in (("none", "takes no .navmesh"), ("match", "is for an agent of radius 0.1 m")):
        with pytest.raises(ValueError, match=reason):
            load_scan(str(path), replace(told, navmesh=other), **(BODY | {"radius": 0.2}))


def test_a_navmesh_of_another_scene_is_refused(tmp_path):
    path = building(tmp_path / "flat.glb")
    save(tmp_path / "flat.navmesh", tile(*strips([(20, 25, 0, 2, 0.0)])))
    with pytest.raises(ValueError, match=r"flat\.navmesh reaches 1[89]\.\d m beyond the mesh"):
        load_scan(str(path), ScanSettings(), **BODY)


def test_a_dataset_scene_with_its_navmesh(dataset):
    parts = scene([floor(0, 6, 0, 4)])
    mesh(dataset.parent / "stages" / "flat.glb", parts.vertices[parts.faces].reshape(-1, 3))
    with_scene(dataset, navmesh_instance="flat_nav")
    settings = ScanSettings(dataset=str(dataset))
    made, grid = load_scan("apt_0", settings, **BODY)
    assert made.name == "apt_0" and grid.island_areas[0] == pytest.approx(5.8 * 3.8, rel=0.05)
    (dataset.parent / "navmeshes").mkdir()
    save(dataset.parent / "navmeshes" / "flat.navmesh", tile(*strips([(1, 3, 1, 3, 0.0)])))
    _, grid = load_scan("apt_0", settings, **BODY)
    assert grid.island_areas == pytest.approx([4.0])


def test_episodes_may_name_their_dataset(tmp_path):
    root = tmp_path / "scene_datasets"
    building(root / "hm3d" / "val" / "00800-X" / "X.basis.glb", z_up=True)
    # The dataset lists another scene; Habitat takes X with the defaults of its stages.
    config = {"stages": {"paths": {".glb": ["train/*/*.basis.glb"]}}}
    write(root / "hm3d" / "hm3d_basis.scene_dataset_config.json", config)
    scene_id = "hm3d/val/00800-X/X.basis.glb"
    episode = {
        "episode_id": "0",
        "scene_id": scene_id,
        "scene_dataset_config": "./data/scene_datasets/hm3d/hm3d_basis.scene_dataset_config.json",
        "start_position": [1.0, 0.0, 1.0],
        "start_rotation": [0, 0, 0, 1],
        "goals": [{"position": [5.0, 0.0, 3.0], "radius": None}],
    }
    file = put_episodes(tmp_path / "val.json.gz", episode)
    (place,) = scans(None, str(file), "val", 1, 0, AgentConfig(), ScanSettings(scenes_dir=str(root)))
    np.testing.assert_allclose(np.ptp(place.scene.vertices, axis=0), [6.2, 2.5, 4.2], atol=1e-5)
