"""What is fuzzed: for every kind of input a whole one, how it is changed, and what reads it."""

from __future__ import annotations

import copy
import gzip
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import navmesh_files  # noqa: E402
from gltf_files import Gltf, png, textured  # noqa: E402
from shapes import box, furnished, room  # noqa: E402
from shapes import scene as shape_scene  # noqa: E402

from adapt import load as load_tasks  # noqa: E402
from adapt import load_base, wrap  # noqa: E402
from adapt.benchmarks.benchmark import build_benchmark  # noqa: E402
from adapt.core.base import random_base, save_base  # noqa: E402
from adapt.datasets.decathlon import read_annotations  # noqa: E402
from adapt.datasets.images import read_image  # noqa: E402
from adapt.datasets.own import array_set  # noqa: E402
from adapt.datasets.squad import questions, read_articles  # noqa: E402
from adapt.datasets.voc import sbd_label, voc_label  # noqa: E402
from adapt.pretraining.data import TaskonomyViews  # noqa: E402
from adapt.pretraining.decoders import Decoders, TaskDecoder, build_decoder, load_decoders, save_decoders  # noqa: E402
from adapt.training.run import Run  # noqa: E402
from adapt.training.weight_files import read_state  # noqa: E402
from agents.evaluate import load_policy  # noqa: E402
from agents.learners.frames import FrameStore  # noqa: E402
from agents.reports.results import read_results  # noqa: E402
from agents.setup import make_policy, make_rules, make_scenes, make_visual_encoder  # noqa: E402
from configs.compose import compose  # noqa: E402
from envs.pointnav.scene_episodes import AgentConfig  # noqa: E402
from envs.rendering.renderer import Camera, EmbreeRenderer  # noqa: E402
from envs.scans.images import decode_image  # noqa: E402
from envs.scans.source import ScanSettings, load_scan  # noqa: E402
from envs.sources.findings import check_split  # noqa: E402
from envs.sources.scans import Generation, scans  # noqa: E402
from tests.tools.mutations import (  # noqa: E402
    FLOATS,
    INTEGERS,
    TEXTS,
    Rng,
    changed_array,
    changed_bytes,
    changed_text,
    changed_value,
    hostile_pickles,
    pick,
)

