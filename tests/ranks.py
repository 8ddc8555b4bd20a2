"""Run by torchrun in test_distributed: each rank does its share of what one process does there, and says the outcome.

torchrun --nproc-per-node 2 tests/ranks.py learners OUT        the learners below, one update each
torchrun --nproc-per-node 2 tests/ranks.py hashes OUT MODULE WORDS... that command, with a hash after every update
"""

from __future__ import annotations

import json
import runpy
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from adapt.benchmarks.benchmark import Accuracy, TaskData, Tensors, build_benchmark
from adapt.core.base import random_base
from adapt.supervised.learner import TaskTrainer, TrainingPlan
from adapt.supervised.optimisation import OptimiserConfig, TrainingConfig
from adapt.training import distributed
from adapt.training.digests import tensors_sha256
from agents.learners.frames import ACTION, FrameStore
from agents.learners.imitation import ImitationLearner
from agents.learners.ppo import make_ppo
from agents.policies.observations import GOAL, RGB, STEP
from agents.policies.stack import NavigationPolicy
from agents.setup import make_policy, make_visual_encoder
from configs.compose import compose

WINDOWS, STEPS, AGENTS = 4, 8, 4
SMALL = [
    "run=none",
    "seed=3",
    "base=random",
    "env.camera.size=32",
    "env.task.sensors=[rgb]",
    "policy.hidden=[32]",
    "policy.bfloat16=false",
    "device=cpu",
]
Outcome = dict[str, torch.Tensor]


class FixedFrames(FrameStore):
    """Frames that are always the same; a rank draws every other window of what one process draws."""

    def sample(self, rng: np.random.Generator, count: int, window: int) -> dict[str, Any]:
        fixed = np.random.default_rng(0)
        shape = (WINDOWS, window)
        batch = {
            RGB: fixed.integers(0, 255, (*shape, 3, 32, 32)).astype(np.uint8),
            GOAL: fixed.normal(size=(*shape, 2)).astype(np.float32),
            ACTION: fixed.integers(0, 4, shape).astype(np.int8),
            STEP: np.broadcast_to(np.arange(10, 10 + window), shape).astype(np.int16),
        }
        assert count == WINDOWS // distributed.ranks()
        return {key: value[distributed.rank() :: distributed.ranks()] for key, value in batch.items()}


def imitation() -> Outcome:
    """Two updates of scratch, whose images pass a trained encoder, with a batch of WINDOWS windows in all."""
    cfg = compose("train", [*SMALL, "adapt=scratch", "policy.frames=2", f"algo.learner.batch_size={WINDOWS * 4}"])
    policy = make_policy(cfg, make_visual_encoder(cfg))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.01 * distributed.rank()
    distributed.copy_from_first(policy.own_state().values())
    learner = ImitationLearner(policy, 100, **cfg.algo.learner)
    store = FixedFrames(Path("none"), {}, np.zeros(1, np.int64))
    gradients = {}
    for _ in range(2):
        learner.update(store)
        gradients = {f"gradient {name}": p.grad for name, p in policy.named_parameters() if p.grad is not None}
    return {**policy.own_state(), **{k: v.clone() for k, v in gradients.items()}}


