"""Settings of ``algo=sb3/...``: the arguments of Stable-Baselines3's and sb3-contrib's algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from agents.learners.settings import (
    ActorCriticSettings,
    AdvantageSettings,
    Batch,
    Count,
    Rate,
    ReinforcementConfig,
)
from configs.settings import Positive, Range, Settings, Share


@dataclass(frozen=True)
class A2CLearnerSettings(ActorCriticSettings):
    """Arguments of Stable-Baselines3's A2C.

    Attributes:
        gae_lambda: Lambda of generalised advantage estimation; 1: as in the paper.
        normalize_advantage: Whether advantages have mean 0 and deviation 1 in each update (of one rank).
        use_rms_prop: RMSprop, as in the paper, in place of Adam.
        rms_prop_eps: Its epsilon.
    """

    learning_rate: Rate = 7e-4
    gae_lambda: Share = 1.0
    normalize_advantage: bool = False
    use_rms_prop: bool = True
    rms_prop_eps: Positive = 1e-5


@dataclass(frozen=True)
class A2CConfig(ReinforcementConfig):
    """Stable-Baselines3's A2C.

    Attributes:
        rollout: Steps per agent between updates.
    """

    rollout: Count = 8
    learner: A2CLearnerSettings = field(default_factory=A2CLearnerSettings)


@dataclass(frozen=True)
class TRPOLearnerSettings(AdvantageSettings):
    """Arguments of sb3-contrib's TRPO.

    Attributes:
        learning_rate: Of the value function.
        batch_size: Samples per update of the value function.
        target_kl: Radius of the trust region: KL divergence from the old policy.
        cg_max_steps: Steps of conjugate gradients.
        cg_damping: Damping of the Hessian.
        line_search_max_iter: Tries of the line search.
        line_search_shrinking_factor: By which each try is shorter than the last.
        n_critic_updates: Passes of the value function over a rollout.
    """

    learning_rate: Rate = 1e-3
    batch_size: Batch = 512
    target_kl: Positive = 0.01
    cg_max_steps: Count = 15
    cg_damping: Rate = 0.1
    line_search_max_iter: Count = 10
    line_search_shrinking_factor: Annotated[float, Range(0, 1, above=True, below=True)] = 0.8
    n_critic_updates: Count = 10


@dataclass(frozen=True)
class TRPOConfig(ReinforcementConfig):
    """sb3-contrib's TRPO.

    Attributes:
        rollout: Steps per agent between updates; an update holds the activations of all of them.
    """

    rollout: Count = 64
    learner: TRPOLearnerSettings = field(default_factory=TRPOLearnerSettings)


@dataclass(frozen=True)
class ReplaySettings(Settings):
    """Arguments of Stable-Baselines3's algorithms that learn from replayed steps.

    Attributes:
        learning_rate: Of Adam.
        buffer_size: Steps kept for replay, each with the observation after it.
        learning_starts: Random steps before the first update.
        batch_size: Replayed steps per update.
        tau: Share of the new weights that the target networks take over; 1: all.
        gamma: Discount.
        train_freq: Steps of every agent between updates.
        gradient_steps: Updates then.
    """

    learning_rate: Rate = 3e-4
    buffer_size: Annotated[int, Range(1, 100_000_000)] = 20_000
    learning_starts: Annotated[int, Range(0, 100_000_000)] = 1_000
    batch_size: Batch = 128
    tau: Share = 0.005
    gamma: Share = 0.99
    train_freq: Count = 1
    gradient_steps: Count = 2


@dataclass(frozen=True)
class DQNLearnerSettings(ReplaySettings):
    """Arguments of Stable-Baselines3's DQN.

    Attributes:
        target_update_interval: Steps between updates of the target network.
        exploration_fraction: Share of the training in which random actions become fewer.
        exploration_initial_eps: Share of random actions at first.
        exploration_final_eps: And at last.
        max_grad_norm: Largest norm of the gradient.
    """

    learning_rate: Rate = 2.5e-4
    learning_starts: Annotated[int, Range(0, 100_000_000)] = 5_000
    tau: Share = 1.0
    target_update_interval: Count = 5_000
    exploration_fraction: Share = 0.2
    exploration_initial_eps: Share = 1.0
    exploration_final_eps: Share = 0.05
    max_grad_norm: Positive = 10.0


@dataclass(frozen=True)
class DQNConfig(ReinforcementConfig):
    """Stable-Baselines3's DQN."""

    anneal: bool = False
    learner: DQNLearnerSettings = field(default_factory=DQNLearnerSettings)


@dataclass(frozen=True)
class QRDQNConfig(DQNConfig):
    """sb3-contrib's QR-DQN; the number of quantiles is the policy's."""


@dataclass(frozen=True)
class SACLearnerSettings(ReplaySettings):
    """Arguments of Stable-Baselines3's SAC.

    Attributes:
        ent_coef: Weight of the entropy; null: learned, so that the entropy comes to target_entropy.
        target_entropy: Entropy to come to; null: minus the number of velocities.
        target_update_interval: Updates between those of the target network.
    """

    ent_coef: Annotated[float | None, Range(0)] = None
    target_entropy: float | None = None
    target_update_interval: Count = 1


@dataclass(frozen=True)
class SACConfig(ReinforcementConfig):
    """Stable-Baselines3's SAC."""

    anneal: bool = False
    learner: SACLearnerSettings = field(default_factory=SACLearnerSettings)


@dataclass(frozen=True)
class TD3LearnerSettings(ReplaySettings):
    """Arguments of Stable-Baselines3's TD3.

    Attributes:
        exploration_noise: Standard deviation of what is added to actions while training.
        policy_delay: Updates of the critics for each of the actor and of the targets.
        target_policy_noise: Standard deviation of what is added to the target's actions.
        target_noise_clip: Largest size of that.
    """

    exploration_noise: Rate = 0.1
    policy_delay: Count = 2
    target_policy_noise: Rate = 0.2
    target_noise_clip: Rate = 0.5


@dataclass(frozen=True)
class TD3Config(ReinforcementConfig):
    """Stable-Baselines3's TD3."""

    anneal: bool = False
    learner: TD3LearnerSettings = field(default_factory=TD3LearnerSettings)
