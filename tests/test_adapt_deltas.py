"""What weight deltas and own weights promise beyond what every method does."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import nn

from adapt import Adapted, wrap
from adapt.core.deltas import norm_layers, weighted_layers
from adapt.methods.lora import LowRank


def step(adapted: Adapted) -> None:
    """One training step with a large learning rate."""
    adapted.train()
    optimiser = torch.optim.SGD(adapted.trainable(), lr=1.0)
    (adapted(image=make_images()) ** 2).mean().backward()
    optimiser.step()
    adapted.eval()


def test_own_batch_norm_is_that_of_a_plain_network_in_training() -> None:
    base = make_base("conv")
    images = make_images()
    adapted = wrap(base, "bn", image_size=SIZE)
    plain = make_base("conv").encoder
    plain.train()
    for _ in range(2):
        assert torch.equal(adapted(image=images), plain(base.normalise(images)))
    adapted.eval()
    plain.eval()
    assert torch.equal(adapted(image=images), plain(base.normalise(images)))
    assert not torch.equal(adapted(image=images), base(images))
    assert torch.equal(adapted.merge()(images), adapted(image=images))


@pytest.mark.parametrize(
    ("norm", "affine", "statistics"),
    [("frozen", 0, False), ("trained", 32, True), ("affine", 32, False), ("statistics", 0, True)],
)
def test_norm_modes_train_and_update_what_they_say(norm: str, affine: int, statistics: bool) -> None:
    base = make_base("conv")
    adapted = wrap(base, "lora", image_size=SIZE, norm=norm, rank=1)
    low_rank = 8 * 1 + 27 * 1 + 8 * 1 + 72 * 1
    assert adapted.budget().trainable_parameters == low_rank + affine
    step(adapted)
    buffers = {n: b for n, b in adapted.methods.named_buffers() if n.endswith("running_mean")}
    assert bool(buffers) == statistics
    for name, buffer in buffers.items():
        layer = name.split("norms.")[1].rpartition(".")[0]
        assert not torch.equal(buffer, base.encoder.get_submodule(layer).running_mean)
    merged = adapted.merge()
    assert torch.allclose(merged(make_images()), adapted(image=make_images()), atol=1e-5)


def test_lora_starts_at_the_base_and_is_of_low_rank() -> None:
    base = make_base("transformer")
    adapted = wrap(base, "lora", image_size=SIZE, rank=2, alpha=4.0).eval()
    images = make_images()
    assert torch.allclose(adapted(image=images), base(images), atol=1e-6)
    step(adapted)
    assert not torch.allclose(adapted(image=images), base(images), atol=1e-3)
    merged = adapted.merge().encoder
    for name, layer in weighted_layers(base.encoder).items():
        change = (merged.get_submodule(name).weight - layer.weight).flatten(1)
        assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 2
    only = wrap(base, "lora", image_size=SIZE, layers="conv").method()
    assert list(only.deltas) == ["embed"]


def test_lora_is_scaled_by_its_rank_as_in_peft_also_where_a_layer_is_smaller() -> None:
    layer = LowRank(torch.zeros(4, 3, 1, 1), rank=8, alpha=16.0)
    assert (layer.a.shape, layer.b.shape) == ((8, 3), (4, 8))
    with torch.no_grad():
        layer.b.normal_()
        expected = 16 / 8 * torch.einsum("or,ri->oi", layer.b, layer.a)
    assert torch.allclose(layer(torch.zeros(4, 3, 1, 1)).flatten(1), expected, atol=1e-6)


def test_layer_lists_are_complete() -> None:
    encoder = make_base("transformer").encoder
    assert len(weighted_layers(encoder)) == 1 + 2 * 4
    assert len(norm_layers(encoder)) == 5
    assert list(norm_layers(make_base("conv").encoder)) == ["bn1", "bn2"]


def test_fine_tuning_the_last_layers_leaves_and_stores_nothing_else() -> None:
    base = make_base("conv")
    adapted = wrap(base, "fine_tune", image_size=SIZE, last=1)
    assert adapted.budget().trainable_parameters == 8 * 72 + 8 + 16
    step(adapted)
    own, frozen = adapted.method().encoder.state_dict(), base.encoder.state_dict()
    moved = {name for name in own if not torch.equal(own[name], frozen[name])}
    assert moved == {name for name in own if name.startswith(("conv2", "bn2"))}
    stored = {f"encoder.{name}" for name in moved if not name.endswith("num_batches_tracked")}
    assert set(adapted.method().pack()) == stored
    with pytest.raises(ValueError, match="last must be at most 2"):
        wrap(base, "fine_tune", image_size=SIZE, last=3)


def test_stage_wise_fine_tuning_begins_frozen() -> None:
    base = make_base("conv")
    adapted = wrap(base, "fine_tune", image_size=SIZE, stage_samples=10)
    images = make_images()
    adapted.train()
    assert len(adapted.trainable()) == 7
    first = adapted(image=images)
    assert not first.requires_grad
    assert torch.equal(first, base(images))
    adapted.advance(9)
    assert not adapted(image=images).requires_grad
    adapted.advance(1)
    assert adapted(image=images).requires_grad
    step(adapted)
    assert not torch.equal(adapted(image=images), base(images))


def test_scratch_is_seeded_and_shares_only_the_architecture() -> None:
    base = make_base("transformer")
    images = make_images()
    outputs = [wrap(base, "scratch", image_size=SIZE, seed=seed).eval()(image=images) for seed in (0, 0, 1)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], base(images))
    fresh = wrap(base, "scratch", image_size=SIZE).method().encoder.state_dict()
    old = base.encoder.state_dict()
    assert not [n for n, t in fresh.items() if torch.equal(t, old[n])]


def test_extra_work_is_counted() -> None:
    base = make_base("conv")
    conv = 8 * 27 * 16 * 16 + 8 * 72 * 8 * 8
    assert wrap(base, "features", image_size=SIZE).budget().extra_multiply_adds == 0
    assert wrap(base, "fine_tune", image_size=SIZE).budget().extra_multiply_adds == 0
    lora = wrap(base, "lora", image_size=SIZE, rank=1).budget()
    assert lora.base_multiply_adds == conv
    assert lora.extra_multiply_adds == 8 * 27 + 8 * 72
    side = wrap(base, "side_tuning", image_size=SIZE, side="base").budget()
    assert side.extra_multiply_adds == conv
    assert "trainable parameters" in str(side)


def test_the_head_outside_learns_on_frozen_features() -> None:
    adapted = wrap(make_base("conv"), "features", image_size=SIZE)
    assert adapted.trainable() == []
    head = nn.Linear(8, 2)
    head(adapted(image=make_images()).mean((2, 3))).sum().backward()
    assert head.weight.grad is not None
