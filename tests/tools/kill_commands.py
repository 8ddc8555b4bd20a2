"""The commands that `tests.tools.kill` kills, at budgets of seconds, and what must be the same after they went on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAV = [
    "env=apartments",
    "env.agents=4",
    "env.camera.size=32",
    "env.task.max_steps=30",
    "env.splits.train.scenes=1",
    "env.splits.train.episodes_per_scene=8",
    "env.splits.val.scenes=1",
    "env.splits.val.episodes_per_scene=4",
    "device=cpu",
]
POLICY = ["base=random", "adapt=side_tuning", "adapt.width=0.25", "policy.hidden=[16]", "policy.frames=2"]
TRAIN = [*NAV, *POLICY, "log_every=1"]
BC = ["algo=bc", "algo.learner.batch_size=16", "algo.learner.window=4"]
VIEWS = ["size=32", "views_per_scene=8", "views_per_point=4", "domains=[rgb,mask_valid,reshading]"]
TASK = ["task=reshading", "lr=1e-3", "device=cpu", "decoder_width=8"]


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: What the tables call it.
        module: What ``python -m`` runs.
        words: Its settings, given the trial's folder and that of the inputs.
        counts: What must be the same as without a kill, given the trial's folder.
        resumes: Whether it goes on with ``resume=true``; else the same command again.
        copies: An input that the trial changes, copied into its folder.
        share: How many of `CYCLE` trials are its.
    """

    name: str
    module: str
    words: Callable[[Path, Path], list[str]]
    counts: Callable[[Path], Any]
    resumes: bool = False
    copies: str = ""
    share: int = 2

    def start(self, folder: Path, inputs: Path) -> list[str]:
        """Words of a start, or of going on where the run folder holds a run."""
        words = self.words(folder, inputs)
        return [*words, "resume=true"] if self.resumes and (folder / "run" / "config.yaml").is_file() else words


def inputs_of(folder: Path) -> list[tuple[str, list[str]]]:
    """Commands that make the inputs of the others: recorded frames, a trained run, rendered views."""
    return [
        ("agents.collect", [*NAV, "frames=256", f"out={folder / 'expert'}"]),
        (
            "agents.train",
            [*TRAIN, *BC, f"algo.data={folder / 'expert'}", "algo.updates=4", "save_every=4", f"run={folder / 'run'}"],
        ),
        ("envs.render", [*VIEWS, "scenes=train:2", "workers=1", f"out={folder / 'views'}"]),
        ("adapt.pretrain", [*_pretrain(folder), f"out={folder / 'teacher.safetensors'}"]),
    ]


