"""``algo=sb3/<name>``: every learner trains, resumes, repeats itself and is evaluated, and none touches the base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from agent_runs import metrics, same, state, train, weights
from gymnasium import spaces
from test_recurrent import GOAL_ONLY, frames

from adapt.core.base import Base
from agents.evaluate import load_policy
from agents.evaluation.episodes import policy_actor, run_episodes
from agents.learners.learner import SB3, learners
from agents.policies.observations import GOAL, VALID
from agents.policies.policy import Policy, policies
from agents.setup import make_policy, make_scenes, make_visual_encoder
from configs.compose import ConfigError, compose

NAMES = [f"sb3/{name}" for name in SB3]
VALUES = ("action_values", "quantiles")
WORDS = ["log_every=1", "save_every=2", "env.camera.size=32"]
OWN = {
    "sb3/a2c": ["algo.rollout=8"],
    "sb3/trpo": [
        "algo.rollout=8",
        "algo.learner.batch_size=16",
        "algo.learner.n_critic_updates=2",
        "algo.learner.cg_max_steps=3",
    ],
    "sb3/dqn": ["algo.learner.buffer_size=400", "algo.learner.learning_starts=16", "algo.learner.batch_size=8"],
    "sb3/qrdqn": ["algo.learner.buffer_size=400", "algo.learner.learning_starts=16", "algo.learner.batch_size=8"],
    "sb3/sac": ["algo.learner.buffer_size=400", "algo.learner.learning_starts=16", "algo.learner.batch_size=8"],
    "sb3/td3": ["algo.learner.buffer_size=400", "algo.learner.learning_starts=16", "algo.learner.batch_size=8"],
}
BASES = {"sb3/a2c": 1, "sb3/trpo": 1, "sb3/dqn": 2, "sb3/sac": 3}  # copies of the frozen base, one for each network


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_resumes_and_is_deterministic(name: str, tmp_path: Path) -> None:
    words = [f"algo={name}", *WORDS, *OWN[name], "blind=true"]
    a, b = (train(tmp_path / run, *words, "algo.steps=64") for run in "ab")
    assert same(a, b) and state(a)["step"] == 64
    first = {key: value.clone() for key, value in weights(a).items()}
    train(a, *words, "algo.steps=128", "resume=true")
    assert state(a)["step"] == 128 and metrics(a)[-1]["step"] == 128
    second = weights(a)
    assert any(not torch.equal(first[key], second[key]) for key in first)
    cfg, policy, vision = load_policy(a)
    scenes = make_scenes(cfg.env, "val", 0)
    records = run_episodes(cfg, scenes, vision, policy_actor(policy, 0.5), 0)
    assert len(records) == 4


@pytest.mark.parametrize("name", list(BASES))
def test_the_side_network_learns_and_the_base_stays(name: str, tmp_path: Path) -> None:
    # side_tuning reads images and features.
    words = [f"algo={name}", *WORDS, *OWN[name], "adapt.width=0.25", "algo.steps=64"]
    run = train(tmp_path / "run", *words)
    cfg, policy, vision = load_policy(run)
    assert isinstance(vision.base, Base)
    fresh = make_visual_encoder(cfg)
    assert fresh.base is not None and vision.base.sha256 == fresh.base.sha256
    found = [module for module in policy.modules() if isinstance(module, Base)]  # type: ignore[attr-defined]
    assert len(found) == BASES[name]
    for base in found:
        pairs = zip(base.state_dict().values(), fresh.base.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    before = make_policy(cfg, fresh).own_state()
    after = weights(run)
    assert before.keys() == after.keys()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert any(".adapted." in key for key in moved)


def test_names_and_policies_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"algo=sb3/a2d: there is no such choice; did you mean 'sb3/a2c'"):
        compose("train", ["run=none", "algo=sb3/a2d"])
    with pytest.raises(ConfigError, match=r"learning_rat.*did you mean"):
        compose("train", ["run=none", "algo=sb3/dqn", "algo.learner.learning_rat=1"])
    for name, policy, word in (
        ("sb3/a2c", "gru", "stack"),
        ("sb3/trpo", "action_values", "stack"),
        ("sb3/dqn", "stack", "action_values"),
        ("sb3/qrdqn", "action_values", "quantiles"),
    ):
        cfg = compose("train", ["run=none", f"algo={name}", f"policy={policy}"])
        with pytest.raises(ValueError, match=rf"algo={name} cannot train policy={policy}; use policy={word}"):
            learners.get(name)().train(cfg, None)  # type: ignore[arg-type]


def test_value_based_learners_choose_their_policy() -> None:
    chosen = {name: compose("train", ["run=none", f"algo={name}"]).policy.name for name in NAMES}
    assert chosen == {
        "sb3/a2c": "stack",
        "sb3/trpo": "stack",
        "sb3/dqn": "action_values",
        "sb3/qrdqn": "quantiles",
        "sb3/sac": "squashed_gaussian",
        "sb3/td3": "deterministic",
    }


def value_policy(name: str) -> Policy:
    torch.manual_seed(0)
    settings = {"frames": 2, "hidden": (16,), "bfloat16": False, "epsilon": 0.2}
    more = {"n_quantiles": 5} if name == "quantiles" else {}
    stacked = spaces.Dict(
        {GOAL: spaces.Box(-np.inf, np.inf, (4,), np.float32), VALID: spaces.Box(0.0, 1.0, (2,), np.float32)}
    )
    made: Policy = policies.get(name)(  # type: ignore[call-arg]
        stacked, spaces.Discrete(4), lambda _: 1e-3, adapted=None, **settings, **more
    )
    return made


@pytest.mark.parametrize("name", VALUES)
def test_actions_are_epsilon_greedy_in_the_values(name: str) -> None:
    policy, batch = value_policy(name), frames(6, 2, GOAL_ONLY)
    actor = policy.new_actor()
    for k in range(2):
        logits = actor.logits({key: batch[key][:, k] for key in (GOAL, VALID)}, np.full(6, k))
    probabilities = logits.softmax(1)
    stacked = {GOAL: torch.as_tensor(batch[GOAL].reshape(6, 4)), VALID: torch.ones(6, 2)}
    with torch.no_grad():
        greedy = policy(stacked)  # type: ignore[operator]
    expected = torch.full((6, 4), 0.05).scatter(1, greedy[:, None], 0.85)
    torch.testing.assert_close(probabilities, expected)


@pytest.mark.parametrize("name", VALUES)
def test_the_target_shares_nothing_with_what_is_trained(name: str) -> None:
    policy = value_policy(name)
    optimised = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}  # type: ignore[attr-defined]
    parts = dict(policy.named_children())  # type: ignore[attr-defined]
    online, target = (parts[f"{policies.get(name).online}{end}"] for end in ("", "_target"))  # type: ignore[attr-defined]
    assert optimised == {id(p) for p in online.parameters()}
    assert not optimised & {id(p) for p in target.parameters()}
    pairs = zip(online.parameters(), target.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
