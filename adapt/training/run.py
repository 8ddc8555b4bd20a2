"""Run folders: config, versions, metrics, TensorBoard events, checkpoints and results of one training, resumable.

`adapt.train` and the commands of `agents` use it alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
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
from adapt.training.files import to_json
from adapt.training.finite import NotFinite, StoredNotFinite, check_finite
from adapt.training.seeds import flat
from adapt.training.state import Damaged, entry_of, reading
from adapt.training.wandb_logger import WandbLogger
from adapt.training.weight_files import read_torch
from configs import files
from configs.commands import command_settings, module_of
from configs.compose import check, job_overrides
from configs.files import is_there, mistaken, visible
from configs.former import fill_former
from configs.settings import LONGEST, ConfigError
from configs.writing import replacing, sweep, try_lock, write_atomically

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
MAX_CHECKPOINTS = 2
CONFIG = "config.yaml"
STARTED_FROM = "started_from"  # in result.json from the start on
CHECKPOINT = re.compile(r"step_([0-9]+)\.pt")
BEGIN, END = "---\n", "...\n"  # of config.yaml: YAML's marks of a whole document
SESSIONS = "sessions.jsonl"
OLD_SESSIONS = "sittings.jsonl"  # what older versions called it
FILES = (CONFIG, "versions.json", "metrics.jsonl", "result.json", SESSIONS, OLD_SESSIONS)
# How long to train: a run may go on to more than it was started with.
LENGTHS = ("algo.steps", "algo.updates")


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


def _git(*arguments: str) -> str:
    """Output of a git command in the project's checkout, empty outside one."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).resolve().parent, capture_output=True, text=True, check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def versions(seed: int) -> dict[str, Any]:
    """Provenance of a result: command, date, git commit, Python and package versions, seed."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    program = f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name
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
    ``tb/``, checkpoints and ``result.json``; ``sessions.jsonl`` has a line for the start and for every resumption, and
    is locked while the run is open.

    Of several ranks all make one and call the same methods; the first alone reads and writes.
    """

    def __init__(self, path: Path, cfg: DictConfig, resume: bool) -> None:
        """Start a run, or go on with one.

        Raises:
            ValueError: The folder already holds a run and `resume` is false; or it holds another configuration; or
                another process has it open.
            FileNotFoundError: `resume` is true and there is nothing to resume.
        """
        self.path = path
        self._board: SummaryWriter | None = None
        self._wandb: WandbLogger | None = None
        self._started = time.monotonic()
        self._before = 0.0
        self._restored: Path | None = None
        self._step = -1  # of the checkpoint that the run goes on from
        self._last: dict[str, Any] = {}
        self.resumed = distributed.from_first(self._open(cfg, resume) if distributed.is_first() else False)

    def _open(self, cfg: DictConfig, resume: bool) -> bool:
        """Lock the folder, then make or check it; whether it held a run."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise ValueError(f"run={path} is a file; choose another run=...")
        there = {name for name in FILES if is_there(path / name)}
        if resume and CONFIG not in there:
            raise FileNotFoundError(f"{path} holds no run to resume; leave out resume=true to start one")
        path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (path / OLD_SESSIONS).rename(path / SESSIONS)
        self._sessions = _locked(path / SESSIONS, path)
        try:
            return self._begin(cfg, resume)
        except BaseException:
            self._sessions.close()
            raise

    def _begin(self, cfg: DictConfig, resume: bool) -> bool:
        path, config = self.path, self.path / CONFIG
        settings = _without_run_keys(cfg)
        begun = _has_begun(path)
        if resume and begun:
            old = load_config(path, cfg)
            _check_not_lost(path)
            _check_same(path, old, cfg)
            if longer := _longer(old, cfg):
                write_text(config, _as_config(_with(old, longer)))
        if begun and not resume:
            raise ValueError(f"{path} already holds a run; choose another run=..., add resume=true, or delete it")
        for folder in (path, path / "checkpoints", path / "adapter"):
            sweep(folder)
        if not begun:
            if config.is_file():  # else it is no folder of ours
                shutil.rmtree(path / "frames", ignore_errors=True)
            write_text(config, _as_config(settings))
        provenance = versions(int(cfg.seed))
        if not begun or not (path / "versions.json").exists():
            write_text(path / "versions.json", to_json(provenance, indent=1))
        _end_line(self._sessions)
        self._sessions.write(f"{to_json(provenance)}\n".encode())
        if cfg.get("wandb"):
            self._wandb = WandbLogger(cfg.wandb, path, settings)
        self._metrics = (path / "metrics.jsonl").open("ab", buffering=0)
        return begun

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, earlier sessions included."""
        return self._before + time.monotonic() - self._started

    def log(self, step: int, values: dict[str, float]) -> None:
        """Append one line to ``metrics.jsonl`` and the same values, means over ranks, to TensorBoard.

        Values for the step of the last line are added to that line. A value that is undefined (NaN) is left out.
        """
        values = {key: float(value) for key, value in distributed.means(values).items()}
        values = {key: value for key, value in values.items() if abs(value) < float("inf")}
        if not distributed.is_first():
            return
        line = {"step": step, "seconds": round(self.seconds, 2), **{k: round(v, 6) for k, v in values.items()}}
        if step == self._last.get("step"):
            line = {**self._last, **line}
            end = self._metrics.seek(0, os.SEEK_END)
            self._metrics.truncate(end - len(_as_line(self._last)))
        self._metrics.write(_as_line(line))
        self._last = line
        if self._board is None:
            # What an earlier session logged after its checkpoint is hidden from there on.
            purge = self._step + 1 if self._restored is not None else None
            self._board = SummaryWriter(str(self.path / "tb"), purge_step=purge)
        for key, value in values.items():
            self._board.add_scalar(key, value, step)
        if self._wandb is not None:
            self._wandb.log(step, values)

    def result(self, values: dict[str, Any]) -> None:
        """Merge final numbers into ``result.json``."""
        if not distributed.is_first():
            return
        file = self.path / "result.json"
        write_text(file, to_json({**read_json_if_there(file), **values}, indent=1, sort_keys=True))

    def save(self, step: int, base_sha256: str, tensors: dict[str, Any]) -> None:
        """Write checkpoint `step` (nested dict of tensors and plain values) and drop the oldest ones.

        A checkpoint becomes visible only when it is complete. `base_sha256` says on which frozen base it stands.

        Raises:
            NotFinite: A tensor holds NaN or infinity; earlier checkpoints stay.
            OSError: It could not be written; earlier checkpoints stay.
        """
        if not distributed.is_first():
            return
        check_finite(tensors, f"after step {step} the state")
        if self._board is not None:
            self._board.flush()
        final = self.path / "checkpoints" / f"step_{step:010d}.pt"
        try:
            with replacing(final) as file:
                torch.save({**tensors, "base_sha256": base_sha256, "step": step, "seconds": self.seconds}, file)
        except RuntimeError as error:
            # The system's error, such as a full disk, is behind torch's own.
            cause = error.__context__ if isinstance(error.__context__, OSError) else None
            reason = str(cause.strerror) if cause else " ".join(str(error).split())
            message = f"could not write {final}: {reason}; earlier checkpoints are untouched"
            raise (OSError(cause.errno, message) if cause else OSError(message)) from error
        for old in list_checkpoints(self.path)[:-MAX_CHECKPOINTS]:
            old.unlink()

    @contextlib.contextmanager
    def stopping_well(self) -> Iterator[None]:
        """Within this context an error about numbers that are not finite also says what to go on from."""
        try:
            yield
        except StoredNotFinite:
            raise  # it names the checkpoint that it was found in
        except NotFinite as error:
            files = list_checkpoints(self.path)
            hint = f"the last good checkpoint is {files[-1]}" if files else "there is no checkpoint yet"
            raise NotFinite(f"{error}; training stopped before it was taken up, {hint}") from error

    def restore(self, base_sha256: str) -> dict[str, Any] | None:
        """The newest checkpoint of a resumed run, if there is one; metrics written after it are dropped."""
        if not self.resumed:
            return None
        return distributed.from_first(self._newest(base_sha256) if distributed.is_first() else None)

    def taking_over(self) -> contextlib.AbstractContextManager[None]:
        """Within this context something `Damaged` in the restored state names the checkpoint's file."""
        return reading(self._restored)

    def _newest(self, base_sha256: str) -> dict[str, Any] | None:
        files = list_checkpoints(self.path)
        state = load_checkpoint(files[-1], base_sha256) if files else None
        self._restored = files[-1] if files else None
        self._step = state["step"] if state else -1
        self._before = state["seconds"] if state else 0.0
        file = self.path / "metrics.jsonl"
        text = file.read_text(errors="replace") if file.is_file() else ""
        lines = _rising([line for line in text.splitlines() if _logged_step(line) <= self._step])
        self._metrics.close()
        self._last = json.loads(lines[-1]) if lines else {}
        write_atomically(file, b"".join(_as_line(json.loads(line)) for line in lines))
        self._metrics = file.open("ab", buffering=0)
        if state is None:
            shutil.rmtree(self.path / "tb", ignore_errors=True)
        return state

    def close(self) -> None:
        """Flush and close files, and let others open the run."""
        if not distributed.is_first():
            return
        self._metrics.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.close()
        self._sessions.close()


