"""Training an algorithm of Stable-Baselines3 or sb3-contrib with this project's run folder around it.

Of several ranks each acts with its share of the agents in its own scenes; every mini-batch is the ranks' shares
together: its gradient is their mean before it is clipped.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor
from torch.optim import Optimizer

from adapt import Adapted
from adapt.training import distributed
from adapt.training.finite import Data, NotFinite, blame, check_finite
from adapt.training.run import Run, progress_bar
from adapt.training.state import check_like, entry_of, load_optimizer
from agents.evaluation.episodes import Validation
from agents.learners.memory import check_memory, ppo_bytes, replay_bytes
from agents.learners.rollout import DeviceRolloutBuffer, Timeouts
from agents.learners.start import init_from_run
from agents.policies.observations import stack_frames
from agents.policies.policy import Policy
from agents.policies.recurrent import RecurrentPolicy
from agents.setup import (
    VisualEncoder,
    actions_of,
    can_mirror,
    check_actions,
    device_of,
    make_env,
    make_scenes,
    make_stacked_env,
    make_visual_encoder,
    policy_arguments,
    policy_class,
    stacked_frames,
)
from configs.settings import Settings
from envs.pointnav.env import ACTIONS

ENTROPY = "log_ent_coef"
REPORTED = ("success", "spl", "distance_to_goal", "nav_reward", "steps")


class _RunWriter(KVWriter):
    """SB3's logger into the run's ``metrics.jsonl`` and TensorBoard."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.run.log(step, {k: float(v) for k, v in key_values.items() if isinstance(v, int | float | np.number)})

    def close(self) -> None:
        """The run closes its own files."""


