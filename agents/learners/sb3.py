"""Learners of Stable-Baselines3 and sb3-contrib for discrete actions: A2C, TRPO, DQN, QR-DQN (``algo=sb3/a2c``, ...).

They act in the same environments as PPO and train policies on the same features, into the same run folder. PPO and
RecurrentPPO are ``algo=ppo``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from omegaconf import DictConfig
from sb3_contrib import QRDQN, TRPO
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from adapt.training import distributed
from adapt.training.run import Run
from agents.learners.learner import learners
from agents.learners.rollout import Timeouts
from agents.learners.sb3_settings import A2CConfig, DQNConfig, QRDQNConfig, TRPOConfig
from agents.learners.sb3_training import learner_settings, make_off_policy, make_on_policy, train_with_sb3
from agents.policies.action_values import ActionValuePolicy
from agents.policies.quantiles import QuantilePolicy
from agents.policies.recurrent import RecurrentPolicy
from agents.setup import VisualEncoder, make_visual_encoder, policy_class
from configs.settings import Settings


class SB3Learner:
    """Learner around one algorithm of Stable-Baselines3 or sb3-contrib."""

    Config: ClassVar[type[Settings]]
    Algorithm: ClassVar[type[BaseAlgorithm]]
    # What the policy must be, and the word for it.
    Policy: ClassVar[type[BasePolicy]] = ActorCriticPolicy
    word: ClassVar[str] = "stack"
    callbacks: ClassVar[tuple[type[BaseCallback], ...]] = ()
    by_ranks = False

    def train(self, cfg: DictConfig, run: Run) -> Mapping[str, Any]:
        """Train for ``cfg.algo.steps`` environment steps; see `agents.learners.learner.Learner`.

        Raises:
            ValueError: The policy is none that the algorithm can train, or there are several ranks and it knows one.
        """
        kind = policy_class(cfg)
        if not issubclass(kind, self.Policy) or issubclass(kind, RecurrentPolicy):
            raise ValueError(f"algo={cfg.algo.name} cannot train policy={cfg.policy.name}; use policy={self.word}")
        if distributed.ranks() > 1 and not self.by_ranks:
            raise ValueError(f"algo={cfg.algo.name} trains in one process; start it without torchrun")
        vision = make_visual_encoder(cfg)
        state = run.restore(vision.base_sha256)
        model = self.make(cfg, vision, 0 if state is None else int(state["step"]))
        train_with_sb3(cfg, run, vision, model, state, [callback() for callback in self.callbacks])
        return {"steps": model.num_timesteps * distributed.ranks()}

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """The algorithm with its agents, for a training that has made `done` steps."""
        kind = cast("type[OnPolicyAlgorithm]", self.Algorithm)
        return make_on_policy(kind, cfg, vision, done, **learner_settings(cfg))


@learners.register("sb3/a2c")
class A2CLearner(SB3Learner):
    """Advantage actor-critic (Mnih et al. 2016), synchronous: one update for each rollout."""

    Config = A2CConfig
    Algorithm = A2C
    callbacks = (Timeouts,)
    by_ranks = True


@learners.register("sb3/trpo")
class TRPOLearner(SB3Learner):
    """Trust region policy optimisation (Schulman et al. 2015).

    The value function is a linear layer on the policy's features, which only the policy's own steps move.
    """

    Config = TRPOConfig
    Algorithm = TRPO
    callbacks = (Timeouts,)

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """See `SB3Learner.make`.

        Raises:
            ValueError: The adaptation method adds a penalty to the loss, for which TRPO has no place.
        """
        if vision.adapted is not None and vision.adapted.penalty().requires_grad:
            raise ValueError(f"algo=sb3/trpo has no place for the penalty of adapt={cfg.adapt.name}; use algo=ppo")
        return super().make(cfg, vision, done)


@learners.register("sb3/dqn")
class DQNLearner(SB3Learner):
    """Deep Q-learning (Mnih et al. 2015) on replayed steps."""

    Config = DQNConfig
    Algorithm: ClassVar[type[BaseAlgorithm]] = DQN
    Policy: ClassVar[type[BasePolicy]] = ActionValuePolicy
    word = "action_values"

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> BaseAlgorithm:
        """See `SB3Learner.make`."""
        return make_off_policy(self.Algorithm, cfg, vision, done, **learner_settings(cfg))


@learners.register("sb3/qrdqn")
class QRDQNLearner(DQNLearner):
    """Quantile regression DQN (Dabney et al. 2018): the distribution of returns instead of their mean."""

    Config = QRDQNConfig
    Algorithm = QRDQN
    Policy = QuantilePolicy
    word = "quantiles"