def _locked(file: Path, folder: Path) -> IO[bytes]:
    """A file open for appending, and locked until it is closed or this process ends.

    Raises:
        ValueError: Another process holds it.
    """
    opened = file.open("a+b", buffering=0)
    if not try_lock(opened):
        opened.close()
        raise ValueError(f"another process is at work in {folder}; wait until it ends, or choose another run=...")
    # Processes that are forked from this one would hold the lock after its death.
    reference = weakref.ref(opened)

    def let_go() -> None:
        if (held := reference()) is not None:
            held.close()

    os.register_at_fork(after_in_child=let_go)
    return opened


def _end_line(file: IO[bytes]) -> None:
    """End a last line that was cut off, so that what is appended stands on a line of its own."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _as_line(values: dict[str, Any]) -> bytes:
    return f"{to_json(values)}\n".encode()


def read_json_if_there(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file.

    Raises:
        ValueError: The file holds something else.
    """
    if not is_there(file):
        return {}
    try:
        return files.read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}; delete it") from error


def list_checkpoints(path: Path) -> list[Path]:
    """Complete checkpoints of a run folder, oldest first; a user's own copies under other names are none.

    Raises:
        ValueError: ``checkpoints`` is no folder.
    """
    folder = path / "checkpoints"
    if not folder.is_dir() and os.path.lexists(folder):
        raise ValueError(f"{folder} is no folder, where the checkpoints belong; restore it")
    files = {int(name[1]): file for file in visible(folder) if (name := CHECKPOINT.fullmatch(file.name))}
    return [files[step] for step in sorted(files)]


