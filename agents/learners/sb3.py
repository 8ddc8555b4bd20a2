"""Learners of Stable-Baselines3 and sb3-contrib: A2C, TRPO, DQN, QR-DQN, SAC, TD3 (``algo=sb3/a2c``, ...).

A2C and TRPO learn discrete and continuous actions, DQN and QR-DQN discrete ones, SAC and TD3 continuous ones. They act
in the same environments as PPO and train policies on the same features, into the same run folder. PPO and RecurrentPPO
are ``algo=ppo``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from omegaconf import DictConfig
from sb3_contrib import QRDQN, TRPO
from stable_baselines3 import A2C, DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from agents.learners.learner import learners
from agents.learners.sb3_settings import A2CConfig, DQNConfig, QRDQNConfig, SACConfig, TD3Config, TRPOConfig
from agents.learners.sb3_training import SB3Learner, check_gradient, learner_settings, make_off_policy
from agents.policies.action_values import ActionValuePolicy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.quantiles import QuantilePolicy
from agents.policies.squashed_gaussian import SquashedGaussianPolicy
from agents.setup import VisualEncoder
from configs.settings import Settings
from envs.pointnav.velocity import DIMENSIONS


@learners.register("sb3/a2c")
class A2CLearner(SB3Learner):
    """Advantage actor-critic (Mnih et al. 2016), synchronous: one update for each rollout."""

    Config = A2CConfig
    Algorithm = A2C
    by_ranks = True


class PartlyFrozenTRPO(TRPO):
    """TRPO of policies with frozen parameters: sb3-contrib's asks each for its gradient, which frozen ones refuse."""

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[tuple[int, ...]]]:
        """Parameters that the divergence depends on, gradients (N,) of objective and divergence, and their shapes.

        Raises:
            NotFinite: A gradient holds NaN or infinity; no step was made.
        """
        trained = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        # Those of the value function alone get None.
        found = torch.autograd.grad(kl_div, trained, create_graph=True, retain_graph=True, allow_unused=True)
        moved = [(parameter, grad) for parameter, grad in zip(trained, found, strict=True) if grad is not None]
        parameters = [parameter for parameter, _ in moved]
        objective = torch.autograd.grad(policy_objective, parameters, retain_graph=True)
        flat = [torch.cat([grad.reshape(-1) for grad in grads]) for grads in (objective, [grad for _, grad in moved])]
        for gradient in flat:
            check_gradient(self, gradient)
        return parameters, flat[0], flat[1], [tuple(parameter.shape) for parameter in parameters]


@learners.register("sb3/trpo")
class TRPOLearner(SB3Learner):
    """Trust region policy optimisation (Schulman et al. 2015).

    The value function is a linear layer on the policy's features, which only the policy's own steps move.
    """

    Config = TRPOConfig
    Algorithm = PartlyFrozenTRPO

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """See `SB3Learner.make`.

        Raises:
            ValueError: The adaptation method adds a penalty to the loss, for which TRPO has no place.
        """
        if vision.adapted is not None and vision.adapted.penalty().requires_grad:
            raise ValueError(f"algo=sb3/trpo has no place for the penalty of adapt={cfg.adapt.name}; use algo=ppo")
        return super().make(cfg, vision, done)


class OffPolicyLearner(SB3Learner):
    """An algorithm that learns from replayed steps."""

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """See `SB3Learner.make`."""
        return make_off_policy(self.Algorithm, cfg, vision, done, **self.arguments(cfg))

    def arguments(self, cfg: DictConfig) -> dict[str, Any]:
        """The algorithm's arguments."""
        return learner_settings(cfg)

    def callbacks(self, cfg: DictConfig) -> list[BaseCallback]:
        """None: SB3 itself values time-outs of replayed steps."""
        return []


@learners.register("sb3/dqn")
class DQNLearner(OffPolicyLearner):
    """Deep Q-learning (Mnih et al. 2015)."""

    Config: ClassVar[type[Settings]] = DQNConfig
    Algorithm: ClassVar[type[BaseAlgorithm]] = DQN
    Policy: ClassVar[type[BasePolicy]] = ActionValuePolicy
    example = "action_values"
    actions = ("discrete",)


@learners.register("sb3/qrdqn")
class QRDQNLearner(DQNLearner):
    """Quantile regression DQN (Dabney et al. 2018): the distribution of returns instead of their mean."""

    Config = QRDQNConfig
    Algorithm = QRDQN
    Policy = QuantilePolicy
    example = "quantiles"


@learners.register("sb3/sac")
class SACLearner(OffPolicyLearner):
    """Soft actor-critic (Haarnoja et al. 2018)."""

    Config = SACConfig
    Algorithm = SAC
    Policy = SquashedGaussianPolicy
    example = "squashed_gaussian"
    actions = ("continuous",)

    def arguments(self, cfg: DictConfig) -> dict[str, Any]:
        """See `OffPolicyLearner.arguments`; SB3 says ``auto`` for what is learned."""
        settings = learner_settings(cfg)
        return {**settings, **{key: "auto" for key in ("ent_coef", "target_entropy") if settings[key] is None}}


@learners.register("sb3/td3")
class TD3Learner(OffPolicyLearner):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018)."""

    Config = TD3Config
    Algorithm = TD3
    Policy = DeterministicPolicy
    example = "deterministic"
    actions = ("continuous",)

    def arguments(self, cfg: DictConfig) -> dict[str, Any]:
        """See `OffPolicyLearner.arguments`."""
        settings = learner_settings(cfg)
        deviation = np.full(DIMENSIONS, settings.pop("exploration_noise"))
        return {**settings, "action_noise": NormalActionNoise(np.zeros(DIMENSIONS), deviation)}
