"""Modules under several names, weights that layers share, layers that are not used: methods act, or refuse the base."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_networks import SIZE, make_images
from torch import Tensor, nn
from torch.nn.utils import prune
from training import LABELS, task_loss

from adapt import Adapted, Base, Incompatible, NotMergeable, list_methods, wrap


class Plain(nn.Module):
    """Two convolutions with batch norm, each under one name."""

    layer_names = ("first", "second")

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))))


class Twice(Plain):
    """The same, with both parts in a list besides, through which they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([self.first, self.second])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.parts[1](torch.relu(self.parts[0](x))))


class Unused(Plain):
    """The same, with a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(5, 5)


def trained(network: type[Plain], method: str) -> Adapted:
    """Two tasks trained on a base, with the end of each; the base's weights and all drawn numbers are fixed."""
    torch.manual_seed(0)
    plain = Plain()
    encoder = network()
    encoder.load_state_dict({**encoder.state_dict(), **plain.state_dict()}, strict=False)
    for name, tensor in plain.state_dict().items():
        encoder.state_dict()[name].copy_(tensor)
    adapted = Adapted(Base(encoder.eval()), SIZE)
    for task in "ab":
        torch.manual_seed(1)
        adapted.add(task, method).train()
        optimiser = torch.optim.SGD([p for p in adapted.trainable()] or [nn.Parameter(torch.zeros(1))], lr=0.05)
        adapted.begin_task()
        for _ in range(3):
            optimiser.zero_grad()
            loss = task_loss(adapted(make_images()), LABELS) + adapted.penalty()
            if loss.requires_grad:
                loss.backward()
            optimiser.step()
            adapted.advance(len(LABELS))
        adapted.end_task([(make_images(), LABELS)], task_loss)
        with torch.no_grad():  # masks need more than three steps
            for parameter in adapted.trainable():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return adapted.eval()


@pytest.mark.parametrize("method", list_methods())
@pytest.mark.parametrize("network", [Twice, Unused])
def test_every_method_acts_under_every_name_and_beside_unused_layers(network: type[Plain], method: str) -> None:
    try:
        adapted = trained(network, method)
    except Incompatible as refusal:
        assert len(str(refusal)) > 20
        return
    once = trained(Plain, method) if network is Twice else None
    images = make_images()
    with torch.no_grad():
        output, features = adapted(images), adapted.base(images)
        assert not adapted.trainable() or output.shape != features.shape or not torch.equal(output, features)
        if once is not None:  # the second name changes nothing
            assert torch.allclose(once(images), output, atol=1e-5)
        try:
            assert torch.allclose(copy.deepcopy(adapted).merge()(images), output, atol=1e-5)
        except NotMergeable as refusal:
            assert method in str(refusal)


def test_a_residual_block_under_two_names_is_refused() -> None:
    from training import residual_base

    base = residual_base()
    base.encoder.again = base.encoder.layer1
    for method in ("adashare", "spottune"):
        with pytest.raises(Incompatible, match="registered under several names"):
            wrap(Base(base.encoder), method, "a", SIZE)


class Tied(Plain):
    """Two convolutions after the first that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Conv2d(8, 8, 3, 2, 1)
        self.third.weight = self.second[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.third(super().forward(x)))


@pytest.mark.parametrize(
    ("method", "settings"),
    [("patch", {"joint": True}), ("residual_adapter", {"joint": True}), ("taps", {"joint": "standard"})],
)
def test_joint_training_moves_a_shared_weight_at_every_layer_that_has_it(method: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    adapted = Adapted(Base(Tied().eval()), SIZE)
    for task in "ab":
        adapted.add(task, method, **settings)
    with torch.no_grad():
        for parameter in adapted.trainable():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    adapted.eval()
    shared = adapted.method("a").shared_tensors()
    assert torch.equal(shared["second.0.weight"], shared["third.weight"])
    assert not torch.equal(shared["third.weight"], adapted.base.encoder.third.weight)
    encoder = adapted.method("a").shared_base().encoder
    assert torch.equal(encoder.third.weight, shared["third.weight"])


def used_elsewhere(kind: str) -> Plain:
    """`Plain` with a weight of its second convolution at another place too, or a part where no copy finds it."""
    network = Plain()
    conv, norm = network.second[0], network.second[1]
    if kind == "parameter":
        network.again = conv.weight
    elif kind == "list":
        network.again = nn.ParameterList([conv.bias])
    elif kind == "buffer":
        network.register_buffer("again", conv.weight.detach())
    elif kind == "transposed":
        network.again = nn.ConvTranspose2d(8, 8, 3)
        network.again.weight = conv.weight
    elif kind == "norm":
        nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
    elif kind == "bias":
        nn.utils.parametrize.register_parametrization(conv, "bias", nn.Softplus())
    elif kind == "old hook":
        with pytest.warns(FutureWarning, match="deprecated"):
            nn.utils.weight_norm(conv)
    elif kind == "pruned":
        prune.l1_unstructured(conv, "weight", 0.5)
    elif kind == "closure":
        network.again = lambda x: network.second(x)
    elif kind == "hook":
        network.first.register_forward_hook(lambda module, inputs, output: output + conv.weight.mean())
    elif kind == "no part":
        network.again = [nn.Conv2d(8, 8, 1)]
    return network


COPIES = ("old hook", "pruned", "closure", "hook", "no part")


@pytest.mark.parametrize("kind", ["parameter", "list", "buffer", "transposed", "norm", "bias", *COPIES])
def test_weights_that_are_used_or_computed_at_other_places_are_refused(kind: str) -> None:
    """Formerly the tasks' weights acted at some places only, or were left out of what a task trained."""
    base = Base(used_elsewhere(kind).eval())
    refusing = ["bn", *(["fine_tune", "scratch"] if kind in COPIES else [])]
    # With the base's normalisation these change nothing but the layers' weights.
    refusing += ["lora", "piggyback", "packnet", "dan"] if kind != "norm" else []
    for method in refusing:
        with pytest.raises(Incompatible, match=r"(second|first|again)\S*' .*use |'again' (holds|is a)|by a hook"):
            wrap(base, method, "a", SIZE)
    for method in ("features", "side_tuning", *([] if kind in COPIES else ["fine_tune"])):
        assert wrap(base, method, "a", SIZE)(make_images()).isfinite().all()


class Functional(Plain):
    """The same, whose first part is computed without calling its layers."""

    def forward(self, x: Tensor) -> Tensor:
        conv = self.first[0]
        return torch.relu(self.second(torch.relu(self.first[1](nn.functional.conv2d(x, conv.weight, conv.bias, 2, 1)))))


def test_methods_beside_calls_of_layers_refuse_a_network_that_does_not_call_them() -> None:
    """Formerly adapters acted in evaluation and not in training."""
    for method in ("residual_adapter", "progressive"):
        with pytest.raises(Incompatible, match=r"without calling its layer 'first"):
            wrap(Base(Functional().eval()), method, "a", SIZE)
    assert wrap(Base(Functional().eval()), "lora", "a", SIZE)(make_images()).isfinite().all()


def test_statistics_that_normalisations_share_are_merged_apart() -> None:
    network = Plain()
    network.second[1].running_mean = network.first[1].running_mean
    adapted = Adapted(Base(network.eval()), SIZE).add("a", "psp").train()
    adapted(make_images())
    with torch.no_grad():
        assert torch.allclose(adapted.eval().merge()(make_images()), adapted(make_images()), atol=1e-5)
