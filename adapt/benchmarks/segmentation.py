"""Semantic segmentation of PASCAL VOC with FCN-32s on a VGG-16, as in Piggyback, or on another network's last map.

The backbone is the adapted base, by a mask in the paper; the score layer and the deconvolution are the readout, trained
from scratch. Trained on SBD's training images, tested on those of VOC2011's validation that are not among them
(`seg11valid`, 736 images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Published, Targets, TaskData, benchmarks
from adapt.core.base import Base, with_maps
from adapt.datasets.layout import missing
from adapt.datasets.voc import (
    CLASSES,
    IGNORED,
    SBD,
    SegmentedImages,
    packed_images,
    padded,
    read_names,
    sbd_label,
    voc_folder,
    voc_label,
)
from adapt.encoders.vgg_fcn import CROP, STRIDE, VGGFCN, hidden_layers
from configs.settings import OneOf, Whole


@dataclass(frozen=True)
class SegmentationConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        year: of PASCAL VOC, whose validation images test.
        size: resize all images to this many pixels per side; 0, as in the papers, leaves them as they are.
        deconvolution: "learned", as Piggyback's sizes imply, or "fixed" to bilinear upsampling, as the Caffe reference.
    """

    year: int = 2011
    size: Whole = 0
    deconvolution: Annotated[str, OneOf("learned", "fixed")] = "learned"


class MeanIoU:
    """Mean over classes of intersection over union of all pixels together; 255 does not count, nor absent classes."""

    def __init__(self) -> None:
        self.index = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=IGNORED, validate_args=False)

    def update(self, outputs: Tensor, targets: Targets) -> None:
        """Take in scores (B,21,h,w) and classes (B,H,W)."""
        assert isinstance(targets, Tensor)
        self.index.update(_fitted(outputs, targets).argmax(1).cpu(), targets.cpu())

    def compute(self) -> dict[str, float]:
        """`mean_iou`, in 0..1."""
        return {"mean_iou": float(self.index.compute())}


