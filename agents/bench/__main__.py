"""``make bench``: speeds of the stages on this machine, each beside a reference of the same run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from adapt.methods.side_tuning import SideTuning
from adapt.training.run import versions
from agents.bench import simulator as bench
from agents.bench.adaptation import fusion_passes, inference, side_tuning_step
from agents.bench.ppo import (
    CONTESTANTS,
    OWN,
    RANKED,
    STAGES,
    configured,
    race,
    race_in_processes,
    settings,
)
from agents.bench.settings import BenchSettings
from agents.bench.table import Measurement, median_of, number, percent, write_results
from agents.learners.collector import frame_layout, stored
from agents.learners.frames import ACTION, FrameStore
from agents.learners.imitation import ImitationLearner
from agents.policies.observations import RGB, STEP, frozen_features
from agents.policies.policy import SequencePolicy
from agents.setup import VisualEncoder, make_env, make_policy, make_visual_encoder
from configs.compose import ConfigError, cli, compose
from configs.names import nearest
from configs.settings import as_list
from envs.apartments.generator import generate
from envs.navgrid.grid import NavGrid
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.scans.loading import load_scene
from envs.scene import Scene
from envs.sources.apartments import apartments

SB3_EPOCHS = 10  # passes over a rollout that SB3's PPO makes by default
FIRST_FRAME = """
from envs.apartments.generator import generate
from envs.rendering.renderer import Camera, make_renderer
image = make_renderer([generate(1)]).render([0], [[3.0, 0.0, 3.0]], [0.0], Camera(64))["rgb"]
assert image.shape == (1, 64, 64, 3)
"""


def import_rows(cfg: DictConfig) -> list[Measurement]:
    """Imports in fresh processes, and what a process takes from its start to its first frame; once to warm up."""
    programs = {f"import {name}": f"import {name}" for name in ("agents", "adapt", "envs")}
    programs["import agents.train"] = "import agents.train"
    programs["first frame of an apartment, from the start of the process"] = FIRST_FRAME
    limits = {name: "< 3" for name in programs} | {list(programs)[-1]: "< 5", "import agents.train": ""}

    def run(program: str) -> None:
        subprocess.run([sys.executable, "-c", program], check=True)

    def spent_by_children() -> float:
        times = os.times()
        return times.children_user + times.children_system

    works = {name: partial(run, program) for name, program in programs.items()}
    seconds = bench.medians(works, cfg.rounds, spent_by_children)
    return [Measurement("imports", name, value, "s", target=limits[name]) for name, value in seconds.items()]


def render_rows(cfg: DictConfig) -> list[Measurement]:
    """RGB+depth frames/s by size, triangles and agents, beside embreex's plain call on the same rays."""
    apartment = generate(bench.SCENE)
    meshes: dict[str, tuple[Scene, NavGrid]] = {"apartment": (apartment, NavGrid.build(apartment))}
    if cfg.scene is not None:
        scan = load_scene(cfg.scene)
        meshes[Path(cfg.scene).name] = scan, NavGrid.build(scan)
    else:
        meshes["apartment in small triangles"] = bench.refined(apartment, 2), meshes["apartment"][1]
    rows = []
    for name, (scene, grid) in meshes.items():
        for size, agents in ((64, 1), (64, 64), (128, 16), (256, 4)):
            rate, ratio = bench.renderer(scene, grid, size, agents, 3 * cfg.rounds)
            what = f"{name}, {len(scene.faces):,} triangles, {size}x{size}, {agents} agents"
            rows.append(Measurement("render", what, rate, "frames/s", "speed of embreex's bare hits", 1 / ratio))
    return rows


def core_rows(cfg: DictConfig) -> list[Measurement]:
    """RGB+depth frames/s of all cores together."""
    cores = len(os.sched_getaffinity(0))
    on_clock, of_processor = zip(*(bench.on_all_cores(cfg.scene, 128, cores) for _ in range(3)), strict=True)
    what = f"{Path(cfg.scene).name if cfg.scene else 'apartment'}, 128x128, {cores} processes"
    return [
        Measurement("cores", what, statistics.median(of_processor), "frames/s", target=">= 500"),
        Measurement("cores", f"{what}, on the clock", statistics.median(on_clock), "frames/s"),
    ]


