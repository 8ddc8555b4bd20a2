"""PPO end to end, stage by stage, beside a plain Stable-Baselines3 set-up of the same networks and settings."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.logger import Logger

from agents.learners.memory import keep_freed_memory
from agents.learners.ppo import make_ppo
from agents.learners.recurrent import MemoryPPO
from agents.learners.rollout import DeviceRolloutBuffer, Timeouts
from agents.policies.observations import PolicyObservations, stack_frames
from agents.policies.stack import NavigationPolicy
from agents.setup import VisualEncoder, device_of, make_rules, make_stacked_env, make_visual_encoder, policy_arguments
from configs.compose import compose
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.pointnav.vec_env import PointNavVecEnv
from envs.sources.apartments import apartments

RANKED = "ours, a rank per core"
OWN = "SB3's MultiInputPolicy"
Seconds = dict[str, dict[str, list[float]]]

STAGES = ("render and map", "task", "frozen base, rollout", "policy, rollout", "update")


@dataclass
class Contestant:
    """A PPO implementation with a timer per stage.

    Attributes:
        model: The learner.
        seconds: Seconds per environment step of each round, in all and by stage.
        timeouts: Whether time-outs are evaluated together.
    """

    model: PPO | MemoryPPO
    timeouts: bool
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median(self, stage: str) -> float:
        """Median seconds per environment step."""
        return statistics.median(self.seconds[stage])


def settings(agents: int, steps: int, *overrides: str) -> DictConfig:
    """The PPO configuration with shorter rollouts, which cost the same per step."""
    return compose(
        "train", ["run=none", "experiment=side_tuning_ppo", f"env.agents={agents}", f"algo.rollout={steps}", *overrides]
    )


def ours(cfg: DictConfig, scenes: Sequence[NavigableScene]) -> Contestant:
    """This project's: features computed once per frame and cached, bfloat16, rollout on the device."""
    keep_freed_memory()
    vision = make_visual_encoder(cfg)
    env = make_stacked_env(cfg, scenes, vision, cfg.env.agents, cfg.seed)
    return Contestant(_model(cfg, vision, env, DeviceRolloutBuffer), True)


def plain(cfg: DictConfig, scenes: Sequence[NavigableScene], bfloat16: bool = False) -> Contestant:
    """Plain SB3: the rollout keeps RGB, and base and side run on it in every epoch; the simulator is the same."""
    vision = make_visual_encoder(cfg)
    task, camera = make_rules(cfg)
    simulator = PointNavVecEnv(scenes, task, camera, cfg.env.agents, cfg.seed)
    env = stack_frames(PolicyObservations(simulator, vision.base, frozenset({"image"})), cfg.policy.frames)
    return Contestant(_model(cfg, vision, env, DictRolloutBuffer, bfloat16=bfloat16), False)


def of_sb3(cfg: DictConfig, scenes: Sequence[NavigableScene]) -> Contestant:
    """SB3 as its users write it: `MultiInputPolicy`, whose networks see stacked frames and maps, no frozen base."""
    task, camera = make_rules(cfg)
    simulator = PointNavVecEnv(scenes, task, camera, cfg.env.agents, cfg.seed)
    base = make_visual_encoder(cfg).base
    env = stack_frames(PolicyObservations(simulator, base, frozenset({"image"})), cfg.policy.frames)
    keywords: dict[str, Any] = OmegaConf.to_container(cfg.algo.learner, resolve=True)  # type: ignore[assignment]
    device = device_of(cfg)
    model = PPO("MultiInputPolicy", env, n_steps=cfg.algo.rollout, seed=cfg.seed, device=device, **keywords)
    model.set_logger(Logger(None, []))
    return Contestant(model, False)


CONTESTANTS: dict[str, Callable[[DictConfig, Sequence[NavigableScene]], Contestant]] = {
    "ours": ours,
    "plain SB3": plain,
    "plain SB3 in bfloat16": partial(plain, bfloat16=True),
    OWN: of_sb3,
}


def _model(cfg: DictConfig, vision: VisualEncoder, env: Any, buffer: type[DictRolloutBuffer], **policy: Any) -> PPO:
    keywords: dict[str, Any] = OmegaConf.to_container(cfg.algo.learner, resolve=True)  # type: ignore[assignment]
    model = PPO(
        NavigationPolicy,
        env,
        n_steps=cfg.algo.rollout,
        policy_kwargs={**policy_arguments(cfg, vision), **policy},
        rollout_buffer_class=buffer,
        seed=cfg.seed,
        device=device_of(cfg),
        **keywords,
    )
    model.set_logger(Logger(None, []))
    return model


