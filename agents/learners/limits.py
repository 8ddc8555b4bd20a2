"""Ranges of a training's settings, checked before anything is built."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from configs.compose import ConfigError

AT_LEAST = {
    "env.agents": 1,
    "policy.frames": 1,
    "seed": 0,
    "log_every": 1,
    "save_every": 1,
    "validation.episodes": 0,
    "validation.every": 1,
    "evaluation.temperature": 0,
    "algo.updates": 1,
    "algo.updates_per_step": 1,
    "algo.warmup_frames": 0,
    "algo.buffer_frames": 1,
    "algo.temperature": 0,
    "algo.steps": 1,
    "algo.rollout": 1,
    "algo.learner.learning_rate": 0,
    "algo.learner.batch_size": 1,
    "algo.learner.window": 1,
    "algo.learner.max_grad_norm": 0,
    "algo.learner.weight_decay": 0,
    "algo.learner.n_epochs": 1,
    "frames": 1,
}


def check_limits(cfg: DictConfig) -> None:
    """Check the settings of ``agents.train``, or those of ``agents.collect``, which has fewer.

    Raises:
        ConfigError: One is out of its range; the message names it and the range.
    """
    for key, low in AT_LEAST.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and not value >= low:
            raise ConfigError(f"{key} must be at least {low}, got {value}")
    hidden = OmegaConf.select(cfg, "policy.hidden")
    if hidden is not None and (not hidden or min(hidden) < 1):
        raise ConfigError(f"policy.hidden must name at least one layer of at least 1 unit, got {hidden}")
    floor = OmegaConf.select(cfg, "algo.beta_floor")
    if floor is not None and not (len(floor) == 2 and 0 <= floor[0] <= floor[1] <= 1):
        raise ConfigError(f"algo.beta_floor must be two shares, the lower first, each in [0, 1], got {floor}")
    size, width = OmegaConf.select(cfg, "env.camera.size"), OmegaConf.select(cfg, "env.camera.width")
    if OmegaConf.select(cfg, "policy") is not None and not cfg.blind and width not in (None, size):
        raise ConfigError(f"policies look at square pictures: leave env.camera.width={width} out, or set it to {size}")
