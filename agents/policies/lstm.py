"""The recurrent policy with a long short-term memory cell (Hochreiter and Schmidhuber 1997): ``policy=lstm``."""

from __future__ import annotations

from torch import nn

from agents.policies.policy import policies
from agents.policies.recurrent import RecurrentPolicy


@policies.register("lstm")
class LSTMPolicy(RecurrentPolicy):
    """Actor-critic with long short-term memory cell (Hochreiter and Schmidhuber 1997)."""

    Cell = nn.LSTMCell