def make_pictures(folder: Path) -> None:
    """``cifar100.npz`` with a few pictures of a hundred classes."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(100, dtype=np.uint8), 6)
    x = rng.integers(0, 256, (100, 32, 32, 3), np.uint8)[y]
    np.savez(folder / "cifar100.npz", x=x, y=y, is_test=np.arange(600) >= 400)


def _pretrain(inputs: Path) -> list[str]:
    return [*TASK, f"data={inputs / 'views'}", f"val={inputs / 'views'}", "batch=4", "steps=30", "encoder=fcn5"]


def _bc(folder: Path, inputs: Path) -> list[str]:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    return [*TRAIN, *BC, f"algo.data={folder / 'expert'}", "algo.updates=18", "save_every=3", f"run={folder / 'run'}"]


def _ppo(folder: Path, inputs: Path) -> list[str]:
    words = ["algo=ppo", "algo.steps=160", "algo.rollout=8", "algo.learner.batch_size=32", "save_every=1"]
    words += ["algo.learner.n_epochs=1"]
    return [*TRAIN, *words, f"run={folder / 'run'}"]


def _dagger(folder: Path, inputs: Path, parallel: bool) -> list[str]:
    words = ["algo=dagger", f"algo.parallel={parallel}", "algo.updates=24", "save_every=4", "algo.warmup_frames=64"]
    words += ["algo.buffer_frames=1024", "algo.learner.batch_size=16"]
    return [*TRAIN, *words, f"run={folder / 'run'}"]


def _supervised(folder: Path, inputs: Path) -> list[str]:
    words = ["benchmark=icifar", "adapt=side_tuning", "adapt.width=0.25", "base=random", f"data={inputs}", "device=cpu"]
    words += ["training.length=6 steps", "training.batch=16", "log_every=2"]
    words += ["tasks=[classes_0_9,classes_10_19,classes_20_29]"]
    return [*words, f"cache={folder / 'kept'}", f"run={folder / 'run'}"]


def _rendered(folder: Path, inputs: Path) -> list[str]:
    words = [*TASK[:-1], "data=render", "val=[]", "size=32", "batch=8", "steps=24", "render.views_per_scene=8"]
    words += ["render.tied=0", "render.warm_up=2", "render.decay=4", "render.save_every=4", "render.ring=8"]
    return [*words, f"out={folder / 'out'}"]


def _distil(folder: Path, inputs: Path) -> list[str]:
    words = [f"teacher={inputs / 'teacher.safetensors'}", f"data={inputs / 'views'}", f"val={inputs / 'views'}"]
    return [*words, "width=0.5", "steps=30", "batch=4", "device=cpu", f"out={folder / 'student.safetensors'}"]


# -- what must be the same ---------------------------------------------------------------------------------------------


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _tensors(file: Path) -> str:
    """Digest of the tensors of a file; its header says how long the training took."""
    from safetensors.numpy import load_file

    stream = io.BytesIO()
    for name, array in sorted(load_file(file).items()):
        stream.write(name.encode() + array.tobytes())
    return _digest(stream.getvalue())


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _trained(folder: Path) -> Any:
    """Steps of all metrics, checkpoints, and the counts of the result."""
    run = folder / "run"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    counts = {key: result[key] for key in ("updates", "steps", "images", "tasks") if key in result}
    return steps, sorted(file.name for file in (run / "checkpoints").iterdir()), counts


def _adapted(folder: Path) -> Any:
    """As of every training, with the saved tasks and the length of the tables."""
    result = json.loads((folder / "run" / "result.json").read_text())
    files = {str(file.name): _tensors(file) for file in (folder / "run" / "adapter").glob("*.safetensors")}
    return _trained(folder), len(result["matrix"]["accuracy"]), result["accuracy"], files


def _evaluated(folder: Path) -> Any:
    """Every episode of every row, and the files."""
    run = folder / "run"
    files = run / "eval" / "val"
    result = json.loads((run / "result.json").read_text())
    return {file.name: _digest(file.read_bytes()) for file in files.glob("*.jsonl")}, _names(run), result["episodes"]


def _collected(folder: Path) -> Any:
    return {file.name: _digest(file.read_bytes()) for file in (folder / "frames").glob("*.npy")}


def _pretrained(folder: Path) -> Any:
    return {name: _tensors(folder / name) for name in _names(folder) if name.endswith(".safetensors")}


def _rendered_views(folder: Path) -> Any:
    return {name: _digest((folder / "views" / name).read_bytes()) for name in _names(folder / "views")}


COMMANDS: Sequence[Command] = (
    Command("train ppo", "agents.train", _ppo, _trained, resumes=True),
    Command("train dagger", "agents.train", lambda f, i: _dagger(f, i, True), _trained, resumes=True, share=1),
    Command("dagger in turns", "agents.train", lambda f, i: _dagger(f, i, False), _trained, resumes=True),
    Command("train bc", "agents.train", _bc, _trained, resumes=True, copies="expert", share=3),
    Command("collect", "agents.collect", lambda f, i: [*NAV, "frames=320", f"out={f / 'frames'}"], _collected),
    Command("evaluate", "agents.evaluate", lambda f, i: [f"run={f / 'run'}", "video=false"], _evaluated, copies="run"),
    Command("adapt.train", "adapt.train", _supervised, _adapted, resumes=True),
    Command(
        "pretrain",
        "adapt.pretrain",
        lambda f, i: [*_pretrain(i), f"out={f / 'encoder.safetensors'}"],
        _pretrained,
    ),
    Command("pretrain render", "adapt.pretrain", _rendered, _pretrained, share=1),
    Command("distill", "adapt.distill", _distil, _pretrained),
    Command(
        "render",
        "envs.render",
        lambda f, i: [*VIEWS, "views_per_scene=16", "scenes=train:4", "workers=2", f"out={f / 'views'}"],
        _rendered_views,
        share=1,
    ),
)
CYCLE = sum(command.share for command in COMMANDS)
