"""Supervised learning of the navigation policy from expert labels: the learner that BC and DAgger share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adapt.training import distributed
from agents.learners.frames import ACTION, STEP, FrameStore
from agents.policies.navigation import NavigationPolicy
from agents.policies.observations import FEATURES, GOAL, MAP, RGB


class ImitationLearner:
    """Cross-entropy on the expert's actions (Side-Tuning, section 4.3: behaviour cloning), by Adam.

    A batch is made of windows of consecutive frames, so that each frame is encoded once although up to K stacks hold
    it: with 4 labelled frames and K = 4 that is 7 encodings instead of 16.
    """

    def __init__(
        self,
        policy: NavigationPolicy,
        total_updates: int,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        window: int = 4,
        max_grad_norm: float = 1.0,
        weight_decay: float = 0.0,
        schedule: str = "linear",
        seed: int = 0,
    ) -> None:
        """Prepare to make `total_updates` updates; the learning rate falls linearly to 0 or is constant."""
        own = distributed.share(batch_size, "algo.learner.batch_size")
        if own % window:
            raise ValueError(
                f"algo.learner.batch_size={batch_size} must be a multiple of algo.learner.window={window} on each rank"
            )
        if schedule not in ("linear", "constant"):
            raise ValueError(f"algo.learner.schedule={schedule!r} is unknown; choose linear or constant")
        self.policy = policy
        self.window, self.windows = window, own // window
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        self.rng = np.random.default_rng([seed, 1, distributed.rank()])
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, weight_decay=weight_decay)

        def falling(k: int) -> float:
            return max(0.0, 1.0 - k / total_updates)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, falling if schedule == "linear" else lambda k: 1.0
        )
        self.updates = 0

    def update(self, store: FrameStore) -> tuple[float, float]:
        """One gradient step on a random batch of `store`; returns (loss, accuracy) of this rank's share of it."""
        batch = store.sample(self.rng, self.windows, self.window + self.policy.extractor.frames - 1)
        self.policy.set_training_mode(True)
        device = self.policy.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.policy.extractor.use_bfloat16):
            logits = self.window_logits(batch)
        labels = torch.as_tensor(batch[ACTION][:, -self.window :].reshape(-1), device=device).long()
        loss = F.cross_entropy(logits.float(), labels)
        adapted = self.policy.extractor.adapted
        if adapted is not None:
            loss = loss + adapted.penalty()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.updates += 1
        if adapted is not None:
            distributed.average_statistics(self.policy)
            adapted.advance(len(labels) * distributed.ranks())
        return float(loss.detach()), float((logits.detach().argmax(1) == labels).float().mean())

    def window_logits(self, batch: dict[str, NDArray[Any]]) -> Tensor:
        """Action logits (windows * window, A) for the last `window` frames of each (windows, window + K - 1, ...)."""
        extractor, device = self.policy.extractor, self.policy.device
        k, width = extractor.frames, batch[STEP].shape[1]
        rows = np.arange(width - k + 1)[:, None] + np.arange(k)  # (window, K) frames of each stack, oldest first
        steps = batch[STEP][:, k - 1 :]
        valid = torch.as_tensor(steps[..., None] >= np.arange(k - 1, -1, -1), device=device).flatten(0, 1)

        def stacks(array: NDArray[Any]) -> Tensor:
            return torch.as_tensor(array[:, rows], device=device).flatten(0, 1)

        codes = None
        if extractor.adapted is not None:
            frames = {
                key: torch.as_tensor(batch[key], device=device).flatten(0, 1) for key in (RGB, FEATURES) if key in batch
            }
            flat = extractor.encode(frames.get(RGB), frames.get(FEATURES))
            per_window = flat.reshape(-1, width, *flat.shape[1:])
            codes = per_window[:, torch.as_tensor(rows, device=device)].flatten(0, 1)
        maps = None
        if extractor.map is not None:
            kept = stacks(batch[MAP]) * valid[:, :, None, None, None].to(torch.uint8)
            maps = kept.flatten(1, 2)
        latent = extractor.fuse(codes, stacks(batch[GOAL]), valid.float(), maps)
        return self.policy.logits(latent)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the policy's weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "updates": self.updates,
            "rng": _plain(self.rng.bit_generator.state),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.updates = state["updates"]
        if distributed.is_first():
            self.rng.bit_generator.state = state["rng"]
        else:
            self.rng = np.random.default_rng([self.seed, 1, distributed.rank(), self.updates])


def _plain(state: Any) -> Any:
    """A bit generator's state with Python integers only, as a weights-only checkpoint demands."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return int(state) if isinstance(state, int | np.integer) else state
