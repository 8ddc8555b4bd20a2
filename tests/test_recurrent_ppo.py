"""RecurrentPPO: sequences equal acting step by step, every step is learned from once, and memory is learned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from agent_runs import metrics, same, state, train, weights
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.vec_env import VecEnv
from test_recurrent import GOAL_ONLY, SPACE, frames, make

from agents.learners.recurrent import MemoryPPO, SequenceBuffer, sequence_of
from agents.learners.rollout import Timeouts
from agents.policies.observations import GOAL, VALID
from agents.policies.policy import policies

PPO = ["algo=ppo", "algo.rollout=16", "algo.sequence=8", "algo.learner.batch_size=32", "blind=true"]
PPO += ["policy=gru", "policy.memory=16", "save_every=1"]
ANSWERS = 3


def observed(rows: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    batch = frames(rows, length, SPACE, seed)
    return {key: torch.as_tensor(batch[key]) for key in SPACE.spaces}


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_sequences_are_acting_step_by_step(name: str) -> None:
    policy, seen = make(name), observed(3, 6)
    policy.set_training_mode(False)
    starts = torch.zeros(3, 6)
    starts[0, 0] = starts[1, 3] = starts[2, 5] = 1
    memory = RNNStates(*[tuple(torch.randn(3, 16) for _ in policy.empty(3))] * 2)
    now, values, log_probs, actions = memory, [], [], []
    with torch.no_grad():
        for k in range(6):
            frame = {key: value[:, k] for key, value in seen.items()}
            assert torch.equal(
                policy.predict_values(frame, now.vf, starts[:, k]), policy.forward(frame, now, starts[:, k])[1]
            )
            action, value, log_prob, now = policy.forward(frame, now, starts[:, k])
            values.append(value.flatten())
            log_probs.append(log_prob)
            actions.append(action)
        flat = {key: value.flatten(0, 1) for key, value in seen.items()}
        chosen = torch.stack(actions, 1).flatten()
        found = policy.evaluate_actions(flat, chosen, memory, starts.flatten())
    torch.testing.assert_close(found[0].flatten(), torch.stack(values, 1).flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], torch.stack(log_probs, 1).flatten(), rtol=1e-4, atol=1e-5)
    assert found[2].shape == (18,)


def test_the_optimiser_has_the_memory_and_the_heads() -> None:
    policy = make("gru")
    optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in policy.parameters()}


def test_a_rollout_is_drawn_in_sequences_each_once() -> None:
    space = spaces.Dict({GOAL: spaces.Box(-np.inf, np.inf, (2,), np.float32)})
    buffer = SequenceBuffer(6, space, spaces.Discrete(4), "cpu", gamma=0.9, gae_lambda=0.9, n_envs=2, sequence=3)
    for step in range(6):
        number = np.array([10 * agent + step for agent in range(2)], np.float32)
        memory = (torch.as_tensor(number)[:, None] + 0.5,)
        start = np.array([step == 4, False])
        told = (torch.as_tensor(number), torch.zeros(2))
        buffer.add(
            {GOAL: np.stack([number, number], 1)}, number, number, start, *told, lstm_states=RNNStates(memory, memory)
        )
    buffer.compute_returns_and_advantage(torch.zeros(2), np.zeros(2, bool))
    drawn = []
    for batch in buffer.get(6):
        values = batch.old_values.reshape(-1, 3)
        drawn += values.tolist()
        assert torch.equal(batch.observations[GOAL][:, 0], batch.old_values)
        assert torch.equal(batch.lstm_states.pi[0][:, 0], values[:, 0] + 0.5)
        assert torch.equal(batch.episode_starts, (batch.old_values == 4).float())
        assert batch.mask.all() and len(batch.mask) == 6
    assert sorted(drawn) == [[0, 1, 2], [3, 4, 5], [10, 11, 12], [13, 14, 15]]


def test_time_outs_are_valued_with_the_memory_of_their_agent() -> None:
    policy, seen = make("lstm"), observed(4, 1)
    lasts = {key: value[:, 0].numpy() for key, value in seen.items()}
    memory = tuple(torch.randn(4, 16) for _ in range(2))
    infos: list[dict[str, Any]] = [{} for _ in range(4)]
    for n in (1, 3):
        infos[n] = {"TimeLimit.truncated": True, "terminal_observation": {k: v[n] for k, v in lasts.items()}}
    rewards = np.zeros(4, np.float32)
    callback = Timeouts()
    callback.model = SimpleNamespace(policy=policy, device=policy.device, gamma=0.5)  # type: ignore[assignment]
    callback.locals = {"infos": infos, "rewards": rewards, "lstm_states": RNNStates(memory, memory)}
    callback._on_step()
    with torch.no_grad():
        frame = {key: value[:, 0] for key, value in seen.items()}
        values = policy.predict_values(frame, memory, torch.zeros(4)).flatten().numpy()
    np.testing.assert_allclose(rewards, [0, 0.5 * values[1], 0, 0.5 * values[3]], rtol=1e-4, atol=1e-6)
    assert not any(info.get("TimeLimit.truncated") for info in infos)


def test_lengths_that_do_not_divide_are_refused() -> None:
    assert sequence_of(32, 128, 512) == 32 and sequence_of(32, 16, 64) == 16
    with pytest.raises(ValueError, match=r"algo\.rollout=100 must be a multiple of algo\.sequence=32"):
        sequence_of(32, 100, 512)
    with pytest.raises(ValueError, match=r"algo\.learner\.batch_size=100 must be a multiple"):
        sequence_of(32, 128, 100)


def test_it_trains_resumes_and_is_deterministic(tmp_path: Path) -> None:
    a, b = (train(tmp_path / name, *PPO, "algo.steps=128") for name in "ab")
    assert same(a, b) and state(a)["step"] == 128
    first = weights(a)
    train(a, *PPO, "algo.steps=256", "resume=true")
    second = weights(a)
    assert state(a)["step"] == 256 and metrics(a)[-1]["step"] == 256
    assert not torch.equal(first["memory.weight_hh"], second["memory.weight_hh"])


class Recall(VecEnv):
    """The first of three steps shows which action is right at the last; nothing else says it."""

    def __init__(self, agents: int) -> None:
        super().__init__(agents, GOAL_ONLY, spaces.Discrete(ANSWERS))
        self.rng = np.random.default_rng(0)

    def _observe(self) -> dict[str, np.ndarray]:
        goal = np.ones((self.num_envs, 2), np.float32)
        goal[:, 1] = np.where(self.clock == 0, self.answer * 2 * np.pi / ANSWERS, 0)
        return {GOAL: goal, VALID: np.ones((self.num_envs, 1), np.float32)}

    def reset(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        self.clock, self.answer = 0, self.rng.integers(0, ANSWERS, self.num_envs)
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        self.chosen = actions

    def step_wait(self):  # type: ignore[no-untyped-def]
        last = self.clock == 2
        rewards = (self.chosen == self.answer) * float(last)
        self.clock += 1
        dones = np.full(self.num_envs, last)
        infos = [{"terminal_observation": {}} if last else {} for _ in range(self.num_envs)]
        return (self.reset() if last else self._observe()), rewards.astype(np.float32), dones, infos

    def close(self) -> None: ...

    def get_attr(self, attr_name, indices=None):  # type: ignore[no-untyped-def]
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None): ...  # type: ignore[no-untyped-def]

    def env_method(self, method_name, *args, indices=None, **kwargs): ...  # type: ignore[no-untyped-def]

    def env_is_wrapped(self, wrapper_class, indices=None):  # type: ignore[no-untyped-def]
        return [False] * self.num_envs


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_it_learns_to_remember(name: str) -> None:
    settings = {"adapted": None, "hidden": (32,), "memory": 32, "context": 0, "bfloat16": False}
    model = MemoryPPO(
        policies.get(name),
        Recall(64),
        n_steps=6,
        batch_size=96,
        n_epochs=4,
        learning_rate=3e-3,
        ent_coef=0.01,
        gamma=0.99,
        policy_kwargs=settings,
        rollout_buffer_class=SequenceBuffer,
        sequence=6,
        seed=0,
        device="cpu",
    )
    model.learn(64 * 6 * 20)
    actor, env = model.policy.new_actor(), Recall(64)
    observations, right = env.reset(), []
    for k in range(3):
        logits = actor.logits(observations, np.full(64, k))
        right = (logits.argmax(1).numpy() == env.answer).tolist()
        if k < 2:
            env.step_async(np.zeros(64, np.int64))
            observations = env.step_wait()[0]
    assert np.mean(right) > 0.9