BODY = (0.1, 1.5, 0.2, 45.0)
CANARY = "canary"
TINY = [
    "env=apartments", "env.agents=2", "env.camera.size=32", "env.splits.train={scenes: 1, episodes_per_scene: 2}",
    "base=random", "adapt.width=0.25", "policy.hidden=[8]", "device=cpu",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: What it is.
        called: How a message may name it, other than by its folder.
        make: Writes an input into an empty folder; changed by the generator, or whole with None.
        read: Reads the input of a folder as the commands do.
    """

    name: str
    make: Callable[[Path, Rng | None], None]
    read: Callable[[Path], object]
    called: str = ""


def _hostile(folder: Path, rng: Rng) -> bytes:
    """Now and then a pickle that leaves a trace when it runs, a pointer of Git LFS, or a web page; mostly nothing."""
    if rng.random() >= 0.06:
        return b""
    others = [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"<!DOCTYPE html><html></html>",
        b" ",
    ]
    return bytes(pick(rng, [*hostile_pickles(str(folder / CANARY)), *others]))


# -- meshes -----------------------------------------------------------------------------------------------------------


@cache
def _gltf() -> Gltf:
    """A furnished room with a texture, vertex colours, two nodes and an index buffer."""
    made = shape_scene([*room(0, 6, 0, 5), box(2, 3, 2, 3, 0, 0.8)])
    file = Gltf()
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    file.put("images", {"bufferView": file.view(png(image)), "mimeType": "image/png"})
    file.put("textures", {"source": 0, "sampler": 0}).put("samplers", {"wrapS": 33071})
    file.put("materials", textured(0, (1.0, 0.5, 0.5, 1.0)), {"alphaMode": "MASK", "doubleSided": True})
    count = len(made.vertices)
    uv = np.random.default_rng(1).random((count, 2)).astype(np.float32)
    color = np.full((count, 4), 200, np.uint8)
    parts = [
        file.part(0, uv, color, made.vertices, made.faces.ravel().astype(np.uint16)),
        file.part(1, positions=made.vertices[:3], indices=None, mode=5),
    ]
    file.put("meshes", {"primitives": parts})
    file.put("nodes", {"mesh": 0, "children": [1]}, {"mesh": 0, "translation": [0, 0.0, 0], "scale": [1, 1, 1]})
    return file


def _make_glb(folder: Path, rng: Rng | None) -> None:
    file = copy.deepcopy(_gltf())
    if rng is not None and rng.random() < 0.6:
        file.header = changed_value(rng, file.header)
    try:
        file.save(folder / "a.glb")
    except (TypeError, ValueError, AttributeError):  # a header that is no object any more
        (folder / "a.glb").write_bytes(b"glTF" + json.dumps(file.header).encode())
        return
    if rng is not None and rng.random() < 0.5:
        whole = (folder / "a.glb").read_bytes()
        (folder / "a.glb").write_bytes(_hostile(folder, rng) or changed_bytes(rng, whole))


def _make_gltf(folder: Path, rng: Rng | None) -> None:
    file = copy.deepcopy(_gltf())
    (folder / "a.bin").write_bytes(file.blob if rng is None or rng.random() < 0.7 else changed_bytes(rng, file.blob))
    header = file.header | {"buffers": [{"byteLength": len(file.blob), "uri": "a.bin"}]}
    (folder / "a.gltf").write_text(json.dumps(header if rng is None else changed_value(rng, header)))


def _make_obj(folder: Path, rng: Rng | None) -> None:
    made = shape_scene([*room(0, 6, 0, 5), box(2, 3, 2, 3, 0, 0.8)])
    lines = ["mtllib a.mtl", *(f"v {x:g} {y:g} {z:g}" for x, y, z in made.vertices), "vt 0 0", "vt 1 0", "vt 1 1"]
    lines += ["usemtl wood", *(f"f {a + 1}/1 {b + 1}/2 {c + 1}/3" for a, b, c in made.faces)]
    mtl = "newmtl wood\nKd 0.5 0.5 0.5\nmap_Kd -s 2 2 1 a.png\nnewmtl other\nKd 1 0 0"
    image = png(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    obj = "\n".join(lines)
    if rng is not None:
        which = rng.random()
        obj = changed_text(rng, obj) if which < 0.6 else obj
        mtl = changed_text(rng, mtl) if 0.4 < which < 0.85 else mtl
        image = changed_bytes(rng, image) if which > 0.8 else image
    (folder / "a.obj").write_text(obj, errors="surrogateescape" if rng is None else "replace")
    (folder / "a.mtl").write_text(mtl, errors="replace")
    (folder / "a.png").write_bytes(image)
    if rng is not None and rng.random() < 0.15:
        (folder / "a.obj").write_bytes(changed_bytes(rng, (folder / "a.obj").read_bytes()))


def _make_ply(binary: bool) -> Callable[[Path, Rng | None], None]:
    def make(folder: Path, rng: Rng | None) -> None:
        made = shape_scene([*room(0, 6, 0, 5), box(2, 3, 2, 3, 0, 0.8)])
        header = ["ply", f"format {'binary_little_endian' if binary else 'ascii'} 1.0", "comment TextureFile a.png"]
        header += [f"element vertex {len(made.vertices)}", *(f"property float {n}" for n in ("x", "y", "z", "s", "t"))]
        header += [
            "property uchar red",
            "property uchar green",
            "property uchar blue",
            f"element face {len(made.faces)}",
        ]
        text = "\n".join([*header, "property list uchar int vertex_indices", "end_header", ""])
        if rng is not None and rng.random() < 0.4:
            text = changed_text(rng, text, 2)
        if binary:
            kind = np.dtype([("p", "<f4", 5), ("c", "u1", 3)])
            vertices = np.zeros(len(made.vertices), kind)
            vertices["p"][:, :3], vertices["c"] = made.vertices, 200
            faces = np.zeros(len(made.faces), np.dtype([("n", "u1"), ("i", "<i4", 3)]))
            faces["n"], faces["i"] = 3, made.faces
            body = vertices.tobytes() + faces.tobytes()
            body = body if rng is None else changed_bytes(rng, body)
        else:
            rows = [f"{x:g} {y:g} {z:g} 0 0 200 200 200" for x, y, z in made.vertices]
            rows += [f"3 {a} {b} {c}" for a, b, c in made.faces]
            body = ("\n".join(rows) if rng is None else changed_text(rng, "\n".join(rows))).encode("utf-8", "replace")
        (folder / "a.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
        (folder / "a.ply").write_bytes(text.encode("utf-8", "replace") + body)

    return make


def _read_mesh(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        made, grid = load_scan(str(folder / name), ScanSettings(), *BODY)
        spot = grid.sample(np.random.default_rng(0), 1)
        return EmbreeRenderer([made]).render([0], spot, [0.0], Camera(8))

    return read


@cache
def _plain_room() -> bytes:
    made = shape_scene(room(0, 6, 0, 5))
    file = Gltf()
    folder = Path(__import__("tempfile").mkdtemp())
    try:
        soup = made.vertices[made.faces].reshape(-1, 3)
        return file.alone(file.part(positions=soup, indices=np.arange(len(soup)))).save(folder / "a.glb").read_bytes()
    finally:
        shutil.rmtree(folder)


def _make_stage(folder: Path, rng: Rng | None) -> None:
    (folder / "a.glb").write_bytes(_plain_room())
    stage = {
        "up": [0, 1, 0],
        "front": [0, 0, -1],
        "scale": [1, 1, 1],
        "render_asset": "a.glb",
        "nav_asset": "a.navmesh",
    }
    (folder / "a.stage_config.json").write_text(json.dumps(stage if rng is None else changed_value(rng, stage)))


def _make_navmesh(folder: Path, rng: Rng | None) -> None:
    (folder / "a.glb").write_bytes(_plain_room())
    floor = navmesh_files.strips([(1, 3, 1, 4, 0), (3, 5, 1, 4, 0)])
    file = navmesh_files.save(folder / "a.navmesh", navmesh_files.tile(*floor))
    if rng is not None:
        file.write_bytes(_hostile(folder, rng) or changed_bytes(rng, file.read_bytes()))


# -- scene datasets and episodes --------------------------------------------------------------------------------------


def _make_dataset(folder: Path, rng: Rng | None) -> None:
    (folder / "a.glb").write_bytes(_plain_room())
    (folder / "box.urdf").write_text(
        '<robot name="r"><link name="l"><visual><origin xyz="0 0 0" rpy="0 0 0"/><geometry>'
        '<mesh filename="a.glb" scale="1 1 1"/></geometry></visual></link></robot>'
    )
    config = {
        "stages": {"default_attributes": {"up": [0, 1, 0], "front": [0, 0, -1]}, "paths": {".glb": ["."]},
                   "configs": [{"original_file": "a.glb", "template_handle": "hall", "attributes": {"scale": 1.0}}]},
        "objects": {"paths": {".glb": ["*"]}, "configs": [{"template_handle": "chair",
                    "attributes": {"render_asset": "a.glb", "COM": [0, 0, 0], "scale": [0.1, 0.1, 0.1]}}]},
        "articulated_objects": {"paths": {".urdf": ["."]}},
        "scene_instances": {"paths": {".json": ["."]}},
        "navmesh_instances": {"walk": "a.navmesh"},
    }  # fmt: skip
    place = {"rotation": [1, 0, 0, 0], "translation": [2, 0, 2], "uniform_scale": 1.0}
    scene = {
        "stage_instance": {"template_name": "hall"}, "translation_origin": "asset_local",
        "object_instances": [{"template_name": "chair", **place, "non_uniform_scale": [1, 1, 1]}],
        "articulated_object_instances": [{"template_name": "box", **place, "uniform_scale": 0.05}],
        "navmesh_instance": "walk",
    }  # fmt: skip
    if rng is not None:
        which = rng.random()
        config = changed_value(rng, config) if which < 0.6 else config
        scene = changed_value(rng, scene) if which > 0.4 else scene
        if which > 0.9:
            file = folder / "box.urdf"
            file.write_text(changed_text(rng, file.read_text().replace(">", ">\n")), errors="replace")
    (folder / "x.scene_dataset_config.json").write_text(json.dumps(config))
    (folder / "flat.scene_instance.json").write_text(json.dumps(scene))


def _read_dataset(folder: Path) -> object:
    return load_scan("flat", ScanSettings(dataset=str(folder / "x.scene_dataset_config.json")), *BODY)


def _make_episodes(folder: Path, rng: Rng | None) -> None:
    (folder / "a.glb").write_bytes(_plain_room())
    episodes = [
        {"episode_id": str(k), "scene_id": "data/scene_datasets/a.glb", "scene_dataset_config": "default",
         "start_position": [1.0 + k, 0.0, 1.0], "start_rotation": [0, 0, 0, 1], "info": {"geodesic_distance": 3.0},
         "goals": [{"position": [4.0, 0.0, 4.0], "radius": 0.2}], "start_room": None}
        for k in range(3)
    ]  # fmt: skip
    (folder / "val" / "content").mkdir(parents=True)
    whole: Any = {"episodes": episodes, "content_scenes_path": "{data_path}/content/{scene}.json.gz"}
    document = whole if rng is None else changed_value(rng, whole)
    data = gzip.compress(json.dumps(document).encode("utf-8", "surrogatepass"), mtime=0)
    if rng is not None and rng.random() < 0.3:
        data = _hostile(folder, rng) or changed_bytes(rng, data)
    (folder / "val" / "val.json.gz").write_bytes(data)
    if rng is not None and rng.random() < 0.3:
        (folder / "val" / "content" / "b.glb.json.gz").write_bytes(changed_bytes(rng, data))


def _read_episodes(folder: Path) -> object:
    list(check_split(folder / "val" / "val.json.gz", folder))
    settings = ScanSettings(scenes_dir=str(folder))
    few = Generation(goals=1)
    return [
        scans(given, str(folder), "val", 2, 0, AgentConfig(0.1), settings, few)
        for given in (None, str(folder / "a.glb"))
    ]


# -- configs and overrides --------------------------------------------------------------------------------------------

COMMANDS = {
    "train": [*TINY, "run=r"],
    "collect": ["out=o"],
    "evaluate": ["run=r"],
    "render": ["scenes=train:1", "out=o"],
    "doctor": [],
    "supervised": ["run=r", "data=d", "benchmark=icifar"],
    "pretrain": ["task=normal", "data=d", "val=v", "out=o"],
    "report": ["run=r"],
}


@cache
def _keys(command: str) -> list[str]:
    from configs.compose import _keys as keys

    return keys(compose(command, COMMANDS[command]))


def _make_overrides(folder: Path, rng: Rng | None) -> None:
    command = "train" if rng is None or rng.random() < 0.6 else pick(rng, list(COMMANDS))
    words = list(COMMANDS[command])
    if rng is not None:
        for _ in range(int(rng.integers(1, 4))):
            value = str(
                pick(rng, (*INTEGERS, *FLOATS, *TEXTS, "[1,2]", "[a]", "{a: 1}", "true", "apartments", "scans"))
            )
            word = f"{pick(rng, ('', '', '+', '++', '~'))}{pick(rng, _keys(command))}={value}"
            words.append(word if rng.random() < 0.9 else changed_text(rng, word))
    (folder / "words.json").write_text(json.dumps([command, words]))


def _read_overrides(folder: Path) -> object:
    command, words = json.loads((folder / "words.json").read_text())
    cfg = compose(command, words)
    if command != "train":
        return cfg
    make_rules(cfg)
    if cfg.env.name == "apartments" and cfg.env.splits.train.scenes <= 2:
        make_scenes(cfg.env, cfg.env.split, cfg.seed)
    return make_policy(cfg, make_visual_encoder(cfg))


# -- checkpoints, saved tasks, weights --------------------------------------------------------------------------------


@cache
def _run_folder() -> Path:
    """A run with one checkpoint."""
    folder = Path(__import__("tempfile").mkdtemp(prefix="fuzz_run_"))
    cfg = compose("train", [*TINY, f"run={folder}"])
    vision = make_visual_encoder(cfg)
    policy = make_policy(cfg, vision)
    run = Run(folder, cfg, False)
    optimizer = torch.optim.Adam(p for p in policy.parameters() if p.requires_grad)
    run.save(3, vision.base_sha256, {"policy": policy.own_state(), "optimizer": optimizer.state_dict()})
    run.close()
    return folder


def _make_checkpoint(folder: Path, rng: Rng | None) -> None:
    shutil.copytree(_run_folder(), folder / "run")
    (file,) = (folder / "run" / "checkpoints").iterdir()
    if rng is None:
        return
    which = rng.random()
    if which < 0.3:
        file.write_bytes(_hostile(folder, rng) or changed_bytes(rng, file.read_bytes()))
    elif which < 0.8:
        torch.save(changed_value(rng, torch.load(file, weights_only=True)), file)
    else:
        config = folder / "run" / "config.yaml"
        config.write_text(changed_text(rng, config.read_text()), errors="replace")


def _read_checkpoint(folder: Path) -> object:
    return load_policy(folder / "run")


def _make_report(folder: Path, rng: Rng | None) -> None:
    run = folder / "run"
    (run / "eval" / "val").mkdir(parents=True)
    names = ("success", "spl", "soft_spl", "distance_to_goal", "nav_reward", "collisions", "steps")
    numbers = dict.fromkeys((*names, "geodesic_distance", "euclidean_distance"), 1.0)
    records = [{"scene_id": "a", "episode_id": str(k), **numbers, "path": [[0, 0], [1, 1]]} for k in range(3)]
    metrics = [{"step": k, "seconds": 1.0, "train/loss": 0.5} for k in range(3)]
    files = {
        "eval/val/agent.jsonl": "\n".join(map(json.dumps, records)),
        "metrics.jsonl": "\n".join(map(json.dumps, metrics)),
        "versions.json": json.dumps({"command": "c", "seed": 0, "git_commit": "a"}),
        "result.json": json.dumps({"train_seconds": 1.0}),
        "config.yaml": "env: {name: apartments}\nadapt: {name: side_tuning}\n",
    }
    if rng is not None:
        name = pick(rng, list(files))
        files[name] = changed_text(rng, files[name].replace(",", ",\n") if name.endswith(".json") else files[name])
    for name, text in files.items():
        (run / name).write_text(text, errors="replace")


def _read_report(folder: Path) -> object:
    from agents.reports.evaluation import render

    return render(read_results(folder / "run"))


@cache
def _base() -> Any:
    return random_base("fcn3", width=0.25, pool=False) if False else random_base("fcn5", width=0.25)


@cache
def _tasks() -> dict[str, dict[str, bytes]]:
    """Saved folders of a few methods, by method and file name."""
    found = {}
    for method in ("side_tuning", "lora", "piggyback", "residual_adapter", "features", "bn"):
        folder = Path(__import__("tempfile").mkdtemp())
        try:
            wrap(_base(), method, "first", 32).save(folder)
            found[method] = {file.name: file.read_bytes() for file in folder.iterdir()}
        except ValueError:
            continue
        finally:
            shutil.rmtree(folder)
    return found


def _make_tasks(folder: Path, rng: Rng | None) -> None:
    method = "side_tuning" if rng is None else pick(rng, list(_tasks()))
    saved = folder / "adapter"
    saved.mkdir()
    for name, data in _tasks()[method].items():
        (saved / name).write_bytes(data)
    if rng is None:
        return
    header = json.loads((saved / "adapter.json").read_text())
    which = rng.random()
    if which < 0.5:
        header = changed_value(rng, header)
    else:
        import hashlib

        file = saved / header["tasks"][0]["file"]
        data = file.read_bytes()
        if which < 0.75:
            changed = changed_value(rng, load_tensors(data))
            items = changed.items() if isinstance(changed, dict) else ()
            data = save_tensors({str(k): v.clone().contiguous() for k, v in items if isinstance(v, torch.Tensor)})
        else:
            data = _hostile(folder, rng) or changed_bytes(rng, data)
        file.write_bytes(data)
        if rng.random() < 0.8:  # else its digest tells
            header["tasks"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    (saved / "adapter.json").write_text(json.dumps(header))


def _read_tasks(folder: Path) -> object:
    loaded = load_tasks(_base(), folder / "adapter")
    return loaded(image=torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@cache
def _base_file() -> bytes:
    folder = Path(__import__("tempfile").mkdtemp())
    try:
        save_base(_base(), folder / "b.safetensors")
        return (folder / "b.safetensors").read_bytes()
    finally:
        shutil.rmtree(folder)


def _with_header(data: bytes, change: Callable[[Any], Any], key: str) -> bytes:
    """A safetensors file whose description is changed."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    metadata["spec"] = json.dumps(change(json.loads(metadata["spec"])))
    return save_tensors(load_tensors(data), {**metadata, key: "1"})


def _make_base(folder: Path, rng: Rng | None) -> None:
    data = _base_file()
    if rng is not None and rng.random() < 0.6:
        data = _with_header(data, lambda spec: _changed_spec(folder, rng, spec), "sidestep_base")
    elif rng is not None:
        data = _hostile(folder, rng) or changed_bytes(rng, data)
    (folder / "b.safetensors").write_bytes(data)


def _changed_spec(folder: Path, rng: Rng, spec: dict[str, Any]) -> Any:
    """A description with another encoder or settings, among them those that would load a pickle."""
    if rng.random() < 0.5:
        file = folder / "evil.pth"
        file.write_bytes(pick(rng, hostile_pickles(str(folder / CANARY))))
        spec["encoder"] = pick(rng, ("fcn3", "fcn5", "resnet26", "timm/resnet10t", "timm/vit_tiny_patch16_224", "bert",
                                     "torchvision/resnet18", f"timm/local-dir:{folder}"))  # fmt: skip
        key = pick(rng, ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "width", "depth", "embed_dim",
                         "pretrained", "weights", "out_channels", "num_hidden_layers", "features_only"))  # fmt: skip
        value = pick(rng, (str(file), {"file": str(file)}, True, 0, -1, 1e6, 10**6, 0.25, "DEFAULT", [1, 2]))
        spec["kwargs"] = {key: value}
    return spec if rng.random() < 0.3 else changed_value(rng, spec)


