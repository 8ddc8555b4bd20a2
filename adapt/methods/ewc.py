"""Elastic weight consolidation: one network for all tasks, whose important weights are held where they are
(Kirkpatrick et al., PNAS 2017; as the baseline of Side-Tuning, tlkit/models/ewc.py).

Loss of the task + coef * sum_i F_i (theta*_i - theta_i)^2, without a factor 1/2. The tasks' readouts stay their own.
Side-Tuning's text names the online form of Progress & Compress (Schwarz et al., ICML 2018), its released code takes
means over tasks: `form` has both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from adapt.core.base import Base
from adapt.core.deltas import as_key
from adapt.core.method import Loss, Method, MethodConfig, methods
from adapt.modules.shared_weights import SharedWeights
from configs.settings import NotNegative, OneOf, Share, Whole


@dataclass(frozen=True)
class EWCConfig(MethodConfig):
    """Settings.

    Attributes:
        coef: weight of the penalty; the paper's Table 2 has 1 on Taskonomy and 1e5 on iCIFAR.
        form: what earlier tasks leave behind. "mean": one anchor and one Fisher information, the equal-weight means
            over the tasks so far, as released. "online": the last task's weights as the anchor, and the decayed sum
            F* <- gamma F* + F, which weighs gamma F* in the penalty (Progress & Compress; not normalised).
            "separate": one pair per task, whose penalties are summed.
        gamma: of the online form.
        fisher_batches: batches that the Fisher information is measured on; 0 takes all that `end_task` is given.
            The released limit of 5000 counts the members of a batch, so that it means 2,500 batches or fewer.
    """

    coef: NotNegative = 1e5
    form: Annotated[str, OneOf("mean", "online", "separate")] = "mean"
    gamma: Share = 0.95
    fisher_batches: Whole = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> EWCConfig:
        """See `MethodConfig.from_settings`; saved tasks of earlier versions say `average` in place of `form`."""
        named = dict(settings)
        if "average" in named:
            named["form"] = "mean" if named.pop("average") else "separate"
        return super().from_settings(named)


class _Memory(nn.Module):
    """What a finished task remembers: per parameter the anchor theta* and the Fisher information, same shapes."""

    def __init__(self, anchor: Mapping[str, Tensor], fisher: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.anchor, self.fisher = nn.Module(), nn.Module()
        for holder, tensors in ((self.anchor, anchor), (self.fisher, fisher)):
            for name, tensor in tensors.items():
                holder.register_buffer(as_key(name), tensor.detach().clone())

    def distance(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The sum over all parameters of F_i (theta*_i - theta_i)^2, a scalar."""
        terms = []
        for name, parameter in parameters.items():
            key = as_key(name)
            terms.append((getattr(self.fisher, key) * (getattr(self.anchor, key) - parameter) ** 2).sum())
        return torch.stack(terms).sum()

    def add_decayed(self, other: _Memory, gamma: float) -> None:
        """Add another memory's Fisher information, times gamma, to this one's."""
        for mine, theirs in zip(self.fisher.buffers(), other.fisher.buffers(), strict=True):
            mine.add_(theirs, alpha=gamma)

    def towards(self, other: _Memory, share: float) -> None:
        """Move anchor and Fisher information by `share` towards another memory's."""
        for mine, theirs in zip(self.buffers(), other.buffers(), strict=True):
            mine.lerp_(theirs, share)


@methods.register("ewc")
class EWC(SharedWeights):
    """y = B(x) with one trained B for all tasks.

    Departs: the released network under the penalty is base plus side network; here it is the base's copy alone.
    """

    Config = EWCConfig
    one_network = True
    config: EWCConfig

    def __init__(self, base: Base, config: EWCConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self._earlier = [m for m in earlier if isinstance(m, EWC)]
        self.memory: _Memory | None = None

    def penalty(self) -> Tensor:
        """The sum over what earlier tasks remember of coef * F_i (theta*_i - theta_i)^2, a scalar; online gamma F_i."""
        memories = [m.memory for m in self._earlier if m.memory is not None]
        parameters = dict(self.encoder.named_parameters())
        distances = [memory.distance(parameters) for memory in memories]
        coef = self.config.coef * (self.config.gamma if self.config.form == "online" else 1.0)
        return coef * torch.stack(distances).sum() if distances else super().penalty()

    def end_task(self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, head: Sequence[nn.Parameter] = ()) -> None:
        """Measure the Fisher information, in eval mode: the mean over batches of the squared gradient of the
        batch's mean loss with the true labels.

        Raises:
            ValueError: there is no batch.
        """
        parameters = dict(self.encoder.named_parameters())
        fisher = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        training, count = self.training, 0
        self.eval()
        try:
            for images, targets in islice(batches, self.config.fisher_batches or None):
                value = loss(self(images, None, None), targets)
                gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
                for total, gradient in zip(fisher.values(), gradients, strict=True):
                    if gradient is not None:  # else the layer is not used, and its information 0
                        total += gradient**2
                count += 1
        finally:
            self.train(training)
        if not count:
            raise ValueError("ewc measures the Fisher information at the end of a task and was given no batch")
        self._remember(_Memory(parameters, {name: total / count for name, total in fisher.items()}))

    def _remember(self, new: _Memory) -> None:
        """Keep a memory; but in the separate form the last finished task holds that of all before it."""
        finished = [m for m in self._earlier if m.memory is not None]
        if self.config.form != "separate" and finished:
            last = finished[-1]
            assert last.memory is not None
            if self.config.form == "online":
                new.add_decayed(last.memory, self.config.gamma)
            else:
                last.memory.towards(new, 1 / (self.position + 1))
                new = last.memory
            last.memory = None
        self.memory = new

    def unpack(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `pack` returned; raises RuntimeError or KeyError if it does not fit."""
        if any(name.startswith("memory.") for name in tensors) and self.memory is None:
            parameters = dict(self.encoder.named_parameters())
            self.memory = _Memory(parameters, parameters)
        super().unpack(tensors)
