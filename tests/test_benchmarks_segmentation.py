from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import segmentation
from supervised_runs import run
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.benchmarks.segmentation import (
    FCNReadout,
    MeanIoU,
    Segmentation,
    SegmentationConfig,
    bilinear,
    pixel_loss,
)
from adapt.core.base import IMAGENET, Base, BaseSpec
from adapt.datasets.layout import LayoutError
from adapt.datasets.voc import padded
from adapt.encoders.vgg_fcn import CROP, VGGFCN


class TinyVGG(nn.Module):
    """As torchvision's VGG, five poolings, with few channels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 4), (4, 4), (4, 4), (4, 6), (6, 6)):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        hidden = [nn.Linear(6 * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Sequential(*hidden, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def tiny_base() -> Base:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Base(TinyVGG(), BaseSpec(normalisation=IMAGENET))


def test_the_convolutional_network_has_the_weights_of_the_vgg() -> None:
    base = tiny_base()
    fcn = Segmentation(SegmentationConfig()).prepare(base)
    vgg = base.encoder
    assert isinstance(fcn.encoder, VGGFCN) and isinstance(vgg, TinyVGG)
    # On a map of 7x7 the convolutions compute what the linear layers do.
    maps = torch.randn(2, 6, 7, 7)
    with torch.no_grad():
        wanted = vgg.classifier(maps.flatten(1))
        given = F.relu(fcn.encoder.fc7(F.relu(fcn.encoder.fc6(maps))))
    assert torch.allclose(given[:, :, 0, 0], wanted, atol=1e-6)
    assert vgg.features[0].padding == (1, 1)  # the base itself stays as it was
    assert Segmentation(SegmentationConfig()).prepare(fcn) is fcn
    with pytest.raises(ValueError, match="needs a VGG"):
        VGGFCN(nn.Sequential(nn.Conv2d(3, 4, 3)))


@pytest.mark.parametrize("size", [(1, 1), (32, 40), (72, 60), (500, 375)])
def test_every_pixel_has_a_score(size: tuple[int, int]) -> None:
    base = Segmentation(SegmentationConfig()).prepare(tiny_base())
    readout = FCNReadout(8, True)
    scores = readout(base(torch.zeros(1, 3, *size, dtype=torch.uint8)))
    assert scores.shape[1] == 21 and scores.shape[2] >= size[0] and scores.shape[3] >= size[1]
    assert scores.shape[2] < size[0] + 64


def test_pixels_line_up_with_the_network() -> None:
    # A network whose fc6 takes the middle of its window and whose features average: what a pixel's score reads is, on
    # average, where the pixel is.
    vgg = TinyVGG()
    network = VGGFCN(vgg)
    for layer in [*network.features, network.fc6, network.fc7]:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            middle = layer.kernel_size[0] // 2
            layer.weight.data[0, 0, middle, middle] = 1
    network.features = nn.Sequential(
        *[nn.AvgPool2d(2, ceil_mode=True) if isinstance(m, nn.MaxPool2d) else m for m in network.features]
    )
    network.eval()
    readout = FCNReadout(8, True)
    readout.score.weight.data[1, 0] = 1
    for row, column in ((100, 180), (40, 60)):
        image = torch.zeros(1, 3, 256, 256)
        image[0, 0, row - 8 : row + 8, column - 8 : column + 8] = 1
        with torch.no_grad():
            map_ = readout(network(image))[0, 1, :256, :256]
        places = torch.arange(256.0) + 0.5
        centre = (map_.sum(1) @ places / map_.sum(), map_.sum(0) @ places / map_.sum())
        # One stride is 32 pixels; linear interpolation is not exact between the samples.
        assert abs(centre[0] - row) < 14 and abs(centre[1] - column) < 14


@pytest.mark.parametrize("stride", [8, 32])
def test_pixels_line_up_with_the_maps_of_other_networks(stride: int) -> None:
    benchmark = Segmentation(SegmentationConfig())
    base = benchmark.prepare(Base(nn.AvgPool2d(stride), BaseSpec(normalisation=IMAGENET)))
    readout = benchmark.readout(base.feature_shape(224), None)
    assert isinstance(readout, FCNReadout)
    readout.score.weight.data[1, 0] = 1
    images = torch.zeros(2, 3, 256, 224)
    images[1, 0, 3 * stride : 4 * stride, 4 * stride : 5 * stride] = 1
    with torch.no_grad():
        black, lit = readout(base.encoder(images))[:, 1, :256, :224]
    map_ = lit - black
    places = torch.arange(256.0) + 0.5
    # The middle of the lit block of pixels.
    assert float(map_.sum(1) @ places / map_.sum()) == pytest.approx(3.5 * stride, abs=1e-3)
    assert float(map_.sum(0) @ places[:224] / map_.sum()) == pytest.approx(4.5 * stride, abs=1e-3)


def test_bilinear_weights_reproduce_a_constant() -> None:
    weights = bilinear(3, 64)
    assert torch.count_nonzero(weights[0, 1]) == 0
    assert float(weights[1, 1].max()) == pytest.approx((1 - 1 / 64) ** 2)
    constant = F.conv_transpose2d(torch.ones(1, 3, 5, 5), weights, stride=32)
    assert torch.allclose(constant[:, :, 32:-32, 32:-32], torch.ones(()), atol=1e-6)
    readout = FCNReadout(4, learned=False)
    assert not readout.deconvolution.weight.requires_grad and readout.score.weight.requires_grad
    assert sum(p.numel() for p in FCNReadout(4096, True).parameters()) == 21 * 21 * 64 * 64 + 21 * 4097
    assert CROP == 19


def test_mean_iou_in_closed_form() -> None:
    scores = torch.zeros(1, 21, 3, 4)
    scores[0, 0, :2, :2] = 1
    scores[0, 5, :2, 2:] = 1
    scores[0, 7, 2] = 1  # beyond the target
    target = torch.tensor([[[0, 0, 5, 0], [0, 255, 5, 5]]])
    metric = MeanIoU()
    metric.update(scores[..., :1], target[..., :1])
    metric.update(scores[..., 1:], target[..., 1:])
    # Counted: 7 pixels. Class 0: 3 right, 4 wanted, 3 given: 3/4. Class 5: 3 right, 3 wanted, 4 given: 3/4.
    assert metric.compute() == {"mean_iou": pytest.approx((3 / 4 + 3 / 4) / 2)}


def test_ignored_pixels_cost_nothing() -> None:
    scores = torch.randn(1, 21, 2, 2, requires_grad=True)
    target = torch.tensor([[[3, 255], [255, 255]]])
    assert float(pixel_loss(scores, target).detach()) == pytest.approx(
        float(-scores.detach().log_softmax(1)[0, 3, 0, 0])
    )
    nothing = pixel_loss(scores, torch.full((1, 2, 2), 255))
    nothing.backward()
    assert float(nothing.detach()) == 0 and torch.count_nonzero(scores.grad) == 0


def test_batches_of_several_sizes() -> None:
    small, large = torch.full((3, 2, 4), 9, dtype=torch.uint8), torch.full((3, 3, 2), 7, dtype=torch.uint8)
    images, labels = padded([(small, torch.ones(2, 4).long()), (large, torch.ones(3, 2).long())])
    assert tuple(images.shape) == (2, 3, 3, 4) and tuple(labels.shape) == (2, 3, 4)
    assert (labels == 255).sum() == 4 + 6 and (images == 0).sum() == 3 * (4 + 6)
    (alone,), _ = padded([(small, torch.ones(2, 4).long())])
    assert torch.equal(alone, small)


def test_miniature_of_voc_and_sbd(tmp_path: Path) -> None:
    root = segmentation(tmp_path)
    (task,) = Segmentation(SegmentationConfig()).tasks(root)
    # Of the three validation images one is also trained on, and does not test.
    assert (len(task.train), len(task.test)) == (4, 2)
    image, label = task.test[0]
    assert image.dtype == torch.uint8 and tuple(image.shape[1:]) == tuple(label.shape)
    assert set(label.unique().tolist()) == {0, 15, 255}
    assert set(task.train[0][1].unique().tolist()) == {0, 15}
    (resized,) = Segmentation(SegmentationConfig(size=48)).tasks(root)
    assert tuple(resized.test[0][0].shape) == (3, 48, 48)
    assert set(resized.test[0][1].unique().tolist()) <= {0, 15, 255}


def packed(folder: Path, path: Path, **changes: object) -> Path:
    """The images and masks of the miniature's validation as one npz, the first of which tests."""
    voc = segmentation(folder) / "VOCdevkit" / "VOC2011"
    arrays: dict[str, object] = {}
    for prefix, name, suffix in (("", "JPEGImages", "jpg"), ("mask_", "SegmentationClass", "png")):
        files = [file.read_bytes() for file in sorted((voc / name).glob(f"*.{suffix}"))]
        arrays[f"{prefix}blob"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{prefix}offset"] = np.cumsum([0, *map(len, files)])
    np.savez(path, **{**arrays, "is_test": np.array([True, False, False]), **changes})
    return path


def test_a_packed_set_holds_what_its_files_do(tmp_path: Path) -> None:
    path = packed(tmp_path / "data", tmp_path / "voc.npz")
    (task,) = Segmentation(SegmentationConfig()).tasks(path)
    (files,) = Segmentation(SegmentationConfig()).tasks(tmp_path / "data")
    assert (len(task.train), len(task.test)) == (2, 1)
    # The first validation image trains in the folders, the others test.
    for place in range(2):
        for given, wanted in zip(task.train[place], files.test[place], strict=True):
            assert torch.equal(given, wanted)


def test_packed_sets_that_do_not_fit_are_refused_in_a_line(tmp_path: Path) -> None:
    def message(**changes: object) -> str:
        with pytest.raises(LayoutError) as refusal:
            Segmentation(SegmentationConfig()).tasks(packed(tmp_path / "data", tmp_path / "voc.npz", **changes))
        return str(refusal.value).partition("; segmentation expects:")[0]

    assert "holds 3 images and 2 masks" in message(mask_offset=np.array([0, 10, 20]))
    assert "mask_offset" in message(mask_offset=np.array([0, 20, 10, 30]))
    assert "no images to train on" in message(is_test=np.ones(3, bool))
    assert "is_test" in message(is_test=np.ones(2, bool))


def test_another_network_with_maps_learns_a_packed_set(tmp_path: Path) -> None:
    path = packed(tmp_path / "data", tmp_path / "voc.npz")
    words = ["benchmark=segmentation", f"data={path}", "training.length=3 passes", "optimiser.lr=0.01"]
    result = run(tmp_path / "run", *words, "adapt=features", base="random/fcn5")
    assert result["head_parameters"] == 21 * 9 + 21 * 21 * 32 * 32 and result["loss"] < 3
    with pytest.raises(ValueError, match=r"reads maps \(C,h,w\), these features have the shape"):
        run(tmp_path / "other", *words, "adapt=features")


def test_wrong_layouts_are_refused_with_the_tree(tmp_path: Path) -> None:
    benchmark = Segmentation(SegmentationConfig())
    with pytest.raises(LayoutError, match="benchmark_RELEASE/dataset is absent; segmentation expects:\n") as refusal:
        benchmark.tasks(tmp_path)
    assert "VOCdevkit/VOC2011/SegmentationClass/*.png" in str(refusal.value)
    root = segmentation(tmp_path)
    (root / "VOCdevkit" / "VOC2011").rename(root / "VOCdevkit" / "VOC2012")
    with pytest.raises(LayoutError, match="VOC2011 is absent"):
        benchmark.tasks(root)
    assert len(Segmentation(SegmentationConfig(year=2012)).tasks(root)[0].test) == 2
    mat = next((root / "benchmark_RELEASE" / "dataset" / "cls").glob("*.mat"))
    mat.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read .*\.mat"):
        [Segmentation(SegmentationConfig(year=2012)).tasks(root)[0].train[i] for i in range(4)]


def test_runs_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.supervised.runs.load_base", lambda name: tiny_base())
    root = segmentation(tmp_path / "data")
    words = ["benchmark=segmentation", f"data={root}", "training.length=6 passes", "optimiser.lr=0.01"]
    result = run(tmp_path / "run", *words, "adapt=piggyback", base="random")
    # All scores start at zero: a loss of log 21 = 3.04.
    assert result["loss"] < 2 and 0.3 < result["mean_iou"] <= 1
    assert result["head_parameters"] == 21 * 9 + 21 * 21 * 64 * 64 and result["images"] == 24
