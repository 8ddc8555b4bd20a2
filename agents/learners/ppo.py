"""PPO: Stable-Baselines3's, with this project's run folder around it.

Of several ranks each acts with its share of the agents in its own scenes; every mini-batch is the ranks' shares
together: its advantages are normalised over all of them and its gradient is their mean before it is clipped.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from adapt.training import distributed
from adapt.training.finite import Data, NotFinite, blame, check_finite
from adapt.training.run import Run, progress_bar
from adapt.training.state import load_optimizer, part
from agents.evaluation.episodes import Validation
from agents.learners.learner import learners
from agents.learners.memory import plan_memory
from agents.learners.rollout import DeviceRolloutBuffer, Timeouts
from agents.learners.settings import PPOConfig
from agents.policies.policy import Policy
from agents.setup import (
    VisualEncoder,
    make_scenes,
    make_stacked_env,
    make_visual_encoder,
    policy_arguments,
    policy_class,
)

REPORTED = ("success", "spl", "distance_to_goal", "nav_reward", "steps")


class _RunWriter(KVWriter):
    """SB3's logger into the run's ``metrics.jsonl`` and TensorBoard."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.run.log(step, {k: float(v) for k, v in key_values.items() if isinstance(v, int | float | np.number)})

    def close(self) -> None:
        """The run closes its own files."""


class AdvantagesOverRanks(DeviceRolloutBuffer):
    """Mini-batches whose advantages have mean 0 and deviation 1 over the mini-batches of all ranks together."""

    def get(self, batch_size: int | None = None) -> Iterator[Any]:  # type: ignore[override]
        """SB3's random mini-batches of `batch_size` samples of this rank."""
        for samples in super().get(batch_size):
            mean, deviation = distributed.moments(samples.advantages)
            yield samples._replace(advantages=(samples.advantages - mean) / (deviation + 1e-8))


