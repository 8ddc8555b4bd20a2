"""PPO: Stable-Baselines3's, or sb3-contrib's RecurrentPPO for a policy with a memory.

On several ranks the advantages of a mini-batch are normalised over all of them.
"""

from __future__ import annotations

from typing import cast

from omegaconf import DictConfig
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from adapt.training import distributed
from agents.learners.learner import learners
from agents.learners.recurrent import MemoryPPO, SequenceBuffer, SequencesOverRanks, sequence_of
from agents.learners.rollout import AdvantagesOverRanks
from agents.learners.sb3_training import SB3Learner, learner_settings, make_on_policy
from agents.learners.settings import OPTIMIZERS, PPOConfig
from agents.learners.start import ValueWarmup
from agents.policies.recurrent import RecurrentPolicy
from agents.setup import VisualEncoder, policy_class


def make_ppo(cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> PPO | MemoryPPO:
    """This rank's SB3 PPO with its agents, for a training that has made `done` steps on all ranks together.

    With a recurrent policy it is sb3-contrib's RecurrentPPO.
    """
    settings, ranks = learner_settings(cfg), distributed.ranks()
    settings["policy_kwargs"] = {"optimizer_class": OPTIMIZERS[cfg.algo.optimizer]}
    recurrent = issubclass(policy_class(cfg), RecurrentPolicy)
    if recurrent:
        settings["sequence"] = sequence_of(cfg.algo.sequence, cfg.algo.rollout, settings["batch_size"])
        settings["rollout_buffer_class"] = SequenceBuffer
    if ranks > 1:
        if settings.get("target_kl") is not None:
            raise ValueError("algo.learner.target_kl stops each rank at another time; leave it out with several ranks")
        own = SequencesOverRanks if recurrent else AdvantagesOverRanks
        settings.update(normalize_advantage=False, rollout_buffer_class=own)
    return cast("PPO | MemoryPPO", make_on_policy(MemoryPPO if recurrent else PPO, cfg, vision, done, **settings))


@learners.register("ppo")
class PPOLearner(SB3Learner):
    """SB3's PPO on frames that the policy stacks, or RecurrentPPO."""

    Config = PPOConfig
    recurrent = by_ranks = True

    def make(self, cfg: DictConfig, vision: VisualEncoder, done: int = 0) -> PPO | MemoryPPO:
        """See `make_ppo`."""
        return make_ppo(cfg, vision, done)

    def callbacks(self, cfg: DictConfig) -> list[BaseCallback]:
        """Those of all learners and, with ``start=``, the value function's warm-up."""
        callbacks = super().callbacks(cfg)
        if cfg.get("start"):
            callbacks.append(ValueWarmup(cfg.algo.value_warmup * cfg.algo.rollout * cfg.env.agents))
        return callbacks