def load_checkpoint(file: Path, base_sha256: str | None) -> dict[str, Any]:
    """Read a checkpoint (tensors and plain values only), of any base with `base_sha256` None.

    Raises:
        ValueError: The file is damaged, holds numbers that are not finite, or was trained on another base than the one
            with `base_sha256`.
    """
    try:
        state: dict[str, Any] = read_torch(file)
    except ValueError as error:
        raise ValueError(f"{error}; it is no readable checkpoint: delete it to fall back to the one before") from error
    with reading(file):
        base = entry_of(state, "base_sha256", str)
        if entry_of(state, "step", int) < 0 or not entry_of(state, "seconds", (int, float)) >= 0:
            raise Damaged("step or seconds is negative")
    if base_sha256 is not None and base != base_sha256:
        raise ValueError(
            f"{file} was trained on the base {base[:12] or 'none'}, this one is {base_sha256[:12] or 'none'} (sha256); "
            "load the base it was trained on"
        )
    try:
        check_finite(state, "its content")
    except NotFinite as error:
        raise StoredNotFinite(f"{file}: {error}; delete it to fall back to the one before, or train again") from error
    return state


def load_config(path: Path, like: DictConfig | str | None = None) -> DictConfig:
    """Config of a finished or running run.

    Args:
        path: Its folder.
        like: Which command it must be of, ``train`` (an agent) or ``supervised``, or a config of it; None: any.

    Raises:
        FileNotFoundError: There is no run in that folder.
        ValueError: Its ``config.yaml`` is damaged, or it is another command's.
    """
    file = path / CONFIG
    if not is_there(file):
        raise FileNotFoundError(f"{path} holds no run (no config.yaml); give run=<folder of a training>")
    cfg = read_config(file)
    wanted = _command_of(like) if isinstance(like, DictConfig) else like
    if wanted not in (None, _command_of(cfg)):
        raise ValueError(f"{path} holds a run of {module_of(_command_of(cfg))}; give one of {module_of(wanted)}")
    return completed(cfg, path)


def _command_of(cfg: DictConfig) -> str:
    """The command whose settings these are."""
    return "train" if {"algo", "env"} & cfg.keys() else "supervised"


def read_config(file: Path) -> DictConfig:
    """The settings in a run folder's ``config.yaml`` as they stand there.

    Raises:
        ValueError: The file is damaged.
    """
    if reason := mistaken(file):
        raise ValueError(f"{file} is no readable YAML ({reason}); restore it")
    try:
        text = file.read_text(encoding="utf-8-sig")
        # References would let a few lines stand for any number of them; no run folder has any.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("it holds references, which start with *")
        cfg = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError, AssertionError) as error:
        reason = " ".join(str(error).split()) or "it is a single value"
        raise ValueError(f"{file} is no readable YAML ({reason[:LONGEST]}); restore it") from error
    if not isinstance(cfg, DictConfig) or not cfg or ":" not in text:
        raise ValueError(f"{file} holds no settings; restore it")
    if text.startswith(BEGIN) and not text.rstrip().endswith(END.strip()):
        raise ValueError(
            f"{file} is incomplete: what begins with {BEGIN.strip()} must end with {END.strip()}; restore it"
        )
    return cfg


