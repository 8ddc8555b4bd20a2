from __future__ import annotations

from typing import Any

import pytest
import torch
from released_layouts import LAYOUTS
from tiny_networks import filled
from torch import Tensor, nn

from adapt.encoders import build_encoder, list_encoders
from adapt.encoders.taskonomy import TaskonomyDecoder, TaskonomyMLPDecoder, TransferConv3


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def noise(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fcn4", 25_904),
        ("fcn5", 921_376),
        ("fcn8", 3_361_440),
        ("resnet44", 657_936),
        ("resnet26", 5_814_688),
        ("taskonomy", 23_655_504),
    ],
)
def test_parameter_counts_are_the_papers(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build_encoder(name)
    assert count(network) == parameters


def test_resnet26_head_takes_257_parameters_per_class() -> None:
    features = build_encoder("resnet26").eval()(torch.zeros(1, 3, 64, 64))
    assert count(nn.Linear(features.shape[1], 10)) == 2570


@pytest.mark.parametrize("channels", [1, 2, 3, 18])
def test_taskonomy_decoder_has_the_released_keys(channels: int) -> None:
    with torch.device("meta"):
        decoder = TaskonomyDecoder(channels)
    assert shapes(decoder) == LAYOUTS[f"TaskonomyDecoder_{channels}"]
    assert count(decoder) == 16_453_009 + (channels - 1) * 145


def test_other_taskonomy_networks_have_the_released_keys() -> None:
    with torch.device("meta"):
        networks = {
            "TaskonomyEncoder": build_encoder("taskonomy"),
            "TaskonomyDecoder_mlp_1000": TaskonomyMLPDecoder(1000),
            "TransferConv3_8": TransferConv3(8),
            "FCN8": build_encoder("fcn8"),
        }
    assert count(networks["TaskonomyDecoder_mlp_1000"]) == 6_247_400
    assert count(networks["TransferConv3_8"]) == 1168
    for name, network in networks.items():
        assert shapes(network) == LAYOUTS[name], name


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        (
            "fcn4",
            [0.20011, 0.45817, 0.15024, 0.10362, 0.36778, 0.4, 0.06684, 0.19125],
            [0.10782, 0.30372, 0.18603, 0.08565, 0.19866, 0.3096, 0.10156, 0.09865],
        ),
        (
            "resnet44",
            [2.30713, 8.50234, 5.50847, 3.73181, 11.31602, 3.06169, 2.77353, 5.30262],
            [2.08048, 6.14055, 3.86038, 4.26212, 8.49401, 2.70517, 2.32259, 4.20227],
        ),
    ],
)
def test_cifar_networks_compute_what_the_released_ones_do(name: str, first: list[float], last: list[float]) -> None:
    # Recorded when the same code gave the golden features with the released weights (test_real_data.py).
    with torch.no_grad():
        features = filled(build_encoder(name))(noise(4, 3, 32, 32))
    for row, expected in ((0, first), (3, last)):
        torch.testing.assert_close(features[row, ::8], torch.tensor(expected), atol=2e-5, rtol=2e-5)


def test_fcn5_under_seed_42_gives_the_golden_output() -> None:
    torch.manual_seed(42)
    network = build_encoder("fcn5")
    with torch.no_grad():
        output = network(noise(1, 3, 256, 256))[0]
    golden = torch.tensor([1.49433, 0.0, 0.43642, 0.0, 1.24372, 0.0, 0.0, 1.37705])
    torch.testing.assert_close(output[:, 5, 9], golden, atol=1e-5, rtol=1e-5)
    assert float(output.mean()) == pytest.approx(0.8043969, abs=1e-5)
    assert float(output.std()) == pytest.approx(0.7939001, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("fcn3", 64, (8, 4, 4)),
        ("fcn4", 32, (64,)),
        ("fcn5", 64, (8, 4, 4)),
        ("fcn5", 84, (8, 6, 6)),
        ("fcn5", 128, (8, 8, 8)),
        ("fcn8", 64, (8, 4, 4)),
        ("taskonomy", 64, (8, 4, 4)),
        ("resnet44", 32, (64,)),
        ("resnet26", 72, (256,)),
        ("wrn28_4", 64, (256,)),
    ],
)
def test_feature_shapes(name: str, size: int, shape: tuple[int, ...]) -> None:
    network = build_encoder(name).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, *shape)