def memory_rows(cfg: DictConfig) -> list[Measurement]:
    """Memory per additional scene."""
    taken = bench.memory(cfg.memory.apartments)
    thousand = (1000 * taken["apartment"] + taken["textures"]) / 2**30
    each = f"an apartment: scene, tree, grid, paths to its goals (mean of {cfg.memory.apartments})"
    return [
        Measurement("memory", each, taken["apartment"] / 2**20, "MiB"),
        Measurement("memory", "  of it Embree's tree", taken["tree"] / 2**20, "MiB"),
        Measurement("memory", "textures, shared by all apartments", taken["textures"] / 2**20, "MiB"),
        Measurement("memory", "1,000 apartments", thousand, "GiB", target="<= 4"),
        Measurement("memory", "100,000 triangles: scene, tree, rows of faces", taken["triangles_100k"] / 2**20, "MiB"),
    ]


def task_rows(cfg: DictConfig) -> list[Measurement]:
    """A step of the task beside rendering at 64x64."""
    taken = bench.task(_places())
    names = {
        "step_us": "step: walk, distance, reward, reset",
        "map_us": "visited map",
        "expert_us": "expert's action",
    }
    reference, render = "time of rendering RGB+depth", taken["render_us"]
    return [
        Measurement("task", what, taken[key], "us per agent", reference, taken[key] / render)
        for key, what in names.items()
    ]


def base_rows(cfg: DictConfig) -> list[Measurement]:
    """The frozen base as it is run here, beside plain float32."""
    vision = make_visual_encoder(compose("train", ["run=none"]))
    base = vision.base
    assert base is not None
    rgb = np.random.default_rng(0).integers(0, 256, (bench.AGENTS, 64, 64, 3), np.uint8).transpose(0, 3, 1, 2)
    plain_images = torch.as_tensor(np.ascontiguousarray(rgb))
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: frozen_features(base, rgb),
        "plain": lambda: base(plain_images),
    }
    seconds = bench.medians(works, 3 * cfg.rounds)
    rate = bench.AGENTS / seconds["ours"]
    ratio = seconds["plain"] / seconds["ours"]
    return [Measurement("base", "FCN5 at 64x64, bfloat16, channels last", rate, "frames/s", "speed in float32", ratio)]


def ppo_rows(cfg: DictConfig) -> list[Measurement]:
    """PPO steps/s with frozen FCN5 base and side-tuning at 64x64, by stage, beside plain SB3.

    On one thread with the configured passes over a rollout and with SB3's own ten; then on
    all cores, where ours runs a rank on each and SB3, which has no ranks, gives torch a thread on each.
    """
    rows = _race(cfg, [name for name in CONTESTANTS if name != OWN], 1, None, "")
    rows += _race(cfg, ["ours", OWN], 1, None, "", OWN)
    rows += _race(cfg, ["ours", "plain SB3"], 1, SB3_EPOCHS, f", {SB3_EPOCHS} passes")
    cores = len(os.sched_getaffinity(0))
    if cores > 1:
        rows += _race(cfg, [RANKED, "plain SB3"], cores, None, f", {cores} cores, on the clock")
    return rows


def policy_rows(cfg: DictConfig) -> list[Measurement]:
    """PPO steps/s of what the policy remembers and reads, beside the stack of four frames on RGB and visited map."""
    policies = ("policy=stack", "policy=gru", "policy=lstm")
    inputs = ("env.task.sensors=[rgb,explored]", "env.task.sensors=[depth,explored]")
    rows = []
    for method, variants in (("features", (*policies, *inputs)), ("side_tuning", policies)):
        common = (f"adapt={method}", f"env.agents={cfg.ppo.agents}", f"algo.rollout={cfg.ppo.steps}")
        runners = {word: configured((*common, word), cfg.ppo.scenes) for word in variants}
        race(runners, cfg.ppo.rounds)
        reference = runners["policy=stack"].median("total")
        for name, one in runners.items():
            total = one.median("total")
            target = "<= 1.30" if name == "policy=gru" else ""
            what = f"adapt={method} {name}"
            rows.append(
                Measurement("policies", what, 1 / total, "steps/s", "time of policy=stack", total / reference, target)
            )
    return rows


