"""Uses that go wrong easily: nesting, copying, other number types, fused attention, training tasks in turns."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor, nn
from training import LABELS, output, residual_base, task_loss

from adapt import Adapted, Base, Incompatible, list_methods, wrap
from adapt.core.base import BaseSpec, Normalisation

SHARED = ("adashare", "ewc", "packnet", "psp")
INDEPENDENT = [m for m in list_methods() if m not in (*SHARED, "progressive", "features")]


def adapted_by(method: str, task: str = "a") -> Adapted:
    base = residual_base() if method in ("adashare", "spottune") else make_base("conv")
    return wrap(base, method, task, SIZE, **({"width": 0.1} if method == "spottune" else {}))


def move(adapted: Adapted, size: float = 0.05) -> None:
    """Change every trainable number through `.data`, which version counters do not show."""
    generator = torch.Generator().manual_seed(1)
    for parameter in adapted.trainable():
        parameter.data.add_(size * torch.randn(parameter.shape, generator=generator))


def evaluate(adapted: Adapted) -> Tensor:
    with torch.no_grad():
        return adapted.eval()(make_images())


@pytest.mark.parametrize("method", list_methods())
def test_copies_are_independent_and_other_number_types_compute_nearly_the_same(method: str) -> None:
    adapted = adapted_by(method)
    move(adapted)
    before = evaluate(adapted)
    for twin in (copy.deepcopy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert torch.equal(evaluate(twin), before)
        move(twin, 1.0)
        assert not twin.trainable() or not torch.equal(evaluate(twin), before)
        assert torch.equal(evaluate(adapted), before)
    double = copy.deepcopy(adapted).double()
    assert torch.allclose(evaluate(double), before, atol=1e-4)
    double.output_shape  # noqa: B018 (it runs the network)
    half = copy.deepcopy(adapted).bfloat16()
    assert evaluate(half).dtype == torch.float32
    if method != "spottune":  # whose decisions may flip
        assert torch.allclose(evaluate(half), before, atol=0.1)
    assert torch.allclose(evaluate(copy.deepcopy(adapted).to(memory_format=torch.channels_last)), before, atol=1e-4)


@pytest.mark.parametrize("method", list_methods())
def test_tasks_take_the_number_type_of_a_converted_base(method: str) -> None:
    base = (residual_base() if method in ("adashare", "spottune") else make_base("conv")).bfloat16()
    adapted = wrap(base, method, "a", SIZE, **({"width": 0.1} if method == "spottune" else {}))
    assert {p.dtype for p in adapted.trainable()} <= {torch.bfloat16}
    assert evaluate(adapted).dtype == torch.float32


@pytest.mark.parametrize("method", ["side_tuning", "progressive"])
def test_features_of_other_images_are_not_broadcast(method: str) -> None:
    adapted = adapted_by(method)
    features, layers = adapted.base.layers(make_images())
    for wrong in (features[:1], features[:, :1], features.mean((2, 3)), adapted.base(make_images()[:, :, ::2, ::2])):
        with pytest.raises(ValueError, match=r"made for images of 32 pixels with features \(8, 8, 8\)"):
            adapted(make_images(), wrong, layers)
    with pytest.raises(ValueError, match=r"got images \(6, 3, 16, 16\)"):
        adapted(make_images()[:, :, ::2, ::2])


def test_adapters_are_placed_by_depth_on_a_base_of_one_channel() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))
    base = Base(network, BaseSpec(normalisation=Normalisation((0.5,), (0.5,))))
    assert list(wrap(base, "residual_adapter", "a", SIZE, placement="late").method().deltas) == ["1"]


def test_converting_a_base_changes_what_it_is() -> None:
    base = make_base("conv")
    whole = base.sha256
    assert base.bfloat16().sha256 != whole


@pytest.mark.parametrize("method", list_methods())
def test_evaluation_follows_every_change_and_is_what_training_computes(method: str) -> None:
    adapted = adapted_by(method)
    seen = []
    for _ in range(3):
        move(adapted)
        kept = evaluate(adapted)
        assert torch.equal(evaluate(adapted), kept)
        assert torch.allclose(adapted(make_images()).detach(), kept, atol=1e-5), "with gradients nothing is kept"
        seen.append(kept)
    if adapted.trainable():
        assert not torch.equal(seen[0], seen[1])
        assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("settings", [{}, {"kind": "series"}, {"rank": 0.5}, {"dropout": 0.5}])
def test_folded_adapters_are_those_beside_the_network(settings: dict[str, object]) -> None:
    adapted = wrap(residual_base(), "residual_adapter", "a", SIZE, **settings)
    optimiser = torch.optim.SGD(adapted.trainable(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        task_loss(adapted.train()(make_images()), LABELS).backward()
        optimiser.step()
    folded = evaluate(adapted)
    beside = adapted(make_images())
    assert beside.requires_grad
    size = float(folded.abs().max())
    assert torch.allclose(folded, beside, atol=3e-6 * size)
    assert torch.allclose(adapted.merge()(make_images()), beside, atol=3e-6 * size)


@pytest.mark.parametrize("method", ["dan", "residual_adapter"])
def test_tasks_that_take_turns_do_not_mix_what_is_kept(method: str) -> None:
    settings = {"kind": "series"} if method == "residual_adapter" else {}
    adapted = wrap(make_base("conv"), method, "a", SIZE, **settings)
    move(adapted)
    adapted.add("b", method, **settings)
    move(adapted, 0.3)
    alone = {task: copy.deepcopy(adapted).eval()(make_images(), task=task).detach() for task in "ab"}
    for task in "abbaab":
        assert torch.allclose(output(adapted.eval(), task), alone[task], atol=1e-5)
    merged = adapted.merge("a")
    merged.encoder.get_parameter("conv2.bias").data.zero_()
    assert torch.allclose(output(adapted, "a"), alone["a"], atol=1e-5)


def step(adapted: Adapted, task: str, optimiser: torch.optim.Optimizer) -> None:
    adapted.activate(task)
    adapted.train()
    optimiser.zero_grad()
    (task_loss(adapted(make_images()), LABELS) + adapted.penalty()).backward()
    optimiser.step()
    adapted.advance(len(LABELS))


@pytest.mark.parametrize("method", INDEPENDENT)
def test_tasks_trained_in_turns_are_bitwise_those_trained_alone(method: str) -> None:
    def trained(tasks: str) -> dict[str, Tensor]:
        adapted = Adapted(residual_base() if method == "spottune" else make_base("conv"), SIZE)
        for task in "ab":
            torch.manual_seed(ord(task))
            adapted.add(task, method, **({"width": 0.1} if method == "spottune" else {}))
        optimisers = {task: torch.optim.SGD(adapted.trainable(task), lr=0.1, momentum=0.9) for task in tasks}
        for i in range(3):
            for task in tasks:
                torch.manual_seed(i)
                step(adapted, task, optimisers[task])
        adapted.eval()
        return {task: output(adapted, task) for task in tasks}

    both = trained("ab")
    for task in "ab":
        assert torch.equal(trained(task)[task], both[task])


def test_disabled_may_be_nested_and_ends_with_an_error() -> None:
    adapted = adapted_by("dan")
    move(adapted)
    own, plain = evaluate(adapted), adapted.base(make_images())
    with pytest.raises(KeyError), adapted.disabled():
        with adapted.disabled():
            assert torch.equal(evaluate(adapted), plain)
        assert torch.equal(evaluate(adapted), plain)
        raise KeyError
    assert torch.equal(evaluate(adapted), own)


@pytest.mark.parametrize("method", ["ewc", "packnet"])
def test_an_error_at_the_end_of_a_task_leaves_the_mode_as_it_was(method: str) -> None:
    adapted = adapted_by(method)

    def broken(features: Tensor, labels: Tensor) -> Tensor:
        raise ArithmeticError

    for mode in (True, False):
        adapted.train(mode)
        with pytest.raises(ArithmeticError):
            adapted.end_task([(make_images(), LABELS)], broken)
        assert adapted.method().training == mode


class Attention(nn.Module):
    """Torch's own transformer layers, which run as one fused operation in evaluation without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.embed(x).flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize("method", list_methods())