class _LoggingCallback(BaseCallback):
    """After every rollout: success of recent episodes, progress bar, checkpoint; schedules after every step."""

    def __init__(self, run: Run, cfg: DictConfig, bar: Any, task: Any, vision: VisualEncoder) -> None:
        super().__init__()
        self.run, self.cfg, self.bar, self.task, self.vision = run, cfg, bar, task, vision
        self.validation = Validation(cfg)
        self.recent: deque[dict[str, Any]] = deque(maxlen=max(1, 200 // distributed.ranks()))
        self.rollouts = self.counted = 0

    def _on_step(self) -> bool:
        self.recent.extend(info["nav"] for info in self.locals["infos"] if "nav" in info)
        if isinstance(self.model, OffPolicyAlgorithm):
            self._check_step()
        return True

    def _check_step(self) -> None:
        """Refuse a step that is not finite before it is replayed: some losses bound its gradient, and learn from it.

        Raises:
            NotFinite: A reward or an observation is NaN or infinite.
        """
        if fault := blame({"reward": self.locals["rewards"], **_observed(self.locals["new_obs"])}):
            raise NotFinite(f"{_place(self.model)}: {fault}")

    def _on_rollout_start(self) -> None:
        """A rollout has been learned from: log, save."""
        if not self.rollouts:
            self.counted = self.num_timesteps
        else:
            self._log()
            if self.rollouts % self.cfg.save_every == 0:
                save(self.run, self.model, self.vision.base_sha256)
        self.rollouts += 1

    def _on_training_end(self) -> None:
        """Log the final rollout; `train_with_sb3` writes the final checkpoint."""
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
        # Off-policy algorithms have several networks, each with adapted features of its own.
        for module in self.model.policy.modules():
            if isinstance(module, Adapted):
                module.advance((self.num_timesteps - self.counted) * distributed.ranks())
        self.counted = self.num_timesteps


def policy_of(model: BaseAlgorithm) -> Policy:
    """The policy that an SB3 algorithm trains."""
    return cast(Policy, model.policy)


def optimizers(model: BaseAlgorithm) -> dict[str, Optimizer]:
    """The optimisers of an SB3 algorithm by their keys in checkpoints."""
    if not isinstance(model, SAC | TD3):
        return {"optimizer": model.policy.optimizer}
    found = {"actor_optimizer": model.actor.optimizer, "critic_optimizer": model.critic.optimizer}
    entropy = model.ent_coef_optimizer if isinstance(model, SAC) else None
    return found if entropy is None else {**found, "entropy_optimizer": entropy}


def _learned_entropy(model: BaseAlgorithm) -> Tensor | None:
    """The logarithm of SAC's weight of the entropy where that is learned."""
    return model.log_ent_coef if isinstance(model, SAC) else None


def save(run: Run, model: BaseAlgorithm, base_sha256: str) -> None:
    """Checkpoint an SB3 algorithm; the number of steps is that of all ranks together."""
    state = {"policy": policy_of(model).own_state(), **{k: o.state_dict() for k, o in optimizers(model).items()}}
    if (entropy := _learned_entropy(model)) is not None:
        state[ENTROPY] = {ENTROPY: entropy.detach()}
    steps = model.num_timesteps * distributed.ranks()
    distributed.check_equal(state["policy"], f"after {steps} steps")
    run.save(steps, base_sha256, state)


def learner_settings(cfg: DictConfig) -> dict[str, Any]:
    """``cfg.algo.learner`` as arguments of the algorithm; the batch is this rank's share."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg.algo.learner, resolve=True)  # type: ignore[assignment]
    if "batch_size" in settings:
        settings["batch_size"] = distributed.share(settings["batch_size"], "algo.learner.batch_size")
    return settings


def mirrored(cfg: DictConfig, agents: int) -> bool:
    """Whether every second agent acts in the mirror image of its scene (``algo.mirror``; older runs have no such key).

    Args:
        cfg: The config of ``agents.train``.
        agents: How many act in this process.

    Raises:
        ValueError: It should, and there is no second agent, or the simulator or the actions have no mirror image.
    """
    asked = bool(OmegaConf.select(cfg, "algo.mirror", default=False))
    if asked and agents < 2:
        raise ValueError("algo.mirror=true mirrors every second agent, and there is one alone; raise env.agents")
    if asked and not can_mirror(cfg):
        raise ValueError(
            f"algo.mirror=true: env={cfg.env.name} with {actions_of(cfg)} actions has no mirror image; leave it out"
        )
    return asked


def make_on_policy(
    kind: Callable[..., OnPolicyAlgorithm], cfg: DictConfig, vision: VisualEncoder, done: int, **settings: Any
) -> OnPolicyAlgorithm:
    """An SB3 algorithm that learns from rollouts, with this rank's agents.

    Args:
        kind: Its class.
        cfg: The config of ``agents.train``; ``cfg.algo`` has ``rollout`` and ``anneal``.
        vision: What the policy sees through.
        done: Steps that the training has made, on all ranks together.
        settings: Its arguments; the class of its rollout is `DeviceRolloutBuffer` unless they say another.
    """
    ranks, agents = distributed.ranks(), distributed.share(cfg.env.agents, "env.agents")
    if agents * cfg.algo.rollout < 2:
        raise ValueError(
            f"env.agents=1 with algo.rollout=1 is one sample, too few for algo={cfg.algo.name}; raise either"
        )
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed, (distributed.rank(), ranks))
    distributed.print_once(check_memory(ppo_bytes(cfg, vision, scenes, agents), device_of(cfg)))
    arguments, largest = _arguments(cfg, vision, done, settings)
    env = make_stacked_env(cfg, scenes, vision, agents, arguments["seed"], mirrored(cfg, agents))
    arguments = {"rollout_buffer_class": DeviceRolloutBuffer, **arguments}
    model = kind(policy_class(cfg), env, n_steps=cfg.algo.rollout, **arguments)
    model.num_timesteps = done // ranks
    _check_before_steps(model, largest, lambda: _rollout(model))
    return model


def make_off_policy(
    kind: Callable[..., BaseAlgorithm], cfg: DictConfig, vision: VisualEncoder, done: int, **settings: Any
) -> BaseAlgorithm:
    """An SB3 algorithm that learns from replayed steps; arguments as those of `make_on_policy`.

    The replay is not kept with checkpoints: a resumed training fills it again before it goes on learning.
    """
    scenes = make_scenes(cfg.env, cfg.env.split, cfg.seed)
    distributed.print_once(check_memory(replay_bytes(cfg, vision), "cpu"))
    arguments, largest = _arguments(cfg, vision, done, settings)
    arguments["learning_starts"] += done
    env = make_env(cfg, scenes, vision, cfg.env.agents, arguments["seed"], mirrored(cfg, cfg.env.agents))[0]
    model = kind(policy_class(cfg), stack_frames(env, stacked_frames(cfg)), **arguments)
    model.num_timesteps = done
    _check_before_steps(model, largest, dict)
    return model


def _arguments(
    cfg: DictConfig, vision: VisualEncoder, done: int, settings: dict[str, Any]
) -> tuple[dict[str, Any], float]:
    """Arguments that all algorithms take, and the largest norm of the gradient (0: any)."""
    settings = dict(settings)
    rate, largest = settings.pop("learning_rate"), 0.0
    # Averaging over ranks and the check for what is not finite come between the gradients and clipping, where SB3 has
    # no place for them: `prepare_before_step` clips after them instead.
    if "max_grad_norm" in settings:
        largest, settings["max_grad_norm"] = settings["max_grad_norm"], math.inf
    return {
        # The last rollout may go beyond the steps asked for: `left` is then below 0.
        "learning_rate": (lambda left: rate * max(left, 0.0)) if cfg.algo.anneal else rate,
        "policy_kwargs": {**policy_arguments(cfg, vision), **settings.pop("policy_kwargs", {})},
        "seed": cfg.seed + done + distributed.SEEDS_APART * distributed.rank(),
        "device": device_of(cfg) if vision.base is None else next(iter(vision.base.parameters())).device,
        **settings,
    }, largest


def _check_before_steps(model: BaseAlgorithm, largest: float, data: Callable[[], Data]) -> None:
    """Average, check and clip gradients before every step of the algorithm's optimiser."""
    for optimizer in optimizers(model).values():
        distributed.prepare_before_step(optimizer, model.policy, largest, lambda: _place(model), data)


def check_gradient(model: OnPolicyAlgorithm, gradient: Tensor) -> None:
    """Check a gradient (N,) of an algorithm that makes steps without its optimiser.

    Raises:
        NotFinite: It holds NaN or infinity; the message names what of the rollout does.
    """
    if not bool(gradient.isfinite().all()):
        raise NotFinite(f"{_place(model)}: {blame(_rollout(model)) or 'the gradient is not finite'}")


def _place(model: BaseAlgorithm) -> str:
    """Where a training is, for a message."""
    return f"after step {model.num_timesteps * distributed.ranks()}"


def _rollout(model: OnPolicyAlgorithm) -> Data:
    """The rollout that is being learned from, by name."""
    assert isinstance(model.rollout_buffer, DeviceRolloutBuffer)
    return model.rollout_buffer.contents()


def _observed(seen: Any) -> Data:
    """Observations of a step by their names in messages."""
    return {f"observation {key}": seen[key] for key in seen} if isinstance(seen, dict) else {}


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
        if fault := blame(_observed(model._last_obs)):
            raise NotFinite(f"{_place(model)}: {fault}") from error
        check_finite(policy_of(model).own_state(), f"{_place(model)}: the policy")
        raise


def _progress(model: BaseAlgorithm, done: int, steps: int) -> str:
    """One line about where a resumed training is."""
    now, last = (model.lr_schedule(left) for left in (max(0.0, 1 - done / steps), 0.0))
    falls = f", falling to {last:.3g} at the end" if last < now else ""
    return f"going on after step {done:,} of {steps:,}; learning rate {now:.3g}{falls}"


def train_with_sb3(
    cfg: DictConfig,
    run: Run,
    vision: VisualEncoder,
    model: BaseAlgorithm,
    state: dict[str, Any] | None,
    callbacks: Sequence[BaseCallback] = (),
) -> None:
    """Train an SB3 algorithm, with logs, validation and checkpoints in the run folder.

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
            policy.load_own_state(entry_of(state, "policy"))
            for key, optimizer in optimizers(model).items():
                load_optimizer(optimizer, entry_of(state, key), key)
            if (entropy := _learned_entropy(model)) is not None:
                check_like(entry_of(state, ENTROPY), {ENTROPY: entropy}, ENTROPY)
                entropy.data.copy_(state[ENTROPY][ENTROPY])
        distributed.print_once(_progress(model, done, cfg.algo.steps))
    else:
        init_from_run(cfg, run, policy, vision.base_sha256)
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


class SB3Learner:
    """Learner around one algorithm of Stable-Baselines3 or sb3-contrib.

    Attributes:
        Config: Settings of ``algo``.
        Algorithm: The class of the algorithm.
        Policy: What the policy must be.
        example: A policy that is one, for messages.
        actions: The kinds of actions that it can learn.
        recurrent: Whether the policy may have a memory.
        by_ranks: Whether several ranks can train together.
    """

    Config: ClassVar[type[Settings]]
    Algorithm: ClassVar[type[BaseAlgorithm]]
    Policy: ClassVar[type[BasePolicy]] = ActorCriticPolicy
    example: ClassVar[str] = "stack"
    actions: ClassVar[tuple[str, ...]] = ACTIONS
    recurrent = False
    by_ranks = False

    def train(self, cfg: DictConfig, run: Run) -> Mapping[str, Any]:
        """Train for ``cfg.algo.steps`` environment steps; see `agents.learners.learner.Learner`.

        Raises:
            ValueError: Policy or actions are none that the algorithm can train, or there are several ranks and it
                knows one.
        """
        check_actions(cfg, self.actions, f"algo={cfg.algo.name}")
        kind = policy_class(cfg)
        if not issubclass(kind, self.Policy) or (issubclass(kind, RecurrentPolicy) and not self.recurrent):
            raise ValueError(f"algo={cfg.algo.name} cannot train policy={cfg.policy.name}; use policy={self.example}")
        if distributed.ranks() > 1 and not self.by_ranks:
            raise ValueError(f"algo={cfg.algo.name} trains in one process; start it without torchrun")
        vision = make_visual_encoder(cfg)
        state = run.restore(vision.base_sha256)
        model = self.make(cfg, vision, 0 if state is None else int(state["step"]))
        train_with_sb3(cfg, run, vision, model, state, self.callbacks(cfg))
        return {"steps": model.num_timesteps * distributed.ranks()}

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """The algorithm with its agents, for a training that has made `done` steps."""
        kind = cast("type[OnPolicyAlgorithm]", self.Algorithm)
        return make_on_policy(kind, cfg, vision, done, **learner_settings(cfg))

    def callbacks(self, cfg: DictConfig) -> list[BaseCallback]:
        """The algorithm's own callbacks: rewards of episodes whose time ran out get the value of their last state."""
        return [Timeouts()]
