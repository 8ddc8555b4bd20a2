"""``torchrun --nproc-per-node 2 -m tests.tools.cost_model``: a model of what PPO takes, its constants, and a test of
it.

One iteration of a rank with n agents is T steps of all of them, then E epochs over its n*T samples in mini-batches of
m:

    seconds = T * (step + frame * n) + E * n * T / m * (update + sample * m + exchange)

`step`, `frame`, `update` and `sample` are measured with two sizes while every rank works, `exchange` by itself. The
prediction for a third size on all ranks is then compared with a training. Constants of GPUs that were not at hand are
assumptions, and labelled so.

Seconds are of the wall clock; ``clock=cpu`` counts the processor's, for machines that are shared with other work, where
each rank would otherwise also wait for whatever slows down the other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import nn

from adapt.training import distributed
from adapt.training.run import versions, write_text
from agents.bench import simulator as bench
from agents.learners.ppo import make_ppo
from agents.learners.rollout import Timeouts
from agents.policies.observations import frozen_features
from agents.setup import VisualEncoder, make_scenes, make_simulator, make_visual_encoder
from configs.compose import cli, compose
from configs.settings import OneOf, Range, Settings

BILLION = 1e9
SMALLEST = {"agents": 4, "rollout": 1, "minibatches": 1, "epochs": 1, "scenes": 1, "iterations": 1}
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Constants:
    """Of one rank.

    Attributes:
        step: Seconds of one environment step of all agents, whatever their number.
        frame: Seconds more per agent: simulator, frozen base, acting.
        update: Seconds of one optimiser step, whatever the mini-batch.
        sample: Seconds more per sample: forward and backward.
        exchange: Seconds that several ranks add to an optimiser step: two small sums and the mean of the gradients.
        gradient_bytes: Bytes that every rank sends for it.
    """

    step: float
    frame: float
    update: float
    sample: float
    exchange: float
    gradient_bytes: int


@dataclass(frozen=True)
class Plan:
    """What one rank does: `agents` agents, `rollout` steps each, `epochs` over them in `minibatches` parts."""

    agents: int
    rollout: int
    minibatches: int
    epochs: int

    @property
    def frames(self) -> int:
        """Frames of one iteration."""
        return self.agents * self.rollout


def predict(constants: Constants, plan: Plan, ranks: int) -> float:
    """Environment steps per second of all ranks together."""
    acting = plan.rollout * (constants.step + constants.frame * plan.agents)
    size = plan.frames / plan.minibatches
    learning = plan.epochs * plan.minibatches * (constants.update + constants.sample * size + constants.exchange)
    return ranks * plan.frames / (acting + learning)


def fit(times: dict[int, float]) -> tuple[float, float]:
    """(constant, slope) of seconds over size, through two sizes; a constant below 0 is measurement noise and is 0."""
    (small, t), (large, u) = sorted(times.items())
    slope = (u - t) / (large - small)
    constant = t - slope * small
    return (constant, slope) if constant >= 0 else (0.0, u / large)


def ring(gradient_bytes: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of an all-reduce around a ring: bytes/s and seconds per hop (Patarasuk and Yuan 2009)."""
    return 2 * (ranks - 1) * (gradient_bytes / ranks / bandwidth + latency)


