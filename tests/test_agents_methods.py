"""Every adaptation method in navigation: it acts, learns, is resumed to the same numbers, and leaves the base alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from rooms import simple_place
from stable_baselines3 import PPO

from adapt import Incompatible, list_methods, save_base
from adapt.core.base import random_base
from agents.learners.collector import Collector, frame_layout
from agents.learners.frames import FrameStore
from agents.learners.imitation import ImitationLearner
from agents.policies.actor import tempered
from agents.policies.observations import GOAL, stack_frames
from agents.policies.stack import NavigationPolicy
from agents.setup import VisualEncoder, make_env, make_policy, make_visual_encoder, policy_arguments
from configs.compose import compose

AGENTS = 4
SMALL = ["run=none", f"env.agents={AGENTS}", "env.camera.size=32", "env.task.max_steps=30", "policy.hidden=[32]"]
SMALL += ["policy.frames=2"]
# Small networks beside the base, and schedules short enough to be gone through.
SETTINGS = {
    "adashare": ["adapt.warmup_samples=8", "adapt.phase_samples=8", "adapt.search_samples=24"],
    "fine_tune": ["adapt.stage_samples=16"],
    "progressive": ["adapt.width=0.25"],
    "side_tuning": ["adapt.alpha_mode=curriculum", "adapt.k=10"],
    "spottune": ["adapt.width=0.1"],
    "taps": ["adapt.penalty_from=16"],
}
# One of each family; PPO with the others is tested with the slow tests.
SHORT = ["features", "side_tuning", "residual_adapter", "taps"]


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow ResNet-26: it has batch norms, 3x3 convolutions and residual blocks, so that no method refuses it."""
    path = tmp_path_factory.mktemp("base") / "resnet26.safetensors"
    save_base(random_base("resnet26", width=0.25), path, torch.float32)
    return path


def config(base: Path, method: str, *words: str) -> DictConfig:
    own = SETTINGS.get(method, [])
    return compose("train", [*SMALL, f"base.name={base}", f"adapt={method}", *own, *words])


class Session:
    """A policy and its learner, made anew as a resumed run does."""

    def __init__(self, cfg: DictConfig) -> None:
        self.vision = make_visual_encoder(cfg)
        self.policy = make_policy(cfg, self.vision)
        self.learner = ImitationLearner(self.policy, 10, batch_size=8, window=2)

    def learn(self, store: FrameStore, updates: int) -> list[float]:
        losses = []
        for i in range(updates):
            torch.manual_seed(self.learner.updates + i)  # of dropout and drawn decisions
            losses.append(self.learner.update(store)[0])
        return losses

    def saved(self) -> dict[str, Any]:
        buffer = io.BytesIO()
        torch.save({"policy": self.policy.own_state(), "learner": self.learner.state()}, buffer)
        buffer.seek(0)
        state: dict[str, Any] = torch.load(buffer, weights_only=True)
        return state

    def act(self, observations: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return tempered(self.policy.new_actor().logits(observations, np.zeros(len(observations[GOAL]), np.int64)), 1.0)


def frames(cfg: DictConfig, session: Session, folder: Path) -> tuple[FrameStore, dict[str, np.ndarray[Any, Any]]]:
    """Frames that the policy met, and what it sees now."""
    env, simulator = make_env(cfg, [simple_place(3)], session.vision, AGENTS, 0)
    collector = Collector(env, simulator, session.policy, (0.2, 0.5), 1.0, seed=0)
    store = FrameStore.create(folder, AGENTS, 64, frame_layout(collector.observations))
    collector.collect(store, 10, progress=1.0)
    return store, collector.observations


def base_state(vision: VisualEncoder) -> dict[str, torch.Tensor]:
    assert vision.base is not None
    return {name: tensor.clone() for name, tensor in vision.base.state_dict().items()}


@pytest.mark.parametrize("method", list_methods())
def test_imitation_learns_and_resumes_bitwise(residual: Path, method: str, tmp_path: Path) -> None:
    cfg = config(residual, method)
    one = Session(cfg)
    adapted = one.vision.adapted
    assert adapted is not None
    store, seen = frames(cfg, one, tmp_path / "frames")
    frozen = base_state(one.vision)
    before = {name: tensor.clone() for name, tensor in one.policy.own_state().items()}
    first = one.learn(store, 3)
    assert np.isfinite(first).all()
    state = one.saved()
    rest = one.learn(store, 2)
    assert adapted.method().samples_seen == 5 * 8
    now = one.policy.own_state()
    moved = {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}
    assert any(".adapted.methods." in n and "samples_seen" not in n for n in moved) == bool(adapted.trainable())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in base_state(one.vision).items())
    two = Session(cfg)
    two.policy.load_own_state(state["policy"])
    two.learner.restore(state["learner"])
    assert two.learn(store, 2) == rest
    assert all(torch.equal(tensor, now[name]) for name, tensor in two.policy.own_state().items())
    assert np.array_equal(two.act(seen), one.act(seen))


def ppo_learns(cfg: DictConfig) -> None:
    vision = make_visual_encoder(cfg)
    adapted = vision.adapted
    assert adapted is not None
    env, _ = make_env(cfg, [simple_place(3)], vision, AGENTS, 0)
    model = PPO(
        NavigationPolicy,
        stack_frames(env, cfg.policy.frames),
        n_steps=8,
        batch_size=16,
        n_epochs=1,
        policy_kwargs=policy_arguments(cfg, vision),
        seed=0,
        device="cpu",
    )
    frozen = base_state(vision)
    before = [parameter.detach().clone() for parameter in adapted.trainable()]
    model.learn(32)
    changed = [not torch.equal(a, b) for a, b in zip(adapted.trainable(), before, strict=True)]
    assert any(changed) == bool(before)
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in base_state(vision).items())


# Schedules that wait for samples are left out here: one rollout is too short for them.
def ppo_config(base: Path, method: str) -> DictConfig:
    width = {"progressive": ["adapt.width=0.25"], "spottune": ["adapt.width=0.1"]}.get(method, [])
    return compose("train", [*SMALL, f"base.name={base}", f"adapt={method}", *width, "experiment=side_tuning_ppo"])


@pytest.mark.parametrize("method", SHORT)
def test_ppo_trains_the_task(residual: Path, method: str) -> None:
    ppo_learns(ppo_config(residual, method))


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(list_methods()) - set(SHORT)))
def test_ppo_trains_every_task(residual: Path, method: str) -> None:
    ppo_learns(ppo_config(residual, method))


@pytest.mark.parametrize("method", ["adashare", "spottune"])
def test_a_base_without_residual_blocks_is_refused_with_the_reason(method: str) -> None:
    with pytest.raises(Incompatible, match="residual blocks"):
        make_visual_encoder(compose("train", [*SMALL, "base=random", f"adapt={method}"]))
