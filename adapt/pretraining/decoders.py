"""Decoders: from an encoder's code to label images or class scores, for pretraining and distillation.

`adapt.pretrain` writes those of an encoder beside it: `decoders/NAME.safetensors` next to `NAME.safetensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from adapt.core.base import PRETRAINED
from adapt.encoders.described import limited
from adapt.encoders.taskonomy import TaskonomyDecoder, TaskonomyMLPDecoder
from adapt.pretraining.distillation import OneCycleSettings
from adapt.pretraining.tasks import SCALINGS, TaskonomyTask
from adapt.training.files import to_json
from adapt.training.finite import check_finite
from adapt.training.weight_files import fill, read_header, read_safetensors
from configs.names import nearest
from configs.settings import OneOf, Range
from configs.writing import write_atomically

FORMAT_VERSION = 1
DECODERS = ("light", "taskonomy")
WIDTH = 32


@dataclass(frozen=True)
class DecoderTraining(OneCycleSettings):
    """Settings of a training of decoders.

    Attributes:
        decoder: A name of `adapt.pretraining.decoders.build_decoder`.
        decoder_width: Channels of a light decoder.
        scaling: How label values become targets, out of `adapt.pretraining.tasks.SCALINGS`.
    """

    decoder: Annotated[str, OneOf(*DECODERS)] = "light"
    decoder_width: Annotated[int, Range(8, 4096)] = WIDTH
    scaling: Annotated[str, OneOf(*SCALINGS)] = "side_tuning"


class LightDecoder(nn.Module):
    """Doubles a code to the labels' size by convolutions to four times the channels and pixel shuffling.

    Args:
        code_shape: (C, h, w) of the code.
        out_channels: Channels of the label image.
        size: Pixels per side of the label image, h times a power of two.
        width: Channels at the code's size, a multiple of 8; every doubling halves them, down to 16.

    Raises:
        ValueError: The size is not h times a power of two, or the width no multiple of 8.
    """

    def __init__(self, code_shape: Sequence[int], out_channels: int, size: int, width: int = WIDTH) -> None:
        super().__init__()
        inputs, height, _ = code_shape
        doublings = (size // height).bit_length() - 1
        if doublings < 0 or height << doublings != size:
            raise ValueError(f"a code of {height} pixels cannot be doubled to an image of {size} pixels")
        if width < 8 or width % 8:
            raise ValueError(f"the width of a decoder must be a multiple of 8, got {width}")
        layers = [*_conv(inputs, width), *_conv(width, width)]
        channels = width
        for _ in range(doublings - 1):
            fewer = max(16, channels // 2)
            layers += [*_conv(channels, 4 * fewer), nn.PixelShuffle(2)]
            channels = fewer
        scale = 2 if doublings else 1
        layers += [nn.Conv2d(channels, scale**2 * out_channels, 3, 1, 1), nn.PixelShuffle(scale)]
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        """Map codes (B,C,h,w) to label images (B,out_channels,size,size)."""
        out: Tensor = self.layers(code)
        return out


class LightClassifier(nn.Module):
    """One hidden layer on the flattened code (B,C,h,w), to scores (B,classes)."""

    def __init__(self, code_shape: Sequence[int], classes: int, hidden: int = WIDTH) -> None:
        super().__init__()
        inputs = code_shape[0] * code_shape[1] * code_shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, code: Tensor) -> Tensor:
        """Map codes (B,C,h,w) to scores (B,classes)."""
        out: Tensor = self.layers(code)
        return out


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)]


class TaskDecoder(nn.Module):
    """A decoder whose output counts from the best constant prediction, in units of the labels' spread.

    Args:
        network: From codes to label images (B,C,S,S) or scores (B,classes).
        constant: The constant prediction, (1,C,1,1) or (1,classes).
        spread: The unit, of the same shape.
    """

    constant: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, constant: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("constant", constant)
        self.register_buffer("spread", spread)

    def forward(self, code: Tensor) -> Tensor:
        """Map codes (B,C,h,w) to float32 values of the labels' scaling, or scores of classes."""
        return self.constant + self.spread * self.network(code).float()


class TaskDecoders(nn.ModuleDict):
    """Decoders by name of the task, trained together."""

    def __getitem__(self, key: str) -> TaskDecoder:
        """The decoder of a task."""
        decoder = super().__getitem__(key)
        assert isinstance(decoder, TaskDecoder)
        return decoder


@dataclass(frozen=True)
class Decoders:
    """The decoders of an encoder.

    Attributes:
        base: sha256 of the base whose codes they read.
        decoder: A name of `build_decoder`.
        width: Of the light decoders.
        code_shape: (C, h, w) of the code.
        size: Pixels per side of decoded label images.
        scaling: The labels' scaling, out of `adapt.pretraining.tasks.SCALINGS`.
        networks: By name of the task.
    """

    base: str
    decoder: str
    width: int
    code_shape: tuple[int, ...]
    size: int
    scaling: str
    networks: Mapping[str, TaskDecoder]

    def __getitem__(self, task: str) -> TaskDecoder:
        """The decoder of a task.

        Raises:
            ValueError: There is none.
        """
        if task not in self.networks:
            raise ValueError(f"no decoder for {task!r}{nearest(task, self.networks)}; there are {list(self.networks)}")
        return self.networks[task]