def _race(
    cfg: DictConfig, names: list[str], threads: int, epochs: int | None, how: str, beside: str = "plain SB3"
) -> list[Measurement]:
    overrides = [] if epochs is None else [f"algo.learner.n_epochs={epochs}"]
    chosen = settings(cfg.ppo.agents, cfg.ppo.steps, *overrides)
    spent = race_in_processes(names, chosen, cfg.ppo.scenes, cfg.ppo.rounds, threads)
    medians = {name: {stage: statistics.median(s) for stage, s in stages.items()} for name, stages in spent.items()}
    reference = medians[beside]
    rows, compared = [], f"speed of {beside}"
    for name, stages in medians.items():
        total = stages["total"]
        target = "ratio >= 3.00" if name in ("ours", RANKED) and beside == "plain SB3" else ""
        rows.append(Measurement("ppo", name + how, 1 / total, "steps/s", compared, reference["total"] / total, target))
        for stage, taken in stages.items():
            if stage in STAGES and not how and beside == "plain SB3":
                ratio = reference[stage] / taken
                rows.append(Measurement("ppo", f"{name}: {stage}", 1e6 * taken, "us per step", compared, ratio))
    return rows


def imitation_rows(cfg: DictConfig) -> list[Measurement]:
    """Samples/s of behaviour cloning and DAgger.

    Side-tuning beside steps of the side network alone on as many images; recorded features beside updates of the policy
    alone, whose batch is in memory already.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = compose("train", ["run=none"])
        vision, learner, store = _imitation(config, Path(folder) / "images")
        batch, window = config.algo.learner.batch_size, config.algo.learner.window
        images = batch // window * (window + config.policy.frames - 1)
        assert vision.adapted is not None
        side = cast(SideTuning, vision.adapted.method())
        rgb = torch.as_tensor(store.arrays[RGB][:, 0]).repeat(images // bench.AGENTS + 1, 1, 1, 1)[:images]

        def side_alone() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                features = side.side_features(rgb)
            features.float().square().mean().backward()
            side.zero_grad(set_to_none=True)

        works: dict[str, Callable[[], Any]] = {"update": partial(learner.update, store), "side": side_alone}
        seconds = bench.medians(works, 4 * cfg.rounds)
        _, learner, store = _imitation(compose("train", ["run=none", "adapt=features"]), Path(folder) / "features")
        sample = store.sample(learner.rng, learner.windows, window + learner.policy.context)
        in_memory: Any = SimpleNamespace(sample=lambda *_: sample, arrays=store.arrays)
        works = {"recorded": partial(learner.update, store), "policy": partial(learner.update, in_memory)}
        seconds.update(bench.medians(works, 20 * cfg.rounds))
    what = f"BC and DAgger, updates of {batch} labels in windows of {window}"
    ratio, share = seconds["update"] / seconds["side"], seconds["policy"] / seconds["recorded"]
    rate, recorded = batch / seconds["update"], batch / seconds["recorded"]
    alone = "speed of the policy alone"
    return [
        Measurement("imitation", what, rate, "samples/s", "time of the side network alone", ratio),
        Measurement("imitation", f"{what}, recorded features", recorded, "samples/s", alone, share, ">= 0.90"),
    ]


def _imitation(config: DictConfig, folder: Path) -> tuple[VisualEncoder, ImitationLearner, FrameStore]:
    """A learner by imitation and 128 frames of every agent, which follows the expert."""
    vision = make_visual_encoder(config)
    env, simulator = make_env(config, _places(), vision, bench.AGENTS, 0)
    policy = make_policy(config, vision)
    observations: dict[str, np.ndarray[Any, Any]] = env.reset()  # type: ignore[assignment]
    store = FrameStore.create(folder, bench.AGENTS, 128, frame_layout(observations))
    for _ in range(128):
        labels = simulator.nav.expert()
        store.push({**stored(observations), ACTION: labels, STEP: simulator.nav.agents.steps})
        observations = env.step(labels)[0]  # type: ignore[assignment]
    return vision, ImitationLearner(cast(SequencePolicy, policy), 10_000, **config.algo.learner), store


def adapt_rows(cfg: DictConfig) -> list[Measurement]:
    """Adapted networks: inference merged and unmerged, several tasks at once, a side-tuning step on cached features."""
    rows = []
    for (name, kind), value in inference().items():
        target = "<= 1.25" if kind == "unmerged" else "1.00"
        rows.append(Measurement("adapt", f"{name}, {kind}: a pass", value, "x", "time of the base", value, target))
    fusion = fusion_passes()
    sides = fusion["side_passes"]
    what = f"{fusion['tasks']} fusion tasks at once: passes of sides, one of the base"
    rows.append(Measurement("adapt", what, sides, "passes", "passes of the base", fusion["base_passes"]))
    what, step = "side_tuning, a step on kept features", side_tuning_step()
    rows.append(Measurement("adapt", what, step, "x", "time of the side alone", step, "<= 1.10"))
    return rows


def habitat_rows(cfg: DictConfig) -> list[Measurement]:
    """RGB+depth frames/s in the mesh `scene`, beside habitat-sim's."""
    from agents.bench.habitat import frames

    if cfg.scene is None:
        return []
    rows = []
    for size in (64, 128, 256):
        rate, ratio = frames(cfg.scene, size, cfg.rounds)
        what = f"{Path(cfg.scene).name}, {size}x{size}, one agent, on the clock"
        rows.append(Measurement("habitat", what, rate, "frames/s", "speed of habitat-sim", ratio))
    return rows


