"""``python -m tests.tools.kill kills=200 seed=0``: kill -9 at random moments, then the documented command again.

Each trial starts one of `tests.tools.kill_commands.COMMANDS` in a session of its own, kills it at a moment that the
seed and the trial's number choose within the time that it takes undisturbed (in every second round of commands all its
processes, else the first alone), and lets it go on until it ends. A trial fails where

- a process of the killed command is still there `GONE` seconds later, or one of the resumed command after its end;
- the resumed command does not end well, or what it leaves is not what an undisturbed run leaves (`Command.counts`);
- shared memory that no process maps, a file in the temporary folder, or a hidden file beside the results is left.

This process has imported what the commands need and forks for each of them, so that kills fall into their work;
processes that commands start begin as always. ``only="train ppo"`` takes one command, ``first=120`` later trials.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.processes import end_with_parent
from tests.tools.kill_commands import COMMANDS, Command, inputs_of, make_pictures

ROOT = Path(__file__).resolve().parents[2]
# Seconds until the processes of a killed command must be gone, and until a command must have ended.
GONE, LIMIT = 30.0, 600.0
SHARED_MEMORY = Path("/dev/shm")
PRELOADED = (
    "adapt.distill",
    "adapt.pretrain",
    "adapt.train",
    "agents.collect",
    "agents.evaluate",
    "agents.learners.bc",
    "agents.learners.dagger",
    "agents.learners.ppo",
    "agents.train",
    "envs.render",
    "matplotlib.figure",
    "torch.utils.tensorboard",
)


@dataclass(frozen=True)
class Trial:
    """What became of one kill: its faults in words, none if all is well."""

    number: int
    command: str
    everyone: bool
    after: float
    of: float
    faults: tuple[str, ...]


# -- processes ---------------------------------------------------------------------------------------------------------


class Started:
    """A command in a process of its own session, forked from this one, with a temporary folder of its own."""

    def __init__(self, module: str, words: list[str], folder: Path) -> None:
        self.temporary, self.log = folder / "temporary", folder / "log"
        self.temporary.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        self.process = os.fork()
        if self.process == 0:
            end_with_parent(parent)
            _become(module, words, self.temporary, self.log)
        self.code: int | None = None
        # A kill of its group needs the group, which the process itself makes.
        _until(lambda: self.ended() or os.getsid(self.process) == self.process, GONE)

    def ended(self) -> bool:
        """Whether the first process has ended; then `code` is its exit code."""
        if self.code is None:
            done, status = os.waitpid(self.process, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if done else None
        return self.code is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the first process; whether it ended."""
        return _until(self.ended, seconds)

    def kill(self, everyone: bool) -> None:
        """End the first process, or all of its group, by SIGKILL."""
        (os.killpg if everyone else os.kill)(self.process, signal.SIGKILL)
        self.wait(GONE)

    def left(self) -> list[int]:
        """Its processes that are still there: of its session, or with its temporary folder."""
        return [process for process in _processes() if self._mine(process)]

    def _mine(self, process: int) -> bool:
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                return False
            environment = Path(f"/proc/{process}/environ").read_bytes()
            return int(fields[3]) == self.process or f"TMPDIR={self.temporary}\0".encode() in environment
        return False

    def end_all(self) -> None:
        """Leave nothing of it behind."""
        for process in self.left():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        self.wait(GONE)


