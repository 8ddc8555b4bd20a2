"""The Taskonomy tasks as networks see them: which files, how values are scaled, which loss.

Two scalings exist by name, whose losses are not comparable: ``side_tuning`` (Side-Tuning,
tlkit/data/img_transforms.py and evkit/utils/losses.py) and ``taskonomy`` (the original task bank,
taskbank/lib/data/load_ops.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from configs.names import nearest

NOISE_DEVIATION = 0.1
DEPTH_UNITS = 512.0  # per metre
DEPTH_LIMIT = 64500  # Taskonomy's training takes depths from this count on as invalid.
CURVATURE_MEAN, CURVATURE_DEVIATION = (123.572, 120.1), (31.922, 21.658)
EDGE_TEXTURE_RANGE, KEYPOINTS2D_RANGE = 0.08, 0.005
EDGE_OCCLUSION_UNIT = 0.00625
EDGE_OCCLUSION_BLUR = 4.0 / 256.0  # Sigma as a fraction of the image.
# Inverse frequencies: background, and the middle of the sixteen kinds of object (7.2 to 9.2 in the original).
SEMANTIC_WEIGHTS = (0.542, *[8.2] * 16)
SCALINGS = ("side_tuning", "taskonomy")

Labels = Mapping[str, Tensor]


def signed(image: Tensor, top: float) -> Tensor:
    """Map 0..top to [-1,1]."""
    return image.float() * (2.0 / top) - 1.0


def _first_channels(count: int) -> Callable[[Tensor], Tensor]:
    return lambda label: signed(label[:, :count], 255.0)


def _sixteen_bit(label: Tensor) -> Tensor:
    return signed(label, 65535.0)


def _clipped(top: float) -> Callable[[Tensor], Tensor]:
    return lambda label: signed((label / 65535.0).clamp(0.0, top), top)


def _log_depth(label: Tensor) -> Tensor:
    return torch.log1p(label.float()) / math.log(65536.0)


def _whitened(label: Tensor) -> Tensor:
    units = torch.tensor([CURVATURE_MEAN, CURVATURE_DEVIATION], device=label.device)
    mean, deviation = units.view(2, 1, 2, 1, 1)
    return (label[:, :2].float() - mean) / deviation


def _blurred(label: Tensor) -> Tensor:
    sigma = EDGE_OCCLUSION_BLUR * label.shape[-1]
    radius = max(1, round(3.0 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=label.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    image = label.float() / 65535.0 / EDGE_OCCLUSION_UNIT
    for weights, padding in ((kernel, (radius, radius, 0, 0)), (kernel.mT, (0, 0, radius, radius))):
        image = functional.conv2d(functional.pad(image, padding, "replicate"), weights)
    return image


@dataclass(frozen=True)
class TaskonomyTask:
    """A Taskonomy task.

    Attributes:
        domain: Folder of its labels.
        channels: Channels of the decoder's output: image channels or classes.
        kind: ``l1`` or ``l2`` (images, masked), ``segmentation``, or ``classification`` (one vector per image).
        side_tuning: Stored label (B,C,H,W) to target, in Side-Tuning's scaling.
        taskonomy: The same in the original task bank's scaling, where it differs.
        noisy: Whether noise is added to the input.
    """

    domain: str
    channels: int
    kind: str = "l1"
    side_tuning: Callable[[Tensor], Tensor] = _sixteen_bit
    taskonomy: Callable[[Tensor], Tensor] | None = None
    noisy: bool = False

    def target(self, labels: Labels, scaling: str) -> Tensor:
        """The target of a batch of labels: (B,C,H,W) or (B,classes) float, or (B,H,W) int64 for segmentation."""
        label = labels[self.domain]
        if self.kind == "segmentation":
            return label[:, 0].long() if scaling == "side_tuning" else label[:, 0].long() - 1
        if self.kind == "classification":
            return as_probabilities(label)
        if scaling == "taskonomy" and self.taskonomy is not None:
            return self.taskonomy(label)
        return self.side_tuning(label)

    def classes(self, scaling: str) -> int:
        """Channels of the output; the original task bank does not learn the class "uncertain"."""
        return self.channels - (self.kind == "segmentation" and scaling == "taskonomy")

    def mask(self, labels: Labels, scaling: str) -> Tensor:
        """(B,1,H,W) float, 1 where the target is valid."""
        mask = (labels["mask_valid"] > 127).float()
        if scaling == "taskonomy" and self.domain.startswith("depth"):
            mask = mask * (labels[self.domain] < DEPTH_LIMIT)
        return mask

    def loss(self, output: Tensor, labels: Labels, scaling: str) -> Tensor:
        """The task's loss, a scalar.

        Args:
            output: The decoder's (B,channels,h,w) or (B,channels). Image labels larger than that are averaged over
                the valid pixels of blocks; of segmentations the pixel right below the middle of a block counts.
            labels: A batch of stored labels by domain.
            scaling: Out of `SCALINGS`.
        """
        if self.kind == "classification":
            return functional.cross_entropy(output, self.target(labels, scaling))
        if self.kind == "segmentation":
            target = self.class_target(labels, scaling, output.shape[-1])
            if scaling == "side_tuning":
                return functional.cross_entropy(output, target)
            weight = torch.tensor(SEMANTIC_WEIGHTS, device=output.device)
            return functional.cross_entropy(output, target, weight, ignore_index=-1)
        target, mask = self.image_target(labels, scaling, output.shape[-1])
        difference = output - target
        return masked_mean(difference.abs() if self.kind == "l1" else difference**2, mask)

    def class_target(self, labels: Labels, scaling: str, size: int) -> Tensor:
        """Classes of a segmentation, (B,size,size) int64: of every block of pixels one at its middle."""
        target = self.target(labels, scaling)
        block = target.shape[-1] // size
        return target[:, block // 2 :: block, block // 2 :: block]

    def image_target(self, labels: Labels, scaling: str, size: int) -> tuple[Tensor, Tensor]:
        """Target (B,C,size,size) and mask (B,1,size,size) of an image task, averaged over blocks if smaller."""
        target, mask = self.target(labels, scaling), self.mask(labels, scaling)
        block = target.shape[-1] // size
        if block > 1:
            share = functional.avg_pool2d(mask, block)
            target = functional.avg_pool2d(target * mask, block) / share.clamp(min=1e-6)
            mask = (share >= 0.5).float()
        return target, mask

    def as_stored(self, output: Tensor, sixteen_bit: bool = False) -> NDArray[Any]:
        """A decoder's output, or a target, in the form of stored labels, from Side-Tuning's scaling.

        Args:
            output: (B,channels,h,w) or (B,classes) float; scores of classes.
            sixteen_bit: Whether the labels are 16-bit images.

        Returns:
            (B,h,w) or (B,h,w,3) uint8 or uint16, rounded and cut to their range, of two channels the third 0;
            (B,h,w) uint8 classes; (B,classes) float32 probabilities.
        """
        if self.kind == "segmentation":
            return output.argmax(1).to(torch.uint8).cpu().numpy()
        if self.kind == "classification":
            return output.float().softmax(1).cpu().numpy()
        top, dtype = (65535, np.uint16) if sixteen_bit else (255, np.uint8)
        values = ((output.double() + 1.0) * (top / 2.0)).round().clamp(0.0, top).permute(0, 2, 3, 1)
        stored = values.cpu().numpy().astype(dtype)
        if self.channels == 1:
            return stored[..., 0]
        return np.pad(stored, ((0, 0),) * 3 + ((0, 3 - self.channels),))

    def domains(self) -> tuple[str, ...]:
        """Folders that training reads, besides ``rgb``."""
        return (self.domain,) if self.kind in ("segmentation", "classification") else (self.domain, "mask_valid")


TASKS: dict[str, TaskonomyTask] = {
    "curvature": TaskonomyTask("principal_curvature", 2, "l2", _first_channels(2), _whitened),
    "segment_semantic": TaskonomyTask("segment_semantic", 18, "segmentation"),
    "reshading": TaskonomyTask("reshading", 1, "l1", _first_channels(1)),
    "keypoints3d": TaskonomyTask("keypoints3d", 1),
    "keypoints2d": TaskonomyTask("keypoints2d", 1, taskonomy=_clipped(KEYPOINTS2D_RANGE)),
    "edge_texture": TaskonomyTask("edge_texture", 1, taskonomy=_clipped(EDGE_TEXTURE_RANGE)),
    "edge_occlusion": TaskonomyTask("edge_occlusion", 1, taskonomy=_blurred),
    "depth_zbuffer": TaskonomyTask("depth_zbuffer", 1, taskonomy=_log_depth),
    "depth_euclidean": TaskonomyTask("depth_euclidean", 1, taskonomy=_log_depth),
    "normal": TaskonomyTask("normal", 3, "l1", _first_channels(3)),
    "class_object": TaskonomyTask("class_object", 1000, "classification"),
    "class_scene": TaskonomyTask("class_scene", 63, "classification"),
    "autoencoding": TaskonomyTask("rgb", 3, "l1", _first_channels(3)),
    "denoising": TaskonomyTask("rgb", 3, "l1", _first_channels(3), noisy=True),
}


def depth_in_metres(output: Tensor, scaling: str) -> Tensor:
    """Metres of decoded depths of any shape in a scaling of `SCALINGS`; stored labels are 1/512 m."""
    if scaling == "taskonomy":
        return torch.expm1(output * math.log(65536.0)) / DEPTH_UNITS
    return (output + 1.0) * (65535.0 / 2.0 / DEPTH_UNITS)


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Mean error (B,C,H,W) over channels and valid pixels, a scalar: 0 if the mask (B,1,H,W) is 0 everywhere."""
    return (mask * error).mean() / torch.clamp(mask.mean(), min=1e-12)


def find_task(name: str) -> TaskonomyTask:
    """The task of a name.

    Raises:
        ValueError: There is none; the nearest is suggested.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}; choose from {', '.join(TASKS)}")
    return TASKS[name]


def add_noise(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The denoising task's input: Gaussian noise of standard deviation 0.1 per pixel and channel, then clipped.

    Args:
        images: (B,3,H,W) float in [0,1].
        generator: Source of randomness.

    Returns:
        (B,3,H,W) float in [0,1].
    """
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    return (images + NOISE_DEVIATION * noise).clamp(0.0, 1.0)


def as_probabilities(label: Tensor) -> Tensor:
    """Class vectors (B,classes) as probabilities: files that hold logits instead get a softmax."""
    label = label.float()
    stored = bool((label >= 0.0).all()) and bool(((label.sum(1) - 1.0).abs() < 1e-3).all())
    return label if stored else label.softmax(1)