def _as_config(cfg: DictConfig | dict[str, Any]) -> str:
    """Settings as YAML with marks at its begin and end, so that a file that was cut off between two keys is noticed."""
    return f"{BEGIN}{OmegaConf.to_yaml(cfg, resolve=True)}{END}"


def completed(cfg: DictConfig, path: Path) -> DictConfig:
    """The config of a run folder, with values of settings that the version that wrote it did not have."""
    cfg.run = str(path)
    fill_former(cfg)
    try:
        return check(cfg, command_settings(_command_of(cfg)))
    except ConfigError as error:
        raise ValueError(f"{path / CONFIG}: {error}") from error


def _without_run_keys(cfg: DictConfig) -> dict[str, Any]:
    """The config, as plain values, without the keys that may differ between the sessions of one run."""
    settings = OmegaConf.create({str(k): v for k, v in cfg.items() if k not in ("run", "resume")})
    return OmegaConf.to_container(settings, resolve=True)  # type: ignore[return-value]


def _check_not_lost(path: Path) -> None:
    """Refuse to train a finished run again, which would drop its learning curve, only because checkpoints are gone."""
    # Keys with a dot are of evaluated references, such as the policy before its training.
    ended = {key for key in read_json_if_there(path / "result.json") if "." not in key} - {STARTED_FROM}
    if ended and not list_checkpoints(path):
        raise ValueError(
            f"{path} holds a finished run, but none of its checkpoints; restore them, or choose another run=..."
        )


def _has_begun(path: Path) -> bool:
    """Whether a folder holds a run; a start that failed before its first line of metrics leaves nothing to keep."""
    return bool(list_checkpoints(path)) or any(f.stat().st_size for f in path.glob("metrics.jsonl"))


def resumed(cfg: DictConfig) -> DictConfig:
    """The config to train with: with ``resume=true`` that of the run folder, whatever defaults are now.

    Raises:
        ValueError: An override of the command line differs from that config.
    """
    overrides = job_overrides()
    if not cfg.resume or overrides is None:
        return cfg
    text = distributed.from_first(_stored(cfg, overrides) if distributed.is_first() else "")
    return DictConfig(OmegaConf.create(text)) if text else cfg


def _stored(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """The config of a run that has begun, as YAML; empty if there is none."""
    path = Path(cfg.run)
    if not is_there(path / CONFIG) or not _has_begun(path):
        return ""
    old = load_config(path, cfg)
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    if "experiment" in keys:
        _check_same(path, old, cfg)
    for key in keys:
        choice = isinstance(OmegaConf.select(cfg, key), DictConfig) and "name" in OmegaConf.select(cfg, key)
        wanted = f"{key}.name" if choice else key
        before, now = OmegaConf.select(old, wanted), OmegaConf.select(cfg, wanted)
        if key not in ("run", "resume", *_longer(old, cfg)) and before != now:
            raise ValueError(_other(path, wanted, before, now))
    longer = {key: length for key, length in _longer(old, cfg).items() if key in keys}
    old.run, old.resume = cfg.run, True
    return OmegaConf.to_yaml(_with(old, longer), resolve=True)


def _longer(old: DictConfig, new: DictConfig) -> dict[str, int]:
    """Which `LENGTHS` are larger in the new config, and how large."""
    pairs = {key: (OmegaConf.select(old, key), OmegaConf.select(new, key)) for key in LENGTHS}
    return {key: now for key, (before, now) in pairs.items() if before is not None and now is not None and now > before}


def _with(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """The config with some values changed."""
    for key, value in values.items():
        OmegaConf.update(cfg, key, value)
    return cfg


def _other(path: Path, key: str, before: Any, now: Any, more: str = "") -> str:
    return (
        f"{path} was started with {key}={before}, now it is {now}{more}; "
        "resume with the same settings or start a new run"
    )


def _check_same(path: Path, old: DictConfig, new: DictConfig) -> None:
    """Refuse to resume under another configuration, naming the keys that differ."""
    before, now = flat(_without_run_keys(old)), flat(_without_run_keys(new))
    keys = (before.keys() | now.keys()) - _longer(old, new).keys()
    differs = sorted(k for k in keys if before.get(k) != now.get(k))
    if differs:
        first = differs[0]
        more = f" ({len(differs)} keys differ)" if len(differs) > 1 else ""
        raise ValueError(_other(path, first, before.get(first), now.get(first), more))


def _rising(lines: Sequence[str]) -> list[str]:
    """Lines of metrics by rising step; of several of one step, which older versions wrote, the last counts."""
    by_step = {_logged_step(line): line for line in lines}
    return [by_step[step] for step in sorted(by_step)]


def _logged_step(line: str) -> float:
    """Step of a metrics line; a line cut off by a kill counts as infinitely late."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