def _read_base(folder: Path) -> object:
    return load_base(folder / "b.safetensors")


@cache
def _decoders_file() -> bytes:
    folder = Path(__import__("tempfile").mkdtemp())
    blank = torch.zeros(1, 3, 1, 1)
    network = TaskDecoder(build_decoder("light", (8, 4, 4), 3, 16, False, 8), blank, blank + 1)
    try:
        save_decoders(
            Decoders("0" * 64, "light", 8, (8, 4, 4), 16, "taskonomy", {"a": network}), folder / "d.safetensors"
        )
        return (folder / "d.safetensors").read_bytes()
    finally:
        shutil.rmtree(folder)


def _make_decoders(folder: Path, rng: Rng | None) -> None:
    data = _decoders_file()
    if rng is not None:
        data = _with_header(data, lambda spec: changed_value(rng, spec), "sidestep_decoders") if rng.random() < 0.7 else changed_bytes(rng, data)  # fmt: skip # noqa: E501
    (folder / "decoders").mkdir()
    (folder / "decoders" / "b.safetensors").write_bytes(data)


def _make_state(folder: Path, rng: Rng | None) -> None:
    state: Any = {"state_dict": {f"module.{k}": v for k, v in _base().encoder.state_dict().items()}}
    stream = io.BytesIO()
    if rng is not None and rng.random() < 0.5:
        state = changed_value(rng, state)
    torch.save(state, stream, _use_new_zipfile_serialization=rng is None or rng.random() < 0.6)
    data = stream.getvalue()
    if rng is not None and rng.random() < 0.6:
        data = _hostile(folder, rng) or changed_bytes(rng, data)
    (folder / "w.pth").write_bytes(data)


