"""The value of every action from stacked frames (``policy=action_values``), for DQN (Mnih et al. 2015)."""

from __future__ import annotations

from typing import cast

from stable_baselines3.dqn.policies import MultiInputPolicy
from torch import Tensor

from agents.policies.epsilon_greedy import EpsilonGreedyPolicy
from agents.policies.policy import policies


@policies.register("action_values")
class ActionValuePolicy(EpsilonGreedyPolicy, MultiInputPolicy):
    """SB3's Q-network and its target on `agents.policies.extractor.NavigationExtractor`."""

    online = "q_net"

    def values(self, latent: Tensor) -> Tensor:
        """See `EpsilonGreedyPolicy.values`."""
        return cast(Tensor, self.q_net.q_net(latent.float()))
