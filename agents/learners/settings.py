"""Settings of ``algo=``: a dataclass for each learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch

from configs.settings import NotNegative, OneOf, Positive, Range, Settings, Share

SCHEDULES = ("linear", "constant")
OPTIMIZERS = {"adam": torch.optim.Adam, "radam": torch.optim.RAdam}
Rate = NotNegative
Updates = Annotated[int, Range(1)]
Batch = Annotated[int, Range(1, 1_048_576)]
Count = Annotated[int, Range(1, 1_000_000)]


@dataclass(frozen=True)
class ImitationSettings(Settings):
    """Supervised updates of a policy.

    Attributes:
        learning_rate: Of Adam.
        batch_size: Labelled frames per update, of all ranks together.
        window: Consecutive labelled frames in a batch; divides it.
        max_grad_norm: Largest norm of the gradient.
        weight_decay: Of Adam.
        schedule: Whether the learning rate falls linearly to 0.
    """

    learning_rate: Rate = 1e-3
    batch_size: Batch = 128
    window: Annotated[int, Range(1, 4096)] = 4
    max_grad_norm: Rate = 1.0
    weight_decay: Rate = 0.0
    schedule: Annotated[str, OneOf(*SCHEDULES)] = "linear"


@dataclass(frozen=True)
class BCConfig(Settings):
    """Behaviour cloning of recorded expert trajectories (Side-Tuning, section 4.3).

    Attributes:
        data: Folder that agents.collect wrote.
        trajectories: Only the first so many recorded ones; null: all.
        updates: Gradient steps.
        parallel: Leave half of the cores to other processes.
    """

    data: str
    trajectories: Annotated[int | None, Range(1)] = None
    updates: Updates = 9000
    parallel: bool = False
    learner: ImitationSettings = field(default_factory=lambda: ImitationSettings(2e-4, 64, 8, 1.0, 3.8e-7, "constant"))


@dataclass(frozen=True)
class DaggerConfig(Settings):
    """DAgger: the expert labels the states that the learner itself comes into (Ross et al. 2011).

    Attributes:
        updates: Gradient steps.
        parallel: Collect in a second process, which has half of the cores; false: in turns, deterministic.
        updates_per_step: With parallel=false, updates for each step of all agents.
        warmup_frames: Frames before the first update.
        frames_per_update: With parallel=true, frames that may come for each update, of all ranks together: collecting
            waits when it is ahead, which leaves its cores to learning. 0: as many as come.
        buffer_frames: Newest frames kept, of all ranks together.
        keep_frames: Keep them on disk after training.
        mirror: Every second agent acts in the mirror image of its scene.
        beta_floor: Final share of expert steps, spread over the agents from the first to the second number.
        temperature: Of the learner's own steps.
    """

    updates: Updates = 7000
    parallel: bool = True
    updates_per_step: Annotated[int, Range(1, 1_000_000)] = 1
    warmup_frames: Annotated[int, Range(0, 100_000_000)] = 8192
    frames_per_update: Annotated[float, Range(0, 1_000_000)] = 0.0
    buffer_frames: Annotated[int, Range(1, 100_000_000)] = 160_000
    keep_frames: bool = False
    mirror: bool = True
    beta_floor: tuple[Share, Share] = (0.05, 0.75)
    temperature: Rate = 0.5
    learner: ImitationSettings = field(default_factory=ImitationSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.beta_floor[0] <= self.beta_floor[1], "beta_floor", "two shares, the lower first")


@dataclass(frozen=True)
class AdvantageSettings(Settings):
    """Arguments of Stable-Baselines3's algorithms that learn from advantages.

    Attributes:
        learning_rate: Of the optimiser.
        gamma: Discount.
        gae_lambda: Lambda of generalised advantage estimation.
        normalize_advantage: Whether advantages have mean 0 and deviation 1 in each update.
    """

    learning_rate: Rate = 5e-4
    gamma: Share = 0.99
    gae_lambda: Share = 0.95
    normalize_advantage: bool = True


@dataclass(frozen=True)
class ActorCriticSettings(AdvantageSettings):
    """Arguments of algorithms that minimise one loss of policy, value and entropy.

    Attributes:
        ent_coef: Weight of the entropy.
        vf_coef: Weight of the value loss.
        max_grad_norm: Largest norm of the gradient.
    """

    ent_coef: float = 0.01
    vf_coef: Rate = 0.5
    max_grad_norm: Positive = 0.5


@dataclass(frozen=True)
class PPOLearnerSettings(ActorCriticSettings):
    """Arguments of Stable-Baselines3's PPO.

    Attributes:
        n_epochs: Passes over a rollout.
        batch_size: Samples per update, of all ranks together.
        clip_range: Largest change of a probability's ratio.
        clip_range_vf: Largest change of a value; null: not clipped.
        target_kl: KL divergence at which the passes over a rollout end early; null: never.
    """

    n_epochs: Annotated[int, Range(1, 10_000)] = 3
    batch_size: Annotated[int, Range(2, 1_048_576)] = 512
    clip_range: Positive = 0.2
    clip_range_vf: Annotated[float | None, Range(0, above=True)] = None
    target_kl: Annotated[float | None, Range(0, above=True)] = None


@dataclass(frozen=True)
class ReinforcementConfig(Settings):
    """Length of reinforcement learning.

    Attributes:
        steps: Environment steps, all agents together.
        anneal: Whether the learning rate (TRPO: of the value function) falls linearly to 0.
        mirror: Every second agent acts in the mirror image of its scene (discrete actions, embedded simulator, rendered
            on the CPU); the agent is then evaluated by both views.
    """

    steps: Annotated[int, Range(1)] = 500_000
    anneal: bool = True
    mirror: bool = False


@dataclass(frozen=True)
class PPOConfig(ReinforcementConfig):
    """Stable-Baselines3's PPO.

    Attributes:
        rollout: Steps per agent between updates.
        sequence: With a recurrent policy, the steps through which gradients flow; divides rollout and batch_size.
        value_warmup: With start=, the first rollouts from which the value function alone learns.
        optimizer: Adam, or rectified Adam (Liu et al. 2020), with which Side-Tuning's Figure 8 fine-tunes.
    """

    rollout: Count = 128
    sequence: Count = 32
    value_warmup: Annotated[int, Range(0, 1_000_000)] = 4
    optimizer: Annotated[str, OneOf(*OPTIMIZERS)] = "adam"
    learner: PPOLearnerSettings = field(default_factory=PPOLearnerSettings)
