from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from extras import require
from omegaconf import DictConfig, OmegaConf
from rooms import simple_place

from adapt.core.base import Base
from agents.evaluation.episodes import averages_mirror_views, policy_actor, run_episodes
from agents.learners.collector import Collector, frame_layout, stored
from agents.learners.frames import ACTION, FrameStore
from agents.learners.imitation import ImitationLearner
from agents.learners.ppo import make_ppo
from agents.policies.actor import sample_actions, tempered
from agents.policies.extractor import goal_channels
from agents.policies.observations import DEPTH, FEATURES, GOAL, MAP, RGB, STEP, VALID, stack_frames
from agents.setup import make_env, make_policy, make_stacked_env, make_visual_encoder
from configs.compose import compose
from envs.pointnav.env import LEFT, RIGHT
from envs.pointnav.vec_env import swapped_actions

SMALL = [
    "run=none",
    "base=random",
    "env.agents=4",
    "env.camera.size=32",
    "env.task.max_steps=30",
    "policy.hidden=[32]",
]


def config(*overrides: str) -> DictConfig:
    return compose("train", [*SMALL, *overrides])


def collected(cfg: DictConfig, folder: Path, steps: int = 60):
    """A policy, its environment, and frames that the half-trained policy met."""
    vision = make_visual_encoder(cfg)
    env, simulator = make_env(cfg, [simple_place(6)], vision, 4, 0)
    policy = make_policy(cfg, vision)
    collector = Collector(env, simulator, policy, (0.2, 0.5), 1.0, seed=0)
    store = FrameStore.create(folder, 4, 256, frame_layout(collector.observations))
    collector.collect(store, steps, progress=1.0)
    return vision, env, simulator, policy, store


def act(policy, observations) -> np.ndarray:
    return tempered(policy.new_actor().logits(observations, np.zeros(len(observations[GOAL]), np.int64)), 1.0)


def test_the_frozen_base_sees_each_frame_once(tmp_path: Path) -> None:
    vision, env, *_ = collected(config(), tmp_path / "frames", steps=0)
    assert vision.base is not None
    before = vision.base.frames_evaluated
    ended = 0
    for _ in range(40):
        _, _, dones, _ = env.step(np.zeros(4, np.int64))  # STOP: every episode ends at once
        ended += int(dones.sum())
    # every step shows one frame per agent, and an episode's end its true last frame besides
    assert vision.base.frames_evaluated - before == 40 * 4 + ended


def test_window_logits_equal_those_of_stacked_observations(tmp_path: Path) -> None:
    cfg = config()
    vision = make_visual_encoder(cfg)
    frames, simulator = make_env(cfg, [simple_place(6)], vision, 4, 0)
    env = stack_frames(frames, 4)
    policy = make_policy(cfg, vision)
    torch.nn.init.normal_(policy.action_net.weight)
    acting = policy.new_actor()
    observations = env.reset()
    newest = {k: v[:, -s.shape[0] :] for k, s in frames.observation_space.items() for v in [observations[k]]}
    store = FrameStore.create(tmp_path / "frames", 4, 256, frame_layout(newest))
    stacked, rolled = [], []
    for _ in range(50):
        newest = {k: observations[k][:, -s.shape[0] :] for k, s in frames.observation_space.items()}
        steps, labels = simulator.nav.agents.steps.copy(), simulator.nav.expert()
        store.push({**stored(newest), ACTION: labels, STEP: steps})
        stacked.append({k: v.copy() for k, v in observations.items()})
        rolled.append(tempered(acting.logits(newest, steps), 1.0))
        observations = env.step(labels)[0]
    assert (store.arrays["step"][:, :50] == 0).sum() > 4  # some stack reaches over an episode's start
    policy.set_training_mode(False)
    policy.extractor.use_bfloat16 = False
    with torch.no_grad():
        batch = {key: array[:, 10:50] for key, array in store.arrays.items()}
        windows = policy.window_logits(batch, 37).reshape(4, 37, -1)
        for t in range(13, 50):
            direct = policy.logits(policy.extractor({k: torch.as_tensor(v) for k, v in stacked[t].items()}))
            torch.testing.assert_close(windows[:, t - 13], direct, atol=2e-5, rtol=1e-4)
            # acting runs in bfloat16
            np.testing.assert_allclose(rolled[t], direct.softmax(-1), atol=0.03)
    assert windows.std() > 0.01


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("features", {FEATURES}),
        ("side_tuning", {RGB, FEATURES}),
        ("fine_tune", {RGB}),
        ("progressive", {RGB}),  # which has the base compute inner maps anyway
        ("scratch", {RGB}),
    ],
)
def test_observations_hold_what_the_method_reads_and_no_more(method: str, keys: set[str]) -> None:
    cfg = config(f"adapt={method}")
    vision = make_visual_encoder(cfg)
    env, _ = make_env(cfg, [simple_place(2)], vision, 2, 0)
    assert set(env.reset()) == keys | {GOAL, VALID, "map"}  # type: ignore[arg-type]
    policy = make_policy(cfg, vision)
    assert policy.observation_space == stack_frames(env, cfg.policy.frames).observation_space
    assert act(policy, env.reset()).shape == (2, 4)


