"""Networks of timm, torchvision and transformers as bases: features, inner maps, and methods on them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from extras import require
from torch import nn

from adapt import Base, Incompatible, list_methods, load, wrap
from adapt.core.base import BaseSpec
from adapt.core.deltas import weighted_layers
from adapt.encoders import build_encoder

BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}

# Parameters without classifier, and layers that take a weight delta.
COUNTS = {
    "torchvision/vgg16": (134_260_544, 15),
    "torchvision/vgg16_bn": (134_268_992, 15),
    "torchvision/resnet34": (21_284_672, 36),
    "torchvision/resnet50": (23_508_032, 53),
    "torchvision/densenet121": (6_953_856, 120),
    "torchvision/mobilenet_v2": (2_223_872, 52),
    "torchvision/inception_v3": (21_785_568, 94),
    "timm/vit_small_patch16_224": (21_665_664, 49),
}


@pytest.mark.parametrize("name", COUNTS)
def test_library_networks_have_their_counts(name: str) -> None:
    with torch.device("meta"):
        network = build_encoder(name)
    assert (sum(p.numel() for p in network.parameters()), len(weighted_layers(network))) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "size", "channels", "sizes"),
    [
        ("torchvision/resnet34", 32, [64, 128, 256, 512], [8, 4, 2, 1]),
        ("torchvision/vgg11", 32, [128, 256, 512, 512], [8, 4, 2, 1]),
        ("torchvision/densenet121", 32, [256, 512, 1024, 1024], [8, 4, 2, 1]),
        ("torchvision/mobilenet_v2", 32, [24, 32, 96, 1280], [8, 4, 2, 1]),
        ("timm/resnet18", 32, [64, 128, 256, 512], [8, 4, 2, 1]),
        ("timm/densenet121", 32, [256, 512, 1024, 1024], [4, 2, 1, 1]),
    ],
)
def test_inner_maps_of_library_networks(name: str, size: int, channels: list[int], sizes: list[int]) -> None:
    base = Base(build_encoder(name), BaseSpec(name))
    shapes = base.layer_shapes(size)
    assert len(shapes) == 4
    assert [shape[0] for shape in shapes.values()] == channels
    if not name.startswith("timm/densenet"):
        assert [shape[1] for shape in shapes.values()] == sizes


def test_progressive_reads_a_vision_transformer() -> None:
    network = build_encoder("timm/vit_tiny_patch16_224", img_size=64)
    assert network.layer_names == ("blocks.2", "blocks.5", "blocks.8", "blocks.11")
    adapted = wrap(Base(network), "progressive", image_size=64, width=0.25)
    assert adapted.output_shape == (192,)


def bert_base() -> Base:
    require("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Base(build_encoder("bert", **BERT), BaseSpec("bert", BERT))


def tokens(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (4, 16), generator=generator)
    mask = (torch.arange(16) < torch.tensor([[16], [12], [16], [9]])).long()
    return torch.stack([ids, mask, (torch.arange(16) > 5).long().expand(4, 16)], 1)


@pytest.mark.parametrize("method", list_methods())
def test_bert_takes_every_method_or_refuses_with_a_reason(method: str, tmp_path: Path) -> None:
    base = bert_base()
    plain = base(tokens())
    assert plain.shape == (4, 16, 1, 16)
    try:
        adapted = wrap(base, method, "squad", 16, **({"side": "base"} if method == "side_tuning" else {}))
    except Incompatible as refusal:
        assert len(str(refusal)) > 20
        return
    adapted.train()
    if adapted.trainable():
        optimiser = torch.optim.SGD(adapted.trainable(), lr=0.1)
        (adapted(tokens()).square().mean() + adapted.penalty()).backward()
        optimiser.step()
    adapted.eval()
    with torch.no_grad():
        output = adapted(tokens())
        assert adapted.output_shape == (16, 1, 16)
        assert torch.equal(base(tokens()), plain)
        adapted.save(tmp_path)
        again = load(bert_base(), tmp_path).eval()
        assert torch.allclose(again(tokens()), output, atol=1e-6)
    assert adapted.budget().base_multiply_adds > 0


def test_bert_ignores_padding_and_refuses_images() -> None:
    base = bert_base()
    other = tokens()
    other[3, 0, 9:] = 7
    assert torch.allclose(base(tokens())[3, :, 0, :9], base(other)[3, :, 0, :9], atol=1e-6)
    with pytest.raises(ValueError, match=r"int64 \(B,3,L\)"):
        base(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(Incompatible, match="side=base"):
        wrap(base, "side_tuning", image_size=16)


def test_bert_without_transformers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[nlp\]'"):
        build_encoder("bert")


def test_every_method_refuses_or_takes_a_black_box() -> None:
    from adapt import BlackBoxBase

    def oracle(images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images.float(), 8).mean(1, keepdim=True).repeat(1, 8, 1, 1)

    base = BlackBoxBase(oracle, "mean colour 1")
    taken = set()
    for method in list_methods():
        try:
            wrap(base, method, image_size=32)
            taken.add(method)
        except Incompatible as refusal:
            assert "black box" in str(refusal)
    assert taken == {"features", "side_tuning"}
