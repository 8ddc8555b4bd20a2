"""Depth predicted from RGB by a frozen encoder and its decoder, for maps of agents without a depth sensor."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from adapt import Base, load_base
from adapt.pretraining.decoders import load_decoders
from adapt.pretraining.tasks import depth_in_metres

ENCODER = "depth_zbuffer"
# Nearer than this nothing is predicted, metres.
NEAREST = 0.1
SIZE = 16


class PredictedDepth:
    """Planar depth of RGB images by the encoder ``depth_zbuffer``: a function of arrays that processes can be sent.

    Its networks are loaded where it is first called, as bfloat16 is used as for the policy's own base.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Predict on `device`."""
        self.device = device

    def __getstate__(self) -> dict[str, str]:
        """The device alone: another process loads the networks itself."""
        return {"device": self.device}

    @cached_property
    def _networks(self) -> tuple[Base, nn.Module, str]:
        """Encoder, decoder and the scaling of its outputs.

        Raises:
            ValueError: The decoder is another encoder's.
        """
        base, decoders = load_base(ENCODER), load_decoders(ENCODER)
        if decoders.base != base.sha256:
            raise ValueError(f"the decoders of {ENCODER} belong to another encoder; make them again (adapt.pretrain)")
        base = base.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return base, decoders[ENCODER].to(self.device), decoders.scaling

    @torch.no_grad()
    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict.

        Args:
            rgb: (N, H, W, 3) uint8.

        Returns:
            (N, h, w) float32 planar depth in metres.
        """
        base, decoder, scaling = self._networks
        images = torch.as_tensor(rgb, device=self.device).permute(0, 3, 1, 2)
        with torch.autocast(images.device.type, torch.bfloat16):
            output = decoder(base(images.contiguous(memory_format=torch.channels_last)))
        metres = depth_in_metres(output.float(), scaling).clamp(min=NEAREST)
        # Between pixels planes are linear in the inverse of depth.
        inverse = functional.interpolate(1.0 / metres, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        return (1.0 / inverse)[:, 0].cpu().numpy()