def race_in_processes(names: Sequence[str], cfg: DictConfig, scenes: int, rounds: int, threads: int) -> Seconds:
    """Let contestants make a rollout and an update per round, each in its own process, in turns.

    Args:
        names: Of `CONTESTANTS`, and `RANKED`, which has `threads` processes.
        cfg: From `settings`.
        scenes: Apartments.
        rounds: Rounds after one to warm up.
        threads: Threads of each contestant.

    Returns:
        For each, by stage, the seconds per environment step of every round: processor seconds with one thread, else
        seconds on the clock.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, list[Any]] = {}
    workers = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            ranks = threads if name == RANKED else 1
            ends = [context.Pipe() for _ in range(ranks)]
            pipes[name] = [near for near, _ in ends]
            for rank, (_, far) in enumerate(ends):
                place = rank, ranks, f"file://{folder}/meeting"
                arguments = name, OmegaConf.to_yaml(cfg), scenes, threads, place, far
                workers.append(context.Process(target=_serve, args=arguments))
                workers[-1].start()
                far.close()
        spent: Seconds = {name: defaultdict(list) for name in names}
        try:
            for i in range(rounds + 1):
                for name in names:
                    stages = _ask(pipes[name])
                    for stage, seconds in stages.items() if i else ():
                        spent[name][stage].append(seconds)
        finally:
            for name in names:
                for pipe in pipes[name]:
                    pipe.close()
            for worker in workers:
                worker.join()
    return spent


def _ask(pipes: Sequence[Any]) -> dict[str, float]:
    """Let the ranks of one contestant make a round; the slowest counts, and steps of all."""
    for pipe in pipes:
        pipe.send(True)
    answers = [pipe.recv() for pipe in pipes]
    return {stage: max(one[stage] for one in answers) / len(pipes) for stage in answers[0]}


def _serve(name: str, text: str, scenes: int, threads: int, place: tuple[int, int, str], pipe: Any) -> None:
    """Make a round whenever asked, until the pipe closes."""
    rank, ranks, meeting = place
    torch.set_num_threads(threads // ranks)
    cfg = OmegaConf.create(text)
    assert isinstance(cfg, DictConfig)
    if name == RANKED:
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
        cfg.env.splits.train.scenes = scenes
        keep_freed_memory()
        one = as_trained(cfg)
    else:
        one = CONTESTANTS[name](cfg, apartments("val", scenes, 8, 0, AgentConfig(**cfg.env.body)))
    with contextlib.suppress(EOFError):
        while pipe.recv():
            pipe.send(_round(one, time.process_time if threads == 1 else time.perf_counter))
    if name == RANKED:
        torch.distributed.destroy_process_group()


def configured(overrides: Sequence[str], scenes: int) -> Contestant:
    """PPO as ``algo=ppo`` makes it, with overrides of ``agents.train``, in `scenes` apartments."""
    return as_trained(compose("train", ["run=none", "algo=ppo", f"env.splits.train.scenes={scenes}", *overrides]))


def as_trained(cfg: DictConfig) -> Contestant:
    """PPO as ``agents.train`` makes it from this config, without its run folder."""
    model = make_ppo(cfg, make_visual_encoder(cfg))
    model.set_logger(Logger(None, []))
    return Contestant(model, True)


def race(contestants: dict[str, Contestant], rounds: int, clock: Callable[[], float] = time.process_time) -> None:
    """Let contestants in this process make one rollout and update per round, in turns, after one to warm up."""
    for i in range(rounds + 1):
        for one in contestants.values():
            spent = _round(one, clock)
            for stage, seconds in spent.items() if i else ():
                one.seconds[stage].append(seconds)


def _round(one: Contestant, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds per environment step of one rollout and update, in all and by stage."""
    model = one.model
    simulator = _innermost(model.env)
    adapted = model.policy.extractor.adapted if isinstance(model.policy, NavigationPolicy) else None
    watched: list[tuple[Any, str]] = [
        (simulator.nav, "observe"),
        (simulator.nav, "step"),
        (model, "collect_rollouts"),
        (model, "train"),
    ]
    if adapted is not None:
        watched.append((adapted.base, "forward"))
    now = _synchronised(clock, model.device)
    spent = {name: 0.0 for _, name in watched}
    for owner, name in watched:
        _watch(owner, name, spent, now, model.policy)
    steps = model.n_steps * model.n_envs
    start = now()
    try:
        model.learn(steps, Timeouts() if one.timeouts else None, reset_num_timesteps=False)
    finally:
        for owner, name in watched:
            delattr(owner, name)
    total = now() - start
    base = spent.get("forward", 0.0)
    parts = (
        spent["observe"],
        spent["step"],
        base,
        spent["collect_rollouts"] - spent["observe"] - spent["step"] - base,
        spent["train"],
    )
    return {"total": total / steps, **{stage: part / steps for stage, part in zip(STAGES, parts, strict=True)}}


def _innermost(env: Any) -> Any:
    while hasattr(env, "venv"):
        env = env.venv
    return env


def _synchronised(clock: Callable[[], float], device: torch.device) -> Callable[[], float]:
    """The clock, read when the device has done what it was given."""
    if device.type != "cuda":
        return clock

    def now() -> float:
        torch.cuda.synchronize(device)
        return clock()

    return now


def _watch(owner: Any, name: str, spent: dict[str, float], now: Callable[[], float], policy: torch.nn.Module) -> None:
    """Add what a method takes to `spent`, but for the base's passes in updates, which belong to the update."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        if name == "forward" and policy.training:
            return method(*args, **kwargs)
        start = now()
        try:
            return method(*args, **kwargs)
        finally:
            spent[name] += now() - start

    setattr(owner, name, timed)
