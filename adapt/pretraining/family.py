"""Multi-task encoders with hard parameter sharing of the early layers, untied later."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapt.core.base import Base
from adapt.encoders import build_encoder
from adapt.encoders.fcn import FCN5
from adapt.pretraining.decoders import TaskDecoders, task_decoder
from adapt.pretraining.targets import TaskTraining
from adapt.pretraining.tasks import TaskonomyTask

SHARED = ("conv1", "conv2", "conv3")  # Layers of FCN5 that are one for all tasks while these are tied.


class Family(nn.Module):
    """One encoder and one decoder per task; tied encoders share their early layers, so that these are computed once.

    Args:
        tasks: By name.
        plans: How each is trained.
        statistics: Per task constant prediction and spread, as `adapt.pretraining.scores.label_statistics` gives them.
        encoder: A name of `adapt.encoders.build_encoder`.
        decoder: A name of `adapt.pretraining.decoders.build_decoder`.
        size: Pixels per side of the pictures.
        tied: Whether early layers are shared for now; FCN5 alone can.

    Raises:
        ValueError: Encoders of this kind cannot be tied.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskonomyTask],
        plans: Mapping[str, TaskTraining],
        statistics: Mapping[str, tuple[Tensor, Tensor]],
        encoder: str,
        decoder: str,
        size: int,
        tied: bool,
    ) -> None:
        super().__init__()
        # The light decoders learn the scale of the code; TaskonomyEncoder must not normalise it away first.
        self.kwargs = {"normalize_outputs": False} if encoder == "taskonomy" else {}
        self.encoders = nn.ModuleDict({name: build_encoder(encoder, **self.kwargs) for name in tasks})
        first = next(iter(self.encoders.values()))
        self.code_shape = Base(copy.deepcopy(first)).feature_shape(size)
        self.decoders = TaskDecoders()
        for name, task in tasks.items():
            plan = plans[name]
            sizes = plan.label_size, plan.decoder_width
            self.decoders[name] = task_decoder(task, self.code_shape, statistics[name], decoder, plan.scaling, *sizes)
        self.tied = tied
        if tied:
            if not isinstance(first, FCN5):
                raise ValueError(f"tied=0 is needed for encoder={encoder}: only fcn5 can share its early layers")
            for other in self.encoders.values():
                for layer in SHARED:
                    setattr(other, layer, getattr(first, layer))
        self.to(memory_format=torch.channels_last)

    def untie(self) -> dict[nn.Parameter, nn.Parameter]:
        """Give each encoder its own copy of the shared layers.

        Returns:
            For every new parameter the one that it is a copy of.
        """
        self.tied = False
        origin: dict[nn.Parameter, nn.Parameter] = {}
        for other in list(self.encoders.values())[1:]:
            for layer in SHARED:
                old = getattr(other, layer)
                new = copy.deepcopy(old)
                setattr(other, layer, new)
                origin |= dict(zip(new.parameters(), old.parameters(), strict=True))
        return origin

    def forward(self, images: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Decoded float32 outputs of some tasks, for normalised images (B,3,H,W)."""
        codes = self._codes(images, tasks)
        return {name: self.decoders[name](code) for name, code in codes.items()}

    def _codes(self, images: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        if not self.tied:
            return {name: self.encoders[name](images) for name in tasks}
        members = [one for name in tasks if isinstance(one := self.encoders[name], FCN5)]
        early = members[0].conv2(members[0].conv1(images))
        # One wide layer of all tasks costs far less than many narrow ones.
        late = _side_by_side([one.conv4 for one in members], members[0].conv3(early))
        deep = [one.conv5(part) for one, part in zip(members, late.chunk(len(members), 1), strict=True)]
        skips = _side_by_side([one.skip for one in members], early).chunk(len(members), 1)
        return {name: a + b for name, a, b in zip(tasks, deep, skips, strict=True)}


def _side_by_side(blocks: Sequence[nn.Sequential], x: Tensor) -> Tensor:
    """The outputs of equal blocks of convolution, GroupNorm and ReLU for one input, one after the other in channels."""
    convolution, norm = blocks[0][0], blocks[0][1]
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.GroupNorm)
    weight, scale, shift = (
        torch.cat([block.get_parameter(name) for block in blocks]) for name in ("0.weight", "1.weight", "1.bias")
    )
    stride, padding = convolution.stride[0], int(convolution.padding[0])
    out = functional.conv2d(x, weight, stride=stride, padding=padding)
    groups = norm.num_groups * len(blocks)
    return functional.relu(functional.group_norm(out, groups, scale.to(out.dtype), shift.to(out.dtype), norm.eps))
