"""The run folder: everything that one training or evaluation leaves behind, and what a resumed one starts from.

`adapt.train` and the commands of `agents` use it alike.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from adapt.training import distributed
from adapt.training.files import write_atomically
from configs.commands import command_settings
from configs.compose import check
from configs.files import visible
from configs.settings import ConfigError

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "stable_baselines3",
    "gymnasium",
    "embreex",
    "numba",
    "hydra-core",
)
KEPT_CHECKPOINTS = 2


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step: after a crash or on a full disk the old content is still there."""
    write_atomically(path, text.encode())


def progress_bar() -> Progress:
    """The progress bar of every training; the first rank's is the one shown."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(
        *columns, TextColumn("{task.fields[note]}"), refresh_per_second=2, disable=not distributed.is_first()
    )


def _git(*words: str) -> str:
    """Output of a git command in the project's checkout, empty outside one."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).resolve().parent, capture_output=True, text=True, check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def versions(seed: int) -> dict[str, Any]:
    """What made a result: command, date, git commit, Python and package versions, seed."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    if distributed.ranks() > 1:
        program = program.replace("python", f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', '?')}", 1)
    return {
        "command": f"{program} {shlex.join(sys.argv[1:])}".strip(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git_commit": _git("rev-parse", "HEAD") or "unknown",
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "seed": seed,
        "ranks": distributed.ranks(),
    }


class Run:
    """A run folder open for writing: ``config.yaml``, ``versions.json``, ``metrics.jsonl``, TensorBoard events in
    ``tb/``, checkpoints and ``result.json``; ``sittings.jsonl`` has a line for the start and for every resumption.

    Of several ranks all make one and call the same methods; the first alone reads and writes.
    """

    def __init__(self, path: Path, cfg: DictConfig, resume: bool) -> None:
        """Start a run, or go on with one.

        Raises:
            ValueError: The folder already holds a run and `resume` is false; or it holds another configuration.
            FileNotFoundError: `resume` is true and there is nothing to resume.
        """
        self.path = path
        self._board: SummaryWriter | None = None
        self._started = time.monotonic()
        self._before = 0.0
        self.resumed = distributed.from_first(self._open(cfg, resume) if distributed.is_first() else False)

    def _open(self, cfg: DictConfig, resume: bool) -> bool:
        """Make or check the folder; whether it held a run."""
        path, config = self.path, self.path / "config.yaml"
        text = OmegaConf.to_yaml(_without_run_keys(cfg), resolve=True)
        # A start that failed before its first line of metrics leaves nothing worth keeping.
        begun = bool(list_checkpoints(path)) or any(f.stat().st_size for f in path.glob("metrics.jsonl"))
        if resume and not config.is_file():
            raise FileNotFoundError(f"{path} holds no run to resume; leave out resume=true to start one")
        if resume and begun:
            _check_same(path, load_config(path), cfg)
        if begun and not resume:
            raise ValueError(f"{path} already holds a run; choose another run=..., add resume=true, or delete it")
        if not begun:
            if config.is_file():  # else it is no folder of ours
                shutil.rmtree(path / "frames", ignore_errors=True)
            write_text(config, text)
        made = versions(int(cfg.seed))
        if not begun or not (path / "versions.json").exists():
            write_text(path / "versions.json", json.dumps(made, indent=1))
        with (path / "sittings.jsonl").open("a") as file:
            file.write(json.dumps(made) + "\n")
        self._metrics = (path / "metrics.jsonl").open("a", buffering=1)
        return begun

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, earlier sittings included."""
        return self._before + time.monotonic() - self._started

    def log(self, step: int, values: dict[str, float]) -> None:
        """Append one line to ``metrics.jsonl`` and the same values, means over ranks, to TensorBoard."""
        values = distributed.means(values)
        if not distributed.is_first():
            return
        line = {
            "step": step,
            "seconds": round(self.seconds, 2),
            **{k: round(float(v), 6) for k, v in values.items()},
        }
        self._metrics.write(json.dumps(line) + "\n")
        if self._board is None:
            self._board = SummaryWriter(str(self.path / "tb"))
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def result(self, values: dict[str, Any]) -> None:
        """Merge final numbers into ``result.json``."""
        if not distributed.is_first():
            return
        file = self.path / "result.json"
        old = json.loads(file.read_text()) if file.exists() else {}
        write_text(file, json.dumps({**old, **values}, indent=1, sort_keys=True))

    def save(self, step: int, base_sha256: str, tensors: dict[str, Any]) -> None:
        """Write checkpoint `step` (nested dict of tensors and plain values) and drop the oldest ones.

        A checkpoint becomes visible only when it is complete. `base_sha256` says on which frozen base it stands.
        """
        if not distributed.is_first():
            return
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        final, scratch = folder / f"step_{step:010d}.pt", folder / f".step_{step:010d}.{os.getpid()}"
        try:
            torch.save({**tensors, "base_sha256": base_sha256, "step": step, "seconds": self.seconds}, scratch)
            os.replace(scratch, final)
        except (OSError, RuntimeError) as error:
            raise OSError(f"could not write {final}: {error}; earlier checkpoints are untouched") from error
        finally:
            scratch.unlink(missing_ok=True)
        for old in list_checkpoints(self.path)[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def restore(self, base_sha256: str) -> dict[str, Any] | None:
        """The newest checkpoint of a resumed run, if there is one; metrics written after it are dropped."""
        if not self.resumed:
            return None
        return distributed.from_first(self._newest(base_sha256) if distributed.is_first() else None)

    def _newest(self, base_sha256: str) -> dict[str, Any] | None:
        files = list_checkpoints(self.path)
        state = load_checkpoint(files[-1], base_sha256) if files else None
        step = state["step"] if state else -1
        self._before = state["seconds"] if state else 0.0
        file = self.path / "metrics.jsonl"
        lines = [line for line in file.read_text().splitlines() if _logged_step(line) <= step]
        self._metrics.close()
        write_text(file, "".join(f"{line}\n" for line in lines))
        self._metrics = file.open("a", buffering=1)
        if state is None:
            shutil.rmtree(self.path / "tb", ignore_errors=True)
        return state

    def close(self) -> None:
        """Flush and close files."""
        if not distributed.is_first():
            return
        self._metrics.close()
        if self._board is not None:
            self._board.close()


def list_checkpoints(path: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first."""
    return visible(path / "checkpoints", "step_*.pt")


def load_checkpoint(file: Path, base_sha256: str) -> dict[str, Any]:
    """Read a checkpoint (tensors and plain values only).

    Raises:
        ValueError: The file is damaged, or was trained on another base than the one with `base_sha256`.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{file} is not a readable checkpoint ({error!s}); delete it to fall back to the one before"
        ) from error
    if state["base_sha256"] != base_sha256:
        raise ValueError(
            f"{file} was trained on the base {state['base_sha256'][:12] or 'none'}, this one is "
            f"{base_sha256[:12] or 'none'} (sha256); load the base it was trained on"
        )
    return state


def load_config(path: Path) -> DictConfig:
    """Config of a finished or running run.

    Raises:
        FileNotFoundError: There is no run in that folder.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no run (no config.yaml); give run=<folder of a training>")
    cfg = OmegaConf.load(file)
    if not isinstance(cfg, DictConfig):
        raise ValueError(f"{file} is no configuration of a run")
    return completed(cfg, path)


def completed(cfg: DictConfig, path: Path) -> DictConfig:
    """The config of a run folder, with the defaults of settings that the version that wrote it did not have."""
    cfg.run = str(path)
    try:
        return check(cfg, command_settings("train" if "algo" in cfg else "supervised"))
    except ConfigError as error:
        raise ValueError(f"{path / 'config.yaml'}: {error}") from error


def _without_run_keys(cfg: DictConfig) -> DictConfig:
    """The config without the keys that may differ between the sittings of one run."""
    kept = {str(k): v for k, v in cfg.items() if k not in ("run", "resume")}
    return OmegaConf.create(OmegaConf.to_container(OmegaConf.create(kept), resolve=True))  # type: ignore[return-value]


def _check_same(path: Path, old: DictConfig, new: DictConfig) -> None:
    """Refuse to resume under another configuration, naming the keys that differ."""
    before, now = _flatten(_without_run_keys(old)), _flatten(_without_run_keys(new))
    differs = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if differs:
        first = differs[0]
        raise ValueError(
            f"{path} was started with {first}={before.get(first)}, now it is {now.get(first)}"
            + (f" ({len(differs)} keys differ)" if len(differs) > 1 else "")
            + "; resume with the same settings or start a new run"
        )


def _flatten(cfg: Any, prefix: str = "") -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    if not isinstance(plain, dict):
        return {prefix.rstrip("."): plain}
    return {k: v for key, value in plain.items() for k, v in _flatten(value, f"{prefix}{key!s}.").items()}


def _logged_step(line: str) -> float:
    """Step of a metrics line; a line cut off by a kill counts as infinitely late."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
