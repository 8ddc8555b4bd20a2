"""Recurrent policies: acting step by step equals a window, episodes do not leak, and something is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from agents.policies.observations import DEPTH, EXPLORED, GOAL, MAP, STEP, VALID
from agents.policies.policy import SequencePolicy, policies
from agents.policies.recurrent import RecurrentPolicy

SPACE = spaces.Dict(
    {
        GOAL: spaces.Box(-np.inf, np.inf, (2,), np.float32),
        VALID: spaces.Box(0.0, 1.0, (1,), np.float32),
        DEPTH: spaces.Box(0.0, 1.0, (1, 32, 32), np.float16),
        MAP: spaces.Box(0, 255, (3, 40, 40), np.uint8),
        EXPLORED: spaces.Box(0, 255, (2, 40, 40), np.uint8),
    }
)
GOAL_ONLY = spaces.Dict({key: SPACE[key] for key in (GOAL, VALID)})


def make(name: str, space: spaces.Dict = SPACE, context: int = 3, seed: int = 0) -> RecurrentPolicy:
    torch.manual_seed(seed)
    kind = policies.get(name)
    settings = {"hidden": (32,), "memory": 16, "context": context, "bfloat16": False}
    policy = kind(space, spaces.Discrete(4), lambda _: 0.0, adapted=None, **settings)  # type: ignore[call-arg]
    assert isinstance(policy, RecurrentPolicy) and isinstance(policy, SequencePolicy)
    with torch.no_grad():
        policy.action_net.weight.normal_()
    return policy


def frames(rows: int, length: int, space: spaces.Dict = SPACE, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {}
    for key, box in space.spaces.items():
        shape = (rows, length, *(box.shape or ()))
        out[key] = rng.integers(0, 256, shape).astype(box.dtype) if box.dtype == np.uint8 else rng.random(shape)
        out[key] = out[key].astype(box.dtype)
    out[STEP] = np.tile(np.arange(length), (rows, 1))
    return out


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_acting_step_by_step_is_the_window(name: str) -> None:
    policy, batch = make(name), frames(2, 8)
    batch[STEP][1] = [5, 6, 0, 1, 2, 0, 1, 2]  # two episodes begin inside the second row
    window = policy.window_logits(batch, 5).detach().reshape(2, 5, 4)
    actor = policy.new_actor()
    for k in range(8):
        seen = {key: value[:, k] for key, value in batch.items() if key != STEP}
        logits = actor.logits(seen, batch[STEP][:, k])
        if k >= 3:
            torch.testing.assert_close(logits, window[:, k - 3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_nothing_of_earlier_episodes_is_remembered(name: str) -> None:
    policy, batch = make(name), frames(1, 8)
    batch[STEP][0] = [5, 6, 7, 8, 0, 1, 2, 3]
    other = {key: value.copy() for key, value in batch.items()}
    for key in (GOAL, DEPTH, MAP, EXPLORED):
        other[key][:, :4] = frames(1, 4, seed=1)[key]
    a, b = (policy.window_logits(x, 5).detach() for x in (batch, other))
    assert not torch.equal(a[0], b[0])
    assert torch.equal(a[1:], b[1:])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_the_context_gets_no_gradient_and_carries_its_state(name: str) -> None:
    policy, batch = make(name), frames(1, 4)
    policy.window_logits(batch, 1).square().sum().backward()
    with_context = policy.memory.weight_hh.grad.clone()
    assert with_context.abs().sum() > 0  # the state that was carried in is not zero
    policy.zero_grad()
    batch[STEP][0] = [0, 1, 2, 0]
    policy.window_logits(batch, 1).square().sum().backward()
    assert not policy.memory.weight_hh.grad.any()


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_it_learns_to_answer_what_it_was_shown_first(name: str) -> None:
    """The first frame's goal says which action is right at every later step, where goals say nothing."""
    policy = make(name, GOAL_ONLY, context=0, seed=1)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)

    def draw(rows: int) -> tuple[dict[str, np.ndarray], torch.Tensor]:
        batch = frames(rows, 6, GOAL_ONLY)
        answer = rng.integers(0, 4, rows)
        batch[GOAL][:] = 1.0
        batch[GOAL][:, 0, 1] = answer * np.pi / 2
        return batch, torch.as_tensor(np.repeat(answer, 6))

    for _ in range(150):
        batch, answers = draw(32)
        loss = F.cross_entropy(policy.window_logits(batch, 6), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, answers = draw(64)
    right = policy.window_logits(batch, 6).argmax(1) == answers
    assert right.float().mean() > 0.95


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="memory must be"):
        policies.get("gru").Config(memory=0)
