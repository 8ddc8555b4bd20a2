"""Transforms of images for training and for testing, of torchvision: sizes, crops, mirror images.

They stand apart from the datasets since torchvision imports PyTorch's compiler, which takes more than a second.
"""

from __future__ import annotations

from torchvision.transforms import InterpolationMode, v2


def shorter_side(size: int) -> v2.Transform:
    """Resize to `size` pixels on the shorter side, keeping the aspect."""
    return v2.Resize(size, InterpolationMode.BILINEAR, antialias=True)


def squashed(size: int) -> v2.Transform:
    """Resize to `size` x `size` pixels, whatever the aspect."""
    return v2.Resize((size, size), InterpolationMode.BILINEAR, antialias=True)


def centre_cropped(resize: int, crop: int) -> v2.Compose:
    """Shorter side to `resize` pixels, then the middle `crop` x `crop`."""
    return v2.Compose([shorter_side(resize), v2.CenterCrop(crop)])


def random_crop(resize: int, crop: int) -> v2.Compose:
    """Shorter side to `resize` pixels, then a random `crop` x `crop`, mirrored half of the time."""
    return v2.Compose([shorter_side(resize), v2.RandomCrop(crop), v2.RandomHorizontalFlip()])


def random_resized_crop(size: int, smallest: float = 0.08, mirror: bool = True) -> v2.Compose:
    """A random part of at least `smallest` of the area, aspect 3/4 to 4/3, as a square; mirrored half of the time."""
    crop = v2.RandomResizedCrop(size, (smallest, 1.0), (3 / 4, 4 / 3), InterpolationMode.BILINEAR, antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip()] if mirror else [crop])


def mirrored(transform: v2.Transform) -> v2.Compose:
    """The transform, then mirrored half of the time."""
    return v2.Compose([transform, v2.RandomHorizontalFlip()])
