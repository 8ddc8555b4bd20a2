"""What progressive, ewc, psp, packnet, spottune and adashare promise beyond what every method does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor, nn

from adapt import Adapted, Base, Incompatible, load, wrap
from adapt.base import random_base
from adapt.binary import unpack_levels
from adapt.blocks import residual_blocks
from adapt.deltas import weighted_layers
from adapt.encoders import build_encoder
from adapt.methods.adashare import AdaShare
from adapt.methods.ewc import EWC
from adapt.methods.packnet import Owned, PackNet
from adapt.methods.progressive import FCN4Progressive, FCN5Progressive, Progressive, align, as_map
from adapt.methods.psp import PSP
from adapt.methods.spottune import SpotTune

LABELS = torch.arange(6) % 3


def residual_base() -> Base:
    """A narrow ResNet-26 whose statistics are not at their initial values."""
    base = random_base("resnet26", seed=3, width=0.25)
    base.encoder.train()
    with torch.no_grad():
        base.encoder(torch.randn(16, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    base.encoder.eval()
    return base


def task_loss(features: Tensor, labels: Tensor) -> Tensor:
    pooled = features.flatten(2).mean(2) if features.ndim > 2 else features
    return nn.functional.cross_entropy(pooled[:, :3], labels)


def train(adapted: Adapted, steps: int = 3, **options: float) -> None:
    """Train the active task with momentum and decay, which would move anything that is frozen by zero gradients."""
    torch.manual_seed(0)
    adapted.train()
    optimiser = torch.optim.SGD(adapted.parameters(), lr=0.05, momentum=0.9, weight_decay=options.get("decay", 0.1))
    for _ in range(steps):
        optimiser.zero_grad()
        (task_loss(adapted(make_images()), LABELS) + adapted.penalty()).backward()
        optimiser.step()
        adapted.advance(len(LABELS))
    adapted.eval()


def output(adapted: Adapted, task: str) -> Tensor:
    with torch.no_grad():
        return adapted(make_images(), task=task)


# Progressive.


def expected(shared: Path, name: str) -> dict[str, list[int]]:
    return json.loads((shared / "weights" / "expected_shapes.json").read_text())[name]


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def test_progressive_fcn5_has_the_released_keys_and_counts(shared: Path) -> None:
    side = FCN5Progressive()
    side.add_adapters([256, 512, 1024, 2048], earlier=0)
    assert shapes(side) == expected(shared, "FCN5ProgressiveH_task0")
    assert sum(p.numel() for p in side.parameters()) == 1_336_308
    last = FCN5Progressive()
    last.add_adapters([256, 512, 1024, 2048], earlier=11)
    assert sum(p.numel() for p in last.parameters()) == 12_619_536


def test_progressive_fcn4_has_the_released_keys_counts_and_sizes(shared: Path) -> None:
    adapted = wrap(random_base("resnet44"), "progressive", image_size=32, side="fcn4", merge="alpha", dense=False)
    method = adapted.method()
    assert isinstance(method, Progressive)
    assert isinstance(method.side, FCN4Progressive)
    assert shapes(method.side) == expected(shared, "FCN4ProgressiveH")
    assert sum(p.numel() for p in method.side.parameters()) == 37_428
    sizes = []
    for i in range(1, 5):
        adapter = method.side.get_submodule(f"adapter{i}")
        adapter.register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].shape[2]))
    assert adapted(make_images()).shape == (6, 64)
    assert sizes == [32, 15, 7, 4]


def test_progressive_without_laterals_is_the_plain_side_network() -> None:
    adapted = wrap(make_base("conv"), "progressive", image_size=SIZE)
    method = adapted.method()
    assert isinstance(method, Progressive)
    with torch.no_grad():
        for name in ("adapter1", "adapter2"):
            method.side.get_submodule(f"{name}.4").weight.zero_()
    x = method.base.normalise(make_images())
    _, layers = method.base.layers(make_images())
    with torch.no_grad():
        assert torch.allclose(method.side.finish(method.inner_maps(x, layers, [])), method.side(x))


def test_progressive_reads_earlier_tasks_only_if_dense_and_never_changes_them() -> None:
    for dense in (True, False):
        adapted = wrap(make_base("conv"), "progressive", "a", SIZE, width=0.25, dense=dense)
        first = output(adapted, "a")
        adapted.add("b", "progressive", width=0.25, dense=dense)
        train(adapted)
        assert torch.equal(output(adapted, "a"), first)
        assert all(p.grad is None for p in adapted.method("a").parameters())
        before = output(adapted, "b")
        with torch.no_grad():
            for parameter in adapted.trainable("a"):
                parameter.add_(0.1)
        assert torch.equal(output(adapted, "b"), before) != dense


def test_progressive_maps_of_tokens_and_their_alignment() -> None:
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(as_map(tokens)[1, :, 1, 0], tokens[1, 3])
    x = torch.arange(256.0).view(1, 1, 16, 16)
    assert torch.equal(align(x, 15, 15), x[:, :, :15, :15])
    assert align(x, 7, 7)[0, 0, 0].tolist() == [17.0, 19.0, 21.0, 23.0, 25.0, 27.0, 29.0]
    assert align(x[:, :, ::2, ::2], 5, 5, short=1).shape == (1, 1, 4, 4)
    assert align(x[:, :, ::2, ::2], 5, 5).shape == (1, 1, 5, 5)


def test_progressive_refuses_bases_without_named_layers_and_unequal_sides() -> None:
    with pytest.raises(Incompatible, match="inner layers"):
        wrap(Base(nn.Sequential(nn.Conv2d(3, 8, 3))), "progressive", image_size=SIZE)
    adapted = wrap(make_base("conv"), "progressive", "a", SIZE, width=0.25)
    with pytest.raises(Incompatible, match="one kind and width"):
        adapted.add("b", "progressive", width=0.5)


# Elastic weight consolidation.


def finished(adapted: Adapted) -> EWC:
    adapted.end_task([(make_images(6, s), LABELS) for s in range(2)], task_loss)
    method = adapted.method()
    assert isinstance(method, EWC)
    return method


def test_ewc_fisher_and_penalty_are_the_closed_forms() -> None:
    adapted = wrap(make_base("conv"), "ewc", "a", SIZE, coef=3.0)
    assert adapted.penalty() == 0
    method = finished(adapted)
    adapted.eval()
    parameters = dict(method.encoder.named_parameters())
    squares = []
    for seed in range(2):
        gradients = torch.autograd.grad(task_loss(adapted(make_images(6, seed)), LABELS), list(parameters.values()))
        squares.append(dict(zip(parameters, gradients, strict=True)))
    adapted.add("b", "ewc", coef=3.0)
    assert adapted.penalty() == 0
    wanted = 0.0
    with torch.no_grad():
        for i, (name, parameter) in enumerate(parameters.items()):
            parameter.add_(0.1 * (i + 1))
            fisher = (squares[0][name] ** 2 + squares[1][name] ** 2) / 2
            wanted += 3 * float((fisher * (0.1 * (i + 1)) ** 2).sum())
    assert float(adapted.penalty().detach()) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("average", [True, False])
def test_ewc_remembers_all_earlier_tasks(average: bool) -> None:
    adapted = wrap(make_base("conv"), "ewc", "a", SIZE, average=average, coef=1.0)
    finished(adapted)
    start = adapted.method("a").encoder.get_parameter("conv2.weight").detach().clone()
    adapted.add("b", "ewc", average=average, coef=1.0)
    train(adapted)
    method = finished(adapted)
    assert method.encoder is adapted.method("a").encoder
    end = method.encoder.get_parameter("conv2.weight").detach()
    assert method.memory is not None
    anchor = method.memory.anchor.get_buffer("conv2/weight")
    assert torch.allclose(anchor, (start + end) / 2 if average else end)
    kept = [adapted.method(task).memory is not None for task in ("a", "b")]
    assert kept == ([False, True] if average else [True, True])
    adapted.add("c", "ewc", average=average, coef=1.0)
    assert float(adapted.penalty().detach()) > 0


def test_ewc_sequence_is_saved_and_holds_important_weights(tmp_path: Path) -> None:
    moved = {}
    for coef in (0.0, 1e3):
        adapted = wrap(make_base("conv"), "ewc", "a", SIZE, coef=coef)
        finished(adapted)
        anchor = output(adapted, "a")
        adapted.add("b", "ewc", coef=coef)
        train(adapted, steps=10, decay=0.0)
        moved[coef] = float((output(adapted, "a") - anchor).norm())
    assert moved[1e3] < moved[0.0]
    adapted.save(tmp_path)
    again = load(make_base("conv"), tmp_path)
    again.eval()
    assert torch.equal(output(again, "b"), output(adapted, "b"))
    assert float(again.penalty().detach()) == pytest.approx(float(adapted.penalty().detach()))
    assert adapted.budget("b").stored_bits < 0.1 * adapted.budget("a").stored_bits


# Parameter superposition.


def test_psp_starts_as_the_base_and_gives_each_task_its_signs() -> None:
    base = make_base("depthwise")
    adapted = wrap(base, "psp", "a", SIZE).eval()
    assert torch.equal(output(adapted, "a"), base(make_images()))
    adapted.add("b", "psp")
    first, second = adapted.method("a"), adapted.method("b")
    assert isinstance(first, PSP)
    assert isinstance(second, PSP)
    stem, *others = (f"{name}.weight" for name in weighted_layers(base.encoder))
    assert stem not in first.task_tensors()
    for name in others:
        ratio = first.task_tensors()[name] / second.task_tensors()[name]
        assert set(ratio.abs().flatten().tolist()) == {1.0}
        assert torch.equal(ratio, ratio[:1].expand_as(ratio))
    assert not torch.equal(output(adapted, "a"), output(adapted, "b"))


def test_psp_stores_shared_weights_once_and_one_bit_per_sign(tmp_path: Path) -> None:
    base = make_base("conv")
    adapted = wrap(base, "psp", "a", SIZE)
    adapted.add("b", "psp")
    train(adapted)
    second = adapted.method("b").pack()
    assert second["contexts.conv2"].numel() == 8 * 3 * 3 // 8
    assert set(second) == {"contexts.conv2", *(f"norms.bn{i}.running_{s}" for i in (1, 2) for s in ("mean", "var"))}
    adapted.save(tmp_path)
    again = load(make_base("conv"), tmp_path).eval()
    for task in ("a", "b"):
        assert torch.equal(output(again, task), output(adapted, task))
        with torch.no_grad():
            assert torch.allclose(adapted.merge(task)(make_images()), output(adapted, task), atol=1e-5)


def test_psp_with_statistics_of_the_batch_and_scrambled_start() -> None:
    base = make_base("conv")
    adapted = wrap(base, "psp", "a", SIZE, statistics="batch", start="plain").eval()
    whole = output(adapted, "a")
    with torch.no_grad():
        part = adapted(make_images()[:2])
        assert not torch.allclose(part, whole[:2])
        assert torch.allclose(adapted.merge()(make_images()), whole, atol=1e-6)
    assert torch.equal(
        adapted.method().encoder.get_parameter("conv2.weight"), base.encoder.get_parameter("conv2.weight")
    )


# PackNet.


def owner(adapted: Adapted, layer: str) -> Tensor:
    delta = adapted.method().deltas[layer]
    assert isinstance(delta, Owned)
    return delta.owner


def test_packnet_owners_follow_the_recipe() -> None:
    base = make_base("conv")
    weight = base.encoder.get_parameter("conv2.weight")
    adapted = wrap(base, "packnet", "a", SIZE, prune=0.75)
    own = owner(adapted, "conv2")
    assert int((own == 1).sum()) == weight.numel() // 2
    assert weight[own == 1].abs().min() >= weight[own == 2].abs().max()
    claimed = int((own == 2).sum())
    assert adapted.budget().trainable_parameters == sum(p.numel() for p in weighted_parameters(base)) // 2
    train(adapted)
    adapted.end_task([(make_images(), LABELS)], task_loss)
    assert int((own == 2).sum()) == claimed - round(0.75 * claimed)
    assert int((own == 0).sum()) == round(0.75 * claimed)
    adapted.add("b", "packnet")
    assert int((own == 3).sum()) == round(0.75 * claimed)


def weighted_parameters(base: Base) -> list[nn.Parameter]:
    return [layer.weight for layer in weighted_layers(base.encoder).values()]


def test_packnet_tasks_never_disturb_earlier_ones_and_are_stored_in_few_bits(tmp_path: Path) -> None:
    base = make_base("conv")
    adapted = Adapted(base, SIZE)
    outputs = {}
    for task in ("a", "b", "c"):
        adapted.add(task, "packnet", prune=0.5, retrain_rate=0.01)
        train(adapted)
        before = output(adapted, task)
        adapted.end_task([(make_images(), LABELS)], task_loss)
        outputs[task] = output(adapted, task)
        assert not torch.equal(outputs[task], before)
    for task, wanted in outputs.items():
        assert torch.equal(output(adapted, task), wanted)
    packed = adapted.method("a").pack()
    assert packed["owners.conv2"].numel() == 8 * 8 * 9 * 3 // 8, "ceil(log2(T+1)) = 3 bits for base and 3 tasks"
    owners = unpack_levels(packed["owners.conv2"], 3, torch.Size((8, 8, 3, 3)))
    assert torch.equal(owners, owner(adapted, "conv2"))
    adapted.save(tmp_path)
    again = load(make_base("conv"), tmp_path).eval()
    for task, wanted in outputs.items():
        assert torch.equal(output(again, task), wanted)
    assert all(isinstance(again.method(task), PackNet) for task in outputs)


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


def test_adashare_starts_as_the_base_and_skips_blocks() -> None:
    adapted, method = adashare()
    adapted.eval()
    assert torch.equal(output(adapted, "a"), method.base(make_images()))
    with torch.no_grad():
        method.logits[[1, 2, 5], 1] = 1.0
    skipping = output(adapted, "a")
    merged = adapted.merge()
    assert torch.allclose(merged(make_images()), skipping, atol=1e-6)
    assert len(weighted_layers(merged.encoder)) == 25 - 2 * 3
    with torch.no_grad():
        method.logits[:, 1] = 1.0
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
