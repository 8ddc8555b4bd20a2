"""Weights & Biases as a second logger beside TensorBoard (``wandb=PROJECT``; the extra ``wandb``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandbLogger:
    """One run of Weights & Biases for one run folder; a resumed folder goes on with the same one.

    Where and how it is sent is the client's: ``WANDB_MODE=offline`` keeps everything in the run folder's ``wandb/``.
    """

    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any]) -> None:
        """Start or resume.

        Args:
            project: The project's name.
            folder: The run folder; its ``versions.json`` is the run's identity.
            settings: The run's configuration.

        Raises:
            ImportError: The client is not installed.
            ValueError: It cannot start, for example because nobody has logged in.
        """
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                "wandb=... needs the client of Weights & Biases: pip install wandb, or leave it out"
            ) from error
        identity = hashlib.sha256((folder / "versions.json").read_bytes()).hexdigest()[:16]
        try:
            self._run = wandb.init(
                project=project,
                name=folder.resolve().name,
                id=identity,
                resume="allow",
                dir=str(folder),
                config=dict(settings),
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"wandb={project}: {reason}; set WANDB_MODE=offline or log in (wandb login)") from error
        # Steps of a resumed run begin again at its checkpoint, which the client's own counter does not allow.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of one step."""
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Send what is left and end."""
        self._run.finish()
