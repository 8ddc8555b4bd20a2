"""Networks as users bring them: wrapped, lazy, quantised, without gradients, with something else than features."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import SIZE, ConvNet, make_images
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Base, wrap
from adapt.core.method import Incompatible, methods


def returning(change):
    """A network that gives something else."""

    class Odd(ConvNet):
        def forward(self, x):
            return change(super().forward(x))

    return Odd()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: (y, y), "gives a tuple"),
        (lambda y: {"out": y}, "gives a dict"),
        (lambda y: y.mean((1, 2, 3)), r"gives torch\.float32\(1,\)"),
        (lambda y: y[:, :, None], r"gives torch\.float32\(1, 8, 1, 8, 8\)"),
        (lambda y: y.argmax(1), "gives torch.int64"),
        (torch.fft.fft2, "gives torch.complex64"),
        (lambda y: y.mean(0), "the first is no batch"),
    ],
)
@pytest.mark.parametrize("method", ["features", "side_tuning", "lora", "scratch"])
def test_what_is_no_features_is_named(change, said, method):
    """Formerly AttributeErrors and IndexErrors; the imaginary part was left out."""
    with pytest.raises(ValueError, match=said) as caught:
        wrap(Base(returning(change)), method, "t", SIZE)
    assert len(str(caught.value)) < 250


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(8, 3)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Lazy, "conv.weight is lazy"),
        (lambda: ConvNet, "got the class ConvNet"),
        (lambda: F.relu, "got a function; BlackBoxBase"),
        (lambda: ConvNet().state_dict(), "got a OrderedDict"),
    ],
)
def test_what_is_no_network_with_weights_is_refused(network, said):
    with pytest.raises(ValueError, match=said):
        Base(network())


@pytest.mark.filterwarnings("ignore")
def test_quantised_networks_are_refused():
    """Formerly "'Base' object has no attribute 'sha256'"."""
    network = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    with pytest.raises(ValueError, match="which is no tensor"):
        Base(network)


def test_data_parallel_wrappers_are_taken_off():
    torch.manual_seed(0)
    network = ConvNet()
    bare, wrapped = Base(network), Base(nn.DataParallel(network))
    assert bare.sha256 == wrapped.sha256
    assert wrap(wrapped, "lora", "t", SIZE)(make_images()).shape == (6, 8, 8, 8)


class EvalOnly(ConvNet):
    def train(self, mode: bool = True) -> EvalOnly:
        if mode:
            raise RuntimeError("inference only")
        super().train(False)
        return self


class WithoutGradient(ConvNet):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class InferenceMode(ConvNet):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Slashed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"conv/a": nn.Conv2d(3, 8, 3)})

    def forward(self, x: Tensor) -> Tensor:
        return self.parts["conv/a"](x)


class NoLayers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.repeat(1, 2, 1, 1), 4)


class Tokens(ConvNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten(2).transpose(1, 2)


class Dead(ConvNet):
    def __init__(self) -> None:
        super().__init__()
        self.dead = nn.Conv2d(3, 3, 1)
        self.dead.weight = None


LOOK_THROUGH = {"features", "side_tuning"}
WHOLE = {"ewc", "features", "fine_tune", "scratch"}
# The methods that must not refuse a network.
WORKS = {
    EvalOnly: LOOK_THROUGH,
    WithoutGradient: LOOK_THROUGH,
    InferenceMode: LOOK_THROUGH,
    Slashed: LOOK_THROUGH | WHOLE,
    NoLayers: LOOK_THROUGH | WHOLE,
    Tokens: WHOLE | {"bn", "lora", "packnet", "patch", "piggyback", "residual_adapter", "taps"},
    Dead: LOOK_THROUGH | WHOLE,
}


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("kind", list(WORKS))
def test_every_method_trains_on_an_odd_network_or_refuses_it(kind, method):
    """Formerly RuntimeErrors, KeyErrors, AttributeErrors, or heads that trained beside adapters that did not."""
    torch.manual_seed(0)
    try:
        adapted = wrap(Base(kind()), method, "t", SIZE)
        adapted.train()
        output = adapted(make_images())
    except ValueError as error:
        assert method not in WORKS[kind]
        assert len(str(error)) < 300 and "\n" not in str(error)
        return
    trained = adapted.trainable()
    if trained:
        output.square().mean().backward()
        assert any(parameter.grad is not None for parameter in trained)


def test_networks_that_refuse_to_train_or_cut_gradients_off_can_still_be_looked_through():
    for kind in (EvalOnly, WithoutGradient, InferenceMode):
        with pytest.raises(Incompatible, match="use features or side_tuning"):
            adapted = wrap(Base(kind()), "lora", "t", SIZE)
            adapted.train()
            adapted(make_images())
        side = wrap(Base(kind()), "side_tuning", "t", SIZE)
        side.train()
        side(make_images()).mean().backward()