def test_fused_attention_sees_the_task(method: str) -> None:
    torch.manual_seed(0)
    base = Base(Attention().eval())
    try:
        adapted = wrap(base, method, "a", SIZE)
    except Incompatible as refusal:
        assert method in str(refusal)
        return
    move(adapted)
    fused = evaluate(adapted)
    assert torch.allclose(adapted(make_images()).detach(), fused, atol=1e-5)
    assert method == "features" or not torch.allclose(fused, base(make_images()), atol=1e-3)
    budget = adapted.budget()
    # Per token: projections 4 x 16 x 16, two linear layers of 16 x 32, products with the 16 tokens. Then the embedding.
    assert budget.base_multiply_adds == 2 * 16 * (4 * 256 + 2 * 512 + 2 * 16 * 16) + 16 * 16 * 192
    if method in ("features", "fine_tune", "bn", "piggyback"):
        assert budget.extra_multiply_adds == 0
    assert budget == adapted.budget(), "counted anew each time, though some weights are kept"


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.mark.parametrize("method", ["lora", "residual_adapter", "taps"])
def test_layers_that_share_a_weight_may_differ_in_the_task(method: str) -> None:
    torch.manual_seed(0)
    base = Base(Tied())
    adapted = wrap(base, method, "a", SIZE)
    move(adapted)
    own = evaluate(adapted)
    merged = adapted.merge()
    assert torch.allclose(merged(make_images()), own, atol=1e-5)
    assert not torch.equal(merged.encoder.first.weight, merged.encoder.second.weight)
    assert torch.allclose(adapted(make_images()).detach(), own, atol=1e-5)


