"""What spottune and adashare promise beyond what every method does, and the residual blocks that they find."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor
from training import output, residual_base, train

from adapt import Adapted, Incompatible, NotMergeable, load, wrap
from adapt.core.deltas import weighted_layers
from adapt.encoders import build_encoder
from adapt.methods.adashare import AdaShare
from adapt.methods.spottune import SpotTune
from adapt.modules.residual_blocks import residual_blocks

# SpotTune.


def force(adapted: Adapted, logit: float) -> None:
    """Make the policy choose the tuned copy everywhere (positive) or nowhere (negative)."""
    method = adapted.method()
    assert isinstance(method, SpotTune)
    with torch.no_grad():
        method.policy.head.weight.zero_()
        method.policy.head.bias.view(-1, 2)[:, 1] = logit
        method.policy.head.bias.view(-1, 2)[:, 0] = 0


def test_spottune_routes_between_the_base_and_tuned_blocks() -> None:
    base = residual_base()
    adapted = wrap(base, "spottune", "a", SIZE).eval()
    method = adapted.method()
    assert isinstance(method, SpotTune)
    assert method.policy.head.out_features == 24
    force(adapted, -1)
    assert torch.allclose(output(adapted, "a"), base(make_images()), atol=1e-6)
    with torch.no_grad():
        for name, parameter in method.encoder.named_parameters():
            if ".tuned." in name:
                parameter.add_(0.1)
    assert torch.allclose(output(adapted, "a"), base(make_images()), atol=1e-6)
    force(adapted, 1)
    assert not torch.allclose(output(adapted, "a"), base(make_images()), atol=1e-2)


def test_spottune_trains_norms_of_both_branches_but_no_frozen_convolution(tmp_path: Path) -> None:
    adapted = wrap(residual_base(), "spottune", "a", SIZE)
    method = adapted.method()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    train(adapted)
    changed = {name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])}
    block = "encoder.layer2.1"
    assert f"{block}.frozen.conv1.weight" not in changed
    wanted = {f"{block}.frozen.bn1.weight", f"{block}.frozen.bn1.running_mean", f"{block}.tuned.conv1.weight"}
    assert {*wanted, "encoder.conv1.weight", "policy.head.weight"} <= changed
    adapted.save(tmp_path)
    again = load(residual_base(), tmp_path).eval()
    assert torch.equal(output(again, "a"), output(adapted, "a"))
    assert not any(".frozen.conv" in name for name in method.pack())


def test_spottune_draws_in_training_and_at_test_only_if_asked() -> None:
    for stochastic in (False, True):
        adapted = wrap(residual_base(), "spottune", "a", SIZE, stochastic=stochastic)
        method = adapted.method()
        assert isinstance(method, SpotTune)
        torch.manual_seed(0)
        x = torch.randn(64, 3, SIZE, SIZE)
        with torch.no_grad():
            drawn = method.train().shares(x)
            assert set(drawn.flatten().tolist()) == {0.0, 1.0}
            assert not torch.equal(method.shares(x), drawn)
            method.eval()
            assert torch.equal(method.shares(x), method.shares(x)) != stochastic


# AdaShare.


def adashare(**settings: object) -> tuple[Adapted, AdaShare]:
    adapted = wrap(residual_base(), "adashare", "a", SIZE, **settings)
    method = adapted.method()
    assert isinstance(method, AdaShare)
    return adapted, method


def test_adashare_fixed_is_the_base_without_the_skipped_blocks() -> None:
    adapted, method = adashare()
    adapted.eval()
    with pytest.raises(NotMergeable, match="search_samples"):
        adapted.merge()
    with torch.no_grad():
        method.logits[:, 0] = 1000.0
    assert torch.equal(output(adapted, "a"), method.base(make_images()))
    method.fix(seed=0)
    assert torch.equal(output(adapted, "a"), method.base(make_images()))
    method.choice[[1, 2, 5]] = 1
    skipping = output(adapted, "a")
    merged = adapted.merge()
    assert torch.allclose(merged(make_images()), skipping, atol=1e-6)
    assert len(weighted_layers(merged.encoder)) == 25 - 2 * 3
    method.choice.fill_(1)
    images = method.base.normalise(make_images())
    network = method.base.encoder
    with torch.no_grad():
        x = network.bn1(network.conv1(images))
        for shortcut in residual_blocks(network).values():
            assert shortcut is not None
            x = shortcut(x)
        wanted = torch.relu(network.end_bn(x)).mean((2, 3))
    assert torch.allclose(output(adapted, "a"), wanted, atol=1e-6)


def test_adashare_losses_are_the_closed_forms_and_share_gradients_over_pairs() -> None:
    for depth in ("shallow", "deep"):
        adapted, first = adashare(sparsity=0.2, sharing=0.3, depth=depth)
        adapted.add("b", "adashare", sparsity=0.2, sharing=0.3, depth=depth)
        second = adapted.method("b")
        assert isinstance(second, AdaShare)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for method in (first, second):
                method.logits.copy_(torch.randn(12, 2, generator=generator))
        order = torch.arange(1.0, 13) / 12
        weights = order if depth == "deep" else order.flip(0)

        def sparse(method: AdaShare) -> Tensor:
            return -0.2 * method.logits.log_softmax(1)[:, 1].mean()

        pair = 0.3 * (weights * (first.logits[:, 0] - second.logits[:, 0]).abs()).sum()
        assert torch.allclose(first.penalty(), sparse(first) + pair)
        wanted = torch.autograd.grad(sparse(first) + sparse(second) + pair, [first.logits, second.logits])
        given = torch.autograd.grad(first.penalty() + second.penalty(), [first.logits, second.logits])
        assert all(torch.allclose(g, w) for g, w in zip(given, wanted, strict=True))


def test_adashare_searches_by_curriculum_then_fixes_a_sample_and_starts_again() -> None:
    adapted, method = adashare(warmup_samples=6, phase_samples=6, search_samples=24, seed=5)
    assert torch.equal(method.train().policy(), torch.tensor([[1.0, 0.0]]).expand(12, 2))
    assert method.penalty() == 0
    train(adapted, 2)
    method.train()
    soft = method.policy()
    assert torch.equal(soft[:10], torch.tensor([[1.0, 0.0]]).expand(10, 2))
    assert ((soft[10:] > 0) & (soft[10:] < 1)).all()
    train(adapted, 2)
    assert method.fixed
    assert method.penalty() == 0
    encoder = method.base.encoder
    assert torch.equal(method.encoder.get_parameter("layer1.0.block.conv1.weight"), encoder.layer1[0].conv1.weight)
    choice = method.choice.clone()
    train(adapted, 2)
    assert torch.equal(method.choice, choice)
    assert torch.equal(method.train().policy().argmax(1).byte(), choice)


def test_adashare_tasks_share_weights_but_not_norms(tmp_path: Path) -> None:
    adapted, first = adashare()
    adapted.add("b", "adashare")
    second = adapted.method("b")
    train(adapted)
    assert first.encoder is second.encoder
    assert torch.equal(first.norms["bn1"].weight, first.base.encoder.bn1.weight)
    assert not torch.equal(second.norms["bn1"].weight, first.base.encoder.bn1.weight)
    assert not any(name.startswith("encoder.") for name in second.pack())
    adapted.save(tmp_path)
    again = load(residual_base(), tmp_path).eval()
    assert torch.equal(output(again, "b"), output(adapted, "b"))


def test_blocks_of_networks_without_shortcuts_are_refused() -> None:
    for method in ("spottune", "adashare"):
        with pytest.raises(Incompatible, match="residual blocks"):
            wrap(make_base("conv"), method, image_size=SIZE)


@pytest.mark.parametrize(
    ("name", "count", "skippable"),
    [
        ("resnet44", 21, 21),
        ("wrn28_4", 12, 12),
        ("taskonomy", 16, 16),
        ("timm/resnet34", 16, 16),
        ("torchvision/mobilenet_v2", 17, 10),
        ("timm/mobilenetv2_100", 17, 10),
        ("timm/vit_tiny_patch16_224", 12, 12),
        ("torchvision/densenet121", 0, 0),
        ("timm/vgg11", 0, 0),
    ],
)
def test_residual_blocks_of_known_networks(name: str, count: int, skippable: int) -> None:
    with torch.device("meta"):
        blocks = residual_blocks(build_encoder(name))
    assert len(blocks) == count
    assert sum(shortcut is not None for shortcut in blocks.values()) == skippable