def ppo() -> Outcome:
    """One epoch of PPO, in one mini-batch, over a rollout of STEPS steps by AGENTS agents in all."""
    words = [
        "experiment=side_tuning_ppo",
        "blind=true",
        "env.splits.train={scenes: 2, episodes_per_scene: 4}",
        f"env.agents={AGENTS}",
    ]
    words += [f"algo.rollout={STEPS}", f"algo.learner.batch_size={STEPS * AGENTS}", "algo.learner.n_epochs=1"]
    cfg = compose("train", [*SMALL, *words])
    model = make_ppo(cfg, make_visual_encoder(cfg))
    policy = model.policy
    assert isinstance(policy, NavigationPolicy)
    distributed.copy_from_first(policy.own_state().values())
    part = slice(distributed.rank(), None, distributed.ranks())
    rng = np.random.default_rng(1)
    buffer = model.rollout_buffer
    buffer.reset()
    for _ in range(STEPS):
        seen = {key: s.sample()[None].repeat(AGENTS, 0) * 0 for key, s in model.observation_space.spaces.items()}
        seen[GOAL] = rng.normal(size=seen[GOAL].shape).astype(np.float32)
        seen["valid"] = np.ones_like(seen["valid"])
        actions, rewards = rng.integers(0, 3, (AGENTS, 1)), rng.normal(size=AGENTS)
        values, chances = torch.zeros(AGENTS), torch.full((AGENTS,), -1.0986)
        buffer.add(
            {key: value[part] for key, value in seen.items()},  # type: ignore[arg-type]
            actions[part],
            rewards[part],
            np.zeros(len(rewards[part])),
            values[part],
            chances[part],
        )
    last = torch.zeros(AGENTS)[part]
    buffer.compute_returns_and_advantage(last, np.zeros(len(last)))
    model.set_logger(Logger(None, []))
    model.train()
    return dict(policy.own_state())


def supervised() -> Outcome:
    """Three steps of side-tuning with batches of 7, which do not part equally, in a learner of `adapt.train`."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, 3, 32, 32), generator=random, dtype=torch.uint8)
    data = Tensors(images, torch.randint(0, 3, (21,), generator=random))
    task = TaskData("colours", data, data, 3, nn.functional.cross_entropy, Accuracy, "accuracy")
    plan = TrainingPlan(
        benchmark=build_benchmark("icifar"),
        method="side_tuning",
        settings={"width": 0.25},
        training=TrainingConfig("3 steps", batch=7),
        optimiser=OptimiserConfig(lr=1e-3, clip=1.0),
    )
    learner = TaskTrainer(random_base("fcn4", seed=1), plan)
    learner.add(task)
    losses = []
    learner.train([task], lambda step, values: losses.append(values["loss"]))
    method = learner.adapted.method("colours")
    assert learner.images == int(method.samples_seen) == 21
    return {**dict(method.named_parameters()), **learner.readouts.state_dict()}


def uneven() -> Outcome:
    """Averages where the ranks differ: a gradient that one rank lacks, one that all lack, statistics, moments."""
    me = distributed.rank()
    parameters = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    parameters[0].grad = torch.full((3,), 2.0 + 2 * me)
    if me == 0:
        parameters[1].grad = torch.ones(3)
    distributed.average_gradients(parameters)
    norm = nn.BatchNorm1d(2)
    norm.running_mean += me
    distributed.average_statistics(norm)
    mean, deviation = distributed.moments(torch.arange(4.0) + 4 * me)
    assert parameters[2].grad is None
    return {
        "both": parameters[0].grad,
        "one": parameters[1].grad,
        "statistics": norm.running_mean,
        "moments": torch.stack([mean, deviation]),
    }  # type: ignore[dict-item]


def learners(out: Path) -> None:
    """Outcomes of the functions above, and what the ranks say together."""
    with distributed.joined("cpu"):
        group = weakref.ref(torch.distributed.group.WORLD)
        made = {"imitation": imitation(), "ppo": ppo(), "supervised": supervised(), "uneven": uneven()}
        told = distributed.means({"a": float(distributed.rank()), **({"b": 5.0} if distributed.is_first() else {})})
        equal = {name: len(set(distributed.gathered(tensors_sha256(t.items())))) == 1 for name, t in made.items()}
        if distributed.is_first():
            torch.save({**made, "equal": equal, "means": told, "total": distributed.ranks()}, out)
    assert group() is None, "its threads would outlive Python"


def hashes(out: Path, module: str, words: list[str]) -> None:
    """Train, and write this rank's hash of all parameters after every optimiser step."""
    kept: list[str] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        kept.append(tensors_sha256((str(i), p) for i, p in enumerate(parameters)))
        out.with_name(f"{out.name}.{distributed.rank()}").write_text(json.dumps(kept))

    register_optimizer_step_post_hook(note)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "learners":
        learners(Path(sys.argv[2]))
    else:
        hashes(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