def build_decoder(
    name: str, code_shape: Sequence[int], out_channels: int, size: int, classifier: bool, width: int = WIDTH
) -> nn.Module:
    """Build a decoder with random weights.

    Args:
        name: ``light``, sized to the image, or ``taskonomy``, the published layout for codes of 8x16x16.
        code_shape: (C, h, w) of the code.
        out_channels: Channels of the label image, or classes.
        size: Pixels per side of the image.
        classifier: Whether the label is one vector per image.
        width: Of a light decoder.

    Raises:
        ValueError: The name is unknown or the code does not fit.
    """
    if name == "light" and classifier:
        return LightClassifier(code_shape, out_channels, width)
    if name == "light":
        return LightDecoder(code_shape, out_channels, size, width)
    if name != "taskonomy":
        raise ValueError(f"unknown decoder {name!r}{nearest(name, DECODERS)}")
    if tuple(code_shape) != (8, 16, 16):
        raise ValueError(f"decoder=taskonomy reads codes of 8x16x16, this encoder gives {tuple(code_shape)}")
    return TaskonomyMLPDecoder(out_channels) if classifier else TaskonomyDecoder(out_channels)


def task_decoder(
    task: TaskonomyTask,
    code_shape: Sequence[int],
    statistics: tuple[Tensor, Tensor],
    decoder: str,
    scaling: str,
    size: int,
    width: int,
) -> TaskDecoder:
    """An untrained decoder of a task, whose output is near the constant prediction of its labels.

    Args:
        task: The task.
        code_shape: (C, h, w) of the code.
        statistics: Constant prediction and spread, as `adapt.pretraining.scores.label_statistics` gives them.
        decoder: A name of `build_decoder`.
        scaling: Out of `adapt.pretraining.tasks.SCALINGS`.
        size: Pixels per side of the decoded labels.
        width: Of a light decoder.
    """
    classifier = task.kind == "classification"
    return TaskDecoder(build_decoder(decoder, code_shape, task.classes(scaling), size, classifier, width), *statistics)


def decoders_path(base: str | Path) -> Path:
    """Path of the decoders of a base, given its name or file."""
    path = Path(base) if str(base).endswith(".safetensors") else PRETRAINED / f"{base}.safetensors"
    return path.parent / "decoders" / path.name


def save_decoders(decoders: Decoders, path: Path) -> None:
    """Write decoders as one safetensors file in half precision, atomically.

    Raises:
        NotFinite: A weight is NaN or infinite, or becomes so in half precision.
        OSError: The file could not be written; what was there before is undamaged.
    """
    header = {key: value for key, value in asdict(decoders).items() if key != "networks"}
    header["tasks"] = {
        name: {"channels": d.constant.shape[1], "classifier": d.constant.ndim == 2}
        for name, d in decoders.networks.items()
    }
    # Constants and spreads stay as they are: their rounding would move every output.
    tensors = {
        f"{task}.{name}": t.detach().cpu().to(torch.float16 if name.startswith("network") else t.dtype).contiguous()
        for task, decoder in decoders.networks.items()
        for name, t in decoder.state_dict().items()
    }
    check_finite(tensors, f"{path}: in half precision the weight")
    metadata = {"sidestep_decoders": str(FORMAT_VERSION), "spec": to_json(header, sort_keys=True)}
    write_atomically(path, save(tensors, metadata=metadata))


def load_decoders(base: str | Path) -> Decoders:
    """Read the decoders of a base.

    Args:
        base: Name or file of the base (not of the decoders).

    Returns:
        The decoders in eval mode, without gradients.

    Raises:
        FileNotFoundError: There are none.
        ValueError: The file holds something else.
    """
    path = decoders_path(base)
    if not path.is_file():
        raise FileNotFoundError(f"no decoders at {path}; python -m adapt.pretrain writes them beside the encoder")
    metadata, tensors = read_safetensors(path)
    if metadata.get("sidestep_decoders") != str(FORMAT_VERSION):
        raise ValueError(f"{path} does not hold decoders of format {FORMAT_VERSION}")
    header = read_header(metadata, path)
    try:
        with limited(tensors):
            return _decoders(header, tensors)
    except (KeyError, TypeError, AttributeError, RuntimeError, OverflowError, ArithmeticError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot use {path}: its header and weights describe no decoders ({reason})") from error


def _decoders(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> Decoders:
    """The decoders of a file; a header that does not fit them raises anything."""
    header["code_shape"] = tuple(header["code_shape"])
    networks = {}
    for task, label in header.pop("tasks").items():
        channels, classifier = label["channels"], label["classifier"]
        network = build_decoder(
            header["decoder"], header["code_shape"], channels, header["size"], classifier, header["width"]
        )
        blank = torch.zeros((1, channels) if classifier else (1, channels, 1, 1))
        networks[task] = TaskDecoder(network, blank, blank.clone())
        part = {key.removeprefix(f"{task}."): t.float() for key, t in tensors.items() if key.startswith(f"{task}.")}
        fill(networks[task], part)
        networks[task].eval().requires_grad_(False)
    return Decoders(networks=networks, **header)