@pytest.mark.parametrize("scale", ["env.task.normalize_depth=true", "env.task.normalize_depth=false"])
def test_what_depth_does_not_reach_is_far_and_not_a_wall_before_the_camera(scale: str) -> None:
    cfg = config("env.task.sensors=[depth]", "env.task.max_depth=8", scale)
    vision = make_visual_encoder(cfg)
    env, _ = make_env(cfg, [simple_place(2)], vision, 2, 0)
    seen = env.reset()
    policy = make_policy(cfg, vision)
    depth = torch.as_tensor(seen[DEPTH])  # type: ignore[call-overload]
    far = 1.0 if "true" in scale else 8.0
    assert 0 < float(depth.min()) and float(depth.max()) <= far
    pierced, distant, near = depth.clone(), depth.clone(), depth.clone()
    pierced[:, :, :10], distant[:, :, :10], near[:, :, :10] = 0.0, far, 0.02 * far
    codes = [policy.extractor.encode({DEPTH: image}) for image in (pierced, distant, near, depth)]
    torch.testing.assert_close(codes[0], codes[1], rtol=0, atol=0)
    assert all((codes[0] - other).abs().max() > 0.01 for other in codes[2:])


def test_blind_policy_has_no_picture_and_no_renderer() -> None:
    cfg = config("blind=true")
    vision = make_visual_encoder(cfg)
    env, simulator = make_env(cfg, [simple_place(2)], vision, 2, 0)
    assert set(env.reset()) == {GOAL, VALID, "map"}  # type: ignore[arg-type]
    assert simulator.nav.renderer is None
    assert make_policy(cfg, vision).extractor.adapted is None


def test_policy_state_leaves_the_base_out_and_comes_back(tmp_path: Path) -> None:
    cfg = config()
    vision, env, _, policy, _ = collected(cfg, tmp_path / "frames", steps=1)
    state = {k: v.clone() for k, v in policy.own_state().items()}
    assert vision.base is not None
    frozen = {id(p) for p in vision.base.parameters()}
    assert not any(id(v) in frozen for v in policy.own_state().values())
    assert len(state) == len({id(v) for v in policy.own_state().values()})
    other = make_policy(config("seed=1"), make_visual_encoder(cfg))
    observations = env.reset()
    assert not np.array_equal(act(other, observations), act(policy, observations))
    other.load_own_state(state)
    assert np.array_equal(act(other, observations), act(policy, observations))
    with pytest.raises(ValueError, match=r"^policy\.\S+ is a float32 tensor"):
        make_policy(config("policy.hidden=[16]"), make_visual_encoder(cfg)).load_own_state(state)


def test_training_changes_the_policy_and_not_the_base(tmp_path: Path) -> None:
    vision, _, _, policy, store = collected(config(), tmp_path / "frames")
    assert isinstance(vision.base, Base)
    before = {k: v.clone() for k, v in vision.base.state_dict().items()}
    own = {k: v.clone() for k, v in policy.own_state().items()}
    learner = ImitationLearner(policy, 10, batch_size=32, window=4)
    for _ in range(3):
        learner.update(store)
    assert all(torch.equal(v, before[k]) for k, v in vision.base.state_dict().items())
    changed = {k for k, v in policy.own_state().items() if not torch.equal(v, own[k])}
    assert {k.split(".")[1] for k in changed if k.startswith("features_extractor")} >= {
        "adapted",
        "visual",
        "goal",
        "head",
        "map",
    }


def test_sampling_follows_the_probabilities() -> None:
    p = np.tile(np.array([[0.1, 0.0, 0.6, 0.3]], np.float32), (10_000, 1))
    actions = sample_actions(p, np.random.default_rng(0).random(10_000))
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 10_000, p[0], atol=0.015)
    assert sample_actions(p[:2], np.array([0.0, 1 - 1e-12])).tolist() == [0, 3]


@pytest.mark.parametrize(("method", "variant"), [("side_tuning", "habitat"), ("features", "side_tuning")])
def test_averaged_over_both_views_a_policy_does_the_opposite_in_the_mirror(method: str, variant: str) -> None:
    cfg = config(f"adapt={method}", f"env.task.variant={variant}")
    vision = make_visual_encoder(cfg)
    env, simulator = make_env(cfg, [simple_place(6)], vision, 4, 0, both_views=True)
    policy = make_policy(cfg, vision)
    turns = torch.tensor([action in (LEFT, RIGHT) for action in simulator.nav.task.discrete_actions])
    torch.nn.init.normal_(policy.action_net.weight)
    with torch.no_grad():
        policy.action_net.bias[~turns] -= 100.0
    here, there, cold = (policy_actor(policy, temperature) for temperature in (0.0, 0.0, 1e-4))
    single = policy.new_actor()
    observations = env.reset()
    done, alone = [], []
    for _ in range(20):
        np.testing.assert_array_equal(observations[GOAL][4:], observations[GOAL][:4] * [1, -1])
        np.testing.assert_array_equal(observations[MAP][4:], observations[MAP][:4, ..., ::-1])
        actions = here(observations, simulator.nav, np.zeros(4))
        exchanged = {key: np.roll(value, 4, axis=0) for key, value in observations.items()}
        opposite = there(exchanged, simulator.nav, np.zeros(4))
        assert (opposite == swapped_actions(simulator.nav.task)[actions]).all()
        assert (cold(observations, simulator.nav, np.full(4, 0.5)) == actions).all()  # however much the views disagree
        first = {key: value[:4] for key, value in observations.items()}
        alone.append(single.logits(first, simulator.nav.agents.steps).argmax(1).numpy())
        done.append(actions)
        observations = env.step(actions)[0]
    assert turns[np.unique(done)].all()
    assert not np.array_equal(done, alone)


