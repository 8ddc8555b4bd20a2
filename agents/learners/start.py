"""Initialisation from another run's weights (``start=runs/a``): what fits is loaded, what does not is listed.

An imitation run before reinforcement learning, other scenes, another head or adaptation method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from adapt.training import distributed
from adapt.training.run import STARTED_FROM, Run, list_checkpoints, load_checkpoint, load_config
from adapt.training.state import entry_of, reading
from agents.policies.policy import Policy


def init_from_run(cfg: DictConfig, run: Run, policy: Policy, base_sha256: str) -> None:
    """Give a policy the weights of the run that ``cfg.start`` names, if it names one, and say what did not fit.

    Raises:
        FileNotFoundError: There is no such run, or it has no checkpoint yet.
        ValueError: Its checkpoint is damaged, or no tensor of it fits.
    """
    if not cfg.get("start") or not distributed.is_first():
        return
    folder = Path(cfg.start)
    load_config(folder, "train")
    files = list_checkpoints(folder)
    if not files:
        raise FileNotFoundError(f"start={folder}: that run has no checkpoint yet; train it first")
    state = load_checkpoint(files[-1], None)
    with reading(files[-1]):
        tensors = entry_of(state, "policy")
    summary = load_fitting(policy, tensors)
    if state["base_sha256"] != base_sha256:
        summary += "; it saw through another base"
    distributed.print_once(f"start: {files[-1]}: {summary}")
    run.result({STARTED_FROM: str(files[-1])})


def load_fitting(policy: Policy, tensors: Mapping[str, Tensor]) -> str:
    """Load the tensors that have a policy's names and shapes; the others stay as they are.

    Returns:
        One line: how many were loaded, and the layers for which that was not possible.

    Raises:
        ValueError: None fits.
    """
    own = policy.own_state()
    fitting = {key: tensors[key] for key in own if key in tensors and _alike(tensors[key], own[key])}
    if not fitting:
        raise ValueError("start=...: no tensor of that run fits this policy; start from one of the same kind")
    policy.load_own_state({**own, **fitting})
    summary = f"{len(fitting)} of {len(own)} tensors loaded"
    for reason, keys in (
        ("other shape", own.keys() & tensors.keys() - fitting.keys()),
        ("new here", own.keys() - tensors.keys()),
        ("not used", tensors.keys() - own.keys()),
    ):
        summary += f"; {reason}: {', '.join(_layers(keys))}" if keys else ""
    return summary


def _alike(tensor: Tensor, own: Tensor) -> bool:
    same = isinstance(tensor, Tensor) and tensor.shape == own.shape
    return same and tensor.is_floating_point() == own.is_floating_point()


def _layers(keys: Iterable[str]) -> list[str]:
    """The layers that tensors belong to."""
    return sorted({key.rpartition(".")[0] or key for key in keys})


class ValueWarmup(BaseCallback):
    """Warm-up of the value function: alone it learns from the first rollouts after ``start=``.

    An imitation run leaves it untrained, and wrong advantages would undo the policy. All other parameters get no
    gradient meanwhile, so that the policy acts as it did.
    """

    def __init__(self, steps: int) -> None:
        """Last for so many steps of all ranks together."""
        super().__init__()
        self.steps = steps
        self.resting: list[Tensor] = []

    def _on_rollout_start(self) -> None:
        if self.num_timesteps * distributed.ranks() < self.steps:
            if not self.resting:
                policy = self.model.policy
                learning = {id(p) for p in policy.value_net.parameters()}  # type: ignore[union-attr]
                self.resting = [p for p in policy.parameters() if p.requires_grad and id(p) not in learning]
                self._set(False)
        elif self.resting:
            self._set(True)
            self.resting = []

    def _set(self, learns: bool) -> None:
        for parameter in self.resting:
            parameter.requires_grad_(learns)

    def _on_step(self) -> bool:
        return True