def test_computed_weights_are_refused() -> None:
    base = Base(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8)))
    with pytest.raises(Incompatible, match="'0' is computed from others"):
        wrap(base, "lora", "a", SIZE)


@pytest.mark.parametrize("method", list_methods())
def test_a_base_that_is_asked_for_gradients_stays_as_it_is(method: str) -> None:
    adapted = adapted_by(method)
    before = copy.deepcopy(adapted.base.encoder.state_dict())
    adapted.train()
    adapted.requires_grad_()
    optimiser = torch.optim.SGD(adapted.parameters(), lr=0.1, weight_decay=0.1)
    loss = task_loss(adapted(make_images()), LABELS) + adapted.penalty()
    if loss.requires_grad:
        loss.backward()
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.base.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [
        ("patch", {"joint": True}, {"joint": True, "norm": "frozen", "last_layer": "trained"}),
        ("taps", {"joint": "standard"}, {"joint": "standard", "norm": "frozen"}),
    ],
)
def test_joint_tasks_of_other_settings_are_refused(
    method: str, first: dict[str, object], second: dict[str, object]
) -> None:
    adapted = wrap(make_base("depthwise"), method, "a", SIZE, **first)
    with pytest.raises(Incompatible, match="same settings"):
        adapted.add("b", method, **second)
    assert adapted.tasks == ["a"]


@pytest.mark.parametrize("norm", ["frozen", "trained", "affine", "statistics"])
def test_statistics_of_the_base_are_never_written_into(norm: str) -> None:
    base = make_base("depthwise")
    before = copy.deepcopy(base.encoder.state_dict())
    adapted = wrap(base, "lora", "a", SIZE, norm=norm).train()
    for module in adapted.method().skeleton.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (norm in ("trained", "statistics"))
    adapted(make_images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.encoder.state_dict().items())