def _become(module: str, words: list[str], temporary: Path, log: Path) -> None:
    """Turn a forked process into ``python -m module words``; never returns."""
    code = 70
    try:
        os.setsid()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
            os.dup2(stream, number)
        sys.modules.pop(module, None)
        sys.argv = [str(ROOT / module.replace(".", "/")) + ".py", *words]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        import multiprocessing.util

        multiprocessing.util._exit_function()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _until(ready: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# -- what is left ------------------------------------------------------------------------------------------------------


def _shared_memory() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()


def _unmapped(names: set[str]) -> set[str]:
    """Those entries of shared memory that no process maps or has open."""
    names = names & _shared_memory()
    if not names:
        return names
    used = ""
    for process in _processes():
        with contextlib.suppress(OSError):
            used += Path(f"/proc/{process}/maps").read_text()
            used += " ".join(map(os.readlink, Path(f"/proc/{process}/fd").iterdir()))
    return {name for name in names if f"{SHARED_MEMORY}/{name}" not in used}


def _files(started: Started, folder: Path) -> Iterator[str]:
    """Temporary files, and hidden ones beside the results."""
    # PyTorch itself makes a folder for its compiler, which it keeps.
    temporary = [path for path in started.temporary.rglob("*") if "torchinductor_" not in str(path)]
    for path in [*temporary, *(folder / "trial").rglob(".*")]:
        yield f"left {path.relative_to(folder)}"


# -- trials ------------------------------------------------------------------------------------------------------------


class Harness:
    """Inputs of all commands, and what each leaves and takes undisturbed."""

    def __init__(self, folder: Path, commands: tuple[Command, ...], say: Callable[[str], None]) -> None:
        self.folder, self.commands, self.say = folder, commands, say
        self.inputs = folder / "inputs"
        self.inputs.mkdir(parents=True)
        make_pictures(self.inputs)
        for module, words in inputs_of(self.inputs):
            self._run(Started(module, words, folder))
        self.undisturbed: dict[str, tuple[float, Any]] = {}

    def _run(self, started: Started) -> None:
        if not started.wait(LIMIT) or started.code != 0:
            started.end_all()
            raise RuntimeError(f"an undisturbed command ended with {started.code}:\n{started.log.read_text()[-2000:]}")

    def reference(self, command: Command) -> tuple[float, Any]:
        """Seconds and counts of an undisturbed run."""
        if command.name not in self.undisturbed:
            self._fresh(command)
            began = time.monotonic()
            self._run(self._start(command))
            seconds = time.monotonic() - began
            counts = command.counts(self.folder / "trial")
            self.say(f"{command.name}: {seconds:.1f} s undisturbed")
            self.undisturbed[command.name] = seconds, counts
        return self.undisturbed[command.name]

    def _fresh(self, command: Command) -> None:
        shutil.rmtree(self.folder / "trial", ignore_errors=True)
        (self.folder / "trial").mkdir()
        if command.copies:
            shutil.copytree(self.inputs / command.copies, self.folder / "trial" / command.copies)

    def _start(self, command: Command) -> Started:
        return Started(command.module, command.start(self.folder / "trial", self.inputs), self.folder)

    def trial(self, number: int, seed: int) -> Trial:
        """One kill, and going on after it."""
        turns = [command for round in range(9) for command in self.commands if command.share > round]
        command = turns[number % len(turns)]
        seconds, counts = self.reference(command)
        rng = np.random.default_rng([seed, number])
        everyone = bool(number // len(turns) % 2)
        memory = _shared_memory()
        while True:
            self._fresh(command)
            moment = float(rng.uniform(0.0, seconds))
            started = self._start(command)
            time.sleep(moment)
            if not started.ended():
                break
        started.kill(everyone)
        faults = list(self._faults_of_a_kill(started))
        started.end_all()
        if not (faults or self._done(command)):
            faults += self._faults_of_going_on(command, counts)
        faults += self._left(memory, started)
        return Trial(number, command.name, everyone, moment, seconds, tuple(faults))

    def _done(self, command: Command) -> bool:
        """Whether recorded frames are there, which would be refused: they come last, in one step."""
        return command.module == "agents.collect" and (self.folder / "trial" / "frames").is_dir()

    def _faults_of_a_kill(self, started: Started) -> Iterator[str]:
        if not _until(lambda: not started.left(), GONE):
            for process in started.left():
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                    yield f"process left after the kill: {words[:200]}"

    def _faults_of_going_on(self, command: Command, counts: Any) -> Iterator[str]:
        started = self._start(command)
        if not started.wait(LIMIT):
            yield f"does not end: {started.log.read_text()[-500:]}"
        elif started.code != 0:
            yield f"ended with {started.code}: {started.log.read_text()[-1500:]}"
        else:
            found = command.counts(self.folder / "trial")
            if repr(found) != repr(counts):
                yield f"other counts: {_differing(found, counts)}"
        if not _until(lambda: not started.left(), GONE):
            yield "process left after the end"
        started.end_all()

    def _left(self, memory: set[str], started: Started) -> Iterator[str]:
        new = _shared_memory() - memory
        if new and not _until(lambda: not _unmapped(new), GONE):
            yield f"shared memory left: {sorted(_unmapped(new))}"
        yield from _files(started, self.folder)
        shutil.rmtree(started.temporary, ignore_errors=True)


def _differing(found: Any, wanted: Any) -> str:
    """Where two counts differ, shortly."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in {*found, *wanted} if found.get(key) != wanted.get(key)]
        return f"{len(keys)} of {len(wanted)} differ: {sorted(map(str, keys))[:5]}"
    if isinstance(found, tuple) and isinstance(wanted, tuple):
        return "; ".join(_differing(a, b) for a, b in zip(found, wanted, strict=True) if repr(a) != repr(b))
    return f"{found!r:.300} instead of {wanted!r:.300}"


def preload() -> None:
    """Import what commands need, so that a forked one begins to work at once."""
    for module in PRELOADED:
        importlib.import_module(module)


def kill(
    kills: int,
    seed: int = 0,
    first: int = 0,
    commands: tuple[Command, ...] = tuple(COMMANDS),
    say: Callable[[str], None] = lambda text: None,
) -> list[Trial]:
    """Kill commands `kills` times, and give what became of each.

    Raises:
        RuntimeError: A command does not end well undisturbed.
    """
    preload()
    found = []
    with tempfile.TemporaryDirectory(prefix="kill_") as folder:
        harness = Harness(Path(folder), commands, say)
        for number in range(first, first + kills):
            trial = harness.trial(number, seed)
            whom = "all" if trial.everyone else "one"
            verdict = "; ".join(trial.faults) or "ok"
            say(f"{number} {trial.command}, {whom} killed after {trial.after:.2f} of {trial.of:.2f} s: {verdict}")
            found.append(trial)
    return found


def table(found: list[Trial]) -> str:
    """Kills, those of all processes, and completed ones by command, as text."""
    rows = [("command", "kills", "of all", "complete")]
    names = [*dict.fromkeys(trial.command for trial in found), "all"]
    for name in names:
        mine = [trial for trial in found if name in (trial.command, "all")]
        everyone = Counter(trial.everyone for trial in mine)[True]
        rows.append((name, str(len(mine)), str(everyone), str(sum(not trial.faults for trial in mine))))
    return "\n".join(f"{a:18}{b:>8}{c:>8}{d:>10}" for a, b, c, d in rows)


def main(words: list[str]) -> int:
    """The command; exit code 1 where there is a fault."""
    given = dict(word.split("=", 1) for word in words)
    chosen = tuple(command for command in COMMANDS if given.get("only", command.name) == command.name)
    began = time.monotonic()
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731, T201
    found = kill(int(given.get("kills", 200)), int(given.get("seed", 0)), int(given.get("first", 0)), chosen, say)
    sys.stdout.write(f"{table(found)}\n{time.monotonic() - began:.0f} s\n")
    return 1 if any(trial.faults for trial in found) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