def test_taskonomy_layers_have_the_sizes_of_the_paper() -> None:
    network = build_encoder("taskonomy").eval()
    sizes = {}
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    with torch.no_grad():
        network(torch.zeros(1, 3, 256, 256))
    assert sizes == {
        "maxpool": (64, 64, 64),
        "layer1": (256, 32, 32),
        "layer2": (512, 16, 16),
        "layer3": (1024, 16, 16),
        "layer4": (2048, 16, 16),
    }


def test_taskonomy_codes_are_standardised_only_if_asked() -> None:
    torch.manual_seed(0)
    network = build_encoder("taskonomy").eval()
    raw = build_encoder("taskonomy", normalize_outputs=False).eval()
    raw.load_state_dict(network.state_dict())
    with torch.no_grad():
        code, plain = network(noise(2, 3, 128, 128)), raw(noise(2, 3, 128, 128))
    assert torch.allclose(code.mean((2, 3)), torch.zeros(2, 8), atol=1e-5)
    assert torch.allclose(code, nn.functional.group_norm(plain, 8), atol=1e-5)
    assert (plain >= 0).all()


def test_decoders_invert_the_encoders_sizes() -> None:
    with torch.no_grad():
        image = TaskonomyDecoder(2).eval()(noise(1, 8, 4, 4))
        scores = TaskonomyMLPDecoder(5).eval()(noise(2, 8, 16, 16))
        code = TransferConv3(8)(noise(1, 8, 4, 4))
    assert image.shape == (1, 2, 64, 64) and image.abs().max() < 1
    assert scores.shape == (2, 5)
    assert code.shape == (1, 8, 4, 4)


def test_deconvolution_is_the_asymmetric_one() -> None:
    """One input pixel at (i,j) reaches output rows 2i-1..2i+1 of a crop that drops the padded first row."""
    deconv = TaskonomyDecoder(1).deconv8[:3]
    code = torch.zeros(1, 128, 4, 4)
    code[:, :, 1, 1] = 1
    with torch.no_grad():
        reached = deconv(code).abs().sum(1)[0] > 0
    assert reached.shape == (8, 8)
    assert reached.nonzero().min(0).values.tolist() == [2, 2]
    assert reached.nonzero().max(0).values.tolist() == [4, 4]


@pytest.mark.parametrize("name", ["fcn3", "fcn4", "fcn5", "fcn8", "taskonomy"])
def test_output_layers_scale_the_output_linearly(name: str) -> None:
    torch.manual_seed(0)
    network: Any = build_encoder(name, **({"normalize_outputs": False} if name == "taskonomy" else {})).eval()
    images = noise(1, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        for layer in network.output_layers:
            for parameter in network.get_submodule(layer).parameters():
                parameter.mul_(0.5)
        assert torch.allclose(network(images), 0.5 * before, atol=1e-6)


def test_fcn_width_and_channels() -> None:
    small = build_encoder("fcn5", width=0.25, out_channels=16)
    assert small(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 4, 4)
    assert count(small) < count(build_encoder("fcn5")) / 10
    normalised = build_encoder("fcn5", normalize_outputs=True)
    assert count(normalised) == 921_376 + 16
    raw = build_encoder("fcn5", final_act=False)
    assert raw(noise(1, 3, 64, 64)).min() < 0
    with pytest.raises(ValueError, match="even"):
        build_encoder("fcn5", out_channels=3)


def test_unknown_names_get_a_suggestion() -> None:
    assert "fcn5" in list_encoders()
    with pytest.raises(ValueError, match="did you mean 'fcn"):
        build_encoder("fcn6")
    with pytest.raises(ValueError, match="does not take"):
        build_encoder("resnet44", width=2)
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        build_encoder("torchvision/resnet81")


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/mobilenet_v2"])
def test_library_models_lose_their_classifier(name: str) -> None:
    with torch.no_grad():
        assert build_encoder(name).eval()(torch.zeros(1, 3, 64, 64)).shape in {(1, 512), (1, 1280)}
