"""DAgger's data: the learner acts with the expert's help, the expert labels every state (Ross et al. 2011)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.learners.frames import ACTION, FrameStore
from agents.policies.actor import sample_actions, tempered
from agents.policies.observations import DEPTH, FEATURES, GOAL, MAPS, RGB, STEP, Observations
from agents.policies.policy import Policy
from envs.pointnav.env import STOP
from envs.pointnav.simulator import SimulatorVecEnv

STORED = (GOAL, RGB, FEATURES, DEPTH, *MAPS)
# An agent without this much progress (metres of geodesic distance) in this many steps follows the expert for a
# while; without that, stuck agents flood the buffer and success falls as training goes on.
PROGRESS, PATIENCE = 0.2, 25
LED_STEPS = (5, 20)


def stored(observations: Observations) -> Observations:
    """The observations of a frame that are stored."""
    return {key: observations[key] for key in STORED if key in observations}


def frame_layout(observations: Observations) -> dict[str, tuple[tuple[int, ...], str]]:
    """{key: (shape, dtype)} of one stored frame."""
    return {key: (value.shape[1:], str(value.dtype)) for key, value in stored(observations).items()}


class Collector:
    """N agents whose states are labelled by the shortest-path expert.

    Each agent follows the expert with probability beta at every step. Beta falls from 1 to the agent's own floor over
    the first third of training; floors are spread evenly over `beta_floor`. An eighth of the agents act greedily, the
    others sample at `temperature`; at temperature 0 all act greedily. A wrong STOP by the learner is replaced, as it
    would only end the episode.
    """

    def __init__(
        self,
        env: VecEnv,
        simulator: SimulatorVecEnv,
        policy: Policy,
        beta_floor: tuple[float, float],
        temperature: float,
        seed: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Reset the environment and get ready to collect; `shard` (index, shards): these are every shards-th agents."""
        self.env, self.simulator, self.actor = env, simulator, policy.new_actor()
        count = env.num_envs
        self.temperature = temperature or 1.0
        self.rng = np.random.default_rng([seed, 2, shard[0]])
        number = np.arange(count) * shard[1] + shard[0]
        self.floor = np.linspace(*beta_floor, count * shard[1])[number]
        self.greedy = (number % 8 == 7) | (temperature == 0)
        actions = simulator.nav.task.discrete_actions
        self.stop = actions.index(STOP) if STOP in actions else -1
        self.observations: Observations = env.reset()  # type: ignore[assignment]
        self.best = np.full(count, np.inf)
        self.since = np.zeros(count, np.int64)
        self.led = np.zeros(count, np.int64)

    def collect(self, store: FrameStore, steps: int, progress: float) -> None:
        """Take `steps` steps with every agent at training progress in [0, 1] and append the frames to `store`."""
        for _ in range(steps):
            labels = self.simulator.expert()
            store.push({**stored(self.observations), ACTION: labels, STEP: self.simulator.nav.agents.steps})
            actions = self._act(labels, progress)
            self.observations, _, dones, _ = self.env.step(actions)  # type: ignore[assignment]
            self._watch(dones)

    def _act(self, labels: NDArray[np.int64], progress: float) -> NDArray[np.int64]:
        beta = 1.0 - (1.0 - self.floor) * min(1.0, 3.0 * progress)
        follows = (self.rng.random(len(labels)) < beta) | (self.led > 0)
        noise = self.rng.random(len(labels))
        steps = self.simulator.nav.agents.steps
        probabilities = tempered(self.actor.logits(self.observations, steps), self.temperature)
        own = np.where(self.greedy, probabilities.argmax(1), sample_actions(probabilities, noise))
        own = np.where((own == self.stop) & (labels != self.stop), labels, own)
        return np.where(follows, labels, own)

    def _watch(self, dones: NDArray[np.bool_]) -> None:
        """Notice agents that make no progress."""
        distance = self.simulator.nav.agents.distance
        better = dones | (distance < self.best - PROGRESS)
        self.best = np.where(better, distance, self.best)
        self.since = np.where(better, 0, self.since + 1)
        self.led = np.where(dones, 0, np.maximum(self.led - 1, 0))
        stuck = self.since >= PATIENCE
        self.led[stuck] = self.rng.integers(*LED_STEPS, size=int(stuck.sum()))
        self.since[stuck] = 0