class _LoggingCallback(BaseCallback):
    """After every rollout: success of recent episodes, progress bar, checkpoint; schedules after every step."""

    def __init__(self, run: Run, cfg: DictConfig, bar: Any, task: Any, vision: VisualEncoder) -> None:
        super().__init__()
        self.run, self.cfg, self.bar, self.task, self.vision = run, cfg, bar, task, vision
        self.validation = Validation(cfg)
        self.recent: deque[dict[str, Any]] = deque(maxlen=max(1, 200 // distributed.ranks()))
        self.rollouts = 0

    def _on_step(self) -> bool:
        self.recent.extend(info["nav"] for info in self.locals["infos"] if "nav" in info)
        return True

    def _on_rollout_start(self) -> None:
        """A rollout has been learned from: log, save."""
        if self.rollouts:
            self._log()
            if self.rollouts % self.cfg.save_every == 0:
                save(self.run, self.model, self.vision.base_sha256)
        self.rollouts += 1

    def _on_training_end(self) -> None:
        """Log the final rollout; `train_on_policy` writes the final checkpoint."""
        self._log()

    def _log(self) -> None:
        note = ""
        if self.recent:
            means = {key: float(np.mean([r[key] for r in self.recent])) for key in REPORTED}
            for key, value in means.items():
                self.logger.record(f"train/{key}", value)
            note = f"success {means['success']:.3f}, SPL {means['spl']:.3f}"
        self.bar.update(self.task, completed=self.num_timesteps * distributed.ranks(), note=note)
        if self.rollouts % (self.cfg.log_every * self.cfg.validation.every) == 0:
            for key, value in self.validation(policy_of(self.model), self.vision).items():
                self.logger.record(key, value)
        if self.rollouts % self.cfg.log_every == 0:
            self.logger.dump(self.num_timesteps * distributed.ranks())

    def _on_rollout_end(self) -> None:
        if self.vision.adapted is not None:
            self.vision.adapted.advance(self.cfg.algo.rollout * self.cfg.env.agents)


def policy_of(model: BaseAlgorithm) -> Policy:
    """The policy that an SB3 algorithm trains."""
    return cast(Policy, model.policy)


def save(run: Run, model: BaseAlgorithm, base_sha256: str) -> None:
    """Checkpoint an SB3 algorithm; the number of steps is that of all ranks together."""
    state = {"policy": policy_of(model).own_state(), "optimizer": model.policy.optimizer.state_dict()}
    steps = model.num_timesteps * distributed.ranks()
    distributed.check_equal(state["policy"], f"after {steps} steps")
    run.save(steps, base_sha256, state)


def make_ppo(cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> PPO:
    """This rank's SB3 PPO with its agents, for a training that has made `done` steps on all ranks together."""
    ranks, agents = distributed.ranks(), distributed.share(cfg.env.agents, "env.agents")
    if agents * cfg.algo.rollout < 2:
        raise ValueError("env.agents=1 with algo.rollout=1 is one sample, from which PPO does not learn; raise either")
    seed = cfg.seed + done + distributed.SEEDS_APART * distributed.rank()
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed, (distributed.rank(), ranks))
    planned = plan_memory(cfg, vision, scenes, agents)
    if distributed.rank() == 0:
        Console().print(planned, highlight=False, soft_wrap=True)
    settings: dict[str, Any] = OmegaConf.to_container(cfg.algo.learner, resolve=True)  # type: ignore[assignment]
    rate = settings.pop("learning_rate")
    settings["batch_size"] = distributed.share(cfg.algo.learner.batch_size, "algo.learner.batch_size")
    settings["rollout_buffer_class"] = DeviceRolloutBuffer
    # Averaging over ranks and the check for what is not finite come between the gradients and clipping, where SB3 has
    # no place for them: `prepare_before_step` clips after them instead.
    largest = settings.pop("max_grad_norm")
    if ranks > 1:
        if settings.get("target_kl") is not None:
            raise ValueError("algo.learner.target_kl stops each rank at another time; leave it out with several ranks")
        settings.update(normalize_advantage=False, rollout_buffer_class=AdvantagesOverRanks)
    model = PPO(
        cast("type[ActorCriticPolicy]", policy_class(cfg)),
        make_stacked_env(cfg, scenes, vision, agents, seed),
        n_steps=cfg.algo.rollout,
        # The last rollout may go beyond the steps asked for: `left` is then below 0.
        learning_rate=(lambda left: rate * max(left, 0.0)) if cfg.algo.anneal else rate,
        policy_kwargs=policy_arguments(cfg, vision),
        seed=seed,
        device=next(iter(vision.base.parameters())).device if vision.base is not None else "cpu",
        max_grad_norm=math.inf,
        **settings,
    )
    model.num_timesteps = done // ranks
    distributed.prepare_before_step(
        model.policy.optimizer, model.policy, largest, lambda: _place(model), lambda: _rollout(model)
    )
    return model


def _place(model: BaseAlgorithm) -> str:
    """Where a training is, for a message."""
    return f"after step {model.num_timesteps * distributed.ranks()}"


def _rollout(model: PPO) -> Data:
    """The rollout that is being learned from, by name."""
    assert isinstance(model.rollout_buffer, DeviceRolloutBuffer)
    return model.rollout_buffer.contents()


@contextlib.contextmanager
def _naming_what_is_not_finite(model: BaseAlgorithm) -> Iterator[None]:
    """Where the policy gives no distribution over actions, say what of its observations or weights is not finite.

    torch refuses such a distribution with all of its numbers, or fails to draw from it.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if isinstance(error, NotFinite):
            raise
        seen = model._last_obs
        if isinstance(seen, dict) and (found := blame({f"observation {key}": seen[key] for key in seen})):
            raise NotFinite(f"{_place(model)}: {found}") from error
        check_finite(policy_of(model).own_state(), f"{_place(model)}: the policy")
        raise


@learners.register("ppo")
class PPOLearner:
    """SB3's PPO on frames that the policy stacks."""

    Config = PPOConfig

    def train(self, cfg: DictConfig, run: Run) -> dict[str, Any]:
        """Train for ``cfg.algo.steps`` environment steps, to the end of the rollout that reaches them."""
        vision = make_visual_encoder(cfg)
        state = run.restore(vision.base_sha256)
        done = int(state["step"]) if state is not None else 0
        model = make_ppo(cfg, vision, done)
        train_on_policy(cfg, run, vision, model, state, [Timeouts()])
        return {"steps": model.num_timesteps * distributed.ranks()}


def train_on_policy(
    cfg: DictConfig,
    run: Run,
    vision: VisualEncoder,
    model: OnPolicyAlgorithm,
    state: dict[str, Any] | None,
    callbacks: Sequence[BaseCallback] = (),
) -> None:
    """Train an SB3 algorithm that learns from rollouts, with logs, validation and checkpoints in the run folder.

    Args:
        cfg: The config of ``agents.train``; ``cfg.algo`` has ``steps``.
        run: Its run folder.
        vision: What the policy sees through.
        model: The algorithm.
        state: The checkpoint to go on from, if there is one.
        callbacks: Called before this function's own.
    """
    policy, done = policy_of(model), int(state["step"]) if state is not None else 0
    if state is not None:
        with run.taking_over():
            policy.load_own_state(part(state, "policy"))
            load_optimizer(model.policy.optimizer, part(state, "optimizer"))
    distributed.copy_from_first(policy.own_state().values())
    model.set_logger(Logger(None, [_RunWriter(run)]))
    with progress_bar() as bar:
        task = bar.add_task(cfg.algo.name, total=cfg.algo.steps, completed=done, note="")
        if done < cfg.algo.steps:
            watch = _LoggingCallback(run, cfg, bar, task, vision)
            left = math.ceil((cfg.algo.steps - done) / distributed.ranks())
            with _naming_what_is_not_finite(model):
                model.learn(left, [*callbacks, watch], log_interval=sys.maxsize, reset_num_timesteps=done == 0)
    save(run, model, vision.base_sha256)
