"""The recurrent policy with a gated recurrent unit (Cho et al. 2014): ``policy=gru``."""

from __future__ import annotations

from torch import nn

from agents.policies.policy import policies
from agents.policies.recurrent import RecurrentPolicy


@policies.register("gru")
class GRUPolicy(RecurrentPolicy):
    """Actor-critic with gated recurrent unit (Cho et al. 2014)."""

    Cell = nn.GRUCell
