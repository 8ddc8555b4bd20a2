from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor, nn

from adapt import Base, Incompatible, load, wrap
from adapt.core.base import random_base
from adapt.methods.side_tuning import SideTuning, distill
from adapt.modules.merges import MERGES, MLP, FiLM, build_merge, map_adapter, vector_adapter


def parts(base: Base, **settings: object) -> tuple[Tensor, Tensor, Tensor]:
    """Output, base features and side features of a side-tuned base."""
    adapted = wrap(base, "side_tuning", image_size=SIZE, **settings).eval()
    method = adapted.method()
    assert isinstance(method, SideTuning)
    images = make_images()
    with torch.no_grad():
        return adapted(image=images), base(images), method.side_features(images)


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_merges_are_their_formulas(kind: str) -> None:
    base = make_base(kind)
    for alpha in (0.5, 0.8):
        output, b, s = parts(base, alpha=alpha)
        assert torch.allclose(output, alpha * b + (1 - alpha) * s, atol=1e-6)
    output, b, s = parts(base, merge="product")
    assert torch.equal(output, b * s)
    output, b, s = parts(base, merge="sum")
    assert torch.equal(output, b + s)
    output, b, s = parts(base, merge="concat")
    assert torch.equal(output, torch.cat([b, s], 1))


def test_adapters_and_film_have_the_released_counts_and_forms() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(map_adapter(8, 8)) == 145
    assert count(vector_adapter(64)) == 8448
    film = FiLM(8)
    assert count(film) == 1680
    b, s = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    hidden = film.trunk(s)
    assert torch.allclose(film(b, s), b * (film.gamma(hidden) + s) + (film.beta(hidden) + s), atol=1e-6)
    for kind, expected in {
        "mlp": lambda m: m.base_adapter(b) + s,
        "mlp2": lambda m: m.base_adapter(b) + m.side_adapter(s),
        "resmlp2": lambda m: m.base_adapter(b) + s + m.side_adapter(s),
    }.items():
        merge = build_merge(kind, (8, 4, 4))
        assert isinstance(merge, MLP)
        assert torch.allclose(merge(b, s), expected(merge), atol=1e-6)


def test_alpha_is_learned_fixed_or_follows_the_curriculum() -> None:
    base = make_base("conv")
    learned = wrap(base, "side_tuning", image_size=SIZE, alpha=0.8)
    fixed = wrap(base, "side_tuning", image_size=SIZE, alpha=0.8, alpha_mode="fixed")
    assert len(learned.trainable()) == len(fixed.trainable()) + 1
    scheduled = wrap(base, "side_tuning", image_size=SIZE, alpha_mode="curriculum", k=100).eval()
    images = make_images()
    side = scheduled.method().side_features(images)
    for samples, share in ((0, 1.0), (50, 100 / 150), (150, 100 / 300)):
        scheduled.advance(samples)
        assert torch.allclose(scheduled(image=images), share * base(images) + (1 - share) * side, atol=1e-5)


def test_base_is_evaluated_once_per_frame_when_features_are_kept() -> None:
    base = make_base("conv")
    adapted = wrap(base, "side_tuning", image_size=SIZE)
    images = make_images()
    features = base(images)
    for _ in range(5):
        adapted(image=images, features=features).mean().backward()
    assert base.frames_evaluated == len(images)
    assert torch.equal(adapted(image=images, features=features), adapted(image=images))


def test_inits() -> None:
    base = random_base("fcn5", width=0.25)
    output, b, _ = parts(base, side="base", init="base")
    assert torch.allclose(output, b, atol=1e-6)
    _, _, random_side = parts(base, width=0.25)
    _, _, low = parts(base, width=0.25, init="low_energy")
    assert torch.allclose(low, 0.01 * random_side, atol=1e-6)
    assert not torch.equal(parts(base, seed=1)[2], parts(base, seed=2)[2])
    with pytest.raises(Incompatible, match="init=base needs"):
        wrap(base, "side_tuning", image_size=SIZE, width=0.5, init="base")


@pytest.mark.parametrize("target", ["base", "zero"])
def test_distilling_lowers_the_loss_and_leaves_the_base(target: str) -> None:
    base = random_base("fcn5", width=0.25)
    before = copy.deepcopy(base.encoder.state_dict())
    adapted = wrap(base, "side_tuning", image_size=SIZE, width=0.25, init="distill", seed=1)
    losses = distill(adapted, make_images(32), steps=40, target=target, learning_rate=3e-3)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(torch.equal(t, before[n]) for n, t in base.encoder.state_dict().items())


def test_normalise_standardises_eight_groups() -> None:
    output, b, s = parts(make_base("conv"), normalise=True)
    assert torch.allclose(output, nn.functional.group_norm(0.5 * b + 0.5 * s, 8), atol=1e-5)
    assert torch.allclose(output.mean((2, 3)), torch.zeros(6, 8), atol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_every_merge_trains_the_side(merge: str) -> None:
    adapted = wrap(make_base("conv"), "side_tuning", image_size=SIZE, merge=merge)
    (adapted(image=make_images()) ** 2).mean().backward()
    assert all(p.grad is not None for p in adapted.trainable())


def test_base_and_side_can_both_be_trained(tmp_path: Path) -> None:
    base = make_base("conv")
    images, before = make_images(), copy.deepcopy(base.encoder.state_dict())
    adapted = wrap(base, "side_tuning", image_size=SIZE, train_base=True)
    plain = wrap(base, "side_tuning", image_size=SIZE)
    assert torch.allclose(adapted.eval()(image=images), plain.eval()(image=images), atol=1e-6)
    method = adapted.method()
    assert isinstance(method, SideTuning) and method.reads == {"image"} and not method.needs_base
    optimiser = torch.optim.Adam(adapted.train().parameters(), 1e-2)
    adapted(image=images).square().mean().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.encoder.state_dict().items())
    assert method.own_base is not None
    own = method.own_base.state_dict()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in own.items())
    adapted.save(tmp_path)
    again = load(base, tmp_path).eval()
    assert torch.equal(again(image=images), adapted.eval()(image=images))


def test_settings_and_pairs_that_make_no_sense_are_refused() -> None:
    base = make_base("transformer")
    for settings, message in (
        ({"alpha": 1.5}, "alpha must be between 0 and 1"),
        ({"merge": "alhpa"}, "did you mean 'alpha'"),
        ({"side": "fcn9"}, "did you mean 'fcn"),
        ({"width": 0}, "width must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            wrap(base, "side_tuning", image_size=SIZE, **settings)
    with pytest.raises(Incompatible, match="film"):
        wrap(base, "side_tuning", image_size=SIZE, merge="film")
    with pytest.raises(Incompatible, match="resnet44"):
        wrap(base, "side_tuning", image_size=SIZE, side="resnet44")