def _read_state(folder: Path) -> object:
    read_state(folder / "w.pth")
    return None


# -- images and packed data -------------------------------------------------------------------------------------------


@cache
def _images() -> dict[str, bytes]:
    """A small picture in every format that users bring."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    found = {}
    for kind in ("png", "jpeg", "webp", "bmp", "gif", "tiff"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        found[kind] = stream.getvalue()
    try:
        from opengl_basisu import encode  # not in all versions

        found["ktx2"] = encode(pixels)
    except ImportError:
        pass
    return found


def _make_image(folder: Path, rng: Rng | None) -> None:
    data = _images()["png" if rng is None else pick(rng, list(_images()))]
    (folder / "a.png").write_bytes(data if rng is None else _hostile(folder, rng) or changed_bytes(rng, data))


def _read_image(folder: Path) -> object:
    problems = []
    for read in (read_image, voc_label, lambda f: decode_image(f.read_bytes(), 64)):
        try:
            read(folder / "a.png")
        except ValueError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return None


def _make_views(folder: Path, rng: Rng | None) -> None:
    for domain, view in (("rgb", 0), ("rgb", 1), ("class_scene", 0), ("class_scene", 1)):
        file = folder / domain / "b" / f"point_0_view_{view}_domain_{domain}.{'png' if domain == 'rgb' else 'npy'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.save(stream, np.zeros(63, np.float32))
        data = _images()["png"] if domain == "rgb" else stream.getvalue()
        file.write_bytes(
            data if rng is None else _hostile(folder, rng) or changed_bytes(rng, data) if rng.random() < 0.5 else data
        )


def _read_views(folder: Path) -> object:
    return TaskonomyViews([folder], ["rgb", "class_scene"]).batch([0, 1])


def _make_pack(folder: Path, rng: Rng | None) -> None:
    source = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 0, 1, 2])
    jpegs = [_images()["jpeg"]] * 6
    members: dict[str, Any] = {
        "y": labels,
        "is_test": labels == 2,
        "domain": labels % 2,
        "domains": np.array(["a", "b"]),
    }
    if rng is None or rng.random() < 0.5:
        members["x"] = source.integers(0, 256, (6, 16, 16, 3), np.uint8)
    else:
        members |= {"blob": np.frombuffer(b"".join(jpegs), np.uint8), "offset": np.cumsum([0, *map(len, jpegs)])}
    if rng is not None and rng.random() < 0.8:
        for _ in range(int(rng.integers(1, 3))):
            name = pick(rng, list(members))
            members[name] = changed_array(rng, members[name])
    stream = io.BytesIO()
    np.savez(stream, **members)
    data = stream.getvalue()
    if rng is not None and rng.random() < 0.4:
        data = _hostile(folder, rng) or changed_bytes(rng, data)
    (folder / "a.npz").write_bytes(data)


def _read_pack(folder: Path) -> object:
    array_set(folder / "a.npz", 0.3, 0)
    return build_benchmark("domainnet", size=16).tasks(folder / "a.npz")


def _make_lists(folder: Path, rng: Rng | None) -> None:
    """Lists of images, annotations and questions."""
    (folder / "photo" / "cat").mkdir(parents=True)
    for k in range(4):
        (folder / "photo" / "cat" / f"{k}.png").write_bytes(_images()["png"])
    text = "\n".join(f"photo/cat/{k}.png {k % 2}" for k in range(4))
    notes: Any = {
        "images": [{"id": k, "file_name": f"photo/cat/{k}.png"} for k in range(4)],
        "annotations": [{"id": k, "image_id": k, "category_id": k % 2} for k in range(4)],
        "categories": [{"id": k, "name": f"c{k}"} for k in range(2)],
    }
    answers = [{"text": "b", "answer_start": 2}]
    question = {"id": "1", "question": "q", "is_impossible": False, "answers": answers}
    squad: Any = {"data": [{"title": "t", "paragraphs": [{"context": "a b c", "qas": [question]}]}]}
    if rng is not None:
        text, notes, squad = changed_text(rng, text), changed_value(rng, notes), changed_value(rng, squad)
    for part in ("train", "test"):
        (folder / f"photo_{part}.txt").write_text(text, errors="replace")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "dtd_train.json").write_text(json.dumps(notes))
    (folder / "squad.json").write_text(json.dumps(squad))


def _read_lists(folder: Path) -> object:
    problems: list[Exception] = []
    for read in (
        lambda: build_benchmark("domainnet", size=16).tasks(folder),
        lambda: read_annotations(folder, "dtd", "train"),
        lambda: questions(read_articles(folder / "squad.json")),
    ):
        try:
            read()
        except (OSError, ValueError) as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return None


def _make_frames(folder: Path, rng: Rng | None) -> None:
    store = FrameStore.create(folder / "frames", 2, 8, {"map": ((2, 2), "uint8")})
    for step in range(8):
        store.push({"map": np.zeros((2, 2, 2), np.uint8), "action": np.zeros(2), "step": np.full(2, step)})
    del store
    if rng is not None:
        file = pick(rng, sorted((folder / "frames").iterdir()))
        data = file.read_bytes()
        if file.suffix == ".json" and rng.random() < 0.7:
            file.write_text(json.dumps(changed_value(rng, json.loads(data))))
        else:
            file.write_bytes(_hostile(folder, rng) or changed_bytes(rng, data))


def _read_frames(folder: Path) -> object:
    return FrameStore.open(folder / "frames").sample(np.random.default_rng(0), 4, 2)


def _make_sbd(folder: Path, rng: Rng | None) -> None:
    from scipy.io import savemat

    savemat(folder / "l.mat", {"GTcls": {"Segmentation": np.zeros((4, 4), np.uint8)}})
    if rng is not None:
        file = folder / "l.mat"
        file.write_bytes(_hostile(folder, rng) or changed_bytes(rng, file.read_bytes()))


TARGETS: tuple[Target, ...] = (
    Target("glb", _make_glb, _read_mesh("a.glb")),
    Target("gltf", _make_gltf, _read_mesh("a.gltf")),
    Target("obj", _make_obj, _read_mesh("a.obj")),
    Target("ply text", _make_ply(False), _read_mesh("a.ply")),
    Target("ply binary", _make_ply(True), _read_mesh("a.ply")),
    Target("stage config", _make_stage, _read_mesh("a.glb")),
    Target("navmesh", _make_navmesh, _read_mesh("a.glb")),
    Target("scene dataset", _make_dataset, _read_dataset, "scene flat"),
    Target("episodes", _make_episodes, _read_episodes),
    # Overrides come from no file.
    Target("overrides", _make_overrides, _read_overrides, " "),
    Target("checkpoint", _make_checkpoint, _read_checkpoint),
    Target("evaluation", _make_report, _read_report),
    Target("saved tasks", _make_tasks, _read_tasks),
    Target("base", _make_base, _read_base),
    Target("decoders", _make_decoders, lambda folder: load_decoders(folder / "b.safetensors")),
    Target("released weights", _make_state, _read_state),
    Target("image", _make_image, _read_image),
    Target("views", _make_views, _read_views),
    Target("packed data", _make_pack, _read_pack),
    Target("lists", _make_lists, _read_lists),
    Target("frames", _make_frames, _read_frames),
    Target("labels of SBD", _make_sbd, lambda folder: sbd_label(folder / "l.mat")),
)

__all__ = ["CANARY", "TARGETS", "Target", "furnished"]
