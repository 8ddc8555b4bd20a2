"""Keys and shapes of the released networks' weights, written out from their descriptions, not from our code.

Taskonomy's networks as released for PyTorch by the authors of Side-Tuning (visual-prior), and their own side networks.
"""

from __future__ import annotations

from itertools import pairwise

Layout = dict[str, list[int]]


def batch_norm(name: str, channels: int) -> Layout:
    numbers = {f"{name}.{leaf}": [channels] for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {**numbers, f"{name}.num_batches_tracked": []}


def affine(name: str, channels: int) -> Layout:
    """A normalisation without statistics."""
    return {f"{name}.weight": [channels], f"{name}.bias": [channels]}


def taskonomy_encoder() -> Layout:
    """A ResNet-50 whose 2048 channels a 3x3 convolution compresses to 8."""
    layout = {"conv1.weight": [64, 3, 7, 7], **batch_norm("bn1", 64)}
    inputs = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for i, (out, into, side) in enumerate(((width, inputs, 1), (width, width, 3), (4 * width, width, 1)), 1):
                layout |= {f"{name}.conv{i}.weight": [out, into, side, side], **batch_norm(f"{name}.bn{i}", out)}
            if block == 0:
                layout[f"{name}.downsample.0.weight"] = [4 * width, inputs, 1, 1]
                layout |= batch_norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    return layout | {"compress1.weight": [8, 2048, 3, 3], **batch_norm("compress_bn", 8)}


def taskonomy_decoder(channels: int) -> Layout:
    """Six convolutions, four times doubling and convolving, and a convolution to the image."""
    layout: Layout = {}
    for i, (out, inputs) in enumerate(((1024, 8), (1024, 1024), (512, 1024), (256, 512), (256, 256), (128, 256)), 2):
        layout |= {f"conv{i}.0.weight": [out, inputs, 3, 3], **batch_norm(f"conv{i}.1", out)}
    # A transposed convolution's weight is (in, out, 3, 3).
    for i, (inputs, out, after, out_after) in zip(
        (8, 10, 12, 14),
        ((128, 64, 64, 64), (64, 32, 32, 32), (32, 16, 16, 32), (32, 16, 0, 0)),
        strict=True,
    ):
        layout |= {f"deconv{i}.1.weight": [inputs, out, 3, 3], **batch_norm(f"deconv{i}.3", out)}
        if after:
            layout |= {f"conv{i + 1}.0.weight": [out_after, after, 3, 3], **batch_norm(f"conv{i + 1}.1", out_after)}
    return layout | {"decoder_output.0.weight": [channels, 16, 3, 3], "decoder_output.0.bias": [channels]}


def taskonomy_classifier(classes: int) -> Layout:
    """Two layers on the 8x16x16 numbers of a code."""
    layout = {"fc0.weight": [2048, 8 * 16 * 16], **batch_norm("bn0", 2048)}
    return layout | {"fc2.weight": [classes, 2048], "fc2.bias": [classes]}


def transfer(channels: int) -> Layout:
    """Two 3x3 convolutions with bias."""
    shapes: Layout = {"weight": [channels, channels, 3, 3], "bias": [channels]}
    return {f"conv{i}.{leaf}": shape for i in (1, 2) for leaf, shape in shapes.items()}


def fcn(channels: list[int], skips: dict[str, tuple[int, int]], first: int) -> Layout:
    """3x3 convolutions, the first of another size, each with a group normalisation; `skips` are out and in."""
    layout: Layout = {}
    for i, (inputs, out) in enumerate(pairwise([3, *channels]), 1):
        side = first if i == 1 else 3
        layout |= {f"conv{i}.0.weight": [out, inputs, side, side], **affine(f"conv{i}.1", out)}
    for name, (out, inputs) in skips.items():
        layout |= {f"{name}.0.weight": [out, inputs, 3, 3], **affine(f"{name}.1", out)}
    return layout


def adapters(pairs: list[tuple[int, int]]) -> Layout:
    """Progressive networks' adapters from base to side, (base, side) channels: scale, 1x1, normalisation, 1x1."""
    layout: Layout = {}
    for i, (base, side) in enumerate(pairs, 1):
        name = f"adapter{i}"
        layout |= {f"{name}.0.scale": [1], f"{name}.1.weight": [side, base, 1, 1], **affine(f"{name}.2", side)}
        layout[f"{name}.4.weight"] = [side, side, 1, 1]
    return layout


FCN8_SKIPS = {"skip1": (256, 128), "skip2": (256, 256), "skip3": (8, 256)}
LAYOUTS: dict[str, Layout] = {
    "TaskonomyEncoder": taskonomy_encoder(),
    **{f"TaskonomyDecoder_{channels}": taskonomy_decoder(channels) for channels in (1, 2, 3, 18)},
    "TaskonomyDecoder_mlp_1000": taskonomy_classifier(1000),
    "TransferConv3_8": transfer(8),
    "FCN8": fcn([64, 128, 256, 256, 256, 256, 128, 8], FCN8_SKIPS, 8),
    "FCN5ProgressiveH_task0": fcn([64, 256, 256, 64, 8], {"skip": (8, 256)}, 8)
    | adapters([(256, 256), (512, 256), (1024, 64), (2048, 8)]),
    # The last layer is called conv5 and has no normalisation.
    "FCN4ProgressiveH": fcn([16, 16, 32], {}, 3)
    | {"conv5.0.weight": [64, 32, 3, 3]}
    | adapters([(16, 16), (16, 16), (32, 32), (64, 64)]),
}