class FCNReadout(nn.Module):
    """Scores of the 21 classes (B,21,h,w) from coarser features; where the image is, and more below and right.

    A 1x1 convolution that starts at zero and a 64x64 deconvolution of stride 32 (in general twice the stride wide),
    without bias, that starts as bilinear upsampling.

    Args:
        channels: of the features.
        learned: whether the deconvolution is trained.
        stride: pixels from one feature to the next.
        crop: where the image begins in the upsampled scores, pixels.
    """

    def __init__(self, channels: int, learned: bool, stride: int = STRIDE, crop: int = CROP) -> None:
        super().__init__()
        self.crop = crop
        self.score = nn.Conv2d(channels, CLASSES, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        self.deconvolution = nn.ConvTranspose2d(CLASSES, CLASSES, 2 * stride, stride, bias=False)
        with torch.no_grad():
            self.deconvolution.weight.copy_(bilinear(CLASSES, 2 * stride))
        self.deconvolution.requires_grad_(learned)

    def forward(self, features: Tensor) -> Tensor:
        """Score every pixel from the features (B,C,h,w)."""
        upsampled: Tensor = self.deconvolution(self.score(features))
        return upsampled[:, :, self.crop :, self.crop :]


def bilinear(channels: int, size: int) -> Tensor:
    """Weights (channels,channels,size,size) of a deconvolution with stride size / 2 that upsamples each channel."""
    place = torch.arange(size, dtype=torch.float32)
    ramp = 1 - (place - (size - 1) / 2).abs() / (size / 2)
    weights = torch.zeros(channels, channels, size, size)
    weights[torch.arange(channels), torch.arange(channels)] = ramp[:, None] * ramp
    return weights


def _fitted(outputs: Tensor, targets: Tensor) -> Tensor:
    """The part of the outputs where the targets are."""
    return outputs[:, :, : targets.shape[1], : targets.shape[2]]


def pixel_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that count; 0 if none does.

    Departs: FCN's reference sums over pixels and has a rate of 1e-10 for that.
    """
    if not (targets != IGNORED).any():
        return outputs.sum() * 0
    return F.cross_entropy(_fitted(outputs, targets), targets, ignore_index=IGNORED)


@benchmarks.register("segmentation")
class Segmentation(Benchmark):
    """One task, `voc`."""

    Config = SegmentationConfig
    config: SegmentationConfig
    # Only to find the features' shape: images have their own sizes.
    image_size = 224
    layout = f"""
<folder>/
  {SBD}/train.txt               8,498 names
  {SBD}/img/*.jpg
  {SBD}/cls/*.mat
  VOCdevkit/VOC2011/ImageSets/Segmentation/val.txt (or TrainVal/VOCdevkit/VOC2011/...)
  VOCdevkit/VOC2011/JPEGImages/*.jpg
  VOCdevkit/VOC2011/SegmentationClass/*.png
get it: http://host.robots.ox.ac.uk/pascal/VOC/voc2011 (training/validation data) and
http://home.bharathh.info/pubs/codes/SBD/download.html (benchmark.tgz); unpack both in one folder
or one npz of images (blob, offset), masks (mask_blob, mask_offset) and is_test
"""
    published: ClassVar[Sequence[Published]] = tuple(
        Published("Piggyback", method, {"mean_iou": value}, "vgg16", "imagenet", settings={"benchmark.size": 0})
        for method, value in (("fine_tune", 0.6108), ("piggyback", 0.6141))
    )

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__(config)
        self._stride, self._crop = STRIDE, CROP

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The one task."""
        train, test = self._packed(data) if data.is_file() else self._folders(data)
        task = TaskData("voc", train, test, CLASSES, pixel_loss, MeanIoU, "mean_iou", kind="segmentation")
        return [replace(task, collate=padded)]

    def _packed(self, data: Path) -> tuple[SegmentedImages, SegmentedImages]:
        try:
            train, test = packed_images(data, self.config.size)
        except ValueError as error:
            raise self.absent(data, f"does not fit ({error})") from error
        if not len(train) or not len(test):
            raise self.absent(data, "has no images to train on or to test on")
        return train, test

    def _folders(self, data: Path) -> tuple[SegmentedImages, SegmentedImages]:
        voc, sbd = voc_folder(data, self.config.year), data / SBD
        names = "ImageSets/Segmentation/val.txt"
        for folder, wanted in ((sbd, ("train.txt", "img", "cls")), (voc, (names, "JPEGImages", "SegmentationClass"))):
            if problem := missing(folder, wanted):
                raise self.absent(folder, problem)
        learned = read_names(sbd / "train.txt")
        tested = [name for name in read_names(voc / names) if name not in set(learned)]
        if not learned or not tested:
            raise self.absent(data, "lists no images to train on, or none to test on that are not trained on")
        for file in (sbd / "img" / f"{learned[0]}.jpg", voc / "JPEGImages" / f"{tested[0]}.jpg"):
            if not file.is_file():
                raise self.absent(file)
        size = self.config.size
        train = SegmentedImages(_files(sbd, "img", learned, "jpg"), _files(sbd, "cls", learned, "mat"), sbd_label, size)
        test = SegmentedImages(
            _files(voc, "JPEGImages", tested, "jpg"), _files(voc, "SegmentationClass", tested, "png"), voc_label, size
        )
        return train, test

    def prepare(self, base: Base) -> Base:
        """The fully convolutional network with a VGG's weights; of other networks the one that gives the last map."""
        if isinstance(base.encoder, VGGFCN):
            return base
        if hidden_layers(base.encoder):
            return Base(VGGFCN(base.encoder, _side(base.encoder)), replace(base.spec, encoder="", kwargs={}))
        maps = with_maps(base)
        _, height, *_ = (*maps.feature_shape(self.image_size), 1)
        # Such networks pad their images by half a stride, not by 100 pixels.
        self._stride = -(-self.image_size // height)
        self._crop = self._stride // 2
        return maps

    def readout(self, shape: tuple[int, ...], task: TaskData) -> nn.Module:
        """The score layer and the deconvolution."""
        if len(shape) != 3:
            raise ValueError(f"FCN-32s reads maps (C,h,w), these features have the shape {shape}")
        return FCNReadout(shape[0], self.config.deconvolution == "learned", self._stride, self._crop)


def _files(root: Path, folder: str, names: Sequence[str], suffix: str) -> list[Path]:
    return [root / folder / f"{name}.{suffix}" for name in names]


def _side(vgg: nn.Module) -> int:
    """Pixels per side of the maps that a VGG's first linear layer reads."""
    pool = getattr(vgg, "avgpool", None)
    size = getattr(pool, "output_size", 7)
    return int(size[0] if isinstance(size, tuple) else size)
