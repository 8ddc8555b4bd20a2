"""Scratch: the base's architecture from random weights, the control for pretraining."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from adapt.core.method import MethodConfig, methods
from adapt.encoders import build_encoder
from adapt.modules.own_weights import OwnWeights


@dataclass(frozen=True)
class ScratchConfig(MethodConfig):
    """Settings.

    Attributes:
        seed: seed of the random weights.
    """

    seed: int = 0


@methods.register("scratch")
class Scratch(OwnWeights):
    """y = B_task(x), where B_task starts at random."""

    Config = ScratchConfig
    config: ScratchConfig

    def initial(self, network: nn.Module) -> nn.Module:
        """The architecture of the base under its own default initialisation."""
        spec = self.base.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            if spec.encoder:
                return build_encoder(spec.encoder, **spec.kwargs)
            fresh = copy.deepcopy(network)
            for module in fresh.modules():
                _reset(module)
            return fresh


def _reset(module: nn.Module) -> None:
    """Re-initialise what the module itself owns."""
    if isinstance(module, nn.Linear | _ConvNd) and getattr(module, "weight", None) is None:
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        # Loose parameters are position and class tokens, which transformers start so.
        nn.init.normal_(parameter, std=0.02)
