"""The network of habitat-baselines: its shapes, and that it learns by imitation and by PPO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from agent_runs import IMITATION, same, train
from gymnasium import spaces
from torch import nn

from agents.policies.habitat_resnet import HabitatExtractor, HabitatResNetConfig, resnet18
from agents.policies.observations import DEPTH, GOAL, RGB

GOALS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
DEPTHS = spaces.Box(0.0, 1.0, (1, 256, 256), np.float16)
COLOURS = spaces.Box(0, 255, (3, 256, 256), np.uint8)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_resnet_is_habitats() -> None:
    # Without biases, by hand:
    # stem 3*32*49 + 64; stages of 32, 64, 128, 256 planes with two blocks each, a projection in the last three.
    net = resnet18(3, 32)
    block = lambda a, b: 9 * a * b + 9 * b * b + 4 * b  # noqa: E731
    expected = 3 * 32 * 49 + 64 + 2 * block(32, 32)
    for before, after in ((32, 64), (64, 128), (128, 256)):
        expected += block(before, after) + block(after, after) + before * after + 2 * after
    assert parameters(net) == expected
    assert net(torch.zeros(1, 3, 128, 128)).shape == (1, 256, 4, 4)
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {16}


def test_shapes_are_habitats_at_256_pixels() -> None:
    extractor = HabitatExtractor(spaces.Dict({GOAL: GOALS, DEPTH: DEPTHS, RGB: COLOURS}), 512, 32, False)
    assert extractor.features_dim == 512 + 32
    compression = extractor.visual[1]
    assert (compression.in_channels, compression.out_channels) == (256, 128)  # 4 x 4 x 128 = 2048
    assert extractor.visual[5].in_features == 2048
    seen = {
        GOAL: torch.tensor([[2.0, 0.5]]),
        RGB: torch.zeros(1, 3, 256, 256, dtype=torch.uint8),
        DEPTH: torch.zeros(1, 1, 256, 256),
    }
    assert extractor(seen).shape == (1, 544)
    blind = HabitatExtractor(spaces.Dict({GOAL: GOALS}), 512, 32, False)
    assert blind.features_dim == 32 and blind({GOAL: seen[GOAL]}).shape == (1, 32)


def test_odd_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be one number"):
        HabitatResNetConfig(hidden=(8, 8))
    with pytest.raises(ValueError, match="planes must be even"):
        HabitatResNetConfig(planes=3)


def test_it_learns_from_pictures_by_imitation_and_ppo(tmp_path: Path) -> None:
    # Narrower or at fewer pixels its groups are so few numbers that gradients through constant ones explode.
    words = [
        "policy=habitat_resnet",
        "policy.planes=32",
        "env.camera.size=64",
        "policy.memory=16",
        "env.task.sensors=[rgb,depth]",
    ]
    words += ["policy.context=2"]
    runs = [train(tmp_path / name, *words, *IMITATION, "algo.updates=2") for name in "ab"]
    assert same(*runs)
    ppo = ["algo=ppo", "algo.rollout=8", "algo.learner.batch_size=16", "algo.steps=32", "algo.value_warmup=0"]
    run = train(tmp_path / "ppo", *words, *ppo, "algo.anneal=false", f"start={runs[0]}")
    assert not same(run, runs[0])
