"""AdaShare: all tasks train one network, and each learns which of its residual blocks to use (Sun et al., NeurIPS
2020; repository sunxm2357/AdaShare).

x_l = u0 block_l(x) + u1 shortcut_l(x), where u is drawn from two logits per task and block: soft Gumbel samples while
the policy is searched, then one hard sample, with which the network is trained again from the base. Every task has
its own normalisation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from adapt.core.base import Base
from adapt.core.deltas import TaskNorm, as_key, as_layer, norm_layers, norm_tensors
from adapt.core.method import Incompatible, Method, MethodConfig, NotMergeable, methods
from adapt.modules.residual_blocks import replace_blocks, residual_blocks
from adapt.modules.shared_weights import SharedWeights
from configs.settings import NotNegative, OneOf, Positive, Range, Whole

EXECUTE, SKIP = 0, 1


@dataclass(frozen=True)
class AdaShareConfig(MethodConfig):
    """Settings. Samples are training samples of the task.

    Attributes:
        temperature: of the Gumbel softmax at the start.
        decay: multiplies the temperature after each phase.
        sparsity: weight of the loss that asks blocks to be skipped.
        sharing: weight of the loss that asks tasks to agree.
        depth: which blocks the sharing loss weighs more: "shallow", as in the paper, or "deep", as released.
        warmup_samples: no block is skipped before.
        phase_samples: length of a phase; with each one more block, from the last to the first, takes part in the
            search; 0: all blocks from the start, at one temperature.
        search_samples: then the policy is sampled, the shared weights are the base's again, and training goes on with
            the policy fixed; 0: only when `fix` is called.
        seed: of that sample.
    """

    temperature: Positive = 5.0
    decay: Annotated[float, Range(0, 1, above=True)] = 0.965
    sparsity: NotNegative = 0.01
    sharing: NotNegative = 0.1
    depth: Annotated[str, OneOf("shallow", "deep")] = "shallow"
    warmup_samples: Whole = 0
    phase_samples: Whole = 0
    search_samples: Whole = 0
    seed: int = 0


class _Selected(nn.Module):
    """A residual block and its shortcut; `weights` (2,) or `choice`, set before each pass, say which is computed."""

    weights: Tensor
    choice: int | None

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block = block
        # The shortcut belongs to the block, where it is registered.
        self._shortcut = (shortcut,)

    @property
    def shortcut(self) -> nn.Module:
        return self._shortcut[0]

    def forward(self, x: Tensor) -> Tensor:
        if self.choice is not None:
            chosen: Tensor = self.shortcut(x) if self.choice == SKIP else self.block(x)
            return chosen
        y: Tensor = self.weights[EXECUTE] * self.block(x) + self.weights[SKIP] * self.shortcut(x)
        return y


@methods.register("adashare")
class AdaShare(SharedWeights):
    """y = B(x; the blocks that the task selected), with one B for all tasks.

    Departs: weights and policy are trained in the same steps, not in alternating phases on two halves of the data, and
    until the policy is fixed it is soft at test too, where the release draws: so the network that is tested is the mean
    of those that were trained.

    Attributes:
        logits: (blocks,2); column 0 executes, 1 skips.
        fixed: whether the policy was sampled.
        choice: (blocks,) of 0 and 1, that sample's columns.
    """

    Config = AdaShareConfig
    config: AdaShareConfig
    fixed: Tensor
    choice: Tensor

    def __init__(self, base: Base, config: AdaShareConfig, image_size: int, earlier: Sequence[Method] = ()) -> None:
        super().__init__(base, config, image_size, earlier)
        self._blocks = [n for n, m in self.encoder.named_modules() if isinstance(m, _Selected)]
        count = len(self._blocks)
        self.logits = nn.Parameter(torch.full((count, 2), 0.5))
        self.register_buffer("fixed", torch.zeros((), dtype=torch.uint8))
        self.register_buffer("choice", torch.zeros(count, dtype=torch.uint8))
        self.norms = nn.ModuleDict()
        for name, module in norm_layers(self.encoder).items():
            self.norms[as_key(name)] = TaskNorm(module, "trained")
            module.requires_grad_(False)
        self._unused = {f"encoder.{as_layer(key)}.{n}" for key, m in self.norms.items() for n in m.state_dict()}
        self._tasks: list[AdaShare] = next((m._tasks for m in earlier if isinstance(m, AdaShare)), [])
        self._tasks.append(self)

    def prepared(self, network: nn.Module) -> nn.Module:
        """The shared network: `network` with a choice at every block that can be skipped."""
        shortcuts = {name: s for name, s in residual_blocks(network).items() if s is not None}
        if not shortcuts:
            raise Incompatible("adashare skips residual blocks, and this base has none with a shortcut")
        replace_blocks(network, lambda name, block: _Selected(block, shortcuts[name]), list(shortcuts))
        return network

    def policy(self) -> Tensor:
        """Weights of block and shortcut, (blocks,2): once fixed of 0 and 1, before soft, with noise in training."""
        if self.fixed:
            return F.one_hot(self.choice.long(), 2).to(self.logits.dtype)
        temperature = self.config.temperature * self.config.decay ** self._phase()
        noisy = F.gumbel_softmax(self.logits, temperature) if self.training else (self.logits / temperature).softmax(1)
        execute = F.one_hot(torch.full_like(self.choice, EXECUTE, dtype=torch.int64), 2).to(noisy.dtype)
        return torch.where(self._searched()[:, None], noisy, execute)

    def _phase(self) -> int:
        seen = int(self.samples_seen) - self.config.warmup_samples
        return max(0, seen // self.config.phase_samples) if self.config.phase_samples else 0

    def _searched(self) -> Tensor:
        """Which blocks take part in the search, (blocks,) of bool."""
        count = len(self._blocks)
        if int(self.samples_seen) < self.config.warmup_samples:
            active = 0
        else:
            active = min(count, 1 + self._phase()) if self.config.phase_samples else count
        return torch.arange(count, device=self.logits.device) >= count - active

    def penalty(self) -> Tensor:
        """Sparsity: mean over searched blocks of the cross-entropy to "skip". Sharing: over all other tasks and blocks,
        |difference of the logits to execute|, weighted by depth; others' logits are constants here, so that over all
        tasks' penalties each has the gradient of the sum over pairs. A scalar; zero once the policy is fixed.
        """
        searched = self._searched()
        if self.fixed or not searched.any():
            return super().penalty()
        skip = torch.full_like(self.choice, SKIP, dtype=torch.int64)[searched]
        total = self.config.sparsity * F.cross_entropy(self.logits[searched], skip)
        count = len(self._blocks)
        weights = torch.arange(1, count + 1, device=self.logits.device) / count
        weights = weights.flip(0) if self.config.depth == "shallow" else weights
        for other in self._tasks:
            if other is not self:
                difference = self.logits[:, EXECUTE] - other.logits[:, EXECUTE].detach()
                total = total + self.config.sharing * (weights * difference.abs()).sum()
        return total

    def advance(self, samples: int) -> None:
        """Count samples; the policy is fixed when the search has had its number of them."""
        super().advance(samples)
        if self.config.search_samples and not self.fixed and int(self.samples_seen) >= self.config.search_samples:
            self.fix(self.config.seed)

    def fix(self, seed: int) -> None:
        """Sample the policy for good and set the shared weights and this task's normalisation to the base's.

        Make a new optimiser after it; tasks that search together should fix their policies together.
        """
        generator = torch.Generator().manual_seed(seed)
        skip = self.logits.detach().softmax(1)[:, SKIP].cpu()
        self.choice.copy_(torch.bernoulli(skip, generator=generator))
        self.fixed.fill_(1)
        self.restarts += 1
        values = self.base.encoder.state_dict()
        with torch.no_grad():
            for name, tensor in self.encoder.state_dict().items():
                tensor.copy_(values[self._plain(name)])
            for key, norm in self.norms.items():
                for name, tensor in norm.state_dict().items():
                    tensor.copy_(values[f"{self._plain(as_layer(key))}.{name}"])

    def _plain(self, name: str) -> str:
        """A name in the shared network as the base's encoder has it."""
        for block in self._blocks:
            if name.startswith(f"{block}.block."):
                return block + name.removeprefix(f"{block}.block")
        return name

    def forward(self, image: Tensor | None, features: Tensor | None, layers: Mapping[str, Tensor] | None) -> Tensor:
        """Run the selected blocks on uint8 images (B,3,H,W)."""
        assert image is not None
        policy = self.policy()
        hard = self.choice.tolist() if self.fixed else [None] * len(policy)
        for name, weights, choice in zip(self._blocks, policy, hard, strict=True):
            block = self.encoder.get_submodule(name)
            block.weights, block.choice = weights, choice
        output: Tensor = functional_call(self.encoder, norm_tensors(self.norms), (self.base.normalise(image),))
        return output

    def merge(self) -> Base:
        """The shared network without the blocks that the task skips; raises `NotMergeable` until they are fixed."""
        if not self.fixed:
            raise NotMergeable("adashare weighs blocks softly until its policy is fixed; set search_samples")
        encoder = copy.deepcopy(self.base.encoder)
        values = {**self.encoder.state_dict(), **norm_tensors(self.norms)}
        encoder.load_state_dict({self._plain(name): tensor.detach() for name, tensor in values.items()})
        shortcuts = residual_blocks(encoder)
        names = [name for name, choice in zip(self._blocks, self.choice.tolist(), strict=True) if choice == SKIP]
        replace_blocks(encoder, lambda name, block: shortcuts[name] or block, names)
        spec = replace(self.base.spec, task=f"{self.base.spec.task} adashare".strip())
        return Base(encoder, replace(spec, encoder="", kwargs={}) if names else spec)

    def stored(self, name: str) -> bool:
        """All but the normalisation of the shared network, which no task uses."""
        return super().stored(name) and name not in self._unused
