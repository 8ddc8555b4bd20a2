"""Former defaults of settings that were added later, for the configs of older runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

FORMER: Mapping[str, Any] = {"env.task.explored_layers": ["blocked", "free"]}
"""Values by setting."""


def fill_former(cfg: DictConfig) -> None:
    """Give a config from a run folder, in place, what it did not have yet and did otherwise."""
    for key, value in FORMER.items():
        group, _, name = key.rpartition(".")
        settings = OmegaConf.select(cfg, group)
        if isinstance(settings, DictConfig) and name not in settings:
            OmegaConf.update(cfg, key, value, force_add=True)