def test_reinforcement_mirrors_every_second_agent_if_asked_to() -> None:
    small = ("algo=ppo", "env.splits.train.scenes=1", "algo.rollout=8", "algo.learner.batch_size=8")
    seen = []
    for mirror in (False, True):
        cfg = config(*small, f"algo.mirror={mirror}")
        first = make_ppo(cfg, make_visual_encoder(cfg)).env.reset()
        seen.append({key: first[key] for key in (GOAL, MAP)})
    (plain, mirrored) = seen
    np.testing.assert_array_equal(mirrored[GOAL][::2], plain[GOAL][::2])
    np.testing.assert_array_equal(mirrored[GOAL][1::2], plain[GOAL][1::2] * np.resize([1, -1], plain[GOAL].shape[1]))
    np.testing.assert_array_equal(mirrored[MAP][1::2], plain[MAP][1::2, ..., ::-1])
    for word, says in (
        ("env.task.actions=continuous", r"algo\.mirror=true: env=apartments with continuous actions has no mirror"),
        ("env.agents=1", "mirrors every second agent, and there is one alone"),
    ):
        cfg = config(*small, "algo.mirror=true", word)
        with pytest.raises(ValueError, match=says):
            make_ppo(cfg, make_visual_encoder(cfg))


def test_mirrored_agents_are_not_those_of_warp() -> None:
    """Warp has no mirror images: formerly agents learned without them and were evaluated by both views."""
    require("warp")
    cfg = config("algo=ppo", "env.backend=warp", "device=cpu")
    vision = make_visual_encoder(cfg)
    seen = make_stacked_env(cfg, [simple_place(4)], vision, 2, 0, mirror=True).reset()
    usual = make_stacked_env(config("algo=ppo"), [simple_place(4)], vision, 2, 0).reset()
    np.testing.assert_array_equal(seen[MAP][1], usual[MAP][1, ..., ::-1])


def test_an_agent_is_evaluated_on_both_views_if_it_was_mirrored() -> None:
    assert averages_mirror_views(config())
    assert not averages_mirror_views(config("algo.mirror=false"))
    assert not averages_mirror_views(config("algo=ppo"))
    assert averages_mirror_views(config("algo=ppo", "evaluation.mirror=true"))
    assert averages_mirror_views(config("algo=ppo", "algo.mirror=true"))
    assert not averages_mirror_views(config("env=habitat"))
    vision = make_visual_encoder(config())
    policy = make_policy(config(), vision)
    torch.nn.init.normal_(policy.action_net.weight)
    both, one = (
        run_episodes(config(*words), [simple_place(4)], vision, policy_actor(policy, 0.5), 0)
        for words in ([], ["evaluation.mirror=false"])
    )
    assert [r["path"] for r in both] != [r["path"] for r in one]
    assert not averages_mirror_views(OmegaConf.create({"env": {"name": "apartments"}, "evaluation": {}}))  # older


def test_unknown_words_suggest_the_nearest() -> None:
    for words, said in (
        (["adapt=side_tunning"], "did you mean 'side_tuning'"),
        (["base=curvatur"], "did you mean 'curvature'"),
        (["env=apartment"], "did you mean 'apartments'"),
        (["algo=dager"], "did you mean 'dagger'"),
        (["policy.frame=3"], "did you mean 'policy.frames'"),
    ):
        with pytest.raises(ValueError, match=said):
            compose("train", ["run=none", *words])
    assert OmegaConf.is_config(compose("train", ["run=none"]))


def test_goal_channels_in_closed_form() -> None:
    goal = torch.tensor([[[9.0, 9.0], [2.0, 0.0], [2.0, 0.0], [1.75, 0.0]]])
    valid = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    channels = goal_channels(goal, valid)[0]
    assert (channels[0] == 0).all()
    torch.testing.assert_close(channels[1], torch.tensor([1.0, 0.0, 0.4, 1 / 11, 0.0]))
    torch.testing.assert_close(channels[2], torch.tensor([1.0, 0.0, 0.4, 1 / 11, 1.0]))
    assert channels[3, 4] == pytest.approx(np.exp(-5.0), rel=1e-4)
