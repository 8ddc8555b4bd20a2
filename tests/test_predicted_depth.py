"""Depth predicted from RGB for the explored map: the networks' own output, and a map from nothing but pictures."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from adapt import load_base
from adapt.pretraining.decoders import load_decoders
from adapt.pretraining.tasks import SCALINGS, TASKS, depth_in_metres
from agents.policies.predicted_depth import ENCODER, PredictedDepth
from agents.setup import make_env, make_scenes, make_visual_encoder
from configs.compose import compose
from envs.pointnav.env import PointNav, PointNavTask
from envs.pointnav.scene_episodes import AgentConfig, NavigableScene
from envs.rendering.renderer import Camera
from envs.sources.apartments import apartments

WORDS = ["run=none", "base=random", "env=apartments", "env.agents=4", "env.task.explored_from=predicted"]


@pytest.fixture(scope="module")
def places() -> list[NavigableScene]:
    return apartments("val", 2, 2, 0, AgentConfig(0.18, 1.5, 0.2, 45.0))


def config(*words: str) -> DictConfig:
    return compose("train", [*WORDS, *words])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_targets_of_depth_are_metres_again(scaling: str) -> None:
    stored = torch.tensor([0, 512, 1024, 51200], dtype=torch.int32).view(1, 1, 2, 2)
    target = TASKS["depth_zbuffer"].target({"depth_zbuffer": stored}, scaling)
    torch.testing.assert_close(depth_in_metres(target, scaling).flatten(), torch.tensor([0.0, 1.0, 2.0, 100.0]))


def test_it_is_what_encoder_and_decoder_say(places: list[NavigableScene]) -> None:
    task = PointNavTask(sensors=("rgb", "depth"), normalize_depth=False)
    nav = PointNav(places, task, Camera(size=64), 8, 0)
    nav.reset(np.arange(8))
    seen = nav.observe()
    predict = PredictedDepth()
    depth = predict(seen["rgb"])
    assert depth.dtype == np.float32 and depth.shape == (8, 16, 16) and depth.min() > 0
    base, decoders = load_base(ENCODER), load_decoders(ENCODER)
    output = decoders[ENCODER](base(torch.as_tensor(seen["rgb"]).permute(0, 3, 1, 2)))
    metres = depth_in_metres(output, decoders.scaling)[:, 0].clamp(min=0.1).numpy()
    # Where pixels of both sizes meet at a border of the image they agree but for bfloat16.
    np.testing.assert_allclose(depth[:, ::15, ::15], metres[:, ::7, ::7], rtol=0.1)
    true = seen["depth"].reshape(8, 16, 4, 16, 4).mean((2, 4))
    assert np.corrcoef(np.log(depth.ravel()), np.log(true.ravel()))[0, 1] > 0.7
    # Another process loads the networks itself and predicts the same.
    sent = pickle.dumps(predict)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)(seen["rgb"]), depth)


def test_agents_map_from_pictures_alone(places: list[NavigableScene]) -> None:
    cfg = config("env.task.sensors=[explored]")
    runs = []
    for _ in range(2):
        env, simulator = make_env(cfg, places, make_visual_encoder(cfg), 4, 0)
        observations = env.reset()
        for _ in range(5):
            observations = env.step(simulator.expert())[0]
        runs.append(observations["explored"])  # type: ignore[index]
    assert simulator.nav.task.cameras == ("rgb",)  # type: ignore[attr-defined]
    blocked, free = runs[0].astype(int).transpose(1, 0, 2, 3)[:2]
    assert blocked.any((1, 2)).all() and free.any((1, 2)).all()
    np.testing.assert_array_equal(*runs)


def test_blind_agents_predict_nothing() -> None:
    cfg = config("env.task.sensors=[rgb,explored,map]", "blind=true", "env.splits.train.scenes=1")
    env, simulator = make_env(cfg, make_scenes(cfg.env, "train", 0), make_visual_encoder(cfg), 2, 0)
    assert "explored" not in env.reset() and simulator.nav.renderer is None  # type: ignore[attr-defined]
