"""What progressive, ewc, psp and packnet promise beyond what every method does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from released_layouts import LAYOUTS
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor, nn
from torch.nn import functional as F
from training import LABELS, output, task_loss, train

from adapt import Adapted, Base, Incompatible, load, wrap
from adapt.core.base import random_base
from adapt.core.deltas import weighted_layers
from adapt.methods.ewc import EWC, EWCConfig
from adapt.methods.packnet import Owned, PackNet, smallest
from adapt.methods.progressive import FCN4Progressive, FCN5Progressive, Progressive, align, as_map
from adapt.methods.psp import PSP
from adapt.modules.binary import unpack_levels

# Progressive.


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def test_progressive_fcn5_has_the_released_keys_and_counts() -> None:
    side = FCN5Progressive()
    side.add_adapters([256, 512, 1024, 2048], earlier=0)
    assert shapes(side) == LAYOUTS["FCN5ProgressiveH_task0"]
    assert sum(p.numel() for p in side.parameters()) == 1_336_308
    last = FCN5Progressive()
    last.add_adapters([256, 512, 1024, 2048], earlier=11)
    assert sum(p.numel() for p in last.parameters()) == 12_619_536


def test_progressive_fcn4_has_the_released_keys_counts_and_sizes() -> None:
    adapted = wrap(random_base("resnet44"), "progressive", image_size=32, side="fcn4", merge="alpha", dense=False)
    method = adapted.method()
    assert isinstance(method, Progressive)
    assert isinstance(method.side, FCN4Progressive)
    assert shapes(method.side) == LAYOUTS["FCN4ProgressiveH"]
    assert sum(p.numel() for p in method.side.parameters()) == 37_428
    sizes = []
    for i in range(1, 5):
        adapter = method.side.get_submodule(f"adapter{i}")
        adapter.register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].shape[2]))
    assert adapted(make_images()).shape == (6, 64)
    assert sizes == [32, 32, 16, 8]


def pooled_after_the_adapter(method: Progressive, images: Tensor) -> Tensor:
    """The side network of the release (FCN4ProgressiveH): adapter, then pooling, then cropping."""
    x, side = method.base.normalise(images), method.side
    stem, first, second, third = method.base.layers(images)[1].values()
    adapters = [side.get_submodule(f"adapter{i + 1}") for i in range(4)]
    convs = [side.get_submodule(f"conv{i}") for i in (1, 2, 3, 5)]
    x = convs[0][1:](convs[0][0](x) + adapters[0](stem))
    x = convs[1][1:](convs[1][0](x) + F.max_pool2d(adapters[1](first), 2)[:, :, :15, :15])
    x = convs[2][1:](convs[2][0](x) + F.max_pool2d(adapters[2](second), 2)[:, :, :7, :7])
    x = convs[3][1:](convs[3][0](x)[:, :, :4, :4] + F.max_pool2d(adapters[3](third), 2))
    return x.mean((2, 3))


def test_progressive_fcn4_adapts_before_it_pools_as_released() -> None:
    adapted = wrap(random_base("resnet44"), "progressive", image_size=32, side="fcn4", merge="alpha", dense=False)
    method = adapted.eval().method()
    assert isinstance(method, Progressive)
    x, (_, layers) = method.base.normalise(make_images()), method.base.layers(make_images())
    with torch.no_grad():
        output = method.side.finish(method.inner_maps(x, layers, []))
        assert torch.allclose(output, pooled_after_the_adapter(method, make_images()), atol=1e-5)
    assert output.std() > 0.1


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


@pytest.mark.parametrize("form", ["mean", "online", "separate"])
def test_ewc_remembers_all_earlier_tasks(form: str) -> None:
    adapted = wrap(make_base("conv"), "ewc", "a", SIZE, form=form, coef=1.0)
    start = finished(adapted).encoder.get_parameter("conv2.weight").detach().clone()
    adapted.add("b", "ewc", form=form, coef=1.0)
    train(adapted)
    method = finished(adapted)
    assert method.encoder is adapted.method("a").encoder
    end = method.encoder.get_parameter("conv2.weight").detach()
    assert method.memory is not None
    anchor = method.memory.anchor.get_buffer("conv2/weight")
    assert torch.allclose(anchor, (start + end) / 2 if form == "mean" else end)
    kept = [adapted.method(task).memory is not None for task in ("a", "b")]
    assert kept == ([True, True] if form == "separate" else [False, True])
    adapted.add("c", "ewc", form=form, coef=1.0)
    assert float(adapted.penalty().detach()) == 0 if form == "online" else float(adapted.penalty().detach()) > 0


def test_online_ewc_decays_the_sum_of_fisher_informations() -> None:
    """F* = gamma F_1 + F_2 around the weights after the second task; gamma F* in the penalty."""
    sums = {}
    for gamma in (0.0, 0.5, 1.0):
        adapted = wrap(make_base("conv"), "ewc", "a", SIZE, form="online", gamma=gamma, coef=2.0)
        first = finished(adapted).memory.fisher.get_buffer("conv2/weight").clone()
        adapted.add("b", "ewc", form="online", gamma=gamma, coef=0.0)
        train(adapted)
        sums[gamma] = finished(adapted).memory.fisher.get_buffer("conv2/weight").clone()
        adapted.add("c", "ewc", form="online", gamma=gamma, coef=2.0)
        weight = adapted.method("c").encoder.get_parameter("conv2.weight")
        with torch.no_grad():
            weight.add_(0.1)
        wanted = 2 * gamma * 0.01 * float(sums[gamma].sum())
        assert float(adapted.penalty().detach()) == pytest.approx(wanted, rel=1e-4)
    assert torch.allclose(sums[1.0] - sums[0.0], first, rtol=1e-4, atol=1e-10)
    assert torch.allclose(sums[0.5], (sums[0.0] + sums[1.0]) / 2, rtol=1e-4, atol=1e-10)


def test_saved_ewc_of_earlier_versions_is_read() -> None:
    assert EWCConfig.from_settings({"average": False, "coef": 2.0}).form == "separate"
    assert EWCConfig.from_settings({"average": True}).form == "mean"


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


def test_psp_tasks_need_the_same_statistics() -> None:
    adapted = wrap(make_base("conv"), "psp", "a", SIZE)
    with pytest.raises(Incompatible, match="same statistics"):
        adapted.add("b", "psp", statistics="batch")


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


def test_packnet_trains_the_head_again_and_leaves_the_last_task_whole() -> None:
    head = nn.Linear(8, 3)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(head(features.mean((2, 3))), labels)

    adapted = wrap(make_base("conv"), "packnet", "a", SIZE, retrain_rate=0.1, retrain_epochs=1)
    train(adapted)
    adapted.begin_task()
    before = head.weight.detach().clone()
    adapted.end_task([(make_images(), LABELS)], loss, list(head.parameters()))
    assert not torch.equal(head.weight, before)
    adapted.add("b", "packnet")
    train(adapted)
    adapted.begin_task(last=True)
    kept, wanted = int((owner(adapted, "conv2") == 3).sum()), output(adapted, "b")
    adapted.end_task([(make_images(), LABELS)], loss, list(head.parameters()))
    assert int((owner(adapted, "conv2") == 3).sum()) == kept
    assert torch.equal(output(adapted, "b"), wanted)


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


def test_packnet_refuses_a_task_for_which_no_weights_are_left(tmp_path: Path) -> None:
    adapted = wrap(make_base("conv"), "packnet", "a", SIZE).add("b", "packnet", prune=0.0)
    for _ in range(2):
        with pytest.raises(Incompatible, match="no free weights left"):
            adapted.add("c", "packnet")
    wanted = output(adapted.eval(), "b")
    adapted.save(tmp_path)
    assert torch.equal(output(load(make_base("conv"), tmp_path).eval(), "b"), wanted)


def test_packnet_frees_exactly_the_share_of_smallest_weights_also_among_equals() -> None:
    values = torch.tensor([0.5, -0.1, 0.2, -0.2, 0.2, 3.0, 0.0, -1.0])
    for count, wanted in ((0, set()), (1, {6}), (2, {1, 6}), (4, {1, 2, 3, 6}), (8, set(range(8)))):
        found = smallest(values, count / 8)
        assert set(found.tolist()) == wanted
        assert len(found) == count