class _Stopwatch(BaseCallback):
    """Seconds of every rollout and of every update."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.marks: list[float] = []

    def _mark(self) -> None:
        self.marks.append(self.clock())

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._mark()

    def _on_rollout_end(self) -> None:
        self._mark()

    def _on_training_end(self) -> None:
        self._mark()

    def seconds(self) -> tuple[float, float]:
        """Median seconds of a rollout and of the update after it, the first ones left out as warm-up."""
        spans = np.diff(self.marks)
        return float(np.median(spans[2::2])), float(np.median(spans[3::2]))


def _config(cfg: DictConfig, plan: Plan) -> DictConfig:
    """The training's config with the plan's sizes on every rank."""
    ranks = distributed.ranks()
    words = [
        "run=none",
        "experiment=side_tuning_ppo",
        f"env.agents={plan.agents * ranks}",
        f"env.splits.train.scenes={cfg.scenes * ranks}",
        f"algo.rollout={plan.rollout}",
        f"algo.learner.batch_size={plan.frames // plan.minibatches * ranks}",
        f"algo.learner.n_epochs={plan.epochs}",
    ]
    return compose("train", [*words, *cfg.overrides])


def _timed(cfg: DictConfig, train: DictConfig, vision: VisualEncoder, plan: Plan) -> tuple[PPO, float, float]:
    """A PPO after some iterations, and the seconds that a rollout and an update took."""
    model = make_ppo(train, vision)
    model.set_logger(Logger(None, []))
    watch = _Stopwatch(CLOCKS[cfg.clock])
    model.learn(plan.frames * (cfg.iterations + 1), [Timeouts(), watch], log_interval=10**9)
    return model, *watch.seconds()


def measure(cfg: DictConfig, plan: Plan) -> tuple[Constants, dict[str, float]]:
    """This rank's constants but for the exchange, and what the stages take; call it before joining the other ranks."""
    acting, learning, stages = {}, {}, {}
    gradient = 0
    for agents in (plan.agents // 4, plan.agents):
        one = replace(plan, agents=agents)
        train = _config(cfg, one)
        vision = make_visual_encoder(train)
        model, rollout, update = _timed(cfg, train, vision, one)
        acting[agents] = rollout / one.rollout
        learning[one.frames // one.minibatches] = update / (one.epochs * one.minibatches)
        gradient = 4 * sum(p.numel() for p in model.policy.parameters() if p.requires_grad)
        if agents == plan.agents:
            stages = _stages(train, vision, model, agents)
    step, frame = fit(acting)
    update, sample = fit(learning)
    return Constants(step, frame, update, sample, 0.0, gradient), stages


def _stages(train: DictConfig, vision: VisualEncoder, model: PPO, agents: int) -> dict[str, float]:
    """Frames/s of the stages of acting with this many agents, each alone; scenes built/s; bytes per agent and scene."""
    start = time.perf_counter()
    places = make_scenes(train.env, "train", train.seed)
    building = (time.perf_counter() - start) / len(places)
    simulator = make_simulator(train, places, agents, 0)
    seen: dict[str, Any] = simulator.reset()
    blind = make_simulator(_blind(train), places, agents, 0)
    blind.reset()
    actions = np.zeros(agents, np.int64)
    stacked = model.policy.obs_to_tensor(model._last_obs)[0]  # type: ignore[arg-type]
    out = {
        "simulator": bench.rate(lambda: simulator.step(actions), agents, 1.0),
        "task_without_pictures": bench.rate(lambda: blind.step(actions), agents, 1.0),
        "scenes": 1.0 / building,
        "scene_bytes": bench.memory(2)["apartment"],
        "agent_bytes": float(_rollout_bytes(model)) / agents,
    }
    if vision.base is not None:
        base, rgb = vision.base, np.ascontiguousarray(seen["rgb"].transpose(0, 3, 1, 2))
        out["frozen_base"] = bench.rate(lambda: frozen_features(base, rgb), agents, 1.0)
    with torch.no_grad():
        out["policy"] = bench.rate(lambda: model.policy(stacked), agents, 1.0)
    return out


def _blind(train: DictConfig) -> DictConfig:
    """The same task without pictures."""
    made = train.copy()
    made.blind = True
    return made


def _rollout_bytes(model: PPO) -> int:
    """Bytes of a rollout: observations as their space has them, and SB3's seven numbers per step."""
    space = model.observation_space
    frame = sum(int(np.prod(s.shape or ())) * np.dtype(s.dtype).itemsize for s in space.spaces.values())  # type: ignore[attr-defined]
    return (frame + 7 * 4) * model.n_steps * model.n_envs


def exchange(policy: nn.Module, batch: int, clock: Callable[[], float], repeats: int = 30) -> float:
    """Median seconds of what ranks add to one optimiser step: see `agents.learners.ppo.make_ppo`."""
    parameters, advantages = list(policy.parameters()), torch.zeros(batch)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    times = []
    for _ in range(repeats):
        distributed.gathered(None)
        start = clock()
        distributed.moments(advantages)
        distributed.average_gradients(parameters)
        distributed.average_statistics(policy)
        nn.utils.clip_grad_norm_(parameters, 0.5)
        times.append(clock() - start)
    return float(np.median(times))


def projections(gradient_bytes: int) -> list[dict[str, Any]]:
    """What GPUs would take for a billion frames, from published or targeted numbers; nothing here was measured.

    One GPU: 20,000 PPO steps/s with a frozen FCN5 base at 64x64 (batch simulation, Shacklett et al. 2021, reached
    19,000 with a trained network), half of the time spent acting, with 1,024 agents, 32 steps, 3 epochs of 4
    mini-batches. GPUs of one machine exchange at 100 GB/s with 10 us per hop, machines at 25 GB/s with 30 us.
    """
    plan = Plan(1024, 32, 4, 3)
    second = plan.frames / 20_000
    updates = plan.epochs * plan.minibatches
    rows = []
    for gpus in (1, 8, 64):
        spent = ring(gradient_bytes, min(gpus, 8), 100e9, 10e-6)
        if gpus > 8:
            spent += ring(gradient_bytes, gpus // 8, 25e9, 30e-6)
        # A rollout ends when the slowest rank ends; rollouts of equal length vary by about 3 % (one deviation).
        slowest = 0.5 * second * 0.03 * math.sqrt(2 * math.log(gpus))
        rate = gpus * plan.frames / (second + updates * spent + slowest)
        rows.append(
            {
                "gpus": gpus,
                "steps_per_second": round(rate),
                "hours_for_a_billion": round(BILLION / rate / 3600, 2),
                "exchange_share": round(updates * spent / (second + updates * spent + slowest), 4),
                "batch": plan.frames // plan.minibatches * gpus,
                "updates_for_a_billion": round(BILLION / (plan.frames * gpus) * updates),
            }
        )
    return rows


@dataclass(frozen=True)
class CostModelCommand(Settings):
    """Settings of ``python -m tests.tools.cost_model``.

    Attributes:
        out: File of the numbers.
        overrides: Of agents.train, such as [adapt=features,env.camera.size=128].
        agents: Agents of each rank; constants are measured with this many and with a quarter.
        rollout: Steps per agent between updates.
        minibatches: Of a rollout.
        epochs: Passes over a rollout.
        scenes: Scenes of each rank.
        clock: wall; or cpu: processor seconds, on a machine that is shared with other work.
        iterations: Timed rollouts and updates.
    """

    out: str = "docs/scaling.json"
    overrides: tuple[str, ...] = ()
    agents: Annotated[int, Range(4, 65_536)] = 32
    rollout: Annotated[int, Range(1)] = 32
    minibatches: Annotated[int, Range(1)] = 4
    epochs: Annotated[int, Range(1)] = 3
    scenes: Annotated[int, Range(1)] = 4
    clock: Annotated[str, OneOf("wall", "cpu")] = "wall"
    iterations: Annotated[int, Range(1)] = 4


@cli("cost_model", CostModelCommand)
def main(cfg: DictConfig) -> None:
    """Measure, predict, compare; the first rank prints and writes."""
    if cfg.clock not in CLOCKS:
        raise ValueError(f"clock={cfg.clock}: choose from {', '.join(CLOCKS)}")
    for key, least in SMALLEST.items():
        if cfg[key] < least:
            raise ValueError(f"{key}={cfg[key]} is too few to measure with; give at least {least}")
    torch.set_num_threads(1)
    plan = Plan(cfg.agents, cfg.rollout, cfg.minibatches, cfg.epochs)
    constants, stages = measure(cfg, plan)
    with distributed.joined("cpu"):
        ranks = distributed.ranks()
        mean = distributed.means(asdict(constants))
        between = replace(plan, agents=plan.agents // 2)
        train = _config(cfg, between)
        model, rollout, update = _timed(cfg, train, make_visual_encoder(train), between)
        spent = exchange(model.policy, between.frames // plan.minibatches, CLOCKS[cfg.clock]) if ranks > 1 else 0.0
        made = Constants(mean["step"], mean["frame"], mean["update"], mean["sample"], spent, constants.gradient_bytes)
        # Together the ranks take as long as the slowest.
        measured = ranks * between.frames / max(a + b for a, b in distributed.gathered((rollout, update)))
        predicted = predict(made, between, ranks)
        if distributed.is_first():
            document = {
                "versions": versions(0),
                "ranks": ranks,
                "clock": cfg.clock,
                "constants": asdict(made),
                "stages": stages,
                "plan": asdict(between),
                "predicted_steps_per_second": predicted,
                "measured_steps_per_second": measured,
                "predicted_over_measured": predicted / measured,
                "core_hours_for_a_billion": BILLION / predict(replace(made, exchange=0.0), plan, 1) / 3600,
                "assumed_gpus": projections(made.gradient_bytes),
            }
            write_text(Path(cfg.out), json.dumps(document, indent=1))
            _show(document)


def _show(document: dict[str, Any]) -> None:
    """Print the numbers."""
    table = Table("what", "value")
    for group in ("constants", "stages"):
        for key, value in document[group].items():
            shown = f"{value * 1e6:,.1f} us" if group == "constants" and isinstance(value, float) else f"{value:,.1f}"
            table.add_row(f"{group}: {key}", shown)
    for key in ("predicted_steps_per_second", "measured_steps_per_second", "predicted_over_measured"):
        table.add_row(key, f"{document[key]:,.3f}")
    for row in document["assumed_gpus"]:
        table.add_row(f"{row['gpus']} GPUs (assumed)", ", ".join(f"{k} {v:,}" for k, v in row.items() if k != "gpus"))
    Console().print(table)


if __name__ == "__main__":
    main()