def gpu_rows(cfg: DictConfig) -> list[Measurement]:
    """The Warp backend; see `agents.bench.gpu`."""
    from agents.bench.gpu import gpu_rows as measured

    return measured(cfg.gpu)


SECTIONS: dict[str, Callable[[DictConfig], list[Measurement]]] = {
    "imports": import_rows,
    "render": render_rows,
    "cores": core_rows,
    "memory": memory_rows,
    "task": task_rows,
    "base": base_rows,
    "ppo": ppo_rows,
    "policies": policy_rows,
    "imitation": imitation_rows,
    "adapt": adapt_rows,
    "habitat": habitat_rows,
    "gpu": gpu_rows,
}
# Sections that are measured only where what they need is there.
NEEDS: dict[str, Callable[[], bool]] = {
    "habitat": lambda: find_spec("habitat_sim") is not None,
    "gpu": torch.cuda.is_available,
}


def _places() -> list[NavigableScene]:
    return apartments("val", 16, 8, 0, AgentConfig())


def chosen_sections(asked: Any) -> list[str]:
    """The sections to measure, in their order.

    Raises:
        ConfigError: There is no such section.
    """
    if asked == "all":
        return [name for name in SECTIONS if name not in NEEDS or NEEDS[name]()]
    names = as_list(asked)
    for name in names:
        if name not in SECTIONS:
            hint = nearest(name, SECTIONS) or f"; choose from {', '.join(SECTIONS)}"
            raise ConfigError(f"sections: there is no section {name!r}{hint}")
    return [name for name in SECTIONS if name in names]


@cli("bench", BenchSettings)
def main(cfg: DictConfig) -> None:
    """Measure, print, and write ``docs/bench.json`` and ``docs/bench.md``."""
    names = chosen_sections(cfg.sections)
    torch.set_num_threads(1)
    provenance = versions(0)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    rows, about = [], {}
    for name in names:
        start = time.perf_counter()
        rows += median_of([SECTIONS[name](cfg) for _ in range(cfg.runs)])
        about[name] = {
            "date": provenance["date"][:10],
            "commit": provenance["git_commit"][:7],
            "command": provenance["command"],
            "machine": machine,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "packages": provenance["packages"],
            "runs": cfg.runs,
            "seconds": round(time.perf_counter() - start, 1),
        }
    write_results(Path(cfg.out), rows, about)
    table = Table("ratio", "to", "section", "what", "value", "unit", "spread", "target")
    for row in rows:
        numbers = number(row.value), row.unit, percent(row.spread), row.target
        table.add_row(number(row.ratio), row.reference, row.section, row.what, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
